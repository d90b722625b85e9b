"""One rule for which evaluation is better."""

import pytest

from od_eval.evaluation.better import best_of, direction, is_better, main_metric, main_value
from od_eval.evaluation.result import EvaluationResult


def result(ap, step, **sections):
    return EvaluationResult(num_images=1, step=step, bbox={"AP": ap}, **sections)


def test_masks_decide_where_there_are_any():
    assert main_metric(["val_AP", "val_segm_AP"], "val_") == "val_segm_AP"
    assert main_metric(["val_AP"], "val_") == main_metric([], "val_") == "val_AP"
    assert main_value(result(0.5, 1, segm={"AP": 0.25})) == 0.25
    assert main_value(result(0.5, 1)) == 0.5
    assert main_value(EvaluationResult(num_images=1)) is None


def test_iou_decides_where_nothing_is_detected():
    assert main_metric(["val_IoU", "val_segmentation_AP", "val_pixel_accuracy"], "val_") == "val_IoU"
    assert main_metric(["val_IoU", "val_AP"], "val_") == "val_AP"
    assert main_value(EvaluationResult(num_images=1, segmentation={"IoU": 0.5, "AP": 0.75})) == 0.5
    assert direction("val_IoU") == direction("segmentation_AP") == "max"


@pytest.mark.parametrize("metric", ["total_loss", "val_night_total_loss", "Loss/RPNLoss/objectness_loss"])
def test_losses_fall(metric):
    assert direction(metric) == "min"


@pytest.mark.parametrize("metric", ["AP", "val_segm_AP50", "Panoptic/PQ", "DetectionBoxes_Recall/AR@1"])
def test_metrics_rise(metric):
    assert direction(metric) == "max"


def test_an_equal_value_is_no_better():
    assert is_better(0.6, 0.5, "max")
    assert is_better(0.4, 0.5, "min")
    assert not is_better(0.5, 0.5, "max")
    assert not is_better(0.5, 0.5, "min")


def test_the_best_is_the_older_of_equals_and_one_that_is_defined():
    results = [result(None, 1), result(0.5, 2), result(0.75, 3), result(0.75, 4), result(None, 5)]
    assert best_of(results).step == 3
    assert best_of(results[:1]) is None
    assert best_of([]) is None
