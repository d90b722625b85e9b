"""The analyses of an evaluation in TensorBoard: precision–recall curves, histograms and a table of counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram import summary_v2 as histogram_summary
from tensorboard.plugins.pr_curve import metadata as pr_curve_metadata
from tensorboard.util import tensor_util

from od_eval.evaluation.analyses.curves import binary_counts
from od_eval.evaluation.analyses.distributions import distributions
from od_eval.evaluation.analysis import Analysis, attempt
from od_eval.evaluation.object_table import ObjectTable
from od_eval.evaluation.sections.coco import TAG_PREFIX
from od_eval.tensorboard import tags, writers
from od_eval.text import named, number, table, utf8

# Of the page PR Curves: one for each hundredth of confidence.
_NUM_THRESHOLDS = 101


def write(run_dir: str, step: int, analysis: Analysis) -> None:
    """Writes curves for the page PR Curves, distributions for Histograms, and counts for Text, of one step.

    Args:
      run_dir: the folder of the run.
      step: the step of the evaluation.
      analysis: its analyses.
    """
    summary = summary_pb2.Summary()
    for iou_type, objects in analysis.tables.items():
        parts = {
            "PR curves": _curves(TAG_PREFIX[iou_type], objects),
            "distributions": _histograms(iou_type, objects, analysis),
        }
        for name, of_type in parts.items():
            summary.value.extend(attempt(name, list, of_type) or [])
    if summary.value:
        writers.write_summary(run_dir, step, summary)
    point = analysis.sections.get("operating_point")
    if point is not None:
        for iou_type in analysis.tables:
            writers.write_text(run_dir, tags.counts(iou_type), _counts_text(point, iou_type), step)


def _counts_text(point: Mapping[str, Any], iou_type: str) -> str:
    """What is right, wrong and missed at the operating point, over all and of each category, as a table."""
    of_each = {
        name: category if iou_type == "bbox" else category[iou_type] for name, category in point["per_category"].items()
    }
    rows = [["category", "objects", "detections", "TP", "FP", "FN", "precision", "recall", "F1"]]
    for name, counts in {"(all)": point[iou_type], **of_each}.items():
        numbers = [str(counts[key]) for key in ("num_groundtruth", "num_detections", "tp", "fp", "fn")]
        rows.append([named(name), *numbers, *(number(counts[key]) for key in ("precision", "recall", "f1"))])
    return f"At a confidence of {point['confidence']:.4g} and an IoU of {point['iou']:.2f}:\n\n{table(rows)}"


def _curves(prefix: str, objects: ObjectTable) -> Iterator[summary_pb2.Summary.Value]:
    """At IoU 0.50, of all categories together and of each that has objects."""
    curves: list[tuple[str, int | None]] = [("all categories", None)]
    curves += [
        (name, index) for index, name in enumerate(objects.categories.values()) if objects.num_groundtruth[index]
    ]
    for name, index in curves:
        counts = binary_counts(objects, index, _NUM_THRESHOLDS)
        yield summary_pb2.Summary.Value(
            tag=f"{prefix}PR/{utf8(name)}",
            metadata=pr_curve_metadata.create_summary_metadata(
                display_name="", description="at IoU 0.50", num_thresholds=_NUM_THRESHOLDS
            ),
            tensor=tensor_util.make_tensor_proto(counts.astype("float32")),
        )


def _histograms(iou_type: str, objects: ObjectTable, analysis: Analysis) -> Iterator[summary_pb2.Summary.Value]:
    for distribution in distributions(objects, analysis.confidence).values():
        tag = tags.distribution(distribution.name, iou_type)
        yield from histogram_summary.histogram_pb(tag, distribution.values, description=distribution.unit).value
