"""The confusion matrix, against cases worked out by hand, a plain loop over pairs, and supervision's."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from made_images import CATEGORIES, evaluated, mask_of, one_image, random_images
from od_eval.evaluation.analyses.confusion import confusion_matrix, most_confused
from od_eval.evaluation.analyses.operating_point import counts
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.object_table import ObjectTable

DOG, CAT, BIRD, NEVER, BACKGROUND = range(5)
BOX, OTHER_BOX, FAR_BOX = [10.0, 10, 50, 50], [60.0, 60, 90, 90], [0.0, 100, 9, 118]


def table_of(**changes) -> ObjectTable:
    return evaluated([one_image(**changes)]).object_tables()["bbox"]


def random_table(seed: int, iou_type: str = "bbox", difficult: bool = False) -> ObjectTable:
    """Of random images where several detections of different categories compete for the same objects."""
    images = random_images(seed, num=28, masks=True)
    random = np.random.default_rng(seed)
    for batch in images:
        there, found = batch.groundtruth, batch.detections
        if len(there.boxes[0]) and len(found.boxes[0]):
            boxes = there.boxes[0][random.integers(0, len(there.boxes[0]), 12)]
            boxes = np.where(random.random((12, 1)) < 0.7, boxes + random.normal(0, 2, boxes.shape), found.boxes[0])
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
            found.boxes = [boxes]
            found.masks = [np.stack([mask_of(box, *batch.image_sizes[0]) for box in boxes])]
            found.classes = [random.choice([*CATEGORIES], 12)]
        if difficult:
            there.difficult = [random.random(len(there.classes[0])) < 0.2]
    return evaluated(images, masks=True).object_tables()[iou_type]


def cells(matrix) -> dict[tuple[int, int], int]:
    """The cells that are not 0."""
    return {(int(i), int(j)): int(matrix.counts[i, j]) for i, j in np.argwhere(matrix.counts)}


def iou_of(table: ObjectTable, image: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of detections and of objects in an image, and pycocotools' IoU of all of them."""
    detections = np.flatnonzero(table.detections.image == image)
    objects = np.flatnonzero(table.groundtruth.image == image)
    if not len(detections) or not len(objects):
        return detections, objects, np.zeros((len(detections), len(objects)))
    if table.iou_type == "segm":
        found, there = ([of.masks[row] for row in rows] for of, rows in _sides(table, detections, objects))
    else:
        found, there = (of.box[rows] for of, rows in _sides(table, detections, objects))
    return detections, objects, coco_mask.iou(found, there, table.groundtruth.crowd[objects].tolist())


def _sides(table, detections, objects):
    return (table.detections, detections), (table.groundtruth, objects)


def plain_confusions(table: ObjectTable, confidence: np.ndarray, threshold: float) -> dict[tuple[int, int], list]:
    """(actual, predicted) -> (detection, object), by a loop over detections and pairs."""
    cells: dict[tuple[int, int], list] = {}
    ignored = table.groundtruth.crowd | table.groundtruth.difficult
    for image in range(len(table.images)):
        detections, objects, iou = iou_of(table, image)
        taken: set[int] = set()
        left = []
        for d, row in enumerate(detections):
            category = table.detections.category[row]
            if table.score[row] < confidence[category]:
                continue
            candidates = [
                (not ignored[at], iou[d, g], at)
                for g, at in enumerate(objects)
                if table.groundtruth.category[at] == category
                and iou[d, g] >= threshold
                and (at not in taken or table.groundtruth.crowd[at])
            ]
            if not candidates:
                left.append((d, row))
                continue
            counts, _, at = max(candidates)
            taken.add(at)
            if counts:
                cells.setdefault((category, category), []).append((row, at))
        pairs = sorted(
            (-table.score[row], -iou[d, g], row, at)
            for d, row in left
            for g, at in enumerate(objects)
            if at not in taken and not ignored[at] and iou[d, g] >= threshold
        )
        confused: set[int] = set()
        for _, _, row, at in pairs:
            if row not in confused and at not in taken:
                confused.add(row)
                taken.add(at)
                cell = table.groundtruth.category[at], table.detections.category[row]
                cells.setdefault(cell, []).append((row, at))
        for _, row in left:
            if row not in confused:
                cells.setdefault((BACKGROUND, table.detections.category[row]), []).append((row, -1))
        for at in objects:
            if at not in taken and not ignored[at]:
                cells.setdefault((table.groundtruth.category[at], BACKGROUND), []).append((-1, at))
    return cells


