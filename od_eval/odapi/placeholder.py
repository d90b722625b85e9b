"""The text that configs of the model zoo have where a path belongs."""

from __future__ import annotations

from collections.abc import Iterator

from od_eval.findings.finding import Finding

PLACEHOLDER = "PATH_TO_BE_CONFIGURED"


def placeholder(source: str, field: str, value: str) -> Iterator[Finding]:
    """Finds out whether a path is still to be written.

    Args:
      source: what messages call the config.
      field: the field of the path.
      value: its value.
    """
    if PLACEHOLDER in value:
        yield Finding(
            "placeholder",
            "error",
            source,
            f"{field} is still '{value}'",
            f"write the path there or pass --set {field}=PATH",
            field=field,
        )
