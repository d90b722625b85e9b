"""The losses of semantic segmentation against NumPy, in tf_keras and in Keras 3 on the backend of this process."""

from __future__ import annotations

import copy
import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import keras
import numpy as np
import pytest
import tensorflow as tf

import od_eval
import read_events

CLASSES = 4
IGNORED = 255
WEIGHTS = (1.0, 2.0, 0.5, 3.0)
LOSSES = (od_eval.CrossEntropyLoss, od_eval.FocalLoss, od_eval.DiceLoss, od_eval.DiceCrossEntropyLoss)

ON_TENSORFLOW = keras.config.backend() == "tensorflow"
KERAS = {"keras": keras, **({"tf_keras": tf.keras} if ON_TENSORFLOW else {})}


def made(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels `[2, 6, 5]`, some ignored, of three of the four classes; logits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES - 1, (2, 6, 5)).astype(np.uint8)
    labels[0, :2] = IGNORED
    return labels, rng.normal(0, 2, (2, 6, 5, CLASSES)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits.astype(np.float64))
    return exp / exp.sum(axis=-1, keepdims=True)


def expected(kind: type, labels: np.ndarray, logits: np.ndarray, weights: tuple[float, ...] = (1,) * CLASSES) -> float:
    """A loss pixel by pixel, as its docstring says."""
    probabilities = softmax(logits)
    pixels = [(label, probabilities[at]) for at, label in np.ndenumerate(labels) if label != IGNORED]
    total = sum(weights[label] for label, _ in pixels)
    cross_entropy = sum(-weights[label] * np.log(p[label]) for label, p in pixels) / total
    if kind is od_eval.CrossEntropyLoss:
        return cross_entropy
    if kind is od_eval.FocalLoss:
        return sum(-weights[label] * (1 - p[label]) ** 2 * np.log(p[label]) for label, p in pixels) / total
    present = sorted({int(label) for label, _ in pixels})
    dice = {
        index: 2
        * sum(p[index] for label, p in pixels if label == index)
        / sum(p[index] + (label == index) for label, p in pixels)
        for index in present
    }
    of_dice = 1 - sum(weights[index] * dice[index] for index in present) / sum(weights[index] for index in present)
    return of_dice if kind is od_eval.DiceLoss else of_dice + cross_entropy


def value(loss: object, labels: object, outputs: np.ndarray) -> float:
    return float(keras.ops.convert_to_numpy(loss(labels, keras.ops.convert_to_tensor(outputs))))  # type: ignore


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_losses_are_what_they_say(kind, weights):
    labels, logits = made()
    reference = expected(kind, labels, logits, weights or (1,) * CLASSES)
    loss = kind(ignore_label=IGNORED, class_weights=weights)
    assert value(loss, labels, logits) == pytest.approx(reference, rel=1e-5)
    assert value(loss, labels[..., None].astype(np.float32), logits) == pytest.approx(reference, rel=1e-5)
    of_probabilities = kind(ignore_label=IGNORED, class_weights=weights, from_logits=False)
    assert value(of_probabilities, labels, softmax(logits).astype(np.float32)) == pytest.approx(reference, rel=1e-5)
    one_hot = np.eye(256, dtype=np.float32)[labels][..., :CLASSES]
    assert value(kind(class_weights=weights), one_hot, logits) == pytest.approx(reference, rel=1e-5)


