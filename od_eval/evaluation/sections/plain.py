"""Sections that are only in the files.

* `calibration`: how far scores are from the part that is right: `ece` and `bins`.
* `class_agnostic`: COCO's metrics if all categories were one, and the counts at the operating point.
* `dataset`: what was evaluated: numbers of images and objects, and a fingerprint to tell evaluation sets apart.
* `deployment`: of a deployed model: its runtime, latency, size and memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval.evaluation.section import Section


class Plain(Section):
    """Plain data.

    Args:
      name, rank: see `Section`.
    """

    absent: Mapping[str, Any] = {}

    def __init__(self, name: str, rank: int):
        self.name = name
        self.rank = rank


SECTIONS = (Plain("calibration", 44), Plain("class_agnostic", 45), Plain("dataset", 46), Plain("deployment", 47))
