"""The operating point: the confidence from which detections are used, and what it costs and gives.

Precision, recall and F1 hold at one confidence, where AP averages over all. By default it is the confidence with the
highest F1 at an IoU of 0.50. A cut lies only between different scores: detections of the same score are all used, or
none of them. All detections count, also those beyond COCO's 100.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from od_eval.evaluation.matching import IOU_THRESHOLDS, Bools, Floats, Ints
from od_eval.evaluation.object_table import IouType, ObjectTable
from od_eval.evaluation.options import AnalysisOptions

# The index in `IOU_THRESHOLDS` of the IoU at which the operating point is chosen: 0.50.
IOU_INDEX = 0


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts at a confidence, and the ratios that follow; a ratio without anything to divide by is None.

    num_groundtruth: objects, without those that are ignored; = tp + fn.
    num_detections: detections that are right or wrong; = tp + fp.
    """

    num_groundtruth: int
    num_detections: int
    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float | None:
        return self.tp / self.num_detections if self.num_detections else None

    @property
    def recall(self) -> float | None:
        return self.tp / self.num_groundtruth if self.num_groundtruth else None

    @property
    def f1(self) -> float | None:
        both = self.num_groundtruth + self.num_detections
        return 2 * self.tp / both if both else None

    def to_dict(self) -> dict[str, float | int | None]:
        """The counts and ratios by name."""
        return {**dataclasses.asdict(self), "precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclasses.dataclass(frozen=True)
class Cuts:
    """All confidences between which something changes, in descending order, and what is counted from each on.

    confidence: float64 `[n]`: the different scores.
    tp, fp: int64 `[n]`, with the detections whose score is not below it.
    num_groundtruth: the number of objects.
    """

    confidence: Floats
    tp: Ints
    fp: Ints
    num_groundtruth: int

    @property
    def precision(self) -> Floats:
        return self.tp / np.maximum(self.tp + self.fp, 1)

    @property
    def recall(self) -> Floats:
        return self.tp / max(self.num_groundtruth, 1)

    def f_score(self, beta: float = 1.0) -> Floats:
        """F-beta: recall counts `beta` times as much as precision."""
        weighted = beta**2 * self.num_groundtruth + self.tp + self.fp
        return (1 + beta**2) * self.tp / np.maximum(weighted, 1e-300)

    def cost(self, cost_fp: float, cost_fn: float) -> Floats:
        """The sum of the costs of wrong detections and missed objects."""
        return cost_fp * self.fp + cost_fn * (self.num_groundtruth - self.tp)


def cuts(table: ObjectTable, category: int | None = None, iou_index: int = IOU_INDEX) -> Cuts:
    """All cuts of a category, or of all together.

    Args:
      table: the object table.
      category: the index of a category; by default all.
      iou_index: index in `IOU_THRESHOLDS`.
    """
    rows = np.argsort(-table.score, kind="stable") if category is None else table.by_category[category]
    score = table.score[rows]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else np.zeros(0, int)
    num_groundtruth = table.num_groundtruth if category is None else table.num_groundtruth[category]
    tp, fp = (np.cumsum(outcome[rows, iou_index])[last] for outcome in table.outcomes)
    return Cuts(score[last], tp, fp, int(np.sum(num_groundtruth)))


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A confidence, and why it is this one.

    confidence: detections with this score or more are used.
    chosen_by: `F1`, `F2`, … (the highest F-beta), `cost` (the lowest), `given`, or `default`: no detection is right,
      and 0.5 is as good as any.
    """

    confidence: float
    chosen_by: str


DEFAULT_CONFIDENCE = 0.5
# What precision leaves of recall, and the other way, is told for these.
WANTED = (0.5, 0.8, 0.9, 0.95, 0.99)


def choose(of_cuts: Cuts, options: AnalysisOptions) -> OperatingPoint:
    """The operating point that the options ask for; of equally good confidences the highest."""
    if options.confidence is not None:
        return OperatingPoint(options.confidence, "given")
    if not of_cuts.tp.any():
        return OperatingPoint(DEFAULT_CONFIDENCE, "default")
    if options.cost_fp is not None and options.cost_fn is not None:
        # Using no detection at all may be cheapest: then the confidence is above all scores.
        costs = of_cuts.cost(options.cost_fp, options.cost_fn)
        if options.cost_fn * of_cuts.num_groundtruth < costs.min():
            return OperatingPoint(float(np.nextafter(of_cuts.confidence[0], np.inf)), "cost")
        return OperatingPoint(float(of_cuts.confidence[np.argmin(costs)]), "cost")
    return OperatingPoint(float(of_cuts.confidence[np.argmax(of_cuts.f_score(options.f_beta))]), f"F{options.f_beta:g}")


def counts(table: ObjectTable, confidence: float | Floats, iou_index: int = IOU_INDEX) -> list[Counts]:
    """The counts of each category at a confidence.

    Args:
      table: the object table.
      confidence: one for all, or float `[categories]`.
      iou_index: index in `IOU_THRESHOLDS`.
    """
    used = table.is_above(confidence)
    true, false = (
        np.bincount(table.detections.category[used & outcome[:, iou_index]], minlength=len(table.categories)).tolist()
        for outcome in table.outcomes
    )
    return [
        Counts(num, tp + fp, tp, fp, num - tp)
        for num, tp, fp in zip(table.num_groundtruth.tolist(), true, false, strict=True)
    ]


def total(of_categories: Iterable[Counts]) -> Counts:
    """The sums over categories."""
    return Counts(*(sum(column) for column in zip(*map(dataclasses.astuple, of_categories), strict=True)))


def recall_at_precision(of_cuts: Cuts, precision: float) -> dict[str, float] | None:
    """The highest recall with at least this precision, and the confidence that gives it; None if none does."""
    return _best(of_cuts, of_cuts.precision >= precision, of_cuts.recall, "recall")


def precision_at_recall(of_cuts: Cuts, recall: float) -> dict[str, float] | None:
    """The highest precision with at least this recall, and the confidence that gives it; None if none does."""
    return _best(of_cuts, of_cuts.recall >= recall, of_cuts.precision, "precision")


def _best(of_cuts: Cuts, possible: Bools, values: Floats, name: str) -> dict[str, float] | None:
    if not possible.any():
        return None
    index = int(np.argmax(np.where(possible, values, -1)))
    return {name: float(values[index]), "confidence": float(of_cuts.confidence[index])}


def operating_point(tables: Mapping[IouType, ObjectTable], options: AnalysisOptions) -> dict[str, Any]:
    """The section `operating_point` of a result: the confidence, and precision, recall, F1 and counts at it.

    Args:
      tables: of boxes, and of masks if there are any; the confidence is chosen by boxes, and holds for both.
      options: how it is chosen.
    """
    boxes = tables["bbox"]
    names = list(boxes.categories.values())
    of_boxes = cuts(boxes)
    point = choose(of_boxes, options)
    per_category: dict[str, dict[str, Any]] = {name: {} for name in names}
    section: dict[str, Any] = {
        "confidence": point.confidence,
        "iou": float(IOU_THRESHOLDS[IOU_INDEX]),
        "chosen_by": point.chosen_by,
    }
    for iou_type, table in tables.items():
        of_categories = counts(table, point.confidence)
        section[iou_type] = total(of_categories).to_dict()
        for name, category in zip(names, of_categories, strict=True):
            per_category[name] |= category.to_dict() if iou_type == "bbox" else {iou_type: category.to_dict()}
    for index, name in enumerate(names):
        best = choose(cuts(boxes, index), dataclasses.replace(options, confidence=None))
        per_category[name]["best_confidence"] = None if best.chosen_by == "default" else best.confidence
    for name, at in (("recall_at_precision", recall_at_precision), ("precision_at_recall", precision_at_recall)):
        section[name] = {f"{wanted:g}": at(of_boxes, wanted) for wanted in WANTED}
    return {**section, "per_category": per_category}
