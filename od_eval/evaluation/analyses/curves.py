"""Precision–recall curves, and AP as the exact area under them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval.evaluation.analyses.sizes import COCO_RANGES, in_range
from od_eval.evaluation.matching import IOU_THRESHOLDS, RECALL_THRESHOLDS, Floats
from od_eval.evaluation.object_table import ObjectTable, precision_recall_scores

# Name -> indices in `IOU_THRESHOLDS`.
CURVE_IOUS: dict[str, list[int]] = {"0.50": [0], "0.75": [5], "0.50:0.95": list(range(len(IOU_THRESHOLDS)))}
# TensorBoard's own: what counts are at least divided by.
_MINIMUM_COUNT = 1e-7


def curves(table: ObjectTable) -> dict[str, npt.NDArray[Any]]:
    """COCO's precision–recall curves: of each category and of their mean, for all sizes and each of COCO's.

    A category without objects of a size has no curve there, and is not part of the mean.

    Returns:
      Columns of equal length: `category` (its name, None for the mean over categories), `iou` (`0.50`, `0.75`, or
      `0.50:0.95` for the mean of all ten), `size` (`all`, `coco_small`, `coco_medium`, `coco_large`), `recall` (101 to
      a curve, ascending), `precision` (the highest at this recall or above; 0 if it is not reached) and `confidence`
      (the score at which the recall is reached; NaN if it is not, or if the curve is a mean).
    """
    names: list[str | None] = [*table.categories.values()]
    parts: list[tuple[str | None, str, str, Floats, Floats]] = []
    no_confidence = np.full(len(RECALL_THRESHOLDS), np.nan)
    rows = table.first_100_by_category
    has_detections = np.array([len(of_category) > 0 for of_category in rows])
    for size, bounds in {"all": None, **COCO_RANGES}.items():
        of_size = table if bounds is None else in_range(table, *bounds)
        precision, recall, scores = precision_recall_scores(of_size, rows)
        is_reached = (recall[:, np.newaxis] >= RECALL_THRESHOLDS[:, np.newaxis]) & has_detections
        confidence = np.where(is_reached, scores, np.nan)
        there = np.flatnonzero(of_size.num_groundtruth)
        for iou, thresholds in CURVE_IOUS.items():
            curve = precision[thresholds].mean(axis=0)
            for index in there:
                of_curve = confidence[thresholds[0], :, index] if len(thresholds) == 1 else no_confidence
                parts.append((names[index], iou, size, curve[:, index], of_curve))
            if len(there):
                parts.append((None, iou, size, curve[:, there].mean(axis=1), no_confidence))
    columns: dict[str, npt.NDArray[Any]] = {
        name: np.repeat(np.array([part[place] for part in parts], object), len(RECALL_THRESHOLDS))
        for place, name in enumerate(("category", "iou", "size"))
    }
    columns["recall"] = np.tile(RECALL_THRESHOLDS, len(parts))
    for place, name in ((3, "precision"), (4, "confidence")):
        columns[name] = np.concatenate([part[place] for part in parts]) if parts else np.zeros(0)
    return columns


def average_precision(table: ObjectTable) -> tuple[Floats, Floats]:
    """AP of each category at each IoU, at COCO's 101 recalls and exactly.

    Exactly it is the area under the interpolated curve, the sum over all its steps, as in PASCAL VOC from 2010 on. All
    else is as in COCO: equal scores are ranked by image, and the first 100 detections of an image and category count.

    Returns:
      AP at 101 recalls and exact AP, float64 `[10, categories]`, in the order of `IOU_THRESHOLDS`; NaN without objects.
    """
    precision, _, _ = precision_recall_scores(table)
    has_objects = table.num_groundtruth > 0
    at_recalls = np.where(has_objects, precision.mean(axis=1), np.nan)
    exact = np.full_like(at_recalls, np.nan)
    true, false = table.outcomes
    for category, rows in enumerate(table.first_100_by_category):
        if not has_objects[category]:
            continue
        for threshold, (is_true, is_false) in enumerate(zip(true[rows].T, false[rows].T, strict=True)):
            at = np.flatnonzero(is_true)
            precision_at = np.arange(1, len(at) + 1) / np.cumsum(is_true | is_false)[at]
            highest = np.maximum.accumulate(precision_at[::-1])
            exact[threshold, category] = highest.sum() / table.num_groundtruth[category]
    return at_recalls, exact


def binary_counts(table: ObjectTable, category: int | None, num_thresholds: int) -> Floats:
    """What TensorBoard's PR Curves page draws (`tensorboard.plugins.pr_curve.summary.raw_data_pb`), at an IoU of 0.50.

    A detection counts at thresholds not above its score; scores are clipped to [0, 1]. All detections count, also those
    beyond COCO's 100. There are no true negatives. Objects that no detection matches are false negatives throughout, so
    the recall does not reach 1.

    Args:
      table: the object table.
      category: the index of a category, or None for all together.
      num_thresholds: at least 2; the thresholds are `linspace(0, 1, num_thresholds)`.

    Returns:
      float64 `[6, num_thresholds]`: true positives, false positives, true negatives, false negatives, precision,
      recall; a ratio without anything to divide by is 0, as in TensorBoard.
    """
    rows = slice(None) if category is None else table.by_category[category]
    num_groundtruth = table.num_groundtruth.sum() if category is None else table.num_groundtruth[category]
    thresholds = np.linspace(0, 1, num_thresholds)
    tp, fp = (_num_from(np.clip(table.score[rows][outcome[rows, 0]], 0, 1), thresholds) for outcome in table.outcomes)
    fn = num_groundtruth - tp
    precision, recall = (tp / np.maximum(_MINIMUM_COUNT, tp + wrong) for wrong in (fp, fn))
    return np.stack([tp, fp, np.zeros(num_thresholds), fn, precision, recall])


def _num_from(scores: Floats, thresholds: Floats) -> Floats:
    """For each threshold, how many scores are not below it."""
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds)).astype(np.float64)
