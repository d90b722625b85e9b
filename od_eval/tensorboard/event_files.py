"""The event files of a run, and how to remove the events of steps that resumed training will repeat."""

from __future__ import annotations

import errno
import functools
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2

from od_eval import files

# TensorBoard reads every file with this in its name.
_MARK = "tfevents"


def event_files(run_dir: str) -> list[str]:
    """The event files in a run's folder (not in folders below it), oldest first; none if there is no such folder."""
    return [os.path.join(run_dir, name) for name in files.names_in(run_dir) if _MARK in name]


def end_of_records(event_file: str, start: int) -> int:
    """Where the last whole record of a local event file ends, by the lengths that the records give.

    Args:
      event_file: the file.
      start: where a record begins.
    """
    size = files.size(event_file)
    with files.open_local(event_file) as file:
        while start + 12 <= size:
            file.seek(start)
            (length,) = struct.unpack("<Q", file.read(8))
            if start + 16 + length > size:
                break
            start += 16 + length
    return start


def has_events_after(event_file: str, step: int) -> bool:
    return any(_step(record) > step for record in _records(event_file))


def drop_events_after(event_file: str, step: int) -> bool:
    """Removes the events of steps after `step` from an event file.

    A file without such events is not touched. Otherwise the remaining events are written to a file next to it, which
    then replaces it in a single move. An incomplete last record, left by a killed writer, is dropped. The original is
    kept in the same folder under a name that TensorBoard does not read: `tfevents` becomes `replaced-at-step-00001000`;
    to undo this, rename it back.

    Args:
      event_file: local or remote. A process that writes to it begins a new file (see `writers`).
      step: the step of the last events to keep; -1 keeps none, and removes the file.

    Returns:
      Whether there were events to remove.
    """
    if not has_events_after(event_file, step):
        return False
    if step < 0:
        files.rename(event_file, _name_of_original(event_file, 0))
    else:
        _rewrite(event_file, step, (record for record in _records(event_file) if _step(record) <= step))
    return True


def second(event_file: str) -> int:
    """The second in which an event file was begun, after its name; 0 if the name does not tell.

    `events.out.tfevents.1763687990.host.…`; TensorBoard reads the files of a run in the order of their names.
    """
    match = re.search(rf"{_MARK}\.(\d+)", os.path.basename(event_file))
    return int(match[1]) if match else 0


def has_step(event_file: str, step: int) -> bool:
    """Whether there are events of a step. A file is only read once, as long as its length is the same."""
    return step in _steps(event_file, files.size(event_file))


@functools.lru_cache(maxsize=1024)
def _steps(event_file: str, size: int) -> frozenset[int]:
    return frozenset(map(_step, _records(event_file)))


def drop_values(event_file: str, step: int, is_to_go: Callable[[str], bool]) -> None:
    """Removes values of one step from an event file, because they will be rewritten; works like `drop_events_after`.

    Args:
      event_file: as for `drop_events_after`.
      step: the step of the values.
      is_to_go: whether to remove a value with this tag.
    """

    def rest(record: bytes) -> bytes:
        event = event_pb2.Event.FromString(record)
        if event.step != step or not any(is_to_go(value.tag) for value in event.summary.value):
            return record
        kept = [value for value in event.summary.value if not is_to_go(value.tag)]
        del event.summary.value[:]
        event.summary.value.extend(kept)
        return event.SerializeToString()

    if any(rest(record) is not record for record in _records(event_file)):
        _rewrite(event_file, step, map(rest, _records(event_file)))


def _rewrite(event_file: str, step: int, records: Iterable[bytes]) -> None:
    import tensorflow as tf  # here, because reading event files does not need it

    kept_original = _name_of_original(event_file, step)
    rewritten = files.temporary_path(kept_original)
    try:
        with tf.io.TFRecordWriter(rewritten) as writer:
            for record in records:
                writer.write(record)
        files.sync(rewritten)
        # Copied, not renamed: the run keeps its curves if this is interrupted.
        files.copy(event_file, kept_original)
        files.rename(rewritten, event_file)
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, files.reason(error), event_file) from error
    finally:
        if files.exists(rewritten):
            files.remove(rewritten)


def _name_of_original(event_file: str, step: int) -> str:
    folder, name = os.path.split(event_file)
    return files.free_path(os.path.join(folder, name.replace(_MARK, f"replaced-at-step-{step:08d}")))


def _records(event_file: str) -> Iterator[bytes]:
    """The serialized events of a file, up to its end or the first incomplete record."""
    return RawEventFileLoader(event_file).Load()


def _step(record: bytes) -> int:
    return event_pb2.Event.FromString(record).step
