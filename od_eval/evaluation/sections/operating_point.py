"""The section `operating_point`: the confidence from which detections are used, and precision, recall and F1 at it.

`confidence`, `iou` and `chosen_by` (see `od_eval.evaluation.analyses.operating_point`); under `bbox` and `segm` the
counts over all categories, under `per_category` those of each; `recall_at_precision` and `precision_at_recall`: what a
wanted value of the one leaves of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval.evaluation.section import Section
from od_eval.evaluation.sections.coco import TAG_PREFIX


class OperatingPoint(Section):
    name = "operating_point"
    rank = 40
    line_rank = 30
    absent: Mapping[str, Any] = {}
    log_names = ("F1", "segm_F1")
    in_line = ("F1",)
    in_summary = ("F1", "segm_F1")

    def scalars(self, value: Mapping[str, Any], per_category: str) -> dict[str, float | None]:
        scalars = {}
        for iou_type, prefix in TAG_PREFIX.items():
            if iou_type in value:
                for name in ("precision", "recall", "f1"):
                    scalars[f"{prefix}OperatingPoint/{name}"] = value[iou_type][name]
                scalars[f"{prefix}OperatingPoint/confidence"] = value["confidence"]
        return scalars

    def log_values(self, value: Mapping[str, Any]) -> dict[str, float | None]:
        names = {"bbox": "F1", "segm": "segm_F1"}
        return {name: value[iou_type]["f1"] for iou_type, name in names.items() if iou_type in value}


SECTIONS = (OperatingPoint(),)
