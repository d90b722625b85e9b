"""Label maps: which class has which id. Reads and writes the Object Detection API's own proto."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence

from google.protobuf import text_format
from object_detection.protos import string_int_label_map_pb2

from od_eval.errors import ODEvalError
from od_eval.odapi.text_proto import parse_text_proto, read_text

_FREQUENCIES = string_int_label_map_pb2.LVISFrequency


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
    label_map = string_int_label_map_pb2.StringIntLabelMap()
    parse_text_proto(text, label_map, path)
    categories = []
    name_of: dict[int, str] = {}
    id_of: dict[str, int] = {}
    for item in label_map.item:
        if item.id == 0 and "background" in (item.name, item.display_name):
            continue
        if item.id < 1:
            raise ODEvalError(
                f"label map {path}{_line_of_id(text, item.id)}: '{item.name}' has id {item.id}; ids start at 1, as 0 is"
                " the background's."
            )
        if item.id in name_of:
            raise ODEvalError(f"label map {path}: id {item.id} is given to '{name_of[item.id]}' and to '{item.name}'.")
        if item.name in id_of:
            raise ODEvalError(f"label map {path}: '{item.name}' has id {id_of[item.name]} and id {item.id}.")
        name_of[item.id] = item.name
        if item.name:
            id_of[item.name] = item.id
        keypoints = {keypoint.label: keypoint.id for keypoint in item.keypoints}
        frequency = _FREQUENCIES.Name(item.frequency) if item.frequency else ""
        categories.append(Category(item.id, item.name, item.display_name, keypoints, frequency))
    if not categories:
        raise ODEvalError(f"label map {path} has no item; write item {{ id: 1 name: 'cat' }} for each class.")
    return categories


def label_map_text(categories: Sequence[Category]) -> str:
    """The text of a label map of these classes; their names may contain any characters."""
    label_map = string_int_label_map_pb2.StringIntLabelMap()
    for category in categories:
        item = label_map.item.add(id=category.id, name=category.name)
        if category.display_name:
            item.display_name = category.display_name
        if category.frequency:
            item.frequency = _FREQUENCIES.Value(category.frequency)
        for label, index in category.keypoints.items():
            item.keypoints.add(id=index, label=label)
    return text_format.MessageToString(label_map, as_utf8=True)


def _line_of_id(text: str, item_id: int) -> str:
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(rf"\bid\s*:\s*{item_id}\b", line):
            return f":{number}"
    return ""
