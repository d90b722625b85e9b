"""Ids of records: in the batches of a training, and found again in the record files.

An id is a hash of all bytes of a record, from 0 to 2^31 - 1, because `image/source_id` may be missing or repeated. It
travels as the feature `hash` of the Object Detection API's training input, which that API computes from the source id.
In a million records, another one has the same id with a probability of 0.05%. Records that are equal have equal ids.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import types
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from object_detection import inputs
from object_detection.builders import dataset_builder
from object_detection.core.standard_fields import InputDataFields
from object_detection.protos import input_reader_pb2

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.odapi.records import input_files, serialized_records

_RECORDS_AT_ONCE = 256  # hashed in one call; they are in memory


@contextlib.contextmanager
def as_source_ids() -> Iterator[None]:
    """Datasets that the Object Detection API builds inside have ids of records in their feature `hash`."""
    builder = dataset_builder.decoder_builder

    def build(reader: input_reader_pb2.InputReader) -> Any:
        decoder = builder.build(reader)

        def decode(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
            tensors = dict(decoder.decode(serialized))
            frames = tf.shape(tensors[InputDataFields.source_id])  # of a sequence; empty for a single image
            tensors[InputDataFields.source_id] = tf.fill(frames, _source_id(tf.reshape(serialized, [])))
            return tensors

        return types.SimpleNamespace(decode=decode)

    dataset_builder.decoder_builder = types.SimpleNamespace(build=build)
    try:
        yield
    finally:
        dataset_builder.decoder_builder = builder


def _source_id(serialized: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(tf.strings.to_hash_bucket_fast(serialized, 2**63 - 1))


def ids_of(serialized: Sequence[bytes]) -> npt.NDArray[np.int32]:
    """The ids of records, int32 `[len(serialized)]`."""
    source_ids = _source_id(tf.constant(serialized, tf.string))
    return tf.strings.to_hash_bucket_fast(source_ids, inputs.HASH_BINS).numpy().astype(np.int32)


def ids_in(batch: Any) -> tf.Tensor:
    """The ids in a batch of a training: int32 `[batch]`, empty if it has none."""
    features = batch[0] if isinstance(batch, tuple) else None
    if isinstance(features, dict) and inputs.HASH_KEY in features:
        return tf.cast(features[inputs.HASH_KEY], tf.int32)
    return tf.zeros([0], tf.int32)


@dataclasses.dataclass(frozen=True)
class Record:
    """A record of a file.

    Attributes:
      file, number: where it is; records are counted from 0.
      serialized: its bytes.
    """

    file: str
    number: int
    serialized: bytes

    def __str__(self) -> str:
        return f"record {self.number} of '{self.file}'"


def find_records(
    reader: input_reader_pb2.InputReader, wanted: Collection[int], num_others: int
) -> tuple[dict[int, Record], list[Record]]:
    """Reads all records of an input reader.

    Args:
      reader: the reader of a training.
      wanted: ids of records.
      num_others: the number of other records to draw.

    Returns:
      Id -> the first record that has it, for those of `wanted` that there are; and records drawn from the others at
      random, the same ones each time.

    Raises:
      ODEvalError: a file cannot be read.
    """
    wanted_ids = np.array(sorted(wanted), np.int32)
    found: dict[int, Record] = {}
    others: list[Record] = []
    num_seen = 0
    draw = random.Random(0)
    for records in _chunks(reader):
        ids = ids_of([record.serialized for record in records])
        for record, id_, is_wanted in zip(records, ids.tolist(), np.isin(ids, wanted_ids).tolist(), strict=True):
            if is_wanted:
                found.setdefault(id_, record)
                continue
            num_seen += 1  # Vitter's algorithm R
            if len(others) < num_others:
                others.append(record)
            elif (place := draw.randrange(num_seen)) < num_others:
                others[place] = record
    return found, others


def _chunks(reader: input_reader_pb2.InputReader) -> Iterator[list[Record]]:
    for file in input_files(reader):
        try:
            records = (Record(file, number, one) for number, one in enumerate(serialized_records(file)))
            while chunk := list(itertools.islice(records, _RECORDS_AT_ONCE)):
                yield chunk
        except EOFError as error:
            raise ODEvalError(f"'{file}' is truncated or corrupt; create the file again.") from error
        except OSError as error:
            raise ODEvalError(f"'{file}' cannot be read: {files.reason(error)}.") from error
