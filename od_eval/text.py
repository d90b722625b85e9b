"""Words for people: names and values of other people's files in one line, lists that do not run on, tables."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def short(value: Any, length: int = 80) -> str:
    """A value as Python writes it, cut where it is longer."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def printable(text: str) -> str:
    """Text from a file, with nothing in it that a terminal would obey or cannot print."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def some(values: Iterable[Any], most: int = 10) -> str:
    """Values with commas between them; an ellipsis stands for those after the first few."""
    values = list(values)
    return ", ".join(map(str, values[:most])) + (", …" if len(values) > most else "")


def shortened(lines: Sequence[str], most: int = 20) -> list[str]:
    """Lines of a list; one that says how many there are stands for those after the first ones."""
    return list(lines) if len(lines) <= most else [*lines[:most], f"  … and {len(lines) - most} more"]


def quoted(names: Iterable[str]) -> str:
    """Names in quotation marks with commas between them, or `none`."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that there is not: the known one that is nearly that, if there is one."""
    similar = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{similar[0]}'?" if similar else ""


def number(value: float | None, missing: str = "-") -> str:
    """A metric or a loss with four decimals."""
    return missing if value is None else f"{value:.4f}"


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Rows of cells as lines, columns as wide as what is in them.

    Args:
      rows: all of the same number of cells.
      left: the indices of the columns that are aligned at their left; numbers are at their right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(cell.ljust(width) if at in left else cell.rjust(width) for at, (cell, width) in cells))
    return "\n".join(line.rstrip() for line in lines)


def utf8(text: str) -> str:
    """Text that a file or a proto can hold: JSON can say `\\ud800`, half a character, which UTF-8 has not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
