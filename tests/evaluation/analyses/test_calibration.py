"""Calibration, worked out by hand and against hotcoco."""

from __future__ import annotations

import fractions
import math

import hotcoco
import numpy as np
import pytest

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses.calibration import Bin, Overconfidence, calibration, overconfidence
from od_eval.evaluation.object_table import ObjectTable


def hotcoco_calibration(evaluator, iou_type: str) -> dict:
    detections = evaluator.detections_json()
    if iou_type == "segm":
        for detection in detections:
            del detection["bbox"]
    groundtruth = hotcoco.COCO(evaluator.groundtruth_json())
    evaluation = hotcoco.COCOeval(groundtruth, groundtruth.load_res(detections), iou_type)
    evaluation.evaluate()
    return evaluation.calibration()


@pytest.mark.parametrize(("iou_type", "seed"), [("bbox", 0), ("bbox", 1), ("segm", 2)])
def test_the_diagram_is_that_of_hotcoco(iou_type, seed) -> None:
    evaluator = evaluated(random_images(seed, masks=iou_type == "segm"), masks=iou_type == "segm")
    table = evaluator.object_tables()[iou_type]
    assert not (table.true_positive | table.false_positive)[:, 0].all()
    result = calibration(table)
    reference = hotcoco_calibration(evaluator, iou_type)
    assert result.ece == pytest.approx(reference["ece"], abs=1e-12)
    assert len(result.bins) == len(reference["bins"]) == 10
    for of_bin, expected in zip(result.bins, reference["bins"], strict=True):
        assert (of_bin.low, of_bin.high) == pytest.approx((expected["bin_lower"], expected["bin_upper"]))
        assert of_bin.num == expected["count"]
        if of_bin.num:
            values = of_bin.mean_score, of_bin.precision
            assert values == pytest.approx((expected["avg_confidence"], expected["avg_accuracy"]))


def test_a_case_by_hand() -> None:
    # Right: 1.0 and 0.9. Wrong: 0.3 (on the bound of two bins: in the upper one).
    boxes = [[[10.0, 10, 50, 50], [60, 60, 90, 90], [0, 100, 10, 110]]]
    scores = [np.array([1.0, 0.9, 0.3])]
    result = calibration(
        evaluated([one_image(boxes=boxes, scores=scores, classes=[[1, 3, 1]])]).object_tables()["bbox"]
    )
    assert result.bins[9] == Bin(0.9, 1.0, 2, pytest.approx(0.95), 1.0)
    assert result.bins[3] == Bin(0.3, 0.4, 1, pytest.approx(0.3), 0.0)
    assert result.bins[2] == Bin(0.2, 0.3, 0, None, None)
    assert result.ece == pytest.approx((2 * 0.05 + 1 * 0.3) / 3)
    assert result.to_dict()["bins"][9]["num"] == 2


def test_scores_out_of_range_and_no_scores_have_a_reason() -> None:
    table = evaluated([one_image(scores=[[4.5, -1.0]])]).object_tables()["bbox"]
    assert calibration(table).to_dict() == {
        "ece": None,
        "bins": [],
        "reason": "scores are not in [0, 1] but from -1 to 4.5",
    }
    assert overconfidence(table) is None
    for changes in ({"boxes": [[]], "scores": [[]], "classes": [[]]}, {"gt_is_crowd": [[True, True]]}):
        table = evaluated([one_image(**changes)]).object_tables()["bbox"]
        assert calibration(table).reason == "no detection is right or wrong"
        assert overconfidence(table) is None


def with_confident(num_right: int, num_wrong: int, score: float = 0.95) -> ObjectTable:
    """A table of so many right and wrong detections with a score, and one with a low score, in one image."""
    num = num_right + num_wrong
    boxes = [[float(10 * index), 0, 10 * index + 8, 8] for index in range(num + 1)]
    return evaluated(
        [
            one_image(
                boxes=[boxes],
                scores=[np.array([score] * num + [0.1])],
                classes=[[1] * (num + 1)],
                gt_boxes=[boxes[:num_right] or [[500.0, 50, 510, 60]]],
                gt_classes=[[1] * max(num_right, 1)],
                image_sizes=[[2000, 60]],
            )
        ]
    ).object_tables()["bbox"]


def test_many_confident_detections_that_are_wrong_are_a_finding() -> None:
    finding = overconfidence(with_confident(num_right=20, num_wrong=20))
    assert (finding.num, finding.num_right, finding.precision) == (40, 20, 0.5)
    assert finding.mean_score == pytest.approx(0.95)
    # The sum of C(40, k) 0.75^k 0.25^(40 - k) for k = 0 … 20, by exact fractions.
    terms = [math.comb(40, k) * fractions.Fraction(3) ** k for k in range(21)]
    assert finding.p_value == pytest.approx(float(sum(terms) / 4**40))


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "score"),
    [
        (0, 4, 0.95),  # too few: chance explains it in 0.4% of cases
        (6, 6, 0.95),
        (80, 20, 0.95),  # right often enough
        (0, 0, 0.95),
        (20, 20, 0.89),  # not confident
    ],
)
def test_what_chance_explains_or_is_right_is_no_finding(num_right, num_wrong, score) -> None:
    assert overconfidence(with_confident(num_right, num_wrong, score)) is None


def test_five_wrong_ones_are_the_fewest_that_are_a_finding() -> None:
    assert overconfidence(with_confident(0, 5)) == Overconfidence(5, 0, pytest.approx(0.95), pytest.approx(0.25**5))
