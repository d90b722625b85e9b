"""The AP that errors cost, worked out by hand. (Against tidecv: test_error_costs_of_tidecv.py.)"""

from __future__ import annotations

import numpy as np
import pytest

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses.error_costs import COSTS, error_costs, error_costs_per_category
from od_eval.evaluation.object_table import ObjectTable, precision_recall_scores

NONE = dict.fromkeys(COSTS, 0.0)


def costs_of(*names: str, table: ObjectTable) -> dict[str, dict]:
    per_category = dict(zip(table.categories.values(), error_costs_per_category(table), strict=True))
    return {name: per_category[name] for name in names}


def test_only_the_first_hundred_of_an_image_and_category_count() -> None:
    # The object is found by the 101st detection only: it does not count, so that the object is missed.
    boxes = [[[0.0, 60, 20, 80]] * 100 + [[10.0, 10, 50, 50]]]
    images = {
        "image_ids": ["a", "b"],
        "image_sizes": [[100, 120]] * 2,
        "boxes": [*boxes, [[10.0, 10, 50, 50]]],
        "scores": [np.linspace(0.9, 0.5, 101), [0.95]],
        "classes": [[1] * 101, [1]],
        "gt_boxes": [[[10.0, 10, 50, 50]]] * 2,
        "gt_classes": [[1]] * 2,
    }
    table = evaluated([one_image(**images)]).object_tables()["bbox"]
    assert table.true_positive[:, 0].sum() == 2
    costs = costs_of("dog", table=table)["dog"]
    assert costs == pytest.approx({**NONE, "missed": 50 / 101, "false negatives": 50 / 101})


def test_the_ap_before_is_that_of_coco() -> None:
    # Without false positives AP is the highest it can be at this recall, which COCO's arrays tell as well.
    table = evaluated(random_images(3)).object_tables()["bbox"]
    precision, recall, _ = precision_recall_scores(table)
    for index, costs in enumerate(error_costs_per_category(table)[:3]):
        at_full_precision = np.mean(np.linspace(0, 1, 101) <= recall[0, index])
        assert costs["false positives"] == pytest.approx(at_full_precision - precision[0, :, index].mean(), abs=1e-12)


def test_a_wrong_category_costs_both_categories() -> None:
    # A dog taken for a cat, above a cat that is found.
    table = evaluated([one_image(scores=[[0.9, 0.8]], classes=[[3, 3]])]).object_tables()["bbox"]
    costs = costs_of("dog", "cat", table=table)
    assert costs["dog"] == pytest.approx({**NONE, "class": 1.0, "false negatives": 1.0})
    assert costs["cat"] == pytest.approx({**NONE, "class": 0.5, "false positives": 0.5})
    assert error_costs(table)["class"] == pytest.approx(0.75)


def test_of_two_badly_located_detections_the_better_one_is_fixed_and_the_other_removed() -> None:
    boxes = [[[10.0, 10, 50, 25], [10, 10, 50, 28]]]
    objects = {"gt_boxes": [[[10.0, 10, 50, 50]]], "gt_classes": [[1]]}
    table = evaluated([one_image(boxes=boxes, scores=[[0.9, 0.8]], classes=[[1, 1]], **objects)]).object_tables()[
        "bbox"
    ]
    # Without the object nothing but false positives is left: AP stays 0.
    assert costs_of("dog", table=table)["dog"] == pytest.approx({**NONE, "location": 1.0})


def test_a_duplicate_costs_what_it_pushes_down() -> None:
    # Ranking of dogs: right, duplicate, right. Precision is 1 up to a recall of 0.5 (51 points), then 2/3 (50 points).
    boxes = [[[10.0, 10, 50, 50], [10, 10, 50, 48], [60, 60, 90, 90]]]
    table = evaluated(
        [one_image(boxes=boxes, scores=[[0.9, 0.8, 0.7]], classes=[[1, 1, 1]], gt_classes=[[1, 1]])]
    ).object_tables()["bbox"]
    lost = 50 / 101 / 3
    assert costs_of("dog", table=table)["dog"] == pytest.approx({**NONE, "duplicate": lost, "false positives": lost})


def test_without_detections_everything_is_lost_to_missed_objects() -> None:
    table = evaluated([one_image(boxes=[[]], scores=[[]], classes=[[]])]).object_tables()["bbox"]
    assert error_costs(table) == {**NONE, "missed": 1.0, "false negatives": 1.0}


def test_without_objects_there_are_no_costs() -> None:
    table = evaluated([one_image(gt_boxes=[[]], gt_classes=[[]])]).object_tables()["bbox"]
    assert error_costs(table) == dict.fromkeys(COSTS)
    assert costs_of("bird", table=table)["bird"] == dict.fromkeys(COSTS)


def test_what_matches_a_crowd_costs_nothing() -> None:
    table = evaluated([one_image(gt_is_crowd=[[True, False]])]).object_tables()["bbox"]
    assert error_costs(table) == NONE
