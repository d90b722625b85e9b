"""How label map and annotations together decide what is in the records."""

from __future__ import annotations

import numpy as np

from .helpers import KEYPOINTS, polygon_annotation, reasons


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


def test_masks_can_be_left_away(tmp_path, coco, read_records) -> None:
    conversion = coco([polygon_annotation()], include_masks=False)
    assert not conversion.with_masks
    assert b"image/object/mask" not in read_records(tmp_path / "out", "train")[0]
