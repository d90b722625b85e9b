"""The AP that errors cost, worked out by hand and against tidecv."""

from __future__ import annotations

import hotcoco.metrics
import numpy as np
import pytest
from tidecv import TIDE, Data
from tidecv.ap import APDataObject
from tidecv.errors import main_errors

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses.error_costs import COSTS, error_costs, error_costs_per_category
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable, precision_recall_scores

TIDE_ERRORS = {
    "class": main_errors.ClassError,
    "location": main_errors.BoxError,
    "both": main_errors.OtherError,
    "duplicate": main_errors.DuplicateError,
    "background": main_errors.BackgroundError,
    "missed": main_errors.MissedError,
}
NONE = dict.fromkeys(COSTS, 0.0)


def costs_of(*names: str, table: ObjectTable) -> dict[str, dict]:
    per_category = dict(zip(table.categories.values(), error_costs_per_category(table), strict=True))
    return {name: per_category[name] for name in names}


def tide_run(table: ObjectTable):
    """tidecv's run of the detections and objects that are neither ignored nor match what is ignored."""
    groundtruth, detections = Data("groundtruth"), Data("detections")
    groundtruth.max_dets = len(table.detections)
    for image in range(len(table.images)):  # or an image without rows is not seen
        groundtruth._make_default_image(image)
    for row in np.flatnonzero(~table.ignored):
        add(groundtruth.add_ground_truth, table.groundtruth, row)
    counts = table.true_positive[:, 0] | table.false_positive[:, 0]
    for row in np.flatnonzero(counts & (table.rank < 100)):
        add(detections.add_detection, table.detections, row, score=table.score[row])
    return TIDE(mode=TIDE.MASK if table.iou_type == "segm" else TIDE.BOX).evaluate(groundtruth, detections)


def add(method, objects, row: int, **score) -> None:
    mask = objects.masks[row] if objects.masks else None
    method(int(objects.image[row]), int(objects.category[row]), box=objects.box[row].tolist(), mask=mask, **score)


def average_precision(data: APDataObject) -> float:
    # tidecv's own recalls differ from COCO's in the last bit, so that a recall such as 0.35 reaches them or not.
    # And it ranks fixed errors first among equal scores; ids, in the order of the table, rank as COCO does.
    scores, right = zip(*((score, right) for _, (score, right, _) in sorted(data.data_points.items())), strict=True)
    return hotcoco.metrics.average_precision(list(scores), [bool(value) for value in right], data.num_gt_positives)


def tide_costs(run, category: int) -> dict[str, float]:
    fixed = {
        kind: run.fix_errors(lambda error, of=error_type: isinstance(error, of))
        for kind, error_type in TIDE_ERRORS.items()
    }
    fixed["false positives"] = run.fix_errors(transform=main_errors.FalsePositiveError.fix)
    fixed["false negatives"] = run.fix_errors(false_neg_dict=run.false_negatives)
    ap = average_precision(run.ap_data.objs[category])
    return {kind: average_precision(data.objs[category]) - ap for kind, data in fixed.items()}


def made_batches(seed: int, *, crowds: bool, ties: bool, masks: bool) -> list:
    batches = random_images(seed, num=28, masks=masks)
    random = np.random.default_rng(seed)
    for batch in batches:
        if not ties:
            scores = batch.detections.scores
            batch.detections.scores = [of_image + random.uniform(0, 0.04, of_image.shape) for of_image in scores]
        if not crowds:
            batch.groundtruth.is_crowd = None
    return batches


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize(("iou_type", "seed"), [("bbox", 0), ("bbox", 1), ("bbox", 2), ("bbox", 3), ("segm", 4)])
def test_the_costs_are_those_of_tidecv(iou_type, seed, crowds, ties) -> None:
    masks = iou_type == "segm"
    batches = made_batches(seed, crowds=crowds, ties=ties, masks=masks)
    table = evaluated(batches, masks=masks).object_tables()[iou_type]
    assert table.ignored.any() == crowds
    run = tide_run(table)
    number_of = {
        kind: int(sum((kinds == ERROR_KINDS.index(kind)).sum() for kinds in table.errors)) for kind in TIDE_ERRORS
    }
    assert number_of == {kind: len(run.error_dict[error]) for kind, error in TIDE_ERRORS.items()}
    per_category = error_costs_per_category(table)
    for category in range(3):
        assert per_category[category] == pytest.approx(tide_costs(run, category), abs=1e-12)
    overall = error_costs(table)
    assert min(overall.values()) >= 0
    # "both" and the special kinds too: a cost of 0 would be equal to a cost that is not computed.
    assert sum(value > 0 for value in overall.values()) >= 7
    assert overall == pytest.approx(
        {kind: np.mean([per_category[index][kind] for index in range(3)]) for kind in COSTS}
    )


