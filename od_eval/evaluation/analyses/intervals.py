"""95% confidence intervals of AP, AP50 and F1, and of their differences between two evaluations of the same images.

They say how much the numbers would change with other images of the same kind, by a bootstrap over images: in each
resample as many images are drawn, with replacement, as there are; an image drawn twice counts twice.

An interval is `score ± t · standard error`, of AP and AP50 on the logit scale, so that it stays between 0 and 1. The
standard error is the standard deviation over the resamples, times √(n ÷ (n - 1)) for n images with objects, and t is
Student's quantile for n - 1 degrees of freedom (the widening of Hesterberg, What Teachers Should Know About the
Bootstrap, The American Statistician 2015). In simulations (tests/evaluation/analyses/test_intervals.py) they cover
92% to 97% with 200 images, and 93% to 99% with 50: of categories with few images they are too wide.

A score that is the same in every resample (nothing is found, or everything and nothing else) has an interval of no
width, though other images could give another score.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation.matching import IOU_THRESHOLDS, RECALL_THRESHOLDS, Bools, Floats, Ints
from od_eval.evaluation.object_table import ObjectTable
from od_eval.evaluation.objects import Objects

METRICS = ("AP", "AP50", "F1")
# With fewer images with objects there is no interval: it would be a guess.
MIN_IMAGES = 5
# The width of an interval is uncertain by 1 ÷ √(2 · resamples): 7%. More of them make the evaluation wait.
NUM_RESAMPLES = 100

# The 97.5% quantile of the normal distribution: 95% lie between it and its negative.
_NORMAL_QUANTILE = 1.959963984540054
# Detections times resamples that a thread computes at once: about 50 MB. NumPy works outside of Python's lock.
_ELEMENTS_AT_A_TIME = 2_000_000
_THREADS = 2


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95% confidence interval."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals by metric: "AP" (IoU 0.50:0.95), "AP50", "F1" (IoU 0.50); None with less than `MIN_IMAGES` images.

    overall: of all categories: AP and AP50 are means over the categories with objects, F1 is that of all counts.
    per_category: by the index of the category.
    """

    overall: dict[str, Interval | None]
    per_category: list[dict[str, Interval | None]]

    def to_dict(self, names: Iterable[str]) -> dict[str, Any]:
        """Plain data: metric -> `[low, high]` or None, and under `per_category` the same by name of the category."""
        overall, *of_categories = (
            {metric: None if interval is None else [interval.low, interval.high] for metric, interval in of.items()}
            for of in (self.overall, *self.per_category)
        )
        return {**overall, "per_category": dict(zip(names, of_categories, strict=True))}


