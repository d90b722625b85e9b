"""What if: against evaluations that were so from the start, and NMS against a loop over all pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from made_images import CATEGORIES, evaluated, one_image, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.label_suspects import Suspect
from od_eval.evaluation.analyses.what_if import (
    can_match_anew,
    matched_anew,
    with_confidence,
    with_merged_categories,
    with_stricter_nms,
    without_suspects,
)
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.object_table import ObjectTable, precision_recall_scores


def from_the_start(
    table: ObjectTable, kept: np.ndarray, category: Callable[[str], int], categories: dict[int, str]
) -> Evaluator:
    """An evaluator that was given some of a table's detections, in its order, and all its objects."""
    names = list(table.categories.values())
    batches = []
    for index, (id, size) in enumerate(table.images.items()):
        of_image = []
        for objects, rows in ((table.detections, kept), (table.groundtruth, np.ones(len(table.groundtruth), bool))):
            part = objects.rows(np.flatnonzero((objects.image == index) & rows))
            classes = [category(names[one]) for one in part.category]
            masks = None if part.masks is None else [part.masks]
            of_image.append((part, {"boxes": [part.box], "classes": [classes], "masks": masks}))
        (found, of_found), (there, of_there) = of_image
        batches.append(
            EvaluationBatch(
                [id],
                [size],
                Detections(**of_found, scores=[found.score]),
                GroundTruth(**of_there, is_crowd=[there.crowd], difficult=[there.difficult]),
            )
        )
    return evaluated(batches, categories, box_format="xywh", masks=table.iou_type == "segm")


