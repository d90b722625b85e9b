"""One summary writer per run and process.

    write_scalars("runs/a/train", 100, {"Loss/total_loss": 0.5})
    write_pictures("runs/a/eval", 100, {"eval_side_by_side_0_0": picture})
    write_text("runs/a/train", "pipeline_config", "model { … }")

TensorBoard follows the newest event file of a run: of two that grow at the same time, it loses one. So everything in
this package that writes to a run gets its writer here. It stays open for the life of the process, because a traced
`tf.function` with summaries in it can only ever write to the writer it was traced with. These open writers are the only
state that all callbacks of a process share.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import io
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
import tensorflow as tf
from PIL import Image
from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util import tensor_util

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.tensorboard import event_files, tags
from od_eval.text import utf8

_log = logging.getLogger(__name__)

_MOST_BYTES_WAITING = 50_000_000
_SCALAR_METADATA = scalar_metadata.create_summary_metadata(display_name=None, description=None)


@dataclasses.dataclass
class _OpenRun:
    """The writer of a run.

    Attributes:
      writer: TensorFlow's writer; None if it was closed, to begin a new file.
      suffix: the suffix of its event file's name, which distinguishes the file from others.
      path, inode: of its event file; not known on remote file systems.
      num_bytes: where the last record ends that is known to be whole.
      has_failed: whether its file may end in half a record, behind which TensorBoard reads nothing.
      last_steps: tag of a scalar -> step of its last value.
      steps: all steps that something was written of.
      waiting: step and summary of what could not be written yet.
      num_lost: the number of summaries that had to be given up.
    """

    writer: tf.summary.SummaryWriter | None
    suffix: str
    path: str = ""
    inode: int = 0
    num_bytes: int = 0
    has_failed: bool = False
    last_steps: dict[str, int] = dataclasses.field(default_factory=dict)
    steps: set[int] = dataclasses.field(default_factory=set)
    waiting: collections.deque[tuple[int, bytes]] = dataclasses.field(default_factory=collections.deque)
    num_lost: int = 0


_open_runs: dict[str, _OpenRun] = {}


def writer(run_dir: str) -> tf.summary.SummaryWriter:
    """The writer of the run in this folder, opened at the first call.

    After a write that failed it is another one, with a new file, as soon as one can be begun.

    Raises:
      ODEvalError: nothing can be written there.
    """
    run = _open(run_dir)
    if run.writer is None or run.has_failed:
        with contextlib.suppress(ODEvalError, OSError) if run.writer is not None else contextlib.nullcontext():
            _begin_file(run_dir, run)
    assert run.writer is not None
    return run.writer


def is_open(run_dir: str) -> bool:
    """Whether this process has written to the run in this folder."""
    return files.absolute(run_dir) in _open_runs


def write_summary(run_dir: str, step: int, summary: summary_pb2.Summary) -> None:
    """Writes a summary, which may have many values, as one event of a run, and flushes.

    If it cannot be written, because the disk is full, it is said once, and the summary waits in memory: it is written
    with the next one, or when the process ends.

    Raises:
      ODEvalError: nothing can be written there from the beginning.
    """
    run = _open(run_dir)
    run.waiting.append((step, summary.SerializeToString()))
    run.steps.add(step)
    had_failed = run.has_failed
    error = _write_what_waits(run_dir)
    while sum(len(serialized) for _, serialized in run.waiting) > _MOST_BYTES_WAITING:
        run.waiting.popleft()
        run.num_lost += 1
    if error is not None and not had_failed:
        print(
            f"warning: '{run_dir}' cannot be written now ({files.reason(error)}): its curves are kept in memory, and"
            " written when that is possible again.",
            file=sys.stderr,
            flush=True,
        )


def _open(run_dir: str) -> _OpenRun:
    key = files.absolute(run_dir)
    if key not in _open_runs:
        _open_runs[key] = _new_run(run_dir)
    return _open_runs[key]


def _write_what_waits(run_dir: str) -> Exception | None:
    """Writes the summaries of a run that wait, one after the other; returns what prevents it."""
    run = _open(run_dir)
    while run.waiting:
        step, serialized = run.waiting[0]
        try:
            if run.has_failed or _was_replaced(run):
                _begin_file(run_dir, run)
            with writer(run_dir).as_default(), tf.summary.record_if(True):  # flushed at the end of the block
                tf.summary.experimental.write_raw_pb(serialized, step=step)
            _check_what_was_written(run)
        except (tf.errors.OpError, OSError, ODEvalError) as error:
            run.has_failed = True
            return error
        run.waiting.popleft()
    return None


def _check_what_was_written(run: _OpenRun) -> None:
    """TensorFlow reports a write that fails only if it is shorter than a buffer.

    Raises:
      ODEvalError: there is no further record, or half a one.
    """
    if run.path and os.path.exists(run.path):  # TensorFlow begins a new file if somebody has removed it
        end = event_files.end_of_records(run.path, run.num_bytes)
        if end == run.num_bytes or end != files.size(run.path):
            raise ODEvalError("the disk has no room for an event")
        run.num_bytes = end


def _begin_file(run_dir: str, run: _OpenRun) -> None:
    """Gives a run a new writer.

    Raises:
      ODEvalError: no file can be begun; the old writer stays.
    """
    old, old_path, old_inode, old_num_bytes = run.writer, run.path, run.inode, run.num_bytes
    new = _new_run(run_dir)
    run.writer, run.suffix, run.path, run.inode, run.num_bytes = new.writer, new.suffix, new.path, new.inode, 0
    run.has_failed = False
    if old is not None:
        with contextlib.suppress(tf.errors.OpError):  # it tries again what it could not write
            old.close()
        if old_num_bytes and os.path.exists(old_path) and os.stat(old_path).st_ino == old_inode:
            os.truncate(old_path, old_num_bytes)  # what it has written now is written to the new file


@atexit.register
def _write_at_the_end() -> None:
    for run_dir, run in _open_runs.items():
        error = _write_what_waits(run_dir) if run.waiting else None
        if error is not None or run.num_lost:
            print(
                f"warning: {len(run.waiting) + run.num_lost} points or pictures of '{run_dir}' could not be written to"
                f" TensorBoard{f': {files.reason(error)}' if error else ''}.",
                file=sys.stderr,
            )


def write_scalars(run_dir: str, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars (tag -> value) of one step to a run, and flushes.

    A tag whose last value has this very step is left out. Two callbacks may report the same loss, for example Keras's
    validation and an evaluation on the same images, and TensorBoard would draw both: a vertical line in the chart. The
    first one counts.
    """
    last_steps = _open(run_dir).last_steps
    new = {tag: value for tag, value in scalars.items() if last_steps.get(tag) != step}
    if new:
        # As one event: ten calls of `tf.summary.scalar` take five times as long.
        write_summary(run_dir, step, summary_pb2.Summary(value=[_scalar(tag, value) for tag, value in new.items()]))
        last_steps.update(dict.fromkeys(new, step))


