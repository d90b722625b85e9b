"""Counts of right and wrong detections at a confidence: by IoU, size range and category, and without categories.

All detections from the confidence on count, also those beyond COCO's 100.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from od_eval.evaluation.analyses.operating_point import Counts
from od_eval.evaluation.analyses.sizes import Bounds, in_range
from od_eval.evaluation.matching import IOU_THRESHOLDS, Floats, Ints
from od_eval.evaluation.object_table import ObjectTable

_COUNTS = ("num_groundtruth", "num_detections", "tp", "fp", "fn", "precision", "recall", "f1")


def counts(table: ObjectTable, ranges: Mapping[str, Bounds], confidence: float | Floats) -> dict[str, list[Any]]:
    """Counts at each of `IOU_THRESHOLDS`, in each size range and for each category.

    In a size range, objects outside are ignored, and a detection that matches nothing is wrong only if its own area is
    in the range.

    Args:
      table: the object table.
      ranges: name -> lowest and highest area; see `sizes.size_ranges`.
      confidence: detections with a score below it are left out; one for all, or float `[categories]`.

    Returns:
      Columns of equal length, in this order: `size` (`all`, or a name of `ranges`), `kind`, `category`, `iou`,
      `num_groundtruth`, `num_detections`, `tp`, `fp`, `fn`, `precision`, `recall`, `f1`; see `Counts`. The kind is
      `category` for a category; `all` for the sum of all categories; `class_agnostic` if a detection may match an
      object of any category. `category` is None for the last two.
    """
    used = _matched(_used(table, confidence))
    agnostic = _matched(_without_categories(used))
    names: list[tuple[str, str, str | None]] = []
    numbers: list[Ints] = []
    for size, bounds in {"all": None, **ranges}.items():
        of_category, of_none = (
            _counts(each if bounds is None else in_range(each, *bounds)) for each in (used, agnostic)
        )
        names += [(size, "category", name) for name in table.categories.values()]
        names += [(size, "all", None), (size, "class_agnostic", None)]
        numbers += [of_category, of_category.sum(axis=0, keepdims=True), of_none]
    of_rows = [
        Counts(num_groundtruth, tp + fp, tp, fp, num_groundtruth - tp)
        for num_groundtruth, tp, fp in np.concatenate(numbers).reshape(-1, 3).tolist()
    ]
    num = len(IOU_THRESHOLDS)
    columns: dict[str, list[Any]] = {
        name: [values[place] for values in names for _ in range(num)]
        for place, name in enumerate(("size", "kind", "category"))
    }
    columns["iou"] = [round(iou, 2) for iou in IOU_THRESHOLDS.tolist()] * len(names)
    return columns | {name: [getattr(row, name) for row in of_rows] for name in _COUNTS}


def _counts(table: ObjectTable) -> Ints:
    """Objects, true positives and false positives, int `[categories, 10, 3]`."""
    num = len(table.categories)
    true, false = (
        np.stack([np.bincount(table.detections.category[column], minlength=num) for column in outcome.T], axis=1)
        for outcome in table.outcomes
    )
    return np.stack([np.broadcast_to(table.num_groundtruth[:, np.newaxis], true.shape), true, false], axis=2)


def _used(table: ObjectTable, confidence: float | Floats) -> ObjectTable:
    """The table, not yet matched, of the detections that are not below the confidence.

    Without categories it is not enough to leave them out when counting: with a confidence for each category, a
    detection that is left out may have a higher score than one that is not, and take its object.
    """
    is_used = table.is_above(confidence)
    pairs = table.pairs.where(is_used[table.pairs.detection])
    row = (np.cumsum(is_used) - 1).astype(np.int32)
    return dataclasses.replace(
        table,
        detections=dataclasses.replace(table.detections, masks=None).rows(np.flatnonzero(is_used)),
        pairs=dataclasses.replace(pairs, detection=row[pairs.detection]),
    )


def _without_categories(table: ObjectTable) -> ObjectTable:
    """The table, not yet matched, with all objects in one category."""
    groundtruth, detections = (
        dataclasses.replace(objects, category=np.zeros_like(objects.category))
        for objects in (table.groundtruth, table.detections)
    )
    return dataclasses.replace(table, categories={0: "all"}, groundtruth=groundtruth, detections=detections)


def _matched(table: ObjectTable) -> ObjectTable:
    return dataclasses.replace(table, matches=table.rematched())
