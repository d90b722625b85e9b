"""Made detectors of one red, green or blue rectangle on black, whose detections are known, as exported models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

import od_eval
from od_eval.deployed.labeled_set import LabeledSet
from od_eval.evaluation.batch import GroundTruth
from od_eval.evaluation.labeled_image import LabeledImage

SIDE = 32
COLORS = {1: "red", 2: "green", 3: "blue"}
SCORE = 0.75
NUM_IMAGES = 12


def image_of(color: int, box: tuple[int, int, int, int], height: int = SIDE, width: int = SIDE) -> npt.NDArray[Any]:
    """uint8 `[height, width, 3]` with a rectangle of an id of `COLORS`; the box is `yxyx` in pixels."""
    image = np.zeros([height, width, 3], np.uint8)
    top, left, bottom, right = box
    image[top:bottom, left:right, color - 1] = 255
    return image


def _found(bright: tf.Tensor) -> dict[str, tf.Tensor]:
    """The rectangle of the brightest channel of bool `[1, height, width, 3]`, as an exporter for TF2 returns it."""
    bright = tf.cast(bright, tf.float32)
    color = tf.argmax(tf.reduce_sum(bright, axis=[1, 2]), axis=-1, output_type=tf.int32)
    mask = tf.reduce_max(bright, axis=3)[0]
    sides = []
    for axis in (1, 0):
        line = tf.reduce_max(mask, axis=axis)
        index = tf.range(tf.shape(line)[0])
        size = tf.cast(tf.shape(line)[0], tf.float32)
        first = tf.reduce_min(tf.where(line > 0, index, tf.shape(line)[0]))
        last = tf.reduce_max(tf.where(line > 0, index, -1)) + 1
        sides.append((tf.cast(first, tf.float32) / size, tf.cast(last, tf.float32) / size))
    (top, bottom), (left, right) = sides
    score = SCORE * tf.reduce_max(mask)
    return {
        "output_0": tf.ones([1]),
        "output_1": tf.reshape(tf.stack([score, 0.0]), [1, 2]),
        "output_2": tf.cast(tf.stack([color, color], axis=1), tf.float32),
        "output_3": tf.reshape(tf.stack([top, left, bottom, right, 0.0, 0.0, 0.0, 0.0]), [1, 2, 4]),
    }


def write_tflite(path: Path, *, normalizes: bool = False, dtype: tf.DType = tf.float32) -> Path:
    """A detector that takes (pixel − 127.5) ÷ 127.5, or pixels, which it normalises itself; with uint8, pixels."""

    @tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, 3], dtype, name="image")])
    def detect(image: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.cast(image, tf.float32)
        if normalizes or dtype == tf.uint8:
            values = (values - 127.5) / 127.5
        return _found(values > 0.5)

    module = tf.Module()
    module.detect = detect
    converter = tf.lite.TFLiteConverter.from_concrete_functions([detect.get_concrete_function()], module)
    path.write_bytes(converter.convert())
    return path


def write_saved_model(
    folder: Path, *, with_masks: bool = False, outputs_of_a_detector: bool = True, takes_batches: bool = False
) -> Path:
    """A detector with the signature of the Object Detection API's exporter; of batches, scores are divided by size."""

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, name="input_tensor")])
    def detect(input_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
        found = _found(input_tensor > 191)
        if not outputs_of_a_detector:
            return found
        masks = {"detection_masks": tf.ones([1, 2, 5, 5])} if with_masks else {}
        return {
            "num_detections": found["output_0"],
            "detection_scores": found["output_1"],
            "detection_classes": found["output_2"] + 1,
            "detection_boxes": found["output_3"],
            "detection_multiclass_scores": tf.zeros([1, 2, len(COLORS) + 1]),
            **masks,
        }

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="input_tensor")])
    def detect_batch(input_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
        types = {name: spec.dtype for name, spec in detect.get_concrete_function().structured_outputs.items()}
        rows = tf.map_fn(lambda image: detect(image[tf.newaxis]), input_tensor, fn_output_signature=types)
        found = {name: values[:, 0] for name, values in rows.items()}
        return {**found, "detection_scores": found["detection_scores"] / tf.cast(tf.shape(input_tensor)[0], tf.float32)}

    module = tf.Module()
    module.detect = detect
    signatures = {"serving_default": detect}
    if takes_batches:
        signatures["detect_batch"] = detect_batch
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def description(**changes: Any) -> dict[str, Any]:
    """The contents of the model.json of `write_tflite`."""
    names = ("num_detections", "scores", "classes", "boxes")
    return {
        "version": 1,
        "format": "tflite",
        "quantization": "none",
        "architecture": "ssd",
        "checkpoint": "runs/a/ckpt-3",
        "step": 1200,
        "input": {
            "name": "image",
            "shape": [1, SIDE, SIDE, 3],
            "dtype": "float32",
            "mean": [127.5] * 3,
            "std": [127.5] * 3,
        },
        "outputs": {name: f"PartitionedCall:{index}" for index, name in enumerate(names)},
        "class_offset": 1,
        "categories": [{"id": id, "name": name, "confidence": 0.25 * id} for id, name in COLORS.items()],
        "confidence": 0.4,
        "max_detections": 2,
        "regular_nms": True,
    } | changes


def write_description(folder: Path, **changes: Any) -> None:
    (folder / "model.json").write_text(json.dumps(description(**changes)))


def model_of(file: Path, folder: Path, **changes: object) -> od_eval.deployed.model.DeployedModel:
    """The model with a model.json of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "model.tflite").write_bytes(file.read_bytes())
    write_description(folder, **changes)
    return od_eval.load_model(folder)


def color_of(index: int) -> int:
    return index % 3 + 1


def box_of(index: int) -> tuple[int, int, int, int]:
    return 2 + index, 4, 14 + index, 20


def labeled_set(categories: dict[int, str] = COLORS, ids: dict[int, int] | None = None) -> LabeledSet:
    """Twelve images, each with its rectangle as the only object."""
    ids = ids or {id: id for id in COLORS}
    images = (
        LabeledImage(
            f"{index}.png",
            image_of(color_of(index), box_of(index)),
            (SIDE, SIDE),
            GroundTruth(boxes=[np.array([box_of(index)], float)], classes=[[ids[color_of(index)]]]),
        )
        for index in range(NUM_IMAGES)
    )
    return LabeledSet("made", categories, images, NUM_IMAGES, masks=False)


def with_masks(labeled: LabeledSet) -> LabeledSet:
    """The same images, whose objects have masks: all of the rectangle."""

    def images():
        for one in labeled.images:
            objects = dataclasses.replace(one.objects, masks=[(one.image.max(axis=2) > 0)[np.newaxis]])
            yield dataclasses.replace(one, objects=objects)

    return dataclasses.replace(labeled, images=images(), masks=True)
