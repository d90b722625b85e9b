import pytest

from made_evaluations import Detector, evidence_of, missing_labels, renamed, simulate, wrong_labels
from od_eval.findings.diagnoses.label_errors import missing_labels as labels_missing
from od_eval.findings.diagnoses.label_errors import wrong_labels as labels_wrong


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_missing_labels_are_found_and_estimated(share):
    made = simulate(Detector(0.9))
    before = len(made.objects["image"])
    evidence = evidence_of(made, missing_labels(share))
    lost = before - len(made.objects["image"])
    (finding,) = labels_missing(evidence)
    assert finding.evidence["missing_labels"] == pytest.approx(lost, rel=0.3)
    assert finding.impact == pytest.approx(evidence.newest.errors["background"])
    assert finding.images
    assert not list(labels_wrong(evidence))


def test_a_few_missing_labels_and_background_that_scores_low_are_no_finding():
    assert not list(labels_missing(evidence_of(simulate(Detector(0.9)), missing_labels(0.03))))
    background = simulate(Detector(0.9, background=4.0, background_scores=(2, 3)))
    assert not list(labels_missing(evidence_of(background)))


def test_who_misses_most_objects_is_no_judge_of_labels():
    assert not list(labels_missing(evidence_of(simulate(Detector(0.9, found=0.3)), missing_labels(0.5))))


@pytest.mark.parametrize(("categories", "share"), [(2, 0.05), (10, 0.05), (5, 0.12)])
def test_wrong_labels_are_found_and_estimated(categories, share):
    made = simulate(Detector(0.9), images=500, categories=categories)
    (finding,) = labels_wrong(evidence_of(made, wrong_labels(share)))
    assert finding.evidence["share"] == pytest.approx(share, rel=0.35)
    assert f"about {100 * finding.evidence['share']:.1f}"[:7] in finding.cause
    assert finding.images


def test_few_wrong_labels_and_names_called_wrongly_with_low_scores_are_no_finding():
    assert not list(labels_wrong(evidence_of(simulate(Detector(0.9), images=300), wrong_labels(0.01))))
    assert not list(labels_wrong(evidence_of(simulate(Detector(0.9, wrong_class=0.2), images=300))))


def test_labels_of_a_renamed_category_are_not_wrong_one_by_one():
    evidence = evidence_of(simulate(Detector(), images=300), renamed({0: 1, 1: 0}))
    assert not list(labels_wrong(evidence))
