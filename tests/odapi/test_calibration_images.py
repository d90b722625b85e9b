"""Which images of the training set a quantized model is calibrated with, and what is said of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_config import CONFIG, LABEL_MAP, error_of, load

from od_eval.odapi.calibration_images import choose_calibration_images

IDS = {"a": 1, "b": 2, "c": 3}  # a name of one letter for each category of the label map


def image(number: int, encode=tf.io.encode_png) -> bytes:
    """An image that tells its number."""
    return encode(np.full((8, 8, 3), number, np.uint8)).numpy()


def record(encoded: bytes, categories: str, with_text: bool = True) -> bytes:
    """A record with an object of each of the categories, one letter each."""
    corners = {"ymin": 0.1, "xmin": 0.1, "ymax": 0.5, "xmax": 0.5}
    lists = {
        "image/encoded": {"bytes_list": tf.train.BytesList(value=[encoded])},
        "image/object/class/label": {"int64_list": tf.train.Int64List(value=[IDS[one] for one in categories])},
        **{
            f"image/object/bbox/{corner}": {"float_list": tf.train.FloatList(value=[value] * len(categories))}
            for corner, value in corners.items()
        },
    }
    if with_text:
        texts = [f"class {IDS[one]}".encode() for one in categories]
        lists["image/object/class/text"] = {"bytes_list": tf.train.BytesList(value=texts)}
    feature = {name: tf.train.Feature(**kind) for name, kind in lists.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path: Path, *records: bytes) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in records:
            writer.write(one)


def write_train(folder: Path, shown: list[str], with_text: bool = True) -> None:
    """Training records, in two files, that show these categories; each image tells the number of its record."""
    records = [record(image(number), categories, with_text) for number, categories in enumerate(shown)]
    half = len(records) // 2
    write(folder / "train-00000-of-00002", *records[:half])
    write(folder / "train-00001-of-00002", *records[half:])


def numbers_of(chosen) -> list[int]:
    """The records of which images were chosen."""
    return [int(one[0, 0, 0]) for one in chosen.decoded()]


@pytest.mark.parametrize("with_text", [True, False])
def test_each_category_has_its_share_however_rare_it_is(folder, with_text):
    shown = ["a"] * 150 + ["b"] * 4 + ["c"] * 30 + ["ab"] * 2
    write_train(folder, shown, with_text)
    chosen = choose_calibration_images(load(folder), 21)
    numbers = numbers_of(chosen)
    assert len(set(numbers)) == len(numbers) == 21
    counted = Counter(category for number in numbers for category in shown[number])
    assert counted["b"] == 6  # all there are
    assert 7 <= counted["a"] <= 10
    assert 7 <= counted["c"] <= 8
    assert chosen.num_showing == {f"class {IDS[one]}": counted[one] for one in "abc"}
    assert chosen.reader == "train_input_reader"
    # Of the frequent ones not just the first, which are often alike.
    assert max(number for number in numbers if number < 150) > 50


def test_the_same_records_give_the_same_images(folder):
    write_train(folder, ["a", "b", "c", "ab"] * 20)
    assert choose_calibration_images(load(folder), 9) == choose_calibration_images(load(folder), 9)


def test_images_without_objects_are_taken_only_if_there_are_no_others(folder):
    write_train(folder, [""] * 50 + ["a", "b", "b", "c"])
    assert sorted(numbers_of(choose_calibration_images(load(folder), 4))) == [50, 51, 52, 53]
    assert len(set(numbers_of(choose_calibration_images(load(folder), 10)))) == 10
    assert len(set(numbers_of(choose_calibration_images(load(folder), 1000)))) == 54


def test_categories_without_images_and_records_that_cannot_be_used_are_told(folder):
    jpeg = image(7, tf.io.encode_jpeg)
    write(folder / "train-00000-of-00002", record(jpeg, "a"), b"no example", record(jpeg[: len(jpeg) // 2], "a"))
    write(folder / "train-00001-of-00002", record(jpeg, "ac"))
    path = folder / "train-00001-of-00002"
    path.write_bytes(path.read_bytes() + b"\x05")
    chosen = choose_calibration_images(load(folder), 10)
    assert len(chosen.encoded) == 2
    summary, without, unusable = chosen.sentences()
    assert summary == "Calibration with 2 images of train_input_reader: class 1 in 2, class 3 in 1."
    assert without == "No calibration image shows class 2, of which train_input_reader has no object."
    assert unusable.startswith("Not used for calibration: 3 (first: record 1 of '")
    assert "is not a tf.train.Example" in unusable


def test_a_category_with_fewer_turns_than_images_is_not_said_to_have_no_object(folder):
    write_train(folder, ["a", "b", "c"] * 3)
    chosen = choose_calibration_images(load(folder), 2)
    assert [sentence for sentence in chosen.sentences() if "class 3" in sentence] == [
        "No calibration image shows class 3, as there are only 2 of them; take more."
    ]


def test_without_training_files_the_evaluation_set_is_used_and_it_is_said(folder, capsys):
    for path in folder.glob("train-*"):
        path.unlink()
    write(folder / "day.record", record(image(9), "b"))
    chosen = choose_calibration_images(load(folder), 3)
    assert numbers_of(chosen) == [9]
    assert chosen.reader == "eval_input_reader[0]"
    assert "The files of train_input_reader are not there; eval_input_reader[0] is used" in capsys.readouterr().out


def test_without_any_images_it_is_said_what_to_do(folder):
    message = error_of(choose_calibration_images, load(folder), 3)
    assert message.startswith(
        "train_input_reader.tf_record_input_reader.input_path has no image to calibrate int8 with;"
    )
    for path in [*folder.glob("train-*"), folder / "day.record"]:
        path.unlink()
    message = error_of(choose_calibration_images, load(folder), 3)
    assert message.startswith(f"{folder}/pipeline.config: int8 is calibrated with images of train_input_reader, and")
    assert "no files train-?????-of-00002, and" in message
    assert message.endswith("choose dynamic or float16, which need no images.")


def test_names_of_others_are_shown_on_one_line(folder):
    (folder / "label_map.pbtxt").write_text(LABEL_MAP.replace("class 2", "cl\\nass\\x1b[31m 2"))
    write_train(folder, ["a", "c"], with_text=False)
    for sentence in choose_calibration_images(load(folder), 3).sentences():
        assert sentence.isprintable()


def test_without_a_label_map_categories_have_their_numbers(folder):
    (folder / "pipeline.config").write_text(CONFIG.replace('label_map_path: "label_map.pbtxt"', "", 1))
    write_train(folder, ["a", "c"])
    assert choose_calibration_images(load(folder), 3).num_showing == {"1": 1, "2": 0, "3": 1}
