"""The files of the analyses of an evaluation: analysis/step-00001000/, beside its metrics.

    analysis_files.write("runs/a/eval", 1000, {"objects.parquet": contents}, max_megabytes=500)

Analyses take much more room than metrics. While all of a run take more than they may, those in the middle go: those of
the first, the best and the newest evaluation always stay.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.runs.metrics_files import set_aside_later
from od_eval.text import csv_text

FOLDER = "analysis"


def write(run_dir: str, step: int, contents: Mapping[str, bytes | str]) -> None:
    """Writes the files of an evaluation's analyses; those of an earlier evaluation of the same step are replaced.

    Args:
      run_dir: the folder of the eval run.
      step: the step of the evaluation.
      contents: name -> contents.

    Raises:
      ODEvalError: a file cannot be written.
    """
    folder = of_step(run_dir, step)
    for name in set(files.names_in(folder)) - contents.keys():
        files.remove(os.path.join(folder, name))
    for name, content in contents.items():
        files.write_whole(os.path.join(folder, name), content)


def file_name(name: str, iou_type: str, extension: str) -> str:
    """The name of a file of an analysis of boxes (`bbox`) or of masks (`segm`)."""
    return f"{name}{'_segm' if iou_type == 'segm' else ''}.{extension}"


def of_step(run_dir: str, step: int) -> str:
    """The folder of the analyses of a step."""
    return os.path.join(run_dir, FOLDER, f"step-{step:08d}")


def steps(run_dir: str) -> list[int]:
    """The steps whose analyses are there, in ascending order."""
    names = files.names_in(os.path.join(run_dir, FOLDER))
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d+)", name)))


def drop_after(run_dir: str, step: int) -> None:
    """Prepares a run for training that continues from `step`: analyses of later steps are set aside, like metrics.

    Raises:
      ODEvalError: a folder cannot be moved.
    """
    paths = {at: of_step(run_dir, at) for at in steps(run_dir)}
    set_aside_later(os.path.join(run_dir, FOLDER), paths, step)


def thin_out(run_dir: str, kept_steps: Collection[int], max_megabytes: float) -> list[int]:
    """Removes analyses while all together take more than they may, and returns their steps.

    The first and the newest always stay, and those that are asked for. Of the others that goes whose neighbours are
    closest to each other, so that what remains is spread over the training.

    Args:
      run_dir: the folder of the eval run.
      kept_steps: the steps of others that stay, such as the best.
      max_megabytes: how much they may take, in 10⁶ bytes.

    Raises:
      ODEvalError: a file cannot be removed.
    """
    kept = steps(run_dir)
    sizes = {step: _size(of_step(run_dir, step)) for step in kept}
    removed = []
    while sum(sizes[step] for step in kept) > max_megabytes * 1e6:
        candidates = [
            (after - before, step)
            for before, step, after in zip(kept, kept[1:], kept[2:], strict=False)
            if step not in kept_steps
        ]
        if not candidates:
            break
        _, step = min(candidates)
        with files.errors_as_sentences(f"'{of_step(run_dir, step)}' cannot be removed"):
            files.remove(of_step(run_dir, step))
        kept.remove(step)
        removed.append(step)
    return removed


def _size(folder: str) -> int:
    return sum(files.size(os.path.join(folder, name)) for name in files.files_below(folder))


def find(model_dir: str, run: str, step: int | None, name: str) -> str:
    """The path of a file of the analyses of a step, by default of the newest that has it.

    Raises:
      ODEvalError: there is none.
    """
    run_dir = os.path.join(model_dir, run)
    there = [at for at in steps(run_dir) if files.exists(os.path.join(of_step(run_dir, at), name))]
    if not there:
        raise ODEvalError(
            f"there is no {name} in run '{run}' of '{model_dir}' ({os.path.join(run_dir, FOLDER)}); evaluate a"
            " checkpoint with analyses first, or see whether model_dir and run are right."
        )
    if step is None:
        step = there[-1]
    elif step not in there:
        raise ODEvalError(
            f"there is no {name} of step {step} in run '{run}' of '{model_dir}'; there are those of"
            f" {', '.join(map(str, there))}."
        )
    return os.path.join(of_step(run_dir, step), name)


def table_csv(columns: Sequence[tuple[str, Sequence[Any]]]) -> str:
    """Columns as CSV: "" for what is not defined; texts are made safe for spreadsheets.

    Args:
      columns: name and values of each, all of the same length.
    """
    contents = io.StringIO(newline="")
    writer = csv.writer(contents, lineterminator="\n")
    writer.writerow(csv_text(name) for name, _ in columns)
    writer.writerows(zip(*(_cells(values) for _, values in columns), strict=True))
    return contents.getvalue()


def _cells(values: Sequence[Any]) -> list[Any]:
    values = values.tolist() if isinstance(values, np.ndarray) else values
    texts = {value: csv_text(value) for value in {value for value in values if isinstance(value, str)}}
    return ["" if value is None or value != value else texts.get(value, value) for value in values]
