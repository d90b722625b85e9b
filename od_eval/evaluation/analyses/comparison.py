"""Two evaluations of the same images, object by object: what B finds that A does not, and the other way.

    a, b, difference = common_part(table_a, table_b)
    compared = compare(a, b, confidence_a, confidence_b)
    compared.overall["AP"].difference, compared.num_fixed, compared.num_broken

Only the rows, and who matches whom, are used: tables of files have that, too, with the best pair of each row only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation import matching
from od_eval.evaluation.analyses.intervals import METRICS, Interval, difference_intervals
from od_eval.evaluation.analyses.operating_point import IOU_INDEX, Counts, counts, total
from od_eval.evaluation.analyses.what_if import of_rows, overlapping
from od_eval.evaluation.matching import IOU_THRESHOLDS, Bools, Ints
from od_eval.evaluation.object_table import IouType, ObjectTable, precision_recall_scores
from od_eval.text import named, short, some

# Boxes whose four numbers differ by no more are of the same object, in pixels: as in the fingerprint of `dataset`.
SAME_BOX = 0.1
CHANGES = ("fixed", "broke", "fp_came", "fp_went")

Columns = dict[str, list[Any]]


@dataclasses.dataclass(frozen=True)
class ComparedScore:
    """A metric of both evaluations.

    a, b: the metric; None where it is not defined.
    interval: the 95% interval of B - A, from a bootstrap over images that resamples both together; None where it is
      not defined, or with less than `intervals.MIN_IMAGES` images with objects.
    """

    a: float | None
    b: float | None
    interval: Interval | None

    @property
    def difference(self) -> float | None:
        """B - A."""
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def is_distinguishable(self) -> bool | None:
        """Whether the interval is on one side of 0: chance, in which images there are, explains less. None: unknown."""
        return None if self.interval is None else self.interval.low > 0 or self.interval.high < 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "difference": self.difference,
            "interval": None if self.interval is None else [self.interval.low, self.interval.high],
            "is_distinguishable": self.is_distinguishable,
        }


@dataclasses.dataclass(frozen=True)
class ComparedCategory:
    """A category in both evaluations.

    num_groundtruth: the objects that are compared; of a category that only one has, as it was merged, those of it.
    scores: "AP", "AP50" and "F1".
    changes: the number of each of `CHANGES`.
    """

    num_groundtruth: int
    scores: Mapping[str, ComparedScore]
    changes: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        scores = {metric: score.to_dict() for metric, score in self.scores.items()}
        return {"num_groundtruth": self.num_groundtruth, **scores, **self.changes}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same images, at an IoU of 0.50 where not said otherwise.

    iou_type: whether boxes or masks are matched.
    confidence_a, confidence_b: the operating points, from which F1 and all that follows count detections.
    num_images: the number of images.
    overall: "AP", "AP50" and "F1" over all categories.
    per_category: by name.
    num_both, num_neither: objects that both find, and that neither does.
    changes: the number of each of `CHANGES`: objects that only B finds (`fixed`) and that only A does (`broke`); false
      positives of B that overlap no false positive of A by an IoU of 0.50 in the same category (`fp_came`), and the
      other way (`fp_went`). Their overlap is that of boxes, also where masks are matched.
    objects: a row for each change: `change`, `image_id`, `category`, `x`, `y`, `width`, `height`, `score_a`, `score_b`:
      of an object the score of the detection that matches it, of whatever confidence, None for none; of a false
      positive its own.
    images: a row for each image with a change, most changed first: `image_id`, `num_groundtruth`, `tp_a`, `fp_a`,
      `fn_a`, `tp_b`, `fp_b`, `fn_b`, `fixed`, `broke`, `fp_came`, `fp_went`, `changes` (their sum).
    """

    iou_type: IouType
    confidence_a: float
    confidence_b: float
    num_images: int
    overall: Mapping[str, ComparedScore]
    per_category: Mapping[str, ComparedCategory]
    num_both: int
    num_neither: int
    changes: Mapping[str, int]
    objects: Columns
    images: Columns

    @property
    def num_fixed(self) -> int:
        return self.changes["fixed"]

    @property
    def num_broken(self) -> int:
        return self.changes["broke"]

    @property
    def num_groundtruth(self) -> int:
        return self.num_both + self.num_neither + self.num_fixed + self.num_broken

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without `objects` and `images`."""
        return {
            "confidence_a": self.confidence_a,
            "confidence_b": self.confidence_b,
            "num_images": self.num_images,
            "num_groundtruth": self.num_groundtruth,
            **{metric: score.to_dict() for metric, score in self.overall.items()},
            "num_both": self.num_both,
            "num_neither": self.num_neither,
            **self.changes,
            "per_category": {name: category.to_dict() for name, category in self.per_category.items()},
        }


def compare(
    table_a: ObjectTable,
    table_b: ObjectTable,
    confidence_a: float,
    confidence_b: float,
    renamed: Mapping[str, str] | None = None,
) -> Comparison:
    """Compares two evaluations.

    Args:
      table_a, table_b: of the same images, and of the same objects in the same order (`common_part`); their categories
        may differ where B is A with merged categories. What one of them ignores is compared in neither.
      confidence_a, confidence_b: from which detections are used.
      renamed: name of a category of A -> that of B which has taken its place.

    Raises:
      ODEvalError: the images differ.
    """
    names = list(dict.fromkeys([*table_a.categories.values(), *table_b.categories.values()]))
    a, b = _with_categories(table_a, names), _with_categories(table_b, names)
    bounds = difference_intervals(a, b, confidence_a, confidence_b)
    scores_a, scores_b = _scores(a, confidence_a), _scores(b, confidence_b)
    compared = [
        {metric: ComparedScore(of_a[metric], of_b[metric], interval[metric]) for metric in METRICS}
        for of_a, of_b, interval in zip(scores_a, scores_b, [bounds.overall, *bounds.per_category], strict=True)
    ]

    counted = ~a.ignored & ~b.ignored
    found_a, found_b = a.is_found(confidence_a)[:, IOU_INDEX], b.is_found(confidence_b)[:, IOU_INDEX]
    false_a, false_b = (
        np.flatnonzero(table.false_positive[:, IOU_INDEX] & table.is_above(confidence))
        for table, confidence in ((a, confidence_a), (b, confidence_b))
    )
    in_b = np.array([names.index((renamed or {}).get(name, name)) for name in names])
    has_partner_a, has_partner_b = _have_partners(a, b, false_a, false_b, in_b)
    rows = {
        "fixed": np.flatnonzero(counted & found_b & ~found_a),
        "broke": np.flatnonzero(counted & found_a & ~found_b),
        "fp_came": false_b[~has_partner_b],
        "fp_went": false_a[~has_partner_a],
    }
    of_change = {"fixed": a.groundtruth, "broke": a.groundtruth, "fp_came": b.detections, "fp_went": a.detections}
    per_category = [
        np.bincount(of_change[change].category[rows[change]], minlength=len(names)).tolist() for change in CHANGES
    ]
    num_groundtruth = np.max(
        [np.bincount(table.groundtruth.category[counted], minlength=len(names)) for table in (a, b)], axis=0
    )
    columns = zip(names, num_groundtruth.tolist(), compared[1:], *per_category, strict=True)
    return Comparison(
        iou_type=a.iou_type,
        confidence_a=confidence_a,
        confidence_b=confidence_b,
        num_images=len(a.images),
        overall=compared[0],
        per_category={
            name: ComparedCategory(num, scores, dict(zip(CHANGES, changes, strict=True)))
            for name, num, scores, *changes in columns
        },
        num_both=int((counted & found_a & found_b).sum()),
        num_neither=int((counted & ~found_a & ~found_b).sum()),
        changes={change: len(rows[change]) for change in CHANGES},
        objects=_objects(a, b, rows),
        images=_images(
            {change: of_change[change].image[rows[change]] for change in CHANGES},
            list(a.images),
            {"a": (a, found_a, false_a), "b": (b, found_b, false_b)},
            counted,
        ),
    )


def _with_categories(table: ObjectTable, names: list[str]) -> ObjectTable:
    """The table with more categories, in another order; ids are positions."""
    new_index = np.array([names.index(name) for name in table.categories.values()])
    groundtruth, detections = (
        dataclasses.replace(objects, category=new_index[objects.category])
        for objects in (table.groundtruth, table.detections)
    )
    categories = dict(enumerate(names))
    return dataclasses.replace(table, categories=categories, groundtruth=groundtruth, detections=detections)


def _scores(table: ObjectTable, confidence: float) -> list[dict[str, float | None]]:
    """The metrics over all categories, then of each."""
    precision, _, _ = precision_recall_scores(table)
    of_categories = counts(table, confidence)
    return [
        _metrics(precision, total(of_categories)),
        *(_metrics(precision[:, :, index], of_category) for index, of_category in enumerate(of_categories)),
    ]


def _metrics(precision: npt.NDArray[np.float64], of_counts: Counts) -> dict[str, float | None]:
    """AP and AP50 are means of COCO's precision `[10, 101, …]`, which is -1 where there are no objects."""
    ap, ap50 = (float(of[of > -1].mean()) if (of > -1).any() else None for of in (precision, precision[0]))
    return {"AP": ap, "AP50": ap50, "F1": of_counts.f1}


