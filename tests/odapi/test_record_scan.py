"""What is found in records before and beside a training, without decoding their images."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_config import CONFIG, error_of

from od_eval import Pipeline
from od_eval.odapi.record_contents import BrokenRecord, Classes, losses, parse
from od_eval.odapi.record_scan import RecordScan
from od_eval.odapi.records import find_broken_record

BOX = {"ymin": [0.1, 0.2], "xmin": [0.1, 0.2], "ymax": [0.5, 0.6], "xmax": [0.5, 0.6]}
JPEG = tf.io.encode_jpeg(np.zeros((8, 8, 3), np.uint8)).numpy()
LABEL_MAP = "item { id: 1 name: 'plate' }\nitem { id: 2 name: 'cup' display_name: 'mug' }\n"


def record(**features) -> bytes:
    """A record of two objects, a plate and a cup; features given are added or replaced, and left out if None."""
    values = {
        "image/encoded": [JPEG],
        "image/filename": [b"a.jpg"],
        **{f"image/object/bbox/{corner}": numbers for corner, numbers in BOX.items()},
        "image/object/class/text": [b"plate", b"cup"],
        "image/object/class/label": [1, 2],
        **{name.replace("__", "/"): value for name, value in features.items()},
    }
    feature = {}
    for name, value in values.items():
        if value is None:
            continue
        kinds = {float: ("float_list", tf.train.FloatList), int: ("int64_list", tf.train.Int64List)}
        field, kind = kinds.get(type(value[0]) if value else float, ("bytes_list", tf.train.BytesList))
        feature[name] = tf.train.Feature(**{field: kind(value=value)})
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.mark.parametrize(
    ("serialized", "fault"),
    [
        (b"not an example", "is not a tf.train.Example"),
        (record(image__encoded=None), "has no feature 'image/encoded'"),
        (record(image__encoded=[b""]), "'a.jpg' (it is empty)"),
        (record(image__encoded=[b"GIF89a"]), "'a.jpg' (it is a GIF; make it a JPEG or PNG)"),
        (record(image__encoded=[b"RIFF\0\0\0\0WEBPVP8 "]), "it is a WebP"),
        (record(image__object__bbox__xmin=[0, 0]), "has integers in 'image/object/bbox/xmin', which must be floats"),
        (record(image__object__class__label=[1.0, 2.0]), "has floats in 'image/object/class/label'"),
        (record(image__object__class__text=[1, 2]), "has integers in 'image/object/class/text'"),
        (record(image__source_id=[7]), "has integers in 'image/source_id', which must be strings"),
        (record(image__object__bbox__ymax=[0.5]), "has 2 values in 'image/object/bbox/ymin' and 1 in 'image/object/bb"),
        (record(image__object__class__text=[b"cup"]), "and 1 in 'image/object/class/text'"),
        (record(image__object__class__text=None, image__object__class__label=[1]), "1 in 'image/object/class/label'"),
        (record(image__object__class__text=None, image__object__class__label=None), "0 in 'image/object/class/label'"),
        (record(image__object__is_crowd=[0]), "and 1 in 'image/object/is_crowd'"),
        (record(image__object__bbox__xmax=[0.5, 60.0]), "has a box in pixels (object 1: ymin, xmin, ymax, xmax [0.2, "),
        (record(image__object__bbox__xmax=[0.5, 0.1]), "has a box with reversed corners (object 1: "),
    ],
)
def test_a_record_that_cannot_be_read_is_explained(serialized, fault):
    with pytest.raises(BrokenRecord) as error:
        parse(serialized)
    assert fault in str(error.value)


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"image__object__class__label": None},
        {"image__object__class__text": []},
        {"image__object__bbox__xmax": [1.04, 0.6], "image__object__bbox__xmin": [-0.04, 0.2]},
        {"image__object__bbox__xmax": [0.1, 0.2]},  # no area
        {"image__object__bbox__xmax": [math.inf, math.nan]},
        {f"image__object__bbox__{corner}": [] for corner in BOX}
        | {"image__object__class__text": [], "image__object__class__label": []},
        {"image__object__is_crowd": [0, 1], "image__object__area": [3.0, 4.0]},
    ],
)
def test_a_record_that_can_be_read_passes(features):
    parse(record(**features))


NAMES = {"plate": 1, "cup": 2, "mug": 2}


@pytest.mark.parametrize(
    ("features", "ids", "expected"),
    [
        ({}, NAMES, [None, None]),
        ({"image__object__class__text": [b"plate", b"mug"]}, NAMES, [None, None]),
        ({"image__object__class__text": [b"Plate", b"cup"]}, NAMES, ["dropped", None]),
        ({"image__object__class__text": [b"", b"cup"]}, NAMES, ["mistaken", None]),
        ({"image__object__class__text": None, "image__object__class__label": [0, 1]}, NAMES, ["mistaken", None]),
        ({"image__object__class__text": None, "image__object__class__label": [3, 2]}, NAMES, ["mistaken", None]),
        ({"image__object__class__text": None, "image__object__class__label": [-1, 2]}, NAMES, ["dropped", None]),
        ({"image__object__class__text": None}, {"plate": 1}, [None, "unnamed"]),
        # The text counts where there is one, and without a label map the number does.
        ({"image__object__class__label": [0, 9]}, NAMES, [None, None]),
        ({"image__object__class__label": [0, 2]}, None, ["mistaken", None]),
        ({"image__object__bbox__ymin": [0.1, math.nan]}, NAMES, [None, "dropped"]),
        ({"image__object__bbox__xmax": [math.inf, 0.6]}, NAMES, ["dropped", None]),
    ],
)
def test_what_becomes_of_each_object(features, ids, expected):
    found = losses(parse(record(**features)), Classes(ids, num_classes=2, path="map.pbtxt"))
    assert [loss and loss.how for loss in found] == expected


def write(folder: Path, *records: bytes, name: str = "train-00000-of-00002", label_map: str = LABEL_MAP) -> None:
    (folder / "label_map.pbtxt").write_text(label_map)
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for one in records:
            writer.write(one)


@pytest.fixture
def scan(folder):
    def scan(seconds: float = 60) -> RecordScan:
        pipeline = Pipeline.load(folder / "pipeline.config", "model.ssd.num_classes=2")
        scan = RecordScan(pipeline, {"train_input_reader": pipeline.config.train_input_reader})
        scan.begin(seconds)
        return scan

    return scan


def sentences(scan: RecordScan) -> list[tuple[str, str]]:
    return [(finding.severity, str(finding)) for finding in scan.findings()]


def test_objects_of_categories_are_counted_once_all_records_are_read(folder, scan):
    write(folder, record(), record(image__object__class__text=[b"mug", b"Cup"]))
    categories = {1: "plate", 2: "mug", 3: "fork"}
    counted = scan().objects_of_categories("train_input_reader", categories)
    assert counted == {"plate": 1, "mug": 2, "fork": 0}  # by name and by display name; what is dropped is none
    assert scan().objects_of_categories("eval_input_reader[0]", categories) is None


def test_what_is_dropped_is_counted_with_its_first_record(folder, scan):
    write(folder, record(), record(image__object__class__text=[b"plate", b"Cup"]))
    write(folder, record(image__object__class__text=[b"spoon", b"Cup"]), name="train-00001-of-00002")
    (severity, first), (_, second) = sentences(scan())
    assert severity == "warning"
    assert first == (
        f"train_input_reader: 2 of 6 objects in 3 records are dropped: class 'Cup' is not in label map"
        f" {folder}/label_map.pbtxt (first: record 1 of '{folder}/train-00000-of-00002'); correct the label map or the"
        " records; did you mean 'cup'."
    )
    assert "1 of 6 objects in 3 records is dropped: class 'spoon'" in second
    assert f"record 0 of '{folder}/train-00001-of-00002'" in second


def test_a_class_of_the_label_map_without_objects_is_a_hint_at_a_renamed_one(folder, scan):
    write(folder, record(), label_map="item { id: 1 name: 'plate' }\nitem { id: 2 name: 'vessel' }")
    ((_, sentence),) = sentences(scan())
    assert "class 'cup' is not in label map" in sentence
    assert "where 'vessel' has no object" in sentence


def test_an_error_is_what_would_be_trained_wrong_or_leaves_nothing(folder, scan):
    write(folder, record(image__object__class__text=None, image__object__class__label=[0, 1]))
    ((severity, sentence),) = sentences(scan())
    assert severity == "error"
    assert "1 of 2 objects in 1 record would become background or another class: class label 0" in sentence
    write(folder, record(image__object__class__text=[b"a", b"a"]))
    ((severity, sentence),) = sentences(scan())
    assert severity == "error"
    assert "and no object is left" in sentence


def test_a_record_that_cannot_be_read_ends_the_scan_wherever_it_is(folder, scan):
    write(folder, *[record()] * 500, record(image__object__bbox__xmax=[0.5, 60.0]), record())
    ((severity, sentence),) = sentences(scan())
    assert severity == "error"
    assert sentence.startswith(f"record 500 of '{folder}/train-00000-of-00002' has a box in pixels")
    pipeline = Pipeline.load(folder / "pipeline.config")
    assert sentence.startswith(find_broken_record(pipeline.config.train_input_reader))


def test_a_truncated_file_is_named_with_the_record(folder, scan):
    write(folder, record(), record())
    path = folder / "train-00000-of-00002"
    path.write_bytes(path.read_bytes()[:-5])
    ((severity, sentence),) = sentences(scan())
    assert severity == "error"
    assert sentence.startswith(f"'{path}' is truncated or corrupt at record 1")


def test_what_there_is_no_time_for_is_read_beside_the_training(folder, scan, monkeypatch):
    go_on, may_go_on = RecordScan._go_on, threading.Event()
    monkeypatch.setattr(RecordScan, "_go_on", lambda *args: may_go_on.wait(timeout=60) and go_on(*args))
    write(folder, *[record()] * 300, record(image__object__class__text=[b"cup", b"fork"]))
    running = scan(seconds=0)
    assert len(running.findings()) == 0
    may_go_on.set()
    while running.is_running():
        pass
    ((_, sentence),) = sentences(running)
    assert "1 of 602 objects in 301 records is dropped: class 'fork'" in sentence
    running.finish()


def test_objects_with_a_text_alone_need_a_label_map():
    # The Object Detection API's input ends in an error of TensorFlow: indices[0] = 0 is not in [0, 0).
    example = parse(record(image__object__class__label=None))
    assert list(losses(example, Classes({"plate": 1, "cup": 2}, 2))) == [None, None]
    with pytest.raises(BrokenRecord, match=r"^has no .*label', which the input reader"):
        list(losses(example, Classes(None, 2)))


def test_long_names_in_a_record_are_shortened():
    example = parse(record(image__object__class__text=[b"x" * 10_000, b"cup"]))
    first, _ = losses(example, Classes({"cup": 1}, 1))
    assert len(first.why) < 300
    assert first.text == "x" * 10_000
    with pytest.raises(BrokenRecord, match=r"'xxx.*… \(it is empty\)") as error:
        parse(record(image__encoded=[b""], image__filename=[b"x" * 10_000]))
    assert len(str(error.value)) < 300


def test_control_characters_of_a_class_are_escaped(folder, scan):
    write(folder, record(image__object__class__text=[b"plate", b"\x1b[31mcup\n"]))
    ((_, sentence),) = sentences(scan())
    assert "\x1b" not in sentence
    assert r"'\x1b[31mcup\n'" in sentence


def test_label_maps_of_training_and_evaluation_are_the_same_where_they_meet(folder):
    (folder / "pipeline.config").write_text(CONFIG)
    write(folder, record(), name="day.record", label_map="item { id: 1 name: 'plate' }\nitem { id: 2 name: 'cup' }")
    other = folder / "other.pbtxt"

    def load() -> None:
        pipeline = Pipeline.load(folder / "pipeline.config", [f"eval_input_reader[0].label_map_path={other}"])
        pipeline.check_input("eval_input_reader[0]", pipeline.config.eval_input_reader[0])

    other.write_text("item { id: 1 name: 'cup' }\nitem { id: 2 name: 'plate' }")
    message = error_of(load)
    assert f"eval_input_reader[0].label_map_path {other}: 'cup' has id 1, and 2 in {folder}/label_map.pbtxt" in message
    other.write_text("item { id: 1 name: 'plate' }\nitem { id: 2 name: 'bowl' }")
    assert f"id 2 is 'bowl', and 'cup' in {folder}/label_map.pbtxt" in error_of(load)
    for same in ("id: 2 name: 'cup'", "id: 3 name: 'bowl'", "id: 2 name: 'b' display_name: 'cup'"):
        other.write_text(f"item {{ {same} }}")
        load()