def test_only_the_first_hundred_of_an_image_and_category_count() -> None:
    # The object is found by the 101st detection only: it does not count, so that the object is missed.
    boxes = [[[0.0, 60, 20, 80]] * 100 + [[10.0, 10, 50, 50]]]
    images = {
        "image_ids": ["a", "b"],
        "image_sizes": [[100, 120]] * 2,
        "boxes": [*boxes, [[10.0, 10, 50, 50]]],
        "scores": [np.linspace(0.9, 0.5, 101), [0.95]],
        "classes": [[1] * 101, [1]],
        "gt_boxes": [[[10.0, 10, 50, 50]]] * 2,
        "gt_classes": [[1]] * 2,
    }
    table = evaluated([one_image(**images)]).object_tables()["bbox"]
    assert table.true_positive[:, 0].sum() == 2
    costs = costs_of("dog", table=table)["dog"]
    assert costs == pytest.approx({**NONE, "missed": 50 / 101, "false negatives": 50 / 101})
    assert costs == pytest.approx(tide_costs(tide_run(table), 0), abs=1e-12)


def test_the_ap_before_is_that_of_coco() -> None:
    # Without false positives AP is the highest it can be at this recall, which COCO's arrays tell as well.
    table = evaluated(random_images(3)).object_tables()["bbox"]
    precision, recall, _ = precision_recall_scores(table)
    for index, costs in enumerate(error_costs_per_category(table)[:3]):
        at_full_precision = np.mean(np.linspace(0, 1, 101) <= recall[0, index])
        assert costs["false positives"] == pytest.approx(at_full_precision - precision[0, :, index].mean(), abs=1e-12)


def test_a_wrong_category_costs_both_categories() -> None:
    # A dog taken for a cat, above a cat that is found.
    table = evaluated([one_image(scores=[[0.9, 0.8]], classes=[[3, 3]])]).object_tables()["bbox"]
    costs = costs_of("dog", "cat", table=table)
    assert costs["dog"] == pytest.approx({**NONE, "class": 1.0, "false negatives": 1.0})
    assert costs["cat"] == pytest.approx({**NONE, "class": 0.5, "false positives": 0.5})
    assert error_costs(table)["class"] == pytest.approx(0.75)


def test_of_two_badly_located_detections_the_better_one_is_fixed_and_the_other_removed() -> None:
    boxes = [[[10.0, 10, 50, 25], [10, 10, 50, 28]]]
    objects = {"gt_boxes": [[[10.0, 10, 50, 50]]], "gt_classes": [[1]]}
    table = evaluated([one_image(boxes=boxes, scores=[[0.9, 0.8]], classes=[[1, 1]], **objects)]).object_tables()[
        "bbox"
    ]
    # Without the object nothing but false positives is left: AP stays 0.
    assert costs_of("dog", table=table)["dog"] == pytest.approx({**NONE, "location": 1.0})


def test_a_duplicate_costs_what_it_pushes_down() -> None:
    # Ranking of dogs: right, duplicate, right. Precision is 1 up to a recall of 0.5 (51 points), then 2/3 (50 points).
    boxes = [[[10.0, 10, 50, 50], [10, 10, 50, 48], [60, 60, 90, 90]]]
    table = evaluated(
        [one_image(boxes=boxes, scores=[[0.9, 0.8, 0.7]], classes=[[1, 1, 1]], gt_classes=[[1, 1]])]
    ).object_tables()["bbox"]
    lost = 50 / 101 / 3
    assert costs_of("dog", table=table)["dog"] == pytest.approx({**NONE, "duplicate": lost, "false positives": lost})


def test_without_detections_everything_is_lost_to_missed_objects() -> None:
    table = evaluated([one_image(boxes=[[]], scores=[[]], classes=[[]])]).object_tables()["bbox"]
    assert error_costs(table) == {**NONE, "missed": 1.0, "false negatives": 1.0}


def test_without_objects_there_are_no_costs() -> None:
    table = evaluated([one_image(gt_boxes=[[]], gt_classes=[[]])]).object_tables()["bbox"]
    assert error_costs(table) == dict.fromkeys(COSTS)
    assert costs_of("bird", table=table)["bird"] == dict.fromkeys(COSTS)


def test_what_matches_a_crowd_costs_nothing() -> None:
    table = evaluated([one_image(gt_is_crowd=[[True, False]])]).object_tables()["bbox"]
    assert error_costs(table) == NONE
