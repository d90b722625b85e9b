"""TFRecord files of `tf.train.Example`s, written without TensorFlow.

Importing TensorFlow takes longer than converting a few hundred images, and every worker process would import it. Both
formats are small and frozen: https://www.tensorflow.org/tutorials/load_data/tfrecord describes them.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from od_eval.errors import ODEvalError

Feature = Sequence[bytes] | Sequence[float] | Sequence[int]


def encode_example(features: Mapping[str, Feature]) -> bytes:
    """A `tf.train.Example` as bytes; the same features give the same bytes.

    Args:
      features: key -> bytes, floats or ints (bools too), all of one kind; an empty list is a feature without values.

    Returns:
      The serialized message.
    """
    entries = []
    for key in sorted(features):
        entry = _field(1, key.encode()) + _field(2, _encode_feature(features[key]))
        entries.append(_field(1, entry))
    return _field(1, b"".join(entries))


def _encode_feature(values: Feature) -> bytes:
    if len(values) == 0:
        return b""  # a Feature of no kind, as its kind does not matter
    if isinstance(values[0], bytes):
        return _field(1, b"".join(_field(1, value) for value in values))  # bytes_list
    if isinstance(values[0], float | np.floating):
        return _field(2, _field(1, np.asarray(values, "<f4").tobytes()))  # float_list, packed
    return _field(3, _field(1, b"".join(_varint(int(value)) for value in values)))  # int64_list, packed


def _field(number: int, payload: bytes) -> bytes:
    """A field of a protocol buffer that has a length: a message, bytes, or packed numbers."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF  # two's complement
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def frame(record: bytes) -> bytes:
    """`record` as it stands in a TFRecord file, with its length and checksums."""
    length = struct.pack("<Q", len(record))
    return length + _masked_crc(length) + record + _masked_crc(record)


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


# ---- CRC-32C --------------------------------------------------------------------------------------------------------
# zlib has another polynomial than TFRecord. A loop over bytes would take longer than all else in a conversion: here
# NumPy computes the remainders of all blocks of a message side by side and then joins them.

_BLOCK = 64  # bytes


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli, RFC 3720) of `data`; about 100 MB/s."""
    if len(data) < _BLOCK:
        state = 0xFFFFFFFF
        for byte in data:
            state = _BYTE_TABLE[(state ^ byte) & 0xFF] ^ state >> 8
        return state ^ 0xFFFFFFFF
    # Zeros in front change nothing where the register starts at 0. That it starts with all bits set is the same as
    # inverting the first four bytes.
    num_blocks = 1 << ((len(data) - 1) // _BLOCK).bit_length()
    message = np.zeros(num_blocks * _BLOCK, np.uint8)
    message[-len(data) :] = np.frombuffer(data, np.uint8)
    message[-len(data) :][:4] ^= 0xFF

    states = np.zeros(num_blocks, np.uint32)
    for words in np.ascontiguousarray(message.view("<u2").reshape(num_blocks, _BLOCK // 2).T):
        states = _append_word(states, words)
    level = 0
    while len(states) > 1:  # join neighbours: the left one is followed by as many bytes as the right one has
        states = _apply(_appended_zeros(level), states[0::2]) ^ states[1::2]
        level += 1
    return int(states[0]) ^ 0xFFFFFFFF


def _append_byte(states: np.ndarray) -> np.ndarray:
    for _ in range(8):
        states = np.where(states & 1, states >> 1 ^ 0x82F63B78, states >> 1).astype(np.uint32)
    return states


_BYTE_TABLE = _append_byte(np.arange(1 << 8, dtype=np.uint32)).tolist()
_WORD_TABLE = _append_byte(_append_byte(np.arange(1 << 16, dtype=np.uint32)))


def _append_word(states: np.ndarray, words: np.ndarray | int) -> np.ndarray:
    """The registers `states` after two more bytes each."""
    return _WORD_TABLE.take(states.astype(np.uint16) ^ words) ^ states >> 16


@functools.cache
def _appended_zeros(level: int) -> np.ndarray:
    """What `_BLOCK << level` zero bytes make of a register, for each value of each of its bytes: uint32 [4, 256]."""
    if level > 0:
        half = _appended_zeros(level - 1)
        return _apply(half, half)
    states = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], np.uint32)
    for _ in range(_BLOCK // 2):
        states = _append_word(states, np.uint16(0))
    return states


def _apply(operator: np.ndarray, states: np.ndarray) -> np.ndarray:
    first, second, third, fourth = operator
    return first[states & 255] ^ second[states >> 8 & 255] ^ third[states >> 16 & 255] ^ fourth[states >> 24]


# ---- The files of a dataset -----------------------------------------------------------------------------------------


def shard_name(split: str, index: int, num_shards: int) -> str:
    """The name of one file of a split: "train-00000-of-00010"."""
    return f"{split}-{index:05d}-of-{num_shards:05d}"


def shard_pattern(split: str, num_shards: int) -> str:
    """The name of all of them, as a config takes it: "train-?????-of-00010"."""
    return f"{split}-?????-of-{num_shards:05d}"


def write_shards(folder: Path, split: str, num_shards: int, records: Iterable[bytes], total: int) -> None:
    """Writes records into the files of a split, in order, as evenly as it goes.

    Args:
      folder: where to.
      split: "train" or "validation".
      num_shards: how many files.
      records: the records; an empty one is counted, but not written.
      total: how many there are.
    """
    remaining = iter(records)
    for shard in range(num_shards):
        with (folder / shard_name(split, shard, num_shards)).open("wb") as file:
            for _ in range(total * shard // num_shards, total * (shard + 1) // num_shards):
                record = next(remaining)
                if record:
                    file.write(frame(record))


@contextlib.contextmanager
def dataset_folder(folder: Path, splits: Sequence[str], files: Sequence[str], overwrite: bool) -> Iterator[Path]:
    """A place to write a dataset to, which appears in `folder` when it is whole, and not at all if anything goes wrong.

    Args:
      folder: the folder of the dataset; made where it is missing.
      splits: the splits that are going to be written.
      files: the names of other files that are going to be written.
      overwrite: whether files of these splits and names that are there already are replaced; another number of shards
        replaces them too.

    Yields:
      A folder to write to.

    Raises:
      ODEvalError: there are such files already and `overwrite` is false, or the disk does not take what is written.
    """
    if re.match(r"\w\w+:/", str(folder)):  # gs://…, which Path has made gs:/…
        raise ODEvalError(f"'{folder}' is not a local folder; write to one and copy the files from there.")
    aside = folder / ".unfinished"  # the same name each time, so that what a killed run left is cleared away
    try:
        existing = [path for split in splits for path in folder.glob(f"{split}-?????-of-?????")]
        existing += [folder / name for name in files if (folder / name).exists()]
        if existing and not overwrite:
            names = ", ".join(sorted(path.name for path in existing)[:3]) + ("" if len(existing) <= 3 else ", …")
            raise ODEvalError(f"'{folder}' already holds {names}; give another --output_dir, or --overwrite.")
        is_new = not folder.exists()
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir(parents=True)
        try:
            yield aside
            for path in existing:
                path.unlink()
            for path in sorted(aside.iterdir()):
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            if is_new:
                with contextlib.suppress(OSError):  # not empty: the dataset is in it
                    folder.rmdir()
    except OSError as error:
        raise ODEvalError(f"the dataset cannot be written to '{folder}': {error.strerror or error}.") from error
