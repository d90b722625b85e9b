"""Options of an analysis that make no sense."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from od_eval.errors import ODEvalError
from od_eval.evaluation.options import AnalysisOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": math.nan}, "the confidence nan is no score; give one, such as 0.5."),
        ({"f_beta": 0.0}, "f_beta is 0.0; give a number above 0"),
        ({"cost_fp": 1.0}, "cost_fp is 1.0 and cost_fn None; give both"),
        ({"cost_fp": 1.0, "cost_fn": -1.0}, "cost_fp is 1.0 and cost_fn -1.0; give both, each a number of 0 or more."),
        ({"max_megabytes": math.nan}, "analyses may take nan MB"),
        (
            {"size_ranges": {"small": (0, 9)}},
            "the size range 'small' has no name, or one that is taken (all, smallest,",
        ),
        ({"size_ranges": {"": (0, 9)}}, "the size range '' has no name"),
        (
            {"size_ranges": {"plates": (9, 1)}},
            "the size range 'plates' goes from 9 to 1; give the",
        ),
        ({"size_ranges": {"plates": (0, math.inf)}}, "the size range 'plates' goes from 0 to inf"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ODEvalError, match=re.escape(message)):
        AnalysisOptions(**options)
