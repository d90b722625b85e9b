import pytest

from made_evaluations import Detector, evidence_of, renamed, simulate
from od_eval.findings.diagnoses.renamed_category import absorbed_category, renamed_category

ALL_BUT_LAST = [0.25, 0.25, 0.25, 0.25, 0.0]


def found(names, shares=None, **fields):
    evidence = evidence_of(simulate(Detector(), shares=shares), renamed(names), **fields)
    return [*renamed_category(evidence), *absorbed_category(evidence)]


def test_a_category_that_has_another_name_in_the_labels_is_found():
    (finding,) = found({0: 4}, ALL_BUT_LAST)
    assert finding.kind == "renamed_category"
    assert finding.severity == "error"
    assert (finding.evidence["actual"], finding.evidence["predicted"]) == ("five", "one")
    assert finding.field == "eval_input_reader[0].label_map_path"
    assert finding.images


def test_the_impact_is_the_ap_that_the_category_lacks():
    (finding,) = found({0: 4}, ALL_BUT_LAST)
    # One of four categories has an AP50 of 0 in place of what the others have.
    assert finding.impact == pytest.approx(0.75 / 4, abs=0.05)


def test_two_names_that_are_swapped_are_one_finding():
    (finding,) = found({0: 1, 1: 0})
    assert finding.kind == "swapped_categories"
    assert "the other way round" in str(finding)


@pytest.mark.parametrize("names", [{0: 1, 1: 2, 2: 3, 3: 4}, {0: 1, 1: 2, 2: 3, 3: 4, 4: 0}])
def test_ids_that_are_off_by_one_are_one_finding(names):
    (finding,) = found(names, ALL_BUT_LAST if len(names) == 4 else None)
    assert finding.kind == "label_map_shifted"
    assert finding.evidence["offset"] == -1
    assert "1 lower" in str(finding)
    assert finding.severity == "error"


def test_a_category_whose_labels_are_under_another_name_is_found():
    (finding,) = found({0: 1})
    assert finding.kind == "absorbed_category"
    assert "no object is labelled 'one'" in str(finding)


def test_a_category_that_is_often_confused_is_not_renamed():
    made = simulate(Detector())
    of_first = (made.detections["category"] == 0).nonzero()[0]
    made.detections["category"][of_first[of_first % 6 > 0]] = 1
    assert not list(renamed_category(evidence_of(made)))


def test_a_category_that_was_hardly_trained_is_not_renamed():
    made = simulate(Detector())
    made.detections["category"][made.detections["category"] == 0] = 1
    assert [finding.severity for finding in renamed_category(evidence_of(made))] == ["warning"]
    evidence = evidence_of(made, train_objects={"one": 20, "two": 900})
    assert not list(renamed_category(evidence))


def test_a_category_without_objects_whose_false_detections_score_low_is_not_absorbed():
    made = simulate(Detector(wrong_class=0.4), categories=2, shares=[0.0, 1.0])
    assert not list(absorbed_category(evidence_of(made)))
