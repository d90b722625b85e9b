"""SegmentationEvaluation: what it computes, where it writes it, and what it says of data that it cannot use."""

from __future__ import annotations

import importlib
import io
import os
import zipfile
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest
from PIL import Image

import od_eval
from od_eval.callbacks.evaluation_set import EvaluationSet
from od_eval.callbacks.segmentation_set import ImagesAndLabels, SegmentationSet
from od_eval.errors import ODEvalError
from od_eval.runs import segmentation_files
from read_events import curves, shown_images

CATEGORIES = {0: "background", 5: "cat", 9: "dog"}
IGNORE = 255
OPTIONS = od_eval.SegmentationOptions(CATEGORIES, ignore_label=IGNORE, num_pictures=2)
IDS = np.array(list(CATEGORIES))


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request) -> Any:
    """tf_keras, which `tf.keras` is in this process, and the Keras it is not."""
    return importlib.import_module(request.param)


def make_model(keras: Any, **compiled: Any) -> Any:
    """The channels of an image are the scores of the classes, times 2."""
    model = keras.Sequential([keras.layers.Conv2D(3, 1, input_shape=(8, 8, 3), use_bias=False)])
    model.layers[0].set_weights([2 * np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3)])
    model.compile(**{"optimizer": keras.optimizers.SGD(0.0), "loss": od_eval.CrossEntropyLoss(), **compiled})
    return model


def make_data(num: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images, of which the highest channel mostly is the class, and indices of classes."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 3, (num, 8, 8))
    images = 0.5 * np.eye(3)[classes] + random.random((num, 8, 8, 3)) * 0.5 * (1 + np.arange(num)).reshape(-1, 1, 1, 1)
    return images.astype(np.float32), classes


def batches(images: np.ndarray, labels: np.ndarray, size: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(images[first : first + size], labels[first : first + size]) for first in range(0, len(images), size)]


def fit(model: Any, *callbacks: Any, epochs: int = 1) -> dict[str, list[float]]:
    images, classes = make_data()
    return model.fit(images, classes, batch_size=5, epochs=epochs, verbose=0, callbacks=list(callbacks)).history


def accuracy(images: np.ndarray, classes: np.ndarray) -> float:
    return float((images.argmax(-1) == classes).mean())


# ---- A training -----------------------------------------------------------------------------------------------------


def test_metrics_losses_and_pictures_of_a_training_are_everywhere(keras, tmp_path, capsys):
    images, classes = make_data()
    model = make_model(keras, loss=(loss := od_eval.DiceCrossEntropyLoss()), metrics=loss.metrics())
    evaluation = od_eval.SegmentationEvaluation(
        batches(images, classes),
        tmp_path,
        options=od_eval.SegmentationOptions({0: "a", 1: "b", 2: "c"}, num_pictures=2),
    )
    callbacks = [od_eval.LossLogger(tmp_path, log_every_n_steps=1), evaluation, od_eval.BestCheckpoint(tmp_path)]
    history = fit(model, *callbacks, epochs=2)
    assert evaluation.failures == []

    assert history["val_pixel_accuracy"] == pytest.approx([accuracy(images, classes)] * 2)
    written = od_eval.load_metrics(tmp_path)
    assert written["segmentation"]["IoU"] == history["val_IoU"][0] == evaluation.results[0].segmentation["IoU"]
    of_keras = model.evaluate(images, classes, verbose=0, return_dict=True)
    assert written["losses"]["cross_entropy_loss"] == pytest.approx(of_keras["cross_entropy_loss"], rel=1e-5)
    parts = written["losses"]["cross_entropy_loss"] + written["losses"]["dice_loss"]
    assert history["val_total_loss"][0] == written["losses"]["total_loss"] == pytest.approx(parts, rel=1e-5)
    assert "other_loss" not in written["losses"]

    of_train, of_eval = curves(tmp_path / "train"), curves(tmp_path / "eval")
    for tag in ("Loss/total_loss", "Loss/cross_entropy_loss", "Loss/dice_loss"):
        assert of_train[tag].keys() == of_eval[tag].keys() == {1, 2}
    assert of_eval["Segmentation/IoU"] == pytest.approx({1: history["val_IoU"][0], 2: history["val_IoU"][1]})
    assert "Segmentation_PerformanceByCategory/IoU/b" in of_eval
    assert "Loss/other_loss" not in of_eval.keys() | of_train.keys()
    assert {tag for tag in shown_images(tmp_path / "eval")} == {
        *(f"segmentation/{index}" for index in range(2)),
        *(f"segmentation_worst/{index}" for index in range(2)),
        "plots/segmentation_confusion",
    }
    assert (tmp_path / "best" / "best.json").exists()
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"eval at step 1: IoU {history['val_IoU'][0]:.4g}  pixel_accuracy ")


