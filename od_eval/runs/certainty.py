"""Whether an evaluation is better than an earlier one of its run, or only luckier: by paired intervals.

Both are of the same images, which are resampled together: what makes an image easy for one makes it easy for the other.
"""

from __future__ import annotations

import os
from typing import Any

from od_eval import files
from od_eval.evaluation.analyses.intervals import Interval, difference_intervals
from od_eval.evaluation.analysis import Analysis, attempt
from od_eval.evaluation.better import main_metric, main_value
from od_eval.evaluation.object_table import IouType
from od_eval.evaluation.result import EvaluationResult
from od_eval.runs import analysis_files, metrics_files, object_files


def difference(run_dir: str, analysis: Analysis, earlier: EvaluationResult) -> Interval | None:
    """The 95% interval of what an evaluation has more of the main metric than an earlier one.

    Args:
      run_dir: the folder of their run.
      analysis: of the evaluation.
      earlier: the earlier evaluation.

    Returns:
      None if the table of the earlier one is gone, if the two are not of the same images and categories, or if there
      are too few images.
    """
    iou_type: IouType = "segm" if "segm" in analysis.tables else "bbox"
    path = os.path.join(analysis_files.of_step(run_dir, earlier.step or 0), object_files.FILE_NAMES[iou_type])
    if iou_type not in analysis.tables or not earlier.operating_point or not files.exists(path):
        return None
    table, before = analysis.tables[iou_type], object_files.read_object_table(path)
    if list(table.images) != list(before.images) or dict(table.categories) != dict(before.categories):
        return None
    confidence = earlier.operating_point["confidence"]
    return difference_intervals(before, table, confidence, analysis.confidence).overall["AP"]


def certainty(
    run_dir: str, result: EvaluationResult, analysis: Analysis, earlier: EvaluationResult | None
) -> dict[str, Any] | None:
    """The section `certainty` of an evaluation; None if its main metric is not defined.

    Args:
      run_dir: the folder of its run.
      result: the evaluation.
      analysis: its analyses.
      earlier: the evaluation before it.
    """
    metric, value = main_metric(result.log_values()), main_value(result)
    if value is None:
        return None
    here = {"metric": metric, "value": value, "step": result.step, "difference": None}
    if earlier is None or earlier.certainty.get("metric") != metric:
        return here
    in_place = earlier.certainty
    before = earlier if earlier.step == in_place["step"] else metrics_files.read_step(run_dir, in_place["step"])
    if before is None or before.dataset.get("fingerprint") != result.dataset.get("fingerprint"):
        return here  # nothing to compare with: it begins anew
    interval = attempt("certainty", difference, run_dir, analysis, before)
    found = None if interval is None else [interval.low, interval.high]
    if interval is not None and interval.low > 0:
        return {**here, "difference": found}
    return {**in_place, "difference": found}
