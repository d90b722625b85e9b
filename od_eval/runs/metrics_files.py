"""The files of evaluations in the folder of an eval run: results, and ground truth and detections in COCO format.

metrics_files.write("runs/a/eval", result)
od_eval.load_metrics("runs/a")["bbox"]["AP"]

metrics.json                       the latest evaluation
metrics/step-00001000.json         every evaluation
metrics.csv                        one row per evaluation
groundtruth.json                   the ground truth of the evaluation set
detections/step-00001000.json      the detections
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.result import EvaluationResult
from od_eval.text import printable

_log = logging.getLogger(__name__)

_NEWEST = "metrics.json"
_TABLE = "metrics.csv"
_EVERY = "metrics"
_GROUNDTRUTH = "groundtruth.json"
_DETECTIONS = "detections"


def load_metrics(
    model_dir: str | os.PathLike[str], run: str = "eval", every: bool = False
) -> dict[str, Any] | list[dict[str, Any]]:
    """The evaluations of a training run as plain dicts: `load_metrics("runs/a")["bbox"]["AP"]`.

    Args:
      model_dir: the folder of the training run.
      run: the run of the evaluations: `eval`, `eval/<name>` for a named eval_input_reader, or `eval_train`.
      every: whether to return all evaluations, in ascending order of steps, or the latest one.

    Returns:
      The contents of metrics.json, or a list of these for every step. Metrics that are not defined are None.

    Raises:
      ODEvalError: there is no evaluation, or a file is damaged.
    """
    model_dir = os.fspath(model_dir)
    run_dir = os.path.join(model_dir, run)
    if every:
        paths = list(_step_files(os.path.join(run_dir, _EVERY)).values())
    else:
        paths = [path for path in [os.path.join(run_dir, _NEWEST)] if files.exists(path)]
    if not paths:
        missing = os.path.join(run_dir, f"{_EVERY}/step-*.json" if every else _NEWEST)
        runs = _runs(model_dir)
        if runs:
            advice = f"runs with evaluations are {', '.join(repr(name) for name in runs)}"
        elif files.is_folder(model_dir):
            advice = "none of the runs in it has any; evaluate a checkpoint first"
        else:
            advice = "there is no such folder; see whether model_dir is right"
        raise ODEvalError(f"there is no evaluation in run '{run}' of '{model_dir}' ({missing} is missing): {advice}.")
    evaluations = [_read_sections(path) for path in paths]
    return evaluations if every else evaluations[0]


def write(run_dir: str, result: EvaluationResult) -> None:
    """Writes an evaluation: metrics/step-….json, its row of metrics.csv, and metrics.json.

    An earlier evaluation of the same step is replaced. A result without a step is filed under step 0.

    Args:
      run_dir: the folder of the eval run, created if missing.
      result: the evaluation.

    Raises:
      ODEvalError: a file cannot be written.
    """
    step = result.step or 0
    text = json.dumps(result.to_json_dict(), indent=1, allow_nan=False) + "\n"
    files.write_whole(_step_file(run_dir, _EVERY, step), text)
    columns, rows = _read_table(run_dir)
    if {*rows, step} != _step_files(os.path.join(run_dir, _EVERY)).keys():
        repair(run_dir)
        return
    row = _table_row(result)
    rows[step] = {name: str(value) for name, value in row.items()}
    _write_table(run_dir, _in_order(columns, list(row)), rows)
    if step == max(rows):  # an older checkpoint may be evaluated later
        files.write_whole(os.path.join(run_dir, _NEWEST), text)


def repair(run_dir: str) -> None:
    """Derives metrics.csv and metrics.json from the files in metrics/, where they differ, as a kill may leave them.

    A file in metrics/ that is damaged is set aside under another name. What was repaired is said on stderr. A run
    without such files is left as it is.

    Args:
      run_dir: the folder of the eval run; it need not exist.

    Raises:
      ODEvalError: a file cannot be read or written.
    """
    results = {}
    step_files = _step_files(os.path.join(run_dir, _EVERY))
    for step, path in step_files.items():
        try:
            results[step] = _read_result(path)
            if (results[step].step or 0) != step:
                raise _Damaged(f"'{path}' is damaged: it is of step {results[step].step}; delete it or move it away.")
        except _Damaged as error:
            results.pop(step, None)
            files.set_aside(path, str(error))
    if step_files and not results:
        _remove_derived(run_dir)
    if not results:
        return
    columns: list[str] = []
    rows: dict[int, Mapping[str, str]] = {}
    for step, result in results.items():
        row = _table_row(result)
        columns = _in_order(columns, list(row))
        rows[step] = {name: str(value) for name, value in row.items()}
    _, old_rows = _read_table(run_dir)
    in_table = {step: {name: value for name, value in row.items() if value} for step, row in old_rows.items()}
    if in_table != {step: {name: value for name, value in row.items() if value} for step, row in rows.items()}:
        if old_rows or files.exists(os.path.join(run_dir, _TABLE)):
            _say_repaired(os.path.join(run_dir, _TABLE))
        _write_table(run_dir, columns, rows)
    newest = os.path.join(run_dir, _NEWEST)
    text = _read(_step_file(run_dir, _EVERY, max(results)))
    if not files.exists(newest) or files.read_bytes(newest) != text.encode():
        if files.exists(newest):
            _say_repaired(newest)
        files.write_whole(newest, text)


def _remove_derived(run_dir: str) -> None:
    for path in (os.path.join(run_dir, name) for name in (_TABLE, _NEWEST)):
        if files.exists(path):
            files.remove(path)


def _say_repaired(path: str) -> None:
    print(f"warning: '{path}' did not have what {_EVERY}/ has, and was written anew.", file=sys.stderr, flush=True)


def write_coco(run_dir: str, step: int, evaluator: Evaluator) -> None:
    """Writes the ground truth and detections of an evaluation: groundtruth.json and detections/step-….json.

    The ground truth of a run is nearly always the same; it is written only if it is new or has changed.

    Args:
      run_dir: the folder of the eval run.
      step: the training step of the evaluated weights.
      evaluator: the evaluator that holds the images.

    Raises:
      ODEvalError: a file cannot be written, or the evaluator has no images.
    """
    path = os.path.join(run_dir, _GROUNDTRUTH)
    groundtruth = json.dumps(evaluator.groundtruth_json(), allow_nan=False)
    if not files.exists(path) or _read(path) != groundtruth:
        files.write_whole(path, groundtruth)
    files.write_whole(_step_file(run_dir, _DETECTIONS, step), json.dumps(evaluator.detections_json(), allow_nan=False))


def drop_after(run_dir: str, step: int) -> int:
    """Prepares a run for training that continues from `step`: evaluations of later steps are set aside.

    They are kept in metrics/replaced-at-step-…/, and their detections in detections/replaced-at-step-…/. Their rows in
    metrics.csv are dropped, and metrics.json becomes the latest of the remaining ones. Training that starts at step 0
    starts with an empty run: then even the evaluation of step 0 is set aside.

    Args:
      run_dir: the folder of the eval run; it need not exist.
      step: the step from which training continues.

    Returns:
      The number of evaluations that were set aside.

    Raises:
      ODEvalError: a file cannot be moved or written.
    """
    detections, every = (os.path.join(run_dir, name) for name in (_DETECTIONS, _EVERY))
    set_aside_later(detections, _step_files(detections), step)
    moved = set_aside_later(every, _step_files(every), step)
    if moved:
        _remove_derived(run_dir)
    repair(run_dir)
    if moved and step == 0:
        _log.warning(
            "This training starts at step 0: %d evaluation(s) of an earlier run in %s were moved to %s.",
            *(moved, run_dir, os.path.join(_EVERY, _aside_name(step))),
        )
    return moved


def read_all(run_dir: str) -> list[EvaluationResult]:
    """All evaluations of a run, in ascending order of steps; may be empty.

    Raises:
      ODEvalError: a file is damaged; the message names it.
    """
    return [_read_result(path) for path in step_paths(run_dir).values()]


def step_paths(run_dir: str) -> dict[int, str]:
    """Step -> path of the file of each evaluation, in ascending order of steps; may be empty."""
    return _step_files(os.path.join(run_dir, _EVERY))


def read_step(run_dir: str, step: int) -> EvaluationResult | None:
    """The evaluation of a step; None if there is none.

    Raises:
      ODEvalError: its file is damaged.
    """
    path = _step_file(run_dir, _EVERY, step)
    return _read_result(path) if files.exists(path) else None


def _step_file(run_dir: str, folder: str, step: int) -> str:
    return os.path.join(run_dir, folder, f"step-{step:08d}.json")


def _step_files(folder: str) -> dict[int, str]:
    """Step -> path, in ascending order of steps."""
    names = files.names_in(folder)
    steps = {int(match[1]): name for name in names if (match := re.fullmatch(r"step-(\d+)\.json", name))}
    return {step: os.path.join(folder, steps[step]) for step in sorted(steps)}


def _aside_name(step: int) -> str:
    return f"replaced-at-step-{step:08d}"


def set_aside_later(folder: str, paths: Mapping[int, str], step: int) -> int:
    """Moves what is of steps after `step` into a folder of its own, and returns the number of moved paths.

    Args:
      folder: the folder that holds the paths.
      paths: step -> path.
      step: the step from which training continues; if it is 0, its path is moved, too.

    Raises:
      ODEvalError: a path cannot be moved.
    """
    later = [path for at, path in paths.items() if at > step or step == 0]
    aside = os.path.join(folder, _aside_name(step))
    for path in later:
        try:
            files.make_folder(aside)
            # Training may continue from the same step more than once; nothing is ever lost.
            files.rename(path, files.free_path(os.path.join(aside, os.path.basename(path))))
        except OSError as error:
            raise ODEvalError(f"'{path}' cannot be moved to '{aside}': {files.reason(error)}.") from error
    return len(later)


class _Damaged(ODEvalError):
    """A file of metrics that is not what was written."""


def _read(path: str) -> str:
    try:
        return files.read_text(path)
    except OSError as error:
        raise ODEvalError(f"'{path}' cannot be read: {files.reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise _Damaged(f"'{path}' is damaged: it is not text ({error}); delete it or move it away.") from error


def _read_sections(path: str) -> dict[str, Any]:
    """The contents of a file of metrics."""
    try:
        sections = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"'{path}' is damaged: it is not JSON ({error}); delete it or move it away.") from error
    if not isinstance(sections, dict):
        raise _Damaged(f"'{path}' is damaged: it is not a JSON object; delete it or move it away.")
    return sections


def _read_result(path: str) -> EvaluationResult:
    sections = _read_sections(path)
    try:
        return EvaluationResult.from_json_dict(sections)
    except ValueError as error:
        raise _Damaged(f"'{path}' is damaged: {error}; delete it or move it away.") from error


def _runs(model_dir: str) -> list[str]:
    """The runs under `model_dir` that have been evaluated."""
    names = files.names_in(model_dir)
    names += [os.path.join(name, below) for name in names for below in files.names_in(os.path.join(model_dir, name))]
    return sorted(name for name in names if files.exists(os.path.join(model_dir, name, _NEWEST)))


def _table_row(result: EvaluationResult) -> dict[str, int | float | str]:
    """Column -> value, in the order of columns; "" for metrics that are not defined.

    Control characters in names are escaped: Python's csv does not read all that it writes.
    """
    values = {printable(name): "" if value is None else value for name, value in result.table_values().items()}
    return {"step": result.step or 0, "num_images": result.num_images, **values}


def _read_table(run_dir: str) -> tuple[list[str], dict[int, Mapping[str, str]]]:
    """(columns, step -> row) of metrics.csv; nothing if it is not such a table."""
    path = os.path.join(run_dir, _TABLE)
    if not files.exists(path):
        return [], {}
    try:
        reader = csv.DictReader(io.StringIO(_read(path), newline=""), restval="")
        rows: dict[int, Mapping[str, str]] = {int(row["step"]): row for row in reader}
    except (_Damaged, KeyError, TypeError, ValueError, csv.Error):
        return [], {}
    return list(reader.fieldnames or []), rows


def _write_table(run_dir: str, columns: Sequence[str], rows: Mapping[int, Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[step] for step in sorted(rows))
    files.write_whole(os.path.join(run_dir, _TABLE), text.getvalue())


def _in_order(columns: Sequence[str], more: Sequence[str]) -> list[str]:
    """The union of both; each new column comes after the one that precedes it in `more`."""
    united = list(columns)
    index = 0
    for name in more:
        if name not in united:
            united.insert(index, name)
        index = united.index(name) + 1
    return united
