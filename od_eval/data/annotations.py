"""Annotations in memory: what the readers (`coco`, `voc`, `csv_boxes`) make and `examples` turns into records.

A reader returns `Annotations`: images with their objects, in pixels; the classes; and a `Remark` for everything that it
had to leave out. It raises an `ODEvalError` only where nothing can be read at all.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from od_eval.odapi.label_map import Category


@dataclasses.dataclass(slots=True)
class AnnotatedObject:
    """One object, as annotated and not yet checked.

    Attributes:
      class_name: its class.
      box: (xmin, ymin, xmax, ymax) in pixels of the image as annotated, edges (not pixel centres).
      area: square pixels of the object; None where the annotation does not say.
      crowd: the box is around a group of objects (COCO's `iscrowd`).
      segmentation: COCO's: a list of polygons, or an RLE; None where there is none.
      keypoints: COCO's: x, y, visibility (0 not labeled, 1 hidden, 2 visible) of each; empty where there are none.
      difficult, truncated, pose: Pascal VOC's; None where the format does not have them.
      where: file and line or id, for a remark.
    """

    class_name: str
    box: tuple[float, float, float, float]
    where: str
    area: float | None = None
    crowd: bool = False
    segmentation: Any = None
    keypoints: list[float] = dataclasses.field(default_factory=list)
    difficult: bool | None = None
    truncated: bool | None = None
    pose: str | None = None


@dataclasses.dataclass(slots=True)
class AnnotatedImage:
    """One image file and the objects in it.

    Attributes:
      path: the file, on any filesystem.
      filename: its path inside the folder of images, with forward slashes.
      annotated_as: how the annotation names the file.
      source_id: unique in the dataset: COCO's image id, or `filename`.
      size: (width, height) in pixels as annotated, which the boxes refer to; None where the annotation does not say.
      objects: may be empty.
      where: file and line or id, for a remark.
    """

    path: str
    filename: str
    annotated_as: str
    source_id: str
    size: tuple[int, int] | None
    objects: list[AnnotatedObject]
    where: str


@dataclasses.dataclass(frozen=True, slots=True)
class Remark:
    """Something that the records do not hold as the annotations do.

    Attributes:
      reason: the kind, in the same words for each remark of that kind: "image file missing".
      where: the annotation file and the line, id or object in it.
      detail: what exactly.
      left_out: what is therefore not in the records: "image", "object", "mask" or "keypoints"; "" where it was
        converted after all.
    """

    reason: str
    where: str
    detail: str
    left_out: str = ""


@dataclasses.dataclass
class Annotations:
    """What a reader made of annotation files.

    Attributes:
      images: in the order in which they are annotated.
      categories: every class, with the id to be written.
      keypoint_names: class name -> names of its keypoints, in the order of `AnnotatedObject.keypoints`.
      remarks: what could not be read.
    """

    images: list[AnnotatedImage]
    categories: list[Category]
    keypoint_names: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    remarks: list[Remark] = dataclasses.field(default_factory=list)


def categories_of(images: list[AnnotatedImage]) -> list[Category]:
    """The classes of the objects in `images`, by name, with ids from 1; for formats that have no ids of their own."""
    names = sorted({object.class_name for image in images for object in image.objects} - {""})
    return [Category(id, name) for id, name in enumerate(names, start=1)]


def number(value: Any) -> float:
    """A value as a float; NaN, with which a box passes no check, for what is not a number."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def size_or_none(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) in pixels; None where they are not two positive numbers; some tools write 0."""
    width, height = number(width), number(height)
    if math.isfinite(width) and math.isfinite(height) and width >= 1 and height >= 1:
        return int(width), int(height)
    return None
