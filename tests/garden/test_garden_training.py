"""Trainings of Model Garden's experiments: curves, metrics, files, best checkpoint, resuming, stopping."""

import contextlib
import copy
import io
import json
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.modeling import optimization
from official.vision.evaluation import coco_evaluator
from small_experiments import MASK_RCNN, RETINANET, SEGMENTATION, YOLO, overrides

import od_eval
from od_eval.evaluation.options import AnalysisOptions
from od_eval.garden import trainer
from od_eval.training.model_garden import train_experiment
from read_events import curves

PARTS = ("classification_loss", "localization_loss", "regularization_loss")


def train(name, model_dir, text, **kwargs):
    """Trains, and returns what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train_experiment(name, str(model_dir), params_override=text, analysis=AnalysisOptions(), **kwargs)
    return printed.getvalue()


@pytest.fixture(scope="session")
def trained(shapes, tmp_path_factory):
    """A RetinaNet after four steps: its folder, what was printed, and what its COCO metric would have been given."""
    model_dir = tmp_path_factory.mktemp("garden")
    outputs = []

    def recording(groundtruth, predictions, *args, **kwargs):
        outputs.append(copy.deepcopy((groundtruth, predictions)))
        return detection_batch(groundtruth, predictions, *args, **kwargs)

    detection_batch = trainer.detection_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "detection_batch", recording)
        # Of a batch of three, one is left over; of three objects, some would be cut off.
        text = overrides(RETINANET, shapes, steps=4, every_n=2, validation_data={"parser": {"max_num_instances": 1}})
        printed = train("retinanet_resnetfpn_coco", model_dir, text)
    return types.SimpleNamespace(model_dir=model_dir, printed=printed, outputs=outputs)


def metrics_of(model_dir):
    return json.loads((Path(model_dir) / "eval" / "metrics.json").read_text())


def test_losses_have_the_same_categories_as_everywhere_and_sum_up(trained):
    training, evaluation = curves(trained.model_dir / "train"), curves(trained.model_dir / "eval")
    for run, steps in ((training, [1, 2, 3, 4]), (evaluation, [2, 4])):
        total = run["Loss/total_loss"]
        assert list(total) == steps
        for step, value in total.items():
            assert sum(run[f"Loss/{part}"][step] for part in PARTS) == pytest.approx(value, rel=1e-5)
        assert run["Loss/box_loss"] == run["Loss/localization_loss"]
    assert "validation_loss" not in evaluation
    assert training["learning_rate"][4] == pytest.approx(0.01)
    assert list(training["steps_per_sec"]) == [2, 3, 4]  # the first is traced


def test_metrics_are_those_of_its_own_evaluator(trained):
    own = coco_evaluator.COCOEvaluator(annotation_file=None, include_mask=False)
    last = trained.outputs[len(trained.outputs) // 2 :]
    seen = 0
    for groundtruth, predictions in last:
        ids = np.arange(seen, seen + len(groundtruth["source_id"]))  # its own are the same for some images
        seen += len(ids)
        pair = ({**groundtruth, "source_id": ids}, {**predictions, "source_id": ids})
        own.update_state(*(tf.nest.map_structure(tf.constant, part) for part in pair))
    expected = own.result()
    metrics = metrics_of(trained.model_dir)["bbox"]
    for name, garden_name in {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "AR100": "ARmax100"}.items():
        assert metrics[name] == pytest.approx(expected[garden_name], abs=1e-6)


def test_an_evaluation_has_the_moving_averages_of_weights_and_training_goes_on_without_them():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        layer = tf_keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", input_shape=(1,))
        model = tf_keras.Sequential([layer])
        optimizer = optimization.ExponentialMovingAverage(
            tf_keras.optimizers.legacy.SGD(1.0), average_decay=0.5, dynamic_decay=False
        )
        optimizer.shadow_copy(model)
    for _ in range(2):
        strategy.run(lambda: optimizer.apply_gradients([(tf.constant([[1.0]]), model.trainable_variables[0])]))
    trained = trainer.GardenModel(None, types.SimpleNamespace(optimizer=optimizer, strategy=strategy))
    assert model.get_weights() == [-2.0]
    with trained.evaluation_weights():
        assert model.get_weights() == [-1.25]  # 0, -1 and -2, each counted half as much as the one after it
    assert model.get_weights() == [-2.0]


def test_every_image_and_every_object_is_evaluated(trained, shapes):
    records = [
        tf.train.Example.FromString(record)
        for path in sorted(map(str, shapes.glob("validation-*")))
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]
    labels = [len(record.features.feature["image/object/class/label"].int64_list.value) for record in records]
    metrics = metrics_of(trained.model_dir)
    assert metrics["num_images"] == len(records) == 4
    assert metrics["operating_point"]["bbox"]["num_groundtruth"] == sum(labels)
    names = {record.features.feature["image/filename"].bytes_list.value[0].decode() for record in records}
    objects = od_eval.load_objects(trained.model_dir)
    assert set(objects[objects.kind == "groundtruth"].image_id) == names


def test_categories_have_their_ap_by_name(trained):
    by_category = metrics_of(trained.model_dir)["per_category"]
    tags = [tag for tag in curves(trained.model_dir / "eval") if "ByCategory" in tag]
    assert len(by_category) == 4
    assert all(any(tag.endswith(f"/{name}") for tag in tags) for name in by_category)


def test_it_leaves_the_files_of_every_training(trained):
    folder = trained.model_dir
    best = json.loads((folder / "best" / "best.json").read_text())
    assert best["metric"] == "val_AP"
    assert tf.train.latest_checkpoint(str(folder / "best")).endswith(best["checkpoint"])
    assert tf.train.latest_checkpoint(str(folder)).endswith("ckpt-4")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {
        "params.yaml",
        "eval/images.zip",
        "eval/metrics.csv",
        "eval/analysis/step-00000004/objects.parquet",
    } <= names
    assert not (folder / "annotation.json").exists()
    assert not list(folder.glob("validation*"))


def test_what_was_changed_is_said(trained):
    notes = [line for line in trained.printed.splitlines() if line.startswith("note: ")]
    assert any("regenerate_source_id is now true" in note for note in notes)
    assert any("max_num_instances is now" in note for note in notes)


@pytest.mark.slow
def test_resumed_training_joins_its_curves_and_early_stopping_ends_it(shapes, tmp_path):
    text = overrides(RETINANET, shapes, steps=2, every_n=1)
    train("retinanet_resnetfpn_coco", tmp_path, text)
    assert "Nothing to train" in train("retinanet_resnetfpn_coco", tmp_path, text)
    stopping = {"early_stopping_metric": "val_total_loss", "early_stopping_min_delta": 1e9}
    text = overrides(RETINANET, shapes, steps=9, every_n=1)
    printed = train("retinanet_resnetfpn_coco", tmp_path, text, early_stopping_patience=3, **stopping)
    assert "Continuing from" in printed
    assert "Early stopping ended training" in printed
    assert list(curves(tmp_path / "train")["Loss/total_loss"]) == [1, 2, 3, 4]
    assert list(curves(tmp_path / "eval")["Loss/total_loss"]) == [1, 2, 3, 4]
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("ckpt-4")


@pytest.mark.slow
def test_mask_r_cnn_has_masks_of_full_size_and_no_loss_of_its_evaluation(shapes, tmp_path):
    train("maskrcnn_resnetfpn_coco", tmp_path, overrides(MASK_RCNN, shapes, steps=2, every_n=2))
    training = curves(tmp_path / "train")
    for step, total in training["Loss/total_loss"].items():
        parts = [training[f"Loss/{part}"][step] for part in (*PARTS, "other_loss")]
        assert sum(parts) == pytest.approx(total, rel=1e-5)
        assert 0 < training["Loss/mask_loss"][step] < 10  # with targets of 255: -7.4e9
    assert not [tag for tag in curves(tmp_path / "eval") if "loss" in tag]
    metrics = metrics_of(tmp_path)
    assert metrics["segm"]["AP"] is not None
    assert metrics["num_images"] == 4


@pytest.mark.slow
def test_semantic_segmentation_has_its_metrics(shapes, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for path in sorted(shapes.glob("*-of-*")):
        with tf.io.TFRecordWriter(str(folder / path.name)) as writer:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                writer.write(with_labels(record))
    text = overrides(
        SEGMENTATION,
        folder,
        steps=2,
        every_n=2,
        train_data={"output_size": [64, 64]},
        validation_data={"output_size": [64, 64], "resize_eval_groundtruth": True},
    )
    train("seg_deeplabv3_pascal", tmp_path / "run", text)
    metrics = metrics_of(tmp_path / "run")
    assert metrics["segmentation"]["num_pixels"] == 4 * 64 * 64
    assert 0 <= metrics["segmentation"]["IoU"] <= 1
    evaluation = curves(tmp_path / "run" / "eval")
    assert evaluation["Segmentation/IoU"][2] == pytest.approx(metrics["segmentation"]["IoU"])
    assert list(evaluation["Loss/total_loss"]) == [2]
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    assert best["metric"] == "val_IoU"


@pytest.mark.slow
def test_yolo_has_its_metrics_and_parts_that_sum_up(shapes, tmp_path, monkeypatch):
    scatter = tf.tensor_scatter_nd_max

    def as_on_a_gpu(grid, indices, updates):  # which ignores what is outside
        inside = tf.reduce_all(indices >= 0, axis=-1)
        return scatter(grid, tf.boolean_mask(indices, inside), tf.boolean_mask(updates, inside))

    monkeypatch.setattr(tf, "tensor_scatter_nd_max", as_on_a_gpu)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU"])
    text = overrides(YOLO, shapes, steps=2, every_n=2, train_data={"parser": {"mosaic": {"mosaic_frequency": 0.0}}})
    printed = train("yolo_darknet", tmp_path, text)
    assert "coco91_to_80 is now false" in printed
    for run, steps in (("train", [1, 2]), ("eval", [2])):
        scalars = curves(tmp_path / run)
        assert list(scalars["Loss/total_loss"]) == steps
        for step, total in scalars["Loss/total_loss"].items():
            parts = [scalars[f"Loss/{part}"][step] for part in ("classification_loss", "localization_loss")]
            assert sum(parts) == pytest.approx(total, rel=1e-4)
    metrics = metrics_of(tmp_path)
    assert metrics["num_images"] == 4
    assert metrics["bbox"]["AP"] is not None


def with_labels(record):
    """A record of objects with the classes of its pixels beside them."""
    example = tf.train.Example.FromString(record)
    features = example.features.feature
    size = [features[f"image/{side}"].int64_list.value[0] for side in ("height", "width")]
    labels = np.zeros((*size, 1), np.uint8)
    masks = features["image/object/mask"].bytes_list.value
    for label, mask in zip(features["image/object/class/label"].int64_list.value, masks, strict=True):
        labels[tf.io.decode_png(mask, channels=1).numpy() > 0] = label
    features["image/segmentation/class/encoded"].bytes_list.value.append(tf.io.encode_png(labels).numpy())
    return example.SerializeToString()
