"""Findings for people: in a terminal, in TensorBoard's Text, in a notebook.

What findings say comes from data (names of classes and files): it is escaped for where it is shown.
"""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Sequence

from od_eval.findings.finding import Finding, Severity
from od_eval.text import printable, short

_MOST_IMAGES = 5
_HOW_SURE = {"certain": "", "likely": "likely", "possible": "possible"}
_COLORS: dict[Severity, str] = {"error": "#b3261e", "warning": "#8a5a00", "note": "#3c5a78"}


def as_text(findings: Sequence[Finding]) -> str:
    """A paragraph for each finding: severity and how sure it is, the sentence, what to pass to `--set`, and images."""
    return "\n".join(line for finding in findings for line in _lines(finding))


def as_markdown(findings: Sequence[Finding], nothing: str = "") -> str:
    """The findings as a list in Markdown, or `nothing` without any."""
    return "\n".join(_markdown_of(finding) for finding in findings) or nothing


def as_html(findings: Sequence[Finding], nothing: str = "") -> str:
    """The findings as a list in HTML, or `nothing` without any; for a page or a notebook, light or dark."""
    if not findings:
        return f"<p>{html.escape(nothing)}</p>"
    return f"<ul>{''.join(_html_of(finding) for finding in findings)}</ul>"


def _lines(finding: Finding) -> list[str]:
    label = finding.severity + (f" ({_HOW_SURE[finding.sureness]})" if _HOW_SURE[finding.sureness] else "")
    lines = [f"{label}: {printable(str(finding))}"]
    lines += [f"    --set {shlex.quote(printable(setting))}" for setting in finding.settings]
    if finding.images:
        lines.append(f"    images: {printable(_images(finding))}")
    return lines


def _images(finding: Finding) -> str:
    shown = ", ".join(short(str(image), 80) for image in finding.images[:_MOST_IMAGES])
    more = len(finding.images) - _MOST_IMAGES
    return f"{shown} and {more} more" if more > 0 else shown


def _markdown_of(finding: Finding) -> str:
    first, *others = _lines(finding)
    label, _, sentence = first.partition(": ")
    parts = [f"* **{label}**: {escaped(sentence)}"]
    for line in others:
        line = line.strip()
        parts.append(f"    * {_code(line) if line.startswith('--set') else escaped(line)}")
    return "\n".join(parts)


def _html_of(finding: Finding) -> str:
    first, *others = _lines(finding)
    label, _, sentence = first.partition(": ")
    color = _COLORS[finding.severity]
    parts = [f'<li><b style="color:{color}">{html.escape(label)}</b> {html.escape(sentence)}']
    for line in others:
        line = html.escape(line.strip())
        parts.append(f"<br><code>{line}</code>" if line.startswith("--set") else f"<br>{line}")
    return "".join(parts) + "</li>"


def escaped(text: str) -> str:
    """Text that Markdown and the HTML in it leave as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~>-])", r"\\\1", html.escape(text, quote=False).replace("&gt;", ">")).replace(
        "\n", " "
    )


def _code(text: str) -> str:
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence}{text}{fence}" if longest == 0 else f"{fence} {text} {fence}"
