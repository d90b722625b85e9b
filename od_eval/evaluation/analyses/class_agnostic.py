"""COCO's metrics if all categories were one: whether objects are found at all, whatever they are called."""

from __future__ import annotations

from typing import Any

import numpy as np

from od_eval.evaluation import matching
from od_eval.evaluation.analyses.operating_point import IOU_INDEX, Counts
from od_eval.evaluation.object_table import ObjectTable


def class_agnostic(table: ObjectTable, confidence: float) -> dict[str, Any]:
    """`AP`, `AP50`, `AP75` and `AR100` as pycocotools computes them with `useCats = 0`, and counts at a confidence.

    The 100 detections of an image with the highest scores count for the metrics, and all for the counts.
    """
    true, false = table.outcomes_across_categories
    first_100 = matching.rank_in_cell(table.detections.image) < matching.MAX_DETECTIONS
    num_groundtruth = int(table.num_groundtruth.sum())
    precision, recall, _ = matching.precision_recall(
        table.score[first_100], true[first_100], false[first_100], num_groundtruth
    )
    metrics = {
        name: float(np.mean(values)) if num_groundtruth else None
        for name, values in {"AP": precision, "AP50": precision[0], "AP75": precision[5], "AR100": recall}.items()
    }
    used = table.is_above(confidence)
    tp, fp = (int((used & outcome[:, IOU_INDEX]).sum()) for outcome in (true, false))
    return {**metrics, **Counts(num_groundtruth, tp + fp, tp, fp, num_groundtruth - tp).to_dict()}