# ---- By hand --------------------------------------------------------------------------------------------------------


def test_a_wrong_category_with_a_higher_score_does_not_take_the_object_from_the_right_one() -> None:
    table = table_of(boxes=[[BOX, BOX]], scores=[[0.9, 0.6]], classes=[[3, 1]], gt_boxes=[[BOX]], gt_classes=[[1]])
    assert cells(confusion_matrix(table, 0.5)) == {(DOG, DOG): 1, (BACKGROUND, CAT): 1}
    # Below the confidence, the right one no longer counts.
    assert cells(confusion_matrix(table, 0.7)) == {(DOG, CAT): 1}


def test_rows_are_actual_and_columns_predicted() -> None:
    table = table_of(
        boxes=[[BOX, FAR_BOX]], scores=[[0.9, 0.8]], classes=[[3, 18]],
        gt_boxes=[[BOX, OTHER_BOX]], gt_classes=[[1, 3]],
    )  # fmt: skip
    matrix = confusion_matrix(table, 0.5)
    assert matrix.labels == ("dog", "cat", "bird", "never there", "background")
    assert matrix.counts.tolist() == [
        [0, 1, 0, 0, 0],  # the dog is taken for a cat
        [0, 0, 0, 0, 1],  # the cat is missed
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],  # where a bird is seen is nothing
    ]
    assert [rows.tolist() for rows in matrix.rows(DOG, CAT)] == [[0], [0]]
    assert [rows.tolist() for rows in matrix.rows(CAT, BACKGROUND)] == [[-1], [1]]
    assert [rows.tolist() for rows in matrix.rows(BACKGROUND, BIRD)] == [[1], [-1]]
    assert [rows.tolist() for rows in matrix.rows(BIRD, BIRD)] == [[], []]


def test_of_wrong_categories_the_highest_score_takes_the_object_it_overlaps_most() -> None:
    shifted = [10.0, 14, 50, 54]  # IoU with BOX 0.82
    table = table_of(
        boxes=[[BOX, BOX, BOX]], scores=[[0.9, 0.8, 0.7]], classes=[[3, 18, 90]],
        gt_boxes=[[shifted, BOX]], gt_classes=[[1, 1]],
    )  # fmt: skip
    matrix = confusion_matrix(table, 0.5)
    assert cells(matrix) == {(DOG, CAT): 1, (DOG, BIRD): 1, (BACKGROUND, NEVER): 1}
    assert [rows.tolist() for rows in matrix.rows(DOG, CAT)] == [[0], [1]]
    assert [rows.tolist() for rows in matrix.rows(DOG, BIRD)] == [[1], [0]]


def test_of_wrong_categories_with_equal_scores_the_higher_iou_takes_the_object() -> None:
    shifted = [10.0, 14, 50, 54]
    table = table_of(boxes=[[shifted, BOX]], scores=[[0.9, 0.9]], classes=[[3, 18]], gt_boxes=[[BOX]], gt_classes=[[1]])
    assert cells(confusion_matrix(table, 0.5)) == {(DOG, BIRD): 1, (BACKGROUND, CAT): 1}


def test_an_iou_below_the_threshold_confuses_nobody() -> None:
    shifted = [10.0, 20, 50, 60]  # IoU with BOX 30 * 40 / (2 * 1600 - 1200) = 0.6
    table = table_of(boxes=[[shifted]], scores=[[0.9]], classes=[[3]], gt_boxes=[[BOX]], gt_classes=[[1]])
    assert cells(confusion_matrix(table, 0.5, iou_index=2)) == {(DOG, CAT): 1}
    assert cells(confusion_matrix(table, 0.5, iou_index=3)) == {(DOG, BACKGROUND): 1, (BACKGROUND, CAT): 1}


