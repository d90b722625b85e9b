"""The section `other`: metrics of a model's own evaluators, by their own tags."""

from __future__ import annotations

from collections.abc import Mapping

from od_eval.evaluation.section import NumbersByName


class Other(NumbersByName):
    name = "other"
    rank = 30

    def scalars(self, value: Mapping[str, float], per_category: str) -> Mapping[str, float]:
        return value


SECTIONS = (Other(),)
