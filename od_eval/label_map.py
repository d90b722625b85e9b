"""Label maps: which class has which id. Reads and writes the Object Detection API's text format without needing it."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from od_eval.errors import ODEvalError
from od_eval.text import named
from od_eval.text_proto import parse_text_proto, read_text

# The Object Detection API's `string_int_label_map.proto`. Its own module can only be imported where it is installed.
_SCHEMA = """
  name: "object_detection/protos/string_int_label_map.proto"
  package: "object_detection.protos"
  message_type {
    name: "StringIntLabelMapItem"
    field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "id" number: 2 label: LABEL_OPTIONAL type: TYPE_INT32 }
    field { name: "display_name" number: 3 label: LABEL_OPTIONAL type: TYPE_STRING }
    field {
      name: "keypoints" number: 4 label: LABEL_REPEATED type: TYPE_MESSAGE
      type_name: ".object_detection.protos.StringIntLabelMapItem.KeypointMap"
    }
    field { name: "ancestor_ids" number: 5 label: LABEL_REPEATED type: TYPE_INT32 }
    field { name: "descendant_ids" number: 6 label: LABEL_REPEATED type: TYPE_INT32 }
    field {
      name: "frequency" number: 7 label: LABEL_OPTIONAL type: TYPE_ENUM
      type_name: ".object_detection.protos.LVISFrequency"
    }
    field { name: "instance_count" number: 8 label: LABEL_OPTIONAL type: TYPE_INT32 }
    nested_type {
      name: "KeypointMap"
      field { name: "id" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 }
      field { name: "label" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
    }
  }
  message_type {
    name: "StringIntLabelMap"
    field {
      name: "item" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE
      type_name: ".object_detection.protos.StringIntLabelMapItem"
    }
  }
  enum_type {
    name: "LVISFrequency"
    value { name: "UNSPECIFIED" number: 0 }
    value { name: "FREQUENT" number: 1 }
    value { name: "COMMON" number: 2 }
    value { name: "RARE" number: 3 }
  }
"""
# A pool of its own: the default one may get the same file from the Object Detection API.
_FILE = descriptor_pool.DescriptorPool().AddSerializedFile(
    text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()).SerializeToString()
)
_LabelMap = message_factory.GetMessageClass(_FILE.message_types_by_name["StringIntLabelMap"])
_FREQUENCIES = _FILE.enum_types_by_name["LVISFrequency"]


@dataclasses.dataclass(frozen=True)
class Category:
    """One class of a label map.

    Attributes:
      id: from 1.
      name: the name used in annotations.
      display_name: another name; may be empty.
      keypoints: name of a keypoint -> its index in every object's list of keypoints, from 0.
      frequency: the frequency of the class in the data, for LVIS metrics: `FREQUENT`, `COMMON` or `RARE`; empty if the
        label map does not give it.
    """

    id: int
    name: str
    display_name: str = ""
    keypoints: dict[str, int] = dataclasses.field(default_factory=dict)
    frequency: str = ""


def read_label_map(path: str | os.PathLike[str], what: str = "label map") -> list[Category]:
    """Reads a label map.

    Args:
      path: a text file (`label_map.pbtxt`), local or on any file system that TensorFlow supports.
      what: the description of the file in messages.

    Returns:
      The classes as in the file, without the background (id 0).

    Raises:
      ODEvalError: the file cannot be read or parsed, contains no class, or has an id below 1, or an id or a name occurs
        twice.
    """
    path = os.fspath(path)
    text = read_text(path, what)
    label_map = _LabelMap()
    parse_text_proto(text, label_map, path)
    categories = []
    name_of: dict[int, str] = {}
    id_of: dict[str, int] = {}
    for item in label_map.item:
        if item.id == 0 and "background" in (item.name, item.display_name):
            continue
        if item.id < 1:
            raise ODEvalError(
                f"label map {path}{_line_of_id(text, item.id)}: '{named(item.name)}' has id {item.id}; ids start at 1,"
                " as 0 is the background's."
            )
        if item.id in name_of:
            names = f"'{named(name_of[item.id])}' and to '{named(item.name)}'"
            raise ODEvalError(f"label map {path}: id {item.id} is given to {names}.")
        if item.name in id_of:
            raise ODEvalError(f"label map {path}: '{named(item.name)}' has id {id_of[item.name]} and id {item.id}.")
        name_of[item.id] = item.name
        if item.name:
            id_of[item.name] = item.id
        keypoints = {keypoint.label: keypoint.id for keypoint in item.keypoints}
        frequency = _FREQUENCIES.values_by_number[item.frequency].name if item.frequency else ""
        categories.append(Category(item.id, item.name, item.display_name, keypoints, frequency))
    if not categories:
        raise ODEvalError(f"label map {path} has no item; write item {{ id: 1 name: 'cat' }} for each class.")
    return categories


def label_map_text(categories: Sequence[Category]) -> str:
    """The text of a label map of these classes; their names may contain any characters."""
    label_map = _LabelMap()
    for category in categories:
        item = label_map.item.add(id=category.id, name=category.name)
        if category.display_name:
            item.display_name = category.display_name
        if category.frequency:
            item.frequency = _FREQUENCIES.values_by_name[category.frequency].number
        for label, index in category.keypoints.items():
            item.keypoints.add(id=index, label=label)
    return text_format.MessageToString(label_map, as_utf8=True)


def _line_of_id(text: str, item_id: int) -> str:
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(rf"\bid\s*:\s*{item_id}\b", line):
            return f":{number}"
    return ""
