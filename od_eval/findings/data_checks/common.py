"""What checks of data share: whether a dataset has labels and is trained on, and how numbers are said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from od_eval.findings.survey import Survey

MOST_IMAGES = 50  # whose ids a finding keeps: enough to see what is wrong, and short in JSON


def has_labels(survey: Survey) -> bool:
    """Whether the images of a dataset are annotated; those from where a model is to be used are not."""
    return bool(survey.categories)


def is_for_training(survey: Survey) -> bool:
    """Whether a dataset is trained on, as far as its name tells; annotations before conversion may be."""
    return not survey.name.startswith(("eval", "deployment"))


def percent(share: float) -> str:
    """A share in words: `3.5%`, `40%`; what is not nothing is not said to be 0%."""
    if 0 < share < 0.001:
        return "less than 0.1%"
    return f"{share:.1%}".replace(".0%", "%")


def counted(survey: Survey, count: int, total: int, things: str = "objects") -> str:
    """A number and what it is part of: `12 of 340 objects (3.5%)`."""
    what = things if survey.is_complete else f"{things} that were read"
    if total == 1:
        what = what.replace(things, things.removesuffix("s"), 1).replace("were", "was")
    return f"{count} of {total} {what} ({percent(count / total)})"


def verb(count: int, one: str, several: str) -> str:
    """The form of a verb that fits a number of things."""
    return one if count == 1 else several


def image_ids(survey: Survey, rows: Iterable[int] | pd.Series[Any]) -> list[str]:
    """The ids of the images in these rows, each once, in their order; only as many as a finding keeps."""
    rows = list(dict.fromkeys(int(row) for row in rows))[:MOST_IMAGES]
    return [str(name) for name in survey.images["id"].iloc[rows]]
