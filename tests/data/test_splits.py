"""Which images are for training and which for validation."""

from __future__ import annotations

import pytest

from od_eval.data.conversion import convert_dataset
from od_eval.errors import ODEvalError

from .helpers import reasons


def test_the_split_has_every_image_once_and_the_asked_part_for_validation(tmp_path, boxes_csv, read_records, decode):
    convert_dataset(boxes_csv, tmp_path / "out", images_dir=tmp_path / "photos", validation=0.25)
    names = {
        split: [decode(record)["filename"].decode() for record in read_records(tmp_path / "out", split)]
        for split in ("train", "validation")
    }
    assert len(names["validation"]) == 10
    assert sorted(names["train"] + names["validation"]) == sorted(f"{index}.jpg" for index in range(40) if index != 7)
    assert names["train"] != sorted(names["train"])


@pytest.mark.parametrize("style", ["{}.jpg", "{}", "C:\\photos\\{}.jpg"])
def test_the_split_can_be_a_list_of_names(tmp_path, boxes_csv, read_records, decode, style) -> None:
    names = [style.format(index) for index in (3, 5, 99)]
    (tmp_path / "val.txt").write_text("\n".join(["", *names]))
    conversion = convert_dataset(
        boxes_csv, tmp_path / "out", images_dir=tmp_path / "photos", validation=tmp_path / "val.txt"
    )
    records = read_records(tmp_path / "out", "validation")
    assert [decode(record)["filename"] for record in records] == [b"3.jpg", b"5.jpg"]
    assert reasons(conversion)[("name in the validation list that is no annotated image", "image")] == 1


def test_a_list_that_names_no_image_is_an_error(tmp_path, boxes_csv) -> None:
    (tmp_path / "val.txt").write_text("nothing\n")
    for path, message in ((tmp_path / "val.txt", "names no image"), (tmp_path / "no.txt", "cannot be read")):
        with pytest.raises(ODEvalError, match=message):
            convert_dataset(boxes_csv, tmp_path / "out", images_dir=tmp_path / "photos", validation=path)


@pytest.mark.parametrize("fraction", [float("nan"), float("inf"), -0.1, 1.5, 1e308])
def test_a_fraction_is_from_0_to_1(tmp_path, boxes_csv, fraction) -> None:
    with pytest.raises(ODEvalError, match=r"the fraction .* is .*; it must be from 0 to 1"):
        convert_dataset(boxes_csv, tmp_path / "out", images_dir=tmp_path / "photos", validation=fraction)


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000])
def test_a_list_whose_path_no_file_can_have_is_an_error(tmp_path, boxes_csv, path) -> None:
    with pytest.raises(ODEvalError, match="cannot be read"):
        convert_dataset(boxes_csv, tmp_path / "out", images_dir=tmp_path / "photos", validation=path)