def test_files_tell_which_pixels_of_which_images_are_wrong(keras, tmp_path):
    images, classes = make_data()
    labels = IDS[classes]
    labels[:, 0] = IGNORE
    SegmentationSet(batches(images, labels), tmp_path, options=OPTIONS).evaluate(make_model(keras, loss=None), 3)
    run_dir = str(tmp_path / "eval")
    rows = segmentation_files.read_images(run_dir, 3)
    assert [row["pixels"] for row in rows] == [56] * 5
    accuracies = [accuracy(images[int(row["image_id"]), 1:], classes[int(row["image_id"]), 1:]) for row in rows]
    assert [row["pixel_accuracy"] for row in rows] == accuracies == sorted(accuracies)
    names, counts = segmentation_files.read_confusion(run_dir, 3)
    assert names == list(CATEGORIES.values())
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (classes[:, 1:], images.argmax(-1)[:, 1:]), 1)
    assert counts.tolist() == expected.tolist()
    for row in rows:
        groundtruth, prediction = segmentation_files.read_labels(run_dir, 3, row["index"])
        image = int(row["image_id"])
        assert (groundtruth[0] == 255).all()
        assert groundtruth[1:].tolist() == classes[image, 1:].tolist()
        assert prediction.tolist() == images[image].argmax(-1).tolist()
    with zipfile.ZipFile(tmp_path / "eval" / "images.zip") as archive:
        assert archive.namelist() == [f"{image}.jpg" for image in range(5)]


def test_regularization_is_a_part_of_the_total_as_in_training(keras, tmp_path):
    regularized = keras.Sequential(
        [keras.layers.Conv2D(3, 1, input_shape=(8, 8, 3), kernel_regularizer=keras.regularizers.L2(0.1))]
    )
    regularized.compile("sgd", od_eval.CrossEntropyLoss())
    images, classes = make_data()
    options = od_eval.SegmentationOptions({0: "a", 1: "b", 2: "c"}, num_pictures=0)
    losses = SegmentationSet([(images, classes)], tmp_path, options=options).evaluate(regularized, 1).losses
    of_keras = regularized.evaluate(images, classes, verbose=0)
    assert losses["total_loss"] == pytest.approx(of_keras, rel=1e-5)
    assert losses["regularization_loss"] == pytest.approx(of_keras - losses["cross_entropy_loss"], rel=1e-4)


def test_a_function_says_what_a_model_of_any_kind_segments(keras, tmp_path):
    def segment(model, image_id):
        scores = np.full((1, 4, 6, 3), 0.25, np.float32)
        scores[..., 1] = 0.5
        labels = np.full((1, 4, 6), 5 if image_id == "good" else 9)
        return od_eval.SegmentationBatch([image_id], labels, scores, losses={"total_loss": 0.5})

    evaluation = od_eval.SegmentationEvaluation(["good", "bad"], tmp_path, options=OPTIONS, segment=segment)
    history = fit(make_model(keras), evaluation)
    assert evaluation.failures == []
    assert history["val_pixel_accuracy"] == [0.5]
    assert history["val_IoU"] == [0.25], "of cat 1/2, of dog 0, of background there is no pixel"
    assert history["val_total_loss"] == [0.5]
    assert od_eval.load_metrics(tmp_path)["segmentation"]["absent_classes"] == ["background"]
    rows = segmentation_files.read_images(str(tmp_path / "eval"), 1)
    assert [(row["image_id"], row["index"]) for row in rows] == [("bad", None), ("good", None)], "without pictures"


