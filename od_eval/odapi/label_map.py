"""Label maps: which class has which id. Reads and writes the Object Detection API's own proto, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from object_detection.protos import string_int_label_map_pb2

from od_eval.data.annotations import Category
from od_eval.errors import ODEvalError


def read_label_map(path: Path) -> list[Category]:
    """Reads a label map.

    Args:
      path: a text file (`label_map.pbtxt`).

    Returns:
      The classes as in the file, without the background (id 0).

    Raises:
      ODEvalError: the file is missing or no label map, an id is below 1, or an id or name is given twice.
    """
    label_map = string_int_label_map_pb2.StringIntLabelMap()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), label_map)
    except OSError as error:
        raise ODEvalError(f"label map '{path}' cannot be read: {error.strerror}.") from error
    except text_format.ParseError as error:
        line = f", line {error.GetLine()}" if error.GetLine() else ""
        raise ODEvalError(f"label map '{path}'{line} is not right: {error}.") from error
    except UnicodeDecodeError as error:
        raise ODEvalError(f"label map '{path}' is not text in UTF-8.") from error
    categories = []
    ids: set[int] = set()
    names: set[str] = set()
    for item in label_map.item:
        if item.id == 0 and "background" in (item.name, item.display_name):
            continue
        if item.id < 1:
            raise ODEvalError(f"label map '{path}': '{item.name}' has id {item.id}; ids start at 1.")
        own_names = {item.name, item.display_name} - {""}
        if not own_names:
            raise ODEvalError(f"label map '{path}': the class with id {item.id} has no name.")
        if item.id in ids or own_names & names:
            raise ODEvalError(f"label map '{path}': id {item.id} or the name '{item.name}' is there twice.")
        ids.add(item.id)
        names |= own_names
        keypoints = {keypoint.label: keypoint.id for keypoint in item.keypoints}
        categories.append(Category(item.id, item.name, item.display_name, keypoints))
    if not categories:
        raise ODEvalError(f"label map '{path}' has no class in it.")
    return categories


def label_map_text(categories: Sequence[Category]) -> str:
    """The text of a label map of these classes, whatever is in their names."""
    label_map = string_int_label_map_pb2.StringIntLabelMap()
    for category in categories:
        item = label_map.item.add(id=category.id, name=category.name)
        if category.display_name:
            item.display_name = category.display_name
        for label, index in category.keypoints.items():
            item.keypoints.add(id=index, label=label)
    return text_format.MessageToString(label_map, as_utf8=True)
