"""Who matches whom, against pycocotools and hotcoco to the last bit, and cases worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import hotcoco
import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from made_images import CATEGORIES, evaluated, one_image, pycocotools_arrays, random_images
from od_eval.evaluation import matching
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.object_table import ERROR_KINDS, IouType, ObjectTable, precision_recall_scores


class IgnoringDifficult(COCOeval):
    """pycocotools, which overwrites `ignore` by `iscrowd`; here it also holds for difficult objects."""

    def _prepare(self) -> None:
        super()._prepare()
        for objects in self._gts.values():
            for each in objects:
                each["ignore"] = each["ignore"] or each.get("difficult", 0)


def arrays_of(
    evaluator: Evaluator, iou_type: IouType, across_categories: bool = False, backend: str = "pycocotools"
) -> dict[str, np.ndarray]:
    """Precision, recall and scores as another program computes them from COCO's JSON."""
    if backend == "pycocotools":
        params = {"useCats": 0} if across_categories else {}
        return pycocotools_arrays(evaluator, iou_type, protocol=IgnoringDifficult, **params)
    groundtruth, detections = json.loads(json.dumps([evaluator.groundtruth_json(), evaluator.detections_json()]))
    if iou_type == "segm":  # or the area of the box counts as that of the mask
        for detection in detections:
            del detection["bbox"]
    loaded = hotcoco.COCO(groundtruth)
    evaluation = hotcoco.COCOeval(loaded, loaded.load_res(detections), iou_type)
    if across_categories:
        evaluation.params.use_cats = 0
    evaluation.evaluate()
    evaluation.accumulate()
    return {name: evaluation.eval[name][..., 0, 2] for name in ("precision", "recall", "scores")}


def assert_equal_to_the_last_bit(table: ObjectTable, arrays: dict[str, np.ndarray]) -> None:
    precision, recall, scores = precision_recall_scores(table)
    assert (precision > 0).any()
    np.testing.assert_array_equal(precision, arrays["precision"])
    np.testing.assert_array_equal(recall, arrays["recall"])
    np.testing.assert_array_equal(scores, arrays["scores"])


def across_categories(table: ObjectTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    true, false = matching.outcomes(table.rematched(across_categories=True), table.ignored, table.uncounted)
    rows = np.flatnonzero(matching.rank_in_cell(table.detections.image) < matching.MAX_DETECTIONS)
    return matching.precision_recall(table.score[rows], true[rows], false[rows], int(table.num_groundtruth.sum()))


def crowded_images(seed: int, num_detections: int = 250) -> list[EvaluationBatch]:
    """Two images with many more detections of a category than COCO counts, all around a few objects."""
    random = np.random.default_rng(seed)
    batches = []
    for image in range(2):
        begin = random.uniform(0, 60, (12, 2))
        boxes = np.concatenate((begin, begin + random.uniform(10, 40, (12, 2))), axis=1)
        found = boxes[random.integers(0, 12, num_detections)] + random.normal(0, 2, (num_detections, 4))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])
        batches.append(
            EvaluationBatch(
                image_ids=[image],
                image_sizes=[[128, 128]],
                detections=Detections(
                    [found], [random.integers(1, 40, num_detections) / 40], [random.choice([1, 3], num_detections)]
                ),
                groundtruth=GroundTruth(
                    [boxes],
                    [random.choice([1, 3], 12)],
                    is_crowd=[random.random(12) < 0.2],
                    difficult=[random.random(12) < 0.3],
                ),
            )
        )
    return batches


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
@pytest.mark.parametrize("seed", range(4))
def test_precision_recall_and_scores_are_those_of_others_to_the_last_bit(seed: int, backend: str) -> None:
    evaluator = evaluated(random_images(seed, masks=True), masks=True)
    for iou_type, table in evaluator.object_tables().items():
        assert_equal_to_the_last_bit(table, arrays_of(evaluator, iou_type, backend=backend))


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
@pytest.mark.parametrize("seed", range(4))
def test_so_they_are_across_categories(seed: int, backend: str) -> None:
    evaluator = evaluated(random_images(seed, masks=True), masks=True)
    for iou_type, table in evaluator.object_tables().items():
        arrays = arrays_of(evaluator, iou_type, across_categories=True, backend=backend)
        for name, found in zip(("precision", "recall", "scores"), across_categories(table), strict=True):
            np.testing.assert_array_equal(found, arrays[name][..., 0])


@pytest.mark.parametrize("seed", range(3))
def test_difficult_objects_are_ignored_and_only_100_detections_count(seed: int) -> None:
    evaluator = evaluated(crowded_images(seed))
    table = evaluator.object_tables()["bbox"]
    assert table.ignored.sum() > table.groundtruth.crowd.sum() > 0
    assert table.rank.max() > 100
    assert_equal_to_the_last_bit(table, arrays_of(evaluator, "bbox"))


def test_an_evaluation_is_the_same_however_its_images_came() -> None:
    batches = random_images(1)
    first, second = evaluated(batches[:5]), evaluated(batches[5:][::-1])
    second.merge(first)
    tables = [evaluator.object_tables()["bbox"] for evaluator in (evaluated(batches), second)]
    for rows in ("detection", "groundtruth"):
        np.testing.assert_array_equal(*(getattr(table.matches, rows) for table in tables))


def table_of(**changes: Any) -> ObjectTable:
    return evaluated([one_image(**changes)]).object_tables()["bbox"]


