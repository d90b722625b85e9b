"""The section `findings`: what is wrong with the data or the training, or worth knowing, for those who read the files.

Each is a mapping with the attributes of `od_eval.findings.finding.Finding`, and its sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from od_eval.evaluation.section import Section, plain


class Findings(Section):
    name = "findings"
    rank = 90
    absent: Sequence[Any] = ()

    def checked(self, value: Sequence[Any]) -> list[Any]:
        return [plain(finding) for finding in value]

    def from_json(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"'{self.name}' is {value!r}")
        return value


SECTIONS = (Findings(),)
