import pytest

from made_evaluations import HEIGHT, WIDTH, Detector, evidence_of, simulate
from od_eval.findings.diagnoses.wrong_coordinates import wrong_coordinates


@pytest.mark.parametrize("which", ["swapped", "relative"])
def test_boxes_in_another_format_are_found(which):
    made = simulate(Detector(), images=60)
    box = made.detections["box"]
    made.detections["box"] = box[:, [1, 0, 3, 2]] if which == "swapped" else box / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    evidence = evidence_of(made)
    assert evidence.newest.bbox["AP50"] < 0.05
    (finding,) = wrong_coordinates(evidence)
    assert finding.severity == "error"
    assert finding.impact > 0.5
    assert ("x and y are swapped" if which == "swapped" else "from 0 to 1") in str(finding)


def test_a_detector_that_finds_nothing_has_no_other_format():
    made = simulate(Detector(found=0.0), images=60)
    keep = made.detections["score"] < 0.05  # noise
    made.detections = {name: column[keep] for name, column in made.detections.items()}
    evidence = evidence_of(made)
    assert evidence.newest.bbox["AP50"] < 0.05
    assert not list(wrong_coordinates(evidence))
