"""What a check has found, for a terminal, for programs, for TensorBoard and for notebooks."""

from __future__ import annotations

import dataclasses
import html
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from od_eval.findings import shown
from od_eval.findings.finding import SEVERITIES, Finding, findings_section
from od_eval.findings.survey_statistics import LARGE_SIDE, SMALL_SIDE
from od_eval.text import html_table, named, printable, table

_WIDTH = 100  # of a terminal
# Findings of one kind that are shown in a terminal: more say little that is new, and hide others. Errors all are.
_MOST_OF_A_KIND = 3
# Categories in the table: of more, the most frequent and the rarest.
_MOST_CATEGORIES = 12
_MOST_MODES = 3
_NOTHING = "nothing wrong was found"


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What a check of a config and its data, or of annotations, has found.

    Attributes:
      source: what was checked: the file of the config or of the annotations.
      findings: the most important first.
      statistics: name of a dataset -> what `od_eval.findings.survey_statistics.statistics` returns of it.
      input_size: what the model is given, for people: `320 × 320 pixels`; empty where unknown.
    """

    source: str
    findings: Sequence[Finding]
    statistics: Mapping[str, Mapping[str, Any]]
    input_size: str = ""

    def has_errors(self, strict: bool = False) -> bool:
        """Whether anything is an error, or with `strict` an error or a warning."""
        wrong = ("error", "warning") if strict else ("error",)
        return any(finding.severity in wrong for finding in self.findings)

    def to_text(self) -> str:
        """For a terminal: how many findings there are, the findings, and the statistics side by side."""
        parts = [f"{printable(self.source)}: {self._counted()}."]
        for severity in SEVERITIES:
            found = [finding for finding in self.findings if finding.severity == severity]
            if found:
                parts.append(_findings_text(found, self.source))
        if self.statistics:
            parts.append(f"{table(statistics_rows(self.statistics))}\n\n{textwrap.fill(self._legend(), _WIDTH)}")
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: `source`; `num_errors`, `num_warnings`, `num_notes`; `findings`, `statistics`."""
        return {
            "source": self.source,
            **{f"num_{severity}s": number for severity, number in self._numbers().items()},
            "findings": findings_section(self.findings),
            "statistics": {name: dict(of) for name, of in self.statistics.items()},
        }

    def findings_markdown(self) -> str:
        """The findings for TensorBoard's Text."""
        return f"{shown.escaped(self._counted().capitalize())}\n\n{shown.as_markdown(self.findings)}"

    def statistics_markdown(self) -> str:
        """The statistics as a table for TensorBoard's Text; empty without any dataset."""
        if not self.statistics:
            return ""
        header, *rows = [[shown.escaped(cell.strip()) for cell in row] for row in statistics_rows(self.statistics)]
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{shown.escaped(self._legend())}"

    def _repr_html_(self) -> str:
        parts = [
            f"<p><b>{html.escape(printable(self.source))}</b>: {html.escape(self._counted())}</p>",
            shown.as_html(self.findings),
        ]
        if self.statistics:
            parts.append(html_table(statistics_rows(self.statistics)))
            parts.append(f"<p><small>{html.escape(self._legend())}</small></p>")
        return "".join(parts)

    def _numbers(self) -> dict[str, int]:
        return {severity: sum(one.severity == severity for one in self.findings) for severity in SEVERITIES}

    def _counted(self) -> str:
        counted = [
            f"{number} {severity}{'s' if number > 1 else ''}" for severity, number in self._numbers().items() if number
        ]
        if not counted:
            return _NOTHING
        return " and ".join([", ".join(counted[:-1]), counted[-1]] if counted[1:] else counted)

    def _legend(self) -> str:
        size = f"at the model's input size, {self.input_size}" if self.input_size else "in the pixels of the image"
        return (
            f"a (b to c): the median, and the middle half of all. Sides of boxes are √area, {size}; small is below"
            f" {SMALL_SIDE} pixels, large above {LARGE_SIDE}. Crowds are not counted."
        )


