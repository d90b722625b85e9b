"""The section `segmentation`: metrics of semantic segmentation, over all pixels and under `per_category` of each class.

A metric is the mean of the classes that are in the data (`absent_classes` are not); None if there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval.evaluation.section import Section
from od_eval.text import utf8

# Metric -> its name in Keras's `logs`, where AP, AR and F1 are those of boxes.
LOG_NAMES = {
    "IoU": "IoU",
    "AP": "segmentation_AP",
    "AR": "segmentation_AR",
    "F1": "segmentation_F1",
    "pixel_accuracy": "pixel_accuracy",
    "mean_class_accuracy": "mean_class_accuracy",
    "boundary_IoU": "boundary_IoU",
}
METRICS = tuple(LOG_NAMES)
CATEGORY_METRICS = ("IoU", "AP", "AR", "F1", "accuracy", "boundary_IoU")
TAG_PREFIX = "Segmentation/"
CATEGORY_TAG_PREFIX = "Segmentation_PerformanceByCategory/"


def category_tag(metric: str, name: str) -> str:
    """The tag of one of `CATEGORY_METRICS` of a class; for the name "", the common prefix of these tags."""
    return f"{CATEGORY_TAG_PREFIX}{metric}/{utf8(name)}"


class Segmentation(Section):
    name = "segmentation"
    rank = 12
    line_rank = 15
    absent: Mapping[str, Any] = {}
    log_names = tuple(LOG_NAMES.values())
    in_line = ("IoU", "pixel_accuracy")
    in_summary = ("IoU", "segmentation_AP", "segmentation_F1", "pixel_accuracy", "boundary_IoU")

    def scalars(self, value: Mapping[str, Any], per_category: str) -> dict[str, float | None]:
        scalars = {TAG_PREFIX + metric: value.get(metric) for metric in METRICS}
        # `AP` is the one metric per category that `EvaluationOptions` ask for; here it is the IoU.
        shown = {"none": (), "all": CATEGORY_METRICS}.get(per_category, ("IoU",))
        for name, of_category in value.get("per_category", {}).items():
            scalars.update({category_tag(metric, name): of_category.get(metric) for metric in shown})
        return scalars

    def log_values(self, value: Mapping[str, Any]) -> dict[str, float | None]:
        return {log_name: value.get(metric) for metric, log_name in LOG_NAMES.items()}


SECTIONS = (Segmentation(),)
