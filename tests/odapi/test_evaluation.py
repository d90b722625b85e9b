"""Evaluation of a Detector: against the Object Detection API's own loop, in batches, and as eval_config asks for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from od_eval import DetectionEvaluation, Detector, Pipeline
from od_eval.evaluation.batch import num_rows
from od_eval.odapi.eval_batches import evaluation_batch

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
    tf.keras.utils.set_random_seed(1)  # with some others it finds nothing in so few steps
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
    ours = result.scalars("AP")
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
            # The model runs twice: rounding may change the order of detections with nearly equal scores.
            assert ours[tag] == pytest.approx(value, abs=1e-5), tag
    return coco


def test_losses_and_metrics_of_an_ssd_equal_those_of_the_object_detection_apis_own_loop(detector, pipeline, tmp_path):
    coco = assert_equal_to_the_object_detection_api(detector, pipeline, tmp_path)
    assert coco["DetectionBoxes_Recall/AR@100"] > 0  # it found something, so this compares more than zeros


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        # Large minibatches, because which anchors a smaller one takes is random.
        ("faster_rcnn_resnet50_128x128", ["model.faster_rcnn.first_stage_minibatch_size=100000"]),
        ("mask_rcnn_resnet50_128x128", ["model.faster_rcnn.first_stage_minibatch_size=100000"]),
        ("centernet_resnet18_fpn_128x128", []),
    ],
)
def test_losses_and_metrics_equal_those_of_the_object_detection_apis_own_loop(
    name, overrides, config_overrides, tmp_path, rounding_as_written
):
    pipeline = Pipeline.load(CONFIGS / f"{name}.config", [*config_overrides, *overrides])
    # Without training it finds none of the shapes; so some of what it does find is made the groundtruth. One image,
    # because many of its scores are the same, and COCO ranks these by the ids of images, which are others in that loop.
    for seed in range(10):  # with some initial weights it finds next to nothing
        tf.keras.utils.set_random_seed(seed)
        detector = Detector(pipeline)
        batch = next(detector.evaluate_batches(pipeline.eval_dataset()))
        if np.asarray(batch.detections.num)[0] >= 10:
            break
    (height, width), boxes = batch.image_sizes[0], batch.detections.boxes[0][: int(batch.detections.num[0])]
    sides = boxes[:, 2:] - boxes[:, :2]
    rows = np.argsort(-sides.min(axis=1), kind="stable")[:6:2]
    shifted = boxes[rows] + 0.2 * sides[rows, 1:] * [0, 1, 0, 1]
    classes = np.asarray(batch.detections.classes[0])[rows]
    groundtruth = np.clip(shifted / [height, width, height, width], 0, 1)
    write_examples(
        pipeline, tmp_path, [example(batch.image_ids[0], groundtruth, classes=classes, image=batch.images[0])]
    )
    coco = assert_equal_to_the_object_detection_api(detector, pipeline, tmp_path)
    assert coco["DetectionBoxes_Recall/AR@100"] > 0.1
    assert any(tag.startswith("DetectionMasks_") for tag in coco) == name.startswith("mask")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_further_metrics_are_those_of_the_object_detection_apis_evaluators_without_padding(
    detector, pipeline, tmp_path, batch_size
):
    # Its loop pads groundtruth to 100 boxes, which these evaluators take for objects (tensorflow/models issue 9471).
    from object_detection.utils import object_detection_evaluation as evaluators

    sets = {
        "pascal_voc_detection_metrics": evaluators.PascalDetectionEvaluator,
        "weighted_pascal_voc_detection_metrics": evaluators.WeightedPascalDetectionEvaluator,
        "precision_at_recall_detection_metrics": evaluators.PrecisionAtRecallDetectionEvaluator,
        "oid_V2_detection_metrics": evaluators.OpenImagesDetectionEvaluator,
    }
    eval_config = pipeline.config.eval_config
    before = type(eval_config).FromString(eval_config.SerializeToString())
    eval_config.metrics_set[:] = list(sets)
    eval_config.batch_size = batch_size
    try:
        result = evaluate(detector, pipeline.eval_dataset(), tmp_path)
        # In batches of the same size: others round differently, and of close scores another is the higher one.
        batches = list(detector.evaluate_batches(pipeline.eval_dataset()))
        categories = [{"id": id, "name": name} for id, name in detector.evaluation_options.categories.items()]
    finally:
        eval_config.CopyFrom(before)
    expected = {}
    for make in sets.values():
        evaluator = make(categories)
        for batch in batches:
            detections, groundtruth = batch.detections, batch.groundtruth
            for index, image_id in enumerate(batch.image_ids):
                rows = slice(num_rows(groundtruth)[index])
                truth = {
                    "groundtruth_boxes": groundtruth.boxes[index][rows],
                    "groundtruth_classes": groundtruth.classes[index][rows],
                    "groundtruth_difficult": groundtruth.difficult[index][rows].astype(bool),
                }
                found = {
                    "detection_boxes": detections.boxes[index],
                    "detection_scores": detections.scores[index],
                    "detection_classes": detections.classes[index],
                }
                evaluator.add_single_ground_truth_image_info(str(image_id), truth)
                evaluator.add_single_detected_image_info(str(image_id), found)
        expected.update(evaluator.evaluate())
    defined = {tag: value for tag, value in expected.items() if np.isfinite(value)}
    assert {"PascalBoxes_Precision/mAP@0.5IOU", "OpenImagesV2_Precision/mAP@0.5IOU"} <= defined.keys()
    assert any(0 < value < 1 for value in defined.values())
    for tag, value in defined.items():
        assert result.other[tag] == pytest.approx(value, rel=1e-3, abs=1e-6), tag


def outputs(detector, dataset):
    """Image id -> `[n, 6]`: box, score and class of each detection."""
    found = {}
    for batch in detector.evaluate_batches(dataset):
        detections = batch.detections
        for index, image_id in enumerate(batch.image_ids):
            columns = [detections.boxes[index], detections.scores[index], detections.classes[index]]
            found[image_id] = np.column_stack([np.asarray(column)[: detections.num[index]] for column in columns])
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
    for image_id, detections in singly.items():
        assert len(batched[image_id]) == len(detections) > 10
        # In any order: where two scores are equal but for rounding, it may be another one.
        differences = np.abs(detections[:, np.newaxis] - batched[image_id]) / [1e-2, 1e-2, 1e-2, 1e-2, 1e-5, 0.1]
        assert (differences.max(axis=2).min(axis=1) < 1).all()
        assert (differences.max(axis=2).min(axis=0) < 1).all()


@pytest.mark.parametrize("resizer", ["keep_aspect_ratio_resizer", "identity_resizer"])
def test_images_of_different_sizes_are_batched_with_their_like(ssd_config, config_overrides, tmp_path, resizer):
    sides = " {min_dimension: 96 max_dimension: 160}" if resizer == "keep_aspect_ratio_resizer" else " {}"
    pipeline = Pipeline.load(ssd_config, [*config_overrides, f"model.ssd.image_resizer={{{resizer}{sides}}}"])
    detector = Detector(pipeline)
    rng = np.random.default_rng(0)
    sizes = [(96, 128), (128, 96), (96, 128), (96, 128), (128, 96)]
    images = [rng.integers(0, 255, (*size, 3), np.uint8) for size in sizes]
    examples = [
        example(str(number), [(0.1, 0.1, 0.5, 0.5)] * number, image=image) for number, image in enumerate(images)
    ]
    write_examples(pipeline, tmp_path, examples)
    found = {}
    for batch_size in (1, 2):
        pipeline.config.eval_config.batch_size = batch_size
        for batch in detector.evaluate_batches(pipeline.eval_dataset()):
            for index, image_id in enumerate(batch.image_ids):
                assert tuple(batch.image_sizes[index]) == batch.images[index].shape[:2] == sizes[int(image_id)]
                assert batch.groundtruth.num[index] == int(image_id)
                found[batch_size, image_id] = (len(batch.image_ids), np.sort(batch.detections.scores[index]))
    assert len(found) == 10
    assert sorted(found[2, str(number)][0] for number in range(5)) == [1, 2, 2, 2, 2]
    for number in map(str, range(5)):
        np.testing.assert_allclose(found[2, number][1], found[1, number][1], rtol=1e-4, atol=1e-6)


# ---- What is in the data --------------------------------------------------------------------------------------------


def example(source_id, boxes, size=(64, 96), classes=None, image=None):
    """A serialized example: a grey image, or the one given, with boxes (ymin, xmin, ymax, xmax, relative) and masks."""
    image = np.full((*size, 3), 127, np.uint8) if image is None else image
    height, width = image.shape[:2]
    masks = np.zeros((len(boxes), height, width, 1), np.uint8)
    for mask, (ymin, xmin, ymax, xmax) in zip(masks, boxes, strict=True):
        mask[round(ymin * height) : round(ymax * height), round(xmin * width) : round(xmax * width)] = 1

    def floats(values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    def ints(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def blobs(*values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    sides = zip(*boxes, strict=True) if len(boxes) else [()] * 4
    features = {
        "image/encoded": blobs(tf.io.encode_png(image).numpy()),
        "image/format": blobs(b"png"),
        "image/source_id": blobs(source_id.encode()),
        "image/height": ints([height]),
        "image/width": ints([width]),
        "image/object/class/label": ints([1] * len(boxes) if classes is None else classes),
        "image/object/mask": blobs(*(tf.io.encode_png(mask).numpy() for mask in masks)),
    }
    for side, values in zip(("ymin", "xmin", "ymax", "xmax"), sides, strict=True):
        features[f"image/object/bbox/{side}"] = floats(values)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_examples(pipeline, folder, examples):
    """Makes a pipeline read these for evaluation."""
    path = str(folder / "examples.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for serialized in examples:
            writer.write(serialized)
    pipeline.config.eval_input_reader[0].tf_record_input_reader.input_path[:] = [path]


def dataset_of(pipeline, folder, examples):
    other = Pipeline(type(pipeline.config).FromString(pipeline.config.SerializeToString()))
    write_examples(other, folder, examples)
    return other.eval_dataset()


def test_no_object_and_no_image_is_left_out(detector, pipeline, tmp_path, capsys):
    many = [(0.1, 0.1, 0.2 + number / 1000, 0.3) for number in range(120)]  # more than max_number_of_boxes
    examples = [
        example("crowded", many),
        example("empty", []),
        example("twice", many[:1]),
        example("twice", many[:2], size=(128, 32)),
    ]
    batches = list(detector.evaluate_batches(dataset_of(pipeline, tmp_path, examples)))
    assert [batch.image_ids for batch in batches] == [["crowded"], ["empty"], ["twice"], ["twice (2)"]]
    assert [int(batch.groundtruth.num[0]) for batch in batches] == [120, 0, 1, 2]
    np.testing.assert_array_equal([batch.image_sizes[0] for batch in batches], [[64, 96]] * 3 + [[128, 32]])
    # in pixels of the image as it is in the file
    np.testing.assert_allclose(batches[3].groundtruth.boxes[0][0], [12.8, 3.2, 25.6, 9.6], rtol=1e-5)
    warning = "warning: 1 evaluation images share their image/source_id with another one, like 'twice'"
    assert warning in capsys.readouterr().err

    result = evaluate(detector, dataset_of(pipeline, tmp_path, examples), tmp_path / "run")
    assert result.num_images == 4
    assert sum(category["num_groundtruth"] for category in result.per_category.values()) == 123


def test_an_evaluation_is_traced_once_whatever_comes_later(detector, pipeline, tmp_path):
    traced = dict(detector._graphs)
    list(detector.evaluate_batches(pipeline.eval_dataset()))
    list(detector.evaluate_batches(dataset_of(pipeline, tmp_path, [example("a", []), example("b", [(0, 0, 1, 1)])])))
    assert detector._graphs.keys() >= traced.keys()
    assert len(detector._graphs) - len(traced) <= (0 if traced else 1)


# ---- As eval_config asks for ----------------------------------------------------------------------------------------


def test_without_losses_or_without_groundtruth_the_rest_is_evaluated(ssd_config, config_overrides, tmp_path):
    pipeline = Pipeline.load(
        ssd_config, [*config_overrides, "eval_config.ignore_groundtruth=true", f"eval_config.export_path={tmp_path}"]
    )
    pipeline.config.eval_config.visualization_export_dir = str(tmp_path / "pictures")
    result = evaluate(Detector(pipeline), pipeline.eval_dataset(), tmp_path / "run")
    assert (result.num_images, result.bbox, dict(result.losses)) == (4, None, {})
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 4


def test_averaged_weights_are_evaluated_and_the_raw_ones_come_back_to_the_bit(ssd_config, config_overrides):
    pipeline = Pipeline.load(
        ssd_config,
        [
            *config_overrides,
            "train_config.optimizer.use_moving_average=true",
            "eval_config.use_moving_averages=true",
        ],
    )
    detector = Detector(pipeline)
    detector.compile()
    weights, averages = detector.optimizer._model_weights, detector.optimizer._average_weights
    for number, (weight, average) in enumerate(zip(weights, averages, strict=True)):
        weight.assign(tf.random.stateless_normal(weight.shape, [1, number]) * 1e-3)
        average.assign(tf.random.stateless_normal(weight.shape, [2, number]) * 1e3)
    raw, averaged = ([variable.numpy() for variable in variables] for variables in (weights, averages))

    def fail():
        with detector.evaluation_weights():
            for weight, value in zip(weights, averaged, strict=True):
                np.testing.assert_array_equal(weight.numpy(), value)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    for variables, before in ((weights, raw), (averages, averaged)):
        for variable, value in zip(variables, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


def test_detections_of_classes_that_an_image_was_not_annotated_for_are_left_out_where_that_is_asked_for(
    detector, pipeline
):
    (batch, *_) = detector.evaluate_batches(pipeline.eval_dataset())
    classes = batch.detections.classes[0][: batch.detections.num[0]]
    assert len(set(classes)) > 1
    kept = int(classes[0])
    labeled = np.zeros((1, 5), np.float32)
    labeled[0, kept] = 1
    features = next(iter(pipeline.eval_dataset()))[0]
    eval_config = type(pipeline.config.eval_config)(skip_predictions_for_unlabeled_class=True)
    options = detector.evaluation_options
    for outputs_of, expected in (
        (batch.outputs, list(classes)),  # without image-level labels all are kept, as the Object Detection API does
        (
            {**batch.outputs, "groundtruth_labeled_classes": tf.constant(labeled)},
            [one for one in classes if one == kept],
        ),
    ):
        found = evaluation_batch(features, outputs_of, {}, eval_config, options).detections
        num = len(found.classes[0]) if found.num is None else found.num[0]
        assert list(found.classes[0][:num]) == expected


def test_masks_are_handed_over_where_there_are_some_even_if_eval_config_asks_for_none(detector, pipeline, monkeypatch):
    (batch, *_) = detector.evaluate_batches(pipeline.eval_dataset())
    assert (batch.detections.masks, batch.groundtruth.masks) == (None, None)
    height, width = batch.image_sizes[0]
    num_detections, num_boxes = (batch.outputs[name].shape[1] for name in ("detection_boxes", "groundtruth_boxes"))
    with_masks = {
        **batch.outputs,
        "detection_masks": tf.ones([1, num_detections, height, width], tf.uint8),
        "groundtruth_instance_masks": tf.ones([1, num_boxes, height, width], tf.uint8),
    }
    monkeypatch.setattr(detector, "_traced_for_batch", lambda *_: ({}, with_masks))
    assert not detector.evaluation_options.masks
    (batch, *_) = detector.evaluate_batches(pipeline.eval_dataset())
    assert batch.detections.masks[0].shape == (num_detections, height, width)
    assert batch.groundtruth.masks[0].shape == (num_boxes, height, width)


def test_fewer_categories_than_the_label_map_has_are_evaluated_alone(detector, pipeline, tmp_path):
    whole = evaluate(detector, pipeline.eval_dataset(), tmp_path / "whole")
    names = list(whole.per_category)
    objects = {name: metrics["num_groundtruth"] for name, metrics in whole.per_category.items()}
    chosen = max(objects, key=objects.get)
    options = dataclasses.replace(
        detector.evaluation_options, categories={names.index(chosen) + 1: chosen}, num_pictures=1
    )
    left_out = sum(objects.values()) - objects[chosen]
    assert left_out > 0
    with pytest.warns(UserWarning, match=f"eval: {left_out} ground truth objects of categories that are not in"):
        result = evaluate(detector, pipeline.eval_dataset(), tmp_path / "one", options=options)
    assert dict(result.per_category) == {chosen: pytest.approx(whole.per_category[chosen])}
    assert result.bbox["AP"] == pytest.approx(whole.per_category[chosen]["AP"])
    assert result.losses == pytest.approx(whole.losses), "those of the whole model"


def test_a_label_map_is_read_once_in_the_life_of_a_detector(ssd_config, config_overrides, tmp_path, monkeypatch):
    from od_eval import label_map

    pipeline = Pipeline.load(ssd_config, config_overrides)
    dataset = pipeline.eval_dataset()
    detector = Detector(pipeline)
    read: list[str] = []
    read_text = label_map.read_text
    monkeypatch.setattr(label_map, "read_text", lambda path, what: read.append(path) or read_text(path, what))
    for _ in range(2):
        evaluate(detector, dataset, tmp_path)
    assert read == [pipeline.config.eval_input_reader[0].label_map_path]