@pytest.mark.parametrize("why", ["gt_is_crowd", "gt_difficult"])
def test_detections_that_match_ignored_objects_do_not_count(why) -> None:
    table = table_of(**{why: [[True, False]]})
    assert cells(confusion_matrix(table, 0.5)) == {(CAT, CAT): 1}
    # An ignored object is not confused with anything: a wrong category there is a false positive.
    table = table_of(classes=[[18, 3]], **{why: [[True, False]]})
    assert cells(confusion_matrix(table, 0.5)) == {(CAT, CAT): 1, (BACKGROUND, BIRD): 1}


def test_each_category_may_have_its_own_confidence() -> None:
    confidence = np.array([0.95, 0.8, 0.5, 0.5])
    assert cells(confusion_matrix(table_of(), confidence)) == {(DOG, BACKGROUND): 1, (CAT, CAT): 1}


def test_rates_are_parts_of_a_row_or_column_and_none_where_it_is_empty() -> None:
    table = table_of(
        boxes=[[BOX, BOX, FAR_BOX]], scores=[[0.9, 0.8, 0.7]], classes=[[1, 3, 1]],
        gt_boxes=[[BOX, BOX]], gt_classes=[[1, 1]],
    )  # fmt: skip
    matrix = confusion_matrix(table, 0.5)
    nothing = [None] * 5
    assert matrix.by_row.tolist() == [[0.5, 0.5, 0, 0, 0], nothing, nothing, nothing, [1, 0, 0, 0, 0]]
    assert matrix.by_column.T.tolist() == [[0.5, 0, 0, 0, 0.5], [1, 0, 0, 0, 0], nothing, nothing, nothing]


def test_the_most_frequent_confusion_comes_first_and_of_equal_ones_that_with_the_highest_score() -> None:
    places = [[0.0, 20 * i, 10, 20 * i + 10] for i in range(6)]
    table = table_of(
        boxes=[places], scores=[[0.6, 0.9, 0.7, 0.8, 0.5, 0.4]], classes=[[18, 3, 18, 1, 18, 3]],
        gt_boxes=[places], gt_classes=[[1, 1, 1, 3, 3, 3]],
    )  # fmt: skip
    found = most_confused(table, confusion_matrix(table, 0.5))
    assert [(one.actual, one.predicted, one.count, one.highest_score) for one in found] == [
        (DOG, BIRD, 2, pytest.approx(0.7)),
        (DOG, CAT, 1, pytest.approx(0.9)),
        (CAT, DOG, 1, pytest.approx(0.8)),
        (CAT, BIRD, 1, pytest.approx(0.5)),
    ]
    assert (found[0].of_objects, found[0].of_detections) == (2 / 3, 2 / 3)
    assert table.score[found[0].detection].tolist() == pytest.approx([0.7, 0.6])
    assert found[0].groundtruth.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"boxes": [[]], "scores": [[]], "classes": [[]]}, {(DOG, BACKGROUND): 1, (CAT, BACKGROUND): 1}),
        ({"gt_boxes": [[]], "gt_classes": [[]]}, {(BACKGROUND, DOG): 1, (BACKGROUND, CAT): 1}),
        ({name: [[]] for name in ("boxes", "scores", "classes", "gt_boxes", "gt_classes")}, {}),
    ],
)
def test_without_detections_or_objects_all_is_background(changes, expected) -> None:
    table = table_of(**changes)
    matrix = confusion_matrix(table, 0.0)
    assert cells(matrix) == expected
    assert most_confused(table, matrix) == []


