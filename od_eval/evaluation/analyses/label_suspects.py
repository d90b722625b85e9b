"""Label suspects: ground truth that is probably wrong, for a person to look at.

A detector that has learned from mostly right labels disagrees with wrong ones. Where it is confident and disagrees, the
label is suspected. Detections that overlap a crowd or a difficult object by an IoU of 0.1 or more are left out, as are
these objects.

A detection is confident if its score is not below the mean score of the detections of its category that are right
(at an IoU of 0.50). This is the threshold of confident learning (Northcutt et al., Confident Learning: Estimating
Uncertainty in Dataset Labels, JAIR 2021). It needs no calibrated scores and adapts to each category. A category in
which nothing is right takes the mean over all categories. If nothing at all is right, the detector is no judge of
labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from od_eval.evaluation import coco_json, matching
from od_eval.evaluation.matching import IOU_THRESHOLDS, Bools, Floats, Ints
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable

Kind = Literal["missing", "class", "location", "extra"]

# From here on a box is taken for that of the object. Below, it may be that of another object next to it or a part.
SAME_PLACE_IOU = 0.7
# A badly located label has an IoU with the detection from 0.3 up to, but without, 0.6. Below, the detection may mean
# another object; above, people who draw boxes differ by as much.
LOCATION_IOUS = 0.3, 0.6
# The weakest kind: that a detector does not see an object is mostly the detector's fault.
EXTRA_WEIGHT = 0.5


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong.

    kind: "missing": an object has no label. "class": the label is of a wrong category. "location": its box, or its
      mask, is badly placed. "extra": there is no such object.
    image: the index of the image in `table.images`.
    detection: the row of the detection that proposes the right label; -1 for "extra".
    groundtruth: the row of the label; -1 for "missing".
    score: of the detection; None for "extra".
    iou: of detection and label; 0 if one is not there.
    suspicion: 0 to 1, see `label_suspects`.
    """

    kind: Kind
    image: int
    detection: int
    groundtruth: int
    score: float | None
    iou: float
    suspicion: float


def label_suspects(table: ObjectTable) -> list[Suspect]:
    """All suspects, most suspicious first. Each label and each detection is in one of them at most.

    In the following, the *standing* of a detection is the part of the right detections of its category with scores not
    above its own.

    - missing: a confident detection that overlaps no object. Of several that overlap each other by an IoU of 0.50 or
      more, the one with the highest score counts. Suspicion: the standing.
    - class: a confident false positive has an IoU of `SAME_PLACE_IOU` or more with an object of another category, and
      no confident detection of the object's own category has one of 0.50 or more. Suspicion: standing × IoU.
    - location: a confident detection has an IoU in `LOCATION_IOUS` with an object of its category, and no detection of
      this category, of whatever score, has one above that range. Suspicion: standing × (1 − IoU).
    - extra: no detection of any category and score overlaps the object. Suspicion: `EXTRA_WEIGHT` × recall of its
      category, with all detections.

    An IoU below 0.1 is no overlap.

    Args:
      table: the object table.
    """
    right = table.true_positive[:, 0]
    if not right.any():
        return []
    of_detection, of_object = table.nearest
    positive = IOU_THRESHOLDS[0]
    confident = table.score >= _mean_right_score(table)[table.detections.category]
    near_ignored = np.zeros(len(table.detections), bool)
    near_ignored[table.pairs.detection[table.ignored[table.pairs.groundtruth]]] = True
    judges = confident & ~near_ignored & (right | table.false_positive[:, 0])
    background = table.errors[0] == ERROR_KINDS.index("background")

    missing = _best_of_each_place(table, np.flatnonzero(judges & background))

    well_named = _is_overlapped(table, confident, positive)
    renames = np.flatnonzero(
        judges & table.false_positive[:, 0] & (of_detection.other_iou >= SAME_PLACE_IOU) & (of_detection.iou < positive)
    )
    renames = renames[~well_named[of_detection.other_row[renames]]]
    renamed = of_detection.other_row[renames]

    low, high = LOCATION_IOUS
    moves = np.flatnonzero(judges & (of_detection.iou >= low) & (of_detection.iou < high))
    moves = moves[of_object.iou[of_detection.row[moves]] < high]
    moved = of_detection.row[moves]

    extra = np.flatnonzero(~table.ignored & (of_object.row < 0) & (of_object.other_row < 0))
    found = np.bincount(
        table.groundtruth.category[~table.ignored & (table.matches.groundtruth[:, 0] >= 0)],
        minlength=len(table.categories),
    )
    recall = found / np.maximum(table.num_groundtruth, 1)

    disputes = [
        *_suspects("class", table, renames, renamed, of_detection.other_iou[renames], of_detection.other_iou[renames]),
        *_suspects("location", table, moves, moved, of_detection.iou[moves], 1 - of_detection.iou[moves]),
    ]
    suspects = [
        *_suspects("missing", table, missing, np.full(len(missing), -1), np.zeros(len(missing)), np.ones(len(missing))),
        *_most_suspicious(disputes),
        *(
            Suspect("extra", int(table.groundtruth.image[row]), -1, int(row), None, 0.0, float(suspicion))
            for row, suspicion in zip(extra, EXTRA_WEIGHT * recall[table.groundtruth.category[extra]], strict=True)
        ),
    ]
    return sorted(suspects, key=lambda suspect: -suspect.suspicion)


