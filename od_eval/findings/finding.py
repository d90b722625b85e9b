"""What a check of a config, of data or of a training has found, and how a list of findings becomes an error.

A check is a function that yields findings, as many as there are; whoever wants the first as an error asks for it:

    raise_first_error(check_labels(config))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from od_eval.errors import ODEvalError

Severity = Literal["error", "warning", "note"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing. As a string it is one sentence.

    Attributes:
      kind: a stable name of this kind of finding, for programs: `empty_record_files`.
      severity: `error`: it cannot work, or would be wrong; `warning`: it works, and probably not as is meant; `note`.
      where: file, line, record or field, as exact as it is known; empty for the whole.
      symptom: what was seen; it begins the sentence, after `where`.
      cause: why it is so or what follows of it, as a clause that goes on after a comma; empty where the symptom says
        it all.
      remedy: what to do, as a clause in the imperative.
      field: the field of the pipeline.config to change, where there is one: `train_config.batch_size`.
      evidence: name -> number or text that the finding rests on.
    """

    kind: str
    severity: Severity
    where: str
    symptom: str
    remedy: str
    cause: str = ""
    field: str | None = None
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        cause = f", {self.cause}" if self.cause else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}{self.symptom}{cause}{remedy}."


def raise_first_error(findings: Iterable[Finding]) -> None:
    """Raises the first finding that is an error; what would come after it is not looked for.

    Raises:
      ODEvalError: with the sentence of the finding.
    """
    for finding in findings:
        if finding.severity == "error":
            raise ODEvalError(str(finding))
