"""The object table as a pandas table: for a user's own metrics, and for files (`od_eval.load_objects`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from od_eval.evaluation.matching import IOU_THRESHOLDS
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable

MATCH_COLUMNS = tuple(f"match_{round(100 * threshold)}" for threshold in IOU_THRESHOLDS)
KINDS = ("detection", "groundtruth")


def as_pandas(table: ObjectTable) -> pd.DataFrame:
    """A row for each detection, and after these a row for each ground truth object.

    Columns:

    * `kind`: `detection` or `groundtruth`.
    * `image_id`; if some are ints and some texts, all are texts. `category`: its name; `category_id`.
    * `x`, `y`, `width`, `height`: the box in pixels of the original image; `area` in these pixels, of the mask if masks
      are matched.
    * `score`: NaN for ground truth.
    * `crowd`, `difficult`: of ground truth. `ignored`: nobody has to find the object; or the detection is not wrong if
      it matches nothing.
    * `match_50` … `match_95`: the row of the partner at each of COCO's ten IoU thresholds; -1 for none.
    * `iou`, `iou_row`: the highest IoU with a partner of the same category, matched or not, and its row; 0 and -1 if it
      is below 0.1. `iou_other`, `iou_other_row`: with a partner of another category. Crowds are nobody's partner.
    * `error`: what is wrong at IoU 0.50: `class`, `location`, `both`, `duplicate`, `background`, `missed`; empty if
      nothing is.
    """
    groundtruth, detections = table.groundtruth, table.detections
    num_detections, num_groundtruth = len(detections), len(groundtruth)
    of_detections, of_groundtruth = table.nearest
    crowd, difficult = (
        np.zeros(num_groundtruth, bool) if flags is None else flags
        for flags in (groundtruth.crowd, groundtruth.difficult)
    )
    no_flag = np.zeros(num_detections, bool)
    ids = list(table.images)
    if not all(isinstance(id, int) for id in ids):
        ids = list(map(str, ids))
    category = np.concatenate((detections.category, groundtruth.category))
    box = np.concatenate((detections.box, groundtruth.box))
    columns: dict[str, Any] = {
        "kind": pd.Categorical.from_codes(np.repeat([0, 1], [num_detections, num_groundtruth]), KINDS),
        "image_id": pd.Series(ids).take(np.concatenate((detections.image, groundtruth.image))).array,
        "category": pd.Categorical.from_codes(category, list(table.categories.values())),
        "category_id": np.array(list(table.categories), np.int64)[category],
        **{name: box[:, index] for index, name in enumerate(("x", "y", "width", "height"))},
        "area": np.concatenate((detections.area, groundtruth.area)),
        "score": np.concatenate((table.score, np.full(num_groundtruth, np.nan))),
        "crowd": np.concatenate((no_flag, crowd)),
        "difficult": np.concatenate((no_flag, difficult)),
        "ignored": np.concatenate((table.uncounted, table.ignored)),
    }
    for index, name in enumerate(MATCH_COLUMNS):
        columns[name] = _rows(table.matches.detection[:, index], table.matches.groundtruth[:, index])
    for suffix, name in (("", ""), ("_other", "other_")):
        iou, row = (
            [getattr(nearest, f"{name}{what}") for nearest in (of_detections, of_groundtruth)]
            for what in ("iou", "row")
        )
        columns[f"iou{suffix}"] = np.concatenate(iou)
        columns[f"iou{suffix}_row"] = _rows(*row)
    columns["error"] = pd.Categorical.from_codes(np.concatenate(table.errors), ERROR_KINDS)
    return pd.DataFrame(columns)


def _rows(of_detections: npt.NDArray[Any], of_groundtruth: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Rows of partners, where the rows of objects come after those of detections."""
    of_detections = np.where(of_detections < 0, -1, of_detections + len(of_detections))
    return np.concatenate((of_detections, of_groundtruth)).astype(np.int32)
