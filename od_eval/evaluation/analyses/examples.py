"""Which images are worth looking at: the worst ones, and examples of each kind of error."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterable

import numpy as np

from od_eval.evaluation.analyses.confusion import confusion_matrix, most_confused
from od_eval.evaluation.analyses.per_image import per_image, worst
from od_eval.evaluation.matching import Floats
from od_eval.evaluation.object_table import ERROR_KINDS, EXPLAIN_AN_OBJECT, ObjectTable

WORST = "worst"
CONFUSED = "confused"


@dataclasses.dataclass(frozen=True)
class Example:
    """An image that shows an error.

    image: its index in the object table.
    detections, objects: the rows that are the error; none if the image as a whole is.
    """

    image: int
    detections: tuple[int, ...] = ()
    objects: tuple[int, ...] = ()


def error_examples(
    table: ObjectTable, confidence: float | Floats, num: int, images: Collection[int] | None = None
) -> dict[str, list[Example]]:
    """At most `num` images for each kind of error, each image once for a kind; kinds without errors are left out.

    Args:
      table: the object table.
      confidence: one for all, or float `[categories]`.
      num: of images for each kind.
      images: the indices of the images to choose from; by default all.

    Returns:
      `worst`: the images in which most is wrong. `confused`: of each of the most confused pairs of categories, the
      detection with the highest score. TIDE's kinds: the detections with the highest scores; `missed`: the largest
      objects.
    """
    of_images = per_image(table, confidence)
    errors = np.asarray(of_images["fp"]) + np.asarray(of_images["fn"])
    worst_first = worst(of_images, len(table.images)).tolist()
    examples = {WORST: _chosen((Example(image) for image in worst_first if errors[image]), num, images)}
    pairs = most_confused(table, confusion_matrix(table, confidence))
    examples[CONFUSED] = _chosen(
        (_of_match(table, int(pair.detection[0]), int(pair.groundtruth[0])) for pair in pairs), num, images
    )
    of_detections, of_groundtruth = table.errors_of(table.is_above(confidence))
    for index, kind in enumerate(ERROR_KINDS):
        if kind == "missed":
            rows = np.flatnonzero(of_groundtruth == index)
            rows = rows[np.argsort(-table.groundtruth.area[rows], kind="stable")]
            found: Iterable[Example] = (
                Example(int(table.groundtruth.image[row]), objects=(row,)) for row in rows.tolist()
            )
        elif kind:
            rows = np.flatnonzero(of_detections == index)
            rows = rows[np.argsort(-table.score[rows], kind="stable")]
            objects = table.meant_object[rows] if index in EXPLAIN_AN_OBJECT else np.full(len(rows), -1)
            found = map(functools.partial(_of_match, table), rows.tolist(), objects.tolist())
        else:
            continue
        examples[kind] = _chosen(found, num, images)
    return {kind: of_kind for kind, of_kind in examples.items() if of_kind}


def _of_match(table: ObjectTable, detection: int, groundtruth: int) -> Example:
    objects = () if groundtruth < 0 else (groundtruth,)
    return Example(int(table.detections.image[detection]), (detection,), objects)


def _chosen(examples: Iterable[Example], num: int, images: Collection[int] | None) -> list[Example]:
    """The first `num` examples of different images."""
    chosen: dict[int, Example] = {}
    for example in examples:
        if len(chosen) == num:
            break
        if images is None or example.image in images:
            chosen.setdefault(example.image, example)
    return list(chosen.values())
