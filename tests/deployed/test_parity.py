"""Exports of a model of the Object Detection API, loaded again, against the `Detector` they were made of."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import od_eval
from od_eval.odapi.export import export, export_tflite


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
        distances = np.abs(found[:, np.newaxis] - wanted) / [0.5, 0.5, 0.5, 0.5, 1e-4, 0.1]
        assert distances.max(axis=2).min(axis=1).max() < 1
        assert distances.max(axis=2).min(axis=0).max() < 1
        assert np.ptp(found[:, :2]) > 5
        assert len(np.unique(found[:, 5])) > 1


NAMES = {1: "circle", 2: "square", 3: "star", 4: "triangle"}


@pytest.mark.parametrize("path", [".", pytest.param("best/ckpt-1", marks=pytest.mark.slow)])
def test_a_model_dir_and_a_checkpoint_detect_what_the_detector_does(ssd, ssd_dir, images, path):
    model = od_eval.load_model(ssd_dir / path)
    assert (model.categories, model.name) == (NAMES, "ckpt-1")
    assert_detects_what_the_detector_does(model, ssd, images)


def test_a_saved_model_detects_what_the_detector_does(ssd, ssd_dir, images, tmp_path):
    export(str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(tmp_path / "out"))
    model = od_eval.load_model(tmp_path / "out")
    assert model.categories == NAMES
    assert_detects_what_the_detector_does(model, ssd, images)
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (model.guessed, model.step, description["class_offset"]) == ((), 0, 0)


def test_a_tflite_model_detects_what_the_detector_does_with_and_without_model_json(ssd, ssd_dir, images, tmp_path):
    out = tmp_path / "out"
    paths = (str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(out))
    export_tflite(*paths, max_detections=100, use_regular_nms=True)
    model = od_eval.load_model(out)
    assert (model.guessed, model.quantization, len(model.categories)) == ([], "none", 4)
    assert_detects_what_the_detector_does(model, ssd, images)
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
