"""What a .tflite file tells of itself in TensorFlow Lite's own metadata: normalisation and labels.

The metadata is a flatbuffer inside of the model, the files it is associated with are a zip archive at its end. Fields
are counted as in `metadata_schema.fbs` of TensorFlow Lite, for which no library is needed.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers

from od_eval.errors import ODEvalError

_METADATA = b"TFLITE_METADATA"
# Of the tables: ModelMetadata, SubGraphMetadata, TensorMetadata, ProcessUnit, NormalizationOptions.
_SUBGRAPHS, _INPUTS, _PROCESS_UNITS, _OPTIONS_TYPE, _OPTIONS, _MEAN, _STD = 3, 2, 4, 0, 1, 0, 1
_NORMALIZATION = 1
# In the file of labels for an index without a class.
NO_CLASS = "???"


@dataclasses.dataclass(frozen=True)
class TFLiteMetadata:
    """What the metadata tells.

    Attributes:
      mean, std: for each channel, the model's input is (pixel − mean) ÷ std; None if it does not tell.
      labels: the name of each class index; empty if there is no file of labels.
    """

    mean: Sequence[float] | None
    std: Sequence[float] | None
    labels: Sequence[str]


def read_metadata(path: str, contents: bytes, schema: Any) -> TFLiteMetadata:
    """Reads the metadata of a model.

    Args:
      path: of the file, for messages.
      contents: of the file.
      schema: the module `schema_py_generated` of the runtime.

    Raises:
      ODEvalError: the metadata is damaged.
    """
    try:
        mean, std = _normalization(contents, schema)
        return TFLiteMetadata(mean, std, _labels(contents))
    except (struct.error, zipfile.BadZipFile, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ODEvalError(f"'{path}': its metadata is damaged ({error}); export the model again.") from error


def _normalization(contents: bytes, schema: Any) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    model = schema.Model.GetRootAs(contents, 0)
    for entry in (model.Metadata(index) for index in range(model.MetadataLength())):
        if entry.Name() != _METADATA:
            continue
        buffer = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
        root = flatbuffers.table.Table(buffer, struct.unpack_from("<I", buffer)[0])
        for subgraph in _tables(root, _SUBGRAPHS)[:1]:
            for tensor in _tables(subgraph, _INPUTS)[:1]:
                for unit in _tables(tensor, _PROCESS_UNITS):
                    type_at = unit.Offset(4 + 2 * _OPTIONS_TYPE)
                    options_at = unit.Offset(4 + 2 * _OPTIONS)
                    if type_at and options_at and buffer[unit.Pos + type_at] == _NORMALIZATION:
                        options = flatbuffers.table.Table(buffer, unit.Indirect(unit.Pos + options_at))
                        return _floats(options, _MEAN), _floats(options, _STD)
    return None, None


def _tables(table: Any, field: int) -> list[Any]:
    """The tables in a vector; empty if the field is not there."""
    at = table.Offset(4 + 2 * field)
    if not at:
        return []
    begin = table.Vector(at)
    places = (table.Indirect(begin + 4 * index) for index in range(table.VectorLen(at)))
    return [flatbuffers.table.Table(table.Bytes, place) for place in places]


def _floats(table: Any, field: int) -> list[float]:
    at = table.Offset(4 + 2 * field)
    if not at:
        return []
    return list(struct.unpack_from(f"<{table.VectorLen(at)}f", table.Bytes, table.Vector(at)))


def _labels(contents: bytes) -> list[str]:
    if not zipfile.is_zipfile(io.BytesIO(contents)):
        return []
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".txt")]
        # One that is bare is of the field's usual labels; others may be in further languages.
        return archive.read(names[0]).decode("utf-8").rstrip("\n").split("\n") if names else []
