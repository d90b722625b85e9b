"""The object table: every detection and every object of an evaluation, and who matches whom.

    table = evaluator.object_tables()["bbox"]
    table.true_positive[:, 0] & (table.detections.score >= 0.5)

All analyses (`od_eval.evaluation.analyses`) are computed from it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from od_eval.evaluation import matching
from od_eval.evaluation.columns import ImageId, Size
from od_eval.evaluation.matching import IOU_THRESHOLDS, MAX_DETECTIONS, Bools, Floats, Ints, Matches, Pairs
from od_eval.evaluation.objects import Objects

IouType = Literal["bbox", "segm"]

# Pairs that overlap less are not kept. It is also TIDE's bound between a badly located and a false detection.
MIN_IOU = 0.1
# COCO's area range "all": a detection outside of it (with a negative area) that matches nothing does not count.
MAX_AREA = 1e5**2

# What is wrong with a false positive, or with an object that nothing matches, at IoU 0.50: TIDE's kinds (Bolya et al.,
# A General Toolbox for Identifying Object Detection Errors, ECCV 2020). "" if nothing is.
ERROR_KINDS = ("", "class", "location", "both", "duplicate", "background", "missed")
# Detections of these kinds mean an object, in a wrong place or class: it is not missed.
EXPLAIN_AN_OBJECT = [ERROR_KINDS.index(kind) for kind in ("class", "location")]


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The best partner of each row, without regard to who matches whom; crowds are nobody's.

    iou: float64 `[n]`, the highest IoU with a partner of the same category; 0 below `MIN_IOU`.
    row: int64 `[n]`, the row of this partner; -1 for none.
    other_iou, other_row: the same for partners of other categories.
    """

    iou: Floats
    row: Ints
    other_iou: Floats
    other_row: Ints


