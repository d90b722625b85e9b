"""Annotations surveyed before their conversion, against the survey of the records that the conversion makes of them."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from od_eval.data.annotation_survey import survey_annotations, survey_images
from od_eval.data.conversion import convert_dataset
from od_eval.errors import ODEvalError

from .helpers import polygon_annotation


@pytest.fixture
def coco_file(tmp_path, write_image):
    """coco_file(*annotations, size, **options of image): a COCO file of an image of 64×48 pixels; returns its path."""

    def write(*annotations, size=(64, 48), **options):
        write_image(tmp_path / "images" / "1.jpg", **options)
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": size[0], "height": size[1]}],
            "annotations": [{"id": id, **one} for id, one in enumerate(annotations, start=1)],
            "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        }
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return path

    return write


def box(left, top, width, height, **fields) -> dict:
    return {"image_id": 1, "category_id": 3, "bbox": [left, top, width, height], "iscrowd": 0, **fields}


def test_a_folder_of_photographs_is_surveyed_as_its_records_are(excerpt, tmp_path):
    import od_eval.odapi  # noqa: F401, I001  (makes the next import possible)
    from object_detection.protos import input_reader_pb2
    from od_eval.odapi.record_survey import survey_records

    folder = excerpt / "raccoon"
    before = survey_annotations(folder / "annotations", folder / "images")
    convert_dataset(folder / "annotations", tmp_path / "out", images_dir=folder / "images", validation=0.0)
    reader = input_reader_pb2.InputReader(label_map_path=str(tmp_path / "out" / "label_map.pbtxt"))
    reader.tf_record_input_reader.input_path.append(str(tmp_path / "out" / "train-*"))
    after = survey_records(reader, "train_input_reader", before.categories)

    assert before.categories == {1: "raccoon"}
    assert not before.faults
    assert before.is_complete
    assert len(before.images) == 12
    assert len(before.objects) == 16
    images = [one.images.drop(columns="id").set_index("name").sort_index() for one in (before, after)]
    assert images[0].equals(images[1])
    corners = ["ymin", "xmin", "ymax", "xmax"]
    objects = []
    for one in (before, after):
        table = one.objects.join(one.images["name"], on="image").sort_values(["name", *corners])
        objects.append(table[corners].to_numpy())
    np.testing.assert_allclose(objects[0].clip(0, 1), objects[1], atol=1e-6)


def test_boxes_are_parts_of_the_annotated_size_and_as_they_are_annotated(coco_file):
    path = coco_file(
        box(16, 12, 32, 24), box(60, 0, 8, 48), box(4, 4, 0, 0), box(20, 10, -10, 5, iscrowd=1), box(1, 1, None, 1)
    )
    survey = survey_annotations(path, path.parent / "images")
    np.testing.assert_allclose(
        survey.objects[["ymin", "xmin", "ymax", "xmax"]],
        [
            [0.25, 0.25, 0.75, 0.75],
            [0, 60 / 64, 1, 68 / 64],
            [4 / 48, 4 / 64] * 2,
            [10 / 48, 10 / 64, 15 / 48, 20 / 64],
        ],
    )
    assert survey.objects["category"].tolist() == [3] * 4
    assert survey.objects["crowd"].tolist() == [False, False, False, True]
    assert [fault.kind for fault in survey.faults] == ["objects_left_out"]
    assert "1 object cannot be used: box is not four numbers (" in str(survey.faults[0])


def test_masks_are_compared_with_boxes(coco_file):
    square = [[4, 8, 24, 8, 24, 24, 4, 24]]
    path = coco_file(
        box(4, 8, 20, 16, segmentation=square),
        box(4, 8, 40, 16, segmentation=square),
        box(0, 0, 2, 48, segmentation={"size": [48, 64], "counts": [0, 48, 3024]}),
        box(0, 0, 2, 48, segmentation={"size": [9, 9], "counts": [81]}),
        box(0, 0, 2, 48, segmentation=[[1, 2, "x", 4, 5, 6]]),
        box(0, 0, 2, 48),
        polygon_annotation(bbox=[4, 8, 36, 32.25], category_id=7),
    )
    ious = survey_annotations(path, path.parent / "images").objects["mask_iou"]
    np.testing.assert_allclose(ious, [1, 0.5, 0.5, math.nan, math.nan, math.nan, 1])
    assert survey_annotations(path, path.parent / "images", num_images_to_decode=0).objects["mask_iou"].isna().all()


@pytest.mark.parametrize(
    ("annotated", "shown"), [((48, 64), (48, 64)), ((64, 48), (64, 48)), ((96, 128), (48, 64)), ((128, 96), (64, 48))]
)
def test_an_image_with_an_exif_rotation_is_surveyed_as_it_was_annotated(coco_file, annotated, shown):
    path = coco_file(box(0, 0, annotated[0] / 2, annotated[1] / 4), size=annotated, orientation=6)
    survey = survey_annotations(path, path.parent / "images")
    assert tuple(survey.images.loc[0, ["width", "height"]]) == shown
    assert tuple(survey.objects.loc[0, ["ymax", "xmax"]]) == (0.25, 0.5)


def test_what_a_conversion_leaves_out_is_told_by_reason(coco_file, tmp_path, write_image):
    path = coco_file(box(1, 1, 9, 9), box(1, 1, 9, 9, category_id=99), box(2, 2, 9, 9, category_id=98))
    content = json.loads(path.read_text())
    for id, name in enumerate(("broken.jpg", "wide.jpg", "missing.jpg"), start=2):
        content["images"].append({"id": id, "file_name": name, "width": 64, "height": 48})
    path.write_text(json.dumps(content))
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    write_image(tmp_path / "images" / "wide.jpg", (90, 30))
    survey = survey_annotations(path, tmp_path / "images")
    told = {(fault.kind, fault.evidence["reason"]): fault.evidence["number"] for fault in survey.faults}
    assert told == {
        ("objects_left_out", "unknown class"): 2,
        ("images_left_out", "image file missing"): 1,
        ("images_left_out", "image unreadable"): 1,
        ("images_left_out", "image of another shape than annotated"): 1,
    }
    assert {fault.severity for fault in survey.faults} == {"warning"}
    assert len(survey.images) == 1
    assert survey.objects["category"].tolist() == [3]


def test_ids_are_those_of_a_label_map_if_there_is_one(coco_file, tmp_path):
    path = coco_file(box(1, 1, 9, 9), box(1, 1, 9, 9, category_id=7))
    (tmp_path / "label_map.pbtxt").write_text("item { id: 1 name: 'dog' }")
    survey = survey_annotations(path, tmp_path / "images", label_map=tmp_path / "label_map.pbtxt")
    assert survey.categories == {1: "dog"}
    assert survey.objects["category"].tolist() == [0, 1]
    assert "unknown class" in str(survey.faults[0])


def test_csv_is_surveyed_up_to_the_number_of_images_asked_for(boxes_csv):
    told = []
    survey = survey_annotations(
        boxes_csv,
        boxes_csv.parent / "photos",
        max_examples=10,
        num_images_to_decode=4,
        progress=lambda done, total: told.append((done, total)),
    )
    assert len(survey.images) == len(survey.objects) == 10
    assert (survey.images["perceptual_hash"] != "").sum() == survey.images["brightness"].notna().sum() == 4
    assert not survey.is_complete
    assert told[-1] == (10, 10)
    assert survey_annotations(boxes_csv, boxes_csv.parent / "photos").is_complete


def test_images_without_labels_are_surveyed_by_folder_and_by_pattern(excerpt, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(excerpt / "raccoon" / "images", folder)
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.jpg").write_bytes(b"no image")
    survey = survey_images(folder)
    assert (survey.name, survey.categories, len(survey.images), len(survey.objects)) == ("deployment_images", {}, 12, 0)
    assert (survey.images["perceptual_hash"] != "").all()
    (fault,) = survey.faults
    assert str(fault).startswith(f"{folder}: 1 image cannot be used: image unreadable ({folder}/broken.jpg: ")
    by_pattern = survey_images(f"{folder}/raccoon-1*.jpg", "phone")
    assert by_pattern.name == "phone"
    assert 0 < len(by_pattern.images) < 12
    assert set(by_pattern.images["id"]) < set(survey.images["id"])
    assert not by_pattern.faults


@pytest.mark.parametrize("wanted", ["nothing", "*.jpg", "empty"])
def test_no_image_without_labels_is_an_error(tmp_path, wanted):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ODEvalError, match=r"there is no image in '.*pass a folder of images, or a pattern"):
        survey_images(tmp_path / wanted)
