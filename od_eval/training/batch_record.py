"""Which records were in the batch of each step of a training: written while it trains, read to replay a step.

The files are `model_dir/train/batches/worker-0-000001.ids`, …: a new one with every start of the training and every
megabyte, and of each worker its own. A file is a sequence of blocks, each with its checksum, so that what a killed
process has written half is left out. An image takes four bytes. The newest 64 files are kept, 16 million images: the
last 260,000 steps with 64 images in a batch.
"""

from __future__ import annotations

import dataclasses
import os
import re
import struct
import sys
import time
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from od_eval import files
from od_eval.errors import ODEvalError

Ids = npt.NDArray[np.int32]

_BYTES_OF_FILE = 2**20
_MOST_FILES = 64
# As long as a killed process may lose; a remote file is written anew each time, so that a minute of it is enough.
_SECONDS_BETWEEN_WRITES = 5.0
_REMOTE_SECONDS_BETWEEN_WRITES = 60.0
_NAME = re.compile(r"worker-(\d+)-(\d+)\.ids")
# Checksum of all that follows in the block, first step, step before the first one of the process, its seed (-1: none),
# number of steps, images in a batch. Then the ids, int32 [steps, images].
_HEAD = struct.Struct("<IqqqII")
_NO_SEED = -1


class BatchRecord:
    """Writes the ids of the records of each batch.

        record = BatchRecord(model_dir, worker=0, steps_done=detector.steps_done, seed=None)
        detector.on_batches = record.add
        detector.fit(…)
        record.write()

    What is older stays; of a step that is trained again, the newest batch counts. A disk that is full does not end the
    training: no batch is recorded from then on, which is said on stderr.

    Args:
      model_dir: of the training.
      worker: its number, for its own files.
      steps_done: the step from which this process continues; 0 for a new training.
      seed: that the process was started with.
    """

    def __init__(self, model_dir: str, *, worker: int, steps_done: int, seed: int | None):
        self._folder = _folder(model_dir)
        self._worker = worker
        self._origin = (steps_done, _NO_SEED if seed is None else seed)
        self._pause = _REMOTE_SECONDS_BETWEEN_WRITES if files.is_remote(model_dir) else _SECONDS_BETWEEN_WRITES
        self._waiting: list[tuple[int, Ids]] = []
        self._written = time.monotonic()
        self._number: int | None = None  # of the newest file
        self._size = 0
        self._has_failed = False

    def add(self, first_step: int, batches: Sequence[Ids]) -> None:
        """Adds the batches of consecutive steps; every few seconds, what was added is written.

        Args:
          first_step: the step of the first batch, counted from 1.
          batches: for each step int32 `[batch]`.
        """
        self._waiting += [(first_step + index, ids) for index, ids in enumerate(batches) if ids.size]
        if time.monotonic() - self._written > self._pause:
            self.write()

    def write(self) -> None:
        """Writes what was added."""
        self._written = time.monotonic()
        waiting, self._waiting = self._waiting, []
        if not waiting or self._has_failed:
            return
        try:
            self._append(b"".join(self._blocks(waiting)))
        except (OSError, ODEvalError) as error:
            self._has_failed = True
            print(
                f"warning: the batches of this training cannot be recorded any more, so `od-eval replay` will not know"
                f" them: {files.reason(error)}",
                file=sys.stderr,
            )

    def _blocks(self, waiting: Sequence[tuple[int, Ids]]) -> list[bytes]:
        blocks, begin = [], 0
        for end in range(1, len(waiting) + 1):
            step, ids = waiting[end - 1]
            if end < len(waiting) and waiting[end][0] == step + 1 and waiting[end][1].size == ids.size:
                continue
            batches = np.stack([one for _, one in waiting[begin:end]]).astype("<i4")
            body = _HEAD.pack(0, waiting[begin][0], *self._origin, *batches.shape)[4:] + batches.tobytes()
            blocks.append(struct.pack("<I", zlib.crc32(body)) + body)
            begin = end
        return blocks

    def _append(self, data: bytes) -> None:
        if self._number is None or self._size + len(data) > _BYTES_OF_FILE:
            self._begin_file()
        self._size += len(data)
        files.append(os.path.join(self._folder, f"worker-{self._worker}-{self._number:06d}.ids"), data)

    def _begin_file(self) -> None:
        files.make_folder(self._folder)
        numbers = sorted(_files_of(self._folder).get(self._worker, {}))
        self._number = numbers[-1] + 1 if numbers else 1
        self._size = 0
        for old in numbers[: -(_MOST_FILES - 1)]:
            files.remove(os.path.join(self._folder, f"worker-{self._worker}-{old:06d}.ids"))