def test_the_area_that_an_annotation_gives_does_not_change_how_masks_overlap() -> None:
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 4:16, 4:16] = True
    evaluator = Evaluator({1: "cat"}, masks=True)
    box = [[[4.0, 4, 16, 16]]]
    groundtruth = GroundTruth(box, [[1]], masks=[mask], area=[[2.0]])
    evaluator.update(EvaluationBatch(["a"], [[20, 20]], Detections(box, [[0.9]], [[1]], masks=[mask]), groundtruth))
    pairs = evaluator.object_tables()["segm"].pairs
    assert pairs.iou.tolist() == [1.0]


def test_a_detection_takes_the_best_object_that_is_free_and_of_equal_ones_the_last() -> None:
    table = table_of(
        boxes=[[[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 10]]], scores=[[0.9, 0.8, 0.7]], classes=[[1, 1, 1]],
        gt_boxes=[[[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]]], gt_classes=[[1, 1, 1]],
    )  # fmt: skip
    assert table.matches.detection[:, 0].tolist() == [2, 1, 0]
    assert table.matches.groundtruth[:, 0].tolist() == [2, 1, 0]
    assert table.matches.detection[:, 9].tolist() == [2, -1, 0]  # 0.89 is not 0.95


def test_a_crowd_may_be_matched_by_many_and_only_by_those_that_match_nothing_else() -> None:
    batch = one_image(
        boxes=[[[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]]], scores=[[0.9, 0.8, 0.7]], classes=[[1, 1, 1]],
        gt_boxes=[[[0.0, 0, 20, 20], [0, 0, 10, 10]]], gt_classes=[[1, 1]], gt_is_crowd=[[True, False]],
    )  # fmt: skip
    table = evaluated([batch]).object_tables()["bbox"]
    assert table.matches.detection[:, 0].tolist() == [1, 0, -1]
    true, false = (outcome[:, 0].tolist() for outcome in table.outcomes)
    assert true == [True, False, False]
    assert false == [False, False, True]
    assert table.num_groundtruth.tolist()[0] == 1


def test_a_detection_of_negative_area_is_neither_right_nor_wrong() -> None:
    table = table_of(boxes=[[[10.0, 10, 5, 20], [60, 60, 90, 90]]])
    assert not table.false_positive[0].any()
    assert table.true_positive[1].all()


def test_the_best_partners_are_told_whoever_matches_whom() -> None:
    table = table_of(
        boxes=[[[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [40, 40, 50, 50]]],
        scores=[[0.9, 0.8, 0.7, 0.6]], classes=[[1, 1, 3, 1]], gt_boxes=[[[0.0, 0, 10, 10]]], gt_classes=[[1]],
    )  # fmt: skip
    of_detections, of_groundtruth = table.nearest
    assert of_detections.iou.tolist() == pytest.approx([1, 0.8, 0, 0])
    assert of_detections.row.tolist() == [0, 0, -1, -1]
    assert of_detections.other_iou.tolist() == pytest.approx([0, 0, 0.4, 0])
    assert of_detections.other_row.tolist() == [-1, -1, 0, -1]
    assert (of_groundtruth.iou.tolist(), of_groundtruth.row.tolist()) == ([1.0], [0])
    assert (of_groundtruth.other_iou.tolist(), of_groundtruth.other_row.tolist()) == (pytest.approx([0.4]), [2])


def test_what_is_wrong_with_each() -> None:
    table = table_of(
        boxes=[[
            [0.0, 0, 10, 10],  # right
            [0, 0, 10, 9],  # of the same object
            [0, 20, 10, 34],  # 0.29 of another
            [0, 40, 10, 50],  # a bird is a dog
            [0, 60, 10, 77],  # 0.3 of a bird
            [80, 80, 90, 90],
        ]],
        scores=[[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]], classes=[[1, 1, 1, 1, 1, 1]],
        gt_boxes=[[[0.0, 0, 10, 10], [0, 30, 10, 40], [0, 40, 10, 50], [0, 70, 10, 80], [100, 0, 110, 10]]],
        gt_classes=[[1, 1, 18, 18, 1]],
    )  # fmt: skip
    of_detections, of_groundtruth = table.errors
    names = [ERROR_KINDS[kind] for kind in of_detections]
    assert names == ["", "duplicate", "location", "class", "both", "background"]
    # The second and the third are explained by a detection that means them.
    assert [ERROR_KINDS[kind] for kind in of_groundtruth] == ["", "", "", "missed", "missed"]


def test_what_is_used_and_found_at_a_confidence_for_all_or_of_each_category() -> None:
    table = table_of()  # a dog of 0.9, a cat of 0.8, both found; categories by id: dog, cat, bird, never there
    assert table.is_above(0.9).tolist() == [True, False]
    assert table.is_found(0.85)[:, 0].tolist() == [True, False]
    of_each = np.array([0.95, 0.8, 0, 0])
    assert table.is_above(of_each).tolist() == [False, True]
    assert table.is_found(of_each)[:, 0].tolist() == [False, True]


def test_without_detections_or_objects_nothing_matches() -> None:
    nothing = {"boxes": [np.zeros((0, 4))], "scores": [[]], "classes": [[]]}
    no_objects = {"gt_boxes": [np.zeros((0, 4))], "gt_classes": [[]]}
    for changes in (nothing, no_objects, nothing | no_objects):
        table = table_of(**changes)
        assert not (table.matches.detection >= 0).any()
        assert table.false_positive.all()
        assert not table.is_found(0).any()
        precision, recall, scores = precision_recall_scores(table)
        assert precision.shape == scores.shape == (10, 101, len(CATEGORIES))
        assert {-1.0} == set(recall[:, 3])
