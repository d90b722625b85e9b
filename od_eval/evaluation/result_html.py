"""What a notebook shows of the result of an evaluation, as HTML: text of others in it is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from od_eval.text import html_table, named, number, printable

if TYPE_CHECKING:
    from od_eval.evaluation.result import EvaluationResult

_METRICS = ("AP", "AP50", "AP75", "F1")
_MOST_CATEGORIES = 10
_TITLES = {"bbox": "Boxes", "segm": "Masks"}


def as_html(result: EvaluationResult) -> str:
    """The metrics with their intervals, the counts at the operating point, the worst categories, and the findings."""
    step = "" if result.step is None else f", step {result.step}"
    parts = [f"<p>{result.num_images} image{'' if result.num_images == 1 else 's'}{step}</p>"]
    shown = [iou_type for iou_type in _TITLES if result.get(iou_type)]
    for iou_type in shown:
        parts += [f"<h4>{_TITLES[iou_type]}</h4>"] if len(shown) > 1 else []
        parts += [html_table(_metric_rows(result, iou_type)), _counts(result, iou_type), _categories(result, iou_type)]
    if not shown:
        values = [(printable(name), number(value)) for name, value in result.table_values().items()]
        parts += [html_table([("Metric", "Value"), *values])] if values else []
    parts += [_findings(result.findings)] if result.findings else []
    return "\n".join(filter(None, parts))


def _metric_rows(result: EvaluationResult, iou_type: str) -> list[Sequence[str]]:
    intervals = _of_type(result.intervals, iou_type)
    values = {**result[iou_type], "F1": _of_point(result, iou_type).get("f1")}
    rows = [(name, number(values[name]), _interval(intervals.get(name))) for name in _METRICS if name in values]
    return [("Metric", "Value", "95% interval"), *rows]


def _counts(result: EvaluationResult, iou_type: str) -> str:
    counts = _of_point(result, iou_type)
    if not counts:
        return ""
    point = result.operating_point
    return (
        f"<p>At confidence {number(point['confidence'])} and IoU {point['iou']:.2f}: {counts['tp']} of"
        f" {counts['num_detections']} detections are right (precision {number(counts['precision'])}), {counts['tp']} of"
        f" {counts['num_groundtruth']} objects are found (recall {number(counts['recall'])}).</p>"
    )


def _categories(result: EvaluationResult, iou_type: str) -> str:
    """The categories with the lowest AP; "" if there is only one."""
    metrics = {name: _of_type(of, iou_type) for name, of in result.per_category.items()}
    worst = sorted((of["AP"], name) for name, of in metrics.items() if of.get("AP") is not None)
    if len(metrics) < 2 or not worst:
        return ""
    intervals = _of_type(result.intervals, iou_type).get("per_category", {})
    rows = [
        (
            named(name),
            number(ap),
            _interval(intervals.get(name, {}).get("AP")),
            str(result.per_category[name]["num_groundtruth"]),
        )
        for ap, name in worst[:_MOST_CATEGORIES]
    ]
    more = len(metrics) - len(rows)
    rest = f"<p>{more} more {'category' if more == 1 else 'categories'}</p>" if more else ""
    return html_table([("Worst categories", "AP", "95% interval", "Objects"), *rows]) + rest


def _findings(findings: Sequence[Mapping[str, Any]]) -> str:
    items = [
        f"<li><b>{html.escape(named(str(finding.get('severity'))))}</b>:"
        f" {html.escape(printable(str(finding.get('sentence', finding.get('kind')))))}</li>"
        for finding in findings
    ]
    return f"<ul>{''.join(items)}</ul>"


def _of_point(result: EvaluationResult, iou_type: str) -> Mapping[str, Any]:
    """The counts at the operating point; empty if there are none."""
    return result.operating_point.get(iou_type) or {}


def _of_type(section: Mapping[str, Any], iou_type: str) -> Mapping[str, Any]:
    """The part of a section, or of a category in it, that is of boxes or of masks."""
    return section.get("segm", {}) if iou_type == "segm" else section


def _interval(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{number(interval[0])} to {number(interval[1])}"
