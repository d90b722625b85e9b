"""AP and AR by size, against pycocotools and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from made_images import evaluated, one_image, pycocotools_arrays, random_images
from od_eval.evaluation.analyses.sizes import by_size, in_range, size_ranges


def defined_mean(array: np.ndarray) -> float | None:
    defined = array[array > -1]
    return float(np.mean(defined)) if len(defined) else None


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_every_range_has_the_numbers_of_pycocotools_to_the_last_bit(iou_type, seed) -> None:
    masks = iou_type == "segm"
    evaluator = evaluated(random_images(seed, num=28, masks=masks), masks=masks)
    table = evaluator.object_tables()[iou_type]
    ranges = size_ranges(table, {"plates": (50, 700)})
    reference = pycocotools_arrays(evaluator, iou_type, ranges)
    result = by_size(table, ranges)
    assert list(result) == list(ranges)
    for index, values in enumerate(result.values()):
        precision, recall = reference["precision"][..., index], reference["recall"][..., index]
        assert values["AP"] == defined_mean(precision)
        assert values["AP50"] == defined_mean(precision[:1])
        assert values["AR100"] == defined_mean(recall)
        for category, of_category in enumerate(values["per_category"].values()):
            assert of_category["AP"] == defined_mean(precision[..., category])
            assert of_category["AR100"] == defined_mean(recall[..., category])
    assert len({values["AP"] for values in result.values()}) > 5


@pytest.mark.parametrize("seed", range(4))
def test_matches_in_a_range_are_those_of_matching_all_again(seed) -> None:
    table = evaluated(random_images(seed, num=28)).object_tables()["bbox"]
    for low, high in size_ranges(table).values():
        of_range = in_range(table, low, high)
        again = of_range.rematched()
        np.testing.assert_array_equal(of_range.matches.detection, again.detection)
        np.testing.assert_array_equal(of_range.matches.groundtruth, again.groundtruth)


def test_a_detection_prefers_an_object_of_the_range() -> None:
    # Both objects overlap the detection: the larger one more, but it is outside.
    batch = one_image(
        boxes=[[[0.0, 0, 40, 40]]], scores=[[0.9]], classes=[[1]],
        gt_boxes=[[[0.0, 0, 40, 40], [0.0, 0, 40, 25]]], gt_classes=[[1, 1]],
    )  # fmt: skip
    table = evaluated([batch]).object_tables()["bbox"]
    assert table.matches.detection[0, 0] == 0
    of_range = in_range(table, 0, 1200)
    assert of_range.matches.detection[0].tolist() == [1] * 3 + [0] * 7  # an IoU of 0.625
    assert of_range.true_positive[0].tolist() == [True] * 3 + [False] * 7
    assert not of_range.false_positive.any()


def square_objects(areas: list[int]):
    """One object of each area, one pixel high, found exactly."""
    boxes = [[[2.0 * row, 0.0, 2.0 * row + 1, area] for row, area in enumerate(areas)]]
    batch = one_image(boxes=boxes, scores=[[0.5] * len(areas)], classes=[[1] * len(areas)], gt_boxes=boxes,
                      gt_classes=[[1] * len(areas)], image_sizes=[[100, 120]])  # fmt: skip
    return evaluated([batch]).object_tables()["bbox"]


def test_an_area_equal_to_a_percentile_is_medium_and_in_one_range_only() -> None:
    # Percentiles of 41 areas lie on areas where the rank is whole: the 25th is the 11th, the 75th the 31st.
    table = square_objects(list(range(1, 42)))
    ranges = size_ranges(table)
    num = {name: values["num_groundtruth"] for name, values in by_size(table, ranges).items()}
    assert ranges["medium"] == (11.0, 31.0)
    # The 7.5th percentile is 1 + 0.075 * 40 = 4.
    assert num == {
        "coco_small": 41, "coco_medium": 0, "coco_large": 0,
        "smallest": 3, "small": 10, "medium": 21, "large": 10, "corrected": 38,
    }  # fmt: skip


def test_objects_of_one_size_are_all_medium() -> None:
    table = square_objects([9] * 5)
    result = by_size(table, size_ranges(table))
    assert [result[name]["num_groundtruth"] for name in ("smallest", "small", "medium", "large", "corrected")] == [
        0, 0, 5, 0, 5,
    ]  # fmt: skip
    assert (result["small"]["AP"], result["medium"]["AP"]) == (None, pytest.approx(1.0))


def test_crowds_do_not_move_the_percentiles() -> None:
    batch = one_image(gt_is_crowd=[[True, False]])
    assert size_ranges(evaluated([batch]).object_tables()["bbox"])["medium"] == (900.0, 900.0)


def test_bounds_of_coco_belong_to_both_ranges() -> None:
    batch = one_image(gt_area=[[1024.0, 9216.0]])
    table = evaluated([batch]).object_tables()["bbox"]
    result = by_size(table, size_ranges(table))
    assert [result[f"coco_{size}"]["num_groundtruth"] for size in ("small", "medium", "large")] == [1, 2, 1]


def test_without_objects_there_are_no_percentiles_and_no_metrics() -> None:
    table = evaluated([one_image(gt_boxes=[[]], gt_classes=[[]])]).object_tables()["bbox"]
    result = by_size(table, size_ranges(table))
    assert list(result) == ["coco_small", "coco_medium", "coco_large"]
    none = {"num_groundtruth": 0, "AP": None, "AP50": None, "AR100": None}
    assert all(values.items() >= none.items() for values in result.values())
    assert result["coco_small"]["per_category"]["dog"] == none


def test_without_detections_all_is_missed() -> None:
    table = evaluated([one_image(boxes=[[]], scores=[[]], classes=[[]])]).object_tables()["bbox"]
    medium = by_size(table, size_ranges(table))["coco_medium"]
    assert (medium["num_groundtruth"], medium["AP"], medium["AR100"]) == (1, 0.0, 0.0)
