"""Counts by IoU, size and category, against pycocotools' matches of images and by hand."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses.counts import counts
from od_eval.evaluation.analyses.sizes import size_ranges
from od_eval.evaluation.object_table import MAX_AREA


def pycocotools_counts(evaluator, confidence: dict[int, float], bounds: tuple, use_cats: bool) -> dict:
    """Category id -> objects, true and false positives at the ten IoUs; detections below the confidence are removed."""
    groundtruth, detections = json.loads(json.dumps([evaluator.groundtruth_json(), evaluator.detections_json()]))
    detections = [one for one in detections if one["score"] >= confidence[one["category_id"]]]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = groundtruth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(bounds)], ["all"]
        evaluation.params.useCats = int(use_cats)
        evaluation.evaluate()
    result: dict = {}
    for image in evaluation.evalImgs:
        if image is not None:
            total = result.setdefault(image["category_id"], np.zeros((10, 3), int))
            matched, ignored = image["dtMatches"] > 0, image["dtIgnore"].astype(bool)
            total[:, 0] += np.sum(np.asarray(image["gtIgnore"]) == 0)
            total[:, 1] += np.sum(matched & ~ignored, axis=1)
            total[:, 2] += np.sum(~matched & ~ignored, axis=1)
    return result


@pytest.mark.parametrize("per_category", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_pycocotools_for_every_iou_size_and_category(seed, per_category) -> None:
    evaluator = evaluated(random_images(seed, num=28))
    table = evaluator.object_tables()["bbox"]
    confidence = np.array([0.2, 0.6, 0.35, 0.5]) if per_category else 0.3
    of_id = dict(zip(table.categories, np.broadcast_to(confidence, 4).tolist(), strict=True))
    ranges = size_ranges(table, {"plates": (50, 700)})
    columns = counts(table, ranges, confidence)
    got: dict = {}
    for size, kind, category, gt, tp, fp in zip(
        *(columns[name] for name in ("size", "kind", "category", "num_groundtruth", "tp", "fp")), strict=True
    ):
        got.setdefault((size, kind, category), []).append([gt, tp, fp])
    for size, bounds in {"all": (0, MAX_AREA), **ranges}.items():
        reference = pycocotools_counts(evaluator, of_id, bounds, use_cats=True)
        for id, name in table.categories.items():
            assert got[size, "category", name] == reference.get(id, np.zeros((10, 3), int)).tolist()
        assert got[size, "all", None] == sum(reference.values()).tolist()
        agnostic = pycocotools_counts(evaluator, of_id, bounds, use_cats=False)
        assert got[size, "class_agnostic", None] == agnostic[-1].tolist()
    assert len(columns["iou"]) == (4 + 2) * 10 * (len(ranges) + 1)


def row(columns: dict, **wanted) -> dict:
    """The only row with these values."""
    (found,) = (
        place
        for place in range(len(columns["iou"]))
        if all(columns[name][place] == is_ for name, is_ in wanted.items())
    )
    return {name: column[found] for name, column in columns.items() if name not in wanted}


def test_a_case_by_hand() -> None:
    # The dog is found, the cat is called a dog; a third detection is below the confidence.
    batch = one_image(
        boxes=[[[10.0, 10, 50, 50], [60, 60, 90, 90], [60, 60, 90, 90]]], scores=[[0.9, 0.8, 0.4]], classes=[[1, 1, 3]]
    )
    columns = counts(evaluated([batch]).object_tables()["bbox"], {"small": (0, 1000)}, 0.5)
    dog = {"num_groundtruth": 1, "num_detections": 2, "tp": 1, "fp": 1, "fn": 0}
    assert row(columns, size="all", kind="category", category="dog", iou=0.5) == dog | {
        "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3),
    }  # fmt: skip
    none = {"num_detections": 0, "tp": 0, "fp": 0, "precision": None}
    assert row(columns, size="all", kind="category", category="cat", iou=0.95) == none | {
        "num_groundtruth": 1, "fn": 1, "recall": 0.0, "f1": 0.0,
    }  # fmt: skip
    assert row(columns, size="all", kind="class_agnostic", iou=0.5)["tp"] == 2
    assert row(columns, size="all", kind="all", iou=0.5)["f1"] == 0.5
    # The dog has an area of 1600 and is outside; the cat and the false dog have 900.
    small = row(columns, size="small", kind="category", category="dog", iou=0.5)
    assert (small["num_groundtruth"], small["tp"], small["fp"], small["recall"]) == (0, 0, 1, None)


def test_objects_are_found_or_missed_and_detections_right_or_wrong() -> None:
    table = evaluated(random_images(3)).object_tables()["bbox"]
    columns = {name: np.array(column) for name, column in counts(table, size_ranges(table), 0.5).items()}
    assert np.all(columns["fn"] >= 0)
    assert np.all(columns["num_groundtruth"] == columns["tp"] + columns["fn"])
    assert np.all(columns["num_detections"] == columns["tp"] + columns["fp"])


def test_detections_beyond_the_first_100_count() -> None:
    batch = one_image(boxes=[[[0.0, 0, 5, 5]] * 150], scores=[[0.9] * 150], classes=[[1] * 150])
    assert row(counts(evaluated([batch]).object_tables()["bbox"], {}, 0.5), kind="all", iou=0.5)["fp"] == 150


@pytest.mark.parametrize(
    "changes", [{"boxes": [[]], "scores": [[]], "classes": [[]]}, {"gt_boxes": [[]], "gt_classes": [[]]}]
)
def test_one_side_may_be_empty(changes) -> None:
    table = evaluated([one_image(**changes)]).object_tables()["bbox"]
    all_of_it = row(counts(table, size_ranges(table), 0.5), size="all", kind="all", iou=0.5)
    assert (all_of_it["tp"], all_of_it["fp"] + all_of_it["fn"]) == (0, 2)
