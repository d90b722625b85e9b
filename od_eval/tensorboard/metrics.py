"""The numbers of an evaluation as TensorBoard's scalars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from od_eval import losses
from od_eval.evaluation.result import COCO_METRICS, EvaluationResult
from od_eval.tensorboard import tags


def scalars(result: EvaluationResult, per_category: str = "AP") -> dict[str, float]:
    """Every scalar of an evaluation under its tag; what is not defined (None) is left out.

    Args:
      result: the evaluation.
      per_category: `AP`, `all` or `none`, as in `EvaluationOptions`. Of super categories, which somebody asked for, AP
        is shown in any case.

    Returns:
      Tag -> value: losses (each part and the categories of `od_eval.losses`), the COCO metrics of boxes and masks,
      those of categories and super categories, and `other` as it is.
    """
    found: dict[str, float | None] = {}
    parts = {name: loss for name, loss in result.losses.items() if name != "loss"}  # `loss` is total_loss
    found.update({tags.loss(name): loss for name, loss in {**parts, **losses.categorize(result.losses)}.items()})
    for of, metrics in (("bbox", result.bbox), ("segm", result.segm)):
        found.update({tags.metric(name, of): (metrics or {}).get(name) for name in COCO_METRICS})
    if per_category != "none":
        found.update(_by_name(result.per_category, per_category, tags.category_ap, tags.category_metric))
    found.update(_by_name(result.per_super_category, per_category, tags.super_category_ap, tags.super_category_metric))
    found.update(result.other)
    return {tag: float(value) for tag, value in found.items() if value is not None}


def _by_name(
    metrics_of: Mapping[str, Mapping[str, Any]],
    per_category: str,
    ap_tag: Callable[[str, str], str],
    metric_tag: Callable[[str, str, str], str],
) -> dict[str, float | None]:
    found = {}
    for name, of_boxes in metrics_of.items():
        for of, metrics in (("bbox", of_boxes), ("segm", of_boxes.get("segm") or {})):
            found[ap_tag(name, of)] = metrics.get("AP")
            if per_category == "all":
                found.update({metric_tag(metric, name, of): metrics.get(metric) for metric in COCO_METRICS})
    return found
