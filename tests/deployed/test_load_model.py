"""Exported models against what they must find, and against the `Detector` they were made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from color_detectors import (
    COLORS,
    SCORE,
    SIDE,
    description,
    image_of,
    write_description,
    write_saved_model,
    write_tflite,
)

import od_eval
from od_eval import ODEvalError
from od_eval.deployed.checkpoint import chosen_confidence
from od_eval.deployed.resizing import resized
from od_eval.evaluation.result import EvaluationResult
from od_eval.label_map import Category, label_map_text
from od_eval.model_json import read_model_json
from od_eval.odapi.tflite_metadata import with_metadata
from od_eval.runs import metrics_files


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with model.tflite, which takes normalised pixels."""
    folder = tmp_path_factory.mktemp("exported")
    write_tflite(folder / "model.tflite")
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """The same in a folder of its own, with the name export/."""
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.tflite").write_bytes((exported / "model.tflite").read_bytes())
    return tmp_path / "export"


def write_label_map(path: Path, names: dict[int, str]) -> Path:
    path.write_text(label_map_text([Category(id, name) for id, name in names.items()]))
    return path


def refused(path, **arguments):
    with pytest.raises(ODEvalError) as raised:
        od_eval.load_model(path, **arguments)
    message = str(raised.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


IMAGES = [image_of(2, (4, 6, 20, 28)), image_of(3, (8, 12, 40, 60), 64, 96), image_of(1, (0, 0, 16, 16), 16, 16)]
BOXES = [[4, 6, 20, 28], [8, 12, 40, 60], [0, 0, 16, 16]]


def assert_rectangles_are_found(detections, ids=(2, 3, 1)):
    assert [boxes.tolist() for boxes in detections.boxes] == [[box] for box in BOXES]
    assert [classes.tolist() for classes in detections.classes] == [[id] for id in ids]
    assert [scores.tolist() for scores in detections.scores] == [[SCORE]] * 3


# ---- What is found -----------------------------------------------------------------------------------------------


def test_a_tflite_model_finds_boxes_in_pixels_of_images_of_any_size_and_says_what_it_has_guessed(folder):
    model = od_eval.load_model(folder, num_threads=2)
    assert_rectangles_are_found(model.detect(IMAGES))
    assert [guess for guess in model.guessed if "127.5" in guess or "id 1" in guess] == list(model.guessed[:2])
    assert (model.name, model.format, model.num_threads, model.input_size) == ("export", "tflite", 2, (SIDE, SIDE))
    assert (model.categories, model.confidence, model.step) == ({}, None, None)
    assert model.file_size == (folder / "model.tflite").stat().st_size
    batch = np.stack([IMAGES[0], IMAGES[0]])
    assert [boxes.tolist() for boxes in model.detect(batch).boxes] == [[BOXES[0]]] * 2
    assert len(model.detect([]).boxes) == 0


def test_model_json_tells_what_inputs_and_outputs_mean(folder):
    write_description(folder, class_offset=5, categories=[{"id": 6, "name": "green", "confidence": None}])
    model = od_eval.load_model(folder / "model.tflite")
    assert_rectangles_are_found(model.detect(IMAGES), ids=(6, 7, 5))
    assert (model.guessed, model.step, model.quantization) == ([], 1200, "none")
    assert (model.categories, model.confidence) == ({6: "green"}, {6: 0.4})
    write_description(folder, outputs=description()["outputs"] | {"classes": "output_2"})  # also of the signature
    model = od_eval.load_model(folder)
    assert_rectangles_are_found(model.detect(IMAGES))
    assert (model.categories, model.confidence) == (COLORS, {1: 0.25, 2: 0.5, 3: 0.75})


def test_a_model_that_takes_pixels_gets_pixels(tmp_path):
    write_tflite(tmp_path / "pixels.tflite", normalizes=True)
    write_description(tmp_path, input=description()["input"] | {"mean": None, "std": None})
    assert_rectangles_are_found(od_eval.load_model(tmp_path).detect(IMAGES))
    (tmp_path / "model.json").unlink()
    model = od_eval.load_model(tmp_path)
    assert model.name == "pixels"
    assert sum(len(scores) and scores.max() > 0 for scores in model.detect(IMAGES).scores) == 0
    assert_rectangles_are_found(model.without_normalization().detect(IMAGES))
    (tmp_path / "bytes").mkdir()
    model = od_eval.load_model(write_tflite(tmp_path / "bytes" / "bytes.tflite", dtype=tf.uint8))
    assert "its input is pixel values from 0 to 255" in model.guessed
    assert_rectangles_are_found(model.detect(IMAGES))


def test_tensorflow_lites_own_metadata_tells_normalisation_and_labels(tmp_path):
    model = write_tflite(tmp_path / "a.tflite", normalizes=True)
    labels = ["red", "gr\u00fcn", "???"]
    outputs = ["scores", "boxes", "num_detections", "classes"]
    about = {"name": "a", "description": "b", "shape": [1, SIDE, SIDE, 3], "outputs": outputs, "score_threshold": None}
    model.write_bytes(with_metadata(model.read_bytes(), mean=[0.0] * 3, std=[1.0] * 3, labels=labels, **about))
    loaded = od_eval.load_model(model)
    assert loaded.categories == {1: "red", 2: "gr\u00fcn"}
    assert "127.5" not in str(loaded.guessed)
    assert_rectangles_are_found(loaded.detect(IMAGES))


def test_a_saved_model_finds_the_same_with_masks_of_the_images_size(tmp_path):
    write_saved_model(tmp_path / "exported" / "saved_model", with_masks=True)
    write_label_map(tmp_path / "exported" / "label_map.pbtxt", COLORS)
    for path in (tmp_path / "exported", tmp_path / "exported" / "saved_model"):
        model = od_eval.load_model(path)
        assert (model.name, model.format, model.input_size) == ("exported", "saved_model", None)
        assert (model.categories, model.predicts_masks) == (COLORS, True)
        detections = model.detect(IMAGES)
        assert_rectangles_are_found(detections)
        for image, masks in zip(IMAGES, detections.masks, strict=True):
            assert np.array_equal(masks[0], image.max(axis=2) > 0)
    assert model.file_size == sum(path.stat().st_size for path in model_files(tmp_path / "exported" / "saved_model"))


def model_files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [(32, 32), (97, 33), (20, 61), (1, 1), (300, 200)], ids=str)
def test_images_are_resized_as_tensorflow_1_resizes_them(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    expected = tf.compat.v1.image.resize_bilinear(image[np.newaxis].astype(np.float32), [48, 40])[0]
    np.testing.assert_allclose(resized(image, 48, 40), expected, atol=1e-3)


# ---- The confidences of a checkpoint -----------------------------------------------------------------------------


def write_evaluation(model_dir: Path, step: int, confidence: float, **of_categories: float) -> None:
    per_category = {name: {"best_confidence": least} for name, least in of_categories.items()}
    point = {"confidence": confidence, "chosen_by": "F1", "per_category": per_category}
    result = EvaluationResult(step=step, checkpoint="ckpt", num_images=1, operating_point=point)
    metrics_files.write(str(model_dir / "eval"), result)


def test_a_checkpoint_has_the_confidences_of_its_evaluation_or_else_of_the_newest(tmp_path):
    def chosen(path: str):
        return chosen_confidence(str(tmp_path / path), 200, COLORS)

    assert chosen("ckpt-2") is None
    write_evaluation(tmp_path, 500, 0.5, green=0.375)
    newest = ({1: 0.5, 2: 0.375, 3: 0.5}, f"the evaluation of step 500, the newest, in {tmp_path}/eval")
    assert chosen("ckpt-2") == chosen("best/ckpt-1") == newest
    write_evaluation(tmp_path, 200, 0.25, red=0.125)
    own = ({1: 0.125, 2: 0.25, 3: 0.25}, f"the evaluation of step 200 in {tmp_path}/eval")
    assert chosen("ckpt-2") == chosen("best/ckpt-1") == own
    assert chosen("other/ckpt-2") is None


def test_a_damaged_evaluation_beside_a_checkpoint_is_told_and_gives_no_confidence(tmp_path, capsys):
    write_evaluation(tmp_path, 200, 0.25)
    (path,) = (tmp_path / "eval" / "metrics").glob("step-*.json")
    path.write_text("{")
    assert chosen_confidence(str(tmp_path / "ckpt-2"), 200, COLORS) is None
    assert f"warning: no confidence is taken from an evaluation: '{path}' is damaged" in capsys.readouterr().err


# ---- What is refused ---------------------------------------------------------------------------------------------


def test_what_is_no_model_is_refused(tmp_path, folder):
    assert f"'{tmp_path}/a' does not exist; give" in refused(tmp_path / "a")
    assert f"'{tmp_path}' has no model in it" in refused(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    assert "is no model" in refused(tmp_path / "a.txt")
    assert "num_threads is 0" in refused(folder, num_threads=0)
    (tmp_path / "ckpt-1.index").write_text("a")
    assert "has no pipeline.config beside it" in refused(tmp_path / "ckpt-1")
    (folder / "other.tflite").write_text("a")
    assert "several models (model.tflite, other.tflite)" in refused(folder)


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"hello"],
    ids=["half", "empty", "text"],
)
def test_a_damaged_tflite_file_is_told(folder, spoil):
    path = folder / "model.tflite"
    path.write_bytes(spoil(path.read_bytes()))
    assert refused(folder) == f"'{path}' is damaged, or no TensorFlow Lite model; export it again."


