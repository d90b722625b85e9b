"""The curves of training and evaluation, as a table.

    history = load_history("runs/a")
    loss = history[(history.run == "train") & (history.tag == "Loss/total_loss")]
    loss.plot(x="step", y="value")

It is read from the event files, which hold every value; TensorBoard shows only a sample.
"""

from __future__ import annotations

import os

import pandas as pd
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.util import tensor_util

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.tensorboard.event_files import event_files


def load_history(model_dir: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads every scalar from the event files of all runs under a folder: `train`, `eval`, `eval/<name>`, ….

    The event files may come from this package or from the Object Detection API's own programs. Files that resumed
    training has replaced (`…replaced-at-step-…`) are not read, nor is an incomplete last record.

    Args:
      model_dir: the folder, local or on any file system that TensorFlow supports.

    Returns:
      One row per value, sorted by run, tag and step; if a run has several for one tag and step, the newest.
      Columns: `run` (its folder under `model_dir`; `.` for `model_dir` itself), `tag`, `step` (int64), `value`
      (float64, as it was logged, NaN included), `time` (when it was logged, UTC).

    Raises:
      ODEvalError: there is no such folder, or it contains no curves.
    """
    model_dir = os.fspath(model_dir)
    if not files.is_folder(model_dir):
        raise ODEvalError(f"There is no folder '{model_dir}'; give the model_dir of a training run.")
    rows = [row for folder, _ in files.walk(model_dir) for row in _scalars(_run(model_dir, folder), folder)]
    if not rows:
        raise ODEvalError(
            f"'{model_dir}' and the folders in it have no curves (event files with 'tfevents' in their names); give the"
            " model_dir of a training run, or wait until it has logged its first losses."
        )
    history = pd.DataFrame(rows, columns=["run", "tag", "step", "value", "time"])
    # Stable: of two values with the same time, the one read later is the newer one.
    history = history.sort_values(["run", "tag", "step", "time"], kind="stable")
    history = history.drop_duplicates(["run", "tag", "step"], keep="last", ignore_index=True)
    history["time"] = pd.to_datetime(history["time"], unit="s", utc=True)
    return history


def _run(model_dir: str, folder: str) -> str:
    return folder.rstrip("/")[len(model_dir.rstrip("/")) :].strip("/") or "."


def _scalars(run: str, folder: str) -> list[tuple[str, str, int, float, float]]:
    rows = []
    for event_file in event_files(folder):
        is_scalar: dict[str, bool] = {}  # Some writers store a tag's metadata only in its first event.
        for event in EventFileLoader(event_file).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                if is_scalar.setdefault(value.tag, plugin == scalar_metadata.PLUGIN_NAME):
                    number = tensor_util.make_ndarray(value.tensor)
                    if number.size == 1:
                        rows.append((run, value.tag, event.step, float(number.item()), event.wall_time))
    return rows
