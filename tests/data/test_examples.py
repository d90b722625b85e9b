"""What becomes of annotated images, read back with the Object Detection API's own decoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from od_eval.data.conversion import convert_dataset
from od_eval.label_map import read_label_map

from .helpers import KEYPOINTS, PNG_MASKS, polygon_annotation, reasons


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


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([4, 8, 0, 10], "box without area"),
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
        [[0, 0, 10**400, 0, 0, 4]],
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


def test_the_mask_of_an_image_that_cannot_be_is_not_decoded(coco) -> None:
    # Decoded, it would take gigabytes, and minutes.
    rle = {"size": [45_000, 60_000], "counts": [1, 1_350_000_000, 1_349_999_999]}
    polygon = polygon_annotation(bbox=[4000, 8000, 20_000, 16_000], segmentation=[[4e3, 8e3, 24e3, 8e3, 24e3, 24e3]])
    conversion = coco([polygon, polygon | {"id": 2, "segmentation": rle}], size=(60_000, 45_000))
    assert reasons(conversion)[("mask unreadable, object kept without it", "mask")] == 1
    assert conversion.splits["train"].objects == {"cat": 2}


def test_an_area_that_no_record_can_hold_is_that_of_the_box(tmp_path, coco, read_records, decode) -> None:
    coco([polygon_annotation(area=1e300, segmentation=None)])
    (record,) = read_records(tmp_path / "out", "train")
    assert decode(record)["groundtruth_area"].tolist() == [20 * 16]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bbox", [[1e300, 2, 3, 4], [1e308, 2, 1e308, 4], [10**400, 2, 3, 4]])
def test_a_box_out_of_this_world_is_left_out(coco, bbox) -> None:
    conversion = coco([polygon_annotation(), polygon_annotation(id=2, bbox=bbox)])
    assert conversion.splits["train"].objects == {"cat": 1}


def test_an_image_id_may_be_half_a_character(tmp_path, coco, read_records, decode) -> None:
    path = tmp_path / "annotations.json"
    coco([polygon_annotation()])
    content = json.loads(path.read_text())
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = "\ud800"
    path.write_text(json.dumps(content))
    convert_dataset(path, tmp_path / "half", images_dir=tmp_path / "images", validation=0.0)
    (record,) = read_records(tmp_path / "half", "train")
    assert decode(record)["source_id"] == rb"\ud800"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("keypoints", [[1, 2], [1, 2, 2] * 4, ["a"] * 9, [1e300, 2, 2] * 3, [1, 2, 1e30] * 3])
def test_an_object_with_unreadable_keypoints_keeps_its_box(coco, keypoints) -> None:
    person = {"id": 1, "name": "person", "keypoints": KEYPOINTS}
    conversion = coco([polygon_annotation(keypoints=keypoints)], categories=[person])
    assert reasons(conversion) == {("keypoints unreadable, object kept without them", "keypoints"): 1}
    assert conversion.splits["train"].objects == {"person": 1}


def test_keypoints_that_have_no_names_are_listed(coco) -> None:
    conversion = coco([polygon_annotation(keypoints=[1, 2, 2]), polygon_annotation(id=2, keypoints=[0, 0, 0])])
    assert reasons(conversion) == {("keypoints unreadable, object kept without them", "keypoints"): 1}
    assert conversion.left_out[0].detail == "cat: 3 numbers for 0 keypoint names"
    assert conversion.keypoint_labels == []


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
