"""One summary writer for each run in a process, whoever writes.

    write_scalars("runs/a/train", 100, {"Loss/total_loss": 0.5})

TensorBoard follows the newest event file of a run: of two that grow at the same time, it loses one. So everything in
this package that writes to a run asks here for its writer. It stays open for the life of the process, because a traced
`tf.function` with summaries in it can only ever write to the writer it was traced with.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping

import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from od_eval.tensorboard import event_files

_log = logging.getLogger(__name__)

_open_writers: dict[str, tuple[tf.summary.SummaryWriter, str]] = {}


def writer(run_dir: str) -> tf.summary.SummaryWriter:
    """The writer of the run in this folder, opened when it is first asked for."""
    key = _key(run_dir)
    if key not in _open_writers:
        _wait_for_a_later_name(run_dir)
        suffix = f".{uuid.uuid4().hex[:8]}"  # tells the file of this writer from those of others
        _open_writers[key] = (tf.summary.create_file_writer(run_dir, filename_suffix=suffix), suffix)
    return _open_writers[key][0]


def write_scalars(run_dir: str, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars (tag -> value) of one step to a run, and flushes."""
    # In one event: `tf.summary.scalar` for each of ten takes five times as long.
    summary = summary_pb2.Summary(value=[scalar_pb(tag, value).value[0] for tag, value in scalars.items()])
    run = writer(run_dir)
    with run.as_default(), tf.summary.record_if(True):
        tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
    run.flush()


def resume(run_dir: str, step: int) -> bool:
    """Prepares a run for a training that goes on from `step`: what is in it of later steps is dropped.

    From step 0, that is everything that was there before this process. `event_files.drop_events_after` says what
    becomes of it.

    Returns:
      Whether the open writer of this run had to be closed for that; functions that were traced with it have to be
      traced again.
    """
    key = _key(run_dir)
    own_writer, own_suffix = _open_writers.get(key, (None, None))
    if own_writer is not None:
        own_writer.flush()
    own_is_in_order = False
    replaced = 0
    for event_file in event_files.event_files(run_dir):
        if own_writer is None or not event_file.endswith(own_suffix):
            replaced += event_files.drop_events_after(event_file, step if step > 0 else -1)
        elif event_files.has_events_after(event_file, step):
            own_writer.close()
            event_files.drop_events_after(event_file, step)
        else:
            own_is_in_order = True
    if replaced and step == 0:
        _log.warning(
            "This training starts at step 0: what an earlier one has written to %s is no longer shown in TensorBoard."
            " It is kept there in %d file(s) with 'replaced' in place of 'tfevents'.",
            *(run_dir, replaced),
        )
    if own_writer is None or own_is_in_order:
        return False
    # It is closed, or its file was deleted and what it writes would go nowhere.
    own_writer.close()
    del _open_writers[key]
    return True


def _wait_for_a_later_name(run_dir: str) -> None:
    """Sees to it that TensorBoard, which reads the files of a run in the order of their names, reads the new one last.

    A name begins with the second in which the file is made: `events.out.tfevents.1763687990.host.…`.
    """
    seconds = [os.path.basename(file).split(".")[3] for file in event_files.event_files(run_dir) if file.count(".") > 3]
    if str(int(time.time())) in seconds:
        time.sleep(1.0 - time.time() % 1.0)


def _key(run_dir: str) -> str:
    return run_dir if "://" in run_dir else os.path.abspath(run_dir)