def convert(function, path, *, with_tensorflow=False):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
    if with_tensorflow:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path.write_bytes(converter.convert())
    return path


def test_a_tflite_model_of_something_else_is_refused(tmp_path):
    image = tf.TensorSpec([1, 8, 8, 3], tf.float32)
    classifier = tf.function(lambda x: tf.reduce_mean(x, axis=[1, 2]), input_signature=[image])
    message = refused(convert(classifier, tmp_path / "a.tflite"))
    assert "is not a detector with its post-processing: its outputs are [1, 3], and not boxes" in message
    vector = tf.function(lambda x: x * 2, input_signature=[tf.TensorSpec([1, 8], tf.float32)])
    assert "its input is float32 [1, 8], and not one image" in refused(convert(vector, tmp_path / "b.tflite"))


def test_operators_of_tensorflow_are_named(tmp_path):
    image = tf.TensorSpec([1, 8, 8, 3], tf.float32)
    function = tf.function(lambda x: tf.linalg.det(x[0, :, :, 0]), input_signature=[image])
    message = refused(convert(function, tmp_path / "a.tflite", with_tensorflow=True))
    assert "needs operators of TensorFlow (MatrixDeterminant)" in message


def test_images_of_the_same_size_are_detected_in_batches_of_eight_and_come_back_in_their_order(tmp_path):
    model = od_eval.load_model(write_saved_model(tmp_path / "saved_model", with_masks=True, takes_batches=True))
    boxes = [(top, 6, top + 5, 28) for top in range(11)]
    images = [image_of(1 + top % 3, box) for top, box in enumerate(boxes)]
    images.insert(4, image_of(2, (8, 12, 40, 60), 64, 96))  # the only one of its size
    detections = model.detect(images)
    boxes.insert(4, (8, 12, 40, 60))
    assert [of_image.tolist() for of_image in detections.boxes] == [[list(box)] for box in boxes]
    assert [masks.shape[1:] for masks in detections.masks] == [image.shape[:2] for image in images]
    alone = [model.detect([image]) for image in images]
    assert [of_image.tolist() for of_image in detections.classes] == [one.classes[0].tolist() for one in alone]
    sizes_of_batches = [SCORE / float(scores[0]) for scores in detections.scores]
    np.testing.assert_allclose(sizes_of_batches, [8] * 4 + [1] + [8] * 4 + [3] * 3, rtol=1e-6)
    assert {float(one.scores[0][0]) for one in alone} == {SCORE}