def intervals(
    table: ObjectTable, confidence: float | Floats, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Intervals:
    """The intervals of the scores of an evaluation.

    Args:
      table: the object table.
      confidence: from which F1 counts detections: one for all, or float `[categories]`.
      num_resamples: 2 or more; see `NUM_RESAMPLES`.
      seed: the same seed gives the same intervals.
    """
    scores = weighted_scores(table, confidence, _draw(len(table.images), num_resamples, seed))
    return _intervals(scores, _images_with_objects(table), is_difference=False)


def difference_intervals(
    table_a: ObjectTable,
    table_b: ObjectTable,
    confidence_a: float | Floats,
    confidence_b: float | Floats,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Intervals:
    """The intervals of what B has more than A, such as AP of B - AP of A; both are resampled together.

    Args:
      table_a, table_b: of the same images in the same order, of the same categories and objects.
      confidence_a, confidence_b, num_resamples, seed: see `intervals`.
    """
    if list(table_a.images) != list(table_b.images):
        raise ODEvalError("the two evaluations are not of the same images in the same order")
    if dict(table_a.categories) != dict(table_b.categories):
        raise ODEvalError("the two evaluations are not of the same categories")
    weights = _draw(len(table_a.images), num_resamples, seed)
    a, b = (
        weighted_scores(table, confidence, weights)
        for table, confidence in ((table_a, confidence_a), (table_b, confidence_b))
    )
    differences = {metric: b[metric] - a[metric] for metric in METRICS}
    return _intervals(differences, _images_with_objects(table_a), is_difference=True)


def weighted_scores(table: ObjectTable, confidence: float | Floats, weights: Ints) -> dict[str, Floats]:
    """AP, AP50 and F1 if each image were there as often as its weight says.

    They equal pycocotools' for images that are really repeated, apart from detections of equal scores in the same image
    and category: the copies of one follow one another here, those of the image there.

    Args:
      table: the object table.
      confidence: see `intervals`.
      weights: int `[n, images]`, 0 or more.

    Returns:
      By metric float64 `[n, 1 + categories]`: over all, then per category; NaN where there is nothing to divide by.
    """
    weights = np.asarray(weights, np.int32)
    groundtruth = _weighted_counts(table, table.groundtruth, ~table.ignored, weights)
    counted = table.is_above(confidence)
    tp, fp = (_weighted_counts(table, table.detections, outcome[:, 0] & counted, weights) for outcome in table.outcomes)
    ap = _average_precisions(table, weights, groundtruth)
    per_category = {"AP": ap.mean(axis=2), "AP50": ap[:, :, 0], "F1": _f1(tp, fp, groundtruth)}
    with_objects = groundtruth > 0
    overall = {
        metric: _ratio(np.where(with_objects, per_category[metric], 0.0).sum(axis=1), with_objects.sum(axis=1))
        for metric in ("AP", "AP50")
    }
    overall["F1"] = _f1(tp.sum(axis=1), fp.sum(axis=1), groundtruth.sum(axis=1))
    return {metric: np.column_stack((overall[metric], per_category[metric])) for metric in METRICS}


# ---- Scores ---------------------------------------------------------------------------------------------------------


def _draw(num_images: int, num_resamples: int, seed: int) -> Ints:
    """Multinomial weights `[1 + num_resamples, num_images]`; those of the first row are 1."""
    draws = np.random.default_rng(seed).integers(num_images, size=(num_resamples, num_images))
    draws += num_images * np.arange(num_resamples)[:, np.newaxis]
    weights = np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape)
    return np.concatenate((np.ones((1, num_images), weights.dtype), weights))


def _weighted_counts(table: ObjectTable, objects: Objects, chosen: Bools, weights: Ints) -> Floats:
    """The weighted number of chosen objects `[n, categories]`; whole numbers."""
    num = len(table.categories)
    cells = objects.image[chosen].astype(np.int64) * num + objects.category[chosen]
    counts = np.bincount(cells, minlength=num * len(table.images)).reshape(-1, num)
    # Products of floats are faster than those of integers, and exact up to 2^53.
    return np.asarray(weights.astype(np.float64) @ counts.astype(np.float64))


def _ratio(numerator: Floats, denominator: Floats | Ints) -> Floats:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _f1(tp: Floats, fp: Floats, groundtruth: Floats) -> Floats:
    return _ratio(2 * tp, tp + fp + groundtruth)


def _average_precisions(table: ObjectTable, weights: Ints, groundtruth: Floats) -> Floats:
    """COCO's AP `[n, categories, 10]` for weights `[n, images]`; NaN without objects."""
    ap = np.full((len(weights), len(table.categories), len(IOU_THRESHOLDS)), np.nan)
    true, false = table.outcomes

    def fill(category: int) -> None:
        of_category = table.first_100_by_category[category]
        is_true = true[of_category]
        # What comes after the last true positive changes nothing.
        found = np.flatnonzero(is_true.any(axis=1))
        num = found[-1] + 1 if len(found) else 0
        of_category, is_true = of_category[:num], is_true[:num]
        places = [_places(*columns) for columns in zip(is_true.T, ~is_true.T & ~false[of_category].T, strict=True)]
        images = table.detections.image[of_category]
        step = max(_ELEMENTS_AT_A_TIME // max(num, 1), 1)
        for start in range(0, len(weights), step):
            block = slice(start, start + step)
            of_images = np.take(weights[block], images, axis=1)
            ap[block, category] = _average_precision(of_images, places, groundtruth[block, category])

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fill, np.flatnonzero(groundtruth.any(axis=0)).tolist()))
    return ap


def _places(true: Bools, neither: Bools) -> tuple[Ints, Ints, Ints]:
    """Where the true positives are, where those that do not count are, and how many of the latter precede each of the
    former.
    """
    at, uncounted = np.flatnonzero(true), np.flatnonzero(neither)
    return at, uncounted, np.searchsorted(uncounted, at)


def _average_precision(weights: Ints, places: Sequence[tuple[Ints, Ints, Ints]], groundtruth: Floats) -> Floats:
    """The AP `[n, 10]` of a category.

    Only true positives are looked at: the highest precision at a recall or above is always that of one of them.

    Args:
      weights: int32 `[n, detections]`, in descending order of scores.
      places: of each of the ten thresholds, see `_places`.
      groundtruth: `[n]`, the weighted number of objects.
    """
    ap = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    sums = np.cumsum(weights, axis=1, dtype=np.int32)
    # reached[n, tp]: how many of the 101 recalls are reached with so many true positives.
    reached = _recalls_reached(groundtruth)
    first_of_row = np.arange(len(weights), dtype=np.int64)[:, np.newaxis] * reached.shape[1]
    for threshold, (at, uncounted, num_before) in enumerate(places):
        tp = np.cumsum(np.take(weights, at, axis=1), axis=1, dtype=np.int32)
        counted = np.take(sums, at, axis=1)
        if len(uncounted):
            sums_of_uncounted = np.zeros((len(weights), len(uncounted) + 1), np.int32)
            np.cumsum(np.take(weights, uncounted, axis=1), axis=1, out=sums_of_uncounted[:, 1:])
            counted -= np.take(sums_of_uncounted, num_before, axis=1)
        precision = tp / np.maximum(counted, 1)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        newly_reached = np.diff(np.take(reached, first_of_row + tp), axis=1, prepend=np.uint8(0))
        ap[:, threshold] = np.einsum("ij,ij->i", precision, newly_reached) / len(RECALL_THRESHOLDS)
    ap[groundtruth == 0] = np.nan
    return ap