@dataclasses.dataclass(frozen=True)
class Batch:
    """What is known of the batch of a step.

    Attributes:
      step: counted from 1.
      ids: of its records, of all workers; int32 `[images]`.
      steps_done: the step that the process which trained it had continued from; 0 if it had begun the training.
      seed: of that process; None if it had none.
      num_workers: the number of workers that trained it.
    """

    step: int
    ids: Ids
    steps_done: int
    seed: int | None
    num_workers: int


class RecordedBatches:
    """Reads what a `BatchRecord` has written.

    Args:
      model_dir: of the training.

    Raises:
      ODEvalError: nothing is recorded there, or it cannot be read.
    """

    def __init__(self, model_dir: str):
        self._model_dir = model_dir
        self._blocks: dict[int, list[_Block]] = {}  # of each worker, the newest first
        folder = _folder(model_dir)
        with files.errors_as_sentences(f"the recorded batches of '{model_dir}' cannot be read"):
            for worker, numbers in sorted(_files_of(folder).items()):
                contents = [files.read_bytes(os.path.join(folder, name)) for _, name in sorted(numbers.items())]
                self._blocks[worker] = [block for data in contents for block in _blocks_in(data)][::-1]
        if not any(self._blocks.values()):
            raise ODEvalError(
                f"'{model_dir}' has no recorded batches (train/batches): it is no model_dir of `od-eval train`, was"
                " trained before batches were recorded, or its train_input_reader has include_source_id; train some"
                " steps of it again."
            )

    def batch(self, step: int) -> Batch:
        """The batch of a step; of a step that was trained twice, the newest.

        Raises:
          ODEvalError: it is not recorded.
        """
        of_workers = []
        for blocks in self._blocks.values():
            block = next((one for one in blocks if 0 <= step - one.first_step < len(one.ids)), None)
            if block is not None:
                of_workers.append(block)
        if not of_workers:
            raise ODEvalError(
                f"the batch of step {step} is not recorded in '{self._model_dir}'; recorded are {self._ranges()}."
            )
        ids = np.concatenate([block.ids[step - block.first_step] for block in of_workers])
        return Batch(step, ids, of_workers[0].steps_done, of_workers[0].seed, len(of_workers))

    def has(self, step: int) -> bool:
        """Whether the batch of a step is recorded."""
        return any(0 <= step - one.first_step < len(one.ids) for blocks in self._blocks.values() for one in blocks)

    def _ranges(self, most: int = 5) -> str:
        """The recorded steps: `steps 1 to 40, 61 to 80`."""
        ranges: list[list[int]] = []
        blocks = (one for blocks in self._blocks.values() for one in blocks)
        for first, number in sorted((one.first_step, len(one.ids)) for one in blocks):
            if ranges and first <= ranges[-1][1] + 1:
                ranges[-1][1] = max(ranges[-1][1], first + number - 1)
            else:
                ranges.append([first, first + number - 1])
        return "steps " + ", ".join(["…"] * (len(ranges) > most) + [f"{one} to {last}" for one, last in ranges[-most:]])


@dataclasses.dataclass(frozen=True)
class _Block:
    """Batches of consecutive steps: `ids` is int32 `[steps, images]`; the others as in `Batch`."""

    first_step: int
    ids: Ids
    steps_done: int
    seed: int | None


def _folder(model_dir: str) -> str:
    return os.path.join(model_dir, "train", "batches")


def _files_of(folder: str) -> dict[int, dict[int, str]]:
    """Worker -> number -> name of file."""
    found: dict[int, dict[int, str]] = {}
    for name in files.names_in(folder):
        match = _NAME.fullmatch(name)
        if match:
            found.setdefault(int(match[1]), {})[int(match[2])] = name
    return found


def _blocks_in(data: bytes) -> list[_Block]:
    """The whole blocks of a file."""
    blocks, position = [], 0
    while position + _HEAD.size <= len(data):
        checksum, first_step, steps_done, seed, num_steps, batch_size = _HEAD.unpack_from(data, position)
        end = position + _HEAD.size + 4 * num_steps * batch_size
        if end > len(data) or zlib.crc32(data[position + 4 : end]) != checksum:
            break  # the end of a process that was killed
        ids = np.frombuffer(data[position + _HEAD.size : end], "<i4").reshape(num_steps, batch_size)
        blocks.append(_Block(first_step, ids, steps_done, None if seed == _NO_SEED else seed))
        position = end
    return blocks