def test_training_goes_on_when_an_evaluation_fails(keras, tmp_path, capsys):
    images, classes = make_data()
    evaluation = od_eval.SegmentationEvaluation([(images, classes)], tmp_path, options=OPTIONS)
    history = fit(make_model(keras), evaluation, epochs=2)
    assert [step for step, _ in evaluation.failures] == [1, 2]
    assert "val_IoU" not in history
    message = capsys.readouterr().err
    assert "image 0 has the label " in message
    assert "neither a category" in message
    raising = od_eval.SegmentationEvaluation([(images, classes)], tmp_path, options=OPTIONS, on_error="raise")
    with pytest.raises(ODEvalError, match="neither a category"):
        fit(make_model(keras), raising)


def test_boxes_and_segmentation_in_one_run_are_refused_before_one_replaces_the_other(tmp_path):
    boxes = [[[1.0, 1, 4, 4]]]

    def detect(model, image):
        detections = od_eval.Detections(boxes, [[0.5]], [[5]])
        return od_eval.EvaluationBatch([image], [(8, 8)], detections, od_eval.GroundTruth(boxes, [[5]]))

    def segment(model, image):
        return od_eval.SegmentationBatch([image], np.zeros((1, 2, 2), int), np.eye(3)[np.zeros((1, 2, 2), int)])

    of_boxes = {"detect": detect, "options": od_eval.EvaluationOptions(CATEGORIES)}
    EvaluationSet([1], tmp_path, **of_boxes).evaluate(None, 1)
    SegmentationSet([1], tmp_path, options=OPTIONS, segment=segment, run="eval/segmentation").evaluate(None, 1)
    with pytest.raises(ODEvalError, match="the run 'eval' has evaluations with the section 'bbox'"):
        SegmentationSet([1], tmp_path, options=OPTIONS, segment=segment).evaluate(None, 2)
    resumed = EvaluationSet([1], tmp_path, run="eval/segmentation", **of_boxes)
    resumed.go_back(1)
    with pytest.raises(ODEvalError, match="give detections and segmentation a run each"):
        resumed.evaluate(None, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_dir": ""}, "log_dir is empty; SegmentationEvaluation"),
        ({"every_n_steps": 0}, "every_n_steps must be a whole number"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"options": od_eval.SegmentationOptions({1: "a", 2: "a"})}, "name"),
        ({"options": od_eval.SegmentationOptions({1: "a"}, ignore_label=1)}, "ignore_label"),
    ],
    ids=["log_dir", "every_n_steps", "on_error", "names", "ignore_label"],
)
def test_wrong_arguments_are_refused_before_the_training(tmp_path, arguments, message):
    with pytest.raises((ValueError, ODEvalError), match=message):
        od_eval.SegmentationEvaluation([], **{"log_dir": tmp_path, "options": OPTIONS, **arguments})


# ---- Images and labels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["ids", "one channel", "one-hot"])
def test_labels_are_ids_or_one_hot(keras, form):
    images, classes = make_data()
    labels = IDS[classes]
    labels[0, 0] = IGNORE
    given = {
        "ids": labels,
        "one channel": labels[..., np.newaxis],
        "one-hot": (labels[..., np.newaxis] == IDS).astype(np.float32),
    }[form]
    batch = ImagesAndLabels(OPTIONS)(make_model(keras, loss=None), (images, given))
    assert np.asarray(batch.labels).tolist() == labels.tolist()
    logits = 2 * images
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(batch.scores, expected, rtol=1e-5)
    assert batch.losses == {}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((1, 8, 8, 4)), "there are 3 categories; give one-hot labels a last axis of 3"),
        (np.zeros((1, 8, 8, 3)), "pixels of no class, and options no ignore_label"),
    ],
    ids=["classes", "ignored"],
)
def test_one_hot_labels_that_do_not_fit_the_options_are_refused(keras, labels, message):
    segment = ImagesAndLabels(od_eval.SegmentationOptions(CATEGORIES))
    with pytest.raises(ODEvalError, match=message):
        segment(make_model(keras, loss=None), (np.zeros((1, 8, 8, 3), np.float32), labels))


