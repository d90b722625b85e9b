"""What an evaluation was given, in COCO's JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from made_images import (
    assert_same,
    evaluated,
    one_image,
    pycocotools_metrics,
    random_images,
)


def test_json_of_images_with_int_ids_keeps_these() -> None:
    evaluator = evaluated([one_image(image_ids=np.array([42]), gt_difficult=[[False, True]], gt_is_crowd=[[1, 0]])])
    groundtruth = json.loads(json.dumps(evaluator.groundtruth_json()))
    assert groundtruth["images"] == [{"id": 42, "file_name": "42", "height": 100, "width": 120}]
    assert groundtruth["categories"][0] == {"id": 1, "name": "dog"}
    assert groundtruth["annotations"] == [
        {"id": 1, "image_id": 42, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 1},
        {
            "id": 2,
            "image_id": 42,
            "category_id": 3,
            "bbox": [60, 60, 30, 30],
            "area": 900,
            "iscrowd": 0,
            "difficult": 1,
        },
    ]
    assert evaluator.detections_json()[1] == {
        "image_id": 42, "category_id": 3, "bbox": [60.0, 60.0, 30.0, 30.0], "score": 0.8,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_json_of_images_with_other_ids_numbers_them_in_the_order_in_which_they_are_ranked(seed) -> None:
    images = random_images(seed)
    for batch in images:
        batch.image_ids = [f"{batch.image_ids[0]}.jpg"]
    evaluator = evaluated(images)
    groundtruth, detections = evaluator.groundtruth_json(), evaluator.detections_json()
    assert [image["id"] for image in groundtruth["images"]] == list(range(1, len(images) + 1))
    assert [image["file_name"] for image in groundtruth["images"]] == sorted(batch.image_ids[0] for batch in images)
    assert_same(evaluator.evaluate().bbox, pycocotools_metrics(groundtruth, detections, "bbox"))
