import dataclasses

import numpy as np
import pytest
from findings.made_runs import CONSTANT, annealed, constant, falling, made_run, rising

from od_eval.findings.diagnoses.plateau import plateau, stopped_too_early, stopped_too_late

SEEDS = range(5)


def level(seed=0, **changes):
    given = {
        "loss": falling(0.3, 2.5, 0.01),
        "ap": lambda share: 0.5 * (1 - np.exp(-share / 0.03)),
        "rate": constant,
        "facts": CONSTANT,
        "evaluations": 40,
        "done": 0.7,
        "seed": seed,
    }
    return made_run(**(given | changes))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_training_whose_ap_has_flattened_can_stop(seed):
    # "stop when mAP50 flattens or patience ends"
    (finding,) = plateau(level(seed))
    assert finding.severity == "note"
    assert finding.evidence["step"] <= 8000
    assert "stop now" in finding.remedy
    assert "--early_stopping_patience=" in finding.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"ap": rising(0.6, 2)},
        {"ap": lambda share: 0.4 + 0.08 * share},
        {"evaluations": 5},
        {"done": 1.0},  # has ended anyway
        {"facts": dataclasses.replace(CONSTANT, schedule="steps", decay_steps=16000)},  # AP rises when the rate falls
        {"ap": lambda share: 0.1 + 0 * share},  # the question is another one
    ],
    ids=["rises", "rises slowly", "few", "ended", "rate will fall", "low"],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_may_still_get_better_need_not_stop(changes, seed):
    assert not list(plateau(level(seed, **changes)))


def test_without_a_config_the_curve_of_the_rate_decides():
    assert list(plateau(level(facts=None)))
    falls_slowly = level(facts=None, rate=lambda share: 0.08 - 0.03 * share)
    assert not list(plateau(falls_slowly))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_training_that_went_on_for_nothing_is_told_its_patience(seed):
    (finding,) = stopped_too_late(level(seed, done=1.0))
    assert finding.severity == "note"
    assert finding.evidence["share"] > 0.5
    assert 5 <= finding.evidence["patience"] < 20


@pytest.mark.parametrize("changes", [{"ap": annealed(rising(0.6, 3))}, {"done": 0.7}], ids=["used", "running"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_training_that_used_its_time_did_not_end_too_late(changes, seed):
    assert not list(stopped_too_late(level(seed, **({"done": 1.0} | changes))))


@pytest.mark.parametrize("seed", SEEDS)
def test_early_stopping_while_ap_rises_came_too_early(seed):
    evidence = level(seed, ap=rising(0.6, 2), done=0.5)
    (finding,) = stopped_too_early(dataclasses.replace(evidence, stopped_early=True))
    assert finding.severity == "warning"
    assert "larger --early_stopping_patience" in finding.remedy
    assert not list(stopped_too_early(evidence))
    assert not list(stopped_too_early(dataclasses.replace(level(seed), stopped_early=True)))
