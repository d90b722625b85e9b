"""Whole datasets: their files, their report, and what is said where nothing can be converted."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from od_eval.data.conversion import convert_dataset
from od_eval.errors import ODEvalError

from .helpers import reasons


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_unusable_images_are_left_out_and_listed_in_the_report(tmp_path, coco) -> None:
    coco([], num_images=4)
    (tmp_path / "images" / "2.jpg").write_bytes((tmp_path / "images" / "2.jpg").read_bytes()[:-300])
    (tmp_path / "images" / "3.jpg").unlink()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "4.jpg")
    (tmp_path / "images" / "5.jpg").write_bytes((tmp_path / "images" / "1.jpg").read_bytes())
    path = tmp_path / "annotations.json"
    conversion = convert_dataset(path, tmp_path / "out", images_dir=tmp_path / "images", validation=0.0, overwrite=True)
    assert reasons(conversion) == {
        ("image unreadable", "image"): 1,
        ("image file missing", "image"): 1,
        ("image of another shape than annotated", "image"): 1,
    }
    report = json.loads(Path(conversion.report_path).read_text())
    assert {one["reason"] for one in report["left_out"]} == {reason for reason, _ in reasons(conversion)}
    assert report["images_without_annotation"] == conversion.num_unannotated == 1
    assert report["splits"]["train"]["num_images"] == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["9.jpg,cat,1,2,3,4"] * 2, r"none of the images .* image file missing \(1 times\).*no '9.jpg' in"),
        (["1.jpg,cat,0.1,0.2,0.3,0.4", "1.jpg,cat,0,0,1,1"], "between 0 and 1.*must be in pixels"),
        (["1.jpg,,,,,"], "contains no class"),
        ([], "there is no image in"),
    ],
)
def test_annotations_with_nothing_to_convert_are_an_error(tmp_path, write_image, rows, message) -> None:
    write_image(tmp_path / "1.jpg")
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]))
    with pytest.raises(ODEvalError, match=message):
        convert_dataset(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_are_all_broken_are_an_error_and_leave_nothing(tmp_path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"no image")
    (tmp_path / "boxes.csv").write_text("filename,class,xmin,ymin,xmax,ymax\n1.jpg,cat,1,2,3,4\n")
    with pytest.raises(ODEvalError, match=r"none of the images .* image unreadable"):
        convert_dataset(tmp_path / "boxes.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_seed_gives_the_same_files_whatever_the_number_of_processes(tmp_path, boxes_csv) -> None:
    def convert(name: str, **options) -> dict[str, bytes]:
        convert_dataset(boxes_csv, tmp_path / name, images_dir=tmp_path / "photos", num_shards=3, **options)
        return contents(tmp_path / name)

    alone, together, other = convert("a", num_workers=1), convert("b", num_workers=2), convert("c", seed=1)
    reports = [json.loads(files.pop("conversion_report.json")) for files in (alone, together)]
    assert reports[0] == reports[1]
    assert list(alone) == [
        "label_map.pbtxt",
        *[f"train-0000{shard}-of-00003" for shard in range(3)],
        "validation-00000-of-00001",
    ]
    assert alone == together
    assert other["validation-00000-of-00001"] != alone["validation-00000-of-00001"]


def test_two_annotation_files_make_one_dataset_in_two_commands(tmp_path, boxes_csv) -> None:
    out = tmp_path / "out"
    options = {"images_dir": tmp_path / "photos"}
    convert_dataset(boxes_csv, out, validation=0.0, **options)
    with pytest.raises(ODEvalError, match=r"already contains label_map\.pbtxt"):
        convert_dataset(boxes_csv, out, validation=1.0, **options)
    convert_dataset(boxes_csv, out, validation=1.0, label_map_path=out / "label_map.pbtxt", **options)
    assert list(contents(out)) == [
        "conversion_report_train.json",
        "conversion_report_validation.json",
        "label_map.pbtxt",
        "train-00000-of-00001",
        "validation-00000-of-00001",
    ]


def test_a_dozen_raccoons_are_what_others_made_of_them(tmp_path, excerpt, read_records) -> None:
    converted = convert_raccoons(excerpt / "raccoon", tmp_path, read_records)
    assert converted == {"images": {"train": 10, "validation": 2}, "objects": 16, "compared": 6}


def test_the_raccoons_are_what_others_made_of_them(tmp_path, shared_data, read_records) -> None:
    converted = convert_raccoons(shared_data / "raccoon", tmp_path, read_records)
    assert converted == {"images": {"train": 165, "validation": 35}, "objects": 217, "compared": 40}


def convert_raccoons(raccoon: Path, out: Path, read_records: Callable[[Path, str], list[bytes]]) -> dict[str, object]:
    """Converts them and compares with each record of test.record: the same values, an image as large."""
    import tensorflow as tf

    conversion = convert_dataset(raccoon / "annotations", out, images_dir=raccoon / "images", validation=0.2)
    assert conversion.remarks == []
    ours = {}
    for record in read_records(out, "train") + read_records(out, "validation"):
        example = tf.train.Example.FromString(record)
        ours[example.features.feature["image/filename"].bytes_list.value[0]] = example.features.feature
    theirs = [
        tf.train.Example.FromString(record).features.feature
        for record in tf.data.TFRecordDataset(str(raccoon / "test.record")).as_numpy_iterator()
    ]
    for feature in theirs:
        mine = ours[feature["image/filename"].bytes_list.value[0]]
        for key in set(feature) - {"image/format", "image/encoded"}:
            assert mine[key] == feature[key], key
        pixels = [
            np.asarray(Image.open(io.BytesIO(one["image/encoded"].bytes_list.value[0]))) for one in (mine, feature)
        ]
        assert pixels[0].shape == pixels[1].shape
    return {
        "images": {name: split.num_images for name, split in conversion.splits.items()},
        "objects": sum(sum(split.objects.values()) for split in conversion.splits.values()),
        "compared": len(theirs),
    }
