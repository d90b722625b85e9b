"""Faults planted into what good detectors give, and good detectors without any."""

import functools

import numpy as np
import pytest

from made_evaluations import (
    Detector,
    evidence_of,
    facts,
    missing_labels,
    renamed,
    simulate,
    wrong_labels,
)
from od_eval.findings.diagnosis import diagnose
from od_eval.findings.evidence import Evidence


@functools.cache
def good(fault: str, categories: int) -> Evidence:
    shares = [1 / (categories - 1)] * (categories - 1) + [0.0]
    made = simulate(Detector(0.8), images=300, categories=categories, shares=shares if fault == "renamed" else None)
    faults = {
        "wrong": wrong_labels(0.05),
        "missing": missing_labels(0.5),
        "renamed": renamed({0: categories - 1}),
        "absorbed": renamed({0: 1}),
    }
    return evidence_of(made, faults[fault], config=facts())


@pytest.mark.parametrize("categories", [2, 8])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("wrong", "wrong_labels"),
        ("missing", "missing_labels"),
        ("renamed", "renamed_category"),
        ("absorbed", "absorbed_category"),
    ],
)
def test_a_planted_fault_is_named_first(fault, kind, categories):
    if (fault, categories) in (("absorbed", 2), ("renamed", 2)):
        categories = 3  # or all objects are of one category
    first = diagnose(good(fault, categories))[0]
    assert first.kind == kind, str(first)
    assert first.sureness == "likely"
    assert first.severity != "note"
    assert first.images
    assert first.impact > 0


def test_the_estimate_of_wrong_and_missing_labels_is_about_right():
    assert diagnose(good("wrong", 8))[0].evidence["share"] == pytest.approx(0.05, abs=0.015)
    assert diagnose(good("missing", 8))[0].evidence["share"] == pytest.approx(0.5, abs=0.08)


HEALTHY = [  # quality, images, categories, objects per image, more of the detector
    (0.55, 50, 1, 4, {}),
    (0.6, 200, 20, 4, {}),
    (0.55, 1000, 5, 2, {}),
    (0.6, 100, 3, 8, {"background": 4.0}),
    (0.7, 600, 2, 1, {}),
    (0.7, 50, 20, 4, {}),
    (0.8, 300, 10, 4, {"duplicates": 0.05}),
    (0.9, 500, 5, 3, {"wrong_class": 0.08}),
    (1.0, 50, 2, 4, {}),
    (1.0, 400, 12, 4, {"iou": 0.97, "found": 1.0, "found_small": 1.0}),
]


@pytest.mark.parametrize("index", range(len(HEALTHY)))
def test_a_healthy_detector_gives_no_warning(index):
    quality, images, categories, per_image, more = HEALTHY[index]
    made = simulate(
        Detector(quality, **more), images=images, categories=categories, per_image=per_image, seed=100 + index
    )
    evidence = evidence_of(made, config=facts(), last_step=1000, num_train_images=1000)
    assert 0.3 < evidence.newest.bbox["AP"] < 0.95
    assert [str(finding) for finding in diagnose(evidence) if finding.severity != "note"] == []


def test_evaluations_without_objects_or_detections_or_analyses_give_nothing_that_failed():
    none = np.zeros(0, int)
    for empty in ("objects", "detections"):
        made = simulate(Detector(), images=5)
        setattr(made, empty, {"image": none, "category": none, "box": np.zeros((0, 4)), "score": np.zeros(0)})
        assert "diagnosis_failed" not in {finding.kind for finding in diagnose(evidence_of(made, config=facts()))}
    assert diagnose(Evidence()) == []
