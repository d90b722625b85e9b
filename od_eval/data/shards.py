"""One file of a dataset is one task: its images are read, encoded and written by one process, on any machine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections import Counter
from collections.abc import Generator, Iterator, Sequence

from od_eval import batch_jobs, files
from od_eval.data.annotations import AnnotatedImage, Remark
from od_eval.data.encoding import Encoding
from od_eval.data.examples import Features, convert_image
from od_eval.data.tfrecord import write_shard
from od_eval.errors import ODEvalError

# Below this many images, starting processes, each of which imports TensorFlow, takes longer than it saves.
_MIN_IMAGES_FOR_PROCESSES = 5000
_MOST_PROCESSES_PER_PROCESSOR = 8


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file to write.

    Attributes:
      path: the file, in a folder that exists.
      images: what it is to have in it, in this order.
      images_dir: the folder of the image files.
      encoding: the encoding of the dataset.
    """

    path: str
    images: Sequence[AnnotatedImage]
    images_dir: str
    encoding: Encoding


@dataclasses.dataclass
class WrittenShard:
    """A file that was written.

    Attributes:
      machine: the name of the machine that wrote it.
      size: its length in bytes.
      num_images: the number of records.
      num_empty: the number of records without objects.
      objects: class name -> number of objects.
      remarks: everything that was left out or changed.
    """

    machine: str
    size: int = 0
    num_images: int = 0
    num_empty: int = 0
    objects: Counter[str] = dataclasses.field(default_factory=Counter)
    remarks: list[Remark] = dataclasses.field(default_factory=list)


def default_num_workers(num_images: int) -> int:
    """The default number of processes for a number of images."""
    return 1 if num_images < _MIN_IMAGES_FOR_PROCESSES else _num_processors()


def check_num_workers(num_workers: int) -> None:
    """Checks that a number of processes is one that a machine can start, and gains from.

    Raises:
      ODEvalError: it is not.
    """
    most = _MOST_PROCESSES_PER_PROCESSOR * _num_processors()
    if not 1 <= num_workers <= most:
        raise ODEvalError(f"num_workers={num_workers} is not from 1 to {most}, the most that this machine gains from.")


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_shards(
    shards: Sequence[Shard], ray: str | None, num_workers: int
) -> Generator[tuple[int, WrittenShard], None, None]:
    """Writes files; which process writes which makes no difference.

    Args:
      shards: the files.
      ray: the address of a Ray cluster, as for `batch_jobs.run`.
      num_workers: without Ray, the number of processes.

    Yields:
      The index of a file, and what was written, as soon as it is.

    Raises:
      ODEvalError: as `batch_jobs.run`; or a process does not see the folders that this one sees.
      OSError: a file cannot be written.
    """
    with contextlib.closing(batch_jobs.run(_write, shards, ray=ray, num_processes=num_workers)) as as_completed:
        for index, written in as_completed:
            path = shards[index].path
            if not files.exists(path) or files.size(path) != written.size:
                raise batch_jobs.not_shared(path, f"but was written on '{written.machine}'")
            yield index, written


def _write(shard: Shard) -> WrittenShard:
    written = WrittenShard(socket.gethostname())
    for folder in (shard.images_dir, os.path.dirname(shard.path)):
        if not files.is_folder(folder):
            raise batch_jobs.not_shared(folder, "where a worker runs")
    write_shard(shard.path, _converted(shard, written))
    written.size = files.size(shard.path)
    return written


def _converted(shard: Shard, written: WrittenShard) -> Iterator[Features]:
    """Yields the features of images that are not left out; counts them, and collects remarks."""
    for image in shard.images:
        batch_jobs.stop_if_asked()
        converted = convert_image(image, shard.encoding)
        written.remarks += converted.remarks
        if converted.features is not None:
            written.num_images += 1
            written.num_empty += not converted.class_names
            written.objects.update(converted.class_names)
            yield converted.features
