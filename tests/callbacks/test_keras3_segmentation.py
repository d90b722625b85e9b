"""Semantic segmentation with models of Keras 3, on the backend of this process (`scripts/test.sh --backend=jax`).

Losses and metrics are compared with NumPy's, the same for each backend.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import keras
import numpy as np
import pytest

import od_eval
import read_events
from od_eval.data.shapes import SEGMENTATION_CATEGORIES, draw_image

IGNORE = 255
OPTIONS = od_eval.SegmentationOptions(SEGMENTATION_CATEGORIES, ignore_label=IGNORE, num_pictures=1)
NUM_CLASSES = len(SEGMENTATION_CATEGORIES)


def shapes(num: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images from 0 to 1, and labels; the first row is ignored."""
    ids = {name: id for id, name in SEGMENTATION_CATEGORIES.items()}
    images, labels = [], []
    for index in range(num):
        drawn = draw_image(np.random.default_rng(index), size, 3)
        images.append(drawn.pixels.astype(np.float32) / 255)
        of_image = np.zeros((size, size), np.int32)
        for name, mask in zip(drawn.class_names, drawn.masks, strict=True):
            of_image[mask] = ids[name]
        of_image[0] = IGNORE
        labels.append(of_image)
    return np.stack(images), np.stack(labels)


def by_hand(model: Any, images: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Cross-entropy, dice loss and pixel accuracy, over all pixels of the images at once."""
    logits = images @ np.asarray(model.get_weights()[0], np.float64)[0, 0]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p = (p / p.sum(-1, keepdims=True))[labels != IGNORE]
    of_pixels = labels[labels != IGNORE]
    is_class = of_pixels[:, np.newaxis] == np.arange(NUM_CLASSES)
    dice = 2 * (p * is_class).sum(0) / (p.sum(0) + is_class.sum(0))
    cross_entropy = -np.log(p[is_class]).mean()
    return cross_entropy, 1 - dice[is_class.any(0)].mean(), float((p.argmax(-1) == of_pixels).mean())


def test_losses_and_metrics_are_those_of_numpy_after_every_epoch(tmp_path):
    images, labels = shapes(6, 32)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(NUM_CLASSES, 1, use_bias=False)])
    loss = od_eval.DiceCrossEntropyLoss(ignore_label=IGNORE)
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=loss.metrics())
    expected = []

    class ByHand(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            expected.append(by_hand(self.model, images, labels))

    evaluation = od_eval.SegmentationEvaluation([(images, labels)], tmp_path, options=OPTIONS)
    callbacks = [
        ByHand(),
        od_eval.LossLogger(tmp_path, log_every_n_steps=1),
        evaluation,
        od_eval.BestCheckpoint(tmp_path),
    ]
    model.fit(images, labels, batch_size=3, epochs=2, verbose=0, callbacks=callbacks)
    assert evaluation.failures == []
    written = od_eval.load_metrics(tmp_path, every=True)
    for of_epoch, (cross_entropy, dice, accuracy) in zip(written, expected, strict=True):
        assert of_epoch["losses"]["cross_entropy_loss"] == pytest.approx(cross_entropy, abs=1e-4)
        assert of_epoch["losses"]["dice_loss"] == pytest.approx(dice, abs=1e-4)
        assert of_epoch["losses"]["total_loss"] == pytest.approx(cross_entropy + dice, abs=1e-4)
        assert of_epoch["segmentation"]["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-3)  # where two are as high
        assert of_epoch["segmentation"]["num_ignored"] == 6 * 32
    of_train, of_eval = (read_events.curves(tmp_path / run) for run in ("train", "eval"))
    for tag in ("Loss/total_loss", "Loss/cross_entropy_loss", "Loss/dice_loss"):
        assert len(of_train[tag]) == 4
        assert of_eval[tag].keys() == {2, 4}
    assert not any("other_loss" in tag for tag in of_train.keys() | of_eval.keys())
    assert "segmentation_worst/0" in read_events.shown_images(tmp_path / "eval")
    assert len(list((tmp_path / "best").glob("ckpt-*.weights.h5"))) == 1


@pytest.mark.slow
def test_deeplab_v3_of_keras_hub_learns_shapes(tmp_path):
    keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is absent: scripts/test.sh --backend=jax")
    images, labels = shapes(24, 64)
    keras.utils.set_random_seed(0)
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64, 64, 64],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        spatial_pyramid_pooling_key="P4",
        upsampling_size=4,
        dilation_rates=[2, 4],
        low_level_feature_key="P2",
        projection_filters=16,
    )
    model = keras_hub.models.DeepLabV3ImageSegmenter(backbone=backbone, num_classes=NUM_CLASSES, preprocessor=None)
    loss = od_eval.DiceCrossEntropyLoss(ignore_label=IGNORE)
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss=loss, metrics=loss.metrics())
    batches = [(images[first : first + 8], labels[first : first + 8]) for first in range(0, len(images), 8)]
    evaluation = od_eval.SegmentationEvaluation(batches, tmp_path, options=OPTIONS, every_n_epochs=10)
    callbacks = [od_eval.LossLogger(tmp_path, log_every_n_steps=5), evaluation]
    history = model.fit(images, labels, batch_size=8, epochs=30, verbose=0, callbacks=callbacks).history
    assert evaluation.failures == []
    first, *_, last = history["val_IoU"]
    assert last > first + 0.1
    assert history["loss"][-1] < 0.5 * history["loss"][0]
