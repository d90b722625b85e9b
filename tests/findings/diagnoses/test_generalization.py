import dataclasses

import pytest
from findings.made_runs import annealed, falling, made_result, made_run, rising

from od_eval.findings.diagnoses.generalization import generalization_gap, same_images, suspiciously_good


def run(on_eval, on_train, **changes):
    given = {"loss": annealed(falling()), "ap": annealed(rising(on_eval)), "train_ap": annealed(rising(on_train))}
    return made_run(**(given | changes))


@pytest.mark.parametrize("seed", range(5))
def test_ap_far_below_that_of_training_images_is_a_gap(seed):
    (finding,) = generalization_gap(run(0.4, 0.8, seed=seed))
    assert finding.severity == "warning"
    assert finding.impact == pytest.approx(0.39, abs=0.05)
    assert "train on more, and more varied, data than 400 images" in finding.remedy


@pytest.mark.parametrize("seed", range(5))
def test_a_gap_that_is_usual_or_within_chance_is_none(seed):
    assert not list(generalization_gap(run(0.55, 0.65, seed=seed)))
    assert not list(generalization_gap(run(0.75, 0.95, seed=seed)))
    assert not list(generalization_gap(run(0.4, 0.6, seed=seed, half_interval=0.2)))
    assert not list(generalization_gap(run(0.65, 0.4, seed=seed)))


def test_evaluations_of_other_steps_are_not_compared():
    evidence = dataclasses.replace(run(0.4, 0.8), train_evaluations=[made_result(123, 0.8)])
    assert not list(generalization_gap(evidence))


def test_the_same_numbers_on_both_sets_are_of_the_same_images():
    evidence = run(0.6, 0.6)
    same = dataclasses.replace(evidence, train_evaluations=evidence.evaluations)
    (finding,) = same_images(same)
    assert "input_path of eval_input_reader" in finding.remedy
    assert not list(same_images(evidence))


def test_the_same_ap_with_another_loss_is_of_other_images():
    evidence = run(0.6, 0.6)
    pair = {"evaluations": [made_result(1, 0.5, 0.7)], "train_evaluations": [made_result(1, 0.5, 0.6)]}
    assert not list(same_images(dataclasses.replace(evidence, **pair)))


@pytest.mark.parametrize(("ap", "count"), [(0.97, 1), (0.9, 0)])
def test_ap_near_one_is_suspicious(ap, count):
    evidence = dataclasses.replace(run(0.6, 0.6), evaluations=[made_result(1, ap)])
    found = list(suspiciously_good(evidence))
    assert [finding.severity for finding in found] == ["note"] * count