@dataclasses.dataclass(frozen=True)
class ObjectTable:
    """Detections and objects of an evaluation, by boxes or by masks.

    Attributes:
      iou_type: whether boxes (`bbox`) or masks (`segm`) are matched.
      categories: id -> name; rows have the index of their category in it.
      images: id -> height and width; rows have the index of their image in it. Also images without rows.
      groundtruth: the objects.
      detections: the detections: by image, in an image by descending score.
      pairs: all that overlap by `MIN_IOU` or more, also of different categories.
      matches: who matches whom in the same category.
    """

    iou_type: IouType
    categories: Mapping[int, str]
    images: Mapping[ImageId, Size]
    groundtruth: Objects
    detections: Objects
    pairs: Pairs
    matches: Matches

    @functools.cached_property
    def ignored(self) -> Bools:
        """bool `[objects]`: crowds and difficult objects. Who matches one is neither right nor wrong; nobody has to."""
        crowd, difficult = self.groundtruth.crowd, self.groundtruth.difficult
        assert crowd is not None
        return crowd if difficult is None else crowd | difficult

    @functools.cached_property
    def uncounted(self) -> Bools:
        """bool `[detections]`: unlike others, they are not false positives if they match nothing."""
        area = self.detections.area
        return (area < 0) | (area > MAX_AREA)

    @functools.cached_property
    def outcomes(self) -> tuple[Bools, Bools]:
        """True positives and false positives at each of `IOU_THRESHOLDS`, bool `[detections, 10]`."""
        return matching.outcomes(self.matches, self.ignored, self.uncounted)

    @property
    def true_positive(self) -> Bools:
        return self.outcomes[0]

    @property
    def false_positive(self) -> Bools:
        return self.outcomes[1]

    @functools.cached_property
    def outcomes_across_categories(self) -> tuple[Bools, Bools]:
        """The same if a detection may match an object of any category."""
        return matching.outcomes(self.rematched(across_categories=True), self.ignored, self.uncounted)

    @functools.cached_property
    def rank(self) -> Ints:
        """int `[detections]`: the rank by score in the image and category, from 0. COCO counts the first 100."""
        return matching.rank_in_cell(self._cells)

    @functools.cached_property
    def by_category(self) -> list[Ints]:
        """For each category the rows of its detections by descending score, and in the order of the table."""
        rows = np.lexsort((-self.score, self.detections.category))
        nums = np.bincount(self.detections.category, minlength=len(self.categories))
        return np.split(rows, np.cumsum(nums)[:-1])

    @functools.cached_property
    def first_100_by_category(self) -> list[Ints]:
        """The same of the detections that COCO counts: the first 100 of each image and category."""
        return [rows[self.rank[rows] < MAX_DETECTIONS] for rows in self.by_category]

    @property
    def score(self) -> Floats:
        assert self.detections.score is not None
        return self.detections.score

    @functools.cached_property
    def matched_score(self) -> Floats:
        """float64 `[objects, 10]`: the score of the detection that matches each object; -inf for none.

        An object is found at a confidence if this is not below it.
        """
        by = self.matches.groundtruth
        if not len(self.detections):
            return np.full(by.shape, -np.inf)
        return np.where(by >= 0, self.score[by], -np.inf)

    def is_above(self, confidence: float | Floats) -> Bools:
        """bool `[detections]`: whether the score is not below a confidence.

        Args:
          confidence: one for all, or float `[categories]`.
        """
        return self.score >= np.broadcast_to(confidence, len(self.categories))[self.detections.category]

    def is_found(self, confidence: float | Floats) -> Bools:
        """bool `[objects, 10]`: whether a detection not below the confidence matches the object; see `is_above`."""
        bounds = np.broadcast_to(confidence, len(self.categories))[self.groundtruth.category]
        return self.matched_score >= bounds[:, np.newaxis]

    @functools.cached_property
    def num_groundtruth(self) -> Ints:
        """int `[categories]`: the number of objects that are not ignored."""
        return np.bincount(self.groundtruth.category[~self.ignored], minlength=len(self.categories))

    @functools.cached_property
    def nearest(self) -> tuple[Nearest, Nearest]:
        """The best partners of the detections and of the objects."""
        assert self.groundtruth.crowd is not None
        pairs = self.pairs.where(~self.groundtruth.crowd[self.pairs.groundtruth])
        same = self._of_same_category(pairs)
        columns = [
            (_best(getattr(of, side), getattr(of, other), of.iou, num))
            for side, other, num in (
                ("detection", "groundtruth", len(self.detections)),
                ("groundtruth", "detection", len(self.groundtruth)),
            )
            for of in (pairs.where(same), pairs.where(~same))
        ]
        return Nearest(*columns[0], *columns[1]), Nearest(*columns[2], *columns[3])

    @functools.cached_property
    def errors(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """The error kinds of detections and of objects, indices in `ERROR_KINDS`, if all detections are used."""
        return self.errors_of(np.ones(len(self.detections), bool))

    def errors_of(self, used: Bools) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """The same if only some detections are used: bool `[detections]`. Those that are not have no error."""
        kinds = np.where(used & self.false_positive[:, 0], self._kind_of_false_positive[0], np.int8(0))
        meant = self.meant_object[np.isin(kinds, EXPLAIN_AN_OBJECT)]
        found = self.matches.detection[used, 0]
        missed = ~self.ignored
        missed[found[found >= 0]] = False
        missed[meant] = False
        return kinds, np.where(missed, ERROR_KINDS.index("missed"), 0).astype(np.int8)

    @property
    def meant_object(self) -> Ints:
        """int `[detections]`: the object that each detection of the kinds `EXPLAIN_AN_OBJECT` overlaps most."""
        return self._kind_of_false_positive[1]

    @functools.cached_property
    def _kind_of_false_positive(self) -> tuple[npt.NDArray[np.int8], Ints]:
        """What is wrong with each detection if it is not right, and the object that it then means."""
        counted = self.pairs.where(~self.ignored[self.pairs.groundtruth])
        same = self._of_same_category(counted)
        num = len(self.detections)
        (iou, row), (other_iou, other_row) = (
            _best(of.detection, of.groundtruth, of.iou, num) for of in (counted.where(same), counted.where(~same))
        )
        positive = IOU_THRESHOLDS[0]
        conditions = {  # in TIDE's order: the first that holds
            "location": (iou >= MIN_IOU) & (iou < positive),
            "class": other_iou >= positive,
            "duplicate": iou >= positive,
            "both": other_iou >= MIN_IOU,
        }
        choices = [np.int8(ERROR_KINDS.index(name)) for name in conditions]
        kinds = np.select(list(conditions.values()), choices, np.int8(ERROR_KINDS.index("background")))
        return kinds, np.where(conditions["location"], row, other_row)

    def rematched(self, *, ignored: Bools | None = None, across_categories: bool = False) -> Matches:
        """The matches if other objects are ignored, or if the category does not matter.

        Args:
          ignored: bool `[objects]`; by default `self.ignored`.
          across_categories: whether a detection may match an object of another category.
        """
        pairs = self.pairs if across_categories else self.pairs.where(self._of_same_category(self.pairs))
        cells = self.detections.image if across_categories else self._cells
        assert self.groundtruth.crowd is not None
        return matching.match(pairs, cells, self.groundtruth.crowd, self.ignored if ignored is None else ignored)

    @property
    def _cells(self) -> Ints:
        return self.detections.image.astype(np.int64) * len(self.categories) + self.detections.category

    def _of_same_category(self, pairs: Pairs) -> Bools:
        return self.detections.category[pairs.detection] == self.groundtruth.category[pairs.groundtruth]


def object_table(
    iou_type: IouType,
    categories: Mapping[int, str],
    images: Mapping[ImageId, Size],
    groundtruth: Objects,
    detections: Objects,
) -> ObjectTable:
    """Matches the detections with the objects of all images.

    Args:
      iou_type, categories, images: see `ObjectTable`.
      groundtruth, detections: of all images; detections of an image in any order.
    """
    detections = detections.rows(matching.in_order_of_ranking(detections))
    pairs = matching.find_pairs(iou_type, groundtruth, detections, MIN_IOU)
    nobody = Matches(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int32))
    table = ObjectTable(iou_type, categories, images, groundtruth, detections, pairs, nobody)
    return dataclasses.replace(table, matches=table.rematched())


