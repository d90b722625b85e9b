from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from od_eval import files
from od_eval.data.tfrecord import choose_num_shards, dataset_folder, shard_pattern, shard_slices, write_shard
from od_eval.errors import ODEvalError


def write_shards(folder: str, split: str, num_shards: int, examples) -> None:
    """Writes all examples into the first file of a split, and none into the others."""
    for shard in range(num_shards):
        write_shard(f"{folder}/{split}-{shard:05d}-of-{num_shards:05d}", examples if shard == 0 else ())


def test_a_shard_holds_records_in_order_with_every_kind_of_feature(tmp_path, read_records) -> None:
    import tensorflow as tf

    examples = [
        {"bytes": [b"", b"\xff"], "floats": [0.5, -1e30], "ints": [index, -(2**63)], "empty": []} for index in range(10)
    ]
    write_shard(tmp_path / "train-00000-of-00001", iter(examples))
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00001"]
    features = [tf.train.Example.FromString(record).features.feature for record in read_records(tmp_path, "train")]
    assert [one["ints"].int64_list.value[0] for one in features] == list(range(10))
    for one in features:
        assert set(one) == {"bytes", "floats", "ints", "empty"}
        assert list(one["bytes"].bytes_list.value) == [b"", b"\xff"]
        np.testing.assert_allclose(one["floats"].float_list.value, [0.5, -1e30])
        assert one["empty"].WhichOneof("kind") is None


def test_a_dataset_appears_whole_or_not_at_all(tmp_path) -> None:
    folder = tmp_path / "new" / "dataset"
    with pytest.raises(ZeroDivisionError), dataset_folder(folder, ["train"], [], overwrite=False) as aside:
        write_shards(aside, "train", 2, ({"a": [1 // (1 - index)]} for index in range(2)))
    assert not folder.exists()
    with dataset_folder(folder, ["train"], ["label_map.pbtxt"], overwrite=False) as aside:
        write_shards(aside, "train", 1, [{}])
        files.write_whole(f"{aside}/label_map.pbtxt", "")
    assert sorted(path.name for path in folder.iterdir()) == ["label_map.pbtxt", "train-00000-of-00001"]


def test_what_a_killed_run_left_is_cleared_away(tmp_path) -> None:
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "train-00000-of-00009").touch()
    with dataset_folder(tmp_path, ["train"], [], overwrite=False) as aside:
        write_shards(aside, "train", 1, [{}])
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00001"]


def test_earlier_files_are_kept_unless_they_may_be_replaced(tmp_path) -> None:
    earlier = [tmp_path / f"train-0000{shard}-of-00002" for shard in range(2)]
    for path in [*earlier, tmp_path / "validation-00000-of-00001", tmp_path / "notes.txt"]:
        path.write_text("earlier")
    with (
        pytest.raises(ODEvalError, match=r"already contains train-00000-of-00002.*set overwrite"),
        dataset_folder(tmp_path, ["train"], [], overwrite=False),
    ):
        pass
    with pytest.raises(ZeroDivisionError), dataset_folder(tmp_path, ["train"], [], overwrite=True):
        _ = 1 / 0
    assert all(path.read_text() == "earlier" for path in earlier)
    with dataset_folder(tmp_path, ["train"], [], overwrite=True) as aside:
        write_shards(aside, "train", 1, [{}])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "notes.txt",
        "train-00000-of-00001",
        "validation-00000-of-00001",
    ]


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path) -> None:
    (tmp_path / "file").touch()
    for folder, message in (
        (tmp_path / "file", "cannot be written to .*file': Not a directory"),
        (Path("gs://bucket/data"), "written to 'gs:/bucket/data': it has one slash after the colon, so write two"),
        ("nosuch://bucket/data", "cannot be written to 'nosuch://bucket/data': "),
        ("", "the output folder has no name; write . for the working directory"),
        (tmp_path / "a\udcff", "whose name is not UTF-8"),
        (tmp_path / ("x" * 300), "cannot be written to .*: File name too long"),
    ):
        with pytest.raises(ODEvalError, match=message), dataset_folder(folder, ["train"], [], overwrite=False):
            pass


@pytest.mark.parametrize(("num_images", "num_shards"), [(1, 1), (7, 3), (500, 2), (1001, 3)])
def test_shards_are_as_large_as_each_other_and_have_every_image_once_in_order(num_images, num_shards) -> None:
    parts = [range(num_images)[part] for part in shard_slices(num_images, num_shards)]
    assert [image for part in parts for image in part] == list(range(num_images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_there_is_a_shard_for_500_images_however_many_there_are() -> None:
    assert [choose_num_shards(number) for number in (1, 500, 501, 1_000_000, 10**9)] == [1, 1, 2, 2000, 99_999]
    assert [choose_num_shards(10, wanted) for wanted in (3, 99_999)] == [3, 10]
    assert shard_pattern("train", choose_num_shards(10**9)) == "train-?????-of-99999"
    with pytest.raises(ODEvalError, match="num_shards=100000 is more than 99999"):
        choose_num_shards(10**9, 100_000)
