"""The confusion matrix: which categories are taken for which, what is missed, and what is found where nothing is.

Objects and detections are matched in two stages, so that a wrong category with a higher score never takes an object
from the right one:

1. Within each category, as COCO does (`ObjectTable.matches`). These are the true positives, on the diagonal.
2. What is left over, across categories, one to one, greedily: first by descending score of the detection, then by
   descending IoU. These are the confusions.

What is left over then is background: false positives in the last row, missed objects in the last column. Detections
that match ignored objects (crowds, difficult objects) do not count. So the sum of a row is the number of objects, and
the sum of a column the number of detections that are right or wrong, as in `operating_point.counts`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from od_eval.evaluation.analyses.operating_point import IOU_INDEX
from od_eval.evaluation.matching import IOU_THRESHOLDS, Bools, Floats, Ints, Pairs
from od_eval.evaluation.object_table import ObjectTable

# Masked where there is nothing to divide by: `tolist` has None there.
Rates = np.ma.MaskedArray[Any, np.dtype[np.float64]]


@dataclasses.dataclass(frozen=True)
class ConfusionMatrix:
    """Rows are what is there, columns what is predicted. Who wants it the other way takes `counts.T`.

    Categories have their index in the object table; background is the last row and column.

    labels: the names of the categories, and "background".
    counts: int64 `[categories + 1, categories + 1]`.
    detection, groundtruth: int64 `[n]`, what was counted: rows of the object table, -1 for background; see `rows`.
    """

    labels: tuple[str, ...]
    counts: Ints
    detection: Ints
    groundtruth: Ints

    @property
    def by_row(self) -> Rates:
        """The parts of the objects of a category, float64; on the diagonal, recall. The last row: of what is false."""
        return _ratio(self.counts, self.counts.sum(axis=1, keepdims=True))

    @property
    def by_column(self) -> Rates:
        """The parts of the detections of a category, float64; on the diagonal, precision. The last column: of what is
        missed.
        """
        return _ratio(self.counts, self.counts.sum(axis=0, keepdims=True))

    def rows(self, actual: int, predicted: int) -> tuple[Ints, Ints]:
        """What a cell counts: rows of detections and of objects, -1 for background, by descending score.

        Missed objects are in the order of the object table.

        Args:
          actual, predicted: indices of categories, or of background.
        """
        cell = actual * len(self.labels) + predicted
        of_cell = slice(self._bounds[cell], self._bounds[cell + 1])
        return self.detection[of_cell], self.groundtruth[of_cell]

    @functools.cached_property
    def _bounds(self) -> Ints:
        return np.concatenate(([0], np.cumsum(self.counts)))


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Objects of one category that are taken for another.

    actual, predicted: the indices of the categories.
    count: how many.
    of_objects: the part of all objects of the category `actual`.
    of_detections: the part of all detections of the category `predicted` that are right or wrong.
    highest_score: of these detections.
    detection, groundtruth: int64 `[count]`, rows of the object table, by descending score.
    """

    actual: int
    predicted: int
    count: int
    of_objects: float
    of_detections: float
    highest_score: float
    detection: Ints
    groundtruth: Ints


def confusion_matrix(table: ObjectTable, confidence: float | Floats, iou_index: int = IOU_INDEX) -> ConfusionMatrix:
    """The confusion matrix at a confidence.

    Args:
      table: the object table.
      confidence: one for all, or float `[categories]`.
      iou_index: index in `IOU_THRESHOLDS`.
    """
    used = table.is_above(confidence)
    true, false = (used & outcome[:, iou_index] for outcome in table.outcomes)
    missed = ~table.ignored & ~table.is_found(confidence)[:, iou_index]
    confused = _across_categories(table, false, missed, iou_index)
    false[confused.detection] = False
    missed[confused.groundtruth] = False
    true_rows, false_rows, missed_rows = (np.flatnonzero(rows) for rows in (true, false, missed))
    detection = np.concatenate((true_rows, confused.detection, false_rows, np.full(len(missed_rows), -1)))
    groundtruth = np.concatenate(
        (table.matches.detection[true, iou_index], confused.groundtruth, np.full(len(false_rows), -1), missed_rows)
    )

    labels = (*table.categories.values(), "background")
    background = len(labels) - 1
    # The value at the end is that of row -1.
    actual = np.append(table.groundtruth.category, background)[groundtruth]
    predicted = np.append(table.detections.category, background)[detection]
    cell = actual.astype(np.int64) * len(labels) + predicted
    order = np.lexsort((-np.append(table.score, 0)[detection], cell))
    counts = np.bincount(cell, minlength=len(labels) ** 2).reshape(len(labels), len(labels))
    return ConfusionMatrix(labels, counts, detection[order], groundtruth[order])


def most_confused(table: ObjectTable, matrix: ConfusionMatrix) -> list[Confusion]:
    """All pairs of categories that are confused, the most frequent first; of equal ones, that with the highest score.

    Args:
      table: the object table.
      matrix: its confusion matrix.
    """
    counts = matrix.counts[:-1, :-1]
    by_row, by_column = matrix.by_row, matrix.by_column
    confusions = []
    for actual, predicted in np.argwhere((counts > 0) & ~np.eye(len(counts), dtype=bool)).tolist():
        detection, groundtruth = matrix.rows(actual, predicted)
        confusions.append(
            Confusion(
                actual=actual,
                predicted=predicted,
                count=len(detection),
                of_objects=float(by_row[actual, predicted]),
                of_detections=float(by_column[actual, predicted]),
                highest_score=float(table.score[detection[0]]),
                detection=detection,
                groundtruth=groundtruth,
            )
        )
    return sorted(confusions, key=lambda confusion: (-confusion.count, -confusion.highest_score))


def _across_categories(table: ObjectTable, detections: Bools, objects: Bools, iou_index: int) -> Pairs:
    """One-to-one pairs of these detections and objects, of different categories."""
    pairs = table.pairs
    pairs = pairs.where(
        (pairs.iou >= IOU_THRESHOLDS[iou_index]) & detections[pairs.detection] & objects[pairs.groundtruth]
    )
    category = table.detections.category[pairs.detection]
    return _greedily(pairs.where(category != table.groundtruth.category[pairs.groundtruth]), table.score)


def _greedily(pairs: Pairs, score: Floats) -> Pairs:
    """Takes pairs one after the other, by descending score, then IoU, if neither of the two is taken yet.

    A pair that comes first for both its detection and its object is taken whatever happens to the others, so all of
    these are taken at once.
    """
    order = np.lexsort((pairs.groundtruth, pairs.detection, -pairs.iou, -score[pairs.detection]))
    ordered = Pairs(pairs.detection[order], pairs.groundtruth[order], pairs.iou[order])
    taken = np.zeros(len(order), bool)
    at = np.arange(len(order))
    while len(at):
        detection, groundtruth = ordered.detection[at], ordered.groundtruth[at]
        _, first_of_detection = np.unique(detection, return_index=True)
        _, first_of_groundtruth = np.unique(groundtruth, return_index=True)
        first = np.intersect1d(first_of_detection, first_of_groundtruth)
        taken[at[first]] = True
        at = at[~np.isin(detection, detection[first]) & ~np.isin(groundtruth, groundtruth[first])]
    return ordered.where(taken)


def _ratio(counts: Ints, sums: Ints) -> Rates:
    nothing = np.broadcast_to(sums == 0, counts.shape)
    return np.ma.MaskedArray(counts / np.maximum(sums, 1), mask=nothing)
