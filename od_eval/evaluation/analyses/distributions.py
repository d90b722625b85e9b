"""What histograms show: IoU, scores, sizes and shapes, objects per image, and where in images objects are missed.

At an IoU of 0.50, and at a confidence where not said otherwise. Here GT stands for the objects that are not ignored,
and DT for the detections that are right or wrong.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from od_eval.evaluation.analyses.operating_point import IOU_INDEX
from od_eval.evaluation.matching import Floats, Ints
from od_eval.evaluation.object_table import ObjectTable
from od_eval.evaluation.objects import Objects


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Values for a histogram.

    name: what is shown, for people.
    unit: of the values; "" for ratios.
    values: float64 `[n]`, in the order of the object table.
    """

    name: str
    unit: str
    values: Floats


@dataclasses.dataclass(frozen=True)
class Places:
    """Where in their images objects are.

    x, y: float64 `[n]`, the centre of the box relative to the image, from 0 (left, top) to 1 (right, bottom).
    groundtruth: int64 `[n]`, rows of the object table.
    """

    x: Floats
    y: Floats
    groundtruth: Ints


def matched_iou(table: ObjectTable, iou_index: int = IOU_INDEX) -> Floats:
    """float64 `[detections]`: the IoU of each detection with the object that it matches; 0 without one.

    Another object may overlap it more. With a crowd, the part of the detection inside.

    Args:
      table: the object table.
      iou_index: index in `IOU_THRESHOLDS`.
    """
    pairs = table.pairs
    iou = np.zeros(len(table.detections))
    matched = pairs.where(table.matches.detection[pairs.detection, iou_index] == pairs.groundtruth)
    iou[matched.detection] = matched.iou
    return iou


def distributions(table: ObjectTable, confidence: float | Floats) -> dict[str, Distribution]:
    """What histograms show.

    Args:
      table: the object table.
      confidence: one for all, or float `[categories]`.

    Returns:
      `iou_tp`: the IoU of true positives with their objects.
      `score_tp`, `score_fp`: the scores of true and of false positives, whatever the confidence.
      `size_gt`, `size_tp`, `size_fp`, `size_fn`: the square root of the area; for `size_tp`, that of the detection.
      `aspect_ratio_gt`, …: width / height of the box; boxes without width or height are left out.
      `gt_per_image`, `dt_per_image`: numbers of objects and of detections; a value for each image.
    """
    used = table.is_above(confidence)
    true, false = (outcome[:, IOU_INDEX] for outcome in table.outcomes)
    rows = {
        "gt": (table.groundtruth, np.flatnonzero(~table.ignored)),
        "tp": (table.detections, np.flatnonzero(used & true)),
        "fp": (table.detections, np.flatnonzero(used & false)),
        "fn": (table.groundtruth, _missed(table, confidence)),
    }
    found = {
        "iou_tp": Distribution("IoU of true positives", "", matched_iou(table)[rows["tp"][1]]),
        "score_tp": Distribution("Confidence of true positives", "", table.score[true]),
        "score_fp": Distribution("Confidence of false positives", "", table.score[false]),
    }
    names = {"gt": "objects", "tp": "true positives", "fp": "false positives", "fn": "missed objects"}
    for kind, (objects, of_kind) in rows.items():
        size = np.sqrt(np.maximum(objects.area[of_kind], 0))  # a detection of a negative width has a negative area
        found[f"size_{kind}"] = Distribution(f"Size (square root of area) of {names[kind]}", "pixels", size)
    for kind, (objects, of_kind) in rows.items():
        ratio = _aspect_ratio(objects, of_kind)
        found[f"aspect_ratio_{kind}"] = Distribution(f"Aspect ratio (width / height) of {names[kind]}", "", ratio)
    num_gt = _per_image(table, table.groundtruth, rows["gt"][1])
    num_dt = _per_image(table, table.detections, np.flatnonzero(used & (true | false)))
    found["gt_per_image"] = Distribution("Objects per image", "objects", num_gt)
    found["dt_per_image"] = Distribution("Detections per image", "detections", num_dt)
    return found


def missed_places(table: ObjectTable, confidence: float | Floats) -> Places:
    """Where missed objects are. Those in images of unknown size (a height or width of 0) are left out.

    Args:
      table: the object table.
      confidence: one for all, or float `[categories]`.
    """
    rows = _missed(table, confidence)
    size = np.array([*table.images.values()], np.float64).reshape(-1, 2)[table.groundtruth.image[rows], ::-1]
    known = (size > 0).all(axis=1)
    rows, size = rows[known], size[known]
    box = table.groundtruth.box[rows]
    # Boxes may reach beyond the image.
    x, y = np.clip((box[:, :2] + box[:, 2:] / 2) / size, 0, 1).T
    return Places(x, y, rows)


def _missed(table: ObjectTable, confidence: float | Floats) -> Ints:
    return np.flatnonzero(~table.ignored & ~table.is_found(confidence)[:, IOU_INDEX])


def _aspect_ratio(objects: Objects, rows: Ints) -> Floats:
    box = objects.box[rows]
    width, height = box[(box[:, 2:] > 0).all(axis=1), 2:].T
    return width / height


def _per_image(table: ObjectTable, objects: Objects, rows: Ints) -> Floats:
    return np.bincount(objects.image[rows], minlength=len(table.images)).astype(np.float64)
