"""All analyses of an evaluation: what of them is in its result, and what is in files beside it.

    analysis = analyse(evaluator.object_tables, AnalysisOptions())
    analysis.sections["operating_point"]["confidence"]

The metrics do not depend on it: an analysis that fails says so, and costs only itself.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from od_eval.errors import describe
from od_eval.evaluation.analyses.calibration import calibration, overconfidence
from od_eval.evaluation.analyses.class_agnostic import class_agnostic
from od_eval.evaluation.analyses.confusion import confusion_matrix, most_confused
from od_eval.evaluation.analyses.counts import counts
from od_eval.evaluation.analyses.curves import curves
from od_eval.evaluation.analyses.dataset import dataset
from od_eval.evaluation.analyses.error_costs import error_costs_per_category, mean_costs
from od_eval.evaluation.analyses.intervals import intervals
from od_eval.evaluation.analyses.operating_point import DEFAULT_CONFIDENCE, operating_point
from od_eval.evaluation.analyses.per_image import per_image
from od_eval.evaluation.analyses.sizes import COCO_RANGES, by_size, size_ranges
from od_eval.evaluation.object_columns import as_pandas
from od_eval.evaluation.object_table import IouType, ObjectTable
from od_eval.evaluation.options import AnalysisOptions

Columns = Sequence[tuple[str, Any]]
# NumPy works outside of Python's lock.
_THREADS = 2
ExtraMetrics = Mapping[str, Callable[[pd.DataFrame], float | Mapping[str, float]]]


@dataclasses.dataclass
class Analysis:
    """The analyses of an evaluation.

    Attributes:
      tables: the object tables of boxes, and of masks if there are any; none if they could not be made.
      options: as given to `analyse`.
      confidence: the operating point.
      sections: of the result, by name.
    """

    tables: Mapping[IouType, ObjectTable]
    options: AnalysisOptions
    confidence: float = DEFAULT_CONFIDENCE
    sections: dict[str, Any] = dataclasses.field(default_factory=dict)

    def columns(self) -> Iterator[tuple[str, IouType, Columns]]:
        """Name, boxes or masks, and columns of each table for a file, computed one at a time.

        `images`, `counts`, `curves`, `confusion` and `confused`; see the modules of these analyses.
        """
        for iou_type, table in self.tables.items():
            for name, compute in _TABLES.items():
                columns = attempt(f"table '{name}'", compute, table, self)
                if columns is not None:
                    yield name, iou_type, columns


def analyse(
    make_tables: Callable[[], Mapping[IouType, ObjectTable]],
    options: AnalysisOptions,
    extra_metrics: ExtraMetrics | None = None,
) -> Analysis:
    """Analyses an evaluation.

    Args:
      make_tables: returns the object tables of boxes, and of masks if there are any.
      options: how.
      extra_metrics: name -> function of the object table of boxes (`object_columns.as_pandas`) that returns a number,
        or numbers by name, for the section `custom`.
    """
    analysis = Analysis(attempt("object table", make_tables) or {}, options)
    if not analysis.tables:
        return analysis
    sections = analysis.sections
    sections["operating_point"] = attempt("operating_point", operating_point, analysis.tables, options)
    if sections["operating_point"]:
        analysis.confidence = sections["operating_point"]["confidence"]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        futures = {name: pool.submit(attempt, name, _boxes_and_masks, analysis, _SECTIONS[name]) for name in _SECTIONS}
    sections |= {name: future.result() for name, future in futures.items()}
    sections["dataset"] = attempt("dataset", dataset, analysis.tables["bbox"])
    if extra_metrics:
        sections["custom"] = _custom(analysis.tables["bbox"], extra_metrics)
    analysis.sections = {name: section for name, section in sections.items() if section}
    return analysis


def attempt(name: str, compute: Callable[..., Any], *args: Any) -> Any:
    """The result of an analysis; None if it fails, which is said on stderr: no metric is lost for an analysis."""
    try:
        return compute(*args)
    except Exception as error:
        print(f"warning: the analysis '{name}' failed and is left out: {describe(error)}", file=sys.stderr, flush=True)
        return None


def _custom(table: ObjectTable, extra_metrics: ExtraMetrics) -> dict[str, float]:
    objects = as_pandas(table)
    metrics: dict[str, float] = {}
    for name, function in extra_metrics.items():
        value = attempt(f"extra_metrics['{name}']", lambda: _numbers(name, function(objects)))  # noqa: B023
        metrics |= value or {}
    return metrics


def _numbers(name: str, value: float | Mapping[str, float]) -> dict[str, float]:
    if isinstance(value, Mapping):
        return {f"{name}/{part}": float(number) for part, number in value.items()}
    return {name: float(value)}


def _boxes_and_masks(analysis: Analysis, compute: Callable[[ObjectTable, Analysis], dict[str, Any]]) -> dict[str, Any]:
    """The section of boxes, and under `segm` that of masks."""
    of_type = {iou_type: compute(table, analysis) for iou_type, table in analysis.tables.items()}
    return of_type["bbox"] | ({"segm": of_type["segm"]} if "segm" in of_type else {})


def _intervals(table: ObjectTable, analysis: Analysis) -> dict[str, Any]:
    return intervals(table, analysis.confidence).to_dict(table.categories.values())


def _sizes(table: ObjectTable, analysis: Analysis) -> dict[str, Any]:
    ranges = size_ranges(table, analysis.options.size_ranges)
    return by_size(table, {name: bounds for name, bounds in ranges.items() if name not in COCO_RANGES})


def _errors(table: ObjectTable, analysis: Analysis) -> dict[str, Any]:
    of_categories = error_costs_per_category(table)
    return {
        **mean_costs(of_categories),
        "per_category": dict(zip(table.categories.values(), of_categories, strict=True)),
    }


def _counts(table: ObjectTable, analysis: Analysis) -> Columns:
    ranges = size_ranges(table, analysis.options.size_ranges)
    return list(counts(table, ranges, analysis.confidence).items())


def _confusion(table: ObjectTable, analysis: Analysis) -> Columns:
    """`actual`, and a column for each predicted category, background last."""
    matrix = confusion_matrix(table, analysis.confidence)
    return [("actual", matrix.labels), *zip(matrix.labels, matrix.counts.T.tolist(), strict=True)]


def _confused(table: ObjectTable, analysis: Analysis) -> Columns:
    """A row for each object that is taken for another category, the most confused pairs first.

    `count`, `of_objects` and `of_detections` are those of the pair; `detection` and `groundtruth` are rows of the
    object table as it is in files.
    """
    names, ids = list(table.categories.values()), list(table.images)
    pairs = most_confused(table, confusion_matrix(table, analysis.confidence))
    rows = [
        (pair, *row) for pair in pairs for row in zip(pair.detection.tolist(), pair.groundtruth.tolist(), strict=True)
    ]
    return [
        ("actual", [names[pair.actual] for pair, _, _ in rows]),
        ("predicted", [names[pair.predicted] for pair, _, _ in rows]),
        *((name, [getattr(pair, name) for pair, _, _ in rows]) for name in ("count", "of_objects", "of_detections")),
        ("image_id", [ids[table.detections.image[row]] for _, row, _ in rows]),
        ("score", [float(table.score[row]) for _, row, _ in rows]),
        ("detection", [row for _, row, _ in rows]),
        ("groundtruth", [row + len(table.detections) for _, _, row in rows]),
    ]


def _calibration(table: ObjectTable, analysis: Analysis) -> dict[str, Any]:
    found = overconfidence(table)
    return {**calibration(table).to_dict(), "overconfidence": None if found is None else dataclasses.asdict(found)}


_SECTIONS: dict[str, Callable[[ObjectTable, Analysis], dict[str, Any]]] = {
    "intervals": _intervals,
    "sizes": _sizes,
    "errors": _errors,
    "calibration": _calibration,
    "class_agnostic": lambda table, analysis: class_agnostic(table, analysis.confidence),
}
_TABLES: dict[str, Callable[[ObjectTable, Analysis], Columns]] = {
    "images": lambda table, analysis: list(per_image(table, analysis.confidence).items()),
    "counts": _counts,
    "curves": lambda table, _: list(curves(table).items()),
    "confusion": _confusion,
    "confused": _confused,
}
