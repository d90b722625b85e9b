"""Scores of a model that differ between two sets of images are found, and those that chance explains are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from od_eval.findings.score_shift import different_scores

KNOWN, NEW = "eval_input_reader[0]", "deployment_images"


def scores(seed: int, number: int, mean: float = 0.7, detections: float = 3):
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(mean, 0.15, number), 0, 1), rng.poisson(detections, number)


def found(known, new):
    return list(different_scores(KNOWN, known, NEW, new, "runs/a/ckpt-12", 0.4))


def test_a_model_that_is_less_sure_of_new_images_is_found_with_both_numbers():
    known, new = scores(0, 200), scores(1, 150, mean=0.4, detections=1)
    (finding,) = found(known, new)
    assert (finding.kind, finding.severity, finding.sureness) == ("different_scores", "warning", "likely")
    medians = [float(np.median(one[0])) for one in (known, new)]
    assert finding.evidence["median_best_score"] == medians
    assert str(finding).startswith(
        f"{NEW}: the scores of runs/a/ckpt-12 differ from those in {KNOWN}: the median of the highest score in an image"
        f" is {medians[1]:.2f} instead of {medians[0]:.2f}, and {new[1].mean():.2g} instead of {known[1].mean():.2g}"
        " detections per image have a score of 0.40 or more (150 images here and 200 there, Kolmogorov–Smirnov"
    )
    # But for the tolerance, by which distances are smaller, and 64 places at which they are measured.
    assert finding.evidence["effect"] == pytest.approx(stats.ks_2samp(known[0], new[0]).statistic, abs=0.08)


def test_more_detections_of_the_same_scores_are_found():
    (finding,) = found(scores(0, 200), scores(1, 200, detections=9))
    assert finding.evidence["detections_per_image"][1] > 8


@pytest.mark.parametrize("number", [3, 30, 200])
def test_scores_of_the_same_kind_of_images_are_not_found(number):
    for seed in range(5):
        assert not found(scores(seed, 200), scores(seed + 100, number))


def test_a_difference_that_chance_explains_is_not_found():
    assert not found(scores(0, 4), scores(1, 4, mean=0.4))


def test_scores_that_no_one_could_tell_apart_are_the_same():
    known = scores(0, 200)
    assert not found((np.full(200, 0.5), known[1]), (np.full(200, 0.515), known[1]))


def test_without_images_there_is_nothing_to_compare():
    assert not found(scores(0, 200), (np.zeros(0), np.zeros(0, np.int64)))