def _have_partners(a: ObjectTable, b: ObjectTable, false_a: Ints, false_b: Ints, in_b: Ints) -> tuple[Bools, Bools]:
    """Which false positives of A overlap one of B's of the same category, or have its box, and the other way.

    Args:
      a, b: the tables, with the same categories.
      false_a, false_b: rows of detections.
      in_b: int `[categories]`, what a category of A is in B.
    """
    num = len(b.categories)
    of_a, of_b = a.detections.rows(false_a), b.detections.rows(false_b)
    cells_a, cells_b = of_a.image * num + in_b[of_a.category], of_b.image * num + of_b.category
    pairs = overlapping(of_a, of_b, cells_a, cells_b, IOU_THRESHOLDS[IOU_INDEX], inclusive=True)
    has_partner = np.zeros(len(of_a), bool), np.zeros(len(of_b), bool)
    # A box without area overlaps nothing, not even the same one.
    flat_a, flat_b = (np.flatnonzero(of.box[:, 2:].min(axis=1) <= 0) for of in (of_a, of_b))
    boxes_a, boxes_b = (
        np.column_stack((cells[flat], of.box[flat]))
        for cells, flat, of in ((cells_a, flat_a, of_a), (cells_b, flat_b, of_b))
    )
    keys = np.unique(np.concatenate((boxes_a, boxes_b)), axis=0, return_inverse=True)[1].reshape(-1)
    has_partner[0][flat_a] = np.isin(keys[: len(flat_a)], keys[len(flat_a) :])
    has_partner[1][flat_b] = np.isin(keys[len(flat_a) :], keys[: len(flat_a)])
    for has, of_pairs in zip(has_partner, pairs, strict=True):
        has[of_pairs] = True
    return has_partner


