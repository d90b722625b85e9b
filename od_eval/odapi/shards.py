"""Which record files each worker of a cluster trains on, and which records it evaluates."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from object_detection.builders import dataset_builder
from object_detection.protos import input_reader_pb2, pipeline_pb2

from od_eval import cluster
from od_eval.errors import ODEvalError
from od_eval.findings.finding import Finding
from od_eval.odapi import records
from od_eval.text import named

# A worker that has this many times the images of another is worth a line.
_UNEVEN = 1.1
# Sizes of files on a network are asked for at the same time.
_REQUESTS = 16


@contextlib.contextmanager
def training_files(input_context: tf.distribute.InputContext | None) -> Iterator[None]:
    """Training input that the Object Detection API builds inside reads the files of one worker only.

    That API shuffles the names of files first, on each worker in another order, and then takes every n-th: a pass over
    the data has some files twice and others not at all. Here each file belongs to one worker, see `files_of_workers`.

    Args:
      input_context: of the input to build; None if there is one worker.
    """
    if input_context is None or input_context.num_input_pipelines == 1:
        yield
        return
    read = dataset_builder._read_dataset_internal

    def read_own(
        file_read_func: Any, input_files: Sequence[str], num_readers: int, config: Any, filename_shard_fn: Any = None
    ) -> tf.data.Dataset:
        own = files_of_workers(input_files, input_context.num_input_pipelines)[input_context.input_pipeline_id]
        for name in own:
            if records.glob(name) != [name]:
                raise ODEvalError(
                    f"the name of the record file '{named(name)}' has characters of a pattern; rename it, to train with"
                    " several workers."
                )
        return read(file_read_func, own, num_readers, config)

    dataset_builder._read_dataset_internal = read_own
    try:
        yield
    finally:
        dataset_builder._read_dataset_internal = read


@contextlib.contextmanager
def evaluated_records(sample_1_of_n: int, block: int, worker: int, num_workers: int) -> Iterator[None]:
    """Evaluation input that the Object Detection API builds inside reads the records of one worker only.

    Args:
      sample_1_of_n: one in n records is read; the reader's own field must not be set.
      block, worker, num_workers: as for `own_blocks`.
    """
    read = dataset_builder.read_dataset

    def read_own(*args: Any, **kwargs: Any) -> tf.data.Dataset:
        dataset = read(*args, **kwargs)
        sample = dataset.shard(sample_1_of_n, 0) if sample_1_of_n > 1 else dataset
        return own_blocks(sample, block, worker, num_workers)

    dataset_builder.read_dataset = read_own
    try:
        yield
    finally:
        dataset_builder.read_dataset = read


def own_blocks(dataset: tf.data.Dataset, block: int, worker: int, num_workers: int) -> tf.data.Dataset:
    """The elements of one worker: blocks of successive elements are dealt to the workers in turn."""
    if num_workers == 1:
        return dataset

    def is_own(index: tf.Tensor, element: Any) -> tf.Tensor:
        return index // block % num_workers == worker

    return dataset.enumerate().filter(is_own).map(lambda index, element: element)


def own_number(total: int, block: int, worker: int, num_workers: int) -> int:
    """How many of `total` elements `own_blocks` has."""
    rounds, rest = divmod(total, block * num_workers)
    return rounds * block + min(max(rest - worker * block, 0), block)


def files_of_workers(patterns: Sequence[str], num_workers: int) -> list[list[str]]:
    """The record files of each worker: every file belongs to one, and all have nearly as many bytes.

    It follows from the order of patterns and of sorted names and the sizes alone, so that all workers find the same.
    """
    paths = [file for pattern in patterns for file in records.glob(pattern)]
    sizes = _sizes(paths)
    shares: list[list[str]] = [[] for _ in range(num_workers)]
    loads = [0] * num_workers
    for index in sorted(range(len(paths)), key=lambda index: -sizes[index]):  # the largest first
        worker = loads.index(min(loads))
        shares[worker].append(paths[index])
        loads[worker] += sizes[index] + 1  # so that no worker has all files that are empty
    return [sorted(share) for share in shares]


def uneven_shares(reader: input_reader_pb2.InputReader, num_workers: int) -> Finding | None:
    """That images of one worker are seen more often than those of another, with numbers; None if they are not.

    Each worker contributes the same number of images to a batch, however many it has to choose from.
    """
    if num_workers == 1:
        return None
    patterns = reader.tf_record_input_reader.input_path
    shares = files_of_workers(patterns, num_workers)
    unit = "images"
    counts = [_count(share) for share in shares]
    if None in counts:
        unit, counts = "bytes", [sum(_sizes(share)) for share in shares]
    numbers = [count for count in counts if count is not None]
    least, most = min(numbers), max(numbers)
    if most <= _UNEVEN * least:
        return None
    few, many = numbers.index(least), numbers.index(most)
    return Finding(
        "uneven_shares_of_workers",
        "warning",
        "train_input_reader",
        f"of {sum(map(len, shares))} record files, worker {few} has {len(shares[few])} with {least} {unit}, and worker"
        f" {many} {len(shares[many])} with {most}",
        f"write the dataset anew in files of one size, a multiple of {num_workers} in number",
        cause=f"so that in training, images of worker {few} come {most / max(least, 1):.1f} times as often",
        field="train_input_reader.tf_record_input_reader.input_path",
        evidence={"files": sum(map(len, shares)), "workers": num_workers, "least": least, "most": most},
    )


def check_same_files(strategy: tf.distribute.Strategy, config: pipeline_pb2.TrainEvalPipelineConfig) -> None:
    """Checks that all workers see the same record files: their names, in this order, and their sizes.

    Raises:
      ODEvalError: on every worker, with the first difference.
    """
    if cluster.num_workers(strategy) == 1:
        return
    readers = {"train_input_reader": config.train_input_reader}
    readers |= {f"eval_input_reader[{index}]": reader for index, reader in enumerate(config.eval_input_reader)}
    of_workers = cluster.gather(strategy, {field: _listing(reader) for field, reader in readers.items()})
    for worker, listings in enumerate(of_workers[1:], start=1):
        for field, expected in of_workers[0].items():
            if listings[field] != expected:
                raise ODEvalError(
                    f"{field}: worker {worker} sees other record files than worker 0:"
                    f" {_difference(expected, listings[field])}; give all machines the same files."
                )


def _listing(reader: input_reader_pb2.InputReader) -> list[tuple[str, int]]:
    """Name and size of each record file, in their order; folders may differ among machines."""
    paths = records.input_files(reader)
    return list(zip(map(os.path.basename, paths), _sizes(paths), strict=True))


def _difference(listed_there: Sequence[tuple[str, int]], listed_here: Sequence[tuple[str, int]]) -> str:
    """The first difference between the files of worker 0 and those of another, as a clause about the latter."""
    expected, found = dict(listed_there), dict(listed_here)
    for name in [*expected, *found]:
        if name not in found:
            return f"it lacks '{named(name)}' ({len(expected)} files there, {len(found)} here)"
        if name not in expected:
            return f"it has '{named(name)}', too ({len(expected)} files there, {len(found)} here)"
        if expected[name] != found[name]:
            return f"'{named(name)}' has {expected[name]} bytes there and {found[name]} here"
    return f"they are in another order, the first is '{named(next(iter(found)))}' here"


def _sizes(paths: Sequence[str]) -> list[int]:
    with concurrent.futures.ThreadPoolExecutor(_REQUESTS) as threads:
        return list(threads.map(records.size, paths))


def _count(paths: Sequence[str]) -> int | None:
    reader = input_reader_pb2.InputReader()
    reader.tf_record_input_reader.input_path[:] = paths
    return records.count(reader)
