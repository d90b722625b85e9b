"""The section `errors`: the AP at IoU 0.50 that each of TIDE's kinds of errors costs, over all and `per_category`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval.evaluation.section import Section
from od_eval.evaluation.sections.coco import by_iou_type


class Errors(Section):
    name = "errors"
    rank = 43
    absent: Mapping[str, Any] = {}

    def scalars(self, value: Mapping[str, Any], per_category: str) -> dict[str, float | None]:
        return {
            f"{prefix}Errors/{kind}": lost
            for prefix, of_type in by_iou_type(value)
            for kind, lost in of_type.items()
            if kind not in ("per_category", "segm")
        }


SECTIONS = (Errors(),)
