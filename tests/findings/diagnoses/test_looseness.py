import pytest

from made_evaluations import Detector, evidence_of, facts, simulate
from od_eval.findings.diagnoses.looseness import loose_boxes


def test_boxes_that_find_objects_but_do_not_fit_are_found_with_what_to_change():
    evidence = evidence_of(simulate(Detector(0.95, iou=0.68)), config=facts(localization_weight=1.5))
    (finding,) = loose_boxes(evidence)
    metrics = evidence.newest.bbox
    assert finding.kind == "loose_boxes"
    assert finding.severity == "warning"
    assert metrics["AP50"] > 2 * metrics["AP"] > 0
    assert f"AP is {metrics['AP']:.2f} where AP50 is {metrics['AP50']:.2f}" in str(finding)
    assert "train longer" in finding.remedy
    assert "larger input" in finding.remedy
    assert "labels fit" in finding.remedy
    assert finding.settings == ("model.ssd.loss.localization_weight=3.0",)
    assert 0 < finding.impact < metrics["AP50"]


def test_the_share_of_tight_boxes_is_that_of_the_table():
    evidence = evidence_of(simulate(Detector(0.95, iou=0.68)))
    (finding,) = loose_boxes(evidence)
    above = evidence.objects["score"] >= evidence.newest.operating_point["confidence"]
    used = evidence.objects[above & (evidence.objects["match_50"] >= 0)]
    assert finding.evidence["right"] == len(used)
    assert finding.evidence["right_at_75"] == (used["iou"] >= 0.75).sum()


def test_boxes_as_loose_as_those_of_a_usual_detector_are_no_finding():
    evidence = evidence_of(simulate(Detector(0.95, iou=0.78)))
    assert evidence.newest.bbox["AP"] / evidence.newest.bbox["AP50"] < 0.65
    assert not list(loose_boxes(evidence))


def test_boxes_that_are_all_too_large_are_told_from_loose_ones():
    made = simulate(Detector(1.0, iou=0.97))
    box = made.detections["box"]
    box[:, :2] -= 0.2 * box[:, 2:]
    box[:, 2:] *= 1.4
    (finding,) = loose_boxes(evidence_of(made, config=facts()))
    assert finding.kind == "boxes_off_systematically"
    assert finding.sureness == "likely"
    assert not finding.settings
    assert "40% wider and 40% higher than labels" in str(finding)
    assert "moved" not in str(finding)


def test_the_distance_of_edges_is_in_pixels():
    made = simulate(Detector(1.0, iou=0.97), images=100, sides=(30, 31))
    made.detections["box"][:, :2] += 4.0
    (finding,) = loose_boxes(evidence_of(made))
    assert finding.kind == "boxes_off_systematically"
    assert "to the right" in str(finding)
    assert "down" in str(finding)
    assert finding.evidence["median_pixels_off"] == pytest.approx(4, abs=0.5)


def test_early_in_training_loose_boxes_are_no_finding():
    evidence = evidence_of(simulate(Detector(0.95, iou=0.68)), last_step=10_000)
    assert not list(loose_boxes(evidence))
