"""Diagnoses: what a training shows, why, and what to do about it.

A diagnosis is a generator function in a module of `od_eval.findings.diagnoses`; a new one needs no registration:

    @diagnosis
    def overfitting(evidence):
        \"\"\"…\"\"\"
        if …:
            yield Finding("overfitting", "warning", …)

What it looks for may not be there (no evaluations, no object table, no config): then it yields nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from od_eval.discovery import modules_of
from od_eval.errors import describe
from od_eval.findings import diagnoses
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding, most_important_first

Diagnosis = Callable[[Evidence], Iterator[Finding]]


def diagnosis(function: Diagnosis) -> Diagnosis:
    """Marks a generator of findings as a diagnosis."""
    function.is_diagnosis = True  # type: ignore[attr-defined]
    return function


@functools.cache
def all_diagnoses() -> tuple[Diagnosis, ...]:
    """All diagnoses, by module, and within a module in the order of their definition."""
    return tuple(
        value
        for module in modules_of(diagnoses)
        for value in vars(module).values()
        if getattr(value, "is_diagnosis", False) and value.__module__ == module.__name__
    )


def diagnose(evidence: Evidence) -> list[Finding]:
    """The findings of all diagnoses, the most important first. One that fails is a finding, too."""
    found: list[Finding] = []
    for function in all_diagnoses():
        try:
            found += function(evidence)
        except Exception as error:
            found.append(_failed(function, error))
    return most_important_first(found)


def _failed(function: Diagnosis, error: Exception) -> Finding:
    return Finding(
        "diagnosis_failed",
        "note",
        "",
        f"the diagnosis '{function.__name__}' failed",
        "report it, with this sentence",
        cause=f"so nothing is said of it: {describe(error)}",
    )
