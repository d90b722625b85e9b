import numpy as np
import pytest

from made_evaluations import Detector, evidence_of, facts, simulate
from od_eval.findings.diagnoses.detection_limits import (
    detections_per_category_limited,
    detections_per_image_limited,
    more_objects_than_coco_counts,
)


def limited(made, num, *keys):
    """Only the `num` detections with the highest scores of each image, or of each image and category."""
    detections = made.detections
    cell = sum(detections[key] * 1000**place for place, key in enumerate(keys))
    order = np.lexsort((-detections["score"], cell))
    rank = np.arange(len(order)) - np.searchsorted(cell[order], cell[order])
    made.detections = {name: column[order[rank < num]] for name, column in detections.items()}
    return made


def crowded(**more):
    return simulate(Detector(0.9), images=40, per_image=60, sides=(10, 40), **more)


def test_a_limit_for_an_image_that_cuts_off_objects_is_found_with_a_larger_one():
    made = limited(crowded(categories=4), 40, "image")
    (finding,) = detections_per_image_limited(
        evidence_of(made, config=facts(max_total_detections=40, max_detections_per_class=100))
    )
    assert "max_total_detections" in finding.field
    assert finding.settings == (f"{finding.field}=200",)
    assert finding.evidence["right_of_these"] > 0.3 * finding.evidence["last_detections"]
    assert finding.images
    assert 0.2 < finding.impact < 0.8


def test_a_limit_for_a_category_raises_the_one_for_the_image_as_well():
    made = limited(crowded(categories=1), 30, "image", "category")
    config = facts(max_detections_per_class=30, max_total_detections=100)
    (finding,) = detections_per_category_limited(evidence_of(made, config=config))
    assert "max_detections_per_class" in finding.field
    assert [setting.rpartition(".")[2] for setting in finding.settings] == [
        "max_detections_per_class=200",
        "max_total_detections=200",
    ]


def test_a_limit_that_is_reached_by_detections_of_no_use_is_no_finding():
    made = limited(simulate(Detector(0.9, found=0.5)), 12, "image")
    config = facts(max_total_detections=12, max_detections_per_class=12)
    evidence = evidence_of(made, config=config)
    assert (evidence.objects.query("kind == 'detection'").groupby("image_id").size() == 12).mean() > 0.5
    assert not list(detections_per_image_limited(evidence))
    assert not list(detections_per_category_limited(evidence))


@pytest.mark.parametrize(("per_image", "kinds"), [(140, ["more_objects_than_coco_counts"]), (60, [])])
def test_more_objects_of_a_category_than_coco_counts_are_told(per_image, kinds):
    evidence = evidence_of(simulate(Detector(), images=8, per_image=per_image, categories=1, sides=(8, 20)))
    findings = list(more_objects_than_coco_counts(evidence))
    assert [finding.kind for finding in findings] == kinds
    for finding in findings:
        counts = evidence.objects.query("kind == 'groundtruth'").groupby("image_id").size()
        assert finding.evidence["lost"] == (counts - 100).clip(lower=0).sum()