def _scalar(tag: str, value: float) -> summary_pb2.Summary.Value:
    """Like `tensorboard.plugins.scalar.summary_v2.scalar_pb`, without the 20 µs that its detour via NumPy takes."""
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[value])
    return summary_pb2.Summary.Value(tag=tag, metadata=_SCALAR_METADATA, tensor=tensor)


def write_mark_of_evaluation(run_dir: str, step: int) -> None:
    """Writes that the run has an evaluation of this step, for the page "Detections": its tab appears."""
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name=tags.PLUGIN)
    metadata = summary_pb2.SummaryMetadata(plugin_data=plugin, data_class=summary_pb2.DATA_CLASS_TENSOR)
    tensor = tensor_util.make_tensor_proto(step)
    value = summary_pb2.Summary.Value(tag=tags.EVALUATION, metadata=metadata, tensor=tensor)
    write_summary(run_dir, step, summary_pb2.Summary(value=[value]))


def write_pictures(run_dir: str, step: int, pictures: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes pictures (tag -> uint8 `[height, width, 3]`) of one step to a run's Images, and flushes."""
    summary = summary_pb2.Summary()
    metadata = image_metadata.create_summary_metadata(display_name="", description="")
    for tag, picture in pictures.items():
        height, width = picture.shape[:2]
        encoded = io.BytesIO()
        # As PNG, a photograph takes four times as much disk space and memory in TensorBoard. Without subsampling, thin
        # colored lines keep their color.
        Image.fromarray(picture).save(encoded, "JPEG", quality=90, subsampling=0)
        tensor = tensor_util.make_tensor_proto([str(width).encode(), str(height).encode(), encoded.getvalue()])
        summary.value.add(tag=tag, metadata=metadata, tensor=tensor)
    if pictures:
        write_summary(run_dir, step, summary)


def write_text(run_dir: str, tag: str, text: str, step: int = 0) -> None:
    """Writes a text to a run's Text, where it is shown verbatim, in a fixed-width font."""
    # TensorBoard interprets text as Markdown, and text indented by four spaces as code: nothing in it is special, not
    # even HTML. A fence of ``` would end at a ``` in the text.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    write_summary(run_dir, step, text_pb(tag, "\n".join(f"    {line}" for line in utf8(text).split("\n"))))


def write_markdown(run_dir: str, tag: str, text: str, step: int = 0) -> None:
    """Writes a text to a run's Text, where it is shown as Markdown. Names of others in it were escaped."""
    write_summary(run_dir, step, text_pb(tag, utf8(text)))


def resume(run_dir: str, step: int) -> bool:
    """Prepares a run for training that continues from `step`: events of later steps are removed.

    From step 0, that is everything written before this process. See `event_files.drop_events_after` for where the
    events are kept.

    Returns:
      Whether the open writer of this run had to be closed; functions that were traced with it have to be traced again.
    """
    own = _open_runs.get(files.absolute(run_dir))
    if own is not None:
        _write_what_waits(run_dir)
        own.waiting = collections.deque(one for one in own.waiting if one[0] <= step)
        own.last_steps.clear()
        own.steps = {one for one in own.steps if one <= step}
    own_is_in_order = False
    replaced = 0
    for event_file in event_files.event_files(run_dir):
        if own is None or own.writer is None or not event_file.endswith(own.suffix):
            replaced += event_files.drop_events_after(event_file, step if step > 0 else -1)
        elif own.path and files.absolute(event_file) != own.path:
            pass  # the empty one that stays under the first name
        elif event_files.has_events_after(event_file, step):
            own.writer.close()
            event_files.drop_events_after(event_file, step)
        else:
            own_is_in_order = True
    if replaced and step == 0:
        _log.warning(
            "This training starts at step 0: what an earlier run has written to %s is no longer shown in TensorBoard."
            " It is kept there in %d file(s) with 'replaced' in place of 'tfevents'.",
            *(run_dir, replaced),
        )
    if own is None or own_is_in_order:
        return False
    # It is closed, or its file was deleted and anything it writes would be lost.
    if own.writer is not None:
        own.writer.close()
        own.writer = None
    return True


def take_back(run_dir: str, step: int, is_to_go: Callable[[str], bool]) -> None:
    """Removes what was written of a step, because it is written again.

    What this process has just written stays, as `write_scalars` heeds it; what it wrote before a later step does not.

    Args:
      run_dir: the folder of the run.
      step: the step.
      is_to_go: whether a tag is written again.
    """
    own = _open_runs.get(files.absolute(run_dir))
    if own is not None and own.writer is not None and step in own.steps and step < max(own.steps):
        own.writer.close()
        own.writer = None
        own.last_steps.clear()
    for event_file in event_files.event_files(run_dir):
        is_own = own is not None and own.writer is not None and event_file.endswith(own.suffix)
        if not is_own and event_files.has_step(event_file, step):
            event_files.drop_values(event_file, step, is_to_go)


def _was_replaced(run: _OpenRun) -> bool:
    """Whether another process has taken values back from the event file of a run: its writer writes to the old one."""
    return bool(run.path) and os.path.exists(run.path) and os.stat(run.path).st_ino != run.inode


def _new_run(run_dir: str) -> _OpenRun:
    """A writer with a new event file."""
    _wait_for_a_later_name(run_dir)
    suffix = f".{uuid.uuid4().hex[:8]}"
    try:
        new_writer = tf.summary.create_file_writer(run_dir, filename_suffix=suffix)
    except tf.errors.OpError as error:
        with contextlib.suppress(OSError):  # the error above matters more
            for event_file in event_files.event_files(run_dir):
                if event_file.endswith(suffix):
                    files.remove(event_file)
        raise ODEvalError(f"'{run_dir}' cannot be written: {files.reason(error)}.") from error
    if files.is_remote(run_dir):
        return _OpenRun(new_writer, suffix)
    path = files.absolute(_sorted_last(run_dir, suffix))
    return _OpenRun(new_writer, suffix, path, os.stat(path).st_ino)


def _wait_for_a_later_name(run_dir: str) -> None:
    """Waits until the name of a new event file sorts last in its run: TensorBoard reads the files in this order."""
    if int(time.time()) in map(event_files.second, event_files.event_files(run_dir)):
        time.sleep(1.0 - time.time() % 1.0)


def _sorted_last(run_dir: str, suffix: str) -> str:
    """The new event file, renamed if others have later names, because the clock was put back.

    An empty file stays under the old name: TensorFlow looks whether its file is still there, by its name.
    """
    seconds = {path: event_files.second(path) for path in event_files.event_files(run_dir)}
    own = max(path for path in seconds if path.endswith(suffix))
    latest = max(second for path, second in seconds.items() if path != own) if len(seconds) > 1 else 0
    if seconds[own] > latest:
        return own
    renamed = os.path.join(run_dir, os.path.basename(own).replace(f".{seconds[own]}.", f".{latest + 1}.", 1))
    files.rename(own, renamed)
    files.write_whole(own, b"")
    return renamed