def _objects(a: ObjectTable, b: ObjectTable, rows: Mapping[str, Ints]) -> Columns:
    names = list(a.categories.values())
    ids = list(a.images)
    columns: Columns = {name: [] for name in ("change", "image_id", "category", "x", "y", "width", "height")}
    columns |= {"score_a": [], "score_b": []}
    for change, of_change in rows.items():
        if change in ("fixed", "broke"):
            objects = a.groundtruth
            score_a, score_b = (
                [None if score == -np.inf else score for score in table.matched_score[of_change, IOU_INDEX].tolist()]
                for table in (a, b)
            )
        else:
            table = b if change == "fp_came" else a
            objects = table.detections
            own, other = table.score[of_change].tolist(), [None] * len(of_change)
            score_a, score_b = (other, own) if change == "fp_came" else (own, other)
        columns["change"] += [change] * len(of_change)
        columns["image_id"] += [ids[image] for image in objects.image[of_change].tolist()]
        columns["category"] += [names[category] for category in objects.category[of_change].tolist()]
        for index, name in enumerate(("x", "y", "width", "height")):
            columns[name] += objects.box[of_change, index].tolist()
        columns["score_a"] += score_a
        columns["score_b"] += score_b
    return columns


def _images(
    image_of_change: Mapping[str, Ints],
    ids: list[Any],
    sides: Mapping[str, tuple[ObjectTable, Bools, Ints]],
    counted: Bools,
) -> Columns:
    """See `Comparison.images`.

    Args:
      image_of_change: the image of each change.
      ids: of all images.
      sides: the table of A and of B, which objects it finds, and the rows of its false positives.
      counted: bool `[objects]`, those that are compared.
    """

    def per_image(image: Ints) -> Ints:
        return np.bincount(image, minlength=len(ids))

    changes = {change: per_image(image) for change, image in image_of_change.items()}
    num_changes = np.sum([*changes.values()], axis=0)
    columns: dict[str, Ints] = {}
    for side, (table, found, false) in sides.items():
        image = table.groundtruth.image
        columns["num_groundtruth"] = per_image(image[counted])
        columns[f"tp_{side}"] = per_image(image[counted & found])
        columns[f"fp_{side}"] = per_image(table.detections.image[false])
        columns[f"fn_{side}"] = per_image(image[counted & ~found])
    columns |= {**changes, "changes": num_changes}
    most_first = np.argsort(-num_changes, kind="stable")[: int((num_changes > 0).sum())]
    return {
        "image_id": [ids[image] for image in most_first.tolist()],
        **{name: column[most_first].tolist() for name, column in columns.items()},
    }


