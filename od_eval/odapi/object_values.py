"""The objects of a record with their values, and the values of a record that can break a loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from tensorflow.core.example import example_pb2

from od_eval.odapi.record_contents import BrokenRecord, Classes, losses
from od_eval.text import named

_OBJECT = "image/object/"
_CORNERS = [f"{_OBJECT}bbox/{corner}" for corner in ("ymin", "xmin", "ymax", "xmax")]
_WEIGHT = f"{_OBJECT}weight"
# Losses are multiplied by weights, which are 1 where none are given; of those in use, none is far above it.
_LARGEST_WEIGHT = 100.0
_MOST_ODD = 10  # of a record; a mask in floats may have a million


@dataclasses.dataclass(frozen=True)
class ObjectValues:
    """An object of a record.

    Attributes:
      category: the class text, or the label.
      box: ymin, xmin, ymax, xmax, as parts of the image.
      weight: of its losses.
      is_dropped: whether it is not trained on.
    """

    category: str
    box: tuple[float, float, float, float]
    weight: float
    is_dropped: bool


def objects_of(example: example_pb2.Example, classes: Classes) -> list[ObjectValues]:
    """The objects of a record that `record_contents.parse` has read."""
    features = example.features.feature
    boxes = list(zip(*(features[name].float_list.value for name in _CORNERS), strict=True))
    texts = [text.decode("utf-8", "replace") for text in features[f"{_OBJECT}class/text"].bytes_list.value]
    labels = texts or [str(label) for label in features[f"{_OBJECT}class/label"].int64_list.value]
    weights = list(features[_WEIGHT].float_list.value) or [1.0] * len(boxes)
    try:
        lost = list(losses(example, classes))
    except BrokenRecord:
        lost = [None] * len(boxes)
    return [
        ObjectValues(named(label), box, weight, loss is not None and loss.how == "dropped")
        for label, box, weight, loss in zip(labels, boxes, weights, lost, strict=True)
    ]


def odd_values(example: example_pb2.Example, classes: Classes) -> list[str]:
    """What can break a loss, as clauses: `'image/object/weight' of object 2 is nan`. Objects are counted from 0."""
    objects = objects_of(example, classes)
    odd = [*_not_finite(example, len(objects)), *_of_objects(objects)]
    return odd[:_MOST_ODD]


def _not_finite(example: example_pb2.Example, num_objects: int) -> Iterator[str]:
    """The first value of each feature that is not finite, but for coordinates: such a box is dropped."""
    for name, feature in sorted(example.features.feature.items()):
        values = feature.float_list.value
        first = next((index for index, value in enumerate(values) if not math.isfinite(value)), None)
        if first is not None and name not in _CORNERS:
            of = f"object {first * num_objects // len(values)}" if num_objects else f"value {first}"
            yield f"'{named(name)}' of {of} is {values[first]}"


def _of_objects(objects: list[ObjectValues]) -> Iterator[str]:
    for index, one in enumerate(objects):
        if math.isfinite(one.weight) and not 0 <= one.weight <= _LARGEST_WEIGHT:
            yield f"'{_WEIGHT}' of object {index} is {one.weight:g}"
        ymin, xmin, ymax, xmax = one.box
        if all(map(math.isfinite, one.box)) and (ymin == ymax or xmin == xmax):
            yield f"the box of object {index} has no area"