def test_cross_entropy_without_options_is_that_of_keras():
    labels, logits = made()
    labels[labels == IGNORED] = 1
    of_keras = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert value(od_eval.CrossEntropyLoss(), labels, logits) == pytest.approx(value(of_keras, labels, logits), rel=1e-5)
    no_focus = od_eval.FocalLoss(gamma=0)
    assert value(no_focus, labels, logits) == pytest.approx(value(of_keras, labels, logits), rel=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_an_index_may_be_ignored_sparse_and_one_hot(kind):
    labels, logits = made()
    zero_is_ignored = np.where(labels == 0, IGNORED, labels)
    reference = expected(kind, zero_is_ignored, logits)
    sparse = np.where(labels == IGNORED, 0, labels)
    loss = kind(ignore_label=0)
    assert value(loss, sparse, logits) == pytest.approx(reference, rel=1e-5)
    assert value(loss, np.eye(CLASSES, dtype=np.float32)[sparse], logits) == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_ignored_images_cost_nothing_and_unknown_labels_are_seen(kind):
    labels, logits = made()
    assert value(kind(ignore_label=IGNORED), np.full_like(labels, IGNORED), logits) == 0
    assert np.isnan(value(kind(), labels, logits))


@pytest.mark.skipif(not ON_TENSORFLOW, reason="takes gradients of TensorFlow")
@pytest.mark.parametrize("kind", LOSSES)
def test_extreme_outputs_have_finite_losses_and_gradients(kind):
    labels, _ = made()
    right = np.eye(CLASSES, dtype=np.float32)[np.where(labels == IGNORED, 0, labels)]
    for logits in (right * 100, -right * 100):
        outputs = tf.Variable(logits)
        with tf.GradientTape() as tape:
            loss = kind(ignore_label=IGNORED).call(labels, outputs)
        assert np.isfinite(loss).all()
        assert np.isfinite(tape.gradient(loss, outputs)).all()
    assert value(kind(ignore_label=IGNORED), labels, right * 100) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("loss", "labels", "outputs", "message"),
    [
        pytest.param({}, (2, 3, 3), (2, 3, 3), "y_pred of shape .* two classes or more", id="no classes"),
        pytest.param({}, (2, 3), (2, 3, 3, 4), "y_true of shape .* one-hot labels of 4 classes", id="no labels"),
        pytest.param({"class_weights": [1, 2]}, (2, 3, 3), (2, 3, 3, 4), "2 class_weights, and y_pred 4", id="weights"),
    ],
)
def test_what_does_not_fit_is_said(loss, labels, outputs, message):
    with pytest.raises(ValueError, match=message):
        value(od_eval.DiceLoss(**loss), np.zeros(labels, np.float32), np.zeros(outputs, np.float32))


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="class_weights"):
        od_eval.CrossEntropyLoss(class_weights=[1, -1])
    with pytest.raises(ValueError, match="class_weights is a dict; give a list"):
        od_eval.CrossEntropyLoss(class_weights={0: 1.0, 1: 5.0})
    with pytest.raises(ValueError, match="gamma is -1"):
        od_eval.FocalLoss(gamma=-1)


@pytest.mark.parametrize("version", KERAS)
def test_each_part_has_an_entry_in_logs_and_a_tag(version, tmp_path):
    of = KERAS[version]
    labels, images = made()
    images = images[..., :3]
    model = of.Sequential([of.layers.Input((6, 5, 3)), of.layers.Conv2D(CLASSES, 1, kernel_initializer="zeros")])
    loss = od_eval.DiceCrossEntropyLoss(ignore_label=IGNORED)
    model.compile(of.optimizers.SGD(0.1), loss=loss, metrics=loss.metrics())
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=1)
    history = model.fit(
        images, labels, batch_size=2, epochs=2, validation_data=(images, labels), callbacks=[logger], verbose=0
    ).history
    first = expected(od_eval.DiceLoss, labels, np.zeros((*labels.shape, CLASSES)))
    assert history["dice_loss"][0] == pytest.approx(first, rel=1e-5)
    assert history["cross_entropy_loss"][0] == pytest.approx(np.log(CLASSES), rel=1e-5)
    for prefix in ("", "val_"):
        parts = np.add(history[f"{prefix}cross_entropy_loss"], history[f"{prefix}dice_loss"])
        np.testing.assert_allclose(history[f"{prefix}loss"], parts, rtol=1e-5)
    assert history["loss"][1] < history["loss"][0]
    for run in ("train", "eval"):
        losses = {tag for tag in read_events.curves(tmp_path / run) if tag.startswith("Loss/")}
        assert losses == {"Loss/total_loss", "Loss/cross_entropy_loss", "Loss/dice_loss"}


def test_losses_are_copied_and_saved_with_their_arguments(tmp_path):
    loss = od_eval.FocalLoss(gamma=1.5, ignore_label=IGNORED, class_weights=WEIGHTS, name="mine")
    labels, logits = made()
    for other in (copy.deepcopy(loss), type(loss).from_config(loss.get_config())):
        assert other.name == "mine"
        assert value(other, labels, logits) == value(loss, labels, logits)
    model = keras.Sequential([keras.layers.Input((6, 5, CLASSES)), keras.layers.Activation("linear")])
    model.compile("sgd", loss=loss, metrics=loss.metrics())
    model.save(tmp_path / "model.keras")
    names = {kind.__name__: kind for kind in LOSSES}
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=names)
    values = loaded.evaluate(logits, labels, verbose=0)
    assert values == pytest.approx([value(loss, labels, logits)] * 2, rel=1e-5)
