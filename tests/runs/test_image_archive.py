"""images.zip: which images it has, what is in it, and what happens to it when the evaluation set changes."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_images import one_image
from od_eval.runs import image_archive
from od_eval.runs.image_archive import ImageArchive


def pixels(level: int, height: int = 60, width: int = 90) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def batch(id: int | str, image: np.ndarray | None):
    made = one_image(image_ids=[id])
    made.images = [] if image is None else [image]
    return made


def filled(run_dir: Path, images: dict[int | str, np.ndarray | None], **arguments) -> ImageArchive:
    archive = ImageArchive(str(run_dir), **arguments)
    for id, image in images.items():
        archive.update(batch(id, image))
    return archive


def names(run_dir: Path) -> list[str]:
    return zipfile.ZipFile(run_dir / "images.zip").namelist()


def test_images_are_small_jpegs_by_their_ids(tmp_path) -> None:
    archive = filled(tmp_path, {"a.jpg": pixels(100, 600, 900), 7: pixels(50), "../../etc": pixels(10), "none": None})
    assert archive.write() == 0
    with zipfile.ZipFile(tmp_path / "images.zip") as opened:
        first, second, third = opened.namelist()
        assert (first, second) == ("a.jpg.jpg", "7.jpg")
        assert "/" not in third
        assert Image.open(io.BytesIO(opened.read(first))).size == (320, 213)
        assert Image.open(io.BytesIO(opened.read(second))).size == (90, 60)  # it is not made larger
    assert abs(int(archive.image(7).mean()) - 50) <= 2
    assert "a.jpg" in archive
    assert "none" not in archive


def test_gray_images_are_images(tmp_path) -> None:
    archive = filled(tmp_path, {1: np.full((20, 30, 1), 9, np.uint8), 2: np.full((20, 30), 9, np.uint8)})
    archive.write()
    assert archive.image(1).shape == archive.image(2).shape == (20, 30, 3)


def test_what_is_in_it_is_not_encoded_again_and_an_equal_set_not_written_again(tmp_path, monkeypatch) -> None:
    images = {id: pixels(id) for id in range(3)}
    first = filled(tmp_path, images)
    first.write()
    written = (tmp_path / "images.zip").stat().st_ino
    monkeypatch.setattr(image_archive, "_jpeg", lambda image: pytest.fail("encoded again"))
    for before in (first, None):  # in the same process, and in another
        filled(tmp_path, images, before=before).write()
        assert (tmp_path / "images.zip").stat().st_ino == written


def test_an_archive_follows_its_evaluation_set(tmp_path) -> None:
    filled(tmp_path, {1: pixels(1), 2: pixels(2)}).write()
    filled(tmp_path, {2: pixels(2), 3: pixels(3)}).write()
    assert names(tmp_path) == ["2.jpg", "3.jpg"]


def test_pictures_of_other_images_with_the_same_ids_are_replaced_and_it_is_said(tmp_path, capsys) -> None:
    filled(tmp_path, {0: pixels(10), 1: pixels(200)}).write()
    filled(tmp_path, {0: pixels(10), 1: pixels(200)}).write()
    assert not capsys.readouterr().err
    shuffled = filled(tmp_path, {0: pixels(200), 1: pixels(10)})
    shuffled.write()
    assert f"note: the image 0 is not what it was; '{tmp_path}/images.zip' is written anew" in capsys.readouterr().err
    for archive in (shuffled, ImageArchive(str(tmp_path))):
        assert [round(archive.image(id).mean(), -1) for id in (0, 1)] == [200, 10]


def test_only_so_many_are_kept_and_the_others_are_counted(tmp_path) -> None:
    archive = filled(tmp_path, {id: pixels(id) for id in range(5)}, most=3)
    assert archive.write() == 2
    assert names(tmp_path) == ["0.jpg", "1.jpg", "2.jpg"]
    assert 4 not in archive


def test_archives_of_several_evaluators_merge(tmp_path) -> None:
    one, other = filled(tmp_path, {1: pixels(1)}, most=2), filled(tmp_path, {2: pixels(2), 3: pixels(3)})
    one.merge(other)
    assert one.write() == 1
    assert names(tmp_path) == ["1.jpg", "2.jpg"]


def test_images_that_were_not_even_sent_count_as_without_room(tmp_path) -> None:
    archive = filled(tmp_path, {1: pixels(1), 2: pixels(2)}, most=2)
    archive.update(dataclasses.replace(batch(3, pixels(3)), images=[]))
    assert archive.write() == 1


@pytest.mark.parametrize("contents", [b"", b"PK\3\4 not a zip", b"x" * 1000])
def test_a_damaged_archive_is_written_anew_and_it_is_said(tmp_path, contents, capsys) -> None:
    (tmp_path / "images.zip").write_bytes(contents)
    filled(tmp_path, {1: pixels(1)}).write()
    assert f"warning: '{tmp_path}/images.zip' is damaged" in capsys.readouterr().err
    assert names(tmp_path) == ["1.jpg"]


def test_an_image_that_is_none_costs_the_archive_and_not_the_evaluation(tmp_path) -> None:
    archive = filled(tmp_path, {1: pixels(1), 2: np.zeros((4, 4, 7))})
    assert archive.evaluate() == {}
    with pytest.raises(TypeError):
        archive.write()
    assert not (tmp_path / "images.zip").exists()
