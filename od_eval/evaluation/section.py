"""Sections of an `EvaluationResult`.

A section is defined by a module of `od_eval.evaluation.sections` that has a tuple `SECTIONS`. Only this module defines
what the section looks like in metrics.json, its scalars in TensorBoard, its entries in Keras's `logs` and metrics.csv,
and its values in the line after an evaluation and in the table at the end. A new section is a new module.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Section:
    """A section of a result. Its value is plain data; this class defines where and how it is shown.

    Attributes:
      name: its key in metrics.json, and the attribute of a result.
      rank: sections with a lower rank come first in files.
      absent: the value of a section that no evaluator returned.
      optional: whether metrics.json omits it if it is empty.
      line_rank: sections with a lower rank come first in the line after an evaluation and in the table at the end.
      log_names: the names among `log_values` that are known before an evaluation, to stop early by, for example.
      in_line, in_summary: the names among `log_values` that are shown there, if they are defined.
      tag_prefixes: how the tags of what is computed from detections begin; they are replaced where the detections of a
        step are evaluated again.
    """

    name: str
    rank = 100
    absent: Any = None
    optional = True
    line_rank = 100
    log_names: tuple[str, ...] = ()
    in_line: tuple[str, ...] = ()
    in_summary: tuple[str, ...] = ()
    tag_prefixes: tuple[str, ...] = ()

    def checked(self, value: Any) -> Any:
        """The value with all numbers converted to plain Python numbers, for JSON."""
        return value

    def to_json(self, value: Any) -> Any:
        """The value for metrics.json: only what JSON allows."""
        return value

    def from_json(self, value: Any) -> Any:
        """The inverse of `to_json`.

        Raises:
          ValueError: the value is not such a section.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"'{self.name}' is {value!r}")
        return value

    def scalars(self, value: Any, per_category: str) -> Mapping[str, float | None]:
        """TensorBoard's tag -> value; None if not defined.

        Args:
          value: the value of the section.
          per_category: what is shown for each category: `AP`, `all` or `none`, as in `EvaluationOptions`.
        """
        return {}

    def log_values(self, value: Any) -> Mapping[str, float | None]:
        """Name -> value, for Keras's `logs` and the columns of metrics.csv; None if not defined."""
        return {}

    def falls(self, name: str) -> bool:
        """Whether lower is better for one of its `log_values`, judged by its name, with or without a prefix."""
        return False


@functools.cache
def all_sections() -> dict[str, Section]:
    """Name -> section, by rank."""
    from od_eval.discovery import modules_of
    from od_eval.evaluation import sections  # here, because these modules import this one

    defined = [section for module in modules_of(sections) for section in module.SECTIONS]
    return {section.name: section for section in sorted(defined, key=lambda section: section.rank)}


def plain(value: Any) -> Any:
    """The value as what JSON has: None for a number that is not finite, and text for what JSON does not have."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence):
        return [plain(one) for one in value]
    return str(value)


class NumbersByName(Section):
    """A section of numbers by name: NaN if not finite, which is null in JSON."""

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
