"""The sections `bbox` and `segm`: the twelve COCO metrics of boxes, and of masks; None if one is not defined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from od_eval.evaluation.section import Section

# The twelve metrics of the COCO protocol, in its order (cocodataset.org/#detection-eval), under the tags of the Object
# Detection API (metrics/coco_tools.py).
TAG_OF_METRIC = {
    "AP": "Precision/mAP",
    "AP50": "Precision/mAP@.50IOU",
    "AP75": "Precision/mAP@.75IOU",
    "APs": "Precision/mAP (small)",
    "APm": "Precision/mAP (medium)",
    "APl": "Precision/mAP (large)",
    "AR1": "Recall/AR@1",
    "AR10": "Recall/AR@10",
    "AR100": "Recall/AR@100",
    "ARs": "Recall/AR@100 (small)",
    "ARm": "Recall/AR@100 (medium)",
    "ARl": "Recall/AR@100 (large)",
}
COCO_METRICS = tuple(TAG_OF_METRIC)

# Metrics by the names in `COCO_METRICS`; None for one that is not defined because there is no ground truth of that
# size.
Metrics = Mapping[str, float | None]

# The prefixes of the tags of boxes and of masks.
TAG_PREFIX = {"bbox": "DetectionBoxes_", "segm": "DetectionMasks_"}


def by_iou_type(value: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The prefix of tags and the values of boxes, and under `segm` those of masks, of a section that has both."""
    yield TAG_PREFIX["bbox"], value
    if value.get("segm"):
        yield TAG_PREFIX["segm"], value["segm"]


def metric_tag(name: str, iou_type: str = "bbox") -> str:
    """The tag of a COCO metric over all categories.

    Args:
      name: one of `COCO_METRICS`.
      iou_type: `bbox` or `segm`.
    """
    return TAG_PREFIX[iou_type] + TAG_OF_METRIC[name]


class CocoMetrics(Section):
    """The metrics of boxes or of masks.

    Args:
      iou_type: `bbox` or `segm`, which is also the name of the section.
      rank, optional, line_rank: see `Section`.
      log_prefix: prefix of the names in `logs`.
      in_line, in_summary: see `Section`; without the prefix.
    """

    def __init__(
        self,
        iou_type: str,
        *,
        rank: int,
        optional: bool,
        line_rank: int,
        log_prefix: str,
        in_line: tuple[str, ...],
        in_summary: tuple[str, ...],
    ):
        self.name = iou_type
        self.rank = rank
        self.optional = optional
        self.line_rank = line_rank
        self._log_prefix = log_prefix
        self.log_names = tuple(log_prefix + name for name in COCO_METRICS)
        self.tag_prefixes = (TAG_PREFIX[iou_type],)
        self.in_line = tuple(log_prefix + name for name in in_line)
        self.in_summary = tuple(log_prefix + name for name in in_summary)

    def to_json(self, value: Metrics | None) -> dict[str, float | None] | None:
        return None if value is None else dict(value)

    def from_json(self, value: Any) -> Metrics | None:
        return None if value is None else super().from_json(value)

    def scalars(self, value: Metrics | None, per_category: str) -> dict[str, float | None]:
        return {metric_tag(name, self.name): (value or {}).get(name) for name in COCO_METRICS}

    def log_values(self, value: Metrics | None) -> dict[str, float | None]:
        return {self._log_prefix + name: metric for name, metric in (value or {}).items()}


SECTIONS = (
    CocoMetrics(
        "bbox",
        rank=10,
        optional=False,
        line_rank=20,
        log_prefix="",
        in_line=("AP", "AP50", "AR100"),
        in_summary=("AP", "AP50", "AP75", "AR100"),
    ),
    CocoMetrics(
        "segm",
        rank=11,
        optional=True,
        line_rank=10,
        log_prefix="segm_",
        in_line=("AP",),
        in_summary=("AP", "AP50"),
    ),
)
