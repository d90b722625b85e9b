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

import dataclasses
import io
import logging
import os
import time
import uuid
from collections.abc import Mapping
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
from od_eval.tensorboard import event_files
from od_eval.text import utf8

_log = logging.getLogger(__name__)

_SCALAR_METADATA = scalar_metadata.create_summary_metadata(display_name=None, description=None)


@dataclasses.dataclass
class _OpenRun:
    """The writer of a run.

    Attributes:
      writer: TensorFlow's writer.
      suffix: the suffix of its event file's name, which distinguishes the file from others.
      last_steps: tag of a scalar -> step of its last value.
    """

    writer: tf.summary.SummaryWriter
    suffix: str
    last_steps: dict[str, int] = dataclasses.field(default_factory=dict)


_open_runs: dict[str, _OpenRun] = {}


def writer(run_dir: str) -> tf.summary.SummaryWriter:
    """The writer of the run in this folder, opened at the first call.

    Raises:
      ODEvalError: nothing can be written there.
    """
    return _open_run(run_dir).writer


def write_summary(run_dir: str, step: int, summary: summary_pb2.Summary) -> None:
    """Writes a summary, which may have many values, as one event of a run, and flushes."""
    with writer(run_dir).as_default(), tf.summary.record_if(True):  # flushed at the end of the block
        tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)


def write_scalars(run_dir: str, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars (tag -> value) of one step to a run, and flushes.

    A tag whose last value has this very step is left out. Two callbacks may report the same loss, for example Keras's
    validation and an evaluation on the same images, and TensorBoard would draw both: a vertical line in the chart. The
    first one counts.
    """
    last_steps = _open_run(run_dir).last_steps
    new = {tag: value for tag, value in scalars.items() if last_steps.get(tag) != step}
    if new:
        # As one event: ten calls of `tf.summary.scalar` take five times as long.
        write_summary(run_dir, step, summary_pb2.Summary(value=[_scalar(tag, value) for tag, value in new.items()]))
        last_steps.update(dict.fromkeys(new, step))


def _scalar(tag: str, value: float) -> summary_pb2.Summary.Value:
    """Like `tensorboard.plugins.scalar.summary_v2.scalar_pb`, without the 20 µs that its detour via NumPy takes."""
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[value])
    return summary_pb2.Summary.Value(tag=tag, metadata=_SCALAR_METADATA, tensor=tensor)


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


def resume(run_dir: str, step: int) -> bool:
    """Prepares a run for training that continues from `step`: events of later steps are removed.

    From step 0, that is everything written before this process. See `event_files.drop_events_after` for where the
    events are kept.

    Returns:
      Whether the open writer of this run had to be closed; functions that were traced with it have to be traced again.
    """
    key = files.absolute(run_dir)
    own = _open_runs.get(key)
    if own is not None:
        own.writer.flush()
        own.last_steps.clear()
    own_is_in_order = False
    replaced = 0
    for event_file in event_files.event_files(run_dir):
        if own is None or not event_file.endswith(own.suffix):
            replaced += event_files.drop_events_after(event_file, step if step > 0 else -1)
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
    own.writer.close()
    del _open_runs[key]
    return True


def _open_run(run_dir: str) -> _OpenRun:
    key = files.absolute(run_dir)
    if key not in _open_runs:
        _wait_for_a_later_name(run_dir)
        suffix = f".{uuid.uuid4().hex[:8]}"
        try:
            _open_runs[key] = _OpenRun(tf.summary.create_file_writer(run_dir, filename_suffix=suffix), suffix)
        except tf.errors.OpError as error:
            raise ODEvalError(f"'{run_dir}' cannot be written: {files.reason(error)}.") from error
    return _open_runs[key]


def _wait_for_a_later_name(run_dir: str) -> None:
    """Waits until the name of a new event file sorts last in its run: TensorBoard reads the files in this order.

    A name starts with the second in which the file is created: `events.out.tfevents.1763687990.host.…`.
    """
    seconds = [os.path.basename(path).split(".")[3] for path in event_files.event_files(run_dir) if path.count(".") > 3]
    if str(int(time.time())) in seconds:
        time.sleep(1.0 - time.time() % 1.0)