# ---- What two evaluations have in common ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SetDifference:
    """How two evaluation sets differ.

    categories_a, categories_b: the names of categories that only A, and only B, has.
    images_a, images_b: the number of images that only A, and only B, has.
    changed_images: the number of images that both have, with different objects.
    changed_objects: the number of objects in these images that the other does not have.
    first: a clause about the first case; empty if images and objects are the same.
    """

    categories_a: list[str]
    categories_b: list[str]
    images_a: int
    images_b: int
    changed_images: int
    changed_objects: int
    first: str

    def sentences(self) -> list[str]:
        """What differs; nothing if nothing does."""
        said = []
        if self.categories_a or self.categories_b:
            parts = [
                f"only {side} has {some(names)}"
                for side, names in (("A", self.categories_a), ("B", self.categories_b))
                if names
            ]
            said.append(f"the categories differ: {', '.join(parts)}; the others are compared.")
        if self.first:
            said.append(
                f"the evaluation sets differ: {self.images_a} images are only in A and {self.images_b} only in B, and"
                f" in {self.changed_images} the objects differ ({self.changed_objects} objects); the first:"
                f" {self.first}. The other images are compared."
            )
        return said


def common_part(a: ObjectTable, b: ObjectTable) -> tuple[ObjectTable, ObjectTable, SetDifference]:
    """What both tables have: the images with equal ids and equal objects, of categories with equal names.

    Objects are equal if their category is, if both or none are ignored, and if their boxes are to a tenth of a pixel.

    Returns:
      A and B with the same images, categories and objects in the same order, and what differs.

    Raises:
      ODEvalError: nothing is left.
    """
    categories_a, categories_b = list(a.categories.values()), list(b.categories.values())
    names = [name for name in categories_a if name in categories_b]
    if not names:
        raise ODEvalError(
            f"the two evaluations have no category in common, so they cannot be compared: A has {some(categories_a)},"
            f" B has {some(categories_b)}."
        )
    ids = [id for id in a.images if id in b.images]
    if not ids:
        raise ODEvalError(
            "the two evaluations have no image in common, so they cannot be compared: the first of A is"
            f" {short(next(iter(a.images), None))}, that of B {short(next(iter(b.images), None))}."
        )
    only_a = [id for id in a.images if id not in b.images]
    only_b = [id for id in b.images if id not in a.images]
    a, b = _part(a, ids, names), _part(b, ids, names)
    partner = _equal_objects(a, b)
    without_a = np.flatnonzero(partner < 0)
    without_b = np.setdiff1d(np.arange(len(b.groundtruth)), partner)
    changed = np.union1d(a.groundtruth.image[without_a], b.groundtruth.image[without_b])
    first = ""
    if len(changed):
        [(side, table, row)] = [
            (side, table, rows[table.groundtruth.image[rows] == changed[0]][0])
            for side, table, rows in (("A", a, without_a), ("B", b, without_b))
            if (table.groundtruth.image[rows] == changed[0]).any()
        ][:1]
        box = ", ".join(f"{value:.1f}" for value in table.groundtruth.box[row])
        name = named(names[table.groundtruth.category[row]])
        first = f"image {short(ids[changed[0]])}, where only {side} has the {name} at {box}"
    elif only_a or only_b:
        first = f"image {short((only_a or only_b)[0])}, which only {'A' if only_a else 'B'} has"
    if len(changed) == len(ids):
        raise ODEvalError(
            "the two evaluations have no image with the same objects, so they cannot be compared; the first that"
            f" differs: {first}."
        )
    difference = SetDifference(
        [name for name in categories_a if name not in names],
        [name for name in categories_b if name not in names],
        len(only_a),
        len(only_b),
        len(changed),
        len(without_a) + len(without_b),
        first,
    )
    if len(changed):
        ids = [id for index, id in enumerate(ids) if index not in set(changed.tolist())]
        a, b = _part(a, ids, names), _part(b, ids, names)
        partner = _equal_objects(a, b)
    return a, of_rows(b, partner, np.arange(len(b.detections))), difference


