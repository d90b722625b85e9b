"""The table of images, against a case worked out by hand, a loop over images, and the counts of the evaluation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses.operating_point import counts, cuts, total
from od_eval.evaluation.analyses.per_image import per_image, worst
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable, object_table

BOX, OTHER_BOX, FAR_BOX = [10.0, 10, 50, 50], [60.0, 60, 90, 90], [0.0, 100, 9, 118]
NOTHING = {name: [[]] for name in ("boxes", "scores", "classes", "gt_boxes", "gt_classes")}


def random_table(seed: int, iou_type: str = "bbox") -> ObjectTable:
    images = random_images(seed, num=28, masks=True)
    random = np.random.default_rng(seed)
    for batch in images:
        batch.groundtruth.difficult = [random.random(len(batch.groundtruth.classes[0])) < 0.15]
    return evaluated(images, masks=True).object_tables()[iou_type]


def with_detections_above(table: ObjectTable, confidence: float) -> ObjectTable:
    """The table of an evaluation that never saw the other detections."""
    used = np.flatnonzero(table.detections.score >= confidence)
    return object_table(table.iou_type, table.categories, table.images, table.groundtruth, table.detections.rows(used))


def test_each_image_has_its_counts_ratios_and_errors() -> None:
    shifted = [10.0, 18, 50, 58]  # IoU with BOX 32 * 40 / (2 * 1600 - 1280) = 2 / 3
    badly_located = [60.0, 75, 90, 105]  # IoU with OTHER_BOX 15 * 30 / (2 * 900 - 450) = 1 / 3
    mixed = one_image(
        boxes=[[shifted, BOX, badly_located, FAR_BOX, BOX]],
        scores=[[0.9, 0.8, 0.7, 0.6, 0.1]],
        classes=[[1, 1, 3, 18, 90]],
        gt_boxes=[[BOX, OTHER_BOX, FAR_BOX]],
        gt_classes=[[1, 3, 3]],
    )
    images = per_image(evaluated([mixed, one_image(image_ids=["empty"], **NOTHING)]).object_tables()["bbox"], 0.5)
    rows = {id: {name: column[row] for name, column in images.items()} for row, id in enumerate(images["image_id"])}
    assert rows["a"] == {
        "image_id": "a",
        "num_groundtruth": 3,
        "num_detections": 4,
        "tp": 1,
        "fp": 3,
        "fn": 2,
        "precision": 1 / 4,
        "recall": 1 / 3,
        "f1": 2 / 7,
        "mean_iou": pytest.approx(2 / 3),
        "highest_fp_score": pytest.approx(0.8),
        "class": 1,
        "location": 1,
        "both": 0,
        "duplicate": 1,
        "background": 0,
        "missed": 0,  # a detection means each of the two that are not found
        "num_errors": 3,
        "badness": pytest.approx(2 + 0.8 + 0.7 + 0.6),
    }
    undefined = {"precision", "recall", "f1", "mean_iou", "highest_fp_score"}
    assert {name for name, value in rows["empty"].items() if value is None} == undefined
    assert all(rows["empty"][name] == 0 for name in rows["empty"].keys() - undefined - {"image_id"})


def test_the_mean_iou_is_of_what_is_matched_even_if_another_object_overlaps_more() -> None:
    shifted = [10.0, 18, 50, 58]
    # The second detection overlaps BOX most, which the first has taken.
    batch = one_image(
        boxes=[[BOX, BOX]], scores=[[0.9, 0.8]], classes=[[1, 1]], gt_boxes=[[BOX, shifted]], gt_classes=[[1, 1]]
    )
    images = per_image(evaluated([batch]).object_tables()["bbox"], 0.5)
    assert images["mean_iou"] == [pytest.approx((1 + 2 / 3) / 2)]


def test_an_object_is_missed_if_only_detections_below_the_confidence_mean_it() -> None:
    batch = one_image(boxes=[[BOX]], scores=[[0.4]], classes=[[3]], gt_boxes=[[BOX]], gt_classes=[[1]])
    table = evaluated([batch]).object_tables()["bbox"]
    found = {
        confidence: {kind: int(per_image(table, confidence)[kind][0]) for kind in ("class", "missed")}
        for confidence in (0.3, 0.5)
    }
    assert found == {0.3: {"class": 1, "missed": 0}, 0.5: {"class": 0, "missed": 1}}


def test_a_detection_means_an_object_that_counts_even_if_it_overlaps_a_difficult_one_more() -> None:
    badly_located = [10.0, 30, 50, 70]  # IoU with BOX 1 / 3
    difficult = [10.0, 45, 50, 85]  # IoU with it 25 * 40 / (2 * 1600 - 1000) = 0.45
    batch = one_image(
        boxes=[[badly_located]],
        scores=[[0.9]],
        classes=[[1]],
        gt_boxes=[[BOX, difficult]],
        gt_classes=[[1, 1]],
        gt_difficult=[[False, True]],
    )
    images = per_image(evaluated([batch]).object_tables()["bbox"], 0.5)
    assert [int(images[kind][0]) for kind in ("location", "missed", "num_errors")] == [1, 0, 1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("confidence", [0.0, 0.35, 0.7, 1.1])
def test_the_columns_are_those_of_an_evaluation_of_the_detections_above_the_confidence(
    seed, iou_type, confidence
) -> None:
    table = random_table(seed, iou_type)
    images = per_image(table, confidence)
    only = with_detections_above(table, confidence)
    true, false = only.true_positive[:, 0], only.false_positive[:, 0]
    kinds, kinds_of_objects = only.errors
    for image in range(len(table.images)):
        there, found = only.groundtruth.image == image, only.detections.image == image
        tp, fp = int((true & found).sum()), int((false & found).sum())
        fn = int((there & ~only.ignored & (only.matches.groundtruth[:, 0] < 0)).sum())
        assert [images[name][image] for name in ("tp", "fp", "fn")] == [tp, fp, fn]
        assert images["num_groundtruth"][image] == tp + fn
        assert images["num_detections"][image] == tp + fp
        assert images["precision"][image] == (tp / (tp + fp) if tp + fp else None)
        assert images["recall"][image] == (tp / (tp + fn) if tp + fn else None)
        assert images["f1"][image] == (2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None)
        for index, kind in enumerate(ERROR_KINDS[1:], start=1):
            expected = np.sum(kinds[found] == index) + np.sum(kinds_of_objects[there] == index)
            assert images[kind][image] == expected
        assert images["num_errors"][image] == np.sum(kinds[found] > 0) + np.sum(kinds_of_objects[there] > 0)
        ious = [
            iou
            for detection, groundtruth, iou in zip(
                only.pairs.detection, only.pairs.groundtruth, only.pairs.iou, strict=True
            )
            if found[detection] and true[detection] and only.matches.detection[detection, 0] == groundtruth
        ]
        assert images["mean_iou"][image] == (pytest.approx(np.mean(ious)) if ious else None)
        scores = only.score[false & found].tolist()
        assert images["highest_fp_score"][image] == max(scores, default=None)
        assert images["badness"][image] == pytest.approx(fn + sum(scores))


@pytest.mark.parametrize("confidence", [0.0, 0.5, [0.2, 0.5, 0.35, 0.9]])
def test_the_sums_over_images_are_the_counts_of_the_evaluation(confidence) -> None:
    table = random_table(seed=7)
    images = per_image(table, confidence)
    of_all = total(counts(table, confidence)).to_dict()
    names = ("num_groundtruth", "num_detections", "tp", "fp", "fn")
    assert {name: images[name].sum() for name in names} == {name: of_all[name] for name in names}
    assert images["image_id"] == list(table.images)


def test_the_sums_over_images_are_those_of_the_last_cut() -> None:
    table = random_table(seed=8)
    images, of_cuts = per_image(table, 0.0), cuts(table)
    assert (images["tp"].sum(), images["fp"].sum()) == (of_cuts.tp[-1], of_cuts.fp[-1])
    assert images["num_groundtruth"].sum() == of_cuts.num_groundtruth


def test_the_worst_images_are_those_with_most_wrong_and_of_equal_ones_the_first() -> None:
    none = {"boxes": [[]], "scores": [[]], "classes": [[]]}
    false = {"boxes": [[FAR_BOX, BOX, OTHER_BOX]], "scores": [[0.6, 0.9, 0.9]], "classes": [[1, 1, 3]]}
    batches = [
        one_image(image_ids=["right"]),
        one_image(image_ids=["one false"], **false),
        one_image(image_ids=["two missed"], **none),
        one_image(image_ids=["also one false"], **false),
    ]
    images = per_image(evaluated(batches).object_tables()["bbox"], 0.5)
    ids = [images["image_id"][row] for row in worst(images, 10)]
    expected = sorted(["one false", "also one false"], key=images["image_id"].index)
    assert ids == ["two missed", *expected, "right"]
    assert len(worst(images, 2)) == 2


def test_scores_that_are_not_between_0_and_1_weigh_no_more_than_a_missed_object() -> None:
    nobody = {"gt_boxes": [[]], "gt_classes": [[]]}
    table = evaluated([one_image(scores=[[7.5, -2.0]], **nobody)]).object_tables()["bbox"]
    assert per_image(table, -5.0)["badness"].tolist() == [1.0]


def test_unmatched_detections_that_coco_does_not_count_are_no_errors() -> None:
    table = random_table(seed=1)
    area = np.full(len(table.detections), -1.0)
    table = dataclasses.replace(table, detections=dataclasses.replace(table.detections, area=area))
    images = per_image(table, 0.0)
    assert images["fp"].sum() == 0
    assert images["tp"].sum() > 0
    assert images["num_errors"].sum() == images["missed"].sum()
