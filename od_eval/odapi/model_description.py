"""`model.json` beside an exported model: what goes in, what comes out, and from which confidence on it counts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from od_eval import files

VERSION = 1
_SIGNATURE_OUTPUTS = {
    "boxes": "detection_boxes",
    "classes": "detection_classes",
    "scores": "detection_scores",
    "num_detections": "num_detections",
}


def write_description(directory: str, fields: Mapping[str, Any]) -> None:
    """Writes `model.json`.

    Args:
      directory: the folder of the exported model.
      fields: of the description:

        * `format` (`tflite` or `saved_model`), `quantization`, `architecture`, `checkpoint`, `step` (or None)
        * `input`: `name`, `shape` (None where any size is taken), `dtype`, `mean` and `std` per channel: the model
          takes (pixel − mean) / std of RGB pixels from 0 to 255, or the pixels if these are None; a uint8 input of a
          `.tflite` takes that as its scale and zero point quantize it
        * `outputs`: what it is (`boxes`, `classes`, `scores`, `num_detections`) -> name of the tensor of a `.tflite`,
          or of the output of a SavedModel's signature
        * `class_offset`: what is added to a class of the model to get an id of the label map
        * `categories`: `id`, `name` and `confidence` of each; `confidence` over all: the operating points, or None
        * `max_detections` (None if unknown); `regular_nms`: whether overlapping boxes are suppressed as by the
          checkpoint, or by TensorFlow Lite's faster way
        * `calibration`, if it was calibrated: `num_images`, and `num_showing`: name of a category -> how many of these
          images show it

    Raises:
      ODEvalError: it cannot be written.
    """
    text = json.dumps({"version": VERSION, **fields}, indent=1, allow_nan=False) + "\n"
    files.write_whole(os.path.join(directory, "model.json"), text)


def described_categories(
    names: Mapping[int, str], operating_point: Mapping[str, Any] | None
) -> tuple[list[dict[str, Any]], float | None]:
    """The fields `categories` and `confidence` of a description.

    Args:
      names: id -> name of each category, as in an evaluation.
      operating_point: the section of that name of an evaluation's metrics, or None.
    """
    point = operating_point or {}
    of_categories = point.get("per_category", {})
    categories = [
        {"id": number, "name": name, "confidence": of_categories.get(name, {}).get("best_confidence")}
        for number, name in names.items()
    ]
    # An evaluation without any right detection has nothing to choose it by.
    return categories, None if point.get("chosen_by") == "default" else point.get("confidence")


def described_signature(saved_model: str) -> dict[str, Any]:
    """The fields `input`, `outputs` and `max_detections` of a SavedModel that the Object Detection API exported.

    Args:
      saved_model: its folder.
    """
    data = files.read_bytes(os.path.join(saved_model, "saved_model.pb"))
    signature = saved_model_pb2.SavedModel.FromString(data).meta_graphs[0].signature_def["serving_default"]
    # Side inputs come in addition to the image.
    name = "input_tensor" if "input_tensor" in signature.inputs else min(signature.inputs)
    taken = signature.inputs[name]
    outputs = {what: name for what, name in _SIGNATURE_OUTPUTS.items() if name in signature.outputs}
    scores = signature.outputs.get("detection_scores")
    shape = _sizes(scores.tensor_shape) if scores is not None else []
    return {
        "input": {
            "name": name,
            "shape": _sizes(taken.tensor_shape),
            "dtype": tf.as_dtype(taken.dtype).name,
            "mean": None,
            "std": None,
        },
        "outputs": outputs,
        "max_detections": shape[1] if len(shape) > 1 else None,
    }


def _sizes(shape: Any) -> Sequence[int | None]:
    return [None if dimension.size < 0 else int(dimension.size) for dimension in shape.dim]
