"""Matches detections with objects, as the COCO protocol does, in one pass over all images.

First the pairs: every detection and object of the same image that overlap, of whatever categories. Then rounds: in
each, every cell (an image and a category) lets its next detection, in descending order of scores, take the object that
it overlaps most. All cells and all ten IoU thresholds take a round at once.

What a detection matches depends only on the detections with higher scores. So one pass serves every confidence.

The results equal pycocotools' and hotcoco's to the last bit (tests/evaluation/test_matching.py).
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from hotcoco import mask as _mask

from od_eval.evaluation.objects import Objects

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Computed as pycocotools computes them (Params.setDetParams), to be equal to the last bit.
IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS: Floats = np.linspace(0.0, 1.0, 101)
# COCO counts this many detections of an image and category, those with the highest scores.
MAX_DETECTIONS = 100

# Combinations of a detection and an object that a thread computes at once: 50 MB. NumPy works outside of Python's lock.
_COMBINATIONS_AT_A_TIME = 500_000
_THREADS = 2


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Detections and objects of the same image that overlap, in ascending order of detections, then of objects.

    detection, groundtruth: int32 `[n]`, rows.
    iou: float64 `[n]`; with a crowd, the part of the detection inside it, as in COCO.
    """

    detection: npt.NDArray[np.int32]
    groundtruth: npt.NDArray[np.int32]
    iou: Floats

    def where(self, chosen: Bools) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.detection[chosen], self.groundtruth[chosen], self.iou[chosen])


@dataclasses.dataclass(frozen=True)
class Matches:
    """Who matches whom at each of `IOU_THRESHOLDS`: rows of the partner, -1 for none.

    detection: int32 `[detections, 10]`.
    groundtruth: int32 `[objects, 10]`; of the detections that match a crowd, the one with the highest score.
    """

    detection: npt.NDArray[np.int32]
    groundtruth: npt.NDArray[np.int32]


def in_order_of_ranking(detections: Objects) -> Ints:
    """The rows by image, in an image by descending score; COCO ranks equal scores by category, then as they are given.

    The functions below expect detections in this order.
    """
    assert detections.score is not None
    return np.lexsort((detections.category, -detections.score, detections.image))


