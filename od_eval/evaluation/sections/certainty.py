"""The section `certainty`: whether the main metric has improved beyond chance.

`metric`: `AP`, or `segm_AP` where masks are evaluated. `value` and `step`: of the last evaluation that was better than
the one in this place before it, by a paired 95% interval; the first evaluation at the beginning. `difference`: the
interval `[low, high]` of what this evaluation has more than the one before it in this place; None if there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval.evaluation.section import Section

# The suffix of the name of the main metric where it counts only if it has improved beyond chance.
CERTAIN = "_certain"


class Certainty(Section):
    name = "certainty"
    rank = 47
    absent: Mapping[str, Any] = {}
    log_names = (f"AP{CERTAIN}", f"segm_AP{CERTAIN}")

    def log_values(self, value: Mapping[str, Any]) -> dict[str, float | None]:
        return {value["metric"] + CERTAIN: value["value"]}


SECTIONS = (Certainty(),)
