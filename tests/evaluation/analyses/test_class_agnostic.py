"""Class-agnostic metrics against pycocotools, and a case worked out by hand."""

from __future__ import annotations

import contextlib
import io

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses.class_agnostic import class_agnostic


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_pycocotools_without_categories(seed: int) -> None:
    evaluator = evaluated(random_images(seed))
    found = class_agnostic(evaluator.object_tables()["bbox"], 0.5)
    with contextlib.redirect_stdout(io.StringIO()):
        groundtruth = COCO()
        groundtruth.dataset = evaluator.groundtruth_json()
        groundtruth.createIndex()
        evaluation = COCOeval(groundtruth, groundtruth.loadRes(evaluator.detections_json()), "bbox")
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    expected = dict(zip(("AP", "AP50", "AP75"), evaluation.stats[:3], strict=True)) | {"AR100": evaluation.stats[8]}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_a_dog_found_as_a_cat_is_found() -> None:
    table = evaluated([one_image(classes=[[3, 3]])]).object_tables()["bbox"]
    found = class_agnostic(table, 0.85)  # only the first
    assert [found[name] for name in ("num_groundtruth", "tp", "fp", "fn")] == [2, 1, 0, 1]
    assert (found["AP"], found["precision"], found["recall"]) == (pytest.approx(1), 1, 0.5)


def test_without_objects_there_is_no_metric() -> None:
    table = evaluated([one_image(gt_boxes=[[]], gt_classes=[[]])]).object_tables()["bbox"]
    found = class_agnostic(table, 0)
    assert [found[name] for name in ("AP", "AR100", "recall", "fp")] == [None, None, None, 2]
