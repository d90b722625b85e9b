"""The numbers and the fingerprint of an evaluation set."""

from __future__ import annotations

import pytest

from made_images import CATEGORIES, evaluated, one_image, random_images
from od_eval.evaluation.analyses.dataset import dataset


def fingerprint(*batches, **options) -> str:
    return dataset(evaluated(list(batches), **options).object_tables()["bbox"])["fingerprint"]


def test_crowds_and_difficult_objects_are_counted_apart() -> None:
    batch = one_image(
        gt_boxes=[[[0, 0, 9, 9]] * 4], gt_classes=[[1] * 4], gt_is_crowd=[[True, True, False, False]],
        gt_difficult=[[True, False, True, False]],
    )  # fmt: skip
    section = dataset(evaluated([batch]).object_tables()["bbox"])
    del section["fingerprint"]
    assert section == {"num_images": 1, "num_groundtruth": 1, "num_crowd": 2, "num_difficult": 1}


def test_the_fingerprint_is_of_the_objects_and_not_of_their_order_or_of_the_detections() -> None:
    images = random_images(0)
    assert fingerprint(*images) == fingerprint(*images[::-1])
    boxes, classes = [[10.0, 10, 50, 50], [60, 60, 90, 90]], [1, 3]
    one = fingerprint(one_image(gt_boxes=[boxes], gt_classes=[classes]))
    assert fingerprint(one_image(gt_boxes=[boxes[::-1]], gt_classes=[classes[::-1]], scores=[[0.1, 0.2]])) == one


@pytest.mark.parametrize(
    "changes",
    [
        {"gt_classes": [[3, 1]]},
        {"gt_boxes": [[[10.0, 10, 50, 51], [60, 60, 90, 90]]]},
        {"gt_is_crowd": [[True, False]]},
        {"image_ids": ["b"]},
    ],
)
def test_the_fingerprint_changes_with_the_set(changes) -> None:
    assert fingerprint(one_image(**changes)) != fingerprint(one_image())


def test_the_fingerprint_changes_with_the_names_of_categories() -> None:
    renamed = {**CATEGORIES, 3: "lynx"}
    assert fingerprint(one_image(), categories=renamed) != fingerprint(one_image())
