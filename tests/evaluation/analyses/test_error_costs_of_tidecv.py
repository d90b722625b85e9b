"""The AP that errors cost, against tidecv, the program of those who defined them."""

from __future__ import annotations

import hotcoco.metrics
import numpy as np
import pytest

from made_images import evaluated, random_images
from od_eval.evaluation.analyses.error_costs import COSTS, error_costs, error_costs_per_category
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable

# It imports OpenCV, which needs libGL, a library that a machine without a screen may not have.
tidecv = pytest.importorskip("tidecv", reason="tidecv, or what it needs, is not installed", exc_type=ImportError)
main_errors = pytest.importorskip("tidecv.errors.main_errors")

TIDE_ERRORS = {
    "class": main_errors.ClassError,
    "location": main_errors.BoxError,
    "both": main_errors.OtherError,
    "duplicate": main_errors.DuplicateError,
    "background": main_errors.BackgroundError,
    "missed": main_errors.MissedError,
}


def tide_run(table: ObjectTable):
    """tidecv's run of the detections and objects that are neither ignored nor match what is ignored."""
    groundtruth, detections = tidecv.Data("groundtruth"), tidecv.Data("detections")
    groundtruth.max_dets = len(table.detections)
    for image in range(len(table.images)):  # or an image without rows is not seen
        groundtruth._make_default_image(image)
    for row in np.flatnonzero(~table.ignored):
        add(groundtruth.add_ground_truth, table.groundtruth, row)
    counts = table.true_positive[:, 0] | table.false_positive[:, 0]
    for row in np.flatnonzero(counts & (table.rank < 100)):
        add(detections.add_detection, table.detections, row, score=table.score[row])
    return tidecv.TIDE(mode=tidecv.TIDE.MASK if table.iou_type == "segm" else tidecv.TIDE.BOX).evaluate(
        groundtruth, detections
    )


def add(method, objects, row: int, **score) -> None:
    mask = objects.masks[row] if objects.masks else None
    method(int(objects.image[row]), int(objects.category[row]), box=objects.box[row].tolist(), mask=mask, **score)


def average_precision(data) -> float:
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
