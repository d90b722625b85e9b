"""What is said about arrays of a batch that cannot be right."""

from __future__ import annotations

import numpy as np
import pytest

from made_images import (
    evaluated,
    one_image,
)
from od_eval.errors import ODEvalError

NAN, INF = float("nan"), float("inf")
MASKS = [np.zeros((2, 100, 120), bool)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes": [[[1, 1, 2, 2], [1, NAN, 2, 2]]]}, ["'a'", "detection 1", "nan"]),
        ({"gt_boxes": [[[1, 1, 2, INF], [1, 1, 2, 2]]]}, ["'a'", "ground truth object 0", "inf"]),
        ({"scores": [[0.5, NAN]]}, ["'a'", "detection 1", "score nan"]),
        ({"scores": [[INF, 0.5]]}, ["'a'", "detection 0", "score inf"]),
        ({"classes": [[1, 7]]}, ["'a'", "detection 1", "class 7", "1, 3, 18, 90"]),
        ({"classes": [[1, 1.5]]}, ["'a'", "detection 1", "class 1.5"]),
        ({"classes": [[NAN, 1]]}, ["'a'", "detection 0", "class nan"]),
        ({"gt_classes": [[0, 1]]}, ["'a'", "ground truth object 0", "class 0"]),
        ({"gt_boxes": [[[1, 1, 2, 2], [5, 1, 2, 2]]]}, ["'a'", "ground truth object 1", "ends before", "yxyx"]),
        ({"gt_boxes": [[[1, 5, 2, 2], [1, 1, 2, 2]]]}, ["'a'", "ground truth object 0", "ends before"]),
        ({"scores": [[0.5]]}, ["'a'", "2 boxes", "1 scores"]),
        ({"classes": [[1, 1, 1]]}, ["'a'", "2 boxes", "3 classes"]),
        ({"gt_is_crowd": [[True]]}, ["'a'", "2 boxes", "1 is_crowd"]),
        ({"gt_area": [[-1.0, 5]]}, ["'a'", "object 0", "area -1"]),
        ({"gt_area": [[1.0, INF]]}, ["'a'", "object 1", "area inf"]),
        ({"area": [[1.0, -2]]}, ["'a'", "detection 1", "area -2"]),
        ({"boxes": [[1, 2, 3, 4]]}, ["'a'", "[n, 4]", "[4]"]),
        ({"boxes": [[[1, 2, 3]] * 2]}, ["'a'", "[n, 4]", "[2, 3]"]),
        ({"scores": [[[0.5], [0.5]]]}, ["'a'", "scores", "[2, 1]"]),
        ({"boxes": []}, ["1 images", "'a'", "boxes", "0"]),
        ({"scores": [[0.5, 0.5]] * 2}, ["1 images", "scores", "2"]),
        ({"num": [3]}, ["'a'", "num", "3", "2 boxes"]),
        ({"num": [-1]}, ["'a'", "num", "-1"]),
        ({"num": [1.5]}, ["'a'", "num", "1.5", "2 boxes"]),
        ({"num": [NAN]}, ["'a'", "num", "nan"]),
        ({"gt_num": [1, 1]}, ["num", "[1]", "[2]"]),
        ({"image_ids": ["a", "b"]}, ["image_sizes", "[2, 2]"]),
        ({"image_ids": [b"a"]}, ["b'a'", "int"]),
        ({"image_sizes": [[100, -1]]}, ["'a'", "-1"]),
        ({"image_sizes": [[100, NAN]]}, ["'a'", "nan"]),
    ],
)
def test_a_batch_that_cannot_be_right_is_named_and_changes_nothing(changes, words) -> None:
    evaluator = evaluated([one_image(image_ids=["before"])])
    before = evaluator.evaluate(), evaluator.groundtruth_json(), evaluator.detections_json()
    with pytest.raises(ODEvalError) as error:
        evaluator.update(one_image(**changes))
    for word in words:
        assert word in str(error.value)
    assert (evaluator.evaluate(), evaluator.groundtruth_json(), evaluator.detections_json()) == before
    evaluator.update(one_image())
    assert evaluator.evaluate().num_images == 2


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (None, ["'a'", "no masks"]),
        ([None], ["'a'", "no masks"]),
        ([np.zeros((2, 120, 100), bool)], ["'a'", "detection 0", "[120, 100]", "[100, 120]"]),
        ([np.zeros((1, 100, 120), bool)], ["'a'", "2 boxes", "1 masks"]),
        ([[{"size": [120, 100], "counts": "0"}] * 2], ["'a'", "detection 0", "[120, 100]"]),
        ([[{"size": [100, 120], "counts": [9, 12000]}] * 2], ["'a'", "detection 0"]),
        ([[{"size": [100, 120], "counts": b"\xff"}] * 2], ["'a'", "detection 0"]),
        ([[{"size": [100, 120], "counts": None}] * 2], ["'a'", "detection 0"]),
        ([[{"counts": "0"}] * 2], ["'a'", "detection 0", "size"]),
    ],
)
def test_masks_that_cannot_be_right_are_named(masks, words) -> None:
    evaluator = evaluated([], masks=True)
    with pytest.raises(ODEvalError) as error:
        evaluator.update(one_image(masks=masks, gt_masks=MASKS))
    for word in words:
        assert word in str(error.value)
    evaluator.update(one_image(masks=MASKS, gt_masks=MASKS))
