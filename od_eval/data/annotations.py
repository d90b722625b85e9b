"""Annotations in memory: created by the readers (`coco`, `voc`, `csv_boxes`), converted to records by `examples`.

A reader returns `Annotations`: images with their objects, in pixels; the classes; and a `Remark` for everything it had
to leave out. It raises an `ODEvalError` only if nothing can be read at all.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from od_eval.label_map import Category


@dataclasses.dataclass(slots=True)
class AnnotatedObject:
    """One object, as annotated, before any checks.

    Attributes:
      class_name: its class.
      box: (xmin, ymin, xmax, ymax) in pixels of the image as annotated: edges, not pixel centers.
      area: area of the object in square pixels; None if the annotation does not give it.
      crowd: whether the box contains a group of objects (COCO's `iscrowd`).
      segmentation: in COCO's format: a list of polygons, or an RLE; or None.
      keypoints: in COCO's format: x, y, visibility (0 not labeled, 1 hidden, 2 visible) of each; may be empty.
      difficult, truncated, pose: as in Pascal VOC; None if the format does not have them.
      where: file and line or id, for a remark.
    """

    class_name: str
    box: tuple[float, float, float, float]
    where: str
    area: float | None = None
    crowd: bool = False
    segmentation: Any = None
    keypoints: Sequence[float] = ()
    difficult: bool | None = None
    truncated: bool | None = None
    pose: str | None = None


@dataclasses.dataclass(slots=True)
class AnnotatedImage:
    """One image file and the objects in it.

    Attributes:
      path: the file, on any file system.
      filename: its path relative to the folder of images, with forward slashes.
      annotated_as: the name of the file in the annotation.
      source_id: unique in the dataset: COCO's image id, or `filename`.
      size: (width, height) in pixels as annotated, which the boxes refer to; None if not given.
      objects: may be empty.
      where: file and line or id, for a remark.
      num_unreadable: the number of its objects that could not be read, each with a remark.
    """

    path: str
    filename: str
    annotated_as: str
    source_id: str
    size: tuple[int, int] | None
    objects: list[AnnotatedObject]
    where: str
    num_unreadable: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Remark:
    """A difference between the annotations and the records.

    Attributes:
      reason: the kind of difference, in the same words for all remarks of this kind: "image file missing".
      where: the annotation file and the line, id or object in it.
      detail: the details.
      left_out: what is missing in the records as a result: "image", "object", "mask" or "keypoints"; "" if it was
        converted with a change.
    """

    reason: str
    where: str
    detail: str
    left_out: str = ""


@dataclasses.dataclass
class Annotations:
    """The annotations read from annotation files.

    Attributes:
      images: in the order of the annotations.
      categories: all classes, with the ids to write.
      keypoint_names: class name -> names of its keypoints, in the order of `AnnotatedObject.keypoints`.
      remarks: everything that could not be read.
      lost: class name -> number of its objects in images that were left out.
    """

    images: list[AnnotatedImage]
    categories: list[Category]
    keypoint_names: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    remarks: list[Remark] = dataclasses.field(default_factory=list)
    lost: Counter[str] = dataclasses.field(default_factory=Counter)


def categories_of(images: list[AnnotatedImage]) -> list[Category]:
    """The classes of the objects in `images`, sorted by name, with ids from 1; for formats without ids."""
    names = sorted({object.class_name for image in images for object in image.objects} - {""})
    return [Category(id, name) for id, name in enumerate(names, start=1)]


def number(value: Any) -> float:
    """A value as a float, or NaN if it is not a number; a box with NaN passes no check."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def size_or_none(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) in pixels; None unless they are two positive numbers; some tools write 0."""
    width, height = number(width), number(height)
    if math.isfinite(width) and math.isfinite(height) and width >= 1 and height >= 1:
        return int(width), int(height)
    return None
