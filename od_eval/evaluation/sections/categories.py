"""The sections `per_category` and `per_super_category`: name -> COCO metrics of boxes and of masks, and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from od_eval.evaluation.section import Section
from od_eval.evaluation.sections.coco import COCO_METRICS, TAG_PREFIX, metric_tag
from od_eval.text import utf8


class PerCategory(Section):
    """Name -> COCO metrics of boxes, `num_groundtruth`, `num_detections`, and under `segm` those of masks.

    Args:
      name, rank, optional: see `Section`.
      group: the middle part of AP tags: `PerformanceByCategory/mAP/`.
      of_each: the middle part of the tags of all twelve metrics: ` ByCategory/`.
      always_ap: whether the AP is always shown.
    """

    absent: Mapping[str, Any] = {}

    def __init__(self, name: str, *, rank: int, optional: bool, group: str, of_each: str, always_ap: bool):
        self.name = name
        self.rank = rank
        self.optional = optional
        self._group = group
        self._of_each = of_each
        self._always_ap = always_ap

    def to_json(self, value: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {name: dict(metrics) for name, metrics in value.items()}

    def scalars(self, value: Mapping[str, Mapping[str, Any]], per_category: str) -> dict[str, float | None]:
        if per_category == "none" and not self._always_ap:
            return {}
        scalars = {}
        for name, metrics_of_boxes in value.items():
            for iou_type, metrics in (("bbox", metrics_of_boxes), ("segm", metrics_of_boxes.get("segm") or {})):
                scalars[self.ap_tag(name, iou_type)] = metrics.get("AP")
                if per_category == "all":
                    tags = {metric: self.metric_tag(metric, name, iou_type) for metric in COCO_METRICS}
                    scalars.update({tag: metrics.get(metric) for metric, tag in tags.items()})
        return scalars

    def ap_tag(self, name: str, iou_type: str = "bbox") -> str:
        """The tag of the AP of a category; for "", the common prefix of these tags."""
        return TAG_PREFIX[iou_type] + self._group + utf8(name)

    def metric_tag(self, metric: str, name: str, iou_type: str = "bbox") -> str:
        """The tag of a COCO metric of a category, used if all metrics are shown."""
        return metric_tag(metric, iou_type) + self._of_each + utf8(name)


# Their tags are the Object Detection API's (metrics/coco_evaluation.py).
PER_CATEGORY = PerCategory(
    "per_category",
    rank=20,
    optional=False,
    group="PerformanceByCategory/mAP/",
    of_each=" ByCategory/",
    always_ap=False,
)
PER_SUPER_CATEGORY = PerCategory(
    "per_super_category",
    rank=21,
    optional=True,
    group="PerformanceBySuperCategory/",
    of_each=" BySuperCategory/",
    always_ap=True,  # the user has defined them
)
SECTIONS = (PER_CATEGORY, PER_SUPER_CATEGORY)


def over_categories(categories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The values of a super category: means of the metrics that are defined in its categories, and sums of counts."""

    def means(metrics_of: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
        defined = {
            name: [value for metrics in metrics_of if (value := metrics[name]) is not None] for name in COCO_METRICS
        }
        return {name: sum(values) / len(values) if values else None for name, values in defined.items()}

    section: dict[str, Any] = means(categories)
    for name in ("num_groundtruth", "num_detections"):
        section[name] = sum(metrics[name] for metrics in categories)
    if categories and "segm" in categories[0]:
        section["segm"] = means([metrics["segm"] for metrics in categories])
    return section
