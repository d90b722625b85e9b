"""The section `other`: metrics of a model's own evaluators, by their own tags; NaN for what is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval.evaluation.section import Section, finite_or_nan, nan_to_none, none_to_nan


class Other(Section):
    name = "other"
    rank = 30
    absent: Mapping[str, float] = {}

    def checked(self, value: Mapping[str, Any]) -> dict[str, float]:
        return {tag: finite_or_nan(metric) for tag, metric in value.items()}

    def to_json(self, value: Mapping[str, float]) -> dict[str, float | None]:
        return nan_to_none(value)

    def from_json(self, value: Any) -> dict[str, float]:
        return none_to_nan(super().from_json(value))

    def scalars(self, value: Mapping[str, float], per_category: str) -> Mapping[str, float]:
        return value

    def log_values(self, value: Mapping[str, float]) -> Mapping[str, float]:
        return value


SECTIONS = (Other(),)
