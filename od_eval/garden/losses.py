"""The losses that a task of Model Garden reports -> parts that add up to the total.

native_losses({"total_loss": 1.7, "cls_loss": 0.6, "box_loss": 0.02, "model_loss": 1.6}, params.task.losses)
# {"total_loss": 1.7, "cls_loss": 0.6, "box_loss": 1.0, "regularization_loss": 0.1}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOTAL = "total_loss"
_MODEL = "model_loss"  # the total without regularization
# Part -> the field of `task.losses` with its weight; cls_loss has none. From `build_losses` of the two tasks.
_WEIGHTS = {
    "cls_loss": None,
    "box_loss": "box_loss_weight",
    "rpn_score_loss": "rpn_score_weight",
    "rpn_box_loss": "rpn_box_weight",
    "frcnn_cls_loss": "frcnn_class_weight",
    "frcnn_box_loss": "frcnn_box_weight",
    "mask_loss": "mask_weight",
}
# The metric of YOLO with the parts of its total: box, class, conf.
YOLO_PARTS = "net"
# What it calls the total of any task: 0 where a task has no losses in an evaluation.
_TOTALS = ("training_loss", "validation_loss")


def native_losses(reported: Mapping[str, Any], loss_config: Any) -> dict[str, float]:
    """Losses by the names that Model Garden gives them, each as it enters the total.

    Model Garden reports its parts without their weights (of RetinaNet's `box_loss` 50 times as much enters the total).

    Args:
      reported: name -> value, as its trainer reports them; what is no loss is left out.
      loss_config: `params.task.losses`, with the weights.

    Returns:
      The total as `total_loss`, the parts if they are known, `regularization_loss`, and as `other_loss` what the total
      has beside these. Empty if there is no loss: Mask R-CNN computes none in an evaluation, and reports 0.
    """
    total = next((reported[name] for name in (TOTAL, *_TOTALS) if reported.get(name)), None)
    if total is None:
        return {}
    losses = {TOTAL: total}
    losses |= {f"{part}_loss": value for part, value in reported.get(YOLO_PARTS, {}).items()}
    if _MODEL not in reported:
        return losses
    scale = getattr(loss_config, "loss_weight", 1.0)
    for name, field in _WEIGHTS.items():
        weight = 1.0 if field is None else getattr(loss_config, field, None)
        if name in reported and weight is not None:
            losses[name] = scale * weight * reported[name]
    unknown = scale * reported[_MODEL] - sum(value for name, value in losses.items() if name != TOTAL)
    if abs(unknown) > 1e-5 * abs(total):  # such as that of RetinaNet's attribute heads; below it, rounding
        losses["other_loss"] = unknown
    losses["regularization_loss"] = total - scale * reported[_MODEL]
    return losses
