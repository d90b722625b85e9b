"""Which of two evaluations is better: one rule for the best checkpoint, early stopping and printed lines."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Literal

from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.section import all_sections


def main_metric(names: Container[str], prefix: str = "") -> str:
    """The metric that is used by default: mask AP if it is available, then box AP, then the IoU of a segmentation.

    Args:
      names: names of the available metrics.
      prefix: prefix of these names, `val_` in Keras's `logs`.
    """
    return next((prefix + name for name in ("segm_AP", "AP", "IoU") if prefix + name in names), f"{prefix}AP")


def direction(metric: str) -> Literal["min", "max"]:
    """`min` for a metric where lower is better, such as a loss (judged by its name), `max` for all others."""
    return "min" if any(section.falls(metric) for section in all_sections().values()) else "max"


def is_better(value: float, best: float, mode: Literal["min", "max"]) -> bool:
    """Whether a value is better than the best so far; an equal value is not."""
    return value < best if mode == "min" else value > best


def main_value(result: EvaluationResult) -> float | None:
    """The value of the main metric of an evaluation; None if it is not defined."""
    values = result.log_values()
    return values.get(main_metric(values))


def best_of(results: Iterable[EvaluationResult]) -> EvaluationResult | None:
    """The best result by the main metric, the earlier one if equal. None if the metric is never defined."""
    best = None
    for result in results:
        value, before = main_value(result), None if best is None else main_value(best)
        if value is not None and (before is None or is_better(value, before, "max")):
            best = result
    return best
