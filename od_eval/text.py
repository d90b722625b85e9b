"""Text for messages: names and values from users' files on one line, shortened lists, tables."""

from __future__ import annotations

import difflib
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


def short(value: Any, length: int = 80) -> str:
    """The repr of a value, truncated to a length."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def as_json(value: Any, length: int = 80) -> str:
    """A value as it stands in a JSON file, truncated to a length."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= length else text[: length - 1] + "…"


def printable(text: str, length: int = 1000) -> str:
    """Text with names and values of others, on one line: control characters and unprintable ones are escaped.

    Beyond a length its middle is left out: a sentence begins with what and where, and ends with what to do.
    """
    return _without_middle("".join(map(_printable, _without_middle(text, length))), length)


def _printable(char: str) -> str:
    return char if char.isprintable() else ascii(char)[1:-1]


def _without_middle(text: str, length: int) -> str:
    end = length // 3
    return text if len(text) <= length else f"{text[: length - end - 1]}…{text[-end:]}"


def named(name: str) -> str:
    """A name of others in a sentence, for which there is room even if the name is no name: `printable`, and short."""
    return printable(name, 200)


def backslash_hint(path: str) -> str:
    """The end of a message about a path from a text proto, where an escape became a character: a tab of `\\temp`."""
    if all(char.isprintable() for char in path):
        return ""
    return "; in quotes a backslash begins an escape: write / or \\\\ instead of \\"


def some(values: Iterable[Any], most: int = 10) -> str:
    """Comma-separated values, each as `named`; an ellipsis replaces those after the first few."""
    values = list(values)
    return ", ".join(named(str(value)) for value in values[:most]) + (", …" if len(values) > most else "")


def shortened(lines: Sequence[str], most: int = 20) -> list[str]:
    """The first lines of a list; the rest is replaced by a line with its number."""
    return list(lines) if len(lines) <= most else [*lines[:most], f"  … and {len(lines) - most} more"]


def quoted(names: Iterable[str]) -> str:
    """Quoted, comma-separated names, or `none`."""
    return ", ".join(f"'{named(name)}'" for name in names) or "none"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: suggests a similar known name, if there is one."""
    similar = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{similar[0]}'?" if similar else ""


def number(value: float | None, missing: str = "-") -> str:
    """A metric or a loss with four decimals."""
    return missing if value is None else f"{value:.4f}"


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Formats rows of cells as lines with aligned columns.

    Args:
      rows: rows with the same number of cells.
      left: the indices of left-aligned columns; the others are right-aligned, for numbers.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(cell.ljust(width) if at in left else cell.rjust(width) for at, (cell, width) in cells))
    return "\n".join(line.rstrip() for line in lines)


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table in HTML, the first as its heading; the first column is left-aligned, others right."""

    def cells(row: Sequence[str], tag: str) -> str:
        first, *others = map(html.escape, row)
        right = "".join(f'<{tag} style="text-align:right">{cell}</{tag}>' for cell in others)
        return f'<tr><{tag} style="text-align:left">{first}</{tag}>{right}</tr>'

    header, *body = rows
    return f"<table>{cells(header, 'th')}{''.join(cells(row, 'td') for row in body)}</table>"


def csv_text(text: str) -> str:
    """Text for a cell of CSV that people open in a spreadsheet, which would run what begins like a formula."""
    text = utf8(printable(text))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def utf8(text: str) -> str:
    """Text that can be encoded as UTF-8: JSON allows `\\ud800`, a lone surrogate, which UTF-8 does not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
