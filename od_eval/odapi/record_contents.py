"""What the Object Detection API makes of a record: what it cannot read, and which objects it drops or mistakes.

It drops objects without a word, and labels that no class has make an object background in training and class 1 in
evaluation. Here the same is found from the record alone, without decoding its image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from google.protobuf.message import DecodeError
from tensorflow.core.example import example_pb2

from od_eval.text import named, short

_CORNERS = ("ymin", "xmin", "ymax", "xmax")
_BOX = "image/object/bbox/"
TEXT, _LABEL = "image/object/class/text", "image/object/class/label"  # of the classes of objects
_COORDINATES = tuple(f"{_BOX}{corner}" for corner in _CORNERS)
# Features with one value for each object, if they are given at all.
_OF_OBJECTS = tuple(f"image/object/{name}" for name in ("is_crowd", "difficult", "group_of", "weight", "area"))
# Features whose type the decoder insists on; an empty one has none.
_TYPES = {
    **dict.fromkeys(_COORDINATES, "float_list"),
    **dict.fromkeys(("image/encoded", "image/filename", "image/format", "image/source_id", TEXT), "bytes_list"),
    **dict.fromkeys(("image/height", "image/width", _LABEL), "int64_list"),
    **dict.fromkeys([f"image/object/{name}" for name in ("is_crowd", "difficult", "group_of")], "int64_list"),
    **dict.fromkeys([f"image/object/{name}" for name in ("weight", "area")], "float_list"),
}
_CALLED = {"float_list": "floats", "int64_list": "integers", "bytes_list": "strings"}
# Beginning of a file -> a format that it tells, and that TensorFlow does not decode here.
_UNREADABLE_FORMATS = {b"GIF8": "GIF", b"RIFF": "WebP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"\0\0\0": "HEIC or AVIF"}
# Above it, its evaluation fails (`assert_box_normalized`); a little over the edge is usual.
_LARGEST_COORDINATE = 1.1


class BrokenRecord(Exception):
    """A record that cannot be read: a clause that begins with a verb, `has no feature 'image/encoded'`."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """How an input reader tells classes.

    Attributes:
      ids: name or display name in the label map -> id; None if it has no label map.
      num_classes: the number of classes of the model.
      path: of the label map, for messages.
    """

    ids: Mapping[str, int] | None
    num_classes: int
    path: str = ""


@dataclasses.dataclass(frozen=True)
class Loss:
    """A way in which objects are lost.

    Attributes:
      how: `dropped`: as if the object were not there; `mistaken`: it becomes background or another class; `unnamed`: it
        is trained, but no evaluation knows its class.
      why: a clause: `class 'mug' is not in the label map`.
      text: the class text that is not in the label map, if that is why.
    """

    how: Literal["dropped", "mistaken", "unnamed"]
    why: str
    text: str = ""


def parse(serialized: bytes) -> example_pb2.Example:
    """Reads a record and checks that the Object Detection API can decode it, but for its image.

    Args:
      serialized: a record of a TFRecord file.

    Raises:
      BrokenRecord: it cannot.
    """
    example = example_pb2.Example()
    try:
        example.ParseFromString(serialized)
    except DecodeError as error:
        raise BrokenRecord(f"is not a tf.train.Example ({error})") from error
    features = example.features.feature
    if "image/encoded" not in features:
        raise BrokenRecord("has no feature 'image/encoded'")
    # Read once: that costs as much as what is checked of it.
    kinds = {name: feature.WhichOneof("kind") for name, feature in features.items() if name in _TYPES}
    values = {name: getattr(features[name], kind).value if kind else () for name, kind in kinds.items()}
    for name, wanted in _TYPES.items():
        if kinds.get(name) not in (None, wanted) and values[name]:
            raise BrokenRecord(f"has {_CALLED[kinds[name]]} in '{name}', which must be {_CALLED[wanted]}")
    _check_image(values)
    _check_objects(values)
    return example


def name_of_image(features: Mapping[str, Any]) -> str:
    """The name of the image file in the features of a record, for messages: `'a.jpg'`."""
    return _shown_name(values_of(features, "image/filename"))


def _shown_name(values: Sequence[bytes]) -> str:
    return short(b"".join(values[:1]).decode("utf-8", "replace"), 200)


def losses(example: example_pb2.Example, classes: Classes) -> Iterator[Loss | None]:
    """What becomes of the objects of a record.

    Args:
      example: from `parse`.
      classes: of the input reader.

    Yields:
      For each object how it is lost, or None if it is trained on as it is meant.

    Raises:
      BrokenRecord: its objects have a class text alone, and the reader has no label map to look it up in.
    """
    features = example.features.feature
    boxes = list(zip(*(values_of(features, name) for name in _COORDINATES), strict=True))
    texts = values_of(features, TEXT) if classes.ids is not None else []
    labels = values_of(features, _LABEL)
    if boxes and not texts and not labels:
        raise BrokenRecord(f"has no '{_LABEL}', which the input reader needs, as it has no label_map_path")
    for index, box in enumerate(boxes):
        if not all(map(math.isfinite, box)):
            yield Loss("dropped", "a coordinate is not a finite number")
        elif texts:
            yield _loss_of_text(texts[index].decode("utf-8", "replace"), classes)
        else:
            yield _loss_of_label(labels[index], classes)


def _loss_of_text(text: str, classes: Classes) -> Loss | None:
    assert classes.ids is not None
    if text in classes.ids:
        return None
    if not text:
        return Loss("mistaken", "class text is empty, which can be taken for a class without display_name")
    return Loss("dropped", f"class '{named(text)}' is not in label map {classes.path}", text)


def _loss_of_label(label: int, classes: Classes) -> Loss | None:
    if label < 0:
        return Loss("dropped", f"class label {label} is below 0")
    if label == 0 or label > classes.num_classes:
        return Loss(
            "mistaken", f"class label {label} is not between 1 and {classes.num_classes}, the model's num_classes"
        )
    if classes.ids is not None and label not in classes.ids.values():
        return Loss("unnamed", f"class label {label} is not in label map {classes.path}")
    return None


def _check_image(values: Mapping[str, Sequence[Any]]) -> None:
    encoded = values["image/encoded"][0] if values["image/encoded"] else b""
    unreadable = ""
    if not encoded:
        unreadable = "it is empty"
    for beginning, called in _UNREADABLE_FORMATS.items():
        if encoded.startswith(beginning) and (called != "WebP" or encoded[8:12] == b"WEBP"):
            unreadable = f"it is a {called}; make it a JPEG or PNG"
    if unreadable:
        name = _shown_name(values.get("image/filename", ()))
        raise BrokenRecord(f"holds an image that does not decode, {name} ({unreadable})")


def _check_objects(values: Mapping[str, Sequence[Any]]) -> None:
    coordinates = [values.get(name, ()) for name in _COORDINATES]
    lengths = dict(zip(_COORDINATES, map(len, coordinates), strict=True))
    num_objects = max(lengths.values())
    texts, labels = len(values.get(TEXT, ())), len(values.get(_LABEL, ()))
    if texts:
        lengths[TEXT] = texts
    if labels or not texts:
        lengths[_LABEL] = labels
    for name in _OF_OBJECTS:
        if values.get(name):
            lengths[name] = len(values[name])
    wrong = next((name for name, length in lengths.items() if length != num_objects), None)
    if wrong:
        longest = next(name for name, length in lengths.items() if length == num_objects)
        raise BrokenRecord(f"has {num_objects} values in '{longest}' and {lengths[wrong]} in '{wrong}'")
    for index, box in enumerate(zip(*coordinates, strict=True)):
        ymin, xmin, ymax, xmax = box
        if any(_LARGEST_COORDINATE < value < math.inf for value in box):
            raise BrokenRecord(
                f"has a box in pixels ({_shown_box(index, box)}); coordinates are parts of the image, between 0 and 1"
            )
        if ymin > ymax or xmin > xmax:
            raise BrokenRecord(f"has a box with reversed corners ({_shown_box(index, box)})")


def _shown_box(index: int, box: Sequence[float]) -> str:
    return f"object {index}: ymin, xmin, ymax, xmax {short([round(value, 4) for value in box])}"


def values_of(features: Mapping[str, Any], name: str) -> Sequence[Any]:
    """The values of a feature of a record, of whatever type; none if it is not there, which is not added then."""
    if name not in features:
        return ()
    kind = features[name].WhichOneof("kind")
    return getattr(features[name], kind).value if kind else ()