def _part(table: ObjectTable, ids: list[Any], names: list[str]) -> ObjectTable:
    """The table of some images and some categories, in this order."""
    image = {id: index for index, id in enumerate(ids)}
    category = {name: index for index, name in enumerate(names)}
    new_image = np.array([image.get(id, -1) for id in table.images])
    new_category = np.array([category.get(name, -1) for name in table.categories.values()])
    rows = []
    for objects in (table.groundtruth, table.detections):
        kept = np.flatnonzero((new_image[objects.image] >= 0) & (new_category[objects.category] >= 0))
        rows.append(kept[np.argsort(new_image[objects.image[kept]], kind="stable")])
    part = of_rows(table, *rows)
    groundtruth, detections = (
        dataclasses.replace(objects, image=new_image[objects.image], category=new_category[objects.category])
        for objects in (part.groundtruth, part.detections)
    )
    return dataclasses.replace(
        part,
        categories=dict(enumerate(names)),
        images={id: table.images[id] for id in ids},
        groundtruth=groundtruth,
        detections=detections,
    )


def _equal_objects(a: ObjectTable, b: ObjectTable) -> Ints:
    """int `[objects of a]`: the row of the equal object of B, each at most once; -1 for none.

    Those with the same box, as the fingerprint of `dataset` has it, come first. The rest may differ by `SAME_BOX`: the
    boxes of an evaluation in training have been through 32 bits, which is enough to round them to another tenth.

    Args:
      a, b: tables of the same images and categories.
    """
    num = len(a.groundtruth)
    kinds = np.concatenate(
        [np.column_stack((table.groundtruth.image, table.groundtruth.category, table.ignored)) for table in (a, b)]
    )
    boxes = np.concatenate((a.groundtruth.box, b.groundtruth.box))
    tenths = np.rint(np.clip(boxes * 10, -(2.0**62), 2.0**62)).astype(np.int64)
    partner = np.full(num, -1, np.int64)

    same = np.unique(np.column_stack((kinds, tenths)), axis=0, return_inverse=True)[1].reshape(-1)
    # Of several equal ones, the first of A is the first of B.
    numbers = np.concatenate([matching.rank_in_cell(part) for part in (same[:num], same[num:])])
    _, keys = np.unique(same * (len(same) + 1) + numbers, return_inverse=True)
    _, of_a, of_b = np.intersect1d(keys[:num], keys[num:], assume_unique=True, return_indices=True)
    partner[of_a] = of_b

    rest_a = np.flatnonzero(partner < 0)
    rest_b = np.setdiff1d(np.arange(len(b.groundtruth)), partner)
    cells = np.unique(kinds, axis=0, return_inverse=True)[1].reshape(-1)
    # The cells one after the other on one axis, in each the left edges.
    left = cells * 4e5 + np.clip(boxes[:, 0], -1e5, 1e5)
    left_a, left_b = left[rest_a], left[num + rest_b]
    in_order = np.argsort(left_b, kind="stable")
    bounds = [np.searchsorted(left_b[in_order], left_a + margin) for margin in (-2 * SAME_BOX, 2 * SAME_BOX)]
    nums = bounds[1] - bounds[0]
    row_a = np.repeat(rest_a, nums)
    within = np.arange(len(row_a)) - np.repeat(np.cumsum(nums) - nums, nums)
    row_b = rest_b[in_order[np.repeat(bounds[0], nums) + within]]
    distance = np.abs(boxes[row_a] - boxes[num + row_b]).max(axis=1, initial=0)
    # The nearest first, so that of several objects in nearly the same place each gets its own.
    near = np.lexsort((row_b, row_a, distance))
    near = near[distance[near] <= SAME_BOX]
    taken: set[int] = set()
    for of_one, of_other in zip(row_a[near].tolist(), row_b[near].tolist(), strict=True):
        if partner[of_one] < 0 and of_other not in taken:
            partner[of_one] = of_other
            taken.add(of_other)
    return partner