def assert_equal(table: ObjectTable, expected: ObjectTable) -> None:
    assert dict(table.categories) == dict(expected.categories)
    np.testing.assert_array_equal(table.detections.box, expected.detections.box)
    np.testing.assert_array_equal(table.detections.category, expected.detections.category)
    np.testing.assert_array_equal(table.groundtruth.category, expected.groundtruth.category)
    np.testing.assert_array_equal(table.matches.detection, expected.matches.detection)
    of_objects = ~expected.groundtruth.crowd
    np.testing.assert_array_equal(table.matches.groundtruth[of_objects], expected.matches.groundtruth[of_objects])
    for name in ("detection", "groundtruth", "iou"):
        np.testing.assert_array_equal(getattr(table.pairs, name), getattr(expected.pairs, name))
    for ours, theirs in zip(precision_recall_scores(table), precision_recall_scores(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def same_id(name: str) -> int:
    return next(id for id, other in CATEGORIES.items() if other == name)


def tables_of(seed: int) -> dict[str, ObjectTable]:
    return evaluated(random_images(seed, num=21, masks=True), masks=True).object_tables()


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("confidence", [0.5, [0.3, 0.9, -np.inf, 0.5], 2.0])
def test_without_detections_below_a_confidence_is_as_if_they_had_not_been_given(iou_type, confidence) -> None:
    table = tables_of(1)[iou_type]
    bounds = np.broadcast_to(confidence, 4)
    kept = np.array([score >= bounds[of] for score, of in zip(table.score, table.detections.category, strict=True)])
    assert kept.sum() < len(kept)
    expected = from_the_start(table, kept, same_id, CATEGORIES).object_tables()[iou_type]
    found = with_confidence(table, np.array(confidence) if isinstance(confidence, list) else confidence)
    assert_equal(found, expected)


def iou_of(box: np.ndarray, other: np.ndarray) -> float:
    sides = [max(min(box[i] + box[i + 2], other[i] + other[i + 2]) - max(box[i], other[i]), 0) for i in (0, 1)]
    intersection = sides[0] * sides[1]
    return intersection / (box[2] * box[3] + other[2] * other[3] - intersection) if intersection else 0.0


def kept_by_nms(table: ObjectTable, iou: float, across_categories: bool) -> np.ndarray:
    """As torchvision's nms or batched_nms: one by one by score, each against all that are kept."""
    detections, kept = table.detections, []
    for row in sorted(range(len(detections)), key=lambda row: -detections.score[row]):
        if not any(
            detections.image[row] == detections.image[other]
            and (across_categories or detections.category[row] == detections.category[other])
            and iou_of(detections.box[row], detections.box[other]) > iou
            for other in kept
        ):
            kept.append(row)
    return np.isin(np.arange(len(detections)), kept)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("iou", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("across_categories", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_stricter_nms_keeps_what_a_loop_keeps(seed, across_categories, iou, iou_type) -> None:
    table = crowded_tables(seed)[iou_type]
    kept = kept_by_nms(table, iou, across_categories)
    assert 0.1 < kept.mean() < 0.97
    expected = from_the_start(table, kept, same_id, CATEGORIES).object_tables()[iou_type]
    assert_equal(with_stricter_nms(table, iou, across_categories=across_categories), expected)


def crowded_tables(seed: int) -> dict[str, ObjectTable]:
    """Each detection twice, the copy a little elsewhere, so that chains of overlaps come about."""
    random = np.random.default_rng(seed)
    images = random_images(seed, num=8, masks=True)
    for batch in images:
        found = batch.detections
        moved = np.maximum(found.boxes[0] + random.normal(0, 4, found.boxes[0].shape).astype(np.float32), 0)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
        found.boxes = [np.concatenate((found.boxes[0], moved))]
        found.scores = [np.concatenate((found.scores[0], random.permutation(found.scores[0])))]
        found.classes = [np.concatenate((found.classes[0], found.classes[0]))]
        found.masks = [np.concatenate((found.masks[0], found.masks[0]))]
    return evaluated(images, masks=True).object_tables()


def test_nms_is_greedy_and_a_box_with_exactly_the_iou_stays() -> None:
    # Three in a row, 30 wide and shifted by 10: neighbours have 20 of 40 pixels in common, an IoU of 0.5.
    row = [[0.0, 10.0 * shift, 10, 10.0 * shift + 30] for shift in range(3)]
    table = evaluated([one_image(boxes=[row], scores=[[0.9, 0.8, 0.7]], classes=[[1, 1, 1]])]).object_tables()["bbox"]
    assert with_stricter_nms(table, 0.5).score.tolist() == pytest.approx([0.9, 0.8, 0.7])
    # The second goes, and then it is no reason for the third to go: its IoU with the first is 0.2.
    assert with_stricter_nms(table, 0.49).score.tolist() == pytest.approx([0.9, 0.7])
    other = evaluated([one_image(boxes=[row], scores=[[0.9, 0.8, 0.7]], classes=[[1, 3, 1]])]).object_tables()["bbox"]
    assert len(with_stricter_nms(other, 0.49).detections) == 3, "of other categories"


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize(
    "merged",
    [
        {"pet": ["cat", "dog"]},
        {"animal": ["dog", "cat", "bird", "never there"]},
        {"bird": ["bird", "dog"], "c": ["cat"]},
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_merged_categories_have_the_numbers_of_an_evaluation_of_them_from_the_start(seed, merged, iou_type) -> None:
    table = tables_of(seed)[iou_type]
    new_name = {member: name for name, members in merged.items() for member in members}
    categories: dict[int, str] = {}
    for id in sorted(CATEGORIES):
        name = new_name.get(CATEGORIES[id], CATEGORIES[id])
        if name not in categories.values():
            categories[id] = name
    ids = {name: id for id, name in categories.items()}
    every = np.ones(len(table.detections), bool)
    expected = from_the_start(table, every, lambda name: ids[new_name.get(name, name)], categories)
    found = with_merged_categories(table, merged)
    assert_equal(found, expected.object_tables()[iou_type])
    precision = precision_recall_scores(found)[0]
    assert precision[precision > -1].mean() == expected.evaluate()[iou_type]["AP"]
    assert precision.shape != precision_recall_scores(table)[0].shape


@pytest.mark.parametrize(
    ("merged", "words"),
    [
        ({"pet": ["cat", "dogg"]}, "no category 'dogg'; did you mean 'dog'?"),
        ({"bird": ["cat", "dog"]}, "there is a category 'bird' that is not merged"),
        ({"pet": ["cat", "dog"], "flying": ["bird", "cat"]}, "'cat' is merged twice"),
    ],
)
def test_categories_that_cannot_be_merged_are_named(merged, words) -> None:
    with pytest.raises(ODEvalError, match=words.replace("?", r"\?")):
        with_merged_categories(tables_of(0)["bbox"], merged)


def test_suspects_are_forgiven() -> None:
    # A dog that is found; a dog nobody sees; a bird that is called a cat; something found where there is no label.
    places = [[0.0, 0, 10, 10], [0, 20, 10, 30], [0, 40, 10, 50], [0, 60, 10, 70]]
    table = evaluated(
        [
            one_image(
                boxes=[[places[0], places[2], places[3]]],
                scores=[[0.9, 0.8, 0.7]],
                classes=[[1, 3, 1]],
                gt_boxes=[places[:3]],
                gt_classes=[[1, 1, 18]],
            )
        ]
    ).object_tables()["bbox"]
    assert (table.num_groundtruth.tolist(), table.false_positive[:, 0].tolist()) == ([2, 0, 1, 0], [False, True, True])
    suspects = [
        Suspect("missing", 0, 2, -1, 0.7, 0.0, 1.0),
        Suspect("class", 0, 1, 2, 0.8, 1.0, 1.0),
        Suspect("extra", 0, -1, 1, None, 0.0, 0.5),
    ]
    forgiven = without_suspects(table, suspects)
    assert forgiven.groundtruth.difficult.tolist() == [False, True, True]
    assert forgiven.num_groundtruth.tolist() == [1, 0, 0, 0]
    assert forgiven.true_positive[:, 0].tolist() == [True, False, False]
    assert forgiven.false_positive[:, 0].tolist() == [False, True, False], "the cat stays wrong"
    assert table.num_groundtruth.sum() == 3, "the table itself is not changed"
    assert_equal(without_suspects(table, []), table)


def test_a_detection_rather_matches_an_object_that_counts_than_a_forgiven_one() -> None:
    # IoU 1 with the first, 0.9 with the second; once the first is forgiven, the second is taken.
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 9]]
    table = evaluated(
        [one_image(boxes=[boxes[:1]], scores=[[0.9]], classes=[[1]], gt_boxes=[boxes], gt_classes=[[1, 1]])]
    ).object_tables()["bbox"]
    assert table.matches.detection[0, 0] == 0
    forgiven = without_suspects(table, [Suspect("location", 0, 0, 0, 0.9, 0.5, 1.0)])
    assert forgiven.matches.detection[0, 0] == 1


def test_masks_that_are_not_there_cannot_be_matched_anew() -> None:
    table = tables_of(0)["segm"]
    assert can_match_anew(table)
    without = dataclasses.replace(
        table,
        groundtruth=dataclasses.replace(table.groundtruth, masks=None),
        detections=dataclasses.replace(table.detections, masks=None),
    )
    assert not can_match_anew(without)
    for change in (
        matched_anew,
        lambda table: with_stricter_nms(table, 0.5),
        lambda table: with_merged_categories(table, {"pet": ["cat", "dog"]}),
        lambda table: without_suspects(table, []),
    ):
        with pytest.raises(ODEvalError, match="masks cannot be matched anew"):
            change(without)
    assert len(with_confidence(without, 0.5).detections) < len(table.detections)


@pytest.mark.parametrize("change", ["no detections", "no objects"])
def test_nothing_to_change_is_no_problem(change) -> None:
    empty = (
        {"boxes": [np.zeros((0, 4))], "scores": [[]], "classes": [[]]}
        if change == "no detections"
        else {"gt_boxes": [np.zeros((0, 4))], "gt_classes": [[]]}
    )
    table = evaluated([one_image(**empty)], {1: "cat", 3: "dog"}).object_tables()["bbox"]
    assert_equal(with_stricter_nms(table, 0.5), table)
    assert_equal(with_confidence(table, 0.1), table)
    assert_equal(without_suspects(table, []), table)
    assert list(with_merged_categories(table, {"pet": ["dog", "cat"]}).categories.items()) == [(1, "pet")]
