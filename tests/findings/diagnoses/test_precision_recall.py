import numpy as np
import pytest

from made_evaluations import Detector, evidence_of, facts, missing_labels, renamed, simulate
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import AnalysisOptions
from od_eval.findings.diagnoses.precision_recall import (
    confidence_unbalanced,
    precision_and_recall_low,
    precision_low,
    recall_low,
    score_threshold_cuts,
)


def only_above(made, score):
    keep = made.detections["score"] >= score
    made.detections = {name: column[keep] for name, column in made.detections.items()}
    return made


def test_high_precision_and_low_recall_says_lower_confidence_and_larger_model():
    evidence = evidence_of(simulate(Detector(0.9, found=0.35)))
    (finding,) = recall_low(evidence)
    point = evidence.newest.operating_point["bbox"]
    assert "precision is high and recall low" in str(finding)
    assert finding.evidence["precision"] == pytest.approx(point["precision"])
    assert finding.evidence["recall"] == pytest.approx(point["recall"])
    assert "lower the confidence" in finding.remedy
    assert "larger model" in finding.remedy
    assert not list(precision_low(evidence))
    assert not list(precision_and_recall_low(evidence))


def test_a_recall_somewhat_below_precision_is_no_finding():
    evidence = evidence_of(simulate(Detector(0.9, found=0.6)))
    point = evidence.newest.operating_point["bbox"]
    assert point["precision"] - point["recall"] > 0.25
    assert not list(recall_low(evidence))


def test_the_categories_and_sizes_that_are_missed_are_named():
    made = simulate(Detector(0.95, found=0.55, found_small=0.1), categories=4, images=400)
    lost = (made.detections["category"] == 2) & (np.random.default_rng(0).random(len(made.detections["image"])) < 0.9)
    made.detections = {name: column[~lost] for name, column in made.detections.items()}
    (finding,) = recall_low(evidence_of(made))
    assert "'three'" in finding.cause
    assert "'two'" not in finding.cause
    assert "smallest quarter" in finding.cause


def test_low_precision_and_high_recall_says_clean_data_and_raise_confidence():
    evidence = evidence_of(simulate(Detector(0.95)), missing_labels(0.6))
    (finding,) = precision_low(evidence)
    assert "recall is high and precision low" in str(finding)
    assert "'background'" in finding.cause
    assert "clean the labels" in finding.remedy
    assert "raise the confidence" in finding.remedy
    assert not list(recall_low(evidence))
    assert not list(precision_low(evidence_of(simulate(Detector(0.95)), missing_labels(0.25))))


def test_both_low_says_larger_model_and_more_steps():
    evidence = evidence_of(simulate(Detector(0.2, found=0.5, background=12.0)), config=facts(num_steps=5000))
    (finding,) = precision_and_recall_low(evidence)
    assert "larger model" in finding.remedy
    assert "train longer" in finding.remedy
    assert finding.settings == ("train_config.num_steps=10000",)


def test_a_bad_detector_with_most_of_its_detections_right_is_no_finding():
    evidence = evidence_of(simulate(Detector(0.3)))
    assert evidence.newest.bbox["AP"] < 0.25
    assert not list(precision_and_recall_low(evidence))


def test_both_low_is_not_said_where_names_differ_or_training_has_just_begun():
    bad = Detector(0.2, found=0.5, background=12.0)
    assert not list(precision_and_recall_low(evidence_of(simulate(bad), last_step=3000)))
    shifted = evidence_of(simulate(Detector()), renamed({0: 1, 1: 2, 2: 3, 3: 4, 4: 0}))
    assert shifted.newest.operating_point["bbox"]["f1"] < 0.1
    assert not list(precision_and_recall_low(shifted))


@pytest.mark.parametrize(("confidence", "told"), [(0.95, True), (0.3, False)])
def test_a_given_confidence_is_compared_with_the_one_that_balances(monkeypatch, confidence, told):
    monkeypatch.setattr(
        "made_evaluations.Evaluator",
        lambda names: Evaluator(names, analysis=AnalysisOptions(confidence=confidence)),
    )
    evidence = evidence_of(simulate(Detector()))
    findings = list(confidence_unbalanced(evidence))
    assert len(findings) == told
    for finding in findings:
        assert finding.remedy.startswith("lower --confidence")
        assert finding.severity == "note"
        assert finding.evidence["best_F1"] > finding.evidence["F1"] + 0.05


def test_a_threshold_of_the_model_that_cuts_off_right_detections_is_found():
    evidence = evidence_of(only_above(simulate(Detector()), 0.5), config=facts(score_threshold=0.5))
    (finding,) = score_threshold_cuts(evidence)
    assert finding.settings[0].endswith("score_threshold=1e-8")
    assert finding.field in finding.settings[0]


def test_a_threshold_that_cuts_off_nothing_of_use_is_no_finding():
    for threshold, cut in ((0.02, 0.02), (1e-8, 0.5)):
        evidence = evidence_of(only_above(simulate(Detector()), cut), config=facts(score_threshold=threshold))
        assert not list(score_threshold_cuts(evidence))