def test_a_label_map_of_another_number_of_classes_is_refused(tmp_path):
    folder = write_saved_model(tmp_path / "saved_model")
    fewer = write_label_map(tmp_path / "fewer.pbtxt", {1: "red", 2: "green"})
    more = write_label_map(tmp_path / "more.pbtxt", {**COLORS, 4: "wh\x1bite"})
    assert f"'{folder}' has 3 classes, but the highest id in '{fewer}' is 2 ('green')" in refused(
        folder, label_map=fewer
    )
    assert "is 4 ('wh\\x1bite'); give the label map" in refused(folder, label_map=more)
    assert od_eval.load_model(folder, label_map=write_label_map(tmp_path / "right", COLORS)).categories == COLORS


def test_a_saved_model_of_something_else_is_refused(tmp_path):
    folder = write_saved_model(tmp_path / "other", outputs_of_a_detector=False)
    assert "it has no output 'detection_boxes', 'detection_scores'" in refused(folder)
    (folder / "saved_model.pb").write_bytes(b"damaged")
    assert f"SavedModel '{folder}' cannot be loaded: " in refused(folder)


def test_model_json_of_another_model_is_refused(folder):
    write_description(folder, input=description()["input"] | {"shape": [1, 64, 64, 3]})
    assert "belongs to another model: its input is [1, 64, 64, 3]" in refused(folder)
    write_description(folder, outputs=description()["outputs"] | {"boxes": "boxes:7"})
    assert "belongs to another model: " in refused(folder)
    write_description(folder, outputs={"boxes": "PartitionedCall:3"})
    assert "lacks the output for classes, scores, num_detections" in refused(folder)
    write_description(folder, outputs=description()["outputs"] | {"boxes": "PartitionedCall:1"})
    assert "its outputs are" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "is of version 2"),
        ({"class_offset": "1"}, 'class_offset is "1"'),
        ({"step": -1}, "step is -1"),
        ({"input": None}, "input is null"),
        ({"input": description()["input"] | {"std": [1.0, 0.0, 1.0]}}, "input.std is [1.0, 0.0, 1.0]"),
        ({"input": description()["input"] | {"std": None}}, "input.std is null"),
        ({"input": description()["input"] | {"mean": [1.0, True, 1.0]}}, "input.mean is [1.0, true, 1.0]"),
        ({"outputs": {"boxes": 3}}, "outputs.boxes is 3"),
        ({"categories": [7]}, "categories[0] is 7"),
        ({"categories": [{"id": 1, "name": "a", "confidence": "b"}]}, 'categories[0].confidence is "b"'),
        (
            {"categories": [{"id": 1, "name": "a", "confidence": None}] * 2},
            "categories[1].id is 1, and",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_in_model_json_is_told(tmp_path, changes, words):
    write_description(tmp_path, **changes)
    with pytest.raises(ODEvalError) as raised:
        read_model_json(str(tmp_path), "tflite")
    assert f"'{tmp_path}/model.json' " in str(raised.value)
    assert words in str(raised.value)


def test_model_json_that_is_no_json_is_told_and_that_of_another_format_is_not_read(tmp_path):
    for text, words in (("{", "is not JSON"), ("[]", "it holds no object"), ('{"version": 1, "format": "tflite"}', "")):
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(ODEvalError, match=words):
            read_model_json(str(tmp_path), "tflite")
    write_description(tmp_path)
    assert read_model_json(str(tmp_path), "saved_model") is None


@pytest.mark.parametrize(
    "image",
    [np.zeros([8, 8, 3], np.float32), np.zeros([8, 8], np.uint8), np.zeros([8, 0, 3], np.uint8)],
    ids=["float32", "two_axes", "empty"],
)
def test_what_is_no_image_is_refused(exported, image):
    with pytest.raises(ODEvalError, match=r"image 1 is .*; detect takes uint8"):
        od_eval.load_model(exported).detect([IMAGES[0], image])


def test_tensorflow_is_not_needed_for_a_tflite_model(exported):
    import subprocess

    code = (
        "import sys, numpy, od_eval\n"
        f"model = od_eval.load_model({str(exported)!r})\n"
        "print(model.detect(numpy.full([1, 40, 40, 3], 200, numpy.uint8)).boxes[0].tolist())\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, f"{json.dumps([[0.0, 0.0, 40.0, 40.0]])}\n"), run.stderr
