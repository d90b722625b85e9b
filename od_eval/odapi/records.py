"""The record files of an input reader: finds them, and any record in them that cannot be used."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import tensorflow as tf
from object_detection.protos import input_reader_pb2

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.odapi import record_contents

# A disk reads them in some seconds.
_MOST_BYTES_TO_COUNT = 2 * 10**9


def input_files(reader: input_reader_pb2.InputReader) -> list[str]:
    """The record files of an input reader, in the order of its patterns."""
    return [file for pattern in reader.tf_record_input_reader.input_path for file in glob(pattern)]


def glob(pattern: str) -> list[str]:
    """The files that match a pattern, sorted; empty if its folder cannot be read.

    Raises:
      ODEvalError: the file system cannot be accessed or is unknown.
    """
    try:
        return files.glob(pattern)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    except OSError as error:
        raise ODEvalError(f"'{pattern}' cannot be looked up: {files.reason(error)}") from error


def count(reader: input_reader_pb2.InputReader) -> int | None:
    """The number of records that an input reader reads in a pass over its files.

    None if it is unknown, or would take long to find out: files are not on this machine, larger than 2 GB together,
    sampled by weights, or cannot be read.
    """
    paths = input_files(reader)
    if reader.sample_from_datasets_weights or not paths or any(map(files.is_remote, paths)):
        return None
    try:
        sizes = [files.size(path) for path in paths]
        if sum(sizes) > _MOST_BYTES_TO_COUNT:
            return None
        num_records = sum(map(_count_in, paths, sizes))
    except OSError:
        return None  # whoever reads the records says what is wrong with them
    return -(-num_records // max(reader.sample_1_of_n_examples, 1))


@functools.lru_cache(maxsize=1024)
def _count_in(path: str, size: int) -> int:
    """The number of records in a TFRecord file: each is an 8-byte length, 4 bytes, the data, and 4 bytes."""
    num_records = position = 0
    with files.open_local(path) as file:
        while position < size:
            file.seek(position)
            position += 16 + int.from_bytes(file.read(8), "little")
            num_records += 1
    return num_records


def serialized_records(path: str) -> Iterator[bytes]:
    """The records of a TFRecord file, whose checksums are not compared.

    Raises:
      OSError: the file cannot be read.
      EOFError: it ends within a record.
    """
    if files.is_remote(path):
        try:
            yield from tf.data.TFRecordDataset(path).as_numpy_iterator()
        except tf.errors.DataLossError as error:
            raise EOFError from error
        except tf.errors.OpError as error:
            raise OSError(files.reason(error)) from error
        return
    with files.open_local(path) as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0:
            length = int.from_bytes(file.read(12)[:8], "little")  # and 4 bytes of checksum
            left -= 16 + length
            if left < 0:
                raise EOFError
            yield file.read(length + 4)[:length]


def size(file: str) -> int:
    """The length of a record file in bytes.

    Raises:
      ODEvalError: it cannot be looked up.
    """
    try:
        return files.size(file)
    except OSError as error:
        raise ODEvalError(f"'{file}' cannot be looked up: {files.reason(error)}") from error


def find_broken_record(reader: input_reader_pb2.InputReader) -> str | None:
    """Reads record files until something in them cannot be used, to explain why an input pipeline failed.

    Args:
      reader: a reader of TFRecord files. Examples in them are checked; sequence examples are not.

    Returns:
      A clause that names file, record (counted from 0) and fault, or None if there is no fault.
    """
    has_examples = reader.input_type != input_reader_pb2.InputType.Value("TF_SEQUENCE_EXAMPLE")
    for file in input_files(reader):
        num_whole = 0
        try:
            for record in tf.data.TFRecordDataset(file):
                fault = _fault_of_example(record.numpy()) if has_examples else None
                if fault:
                    return f"record {num_whole} of '{file}' {fault}"
                num_whole += 1
        except tf.errors.DataLossError:
            return f"'{file}' is truncated or corrupt at record {num_whole}"
        except tf.errors.OpError as error:
            return f"'{file}' cannot be read ({error.message.strip()})"
    return None


def _fault_of_example(serialized: bytes) -> str | None:
    try:
        example = record_contents.parse(serialized)
        tf.io.decode_image(example.features.feature["image/encoded"].bytes_list.value[0], expand_animations=False)
    except record_contents.BrokenRecord as error:
        return str(error)
    except tf.errors.OpError as error:
        name = record_contents.name_of_image(example.features.feature)
        return f"holds an image that does not decode, {name} ({files.reason(error)})"
    return None