def statistics_rows(statistics: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The statistics side by side: rows of cells, the first of them the header, with a column for each dataset.

    Args:
      statistics: as in `CheckReport`.
    """
    datasets = list(statistics.values())
    rows = [["", *map(named, statistics)]]
    for label, cells in _rows(datasets):
        if any(cell != "-" for cell in cells):
            rows.append([label, *cells])
    return rows


def _rows(datasets: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    yield "images", [_images(of) for of in datasets]
    labeled = [of if of["categories"] or of["objects"] else None for of in datasets]
    yield "images without objects", ["-" if of is None else _part(_empty(of), of["images"]) for of in labeled]
    yield "objects", ["-" if of is None else str(of["objects"]) for of in labeled]
    yield "objects per image", ["-" if of is None else _per_image(of["objects_per_image"]) for of in labeled]
    yield "side of boxes, pixels", [_spread(of["box_sides"]) for of in datasets]
    yield "small, medium, large, %", [_sizes(of["size_shares"]) for of in datasets]
    yield "width / height of boxes", [_spread(of["box_aspect_ratios"]) for of in datasets]
    yield "most frequent image size", [_resolution(of) for of in datasets]
    if any(set(of["modes"]) - {"RGB"} for of in datasets):
        yield "image modes", [_modes(of["modes"]) for of in datasets]
    yield "brightness, 0 to 1", [_spread(of["brightness"]) for of in datasets]
    yield "contrast, 0 to 1", [_spread(of["contrast"]) for of in datasets]
    yield from _category_rows(labeled)


def _category_rows(datasets: Sequence[Mapping[str, Any] | None]) -> Iterator[tuple[str, list[str]]]:
    names: dict[int, str] = {}
    for of in datasets:
        if of is not None:
            names = {**{id: one["name"] for id, one in of["categories"].items()}, **names}

    def number(of: Mapping[str, Any] | None, id: int) -> int:
        return int(of["categories"][id]["objects"]) if of is not None and id in of["categories"] else 0

    if names:
        yield "objects of a category", [" "] * len(datasets)
    by_number = sorted(names, key=lambda id: [-number(of, id) for of in datasets])
    for place, id in enumerate(by_number):
        most = _MOST_CATEGORIES // 2
        if len(names) > _MOST_CATEGORIES and most <= place < len(names) - most:
            if place == most:
                yield f"  … and {len(names) - 2 * most} more", [" "] * len(datasets)
            continue
        cells = ["-" if of is None else _part(number(of, id), of["objects"]) for of in datasets]
        yield f"  {named(names[id])}", cells


def _images(of: Mapping[str, Any]) -> str:
    return str(of["images"]) if of["is_complete"] else f"the first {of['images']}"


def _empty(of: Mapping[str, Any]) -> int:
    return int(of["images_without_objects"])


def _part(number: int, of: int) -> str:
    return f"{number} ({_percent(number / of)})" if of else str(number)


def _percent(share: float) -> str:
    """A share with as many digits as it takes to tell it from none and from all."""
    percent = 100 * share
    if 0 < percent < 1:
        return "<1%"
    return ">99%" if 99 < percent < 100 else f"{percent:.0f}%"


def _per_image(summary: Mapping[str, Any] | None) -> str:
    return "-" if summary is None else f"mean {summary['mean']:.3g}, at most {summary['max']:.0f}"


def _spread(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "-"
    first, median, third = (_short(value) for value in summary["quartiles"])
    return f"{median} ({first} to {third})"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def _sizes(shares: Mapping[str, float] | None) -> str:
    if shares is None:
        return "-"
    return ", ".join(_percent(shares[name]).rstrip("%") for name in ("small", "medium", "large"))


def _resolution(of: Mapping[str, Any]) -> str:
    if not of["resolutions"]:
        return "-"
    first = of["resolutions"][0]
    return f"{first['width']} × {first['height']} ({_percent(first['images'] / of['images'])})"


def _modes(modes: Mapping[str, int]) -> str:
    shown_modes = [f"{named(mode)} {number}" for mode, number in list(modes.items())[:_MOST_MODES]]
    return ", ".join([*shown_modes, *(["…"] if len(modes) > _MOST_MODES else [])]) or "-"


def _findings_text(findings: Sequence[Finding], source: str) -> str:
    """Findings for a terminal: wrapped, but for what is to be copied; of many of a kind the first.

    The report begins with the source: sentences need not.
    """
    lines: list[str] = []
    of_kind: dict[str, int] = {}
    for finding in findings:
        of_kind[finding.kind] = of_kind.get(finding.kind, 0) + 1
        if finding.severity == "error" or of_kind[finding.kind] <= _MOST_OF_A_KIND:
            lines += shown.as_text([finding]).replace(f": {printable(source)}: ", ": ", 1).split("\n")
    for kind, number in of_kind.items():
        if findings[0].severity != "error" and number > _MOST_OF_A_KIND:
            lines.append(f"{findings[0].severity}: {number - _MOST_OF_A_KIND} more of the kind {kind}")
    return "\n".join(line if line.startswith("    --set") else _wrapped(line) for line in lines)


def _wrapped(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
