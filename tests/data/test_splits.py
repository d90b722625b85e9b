"""Which images are for training and which for validation."""

from __future__ import annotations

import hashlib

import pytest

from od_eval.data.annotations import AnnotatedImage
from od_eval.data.conversion import convert_dataset
from od_eval.data.splits import split_images
from od_eval.errors import ODEvalError

from .helpers import reasons


def test_the_split_has_every_image_once(tmp_path, boxes_csv, read_records, decode) -> None:
    convert_dataset(boxes_csv, tmp_path / "out", images_dir=tmp_path / "photos", validation=0.25)
    names = {
        split: [decode(record)["filename"].decode() for record in read_records(tmp_path / "out", split)]
        for split in ("train", "validation")
    }
    assert names["validation"] == sorted(names["validation"])
    assert sorted(names["train"] + names["validation"]) == sorted(f"{index}.jpg" for index in range(40) if index != 7)
    assert names["train"] != sorted(names["train"])


def split(filenames, validation: float, seed: int = 0) -> tuple[list[str], list[str]]:
    """The file names for training and for validation."""
    images = [AnnotatedImage(name, name, name, name, None, [], name) for name in filenames]
    train, held_out, _ = split_images(images, validation, seed, folder=None)  # which a fraction does not need
    return [image.filename for image in train], [image.filename for image in held_out]


def test_about_the_asked_part_is_for_validation_and_its_place_is_a_hash_of_seed_and_name() -> None:
    names = [f"{index}.jpg" for index in range(10_000)]
    train, held_out = split(names, 0.2)
    assert abs(len(held_out) - 2000) < 160  # four standard deviations
    place = {name: int(hashlib.sha256(f"0 {name}".encode()).hexdigest()[:12], 16) / 16**12 for name in names}
    assert held_out == sorted(name for name in names if place[name] < 0.2)
    assert train == sorted((name for name in names if place[name] >= 0.2), key=place.__getitem__)
    assert split(names, 0.0) == (sorted(names, key=place.__getitem__), [])
    assert split(names, 1.0) == ([], sorted(names))
    assert split(names, 0.2, seed=1)[1] != held_out


def test_an_image_stays_on_its_side_when_others_come_and_go() -> None:
    train, held_out = split([f"{index}.jpg" for index in range(1000)], 0.2)
    more_train, more_held_out = split([f"{index}.jpg" for index in range(100, 3000)], 0.2)
    both = {f"{index}.jpg" for index in range(100, 1000)}
    assert both & set(more_held_out) == both & set(held_out)
    assert [name for name in more_train if name in both] == [name for name in train if name in both]


@pytest.mark.parametrize("fraction", [1e-9, 0.5, 1 - 1e-9])
def test_of_few_images_each_side_has_one(fraction) -> None:
    for number in range(2, 12):
        train, held_out = split(map(str, range(number)), fraction)
        assert train
        assert held_out
        assert sorted(train + held_out) == sorted(map(str, range(number)))


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
