"""The placeholder for paths in the configs of the model zoo."""

from __future__ import annotations

from collections.abc import Iterator

from od_eval.findings.finding import Finding
from od_eval.text import named

PLACEHOLDER = "PATH_TO_BE_CONFIGURED"


def placeholder(source: str, field: str, value: str) -> Iterator[Finding]:
    """Checks whether a path is still a placeholder.

    Args:
      source: the name of the config in messages.
      field: the field of the path.
      value: its value.
    """
    if PLACEHOLDER in value:
        yield Finding(
            "placeholder",
            "error",
            source,
            f"{field} is still '{named(value)}'",
            f"write the path there or pass --set {field}=PATH",
            field=field,
        )
