"""The section `losses`: loss name -> mean over the images."""

from __future__ import annotations

from collections.abc import Mapping

from od_eval import losses
from od_eval.evaluation.section import NumbersByName


class Losses(NumbersByName):
    name = "losses"
    rank = 0
    optional = False
    line_rank = 90
    log_names = losses.CATEGORIES
    in_line = (losses.TOTAL,)  # the table at the end has all of them, beside those of training

    def scalars(self, value: Mapping[str, float], per_category: str) -> dict[str, float]:
        return {losses.tag(name): loss for name, loss in losses.with_categories(value).items()}

    def falls(self, name: str) -> bool:
        return "loss" in name


SECTIONS = (Losses(),)
