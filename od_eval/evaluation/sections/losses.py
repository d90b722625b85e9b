"""The section `losses`: loss name -> mean over the images; NaN for what is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval import losses
from od_eval.evaluation.section import Section, finite_or_nan, nan_to_none, none_to_nan


class Losses(Section):
    name = "losses"
    rank = 0
    absent: Mapping[str, float] = {}
    optional = False
    line_rank = 90
    in_line = (losses.TOTAL,)
    in_summary = losses.CATEGORIES

    def checked(self, value: Mapping[str, Any]) -> dict[str, float]:
        return {name: finite_or_nan(loss) for name, loss in value.items()}

    def to_json(self, value: Mapping[str, float]) -> dict[str, float | None]:
        return nan_to_none(value)

    def from_json(self, value: Any) -> dict[str, float]:
        return none_to_nan(super().from_json(value))

    def scalars(self, value: Mapping[str, float], per_category: str) -> dict[str, float | None]:
        parts = {name: loss for name, loss in value.items() if name != "loss"}  # `loss` is total_loss
        return {losses.tag(name): loss for name, loss in {**parts, **losses.categorize(value)}.items()}

    def log_values(self, value: Mapping[str, float]) -> Mapping[str, float]:
        return value

    def falls(self, name: str) -> bool:
        return "loss" in name


SECTIONS = (Losses(),)