def find_pairs(iou_type: Literal["bbox", "segm"], groundtruth: Objects, detections: Objects, min_iou: float) -> Pairs:
    """All pairs with an IoU of at least `min_iou`, of equal and of different categories.

    Args:
      iou_type: whether the IoU is that of boxes or of masks.
      groundtruth: of all images; `crowd` is needed.
      detections: of all images.
      min_iou: above 0.
    """
    assert groundtruth.crowd is not None
    num_images = 1 + max((int(objects.image[-1]) for objects in (groundtruth, detections) if len(objects)), default=-1)
    first_object = np.searchsorted(groundtruth.image, np.arange(num_images + 1))
    num_objects = np.diff(first_object)[detections.image] if len(detections) else np.zeros(0, int)
    combinations = np.concatenate(([0], np.cumsum(num_objects)))
    of_masks = _MaskOverlaps(groundtruth, detections) if iou_type == "segm" else None
    bounds = [0]
    while bounds[-1] < len(detections):
        next_combination = combinations[bounds[-1]] + _COMBINATIONS_AT_A_TIME
        stop = int(np.searchsorted(combinations, next_combination, side="right")) - 1
        bounds.append(max(stop, bounds[-1] + 1))

    def pairs_of(start: int, stop: int) -> tuple[Ints, Ints, Floats]:
        num = num_objects[start:stop]
        detection = np.repeat(np.arange(start, stop), num)
        groundtruth_row = np.arange(len(detection)) - np.repeat(combinations[start:stop] - combinations[start], num)
        groundtruth_row += np.repeat(first_object[detections.image[start:stop]], num)
        if of_masks is None:
            iou = _box_overlaps(groundtruth, groundtruth_row, detections, detection)
        else:
            iou = of_masks.iou(groundtruth_row, detection, min_iou)
        kept = iou >= min_iou
        return detection[kept].astype(np.int32), groundtruth_row[kept].astype(np.int32), iou[kept]

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(pairs_of, bounds[:-1], bounds[1:]))
    if not parts:
        return Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def match(pairs: Pairs, cells_of_detections: Ints, crowd: Bools, ignored: Bools) -> Matches:
    """Matches detections with objects, greedily in descending order of scores.

    A detection takes the object with the highest IoU that is not yet taken, and one to be ignored only if there is no
    other. A crowd can be taken by any number.

    Args:
      pairs: that may match: of the same cell; those below the lowest threshold are left out.
      cells_of_detections: int `[detections]`: what detections compete with each other, such as those of an image and a
        category.
      crowd, ignored: bool `[objects]`.
    """
    matched = np.full((len(cells_of_detections), len(IOU_THRESHOLDS)), -1, np.int32)
    matched_by = np.full((len(crowd), len(IOU_THRESHOLDS)), -1, np.int32)
    pairs = pairs.where(pairs.iou >= IOU_THRESHOLDS[0])
    if len(pairs.iou):
        candidates, of_candidate = np.unique(pairs.detection, return_inverse=True)
        rounds = rank_in_cell(cells_of_detections[candidates])[of_candidate]
        # In each detection's pairs, the one to be preferred comes last; of equal ones the last object, as in COCO.
        preference = np.lexsort((pairs.groundtruth, pairs.iou, ~ignored[pairs.groundtruth], pairs.detection, rounds))
        detection, groundtruth, iou = (column[preference] for column in (pairs.detection, pairs.groundtruth, pairs.iou))
        reaches = iou[:, np.newaxis] >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
        is_crowd = crowd[groundtruth, np.newaxis]
        bounds = np.searchsorted(rounds[preference], np.arange(rounds.max() + 2))
        for start, stop in itertools.pairwise(bounds.tolist()):
            objects = groundtruth[start:stop]
            free = reaches[start:stop] & (is_crowd[start:stop] | (matched_by[objects] < 0))
            chosen = np.where(free, np.arange(stop - start)[:, np.newaxis], -1)
            first = np.flatnonzero(np.diff(detection[start:stop], prepend=-1))
            best = np.maximum.reduceat(chosen, first)
            of_round, thresholds = np.nonzero(best >= 0)
            taken = objects[best[of_round, thresholds]]
            taker = detection[start + first[of_round]]
            matched[taker, thresholds] = taken
            not_yet = matched_by[taken, thresholds] < 0
            matched_by[taken[not_yet], thresholds[not_yet]] = taker[not_yet]
    return Matches(matched, matched_by)


def rank_in_cell(cells: Ints) -> Ints:
    """The rank of each row among those of its cell, from 0, in the order of the rows."""
    order = np.argsort(cells, kind="stable")
    of_row = np.empty(len(cells), np.int64)
    is_first = np.diff(cells[order], prepend=-1) != 0
    positions = np.arange(len(cells))
    of_row[order] = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    return of_row


def outcomes(matches: Matches, ignored: Bools, uncounted: Bools) -> tuple[Bools, Bools]:
    """Which detections are true and which are false positives, bool `[detections, 10]`; some are neither.

    Args:
      matches: of the detections.
      ignored: bool `[objects]`: whoever matches one of them is neither.
      uncounted: bool `[detections]`: they are not false positives, for example because of their area.
    """
    is_matched = matches.detection >= 0
    of_ignored = is_matched & ignored[matches.detection] if len(ignored) else np.zeros_like(is_matched)
    return is_matched & ~of_ignored, ~is_matched & ~uncounted[:, np.newaxis]