def _recalls_reached(groundtruth: Floats) -> npt.NDArray[np.uint8]:
    """How many of `RECALL_THRESHOLDS` are reached by 0, 1, 2, … true positives: `[n, 1 + the most objects]`."""
    recall = np.arange(int(groundtruth.max()) + 1) / np.maximum(groundtruth, 1)[:, np.newaxis]
    np.minimum(recall, 1, out=recall)
    last = (100 * recall).astype(np.int64)
    # The product is rounded. What counts is how the recalls themselves compare, as in pycocotools.
    last -= RECALL_THRESHOLDS[last] > recall
    last += np.append(RECALL_THRESHOLDS, np.inf)[last + 1] <= recall
    return (last + 1).astype(np.uint8)


# ---- Intervals ------------------------------------------------------------------------------------------------------


def _images_with_objects(table: ObjectTable) -> Ints:
    """The number of images with objects: of any category, then of each; int `[1 + categories]`."""
    num = len(table.categories)
    counts = ~table.ignored
    image, category = table.groundtruth.image[counts].astype(np.int64), table.groundtruth.category[counts]
    per_category = np.bincount(np.unique(image * num + category) % num, minlength=num)
    return np.concatenate(([len(np.unique(image))], per_category))


def _intervals(scores: dict[str, Floats], num_images: Ints, is_difference: bool) -> Intervals:
    """The intervals from scores `[1 + resamples, 1 + categories]`, the first with all weights 1."""
    columns = []
    for metric in METRICS:
        score, resampled = scores[metric][0], scores[metric][1:]
        margin = _margins(resampled, num_images, is_mean=metric != "F1")
        if is_difference or metric == "F1":
            low, high = score - margin, score + margin
            low, high = np.maximum(low, -1.0 if is_difference else 0.0), np.minimum(high, 1.0)
        else:
            low, high = _on_logit_scale(score, margin)
        columns.append(
            [
                Interval(float(one_low), float(one_high)) if num >= MIN_IMAGES and np.isfinite(one_low) else None
                for one_low, one_high, num in zip(low, high, num_images, strict=True)
            ]
        )
    overall, *per_category = (dict(zip(METRICS, row, strict=True)) for row in zip(*columns, strict=True))
    return Intervals(overall, per_category)


def _margins(resampled: Floats, num_images: Ints, is_mean: bool) -> Floats:
    """Half the width of the intervals: `[1 + categories]`; NaN where not defined."""
    there = ~np.isnan(resampled)
    num = there.sum(axis=0)
    mean = _ratio(np.where(there, resampled, 0.0).sum(axis=0), num)
    variance = _ratio(np.where(there, (resampled - mean) ** 2, 0.0).sum(axis=0), num - 1)
    freedom = np.maximum(num_images - 1.0, 1.0)
    widening = np.maximum(num_images, 2) / freedom
    if is_mean:
        # A mean over categories is as uncertain as they are: Welch–Satterthwaite's degrees of freedom.
        of_category = np.nan_to_num(variance[1:])
        widened = of_category * widening[1:]
        if widened.any():
            freedom[0] = widened.sum() ** 2 / (widened**2 / freedom[1:]).sum()
            widening[0] = widened.sum() / of_category.sum()
    return np.asarray(_student_quantile(freedom) * np.sqrt(variance * widening))


def _student_quantile(freedom: Floats) -> Floats:
    """The 97.5% quantile of Student's t, to 0.1% from 4 degrees of freedom on (Abramowitz and Stegun, 26.7.5)."""
    z = _NORMAL_QUANTILE
    return np.asarray(
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * freedom**4)
    )


def _on_logit_scale(score: Floats, margin: Floats) -> tuple[Floats, Floats]:
    """The interval of a score between 0 and 1 with this margin."""
    slope = score * (1 - score)
    odds = np.divide(score, 1 - score, out=np.ones_like(score), where=slope > 0)
    factor = np.exp(np.minimum(np.divide(margin, slope, out=np.zeros_like(score), where=slope > 0), 700))
    bounds = (odds / (odds + factor), odds / (odds + 1 / factor))
    low, high = (np.where((slope > 0) & (margin > 0), bound, score) for bound in bounds)
    return np.where(np.isnan(margin), np.nan, low), np.where(np.isnan(margin), np.nan, high)