def precision_recall_scores(
    table: ObjectTable, rows_by_category: Sequence[Ints] | None = None
) -> tuple[Floats, Floats, Floats]:
    """COCO's precision `[10, 101, categories]`, recall `[10, categories]` and scores `[10, 101, categories]`.

    Args:
      table: the object table.
      rows_by_category: the detections of each category that count; by default `table.first_100_by_category`.
    """
    true, false = table.outcomes
    any_true, any_false = (np.logical_or.reduce(outcome, axis=1) for outcome in (true, false))
    arrays = []
    for rows, num in zip(rows_by_category or table.first_100_by_category, table.num_groundtruth.tolist(), strict=True):
        # What comes after the last true positive changes nothing, nor what counts as neither, but for the first score.
        counted = rows[any_true[rows] | any_false[rows]]
        last = np.flatnonzero(any_true[counted])[-1:]
        counted = counted[: last[0] + 1 if len(last) else 1]
        arrays.append(matching.precision_recall(table.score[counted], true[counted], false[counted], num))
        if num and len(rows):
            arrays[-1][2][:, 0] = table.score[rows[0]]
    precision, recall, scores = zip(*arrays, strict=True)
    return np.stack(precision, -1), np.stack(recall, -1), np.stack(scores, -1)


def _best(of: Ints, partner: Ints, iou: Floats, num: int) -> tuple[Floats, Ints]:
    """For each row the highest IoU and the partner; of equal ones the first."""
    best, row = np.zeros(num), np.full(num, -1, np.int64)
    order = np.lexsort((-partner, iou, of))
    last = np.flatnonzero(np.diff(of[order], append=-1))
    chosen = order[last]
    best[of[chosen]] = iou[chosen]
    row[of[chosen]] = partner[chosen]
    return best, row
