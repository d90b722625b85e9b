"""Evaluation of a Detector: against the Object Detection API's own loop, in batches, and what eval_config asks for."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from od_eval import DetectionEvaluation, Detector, Pipeline
from od_eval.tensorboard import metrics

CONFIGS = Path(__file__).parents[2] / "pipeline_configs"


def evaluate(detector, dataset, folder, **kwargs):
    """The result of an evaluation, as a callback makes it."""
    evaluation = DetectionEvaluation(dataset, folder, on_error="raise", **kwargs)
    evaluation.set_model(detector)
    return evaluation.evaluate(step=detector.steps_done)


def learn_something(detector, pipeline, steps):
    """Detections of a model without any training would be too alike to compare."""
    detector.compile()
    detector.fit(pipeline.train_dataset(), steps_per_epoch=steps, verbose=0)
    return detector


@pytest.fixture(scope="module")
def pipeline(ssd_config, config_overrides):
    return Pipeline.load(ssd_config, config_overrides)


@pytest.fixture(scope="module")
def detector(pipeline):
    return learn_something(Detector(pipeline), pipeline, steps=24)


def scalars_of_the_object_detection_api(detector, pipeline):
    """What its own loop computes with the same weights."""
    from object_detection import inputs, model_lib_v2
    from object_detection.utils import config_util

    config = type(pipeline.config)()
    config.CopyFrom(pipeline.config)
    config.eval_config.num_visualizations = 0
    reader = config.eval_input_reader[0]
    reader.num_epochs = 1
    configs = {
        "train_config": config.train_config,
        "eval_config": config.eval_config,
        "eval_input_config": reader,
    }
    assert config_util.get_number_of_classes(config.model) == pipeline.num_classes
    build = tf.autograph.experimental.do_not_convert(inputs.eval_input)  # it takes half the time
    dataset = build(config.eval_config, reader, config.model, model=detector.model)
    found = model_lib_v2.eager_eval_loop(detector.model, configs, dataset, global_step=detector.step)
    tf.keras.backend.set_learning_phase(0)
    return {tag: float(value) for tag, value in found.items()}


def assert_equal_to_the_object_detection_api(detector, pipeline, folder):
    result = evaluate(detector, pipeline.eval_dataset(), folder)
    ours = metrics.scalars(result, "AP")
    theirs = scalars_of_the_object_detection_api(detector, pipeline)
    losses = {tag for tag in theirs if tag.startswith("Loss/")}
    assert "Loss/total_loss" in losses
    for tag in losses:
        assert ours[tag] == pytest.approx(theirs[tag], rel=1e-5), tag
    coco = {tag: value for tag, value in theirs.items() if tag not in losses}
    assert len(coco) >= 12
    for tag, value in coco.items():
        if value == -1 or np.isnan(value):
            assert tag not in ours
        else:
            assert ours[tag] == pytest.approx(value, abs=1e-9), tag
    return coco


def test_losses_and_metrics_of_an_ssd_equal_those_of_the_object_detection_apis_own_loop(detector, pipeline, tmp_path):
    coco = assert_equal_to_the_object_detection_api(detector, pipeline, tmp_path)
    assert coco["DetectionBoxes_Recall/AR@100"] > 0  # it found something, so this compares more than zeros


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "overrides"),
    [
        # Large minibatches, because which anchors a smaller one takes is random.
        ("faster_rcnn_resnet50_128x128", 30, ["model.faster_rcnn.first_stage_minibatch_size=100000"]),
        ("mask_rcnn_resnet50_128x128", 30, ["model.faster_rcnn.first_stage_minibatch_size=100000"]),
        ("centernet_resnet18_fpn_128x128", 30, []),
    ],
)
def test_losses_and_metrics_equal_those_of_the_object_detection_apis_own_loop(
    name, steps, overrides, config_overrides, tmp_path
):
    pipeline = Pipeline.load(CONFIGS / f"{name}.config", [*config_overrides, *overrides])
    detector = learn_something(Detector(pipeline), pipeline, steps)
    coco = assert_equal_to_the_object_detection_api(detector, pipeline, tmp_path)
    assert coco["DetectionBoxes_Recall/AR@100"] > 0
    assert any(tag.startswith("DetectionMasks_") for tag in coco) == name.startswith("mask")


def outputs(detector, dataset):
    """Image id -> (boxes, scores, classes) of its detections."""
    found = {}
    for batch in detector.evaluate_batches(dataset):
        for index, image_id in enumerate(batch.image_ids):
            num = batch.detections.num[index]
            found[image_id] = [
                np.asarray(values[index][:num])
                for values in (batch.detections.boxes, batch.detections.scores, batch.detections.classes)
            ]
    return found


@pytest.mark.parametrize("batch_size", [3, 4])
def test_the_size_of_batches_changes_nothing_and_loses_no_image(detector, pipeline, batch_size):
    singly = outputs(detector, pipeline.eval_dataset())
    eval_config = pipeline.config.eval_config
    eval_config.batch_size = batch_size
    try:
        batched = outputs(detector, pipeline.eval_dataset())
    finally:
        eval_config.batch_size = 1
    assert len(singly) == 4
    assert batched.keys() == singly.keys()
    for image_id, (boxes, scores, classes) in singly.items():
        np.testing.assert_allclose(batched[image_id][1], scores, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(batched[image_id][0], boxes, rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(batched[image_id][2], classes)
