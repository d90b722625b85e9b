"""Precision–recall curves, against pycocotools, a slow computation and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from made_images import evaluated, one_image, pycocotools_arrays, random_images
from od_eval.evaluation.analyses.curves import average_precision, binary_counts, curves
from od_eval.evaluation.analyses.sizes import COCO_RANGES
from od_eval.evaluation.object_table import MAX_AREA, precision_recall_scores


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_curves_are_those_of_pycocotools(iou_type, seed) -> None:
    masks = iou_type == "segm"
    evaluator = evaluated(random_images(seed, num=28, masks=masks), masks=masks)
    table = evaluator.object_tables()[iou_type]
    ranges = {"all": (0, MAX_AREA), **COCO_RANGES}
    reference = pycocotools_arrays(evaluator, iou_type, ranges)
    columns = curves(table)
    names, num = list(table.categories.values()), 0
    for size_index, size in enumerate(ranges):
        precision, scores = (reference[name][..., size_index] for name in ("precision", "scores"))
        there = [index for index in range(len(names)) if precision[0, 0, index] > -1]
        for iou, rows in (("0.50", [0]), ("0.75", [5]), ("0.50:0.95", range(10))):
            for index in [*there, None] if there else []:
                name = None if index is None else names[index]
                chosen = (columns["size"] == size) & (columns["iou"] == iou) & (columns["category"] == name)
                expected = precision[rows][..., there if index is None else [index]].mean(axis=(0, 2))
                np.testing.assert_allclose(columns["precision"][chosen], expected, rtol=0, atol=1e-14)
                confidence = columns["confidence"][chosen]
                if index is None or len(rows) > 1:
                    assert np.isnan(confidence).all()
                else:
                    np.testing.assert_array_equal(np.nan_to_num(confidence), scores[rows[0], :, index])
                num += 101
    assert len(columns["recall"]) == num


def test_a_recall_that_is_not_reached_has_no_confidence() -> None:
    # One of two dogs is found.
    table = evaluated([one_image(gt_classes=[[1, 1]])]).object_tables()["bbox"]
    columns = curves(table)
    chosen = (columns["category"] == "dog") & (columns["iou"] == "0.50") & (columns["size"] == "all")
    reached = columns["recall"][chosen] <= 0.5
    assert columns["precision"][chosen].tolist() == pytest.approx(reached.astype(float).tolist())
    np.testing.assert_array_equal(columns["confidence"][chosen], np.where(reached, 0.9, np.nan))


def slow_area(table, category: int, threshold: int) -> float:
    """The area under the interpolated curve, at each recall the highest precision there or above."""
    rows = [row for row in range(len(table.detections)) if table.detections.category[row] == category]
    rows = sorted((row for row in rows if table.rank[row] < 100), key=lambda row: -table.score[row])
    points, tp, fp = [(0.0, 0.0)], 0, 0
    for row in rows:
        tp += table.true_positive[row, threshold]
        fp += table.false_positive[row, threshold]
        points.append((tp / table.num_groundtruth[category], tp / max(tp + fp, 1)))
    return sum(
        (points[place][0] - points[place - 1][0]) * max(precision for _, precision in points[place:])
        for place in range(1, len(points))
    )


@pytest.mark.parametrize("seed", range(3))
def test_exact_ap_is_the_area_and_ap_that_of_coco(seed) -> None:
    table = evaluated(random_images(seed)).object_tables()["bbox"]
    at_recalls, exact = average_precision(table)
    precision, _, _ = precision_recall_scores(table)
    for category in range(4):
        if not table.num_groundtruth[category]:
            assert np.isnan([at_recalls[:, category], exact[:, category]]).all()
            continue
        np.testing.assert_allclose(at_recalls[:, category], precision[..., category].mean(axis=1), rtol=0, atol=1e-15)
        expected = [slow_area(table, category, threshold) for threshold in range(10)]
        assert exact[:, category].tolist() == pytest.approx(expected, abs=1e-12)
    assert np.nanmax(np.abs(at_recalls - exact)) > 1e-4


def test_of_two_objects_one_found_behind_a_false_one_has_an_area_of_a_quarter() -> None:
    batch = one_image(boxes=[[[0.0, 0, 5, 5], [10, 10, 50, 50]]], classes=[[1, 1]], gt_classes=[[1, 1]])
    at_recalls, exact = average_precision(evaluated([batch]).object_tables()["bbox"])
    assert exact[0, 0] == 0.25
    assert at_recalls[0, 0] == pytest.approx(0.5 * 51 / 101)


@pytest.mark.parametrize("category", [None, 0, 3])
def test_binary_counts_are_those_of_each_threshold(category) -> None:
    table = evaluated(random_images(5)).object_tables()["bbox"]
    got = binary_counts(table, category, 21)
    assert got.shape == (6, 21)
    mine = np.ones(len(table.detections), bool) if category is None else table.detections.category == category
    num = table.num_groundtruth.sum() if category is None else table.num_groundtruth[category]
    for place, threshold in enumerate(np.linspace(0, 1, 21)):
        used = mine & (table.score >= threshold)
        tp, fp = np.sum(table.true_positive[used, 0]), np.sum(table.false_positive[used, 0])
        expected = [tp, fp, 0, num - tp, tp / max(tp + fp, 1), tp / max(num, 1)]
        assert got[:, place].tolist() == pytest.approx(expected)


def test_scores_beyond_0_and_1_count_at_the_ends() -> None:
    table = evaluated([one_image(scores=[[1.5, -2.0]])]).object_tables()["bbox"]
    assert binary_counts(table, None, 3)[0].tolist() == [2, 1, 1]


def test_without_objects_there_are_no_curves() -> None:
    table = evaluated([one_image(gt_boxes=[[]], gt_classes=[[]])]).object_tables()["bbox"]
    assert {name: len(column) for name, column in curves(table).items()} == dict.fromkeys(
        ("category", "iou", "size", "recall", "precision", "confidence"), 0
    )
    assert np.isnan(average_precision(table)[1]).all()
    assert binary_counts(table, None, 3).tolist() == [[0] * 3, [2, 2, 0], [0] * 3, [0] * 3, [0] * 3, [0] * 3]


def test_without_detections_precision_is_0_and_no_confidence_is_known() -> None:
    table = evaluated([one_image(boxes=[[]], scores=[[]], classes=[[]])]).object_tables()["bbox"]
    columns = curves(table)
    assert not columns["precision"].any()
    assert np.isnan(columns["confidence"]).all()
    assert average_precision(table)[1][0, 0] == 0
