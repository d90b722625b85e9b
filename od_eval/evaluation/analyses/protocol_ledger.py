"""COCO's protocol, choice by choice: what AP would be if COCO had chosen otherwise.

    rows = protocol_ledger(evaluator.object_tables(), "bbox", confidence=0.5)
    rows[0].metrics["AP"], rows[1].instead, rows[1].differences["AP"]

COCO's choices are those of pycocotools/cocoeval.py. One at a time is changed; all others stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from od_eval.evaluation import matching
from od_eval.evaluation.analyses.class_agnostic import class_agnostic
from od_eval.evaluation.analyses.curves import average_precision
from od_eval.evaluation.analyses.operating_point import IOU_INDEX
from od_eval.evaluation.analyses.sizes import COCO_RANGES, Bounds, by_size
from od_eval.evaluation.matching import IOU_THRESHOLDS, MAX_DETECTIONS, Bools, Floats, Ints, Pairs
from od_eval.evaluation.object_table import MAX_AREA, IouType, ObjectTable, precision_recall_scores

METRICS = ("AP", "AP50", "APs", "APm", "APl")
SIZE_METRICS: dict[str, str] = {"APs": "coco_small", "APm": "coco_medium", "APl": "coco_large"}

_SMALL, _LARGE = 32.0**2, 96.0**2
_HALF_OPEN_RANGES: dict[str, Bounds] = {
    "coco_small": (0.0, float(np.nextafter(_SMALL, 0))),
    "coco_medium": (_SMALL, float(np.nextafter(_LARGE, 0))),
    "coco_large": (_LARGE, MAX_AREA),
}
_OTHER_LIMITS = (10, 300, 1000)
_CONFIDENCE = 0.5
# In COCO's 101 recalls, those of PASCAL VOC 2007: 0, 0.1, …, 1.
_ELEVEN = slice(None, None, 10)


@dataclasses.dataclass(frozen=True)
class LedgerRow:
    """COCO's metrics under another choice than COCO's; in the first row, under COCO's own.

    choice: what COCO does; "" in the first row.
    changed_by: the setting or the field of a file that changes it.
    instead: what is done instead.
    metrics: those of `METRICS` that the choice concerns, 0 to 1; None where there are no objects.
    differences: the same names; these metrics minus COCO's.
    num_groundtruth: how many objects the choice concerns; None if it is not about objects.
    num_detections: how many detections it concerns, at an IoU of 0.50 where that matters; None if it is not about them.
    """

    choice: str
    changed_by: str
    instead: str
    metrics: dict[str, float | None]
    differences: dict[str, float | None]
    num_groundtruth: int | None = None
    num_detections: int | None = None


def protocol_ledger(tables: Mapping[IouType, ObjectTable], iou_type: IouType, confidence: float) -> list[LedgerRow]:
    """COCO's metrics, and what they would be under other choices than COCO's.

    In COCO's own, difficult objects count like others.

    Args:
      tables: of boxes, and of masks if there are any.
      iou_type: whether boxes or masks are evaluated.
      confidence: the operating point, one of the confidences by which detections are filtered.
    """
    ledger = _Ledger(tables, iou_type, confidence)
    rows = [LedgerRow("", "", "COCO", ledger.coco, dict.fromkeys(METRICS, 0.0))]
    for choice, changed_by, others in _CHOICES:
        for other in others(ledger):
            differences = {
                name: None if value is None or (coco := ledger.coco[name]) is None else value - coco
                for name, value in other.metrics.items()
            }
            rows.append(
                LedgerRow(
                    choice,
                    changed_by,
                    other.instead,
                    other.metrics,
                    differences,
                    other.num_groundtruth,
                    other.num_detections,
                )
            )
    return rows


def ledger_columns(rows: Sequence[LedgerRow]) -> list[tuple[str, list[Any]]]:
    """The rows as named columns, for a file: texts, counts, and each metric with its difference."""
    columns: list[tuple[str, list[Any]]] = [
        (name, [getattr(row, name) for row in rows])
        for name in ("choice", "changed_by", "instead", "num_groundtruth", "num_detections")
    ]
    for name in METRICS:
        columns.append((name, [row.metrics.get(name) for row in rows]))
        columns.append((f"{name}_difference", [row.differences.get(name) for row in rows]))
    return columns


@dataclasses.dataclass(frozen=True)
class _Other:
    """What is done instead, the metrics then, and what it concerns; see `LedgerRow`."""

    instead: str
    metrics: dict[str, float | None]
    num_groundtruth: int | None = None
    num_detections: int | None = None


class _Ledger:
    """COCO's own evaluation, from which the other choices depart.

    table: the object table, in which difficult objects count like others.
    difficult: bool `[objects]`.
    counted: bool `[detections]`: the first 100 of each image and category.
    precision: float64 `[10, 101, categories]`, -1 without objects.
    coco: the metrics.
    """

    def __init__(self, tables: Mapping[IouType, ObjectTable], iou_type: IouType, confidence: float):
        given = tables[iou_type]
        crowd = _crowd(given)
        difficult = given.groundtruth.difficult
        self.tables = tables
        self.confidence = confidence
        self.difficult = np.zeros(len(crowd), bool) if difficult is None else difficult & ~crowd
        self.given = given
        self.table = given
        if self.difficult.any():
            groundtruth = dataclasses.replace(given.groundtruth, difficult=None)
            self.table = dataclasses.replace(given, groundtruth=groundtruth, matches=given.rematched(ignored=crowd))
        self.counted = self.table.rank < MAX_DETECTIONS
        self.precision = precision_recall_scores(self.table)[0]
        self.coco = {**_metrics(self.precision), **_by_size(self.table, COCO_RANGES)}

    def metrics_of(self, counted: Bools) -> dict[str, float | None]:
        """AP and AP50 if these detections count."""
        if np.array_equal(counted, self.counted):
            return _metrics(self.precision)
        rows = [of_category[counted[of_category]] for of_category in self.table.by_category]
        return _metrics(precision_recall_scores(self.table, rows)[0])

    def num_matching(self, objects: Bools) -> int:
        """The number of counted detections that match one of some objects at an IoU of 0.50."""
        matched = self.table.matches.detection[:, IOU_INDEX]
        return int((self.counted & (matched >= 0) & np.append(objects, False)[matched]).sum())

    @property
    def wrong(self) -> Bools:
        """bool `[detections]`: false positives at an IoU of 0.50 that count."""
        return self.table.false_positive[:, IOU_INDEX] & self.counted


def _crowd(table: ObjectTable) -> Bools:
    assert table.groundtruth.crowd is not None
    return table.groundtruth.crowd


def _metrics(values: Floats) -> dict[str, float | None]:
    """AP and AP50, the means of what is defined, of `[10, …]`; -1 is not defined."""
    return {name: _mean(part) for name, part in (("AP", values), ("AP50", values[:1]))}


def _mean(values: Floats) -> float | None:
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None


def _by_size(table: ObjectTable, ranges: Mapping[str, Bounds]) -> dict[str, float | None]:
    of_ranges = by_size(table, ranges)
    return {name: of_ranges[size]["AP"] for name, size in SIZE_METRICS.items()}


# ---- The choices, each with what could be done instead ---------------------------------------------------------------


def _limits(ledger: _Ledger) -> Iterator[_Other]:
    rank = ledger.table.rank
    limits = {f"{limit} an image and class": rank < limit for limit in _OTHER_LIMITS}
    limits["all of them"] = np.ones(len(rank), bool)
    limits["100 an image, over all classes"] = matching.rank_in_cell(ledger.table.detections.image) < MAX_DETECTIONS
    for instead, counted in limits.items():
        num = int((counted != ledger.counted).sum())
        yield _Other(instead, ledger.metrics_of(counted), num_detections=num)


def _confidences(ledger: _Ledger) -> Iterator[_Other]:
    confidences = {
        f"only scores from {_CONFIDENCE:g} on": _CONFIDENCE,
        f"only scores from {ledger.confidence:.4g} on, the operating point": ledger.confidence,
    }
    for instead, confidence in confidences.items():
        counted = ledger.counted & ledger.table.is_above(confidence)
        num = int((counted != ledger.counted).sum())
        yield _Other(instead, ledger.metrics_of(counted), num_detections=num)


def _last_recall(ledger: _Ledger) -> Iterator[_Other]:
    free = np.zeros(len(ledger.table.detections), bool)
    for rows in ledger.table.first_100_by_category:
        last = np.flatnonzero(ledger.table.true_positive[rows, IOU_INDEX])[-1:]
        after = rows[last[0] + 1 :] if len(last) else rows
        free[after] = ledger.wrong[after]
    # Those of categories without objects are another choice.
    free &= (ledger.table.num_groundtruth > 0)[ledger.table.detections.category]
    ap50 = ledger.metrics_of(ledger.counted & ~free)["AP50"]
    yield _Other("without these, the same", {"AP50": ap50}, num_detections=int(free.sum()))


def _absent_categories(ledger: _Ledger) -> Iterator[_Other]:
    category = ledger.table.detections.category
    absent = ledger.table.num_groundtruth == 0
    num_wrong = np.bincount(category[ledger.wrong], minlength=len(absent)) * absent
    precision = ledger.precision.copy()
    precision[..., num_wrong > 0] = 0
    instead = f"the {(num_wrong > 0).sum()} with false positives count as 0"
    yield _Other(instead, _metrics(precision), num_detections=int(num_wrong.sum()))


def _mean_over_categories(ledger: _Ledger) -> Iterator[_Other]:
    num = ledger.table.num_groundtruth
    of_categories = ledger.precision.mean(axis=1)

    def weighted(values: Floats) -> float | None:
        return float(np.average(values.mean(axis=0), weights=num)) if num.any() else None

    metrics = {"AP": weighted(of_categories), "AP50": weighted(of_categories[:1])}
    yield _Other("weighted by their numbers of objects", metrics)


def _class_agnostic(ledger: _Ledger) -> Iterator[_Other]:
    table = ledger.table
    metrics = class_agnostic(table, ledger.confidence)
    first_100 = matching.rank_in_cell(table.detections.image) < MAX_DETECTIONS
    right = table.true_positive[:, IOU_INDEX] & ledger.counted
    right_across = table.outcomes_across_categories[0][:, IOU_INDEX] & first_100
    changed = int((right != right_across).sum())
    yield _Other("any class, 100 detections an image", {name: metrics[name] for name in METRICS[:2]}, None, changed)


def _recalls(ledger: _Ledger) -> Iterator[_Other]:
    exact = np.nan_to_num(average_precision(ledger.table)[1], nan=-1.0)
    yield _Other("the exact area under the curve", _metrics(exact))
    yield _Other("at 11 recalls, as in PASCAL VOC 2007", _metrics(ledger.precision[:, _ELEVEN]))


def _ties(ledger: _Ledger) -> Iterator[_Other]:
    table = ledger.table
    rows_by_category = table.first_100_by_category
    best, worst = (np.full_like(ledger.precision, -1.0) for _ in range(2))
    num_tied = 0
    for category, (rows, num) in enumerate(zip(rows_by_category, table.num_groundtruth.tolist(), strict=True)):
        score = table.score[rows]
        true, false = table.true_positive[rows], table.false_positive[rows]
        group = np.cumsum(np.diff(score, prepend=np.inf) != 0)
        num_tied += _num_tied(group, true[:, IOU_INDEX], false[:, IOU_INDEX])
        # False positives last or first; those that are neither change nothing.
        for precision, sign in ((best, 1), (worst, -1)):
            order = np.argsort(3 * group[:, np.newaxis] + sign * (false.astype(int) - true), axis=0, kind="stable")
            ranked_true, ranked_false = (np.take_along_axis(outcome, order, axis=0) for outcome in (true, false))
            precision[..., category] = matching.precision_recall(score, ranked_true, ranked_false, num)[0]
    order = np.lexsort((-table.detections.image, -table.score, table.detections.category))
    order = order[ledger.counted[order]]
    reversed_rows = np.split(order, np.cumsum([len(rows) for rows in rows_by_category])[:-1])
    of_orders = {
        "images in reverse order": precision_recall_scores(table, reversed_rows)[0],
        "true positives first: the best case": best,
        "false positives first: the worst case": worst,
    }
    for instead, precision in of_orders.items():
        yield _Other(instead, _metrics(precision), num_detections=num_tied)


def _num_tied(group: Ints, true: Bools, false: Bools) -> int:
    """The number of true and false positives whose group has both."""
    num_true, num_false = (np.bincount(group[outcome], minlength=len(group) + 1) for outcome in (true, false))
    return int((num_true + num_false)[(num_true > 0) & (num_false > 0)].sum())


def _crowds(ledger: _Ledger) -> Iterator[_Other]:
    table, crowd = ledger.table, _crowd(ledger.table)
    concerned = int(crowd.sum()), ledger.num_matching(crowd)
    others = table.pairs.where(~crowd[table.pairs.groundtruth])
    without = dataclasses.replace(table, pairs=others)
    without = dataclasses.replace(without, matches=without.rematched())
    yield _Other("left out: who would match one is wrong", _metrics(precision_recall_scores(without)[0]), *concerned)
    # The IoU with a crowd is another one than with an object.
    rows = np.flatnonzero(crowd)
    as_objects = dataclasses.replace(table.groundtruth.rows(rows), crowd=np.zeros(len(rows), bool))
    pairs = matching.find_pairs(table.iou_type, as_objects, table.detections, IOU_THRESHOLDS[0])
    pairs = Pairs(
        np.concatenate((others.detection, pairs.detection)),
        np.concatenate((others.groundtruth, rows[pairs.groundtruth].astype(np.int32))),
        np.concatenate((others.iou, pairs.iou)),
    )
    groundtruth = dataclasses.replace(table.groundtruth, crowd=np.zeros(len(crowd), bool))
    counted = dataclasses.replace(table, groundtruth=groundtruth, pairs=pairs)
    counted = dataclasses.replace(counted, matches=counted.rematched())
    yield _Other("objects like others", _metrics(precision_recall_scores(counted)[0]), *concerned)


def _difficult(ledger: _Ledger) -> Iterator[_Other]:
    yield _Other(
        "ignored like crowds: nobody has to find them",
        _metrics(precision_recall_scores(ledger.given)[0]),
        int(ledger.difficult.sum()),
        ledger.num_matching(ledger.difficult),
    )


def _areas(ledger: _Ledger) -> Iterator[_Other]:
    groundtruth, detections = ledger.table.groundtruth, ledger.table.detections
    areas = {"of boxes, of both": tuple(objects.box[:, 2] * objects.box[:, 3] for objects in (groundtruth, detections))}
    if "segm" in ledger.tables:
        # Tables of boxes and of masks have the same rows.
        of_masks = ledger.tables["segm"]
        assert of_masks.groundtruth.mask_area is not None
        assert of_masks.detections.mask_area is not None
        areas["of masks, of both"] = of_masks.groundtruth.mask_area, of_masks.detections.mask_area
    for instead, (of_groundtruth, of_detections) in areas.items():
        table = dataclasses.replace(
            ledger.table,
            groundtruth=dataclasses.replace(groundtruth, area=of_groundtruth),
            detections=dataclasses.replace(detections, area=of_detections),
        )
        concerned = (
            int((_sizes(before) != _sizes(after)).any(axis=0).sum())
            for before, after in ((groundtruth.area, of_groundtruth), (detections.area, of_detections))
        )
        yield _Other(instead, _by_size(table, COCO_RANGES), *concerned)


def _bounds(ledger: _Ledger) -> Iterator[_Other]:
    concerned = (
        int(np.isin(objects.area, (_SMALL, _LARGE)).sum())
        for objects in (ledger.table.groundtruth, ledger.table.detections)
    )
    yield _Other("only to the larger", _by_size(ledger.table, _HALF_OPEN_RANGES), *concerned)


def _sizes(area: Floats) -> Bools:
    """bool `[3, n]`: which of COCO's sizes an area is."""
    return np.stack([(area >= low) & (area <= high) for low, high in COCO_RANGES.values()])


# What COCO does, what changes it, and the other ways to do it.
_CHOICES: tuple[tuple[str, str, Callable[[_Ledger], Iterator[_Other]]], ...] = (
    ("At most 100 detections of an image and class count", "pycocotools' maxDets", _limits),
    ("All scores count: never filter by a confidence before AP", "the config's score_threshold", _confidences),
    ("False positives below the last object found cost nothing", "no setting", _last_recall),
    (
        "Classes without objects drop out, with their false positives",
        "an object of the class",
        _absent_categories,
    ),
    ("Each class counts the same in the mean", "no setting", _mean_over_categories),
    ("A detection must have the class of its object", "pycocotools' useCats", _class_agnostic),
    ("AP is the mean of precision at 101 recalls", "pycocotools' recThrs", _recalls),
    ("Equal scores are ranked by image", "the ids of images", _ties),
    ("Crowds are ignored: who matches one is neither right nor wrong", "the annotation's iscrowd", _crowds),
    ("Difficult objects count like others", "GroundTruth.difficult, in analyses", _difficult),
    ("Sizes are by the annotation's area; of unmatched detections by their own", "fields area, bbox", _areas),
    ("An area of just 32² or 96² belongs to both sizes", "pycocotools' areaRng", _bounds),
)