def suspects_json(table: ObjectTable, suspects: Sequence[Suspect]) -> dict[str, Any]:
    """The labels that are proposed, in COCO format, for `json.dump` and annotation tools.

    All images of the table are in it, as `coco_json.groundtruth_json` writes them. Each suspect is an annotation with
    the box, the category and, of masks, the RLE of its detection (of its label for "extra"). Besides COCO's fields it
    has `score` (not for "extra") and, as `attributes`, `suspect` (the kind), `suspicion` and `groundtruth_row` (the row
    of the label; -1 for none).

    Args:
      table: the object table.
      suspects: of this table.
    """
    proposals = [
        (table.groundtruth, suspect.groundtruth) if suspect.detection < 0 else (table.detections, suspect.detection)
        for suspect in suspects
    ]
    columns = {
        "image": np.array([suspect.image for suspect in suspects], int),
        "category": np.array([objects.category[row] for objects, row in proposals], int),
        "box": np.array([objects.box[row] for objects, row in proposals], float).reshape(-1, 4),
        "area": np.array([objects.area[row] for objects, row in proposals], float),
        "crowd": np.zeros(len(suspects), bool),
        "difficult": np.zeros(len(suspects), bool),
    }
    if table.iou_type == "segm":
        columns["mask"] = np.array(
            [objects.masks[row]["counts"] for objects, row in proposals if objects.masks], object
        )
    content = coco_json.groundtruth_json(table.images, table.categories, columns)
    for annotation, suspect in zip(content["annotations"], suspects, strict=True):
        if suspect.score is not None:
            annotation["score"] = suspect.score
        annotation["attributes"] = {
            "suspect": suspect.kind,
            "suspicion": suspect.suspicion,
            "groundtruth_row": suspect.groundtruth,
        }
    return content


def _mean_right_score(table: ObjectTable) -> Floats:
    """float64 `[categories]`: the mean score of the right detections; where there are none, that of all categories."""
    right = table.true_positive[:, 0]
    category, score = table.detections.category[right], table.score[right]
    num = np.bincount(category, minlength=len(table.categories))
    total = np.bincount(category, score, len(table.categories))
    return np.where(num > 0, total / np.maximum(num, 1), score.mean())


def _standing(table: ObjectTable, rows: Ints) -> Floats:
    """float64 `[rows]`: the part of the right detections of the category with scores not above that of the row."""
    right = table.true_positive[:, 0]
    category, score = table.detections.category, table.score
    standing = np.zeros(len(rows))
    for index in np.unique(category[rows]):
        of_category = category[rows] == index
        scores = np.sort(score[right & (category == index)])
        if not len(scores):
            scores = np.sort(score[right])
        standing[of_category] = np.searchsorted(scores, score[rows[of_category]], side="right") / len(scores)
    return standing


def _best_of_each_place(table: ObjectTable, rows: Ints) -> Ints:
    """Those rows that no better row of the same image, of whatever category, overlaps by an IoU of 0.50 or more."""
    candidates = table.detections.rows(rows)
    as_objects = dataclasses.replace(candidates, crowd=np.zeros(len(rows), bool))
    pairs = matching.find_pairs(table.iou_type, as_objects, candidates, IOU_THRESHOLDS[0])
    kept = np.ones(len(rows), bool)
    better = pairs.groundtruth < pairs.detection
    # In the order of the table the better of two is decided on before the other.
    for row, better_row in zip(pairs.detection[better].tolist(), pairs.groundtruth[better].tolist(), strict=True):
        if kept[better_row]:
            kept[row] = False
    return rows[kept]


def _is_overlapped(table: ObjectTable, by: Bools, min_iou: float) -> Bools:
    """bool `[objects]`: whether one of the detections in `by`, of the object's category, has an IoU of `min_iou`."""
    pairs = table.pairs
    same = table.detections.category[pairs.detection] == table.groundtruth.category[pairs.groundtruth]
    overlapped = np.zeros(len(table.groundtruth), bool)
    overlapped[pairs.groundtruth[same & by[pairs.detection] & (pairs.iou >= min_iou)]] = True
    return overlapped


def _suspects(
    kind: Kind, table: ObjectTable, detections: Ints, groundtruth: Ints, iou: Floats, weight: Floats
) -> list[Suspect]:
    """The suspects of a kind; the suspicion is standing × weight."""
    columns = (
        table.detections.image[detections],
        detections,
        groundtruth,
        table.score[detections],
        iou,
        _standing(table, detections) * weight,
    )
    return [Suspect(kind, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _most_suspicious(suspects: Iterable[Suspect]) -> list[Suspect]:
    """One suspect for each label, and one for each detection: the most suspicious one."""
    chosen: list[Suspect] = []
    taken: set[tuple[str, int]] = set()
    for suspect in sorted(suspects, key=lambda suspect: -suspect.suspicion):
        ends = {("detection", suspect.detection), ("groundtruth", suspect.groundtruth)}
        if not ends & taken:
            chosen.append(suspect)
            taken |= ends
    return chosen
