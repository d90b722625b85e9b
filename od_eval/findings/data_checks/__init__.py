"""Checks of a dataset, and of how two datasets differ, from what was surveyed of them.

A check is a generator function in a module of this package; a new one needs no registration:

    @data_check
    def tiny_boxes(survey, facts):
        \"\"\"…\"\"\"
        if …:
            yield Finding("tiny_boxes", "warning", survey.name, …)

    @pair_check
    def images_in_common(first, second, facts):
        …

`facts` is what is known of the config (`ConfigFacts`), None for annotations that are not converted yet. A pair is the
training data with an evaluation set, or with images from where the model is to be used.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence

from od_eval.discovery import modules_of
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.finding import Finding, most_important_first
from od_eval.findings.survey import Survey

DataCheck = Callable[[Survey, "ConfigFacts | None"], Iterator[Finding]]
PairCheck = Callable[[Survey, Survey, "ConfigFacts | None"], Iterator[Finding]]


def data_check(check: DataCheck) -> DataCheck:
    """Marks a generator of findings as a check of one dataset."""
    check.looks_at = "one"  # type: ignore[attr-defined]
    return check


def pair_check(check: PairCheck) -> PairCheck:
    """Marks a generator of findings as a check of two datasets, of which the first is the training data."""
    check.looks_at = "pair"  # type: ignore[attr-defined]
    return check


@functools.cache
def _checks(looks_at: str) -> tuple[Callable[..., Iterator[Finding]], ...]:
    return tuple(
        value
        for module in modules_of(sys.modules[__name__])
        for value in vars(module).values()
        if getattr(value, "looks_at", None) == looks_at and value.__module__ == module.__name__
    )


def check_data(train: Survey, others: Sequence[Survey], facts: ConfigFacts | None) -> list[Finding]:
    """The findings of all checks, the most important first.

    Args:
      train: the training data.
      others: the evaluation sets, and images from where the model is to be used.
      facts: of the config, if there is one.
    """
    found = [finding for survey in (train, *others) for check in _checks("one") for finding in check(survey, facts)]
    return most_important_first([*found, *compare_data(train, others, facts)])


def compare_data(train: Survey, others: Sequence[Survey], facts: ConfigFacts | None) -> list[Finding]:
    """The findings of the checks of two datasets alone; arguments as for `check_data`."""
    return [finding for other in others for check in _checks("pair") for finding in check(train, other, facts)]
