from made_evaluations import Detector, evidence_of, missing_labels, simulate
from od_eval.findings.diagnoses.overconfidence import overconfident


def test_a_detector_that_is_confident_even_when_it_is_wrong_is_found():
    evidence = evidence_of(simulate(Detector(0.9, background=2.0, background_scores=(20, 1))))
    (finding,) = overconfident(evidence)
    confident = evidence.objects.query("kind == 'detection' and score >= 0.9")
    assert finding.evidence["num"] == len(confident)
    assert finding.evidence["num_right"] == (confident["match_50"] >= 0).sum() < 0.75 * len(confident)
    worst = confident[confident["error"] != ""].sort_values("score", ascending=False)["image_id"].iloc[0]
    assert finding.images[0] == worst
    assert finding.sureness == "possible"


def test_a_detector_that_is_sometimes_too_confident_is_no_finding():
    evidence = evidence_of(simulate(Detector(0.9)), missing_labels(0.1))
    confident = evidence.objects.query("kind == 'detection' and score >= 0.9")
    assert (confident["match_50"] < 0).mean() > 0.05
    assert not list(overconfident(evidence))
