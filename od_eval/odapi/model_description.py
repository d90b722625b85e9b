"""What `model.json` tells of an exported model of the Object Detection API; `od_eval.model_json` writes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from od_eval import files

_SIGNATURE_OUTPUTS = {
    "boxes": "detection_boxes",
    "classes": "detection_classes",
    "scores": "detection_scores",
    "num_detections": "num_detections",
}


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
