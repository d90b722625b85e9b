"""A table with a row per image: what is right and wrong in it, to find the images worth looking at.

At a confidence and an IoU of 0.50.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval.evaluation.analyses.distributions import matched_iou
from od_eval.evaluation.analyses.operating_point import IOU_INDEX
from od_eval.evaluation.matching import Floats, Ints
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable

Images = dict[str, list[Any] | npt.NDArray[Any]]


def per_image(table: ObjectTable, confidence: float | Floats) -> Images:
    """The columns of the table. Each has a value for each image, in the order of `table.images`.

    The sums over images are those of the whole evaluation (`operating_point.counts`).

    Args:
      table: the object table.
      confidence: one for all, or float `[categories]`.

    Returns:
      `image_id`: list, the ids.
      `num_groundtruth`: int64, objects that are not ignored; = `tp` + `fn`.
      `num_detections`: int64, detections that are right or wrong; = `tp` + `fp`.
      `tp`, `fp`, `fn`: int64.
      `precision`, `recall`, `f1`: lists; None where there is nothing to divide by.
      `mean_iou`: list, the mean IoU of true positives with their objects; None without any.
      `highest_fp_score`: list, the score of the false positive with the highest score; None without any.
      `class`, `location`, `both`, `duplicate`, `background`, `missed`: int64, the number of errors of each of TIDE's
        kinds (`ERROR_KINDS`). A missed object that a detection of the kind `class` or `location` means is not `missed`.
      `num_errors`: int64, their sum.
      `badness`: float64, how much is wrong: `fn` plus the sum of the scores of the false positives, as a missed object
        is one mistake, and a false detection as much of one as the model is sure of it. Scores below 0 count as 0, and
        those above 1 as 1.
    """
    num_images = len(table.images)
    used = table.is_above(confidence)
    true, false = (used & outcome[:, IOU_INDEX] for outcome in table.outcomes)

    def per_image_of(image: Ints, weights: Floats | None = None) -> npt.NDArray[Any]:
        return np.bincount(image, weights, minlength=num_images)

    tp, fp = (per_image_of(table.detections.image[outcome]) for outcome in (true, false))
    num_groundtruth = per_image_of(table.groundtruth.image[~table.ignored])
    num_detections, fn = tp + fp, num_groundtruth - tp
    sum_of_ious = per_image_of(table.detections.image[true], matched_iou(table)[true])
    # In an image, the highest score comes first.
    false_rows = np.flatnonzero(false)
    first_false = false_rows[np.flatnonzero(np.diff(table.detections.image[false_rows], prepend=-1))]
    highest_fp_score: list[float | None] = [None] * num_images
    for image, score in zip(
        table.detections.image[first_false].tolist(), table.score[first_false].tolist(), strict=True
    ):
        highest_fp_score[image] = score

    of_detections, of_groundtruth = table.errors_of(used)
    errors = {
        kind: per_image_of(table.detections.image[of_detections == index])
        + per_image_of(table.groundtruth.image[of_groundtruth == index])
        for index, kind in enumerate(ERROR_KINDS)
        if kind
    }
    weights = np.clip(table.score[false], 0, 1)
    return {
        "image_id": list(table.images),
        "num_groundtruth": num_groundtruth,
        "num_detections": num_detections,
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "precision": _ratios(tp, num_detections),
        "recall": _ratios(tp, num_groundtruth),
        "f1": _ratios(2 * tp, num_detections + num_groundtruth),
        "mean_iou": _ratios(sum_of_ious, tp),
        "highest_fp_score": highest_fp_score,
        **errors,
        "num_errors": np.sum([*errors.values()], axis=0),
        "badness": fn + per_image_of(table.detections.image[false], weights),
    }


def worst(images: Images, num: int) -> Ints:
    """Rows of the `num` images with the highest `badness`, the worst first; of equal ones the first.

    Images in which nothing is wrong come last, too, if there are not enough others.

    Args:
      images: what `per_image` returns.
      num: of images; at most all are returned.
    """
    return np.argsort(-np.asarray(images["badness"]), kind="stable")[:num]


def _ratios(numerators: npt.NDArray[Any], denominators: Ints) -> list[float | None]:
    return [
        numerator / denominator if denominator else None
        for numerator, denominator in zip(numerators.tolist(), denominators.tolist(), strict=True)
    ]
