"""TensorFlow Lite's own metadata of a model, which Android's and MediaPipe's readers look for in the `.tflite`.

It is a flatbuffer of the schema `metadata_schema.fbs`, in a buffer of the model named TFLITE_METADATA, and the label
file in a zip archive that follows the model. It is written here, as the libraries that could do it cannot be used:
tflite-support needs protobuf < 4 and has no wheel for Python 3.12; the writer in MediaPipe's wheel (1.2.3) imports a
module that they lack.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as model_schema
from tensorflow.lite.tools import flatbuffer_utils

from od_eval.text import printable, utf8

LABEL_FILE = "labels.txt"
NO_LABEL = "???"  # what MediaPipe takes for a class without a name

# The schema: table -> its fields, in their order. A union has two, the first of which is its type.
_FIELDS = {
    "ModelMetadata": "name description version subgraph_metadata author license associated_files min_parser_version",
    "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata associated_files"
    " input_process_units output_process_units input_tensor_groups output_tensor_groups",
    "TensorMetadata": "name description dimension_names content process_units stats associated_files",
    "Content": "content_properties_type content_properties range",
    "ImageProperties": "color_space default_size",
    "ImageSize": "width height",
    "BoundingBoxProperties": "index type coordinate_type",
    "FeatureProperties": "",
    "ValueRange": "min max",
    "ProcessUnit": "options_type options",
    "NormalizationOptions": "mean std",
    "ScoreThresholdingOptions": "global_score_threshold",
    "AssociatedFile": "name description type",
    "TensorGroup": "name tensor_names",
}
_CONTENT_TYPES = {"FeatureProperties": 1, "ImageProperties": 2, "BoundingBoxProperties": 3}
_OPTIONS_TYPES = {"NormalizationOptions": 1, "ScoreThresholdingOptions": 3}
_RGB, _GRAYSCALE = 1, 2
_BOUNDARIES, _RATIO = 1, 0
_TENSOR_VALUE_LABELS = 3
_MIN_PARSER_VERSION = "1.2.0"  # the first one with groups of tensors
# What an output is -> its name, by which MediaPipe looks for it, and its description.
_OUTPUTS = {
    "boxes": ("location", "Boxes around the objects: ymin, xmin, ymax, xmax as parts of the image."),
    "classes": ("category", f"Class of each box: a line of {LABEL_FILE}, from 0."),
    "scores": ("score", "Score of each box, in descending order."),
    "num_detections": ("number of detections", "The number of boxes."),
}
_Table = tuple[str, Mapping[str, Any]]


def with_metadata(
    model: bytes,
    *,
    name: str,
    description: str,
    shape: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    outputs: Sequence[str],
    labels: Sequence[str],
    score_threshold: float | None,
) -> bytes:
    """A detector for TensorFlow Lite with its metadata and labels.

    Args:
      model: a `.tflite` with one input, an image.
      name, description: of the model.
      shape: of the input, `[1, height, width, channels]`.
      mean, std: per channel: the input is (pixel − mean) / std of pixels from 0 to 255, quantized if it is an integer.
      outputs: what each output of the model is, in their order: `boxes`, `classes`, `scores`, `num_detections`, or
        another word.
      labels: the names of the classes, by the index that the model gives.
      score_threshold: the confidence from which detections are used, if it is known.

    Returns:
      The contents of the file.
    """
    image = {
        "color_space": np.int8(_GRAYSCALE if shape[3] == 1 else _RGB),
        "default_size": _table("ImageSize", width=np.uint32(shape[2]), height=np.uint32(shape[1])),
    }
    normalization = {"mean": np.array(mean, np.float32), "std": np.array(std, np.float32)}
    of_input = _table(
        "TensorMetadata",
        name="image",
        description=f"Image to detect objects in, {shape[1]} × {shape[2]} pixels (height × width).",
        content=_content("ImageProperties", **image),
        process_units=[_process_unit("NormalizationOptions", **normalization)],
    )
    of_a_box = [_OUTPUTS[output][0] for output in ("boxes", "classes", "scores")]
    subgraph = _table(
        "SubGraphMetadata",
        input_tensor_metadata=[of_input],
        output_tensor_metadata=[_output(output, score_threshold) for output in outputs],
        output_tensor_groups=[_table("TensorGroup", name="detection_result", tensor_names=of_a_box)],
    )
    metadata = _table(
        "ModelMetadata",
        name=utf8(name),
        description=utf8(description),
        subgraph_metadata=[subgraph],
        min_parser_version=_MIN_PARSER_VERSION,
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, metadata), b"M001")
    # A name with a line break would move all labels after it.
    lines = "".join(f"{utf8(printable(label))}\n" for label in labels)
    return _with_file(_with_buffer(model, "TFLITE_METADATA", bytes(builder.Output())), LABEL_FILE, lines)


def _output(output: str, score_threshold: float | None) -> _Table:
    """The metadata of an output of the model."""
    name, description = _OUTPUTS.get(output, (output, ""))
    fields: dict[str, Any] = {"name": name, "description": description}
    if output in _OUTPUTS and output != "num_detections":
        properties = {
            "index": np.array([1, 0, 3, 2], np.uint32),
            "type": np.int8(_BOUNDARIES),
            "coordinate_type": np.int8(_RATIO),
        }
        fields["content"] = (
            _content("BoundingBoxProperties", **properties) if output == "boxes" else _content("FeatureProperties")
        )
    if output == "classes":
        file = {"name": LABEL_FILE, "description": "The names of the classes.", "type": np.int8(_TENSOR_VALUE_LABELS)}
        fields["associated_files"] = [_table("AssociatedFile", **file)]
    if output == "scores" and score_threshold is not None:
        threshold = np.float32(score_threshold)
        fields["process_units"] = [_process_unit("ScoreThresholdingOptions", global_score_threshold=threshold)]
    return _table("TensorMetadata", **fields)


def _content(name: str, **fields: Any) -> _Table:
    # The values of a box, a class and a score are counted along the second axis, the boxes.
    extent = {} if name == "ImageProperties" else {"range": _table("ValueRange", min=np.int32(2), max=np.int32(2))}
    of_type = {"content_properties_type": np.uint8(_CONTENT_TYPES[name]), "content_properties": _table(name, **fields)}
    return _table("Content", **of_type, **extent)


def _process_unit(name: str, **fields: Any) -> _Table:
    return _table("ProcessUnit", options_type=np.uint8(_OPTIONS_TYPES[name]), options=_table(name, **fields))


def _table(table: str, /, **fields: Any) -> _Table:
    """A table of the schema with values of these fields, which `_write` knows."""
    return table, fields


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Writes a table, a string, an array of numbers, or a list of tables or strings; returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        offsets = [_write(builder, one) for one in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    table, fields = value
    names = _FIELDS[table].split()
    # What a table refers to is written before it.
    written = {name: one if isinstance(one, np.generic) else _write(builder, one) for name, one in fields.items()}
    builder.StartObject(len(names))
    for name, one in written.items():
        slot = names.index(name)
        if isinstance(one, np.generic):
            getattr(builder, f"Prepend{one.dtype.name.capitalize()}Slot")(slot, one.item(), None)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, one, 0)
    return builder.EndObject()


def _with_buffer(model: bytes, name: str, data: bytes) -> bytes:
    """The model with a further buffer, which is listed among its metadata by a name."""
    contents = flatbuffer_utils.convert_bytearray_to_object(model)
    buffer, entry = model_schema.BufferT(), model_schema.MetadataT()
    buffer.data = np.frombuffer(data, np.uint8)
    contents.buffers.append(buffer)
    entry.name, entry.buffer = name, len(contents.buffers) - 1
    contents.metadata = [*(contents.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(contents))


def _with_file(model: bytes, name: str, text: str) -> bytes:
    """The model, followed by an archive with one file, which is not compressed: readers on devices do not inflate."""
    archive = io.BytesIO(model)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(zipfile.ZipInfo(name), text)  # without the time, so that the same model gives the same file
    return archive.getvalue()
