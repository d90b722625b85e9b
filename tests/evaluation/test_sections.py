"""Sections of a result as TensorBoard's scalars: what is written under which tag."""

from __future__ import annotations

import pytest

from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS


def scalars(result: EvaluationResult, per_category: str = "AP") -> dict[str, float]:
    return result.scalars(per_category)


def coco(value: float | None = 0.5, **others: float | None) -> dict[str, float | None]:
    return {**dict.fromkeys(COCO_METRICS, value), **others}


def test_coco_metrics_have_the_tags_of_the_object_detection_api():
    from object_detection.metrics.coco_tools import COCO_METRIC_NAMES_AND_INDEX

    values = {name: index / 100 for index, name in enumerate(COCO_METRICS)}
    expected = {
        f"{of_what}_{tag}": index / 100
        for of_what in ("DetectionBoxes", "DetectionMasks")
        for tag, index in COCO_METRIC_NAMES_AND_INDEX
    }
    assert scalars(EvaluationResult(num_images=1, bbox=values, segm=values)) == expected


def test_a_metric_that_is_not_defined_is_left_out_and_one_that_is_zero_is_not():
    result = EvaluationResult(
        num_images=1,
        bbox=coco(APs=None, APm=0.0),
        per_category={"cat": {"AP": None}, "dog": {"AP": 0.0}},
        per_super_category={"animal": {"AP": None}},
    )
    tags = scalars(result)
    assert "DetectionBoxes_Precision/mAP (small)" not in tags
    assert tags["DetectionBoxes_Precision/mAP (medium)"] == 0.0
    assert [tag for tag in tags if "Performance" in tag] == ["DetectionBoxes_PerformanceByCategory/mAP/dog"]


def test_losses_are_written_by_category_and_by_their_native_names():
    losses = {"Loss/RPNLoss/objectness_loss": 0.5, "Loss/BoxClassifierLoss/classification_loss": 0.25}
    tags = scalars(EvaluationResult(num_images=1, losses=losses))
    assert tags == {
        "Loss/RPNLoss/objectness_loss": 0.5,
        "Loss/BoxClassifierLoss/classification_loss": 0.25,
        "Loss/total_loss": 0.75,
        "Loss/classification_loss": 0.75,
        "Loss/localization_loss": 0.0,
        "Loss/regularization_loss": 0.0,
    }
    # Nothing changes if somebody has put them into categories before.
    categorized = {"total_loss": 0.75, "classification_loss": 0.75, **losses}
    assert scalars(EvaluationResult(num_images=1, losses=categorized)).items() <= tags.items()


@pytest.mark.parametrize(
    ("per_category", "expected"),
    [
        (
            "AP",
            {
                "DetectionBoxes_PerformanceByCategory/mAP/cat": 0.25,
                "DetectionMasks_PerformanceByCategory/mAP/cat": 0.125,
                "DetectionBoxes_PerformanceBySuperCategory/animal": 0.5,
                "DetectionMasks_PerformanceBySuperCategory/animal": 0.75,
            },
        ),
        (
            "none",
            {
                "DetectionBoxes_PerformanceBySuperCategory/animal": 0.5,
                "DetectionMasks_PerformanceBySuperCategory/animal": 0.75,
            },
        ),
    ],
)
def test_as_much_is_shown_of_each_category_as_is_asked_for(per_category, expected):
    result = EvaluationResult(
        num_images=1,
        per_category={"cat": {**coco(0.25), "num_groundtruth": 3, "segm": coco(0.125)}},
        per_super_category={"animal": {**coco(0.5), "segm": coco(0.75)}},
    )
    assert scalars(result, per_category) == expected


def test_all_twelve_numbers_of_a_category_have_the_tags_of_the_object_detection_api():
    of_boxes = {**coco(0.25), "num_groundtruth": 3, "segm": coco(0.125)}
    tags = scalars(EvaluationResult(num_images=1, per_category={"cat": of_boxes}), "all")
    assert tags["DetectionBoxes_PerformanceByCategory/mAP/cat"] == 0.25
    assert tags["DetectionBoxes_Precision/mAP ByCategory/cat"] == 0.25
    assert tags["DetectionBoxes_Recall/AR@1 ByCategory/cat"] == 0.25
    assert tags["DetectionBoxes_Precision/mAP (small) ByCategory/cat"] == 0.25
    assert tags["DetectionMasks_Recall/AR@100 (large) ByCategory/cat"] == 0.125
    assert len(tags) == 2 * 13
    of_super_category = scalars(EvaluationResult(num_images=1, per_super_category={"animal": of_boxes}), "all")
    assert of_super_category["DetectionBoxes_Precision/mAP@.50IOU BySuperCategory/animal"] == 0.25


def test_metrics_of_further_evaluators_keep_their_tags():
    other = {"lvis/rare (AP)": 0.5}
    assert scalars(EvaluationResult(num_images=1, other=other)) == other


def test_a_category_may_be_called_anything():
    tags = scalars(EvaluationResult(num_images=1, per_category={"a/b\n猫 \ud800": coco()}))
    (tag,) = tags
    assert tag.startswith("DetectionBoxes_PerformanceByCategory/mAP/a/b\n猫 ")
    tag.encode()