# ---- Against others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("confidence", [0.0, 0.4, [0.2, 0.5, 0.35, 0.9]])
def test_the_matrix_and_its_rows_are_those_of_a_loop_over_pairs(seed, iou_type, confidence) -> None:
    table = random_table(seed, iou_type, difficult=seed % 2 == 1)
    matrix = confusion_matrix(table, confidence)
    bounds = np.broadcast_to(confidence, 4)
    expected = plain_confusions(table, bounds, 0.5)
    assert len([pair for pair in expected if BACKGROUND not in pair]) > 3
    assert sum(len(rows) for (i, j), rows in expected.items() if i != j and BACKGROUND not in (i, j)) > 3
    for actual in range(5):
        for predicted in range(5):
            detection, groundtruth = matrix.rows(actual, predicted)
            pairs = list(zip(detection.tolist(), groundtruth.tolist(), strict=True))
            assert sorted(pairs) == sorted(expected.get((actual, predicted), []))
            assert matrix.counts[actual, predicted] == len(pairs)
            if predicted != BACKGROUND:
                assert (np.diff(table.score[detection]) <= 0).all()


@pytest.mark.parametrize("iou_index", [0, 5, 9])
def test_sums_of_rows_are_objects_and_sums_of_columns_are_detections(iou_index) -> None:
    table = random_table(seed=5, difficult=True)
    matrix = confusion_matrix(table, 0.3, iou_index)
    of_categories = counts(table, 0.3, iou_index)
    assert matrix.counts.sum(axis=1)[:-1].tolist() == [one.num_groundtruth for one in of_categories]
    assert matrix.counts.sum(axis=0)[:-1].tolist() == [one.num_detections for one in of_categories]
    assert matrix.counts.diagonal()[:-1].tolist() == [one.tp for one in of_categories]


@pytest.mark.parametrize("seed", range(5))
def test_the_matrix_equals_that_of_supervision_where_scores_rank_like_ious(seed) -> None:
    """supervision matches by descending IoU, whatever the score, above the threshold and not at it, and knows neither
    crowds nor difficult objects. So each detection here overlaps one object only, and its score is their IoU.
    """
    supervision = pytest.importorskip("supervision", reason="supervision cannot be imported", exc_type=ImportError)
    random = np.random.default_rng(seed)
    batches, predictions, targets = [], [], []
    for number in range(20):
        # Objects are 30 pixels apart.
        corner = np.argwhere(random.random((4, 4)) < 0.5) * 60.0
        boxes = np.concatenate((corner, corner + 30), axis=1).reshape(-1, 4)
        classes = random.choice([1, 3, 18], len(boxes))
        of_object = random.integers(0, len(boxes), 3 * len(boxes))
        shift = random.uniform(-10, 10, (len(of_object), 2))
        found = boxes[of_object] + np.tile(shift, 2)
        found_classes = np.where(
            random.random(len(found)) < 0.6, classes[of_object], random.choice([1, 3, 18, 90], len(found))
        )
        sides = 30 - np.abs(shift)
        intersection = sides.prod(axis=1)
        scores = (intersection / (2 * 30**2 - intersection)).astype(np.float32)
        batches.append(
            EvaluationBatch(
                image_ids=[number],
                image_sizes=[[240, 240]],
                detections=Detections([found], [scores], [found_classes]),
                groundtruth=GroundTruth([boxes], [classes]),
            )
        )
        index = {1: DOG, 3: CAT, 18: BIRD, 90: NEVER}
        xyxy = [1, 0, 3, 2]
        predictions.append(
            supervision.Detections(
                xyxy=found[:, xyxy], confidence=scores, class_id=np.array([index[id] for id in found_classes], int)
            )
        )
        targets.append(
            supervision.Detections(xyxy=boxes[:, xyxy], class_id=np.array([index[id] for id in classes], int))
        )
    theirs = supervision.ConfusionMatrix.from_detections(
        predictions, targets, ["dog", "cat", "bird", "never there"], conf_threshold=0.4, iou_threshold=0.5
    ).matrix
    matrix = confusion_matrix(evaluated(batches).object_tables()["bbox"], 0.4)
    assert matrix.counts.tolist() == theirs.tolist()
    assert np.trace(theirs) > 0
    assert theirs[:-1, :-1].sum() > np.trace(theirs)
