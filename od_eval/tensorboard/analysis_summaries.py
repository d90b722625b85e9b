"""The analyses of an evaluation in TensorBoard: precision–recall curves and histograms."""

from __future__ import annotations

from collections.abc import Iterator

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
from od_eval.text import utf8

# Of the page PR Curves: one for each hundredth of confidence.
_NUM_THRESHOLDS = 101


def write(run_dir: str, step: int, analysis: Analysis) -> None:
    """Writes curves for the page PR Curves, and distributions for the page Histograms, of one step.

    Args:
      run_dir: the folder of the run.
      step: the step of the evaluation.
      analysis: its analyses.
    """
    summary = summary_pb2.Summary()
    for iou_type, table in analysis.tables.items():
        parts = {
            "PR curves": _curves(TAG_PREFIX[iou_type], table),
            "distributions": _histograms(iou_type, table, analysis),
        }
        for name, of_type in parts.items():
            summary.value.extend(attempt(name, list, of_type) or [])
    if summary.value:
        writers.write_summary(run_dir, step, summary)


def _curves(prefix: str, table: ObjectTable) -> Iterator[summary_pb2.Summary.Value]:
    """At IoU 0.50, of all categories together and of each that has objects."""
    curves: list[tuple[str, int | None]] = [("all categories", None)]
    curves += [(name, index) for index, name in enumerate(table.categories.values()) if table.num_groundtruth[index]]
    for name, index in curves:
        counts = binary_counts(table, index, _NUM_THRESHOLDS)
        yield summary_pb2.Summary.Value(
            tag=f"{prefix}PR/{utf8(name)}",
            metadata=pr_curve_metadata.create_summary_metadata(
                display_name="", description="at IoU 0.50", num_thresholds=_NUM_THRESHOLDS
            ),
            tensor=tensor_util.make_tensor_proto(counts.astype("float32")),
        )


def _histograms(iou_type: str, table: ObjectTable, analysis: Analysis) -> Iterator[summary_pb2.Summary.Value]:
    for distribution in distributions(table, analysis.confidence).values():
        tag = tags.distribution(distribution.name, iou_type)
        yield from histogram_summary.histogram_pb(tag, distribution.values, description=distribution.unit).value
