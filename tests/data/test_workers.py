"""Images converted in worker processes; that these end with the program is tested in tests/programs."""

from __future__ import annotations

import multiprocessing

import pytest

from od_eval.data.annotations import AnnotatedImage, AnnotatedObject
from od_eval.data.conversion import convert_dataset
from od_eval.data.encoding import Encoding
from od_eval.data.workers import convert_images, default_num_workers
from od_eval.errors import ODEvalError


def annotated(path, number: int) -> list[AnnotatedImage]:
    box = AnnotatedObject("cat", (1, 2, 3, 4), "here")
    return [AnnotatedImage(str(path), "1.jpg", "1.jpg", str(id), None, [box], "here") for id in range(number)]


def test_images_come_back_in_order_from_several_processes(tmp_path, write_image) -> None:
    images = annotated(write_image(tmp_path / "1.jpg"), 50)
    alone, together = (list(convert_images(images, Encoding({"cat": 1}), workers)) for workers in (1, 2))
    assert [one.features["image/source_id"] for one in alone] == [[str(id).encode()] for id in range(50)]
    assert alone == together


def test_a_worker_that_is_ended_from_outside_is_said_so(tmp_path, write_image) -> None:
    images = annotated(write_image(tmp_path / "1.jpg"), 4000)
    converted = convert_images(images, Encoding({"cat": 1}), 2)
    next(converted)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(ODEvalError, match="set num_workers to a lower number"):
        list(converted)


def test_few_images_are_not_worth_a_process() -> None:
    assert default_num_workers(999) == 1
    assert default_num_workers(1000) >= 1


@pytest.mark.parametrize("number", [0, -1, 1000, 10**30])
def test_more_processes_than_a_machine_gains_from_are_refused(tmp_path, boxes_csv, number) -> None:
    with pytest.raises(ODEvalError, match=f"^num_workers={number} is not from 1 to "):
        convert_dataset(boxes_csv, tmp_path / "out", images_dir=tmp_path / "photos", num_workers=number)
    assert not (tmp_path / "out").exists()
