"""The section `segmentation` of a result, from counts over pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval.evaluation.section import plain
from od_eval.evaluation.sections.segmentation import CATEGORY_METRICS
from od_eval.evaluation.segmentation.pixel_counts import Floats, Ints, PixelCounts


def segmentation_section(counts: PixelCounts, names: Sequence[str]) -> dict[str, Any]:
    """All metrics of a segmentation; None for those that are not defined.

    IoU, accuracy and F1 are mmsegmentation's (`IoUMetric`), from the confusion matrix of all pixels:
    TP / (TP + FP + FN), TP / (TP + FN) and 2 TP / (2 TP + FP + FN). AP is scikit-learn's `average_precision_score` of
    the scores for a class, its pixels against all others. AR is the recall averaged over all thresholds from 0 to 1,
    which is the mean score that the pixels of a class have for it. Boundary IoU is that of the pixels near borders
    (`near_border`).

    Means are over the classes that are in the data. A class of which there is no pixel has no metric (a class that is
    only predicted has the IoU 0 in mmsegmentation; here it costs what it costs the classes of these pixels).

    Args:
      counts: over all images.
      names: of the classes.

    Returns:
      `IoU`, `AP`, `AR`, `F1`, `pixel_accuracy`, `mean_class_accuracy`, `boundary_IoU`; `num_pixels` (without ignored
      ones), `num_ignored`; `absent_classes`, names; `per_category`, name -> `CATEGORY_METRICS`,
      `num_groundtruth_pixels`, `num_predicted_pixels`.
    """
    actual, predicted, right = counts.confusion.sum(axis=1), counts.confusion.sum(axis=0), np.diag(counts.confusion)
    present = actual > 0
    of_classes = {
        "IoU": ious(counts.confusion),
        "AP": _average_precision(counts.scores_of_class, counts.scores),
        "AR": _ratio(counts.sum_of_class, actual),
        "F1": _ratio(2 * right, actual + predicted),
        "accuracy": _ratio(right, actual),
        "boundary_IoU": _ratio(counts.boundary[2], counts.boundary[0] + counts.boundary[1] - counts.boundary[2]),
    }
    of_classes = {metric: np.where(present, values, np.nan) for metric, values in of_classes.items()}
    means = {metric: values[present].mean() if present.any() else None for metric, values in of_classes.items()}
    section = {
        **{metric: means[metric] for metric in ("IoU", "AP", "AR", "F1")},
        "pixel_accuracy": right.sum() / actual.sum() if present.any() else None,
        "mean_class_accuracy": means["accuracy"],
        "boundary_IoU": means["boundary_IoU"],
        "num_pixels": actual.sum(),
        "num_ignored": counts.ignored,
        "absent_classes": [name for name, is_present in zip(names, present, strict=True) if not is_present],
        "per_category": {
            name: {
                **{metric: of_classes[metric][index] for metric in CATEGORY_METRICS},
                "num_groundtruth_pixels": actual[index],
                "num_predicted_pixels": predicted[index],
            }
            for index, name in enumerate(names)
        },
    }
    return dict(plain(section))


def ious(confusion: Ints) -> Floats:
    """The IoU of each class of a confusion matrix; NaN for a class without a pixel that is in it, or taken for it."""
    right = np.diag(confusion)
    return _ratio(right, confusion.sum(axis=0) + confusion.sum(axis=1) - right)


def _average_precision(of_class: Ints, all_pixels: Ints) -> Floats:
    """Σ (recall gained in a bin) × (precision down to this bin), from the highest scores down; `[classes, bins]`."""
    true, used = (np.cumsum(histogram[:, ::-1], axis=1) for histogram in (of_class, all_pixels))
    precision = true / np.maximum(used, 1)
    return _ratio((of_class[:, ::-1] * precision).sum(axis=1), true[:, -1])


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    """NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
