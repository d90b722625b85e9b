"""The event files of a training, read as they grow: what it logs, without reading all of it again each time.

events = TrainingEvents("runs/a/train")
events.curves()["Loss/total_loss"].values
"""

from __future__ import annotations

import array
import dataclasses
import os
import re

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.util import tensor_util

from od_eval import files
from od_eval.findings.evidence import Curve
from od_eval.tensorboard import tags
from od_eval.tensorboard.event_files import event_files

_Points = tuple["array.array[int]", "array.array[float]"]


@dataclasses.dataclass
class _EventFile:
    """An event file that is being read.

    Attributes:
      loader: gives what was written since it was asked last.
      inode: 0 where there are none.
      size: in bytes, when it was read last.
      is_scalar: tag -> whether it is a scalar, which some writers store only in a tag's first event.
    """

    loader: RawEventFileLoader
    inode: int
    size: int = 0
    is_scalar: dict[str, bool] = dataclasses.field(default_factory=dict)


class TrainingEvents:
    """The curves of a run, and the step at which it is to end.

    Each call reads what was written since the last one: of 100,000 points of nine curves, the first takes eight seconds
    and the others 10 ms. Where resumed training has removed events, all is read again.

    Args:
      run_dir: the folder of the run, local or remote; it need not exist yet.
    """

    def __init__(self, run_dir: str):
        self._run_dir = run_dir
        self._start_again()

    def _start_again(self) -> None:
        self._files: dict[str, _EventFile] = {}
        self._points: dict[str, _Points] = {}
        self._summary = ""

    def curves(self) -> dict[str, Curve]:
        """Tag -> curve. Of several values of a step, as training that was killed leaves them, the newest counts."""
        self._read()
        return {tag: _curve(*points) for tag, points in self._points.items() if points[0]}

    @property
    def last_step(self) -> int | None:
        """The step at which training is to end, as the newest summary has it that was read; None without one."""
        found = re.search(r"^\s*step\s+\d+ of (\d+)\s*$", self._summary, re.MULTILINE)
        return int(found[1]) if found else None

    def _read(self) -> None:
        sizes = {path: files.size(path) for path in event_files(self._run_dir)}
        inodes = {path: 0 if files.is_remote(path) else os.stat(path).st_ino for path in sizes}
        for path, file in self._files.items():
            if inodes.get(path) != file.inode or sizes[path] < file.size:  # removed, or written anew
                self._start_again()
                break
        for path, size in sizes.items():
            if path not in self._files:
                self._files[path] = _EventFile(RawEventFileLoader(path), inodes[path])
            file = self._files[path]
            file.size = size
            for record in file.loader.Load():
                event = event_pb2.Event.FromString(record)
                for value in event.summary.value:
                    tag = value.tag
                    is_scalar = file.is_scalar.get(tag)
                    if is_scalar is None:
                        is_scalar = file.is_scalar[tag] = _is_scalar(value)
                    if is_scalar:
                        number = _number(value)
                        if number is not None:
                            steps, values = self._points.get(tag) or self._points.setdefault(tag, _no_points())
                            steps.append(event.step)
                            values.append(number)
                    elif tag == tags.SUMMARY and value.tensor.string_val:
                        self._summary = value.tensor.string_val[0].decode("utf-8", "replace")


def _is_scalar(value: summary_pb2.Summary.Value) -> bool:
    """Whether a tag is that of scalars; `simple_value` is TensorFlow 1's."""
    return value.metadata.plugin_data.plugin_name == scalar_metadata.PLUGIN_NAME or value.HasField("simple_value")


def _number(value: summary_pb2.Summary.Value) -> float | None:
    numbers = value.tensor.float_val
    if len(numbers) == 1:  # `make_ndarray` takes ten times as long
        return numbers[0]
    if value.HasField("simple_value"):
        return value.simple_value
    array_of = tensor_util.make_ndarray(value.tensor)
    return float(array_of.item()) if array_of.size == 1 else None


def _no_points() -> _Points:
    return array.array("q"), array.array("d")


def _curve(steps: array.array[int], values: array.array[float]) -> Curve:
    all_steps, all_values = np.array(steps, np.int64), np.array(values, np.float64)
    all_values[~np.isfinite(all_values)] = np.nan
    if np.any(np.diff(all_steps) <= 0):
        order = np.argsort(all_steps, kind="stable")  # of one step, what was read later is newer
        all_steps, all_values = all_steps[order], all_values[order]
        is_newest = np.append(np.diff(all_steps) > 0, True)
        all_steps, all_values = all_steps[is_newest], all_values[is_newest]
    return Curve(all_steps, all_values)