def precision_recall(
    score: Floats, true_positive: Bools, false_positive: Bools, num_groundtruth: int
) -> tuple[Floats, Floats, Floats]:
    """COCO's precision at the 101 recalls, its recall, and the scores at these recalls.

    Args:
      score: float64 `[n]`, of the detections of a category, in their order.
      true_positive, false_positive: bool `[n, 10]`.
      num_groundtruth: the number of objects, without those that are ignored.

    Returns:
      Precision `[10, 101]`, recall `[10]`, scores `[10, 101]`, as in the arrays of pycocotools' `accumulate`; -1 if
      there are no objects.
    """
    shape = (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS))
    if not num_groundtruth:
        return np.full(shape, -1.0), np.full(shape[0], -1.0), np.full(shape, -1.0)
    precisions, recalls, scores = np.zeros(shape), np.zeros(shape[0]), np.zeros(shape)
    if (score[1:] > score[:-1]).any():
        order = np.argsort(-score, kind="stable")
        score, true_positive, false_positive = score[order], true_positive[order], false_positive[order]
    for row in range(shape[0]):
        is_true = true_positive[:, row]
        # Precision is highest, and recall rises, at true positives: only these are looked at.
        at = np.flatnonzero(is_true)
        neither = np.flatnonzero(~(is_true | false_positive[:, row]))
        num_true = np.arange(1, len(at) + 1)
        precision = num_true / (at + 1 - np.searchsorted(neither, at) + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        recall = num_true / num_groundtruth
        recalls[row] = recall[-1] if len(at) else 0
        first = np.searchsorted(recall, RECALL_THRESHOLDS)
        reached = first < len(at)
        precisions[row, reached] = precision[first[reached]]
        scores[row, reached] = score[at[first[reached]]]
    if len(score):
        scores[:, 0] = score[0]  # recall 0 is reached by any detection
    return precisions, recalls, scores


# ---- Overlaps -------------------------------------------------------------------------------------------------------


def _intersections(boxes: Floats, others: Floats) -> Floats:
    width = np.minimum(boxes[:, 0] + boxes[:, 2], others[:, 0] + others[:, 2]) - np.maximum(boxes[:, 0], others[:, 0])
    height = np.minimum(boxes[:, 1] + boxes[:, 3], others[:, 1] + others[:, 3]) - np.maximum(boxes[:, 1], others[:, 1])
    return np.where((width > 0) & (height > 0), width * height, 0.0)


def _iou(intersection: Floats, area: Floats, other_area: Floats, crowd: Bools) -> Floats:
    """The IoU with objects; with a crowd, the part of the detection, of `area`, that is inside."""
    union = np.where(crowd, area, area + other_area - intersection)
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0)


def _box_overlaps(groundtruth: Objects, objects: Ints, detections: Objects, rows: Ints) -> Floats:
    assert groundtruth.crowd is not None
    box, other = detections.box[rows], groundtruth.box[objects]
    # Not `area`, which may be that of a mask.
    area, other_area = (boxes[:, 2] * boxes[:, 3] for boxes in (box, other))
    return _iou(_intersections(box, other), area, other_area, groundtruth.crowd[objects])


class _MaskOverlaps:
    """IoUs of masks. Only those are computed that may reach the least IoU, judged by the boxes around the masks."""

    def __init__(self, groundtruth: Objects, detections: Objects):
        assert groundtruth.crowd is not None
        assert groundtruth.masks is not None
        assert groundtruth.mask_area is not None
        assert detections.masks is not None
        assert detections.mask_area is not None
        self._image = detections.image
        self._crowd = groundtruth.crowd
        self._masks = groundtruth.masks, detections.masks
        self._boxes = [_boxes_around(masks) for masks in self._masks]
        self._areas = [groundtruth.mask_area, detections.mask_area]

    def iou(self, objects: Ints, rows: Ints, min_iou: float) -> Floats:
        iou = np.zeros(len(rows))
        (object_box, box), (object_area, area) = self._boxes, self._areas
        crowd = self._crowd[objects]
        most = np.minimum(_intersections(box[rows], object_box[objects]), np.minimum(area[rows], object_area[objects]))
        possible = np.flatnonzero(_iou(most, area[rows], object_area[objects], crowd) >= min_iou)
        if not len(possible):
            return iou
        images = self._image[rows[possible]]
        for of_image in np.split(possible, np.flatnonzero(np.diff(images)) + 1):
            of_objects, object_at = np.unique(objects[of_image], return_inverse=True)
            of_rows, row_at = np.unique(rows[of_image], return_inverse=True)
            computed = _mask.iou(
                [self._masks[1][row] for row in of_rows],
                [self._masks[0][row] for row in of_objects],
                self._crowd[of_objects].tolist(),
            )
            iou[of_image] = np.asarray(computed)[row_at, object_at]
        return iou


def _boxes_around(masks: Sequence[Any]) -> Floats:
    return np.asarray(_mask.to_bbox(list(masks)), np.float64).reshape(-1, 4) if masks else np.zeros((0, 4))
