"""What each kind of error costs: the AP that is gained if the errors of this kind alone were fixed.

The kinds, and how each is fixed, are TIDE's (Bolya et al., A General Toolbox for Identifying Object Detection Errors,
ECCV 2020), at an IoU of 0.50:

- `class`, `location`: the detection gets the category, or the place, of the object it overlaps most. If the object is
  found anyway, or another such detection of a higher score means it too, the detection is removed.
- `both`, `duplicate`, `background`: the detection is removed.
- `missed`: the object is removed.
- `false positives`: all false positives are removed.
- `false negatives`: all objects that are not found are removed.

The costs do not add up: fixing one kind of error changes what another costs.

They differ from those of TIDE's own program, tidecv, where that differs from COCO's protocol. As in COCO, the first 100
detections of an image and category count (tidecv: of an image), categories without objects have no AP (tidecv: 0 if
something is detected), and a detection that matches a crowd or a difficult object is no error (tidecv fixes it, which
can make it right). Equal scores keep their order (tidecv ranks fixed errors first). A detection whose IoU with an
object that is found is exactly 0.50 is a duplicate (tidecv: badly located). If nothing is left in a category, neither
objects nor false positives, its AP is 1 (tidecv: 0).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from od_eval.evaluation.matching import MAX_DETECTIONS, RECALL_THRESHOLDS, Bools, Floats, Ints
from od_eval.evaluation.object_table import ERROR_KINDS, EXPLAIN_AN_OBJECT, ObjectTable

COSTS = ("class", "location", "both", "duplicate", "background", "missed", "false positives", "false negatives")


def error_costs(table: ObjectTable) -> dict[str, float | None]:
    """The AP lost to each of `COSTS`, 0 to 1, the mean over categories; None without objects.

    Args:
      table: the object table.
    """
    return mean_costs(error_costs_per_category(table))


def mean_costs(per_category: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of costs over those categories that have objects; None if none has.

    Args:
      per_category: as `error_costs_per_category` returns it, or a part of it.
    """
    costs = {kind: [cost for of in per_category if (cost := of[kind]) is not None] for kind in COSTS}
    return {kind: float(np.mean(values)) if values else None for kind, values in costs.items()}


def error_costs_per_category(table: ObjectTable) -> list[dict[str, float | None]]:
    """The AP lost to each of `COSTS`, 0 to 1, in each category, in the order of `table.categories`.

    Args:
      table: the object table.

    Returns:
      For each category a dict of the names in `COSTS`; its values are None if the category has no objects.
    """
    num = table.num_groundtruth
    category = table.detections.category
    counts = table.rank < MAX_DETECTIONS
    right, wrong = table.true_positive[:, 0] & counts, table.false_positive[:, 0] & counts
    kinds = np.where(wrong, table.errors[0], 0)
    found = np.zeros(len(table.groundtruth), bool)
    found[table.matches.detection[right, 0]] = True

    rows = np.flatnonzero(np.isin(kinds, EXPLAIN_AN_OBJECT))
    means = table.meant_object[rows]
    unfound = ~found[means]
    rows, means = rows[unfound], means[unfound]
    missed = ~table.ignored & ~found
    num_unfound = np.bincount(table.groundtruth.category[missed], minlength=len(num))
    missed[means] = False
    num_missed = np.bincount(table.groundtruth.category[missed], minlength=len(num))
    # Of the detections that mean an object, the one with the highest score comes first in the table.
    means, first = np.unique(means, return_index=True)
    fixed = np.zeros(len(kinds), bool)
    fixed[rows[first]] = True
    fixed_category = category.copy()
    fixed_category[rows[first]] = table.groundtruth.category[means]

    order = np.lexsort((-table.score, category))
    ap = _average_precision(category, order, right, wrong, num)
    of_kind = {kind: kinds == number for number, kind in enumerate(ERROR_KINDS)}
    fixes = {kind: (wrong & ~of_kind[kind], num) for kind in ("both", "duplicate", "background")}
    fixes["false positives"] = np.zeros_like(wrong), num
    fixes["missed"] = wrong, num - num_missed
    fixes["false negatives"] = wrong, num - num_unfound
    after = {
        kind: _average_precision(category, order, right, still_wrong, num_left)
        for kind, (still_wrong, num_left) in fixes.items()
    }
    relocated = of_kind["location"]
    after["location"] = _average_precision(category, order, right | (fixed & relocated), wrong & ~relocated, num)
    renamed = of_kind["class"]
    category = np.where(renamed, fixed_category, category)
    order = np.lexsort((-table.score, category))
    after["class"] = _average_precision(category, order, right | (fixed & renamed), wrong & ~renamed, num)
    return [
        {kind: float(after[kind][index] - ap[index]) if num[index] else None for kind in COSTS}
        for index in range(len(num))
    ]


def _average_precision(category: Ints, order: Ints, right: Bools, wrong: Bools, num_groundtruth: Ints) -> Floats:
    """COCO's AP of each category at one IoU, float64 `[categories]`.

    Args:
      category: int `[detections]`.
      order: int `[detections]`, rows by category, in a category by descending score.
      right, wrong: bool `[detections]`; detections that are neither do not count.
      num_groundtruth: int `[categories]`.
    """
    order = order[(right | wrong)[order]]
    right = right[order]
    bounds = np.searchsorted(category[order], np.arange(len(num_groundtruth) + 1))
    ap = np.zeros(len(num_groundtruth))
    for index, num in enumerate(num_groundtruth):
        of_category = right[bounds[index] : bounds[index + 1]]
        if not num:
            ap[index] = not len(of_category)
            continue
        # Precision is highest at the true positives, so only these are looked at.
        ranks = np.flatnonzero(of_category)
        true = np.arange(1, len(ranks) + 1)
        precision = np.maximum.accumulate((true / (ranks + 1 + np.spacing(1)))[::-1])[::-1]
        at = np.searchsorted(true / num, RECALL_THRESHOLDS)
        ap[index] = precision[at[at < len(ranks)]].sum() / len(RECALL_THRESHOLDS)
    return ap
