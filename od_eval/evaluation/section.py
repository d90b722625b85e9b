"""What a section of an `EvaluationResult` is, and which sections there are.

A section is a module of `od_eval.evaluation.sections` with a tuple `SECTIONS` in it. That module alone says what its
section looks like in metrics.json, which scalars TensorBoard gets of it, which entries Keras's `logs` and metrics.csv
get, and what of it stands in the line after an evaluation and in the table at the end. A new section is a new module.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any


class Section:
    """One section of a result: its value is plain data, and this says where and how it is shown.

    Attributes:
      name: its key in metrics.json, and its attribute of a result.
      rank: sections with a lower one come first in files.
      absent: the value of a section that no evaluator gave.
      optional: whether metrics.json leaves it out where it is empty.
      line_rank: sections with a lower one come first in the line after an evaluation and in the table at the end.
      in_line, in_summary: the names among `log_values` that stand there, where they are defined.
    """

    name: str
    rank = 100
    absent: Any = None
    optional = True
    line_rank = 100
    in_line: tuple[str, ...] = ()
    in_summary: tuple[str, ...] = ()

    def checked(self, value: Any) -> Any:
        """The value as plain Python numbers, whatever they were, so that all of it can go into JSON."""
        return value

    def to_json(self, value: Any) -> Any:
        """The value as metrics.json holds it: nothing but what JSON can."""
        return value

    def from_json(self, value: Any) -> Any:
        """The value that `to_json` made this from.

        Raises:
          ValueError: that is no such thing.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"'{self.name}' is {value!r}")
        return value

    def scalars(self, value: Any, per_category: str) -> Mapping[str, float | None]:
        """TensorBoard's tag -> value; None for what is not defined.

        Args:
          value: of the section.
          per_category: what is shown of each category: `AP`, `all` or `none`, as in `EvaluationOptions`.
        """
        return {}

    def log_values(self, value: Any) -> Mapping[str, float | None]:
        """Name -> value, for Keras's `logs` and the columns of metrics.csv; None for what is not defined."""
        return {}

    def falls(self, name: str) -> bool:
        """Whether one of its `log_values` gets better by falling, judged by its name, with or without a prefix."""
        return False


@functools.cache
def all_sections() -> dict[str, Section]:
    """Name -> section, by rank."""
    from od_eval.discovery import modules_of
    from od_eval.evaluation import sections  # here, as these modules import this one

    found = [section for module in modules_of(sections) for section in module.SECTIONS]
    return {section.name: section for section in sorted(found, key=lambda section: section.rank)}


class NumbersByName(Section):
    """A section that is nothing but numbers: name -> number, NaN for what is not finite, which JSON has as null."""

    absent: Mapping[str, float] = {}

    def checked(self, value: Mapping[str, Any]) -> dict[str, float]:
        # `math.nan` itself, so that equal results compare as equal.
        return {name: float(number) if math.isfinite(number) else math.nan for name, number in value.items()}

    def to_json(self, value: Mapping[str, float]) -> dict[str, float | None]:
        return {name: None if math.isnan(number) else number for name, number in value.items()}

    def from_json(self, value: Any) -> dict[str, float]:
        return {
            name: math.nan if number is None else float(number) for name, number in super().from_json(value).items()
        }

    def log_values(self, value: Mapping[str, float]) -> Mapping[str, float]:
        return value