def test_images_are_numbered_through_all_batches_of_an_evaluation(keras):
    segment, model = ImagesAndLabels(OPTIONS), make_model(keras, loss=None)
    images, classes = make_data()
    ids = [list(segment(model, batch).image_ids) for batch in batches(images, IDS[classes])]
    assert ids == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), [0, 128, 255]),
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255]),
        (np.array([-1, 0, 1], np.float32), [0, 128, 255]),
        (np.array([0, 127.6, 255], np.float32), [0, 128, 255]),
        (np.array([-2, 0, 2], np.float32), [0, 128, 255]),
        (np.array([0, 1, 65535], np.float32), [0, 0, 255]),
    ],
    ids=["uint8", "0 to 1", "-1 to 1", "0 to 255", "standardized", "16 bits"],
)
def test_pictures_have_colors_whatever_range_the_model_is_given(images, expected):
    class Model:
        losses = ()

        @staticmethod
        def predict_on_batch(images):
            return np.zeros((*images.shape[:3], 3))

    pixels = np.broadcast_to(images.reshape(1, 1, 3, 1), (1, 2, 3, 1))
    batch = ImagesAndLabels(OPTIONS)(Model(), (pixels, np.zeros((1, 2, 3), int)))
    assert batch.images.shape == (1, 2, 3, 3)
    assert batch.images[0, 0, :, 0].tolist() == batch.images[0, 1, :, 2].tolist() == expected


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"image": 1}, "not images and labels, but dict; pass segment="),
        ((1, 2, 3), "not images and labels, but 3 parts"),
        ((np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 8, 8), int)), r"shape \[1, 8, 8, 3\], and there are 2"),
    ],
    ids=["dict", "weights", "classes"],
)
def test_elements_and_outputs_of_another_form_are_refused_with_the_remedy(element, message):
    model = make_model(importlib.import_module("tf_keras"), loss=None)
    with pytest.raises(ODEvalError, match=message):
        ImagesAndLabels(od_eval.SegmentationOptions({0: "a", 1: "b"}))(model, element)


def test_a_picture_of_the_worst_image_shows_it(tmp_path):
    """Left above the image as it is: of four images of one color, the second has most wrong pixels."""
    colors = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [90, 90, 90]], np.uint8)

    def segment(model, image):
        wrong = {1: 16, 3: 4}.get(image, 0)
        labels = (np.arange(64) < wrong).astype(int).reshape(1, 8, 8)
        pixels = np.broadcast_to(colors[image], (1, 8, 8, 3))
        scores = np.eye(2, dtype=np.float32)[np.zeros((1, 8, 8), int)]
        return od_eval.SegmentationBatch([image], labels, scores, images=pixels)

    options = od_eval.SegmentationOptions({0: "a", 1: "b"}, num_pictures=2)
    SegmentationSet(range(4), tmp_path, options=options, segment=segment).evaluate(None, 1)
    shown = shown_images(tmp_path / "eval")

    def color(tag: str) -> list[int]:
        ((_, (picture, *_)),) = shown[tag]
        return np.asarray(picture)[200, 200].tolist()

    for tag, image in {
        "segmentation/0": 0,
        "segmentation/1": 1,
        "segmentation_worst/0": 1,
        "segmentation_worst/1": 3,
    }.items():
        np.testing.assert_allclose(color(tag), colors[image], atol=6, err_msg=tag)  # JPEG
    assert segmentation_files.read_images(str(tmp_path / "eval"), 1)[0]["worst_class"] == "b"
    assert Image.open(io.BytesIO(zipfile.ZipFile(tmp_path / "eval" / "images.zip").read("1.jpg"))).size == (8, 8)
