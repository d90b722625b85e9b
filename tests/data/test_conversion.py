"""Whole datasets, converted and read back with the Object Detection API's own decoder."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from od_eval.data.conversion import convert_dataset
from od_eval.errors import ODEvalError
from od_eval.odapi.label_map import read_label_map

PNG_MASKS = 2  # input_reader.proto, InstanceMaskType

KEYPOINTS = ["nose", "left", "right"]


def polygon_annotation(**fields) -> dict:
    return {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [4, 8, 20, 16],
        "area": 200.5,
        "iscrowd": 0,
        "segmentation": [[4, 8, 24, 8, 24, 24], [30.5, 30, 40, 30, 40, 40.25, 30, 40]],
    } | fields


@pytest.fixture
def coco(tmp_path, write_image):
    """coco(annotations, num_images=1, size, **category): converts a COCO file of these; returns the conversion."""

    def convert(annotations, num_images=1, size=(64, 48), categories=({"id": 1, "name": "cat"},), **options):
        for id in range(1, num_images + 1):
            write_image(tmp_path / "images" / f"{id}.jpg", (64, 48))
        images = [
            {"id": id, "file_name": f"{id}.jpg", "width": size[0], "height": size[1]} for id in range(1, num_images + 1)
        ]
        content = {"images": images, "annotations": list(annotations), "categories": list(categories)}
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        options = {"images_dir": tmp_path / "images", "validation": 0.0, **options}
        return convert_dataset(path, tmp_path / "out", **options)

    return convert


def reasons(conversion) -> Counter:
    return Counter((remark.reason, remark.left_out) for remark in conversion.remarks)


# ---- What is in a record --------------------------------------------------------------------------------------------


def test_polygons_rle_and_crowds_come_back_from_the_decoder(tmp_path, coco, read_records, decode) -> None:
    grid = np.zeros((48, 64), np.uint8)
    grid[5:20, 10:30] = 1
    grid[30:40, 0:5] = 1
    compressed = coco_mask.encode(np.asfortranarray(grid))
    changes = np.flatnonzero(np.diff(grid.ravel(order="F"))) + 1
    runs = np.diff([0, *changes, grid.size]).tolist()
    annotations = [
        polygon_annotation(),
        polygon_annotation(
            id=2, iscrowd=1, area=350, bbox=[0, 5, 30, 35], segmentation={"size": [48, 64], "counts": runs}
        ),
        polygon_annotation(
            id=3, category_id=9, segmentation={"size": [48, 64], "counts": compressed["counts"].decode()}
        ),
    ]
    conversion = coco(annotations, categories=[{"id": 9, "name": "dög"}, {"id": 1, "name": "cat"}])
    assert conversion.remarks == []
    (record,) = read_records(tmp_path / "out", "train")
    decoded = decode(
        record,
        load_instance_masks=True,
        instance_mask_type=PNG_MASKS,
        label_map_proto_file=str(tmp_path / "out" / "label_map.pbtxt"),
    )
    size = np.array([48, 64, 48, 64])
    np.testing.assert_allclose(
        decoded["groundtruth_boxes"] * size, [[8, 4, 24, 24], [5, 0, 40, 30], [8, 4, 24, 24]], rtol=1e-6
    )
    assert decoded["groundtruth_classes"].tolist() == [1, 1, 9]
    assert decoded["groundtruth_is_crowd"].tolist() == [False, True, False]
    assert decoded["groundtruth_area"].tolist() == [200.5, 350, 200.5]
    assert decoded["groundtruth_instance_mask_weights"].tolist() == [1, 1, 1]
    polygons = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(annotations[0]["segmentation"], 48, 64)))
    for mask, wanted in zip(decoded["groundtruth_instance_masks"], [polygons, grid, grid], strict=True):
        np.testing.assert_array_equal(mask, wanted)
    assert decoded["source_id"] == b"1"
    assert decoded["filename"] == b"1.jpg"
    assert decoded["image"].shape == (48, 64, 3)
    assert decoded["original_image_spatial_shape"].tolist() == [48, 64]


def test_the_features_are_those_that_the_object_detection_api_names(tmp_path, coco, read_records) -> None:
    import tensorflow as tf

    person = {"id": 1, "name": "person", "keypoints": KEYPOINTS}
    coco([polygon_annotation(keypoints=[1, 2, 2] * 3, num_keypoints=3)], categories=[person])
    (record,) = read_records(tmp_path / "out", "train")
    feature = tf.train.Example.FromString(record).features.feature
    objects = [f"bbox/{edge}" for edge in ("xmin", "xmax", "ymin", "ymax")]
    objects += ["class/label", "class/text", "area", "is_crowd", "mask", "mask/weight"]
    objects += [f"keypoint/{one}" for one in ("x", "y", "num", "visibility", "text")]
    image = ["encoded", "format", "height", "width", "filename", "source_id", "key/sha256"]
    assert set(feature) == {f"image/{one}" for one in image} | {f"image/object/{one}" for one in objects}
    assert feature["image/format"].bytes_list.value[:] == [b"jpeg"]
    assert feature["image/encoded"].bytes_list.value[0] == (tmp_path / "images" / "1.jpg").read_bytes()


def test_an_image_without_objects_is_a_record(tmp_path, coco, read_records, decode) -> None:
    conversion = coco([polygon_annotation()], num_images=2)
    assert conversion.splits["train"].num_empty == 1
    shapes = {
        decode(record, load_instance_masks=True, instance_mask_type=PNG_MASKS)["groundtruth_boxes"].shape
        for record in read_records(tmp_path / "out", "train")
    }
    assert shapes == {(0, 4), (1, 4)}


def test_every_object_has_all_keypoints_of_the_label_map(tmp_path, coco, read_records, decode) -> None:
    annotations = [
        polygon_annotation(segmentation=None, keypoints=[16, 12, 2, 0, 0, 0, 32, 24, 1], num_keypoints=2),
        polygon_annotation(id=2, segmentation=None, category_id=2),
        polygon_annotation(id=3, segmentation=None, category_id=3, keypoints=[8, 6, 2]),
    ]
    categories = [
        {"id": 1, "name": "person", "keypoints": KEYPOINTS, "skeleton": [[1, 2]]},
        {"id": 2, "name": "cat"},
        {"id": 3, "name": "dog", "keypoints": ["nose"]},
    ]
    conversion = coco(annotations, categories=categories)
    assert conversion.keypoint_labels == ["person nose", "left", "right", "dog nose"]
    assert not conversion.with_masks
    label_map = tmp_path / "out" / "label_map.pbtxt"
    person, cat, dog = read_label_map(label_map)
    assert (person.keypoints, cat.keypoints, dog.keypoints) == (
        {"person nose": 0, "left": 1, "right": 2},
        {},
        {"dog nose": 3},
    )
    (record,) = read_records(tmp_path / "out", "train")
    by_order = decode(record, num_keypoints=4)
    by_name = decode(record, num_keypoints=4, use_keypoint_label_map=True, label_map_proto_file=str(label_map))
    for decoded in (by_order, by_name):
        seen = decoded["groundtruth_keypoint_visibilities"]
        assert seen.tolist() == [[True, False, True, False], [False] * 4, [False, False, False, True]]
        np.testing.assert_allclose(decoded["groundtruth_keypoints"][seen], [[0.25, 0.25], [0.5, 0.5], [0.125, 0.125]])
        assert np.isnan(decoded["groundtruth_keypoints"][~seen]).all()


def test_keypoints_take_the_order_of_an_existing_label_map(tmp_path, coco, read_records, decode) -> None:
    label_map = tmp_path / "mine.pbtxt"
    keypoints = "keypoints { id: 1 label: 'nose' } keypoints { id: 0 label: 'right' }"
    label_map.write_text(f"item {{ id: 5 name: '/m/1' display_name: 'person' {keypoints} }}")
    conversion = coco(
        [polygon_annotation(keypoints=[16, 12, 2, 1, 1, 2, 32, 24, 1])],
        categories=[{"id": 1, "name": "person", "keypoints": KEYPOINTS}],
        label_map_path=label_map,
    )
    assert [(remark.reason, remark.detail) for remark in conversion.remarks] == [
        ("keypoint that the label map does not have", "person: left")
    ]
    assert not (tmp_path / "out" / "label_map.pbtxt").exists()
    (record,) = read_records(tmp_path / "out", "train")
    decoded = decode(record, num_keypoints=2, label_map_proto_file=str(label_map))
    assert decoded["groundtruth_classes"].tolist() == [5]
    np.testing.assert_allclose(decoded["groundtruth_keypoints"], [[[0.5, 0.5], [0.25, 0.25]]])


def test_keypoints_of_several_classes_fit_the_label_map_of_an_earlier_conversion(tmp_path, coco) -> None:
    categories = [{"id": 1, "name": "person", "keypoints": KEYPOINTS}, {"id": 2, "name": "dog", "keypoints": ["nose"]}]
    annotations = [polygon_annotation(keypoints=[1, 2, 2] * 3)]
    first = coco(annotations, categories=categories)
    second = coco(annotations, categories=categories, label_map_path=first.label_map_path, validation=1.0)
    assert (second.remarks, second.keypoint_labels) == ([], first.keypoint_labels)


def test_keypoints_that_the_label_map_does_not_have_are_listed(tmp_path, coco) -> None:
    label_map = tmp_path / "mine.pbtxt"
    label_map.write_text("item { id: 1 name: 'person' }")
    categories = [{"id": 1, "name": "person", "keypoints": KEYPOINTS}]
    conversion = coco([polygon_annotation(keypoints=[1, 2, 2] * 3)], categories=categories, label_map_path=label_map)
    assert reasons(conversion) == {("keypoint that the label map does not have", "keypoints"): 1}


def test_boxes_masks_and_keypoints_of_a_resized_image_are_scaled(tmp_path, coco, read_records, decode) -> None:
    rle = np.zeros((96, 128), np.uint8)
    rle[16:48, 8:48] = 1
    encoded = coco_mask.encode(np.asfortranarray(rle))
    person = {"id": 1, "name": "person", "keypoints": ["nose"]}
    annotation = polygon_annotation(bbox=[8, 16, 40, 32], keypoints=[64, 48, 2], area=1280)
    rectangle = [[8, 16, 48, 16, 48, 48, 8, 48]]
    conversion = coco(
        [
            annotation | {"segmentation": rectangle},
            annotation | {"segmentation": {"size": [96, 128], "counts": encoded["counts"].decode()}},
        ],
        size=(128, 96),
        categories=[person],
    )
    assert reasons(conversion) == {("image of another size than annotated, boxes scaled", ""): 1}
    (record,) = read_records(tmp_path / "out", "train")
    decoded = decode(record, load_instance_masks=True, instance_mask_type=PNG_MASKS, num_keypoints=1)
    wanted = np.zeros((48, 64))
    wanted[8:24, 4:24] = 1
    for index in range(2):
        np.testing.assert_allclose(decoded["groundtruth_boxes"][index], [8 / 48, 4 / 64, 24 / 48, 24 / 64])
        np.testing.assert_array_equal(decoded["groundtruth_instance_masks"][index], wanted)
        np.testing.assert_allclose(decoded["groundtruth_keypoints"][index], [[0.5, 0.5]])
    assert decoded["groundtruth_area"].tolist() == [320, 320]


# ---- What is left out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([4, 8, 0, 10], "box without area"),
        ([4, 8, -3, 10], "box without area"),
        ([4, 8, 1e-9, 10], "box without area"),
        ([100, 8, 10, 10], "box outside the image"),
        ([-20, 8, 20, 10], "box outside the image"),
        ([4, 8, None, 10], "box is not four numbers"),
        ([4, 8, "NaN", 10], "box is not four numbers"),
        ([4, 8, 1e999, 10], "box is not four numbers"),
        ([4, 8], "box is not four numbers"),
    ],
)
def test_a_box_that_cannot_be_is_left_out_and_listed(tmp_path, coco, read_records, box, reason) -> None:
    conversion = coco([polygon_annotation(), polygon_annotation(id=2, bbox=box)])
    assert reasons(conversion) == {(reason, "object"): 1}
    assert conversion.left_out[0].where.endswith("annotation 2")
    assert conversion.splits["train"].objects == {"cat": 1}


def test_a_box_over_the_edge_is_cut_there(tmp_path, coco, read_records, decode) -> None:
    conversion = coco([polygon_annotation(bbox=[-4, 40, 200, 20])])
    assert reasons(conversion) == {("box clipped to the image", ""): 1}
    (record,) = read_records(tmp_path / "out", "train")
    np.testing.assert_allclose(decode(record)["groundtruth_boxes"], [[40 / 48, 0, 1, 1]])


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [48, 64], "counts": [5, 5]},
        {"size": [48, 64], "counts": [48 * 64, 1]},
        {"size": [48, 64], "counts": "0"},
        {"size": [48, 64], "counts": "P"},
        {"size": [48, 64], "counts": 7},
        {"size": [10, 10], "counts": [50, 50]},
        {"size": [1 << 20, 1 << 20], "counts": [1 << 40]},
        {"counts": [1]},
        [[1, 2, 3]],
        [[0, 0, None, 0, 0, 4]],
        "nonsense",
    ],
)
def test_an_object_with_an_unreadable_mask_keeps_its_box(tmp_path, coco, read_records, decode, segmentation) -> None:
    conversion = coco([polygon_annotation(), polygon_annotation(id=2, segmentation=segmentation)])
    assert reasons(conversion) == {("mask unreadable, object kept without it", "mask"): 1}
    (record,) = read_records(tmp_path / "out", "train")
    decoded = decode(record, load_instance_masks=True, instance_mask_type=PNG_MASKS)
    assert decoded["groundtruth_boxes"].shape == (2, 4)
    assert decoded["groundtruth_instance_mask_weights"].tolist() == [1, 0]
    assert not decoded["groundtruth_instance_masks"][1].any()


@pytest.mark.parametrize("segmentation", [None, [], [[1, 1, 2, 2]], [[100, 100, 110, 100, 110, 110]]])
def test_an_object_without_a_mask_keeps_its_box(coco, segmentation) -> None:
    conversion = coco([polygon_annotation(), polygon_annotation(id=2, segmentation=segmentation)])
    assert reasons(conversion) == {("object without a mask in a dataset with masks", ""): 1}
    assert conversion.splits["train"].objects == {"cat": 2}


def test_a_polygon_may_reach_far_over_the_edge(tmp_path, coco, read_records, decode) -> None:
    conversion = coco([polygon_annotation(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9, 0, 1e9]])])
    assert conversion.remarks == []
    (record,) = read_records(tmp_path / "out", "train")
    assert decode(record, load_instance_masks=True, instance_mask_type=PNG_MASKS)["groundtruth_instance_masks"].all()


@pytest.mark.parametrize("keypoints", [[1, 2], [1, 2, 2] * 4, ["a"] * 9])
def test_an_object_with_unreadable_keypoints_keeps_its_box(coco, keypoints) -> None:
    person = {"id": 1, "name": "person", "keypoints": KEYPOINTS}
    conversion = coco([polygon_annotation(keypoints=keypoints)], categories=[person])
    assert reasons(conversion) == {("keypoints unreadable, object kept without them", "keypoints"): 1}
    assert conversion.splits["train"].objects == {"person": 1}


def test_keypoints_that_have_no_names_are_listed(coco) -> None:
    conversion = coco([polygon_annotation(keypoints=[1, 2, 2]), polygon_annotation(id=2, keypoints=[0, 0, 0])])
    assert reasons(conversion) == {("keypoints unreadable, object kept without them", "keypoints"): 1}
    assert conversion.left_out[0].detail == "cat: 3 numbers for 0 names of keypoints"
    assert conversion.keypoint_labels == []


def test_masks_can_be_left_away(tmp_path, coco, read_records) -> None:
    conversion = coco([polygon_annotation()], include_masks=False)
    assert not conversion.with_masks
    assert b"image/object/mask" not in read_records(tmp_path / "out", "train")[0]


def test_a_class_that_the_label_map_does_not_have_is_left_out(tmp_path, coco) -> None:
    label_map = tmp_path / "mine.pbtxt"
    label_map.write_text("item { id: 3 name: 'dog' }")
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    annotations = [polygon_annotation(), polygon_annotation(id=2, category_id=2)]
    conversion = coco(annotations, categories=categories, label_map_path=label_map)
    assert reasons(conversion) == {("unknown class", "object"): 1}
    assert conversion.splits["train"].objects == {"dog": 1}


def test_a_box_without_a_class_is_left_out(tmp_path, write_image) -> None:
    write_image(tmp_path / "1.jpg")
    path = tmp_path / "boxes.csv"
    path.write_text("filename,class,xmin,ymin,xmax,ymax\n1.jpg,,1,2,3,4\n1.jpg,cat,1,2,3,4\n")
    conversion = convert_dataset(path, tmp_path / "out", validation=0.0)
    assert reasons(conversion) == {("unknown class", "object"): 1}
    assert [one.name for one in conversion.categories] == ["cat"]


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
    report = json.loads(conversion.report_path.read_text())
    assert {one["reason"] for one in report["left_out"]} == {reason for reason, _ in reasons(conversion)}
    assert report["images_without_annotation"] == conversion.num_unannotated == 1
    assert report["splits"]["train"]["num_images"] == 1


def test_one_file_for_two_names_is_not_guessed(tmp_path, write_image) -> None:
    write_image(tmp_path / "1.jpg")
    write_image(tmp_path / "2.jpg")
    rows = ["a/1.jpg,cat,1,2,3,4", "b/1.jpg,cat,5,6,7,8", "2.jpg,cat,1,2,3,4"]
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]))
    conversion = convert_dataset(path, tmp_path / "out", validation=0.0)
    assert reasons(conversion) == {("one image file for different annotated images", "image"): 2}


def test_an_image_annotated_twice_is_one_record(tmp_path, coco) -> None:
    coco([], num_images=1)
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0] | {"id": 2})
    content["annotations"] = [
        polygon_annotation(),
        polygon_annotation(id=2, image_id=2),
        polygon_annotation(id=3, image_id=2, bbox=[1, 2, 3, 4]),
    ]
    path.write_text(json.dumps(content))
    conversion = convert_dataset(path, tmp_path / "out", images_dir=tmp_path / "images", validation=0.0, overwrite=True)
    assert reasons(conversion) == {("image annotated twice, objects joined", ""): 1}
    assert conversion.splits["train"].num_images == 1
    assert conversion.splits["train"].objects == {"cat": 2}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["9.jpg,cat,1,2,3,4"] * 2, r"none of the images .* image file missing \(1 times\).*no '9.jpg' in"),
        (["1.jpg,cat,0.1,0.2,0.3,0.4", "1.jpg,cat,0,0,1,1"], "between 0 and 1.*pixels are meant"),
        (["1.jpg,,,,,"], "no class in it"),
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


# ---- The files of a dataset -----------------------------------------------------------------------------------------


@pytest.fixture
def boxes_csv(tmp_path, write_image) -> Path:
    """40 images with a box each, one of them without a file, and one CSV."""
    lines = ["filename,class,xmin,ymin,xmax,ymax"]
    for index in range(40):
        write_image(tmp_path / "photos" / f"{index}.jpg", (32 + index, 32))
        lines.append(f"{index}.jpg,{'cat' if index % 3 else 'dog'},1,2,{10 + index / 8},20")
    (tmp_path / "photos" / "7.jpg").unlink()
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    return tmp_path / "boxes.csv"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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
    for path, message in ((tmp_path / "val.txt", "no image is named"), (tmp_path / "no.txt", "cannot be read")):
        with pytest.raises(ODEvalError, match=message):
            convert_dataset(boxes_csv, tmp_path / "out", images_dir=tmp_path / "photos", validation=path)


def test_two_annotation_files_make_one_dataset_in_two_commands(tmp_path, boxes_csv) -> None:
    out = tmp_path / "out"
    options = {"images_dir": tmp_path / "photos"}
    convert_dataset(boxes_csv, out, validation=0.0, **options)
    with pytest.raises(ODEvalError, match=r"already holds label_map\.pbtxt"):
        convert_dataset(boxes_csv, out, validation=1.0, **options)
    convert_dataset(boxes_csv, out, validation=1.0, label_map_path=out / "label_map.pbtxt", **options)
    assert list(contents(out)) == [
        "conversion_report_train.json",
        "conversion_report_validation.json",
        "label_map.pbtxt",
        "train-00000-of-00001",
        "validation-00000-of-00001",
    ]


def test_relative_boxes_are_taken_where_the_size_says_so(tmp_path, write_image, read_records, decode) -> None:
    write_image(tmp_path / "1.jpg")
    path = tmp_path / "boxes.csv"
    path.write_text("filename,width,height,class,xmin,ymin,xmax,ymax\n1.jpg,1,1,cat,0.25,0.5,0.75,1\n")
    convert_dataset(path, tmp_path / "out", validation=0.0)
    (record,) = read_records(tmp_path / "out", "train")
    np.testing.assert_allclose(decode(record)["groundtruth_boxes"], [[0.5, 0.25, 1, 0.75]])


# ---- Real data ------------------------------------------------------------------------------------------------------


def test_the_raccoons_are_what_others_made_of_them(tmp_path, shared_data, read_records, decode) -> None:
    import tensorflow as tf

    raccoon = shared_data / "raccoon"
    conversion = convert_dataset(raccoon / "annotations", tmp_path, images_dir=raccoon / "images", validation=0.2)
    assert {name: split.num_images for name, split in conversion.splits.items()} == {"train": 160, "validation": 40}
    assert sum(sum(split.objects.values()) for split in conversion.splits.values()) == 217
    assert conversion.remarks == []
    ours = {}
    for record in read_records(tmp_path, "train") + read_records(tmp_path, "validation"):
        example = tf.train.Example.FromString(record)
        ours[example.features.feature["image/filename"].bytes_list.value[0]] = example.features.feature
    theirs = [
        tf.train.Example.FromString(record).features.feature
        for record in tf.data.TFRecordDataset(str(raccoon / "test.record")).as_numpy_iterator()
    ]
    assert len(theirs) == 40
    for feature in theirs:
        mine = ours[feature["image/filename"].bytes_list.value[0]]
        for key in set(feature) - {"image/format", "image/encoded"}:
            assert mine[key] == feature[key], key
        pixels = [
            np.asarray(Image.open(io.BytesIO(one["image/encoded"].bytes_list.value[0]))) for one in (mine, feature)
        ]
        assert pixels[0].shape == pixels[1].shape


def test_the_three_formats_of_the_same_boxes_give_the_same_records(tmp_path, shared_data, read_records, decode) -> None:
    raccoon = shared_data / "raccoon"
    import xml.etree.ElementTree as ElementTree

    rows, images, annotations = [], [], []
    (tmp_path / "xml").mkdir()
    for id, path in enumerate(sorted((raccoon / "annotations").glob("*.xml"))[:5]):
        (tmp_path / "xml" / path.name).write_bytes(path.read_bytes())
        root = ElementTree.parse(path).getroot()
        name, width, height = root.findtext("filename"), root.findtext("size/width"), root.findtext("size/height")
        images.append({"id": id, "file_name": name, "width": int(width), "height": int(height)})
        for one in root.findall("object"):
            box = [int(one.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")]
            rows.append([name, width, height, "raccoon", *box])
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append({"id": len(rows), "image_id": id, "category_id": 1, "bbox": bbox})
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"], *rows])
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "raccoon"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    results = []
    for source in ("xml", "boxes.csv", "boxes.json"):
        out = tmp_path / f"out-{source}"
        convert_dataset(tmp_path / source, out, images_dir=raccoon / "images", validation=0.0)
        decoded = [decode(record) for record in read_records(out, "train")]
        results.append({one["filename"]: one for one in decoded})
    for name, one in results[0].items():
        for other in results[1:]:
            for key in ("groundtruth_boxes", "groundtruth_classes", "groundtruth_area", "key"):
                np.testing.assert_array_equal(other[name][key], one[key])
