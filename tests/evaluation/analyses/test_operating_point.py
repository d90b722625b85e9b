"""The operating point: cases worked out by hand, and every cut against a count with a loop."""

from __future__ import annotations

import numpy as np
import pytest

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses import operating_point
from od_eval.evaluation.analyses.operating_point import Counts, cuts
from od_eval.evaluation.object_table import ObjectTable
from od_eval.evaluation.options import AnalysisOptions


def table_of(scores: list[float], right: list[bool], num_missed: int = 0) -> ObjectTable:
    """Dogs one below the other; a detection that is not right is of a bird. Then as many dogs that nothing finds."""
    boxes = [[0.0, 20 * row, 10, 20 * row + 10] for row in range(len(scores) + num_missed)]
    boxes = [[box[1], box[0], box[3], box[2]] for box in boxes]
    of_dogs = [*right, *[True] * num_missed]
    return evaluated(
        [
            one_image(
                boxes=[np.array(boxes[: len(scores)]).reshape(-1, 4)],
                scores=[scores],
                classes=[[1] * len(scores)],
                gt_boxes=[boxes],
                gt_classes=[[1 if is_dog else 18 for is_dog in of_dogs]],
                image_sizes=[[1000, 20]],
            )
        ]
    ).object_tables()["bbox"]


def section(table: ObjectTable, **options) -> dict:
    return operating_point.operating_point({"bbox": table}, AnalysisOptions(**options))


def test_the_confidence_with_the_highest_f1_lies_only_between_different_scores() -> None:
    # Dogs: 0.9 right, 0.8 wrong, 0.8 right, 0.7 right, 0.6 wrong; a fourth is missed, and 2 birds are.
    table = table_of([0.9, 0.8, 0.8, 0.7, 0.6], [True, False, True, True, False], num_missed=1)
    of_dogs = cuts(table, category=0)
    assert of_dogs.confidence.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert of_dogs.tp.tolist() == [1, 2, 3, 3]
    assert of_dogs.fp.tolist() == [0, 1, 1, 2]
    assert of_dogs.f_score() == pytest.approx([2 / 5, 4 / 7, 6 / 8, 6 / 9])
    assert of_dogs.f_score(2) == pytest.approx([5 / 17, 10 / 19, 15 / 20, 15 / 21])
    found = section(table)
    assert (found["confidence"], found["chosen_by"], found["iou"]) == (pytest.approx(0.7), "F1", 0.5)
    dogs = {"num_groundtruth": 4, "num_detections": 4, "tp": 3, "fp": 1, "fn": 1, "precision": 3 / 4, "recall": 3 / 4,
            "f1": 3 / 4, "best_confidence": pytest.approx(0.7)}  # fmt: skip
    assert found["per_category"]["dog"] == dogs
    birds = {"num_groundtruth": 2, "num_detections": 0, "tp": 0, "fp": 0, "fn": 2, "precision": None, "recall": 0.0,
             "f1": 0.0, "best_confidence": None}  # fmt: skip
    assert found["per_category"]["bird"] == birds
    assert found["bbox"] == {"num_groundtruth": 6, "num_detections": 4, "tp": 3, "fp": 1, "fn": 3, "precision": 3 / 4,
                             "recall": 1 / 2, "f1": 6 / 10}  # fmt: skip


def test_a_category_that_is_nowhere_has_no_ratios() -> None:
    never = section(table_of([0.9], [True]))["per_category"]["never there"]
    assert [never[name] for name in ("num_groundtruth", "precision", "recall", "f1")] == [0, None, None, None]


def test_what_a_wanted_precision_leaves_of_recall_and_the_other_way() -> None:
    of_dogs = cuts(table_of([0.9, 0.8, 0.8, 0.7, 0.6], [True, False, True, True, False], num_missed=1), category=0)
    at = operating_point.recall_at_precision
    assert at(of_dogs, 0.9) == {"recall": 1 / 4, "confidence": pytest.approx(0.9)}
    assert at(of_dogs, 0.7) == {"recall": 3 / 4, "confidence": pytest.approx(0.7)}
    assert operating_point.precision_at_recall(of_dogs, 0.5) == {"precision": 3 / 4, "confidence": pytest.approx(0.7)}
    assert operating_point.precision_at_recall(of_dogs, 0.8) is None


@pytest.mark.parametrize(
    ("options", "confidence", "chosen_by"),
    [
        ({"confidence": 0.75}, 0.75, "given"),
        ({"f_beta": 0.1}, 0.9, "F0.1"),
        ({"cost_fp": 1, "cost_fn": 1}, 0.7, "cost"),  # 3 missed, 1 wrong
        ({"cost_fp": 10, "cost_fn": 1}, 0.9, "cost"),
        ({"confidence": 0.2, "cost_fp": 1, "cost_fn": 1}, 0.2, "given"),
    ],
)
def test_the_confidence_may_be_given_or_chosen_by_another_measure(options, confidence, chosen_by) -> None:
    found = section(table_of([0.9, 0.8, 0.8, 0.7, 0.6], [True, False, True, True, False], num_missed=1), **options)
    assert (found["confidence"], found["chosen_by"]) == (pytest.approx(confidence), chosen_by)


def test_where_wrong_detections_cost_more_than_all_objects_none_is_used() -> None:
    found = section(table_of([0.9, 0.8], [False, True]), cost_fp=10, cost_fn=1)
    assert found["confidence"] > 0.9
    assert found["bbox"]["num_detections"] == 0


@pytest.mark.parametrize(("scores", "right"), [([], []), ([0.9, 0.8], [False, False])])
def test_where_no_detection_is_right_the_confidence_is_a_half_and_it_is_said(scores, right) -> None:
    found = section(table_of(scores, right, num_missed=1))
    assert (found["confidence"], found["chosen_by"]) == (0.5, "default")
    assert found["recall_at_precision"]["0.5"] is None


@pytest.mark.parametrize("seed", range(3))
def test_every_cut_counts_what_a_loop_counts(seed: int) -> None:
    table = evaluated(random_images(seed)).object_tables()["bbox"]
    for category in (None, 0, 1):
        of_cuts = cuts(table, category)
        chosen = [row for row in range(len(table.detections)) if category in (None, table.detections.category[row])]
        assert of_cuts.confidence.tolist() == sorted({table.score[row] for row in chosen}, reverse=True)
        for confidence, tp, fp in zip(of_cuts.confidence, of_cuts.tp, of_cuts.fp, strict=True):
            used = [row for row in chosen if table.score[row] >= confidence]
            assert tp == sum(bool(table.true_positive[row, 0]) for row in used)
            assert fp == sum(bool(table.false_positive[row, 0]) for row in used)
            if category is not None:
                assert operating_point.counts(table, confidence)[category] == Counts(
                    of_cuts.num_groundtruth, tp + fp, tp, fp, of_cuts.num_groundtruth - tp
                )
