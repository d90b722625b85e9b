import pytest

from made_evaluations import Detector, evidence_of, simulate
from od_eval.evaluation.result import EvaluationResult
from od_eval.findings.diagnoses.small_evaluation_set import small_evaluation_set
from od_eval.findings.evidence import Evidence


def of(interval, images=100):
    result = EvaluationResult(images, bbox={"AP": 0.5}, intervals={"AP": interval, "per_category": {}})
    return list(small_evaluation_set(Evidence(evaluations=(result,))))


def test_a_wide_interval_is_a_note_with_the_images_that_would_do():
    (finding,) = of([0.4, 0.6])
    # ± 0.1 with 100 images is ± 0.02 with 25 times as many.
    assert finding.severity == "note"
    assert finding.evidence["wanted_images"] == pytest.approx(2500, rel=0.05)
    assert "0.40 to 0.60 (100 images)" in str(finding)


def test_an_extremely_wide_one_is_a_warning_and_a_narrow_one_nothing():
    assert [finding.severity for finding in of([0.25, 0.75])] == ["warning"]
    assert of([0.46, 0.55]) == []
    assert [finding.severity for finding in of(None, images=9)] == ["warning"]


def test_the_interval_of_a_sample_says_nothing_of_the_set():
    intervals = {"AP": [0.4, 0.6], "per_category": {}}
    result = EvaluationResult(10_000, bbox={"AP": 0.5}, intervals=intervals, dataset={"num_images": 100})
    assert list(small_evaluation_set(Evidence(evaluations=(result,)))) == []


def test_the_images_recommended_give_about_the_interval_promised():
    (finding,) = small_evaluation_set(evidence_of(simulate(Detector(0.7), images=30, categories=1, seed=4)))
    many = evidence_of(simulate(Detector(0.7), images=finding.evidence["wanted_images"], categories=1, seed=5))
    low, high = many.newest.intervals["AP"]
    assert (high - low) / 2 == pytest.approx(0.02, rel=0.5)
