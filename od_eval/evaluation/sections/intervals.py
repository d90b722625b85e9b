"""The section `intervals`: 95% intervals, `[low, high]`, of `AP`, `AP50` and `F1`, over all and `per_category`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval.evaluation.section import Section
from od_eval.evaluation.sections.coco import TAG_PREFIX, by_iou_type


class Intervals(Section):
    name = "intervals"
    rank = 41
    absent: Mapping[str, Any] = {}

    def scalars(self, value: Mapping[str, Any], per_category: str) -> dict[str, float | None]:
        tags: dict[str, float | None] = {}
        for prefix, of_type in by_iou_type(value):
            if of_type["AP"] is not None:
                tags |= dict(zip(self.tags(prefix), of_type["AP"], strict=True))
        return tags

    def tags(self, prefix: str = TAG_PREFIX["bbox"]) -> tuple[str, str]:
        """The tags of the ends of the interval of AP."""
        return f"{prefix}Interval/mAP (low)", f"{prefix}Interval/mAP (high)"


INTERVALS = Intervals()
SECTIONS = (INTERVALS,)
