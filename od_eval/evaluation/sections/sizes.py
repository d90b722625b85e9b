"""The section `sizes`: AP and recall of objects in ranges of size, by percentile of the areas and as a user asks.

Name of the range -> its pixels, number of objects, AP, AP50 and AR100; under `segm` those of masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval.evaluation.section import Section
from od_eval.evaluation.sections.coco import by_iou_type

# COCO's ranges in pixels have these names in TensorBoard.
_TAKEN = ("small", "medium", "large")


class Sizes(Section):
    name = "sizes"
    rank = 42
    absent: Mapping[str, Any] = {}

    def scalars(self, value: Mapping[str, Any], per_category: str) -> dict[str, float | None]:
        return {
            f"{prefix}Precision/mAP ({f'{name} by percentile' if name in _TAKEN else name})": of_range["AP"]
            for prefix, of_type in by_iou_type(value)
            for name, of_range in of_type.items()
            if name != "segm"
        }


SECTIONS = (Sizes(),)
