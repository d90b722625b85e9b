"""model.json, which `od-eval export` writes beside a model: what its inputs and outputs mean."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from od_eval import files
from od_eval.coco_ids import is_number
from od_eval.errors import ODEvalError
from od_eval.text import as_json

FILE_NAME = "model.json"
VERSION = 1
# Of a SavedModel: the signature that takes any number of images of one size.
BATCH_SIGNATURE = "detect_batch"
OUTPUTS = ("boxes", "classes", "scores", "num_detections")


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """The contents of a model.json.

    Attributes:
      path: of the file.
      format: `tflite` or `saved_model`.
      quantization: `none`, `dynamic`, `float16`, `int8` or `full_int8`.
      step: the training step of the weights; None if unknown.
      input_shape: `[1, height, width, 3]`, with None for a size that varies; `[None]` of encoded images.
      mean, std: for each channel, the model's input is (pixel − mean) ÷ std; None if it is pixel values.
      outputs: those of `OUTPUTS` that the model has -> the name of a tensor, or of an output of the signature.
      class_offset: is added to a class of the model to give an id of the label map.
      categories: id of the label map -> name.
      confidence: category id -> the score from which on its detections are to be used; None if nobody has chosen any.
    """

    path: str
    format: str
    quantization: str
    step: int | None
    input_shape: Sequence[int | None]
    mean: Sequence[float] | None
    std: Sequence[float] | None
    outputs: Mapping[str, str]
    class_offset: int
    categories: Mapping[int, str]
    confidence: Mapping[int, float] | None


def read_model_json(folder: str, model_format: str) -> ModelDescription | None:
    """Reads the model.json of a folder.

    Args:
      folder: where the model is.
      model_format: of the model.

    Returns:
      Its contents; None if there is none, or it describes a model of another format.

    Raises:
      ODEvalError: it is damaged, or written by a later version of this package.
    """
    path = os.path.join(folder, FILE_NAME)
    with files.errors_as_sentences(f"'{path}' cannot be looked up"):
        if not files.exists(path):
            return None
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no object")
    if content.get("version") != VERSION:
        raise ODEvalError(
            f"'{path}' is of version {as_json(content.get('version'))}, and this od-eval reads version {VERSION};"
            " export the model again, or use the od-eval that wrote it."
        )
    if content.get("format") != model_format:
        return None
    read = _Reader(path)
    input_ = read.field(content, "input", _is_object)
    mean, std = (read.field(input_, name, _is_channels_or_none, "input.") for name in ("mean", "std"))
    if (mean is None) != (std is None) or (std is not None and not all(std)):
        raise _damaged(path, f"input.mean is {as_json(mean)} and input.std is {as_json(std)}")
    outputs = read.field(content, "outputs", _is_object)
    overall = read.field(content, "confidence", _is_number_or_none)
    categories, confidence = {}, {}
    for index, entry in enumerate(read.field(content, "categories", lambda value: isinstance(value, list))):
        where = f"categories[{index}]"
        if not isinstance(entry, dict):
            raise _damaged(path, f"{where} is {as_json(entry)}")
        id = read.field(entry, "id", _is_whole, f"{where}.")
        if id in categories:
            raise _damaged(path, f"{where}.id is {id}, and so is another's")
        categories[id] = read.field(entry, "name", _is_text, f"{where}.")
        chosen = read.field(entry, "confidence", _is_number_or_none, f"{where}.")
        if chosen is not None or overall is not None:
            confidence[id] = float(overall if chosen is None else chosen)
    return ModelDescription(
        path=path,
        format=model_format,
        quantization=read.field(content, "quantization", _is_text),
        step=read.field(content, "step", lambda value: value is None or (_is_whole(value) and value >= 0)),
        input_shape=read.field(input_, "shape", lambda value: isinstance(value, list), "input."),
        mean=mean,
        std=std,
        outputs={name: read.field(outputs, name, _is_text, "outputs.") for name in OUTPUTS if name in outputs},
        class_offset=read.field(content, "class_offset", _is_whole),
        categories=categories,
        confidence=confidence or None,
    )


def write_model_json(directory: str, fields: Mapping[str, Any]) -> None:
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
    files.write_whole(os.path.join(directory, FILE_NAME), text)


class _Reader:
    def __init__(self, path: str):
        self._path = path

    def field(self, content: Mapping[str, Any], name: str, is_right: Callable[[Any], bool], where: str = "") -> Any:
        value = content.get(name)
        if name not in content:
            raise _damaged(self._path, f"it has no {where}{name}")
        if not is_right(value):
            raise _damaged(self._path, f"{where}{name} is {as_json(value)}")
        return value


def _damaged(path: str, what: str) -> ODEvalError:
    return ODEvalError(f"'{path}' is damaged: {what}; export the model again.")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number_or_none(value: Any) -> bool:
    return value is None or is_number(value)


def _is_channels_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) in (1, 3) and all(map(is_number, value)))
