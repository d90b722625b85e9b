import numpy as np

from made_evaluations import Detector, evidence_of, facts, missing_labels, renamed, simulate
from od_eval.evaluation.analyses.confusion import confusion_matrix
from od_eval.evaluation.evaluator import Evaluator
from od_eval.findings.diagnoses.confusions import (
    background_taken_for_objects,
    confused_categories,
    detections_of_one_category,
    many_duplicates,
)
from od_eval.findings.diagnoses.renamed_category import taken_for


def confusing(share, **options):
    """Detections of the first category that are called by the name of the second."""
    made = simulate(Detector(), **options)
    random = np.random.default_rng(5)
    detections = made.detections
    detections["category"][(detections["category"] == 0) & (random.random(len(detections["image"])) < share)] = 1
    return made


def test_two_categories_that_are_confused_are_named_with_how_often_and_where():
    evidence = evidence_of(confusing(0.4))
    (finding,) = confused_categories(evidence)
    assert (finding.evidence["actual"], finding.evidence["predicted"]) == ("one", "two")
    assert finding.evidence["count"] / finding.evidence["objects"] > 0.2
    assert "'one'" in str(finding)
    assert "'two'" in str(finding)
    assert finding.images
    assert finding.impact > 0


def test_what_is_taken_for_another_category_is_as_in_the_confusion_matrix(monkeypatch):
    made = []

    def remember(*args):
        made.append(Evaluator(*args))
        return made[0]

    monkeypatch.setattr("made_evaluations.Evaluator", remember)
    evidence = evidence_of(confusing(0.4, images=100))
    table = made[0].analysis.tables["bbox"]
    counts = confusion_matrix(table, evidence.newest.operating_point["confidence"]).counts
    names = list(table.categories.values())
    taken = taken_for(evidence.outcomes).groupby(["actual", "category"]).size()
    assert taken[("one", "two")] > 10
    for (actual, predicted), count in taken.items():
        assert abs(counts[names.index(actual), names.index(predicted)] - count) <= 1  # ties of overlapping objects


def test_confusions_that_are_rare_or_few_are_no_finding():
    assert not list(confused_categories(evidence_of(confusing(0.08))))
    assert not list(confused_categories(evidence_of(confusing(0.3, images=10, per_image=2))))


def test_background_taken_for_objects_is_found_with_the_images_to_add():
    made = simulate(Detector(background=6.0, background_scores=(4, 4)))
    (finding,) = background_taken_for_objects(evidence_of(made, num_train_images=800))
    assert "80" in finding.remedy
    assert "images without objects" in finding.remedy
    assert finding.impact > 0
    some = simulate(Detector(background=0.5, background_scores=(4, 4)))
    assert not list(background_taken_for_objects(evidence_of(some)))


def test_background_is_not_blamed_where_labels_are_missing():
    assert not list(background_taken_for_objects(evidence_of(simulate(Detector()), missing_labels(0.5))))


def test_many_duplicates_are_found_with_an_nms_threshold_that_suppresses_them():
    evidence = evidence_of(simulate(Detector(duplicates=0.4)), config=facts(nms_iou_threshold=0.8))
    (finding,) = many_duplicates(evidence)
    # Duplicates have an IoU of 0.65 with the better detection.
    assert abs(finding.evidence["median_iou"] - 0.65) < 0.02
    setting = finding.settings[0]
    assert setting.startswith(finding.field)
    assert 0.5 <= float(setting.rpartition("=")[2]) <= 0.65
    assert not list(many_duplicates(evidence_of(simulate(Detector(duplicates=0.05)))))


def test_a_detector_that_knows_only_one_category_is_found():
    made = simulate(Detector(), shares=[0.5, 0.5, 0, 0, 0])
    made.detections["category"][:] = 0
    (finding,) = detections_of_one_category(evidence_of(made))
    assert "100%" in finding.symptom
    assert "'one'" in finding.symptom
    assert not list(confused_categories(evidence_of(made)))


def test_one_category_is_no_finding_where_objects_are_of_it_too():
    made = simulate(Detector(), shares=[0.95, 0.05, 0, 0, 0])
    made.detections["category"][:] = 0
    assert not list(detections_of_one_category(evidence_of(made)))
    assert not list(confused_categories(evidence_of(simulate(Detector()), renamed({0: 1, 1: 0}))))
