"""The section `custom`: metrics that a user's own functions compute from the object table, by their names."""

from __future__ import annotations

from collections.abc import Mapping

from od_eval.evaluation.section import NumbersByName


class Custom(NumbersByName):
    name = "custom"
    rank = 31
    tag_prefixes = ("Custom/",)

    def scalars(self, value: Mapping[str, float], per_category: str) -> dict[str, float]:
        return {f"Custom/{name}": number for name, number in value.items()}


SECTIONS = (Custom(),)
