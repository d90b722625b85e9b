"""Findings of a check of a config, of data or of training, and how they become an error.

A check is a function that yields its findings; to raise the first one as an error:

    raise_first_error(check_labels(config))
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from od_eval.errors import ODEvalError
from od_eval.evaluation.section import plain

Severity = Literal["error", "warning", "note"]
Sureness = Literal["certain", "likely", "possible"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
SURENESSES: tuple[Sureness, ...] = ("certain", "likely", "possible")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing. As a string it is one sentence.

    Attributes:
      kind: a stable name of this kind of finding, for programs: `empty_record_files`.
      severity: `error`: it cannot work, or would be wrong; `warning`: it works, but probably not as intended; `note`.
      where: file, line, record or field, as precise as possible; empty for the whole.
      symptom: the observation; the sentence starts with it, after `where`.
      cause: its cause or consequence, as a clause after a comma; empty if the symptom is sufficient.
      remedy: what to do, as a clause in the imperative.
      field: the field of the pipeline.config to change, if any: `train_config.batch_size`.
      evidence: name -> number or text that the finding is based on.
      sureness: how sure the cause is. `certain`: it is what was counted or read, nothing is concluded; `likely`: little
        else looks like it; `possible`: one of several causes, worth a look.
      settings: what to pass to `--set` to follow the remedy, ready to copy: `train_config.batch_size=8`.
      images: ids of images that show it, or records of them, the clearest first.
      impact: what it costs, as far as that is known: AP, or a share of the objects; from 0 to 1. Findings that are
        equally severe and sure are listed by it.
    """

    kind: str
    severity: Severity
    where: str
    symptom: str
    remedy: str
    cause: str = ""
    field: str | None = None
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sureness: Sureness = "certain"
    settings: Sequence[str] = ()
    images: Sequence[int | str] = ()
    impact: float = 0.0

    def __str__(self) -> str:
        location = f"{self.where}: " if self.where else ""
        cause = f", {self.cause}" if self.cause else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{location}{self.symptom}{cause}{remedy}."


def most_important_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings by severity, then by sureness, then by impact; each sentence once."""
    unique = {str(finding): finding for finding in findings}
    return sorted(
        unique.values(),
        key=lambda one: (SEVERITIES.index(one.severity), SURENESSES.index(one.sureness), -one.impact),
    )


def findings_section(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The findings as the section `findings` of an evaluation: plain data that JSON allows, each with its sentence."""
    names = [field.name for field in dataclasses.fields(Finding)]
    return [
        plain({**{name: getattr(finding, name) for name in names}, "sentence": str(finding)}) for finding in findings
    ]


def findings_in(section: Iterable[Any]) -> list[Finding]:
    """The inverse of `findings_section`; what is no finding, of a user's own, is left out."""
    names = {field.name for field in dataclasses.fields(Finding)}
    found = []
    for entry in section:
        values = {name: entry[name] for name in names & entry.keys()} if isinstance(entry, Mapping) else {}
        if values.get("severity") in SEVERITIES and values.get("sureness", SURENESSES[0]) in SURENESSES:
            with contextlib.suppress(TypeError):  # an attribute is missing
                found.append(Finding(**values))
    return found


def raise_first_error(findings: Iterable[Finding]) -> None:
    """Raises the first finding that is an error; later findings are not computed.

    Raises:
      ODEvalError: with the sentence of the finding.
    """
    for finding in findings:
        if finding.severity == "error":
            raise ODEvalError(str(finding))
