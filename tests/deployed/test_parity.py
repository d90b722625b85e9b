"""Exports of a model of the Object Detection API, loaded again, against the `Detector` they were made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from made_model_dir import make_model_dir

import od_eval
from od_eval import Pipeline
from od_eval.odapi.export import export, export_tflite

CONFIGS = Path(__file__).parents[2] / "pipeline_configs"


@pytest.fixture(scope="module")
def images(excerpt):
    """Three photographs of different sizes, larger and smaller than the model's input."""
    paths = sorted((excerpt / "raccoon" / "images").glob("*.jpg"))[:3]
    photographs = [tf.io.decode_jpeg(path.read_bytes(), channels=3).numpy() for path in paths]
    return [*photographs[:2], photographs[2][:50, :70]]


def assert_detects_what_the_detector_does(model, detector, images):
    detections = model.detect(images)
    for index, image in enumerate(images):
        expected = detector.detect(image[np.newaxis])
        num = int(expected.num[0])
        wanted = np.column_stack([expected.boxes[0], expected.scores[0], expected.classes[0]])[:num]
        found = np.column_stack([detections.boxes[index], detections.scores[index], detections.classes[index]])
        assert len(found) == len(wanted) > 10
        # In any order, as rounding may change that of nearly equal scores: half a pixel, 1e-4, the same class.
        distances = (np.abs(found[:, np.newaxis] - wanted) / [0.5, 0.5, 0.5, 0.5, 1e-4, 0.1]).max(axis=2)
        assert distances.min(axis=1).max() < 1
        assert distances.min(axis=0).max() < 1
        assert np.ptp(found[:, :2]) > 5
        assert np.ptp(found[:, 4]) > 1e-3
        assert (detections.masks is None) == (expected.masks is None)
        if expected.masks is not None:
            of_same = np.asarray(expected.masks[0])[distances.argmin(axis=1)]
            assert detections.masks[index].any()
            assert (detections.masks[index] != of_same).mean() < 1e-4


NAMES = {1: "circle", 2: "square", 3: "star", 4: "triangle"}


@pytest.mark.parametrize("path", [".", pytest.param("best/ckpt-1", marks=pytest.mark.slow)])
def test_a_model_dir_and_a_checkpoint_detect_what_the_detector_does(ssd, ssd_dir, images, path):
    model = od_eval.load_model(ssd_dir / path)
    assert (model.categories, model.name) == (NAMES, "ckpt-1")
    assert_detects_what_the_detector_does(model, ssd, images)


def test_a_saved_model_detects_what_the_detector_does(ssd, ssd_exported, images):
    model = od_eval.load_model(ssd_exported)
    assert model.categories == NAMES
    assert_detects_what_the_detector_does(model, ssd, images)
    description = json.loads((ssd_exported / "model.json").read_text())
    assert (model.guessed, model.step, description["class_offset"]) == ((), 0, 0)


def test_a_tflite_model_detects_what_the_detector_does_with_and_without_model_json(ssd, ssd_dir, images, tmp_path):
    out = tmp_path / "out"
    paths = (str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(out))
    export_tflite(*paths, max_detections=100, use_regular_nms=True)
    model = od_eval.load_model(out)
    assert (model.guessed, model.quantization, len(model.categories)) == ([], "none", 4)
    assert_detects_what_the_detector_does(model, ssd, images)
    assert len({*np.concatenate(model.detect(images).classes).tolist()}) > 1
    (out / "model.json").unlink()
    (out / "label_map.pbtxt").unlink()
    by_itself = od_eval.load_model(out)
    assert by_itself.categories == model.categories, "from the labels in the file"
    assert_detects_what_the_detector_does(by_itself, ssd, images)
    bare = tmp_path / "bare.tflite"
    bare.write_bytes((out / "model.tflite").read_bytes().replace(b"TFLITE_METADATA", b"TFLITE_METADATO"))
    guessing = od_eval.load_model(bare)
    assert "its input is (pixel − 127.5) ÷ 127.5" in guessing.guessed
    assert_detects_what_the_detector_does(guessing, ssd, images)
    wrong = tmp_path / "label_map.pbtxt"
    wrong.write_text("".join(f"item {{ id: {id} name: '{id}' }}\n" for id in range(1, 6)))
    with pytest.raises(od_eval.ODEvalError, match=r"has 4 classes, but the highest id in '.*' is 5"):
        od_eval.load_model(bare)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("ssd_mobilenet_v2_fpnlite_128x128", "ssd"),
        ("faster_rcnn_resnet50_128x128", "faster_rcnn"),
        ("mask_rcnn_resnet50_128x128", "faster_rcnn"),
    ],
)
def test_exports_of_other_architectures_detect_what_the_detector_does(
    name, architecture, config_overrides, images, tmp_path
):
    overrides = list(config_overrides)
    if architecture == "ssd":  # neighbouring anchors overlap by exactly the usual 0.6, so that rounding decides
        overrides.append("model.ssd.post_processing.batch_non_max_suppression.iou_threshold=0.53")
    detector = make_model_dir(CONFIGS / f"{name}.config", overrides, tmp_path)
    see_what_images_differ_in(detector, Pipeline.load(tmp_path / "pipeline.config"))
    detector.checkpoint().write(str(tmp_path / "ckpt-3"))
    paths = (str(tmp_path / "pipeline.config"), str(tmp_path / "ckpt-3"))
    export(*paths, str(tmp_path / "out"))
    assert_detects_what_the_detector_does(od_eval.load_model(tmp_path / "out"), detector, images)
    if architecture == "ssd":
        export_tflite(*paths, str(tmp_path / "lite"), max_detections=100, use_regular_nms=True)
        assert_detects_what_the_detector_does(od_eval.load_model(tmp_path / "lite"), detector, images)


def see_what_images_differ_in(detector, pipeline):
    """Gives batch normalization the statistics of a batch, without which a deep model finds the same in all images."""
    for layer in detector.submodules:
        if hasattr(layer, "moving_mean"):
            layer.momentum = 0.0
    features, labels = next(iter(pipeline.train_dataset()))
    detector.compute_losses(features, labels, training=True)
