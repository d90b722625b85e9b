from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from od_eval.data.tfrecord import crc32c, dataset_folder, encode_example, write_shards
from od_eval.errors import ODEvalError


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, appendix B.4, and the usual check value
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc_is_that_of_the_standard(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


def test_crc_of_long_data_is_that_of_its_bytes_one_by_one() -> None:
    data = np.random.default_rng(0).bytes(1000)

    def slow(data: bytes) -> int:
        state = 0xFFFFFFFF
        for byte in data:
            state ^= byte
            for _ in range(8):
                state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
        return state ^ 0xFFFFFFFF

    for length in (63, 64, 65, 127, 128, 129, 192, 193, 257, 1000):
        assert crc32c(data[:length]) == slow(data[:length]), length


def test_tensorflow_reads_the_example_that_was_encoded() -> None:
    import tensorflow as tf

    features = {
        "bytes": [b"", b"\x00\xff", "grün".encode()],
        "floats": np.array([0.1, -1e30, np.inf]),
        "ints": [0, 1, 127, 128, -1, 2**62, -(2**63)],
        "bools": [True, False],
        "empty": [],
        "long": [bytes(100_000)],
    }
    example = tf.train.Example.FromString(encode_example(features)).features.feature
    assert set(example) == set(features)
    assert list(example["bytes"].bytes_list.value) == features["bytes"]
    assert list(example["floats"].float_list.value) == list(features["floats"].astype(np.float32))
    assert list(example["ints"].int64_list.value) == features["ints"]
    assert list(example["bools"].int64_list.value) == [1, 0]
    assert example["empty"].WhichOneof("kind") is None
    assert list(example["long"].bytes_list.value) == features["long"]


def test_shards_hold_all_records_in_order_and_evenly(tmp_path, read_records) -> None:
    records = [bytes([index]) * (index * 50 + 1) for index in range(10)]
    write_shards(tmp_path, "train", 3, [*records[:5], b"", *records[5:]], total=11)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"train-0000{shard}-of-00003" for shard in range(3)]
    assert read_records(tmp_path, "train") == records
    assert all(path.stat().st_size for path in tmp_path.iterdir())


def test_a_dataset_appears_whole_or_not_at_all(tmp_path) -> None:
    folder = tmp_path / "new" / "dataset"
    with pytest.raises(ZeroDivisionError), dataset_folder(folder, ["train"], [], overwrite=False) as aside:
        write_shards(aside, "train", 2, (bytes(1 // (1 - index)) for index in range(2)), total=2)
    assert not folder.exists()
    with dataset_folder(folder, ["train"], ["label_map.pbtxt"], overwrite=False) as aside:
        write_shards(aside, "train", 1, [b"1"], total=1)
        (aside / "label_map.pbtxt").write_text("")
    assert sorted(path.name for path in folder.iterdir()) == ["label_map.pbtxt", "train-00000-of-00001"]


def test_what_a_killed_run_left_is_cleared_away(tmp_path) -> None:
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "train-00000-of-00009").touch()
    with dataset_folder(tmp_path, ["train"], [], overwrite=False) as aside:
        write_shards(aside, "train", 1, [b"1"], total=1)
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00001"]


def test_earlier_files_are_kept_unless_they_may_be_replaced(tmp_path) -> None:
    earlier = [tmp_path / f"train-0000{shard}-of-00002" for shard in range(2)]
    for path in [*earlier, tmp_path / "validation-00000-of-00001", tmp_path / "notes.txt"]:
        path.write_text("earlier")
    with (
        pytest.raises(ODEvalError, match=r"already holds train-00000-of-00002.*--overwrite"),
        dataset_folder(tmp_path, ["train"], [], overwrite=False),
    ):
        pass
    with pytest.raises(ZeroDivisionError), dataset_folder(tmp_path, ["train"], [], overwrite=True):
        _ = 1 / 0
    assert all(path.read_text() == "earlier" for path in earlier)
    with dataset_folder(tmp_path, ["train"], [], overwrite=True) as aside:
        write_shards(aside, "train", 1, [b"1"], total=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "notes.txt",
        "train-00000-of-00001",
        "validation-00000-of-00001",
    ]


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path) -> None:
    (tmp_path / "file").touch()
    for folder, message in (
        (tmp_path / "file", "cannot be written to .*file': Not a directory"),
        (Path("gs://bucket/data"), "not a local folder"),
    ):
        with pytest.raises(ODEvalError, match=message), dataset_folder(folder, ["train"], [], overwrite=False):
            pass
