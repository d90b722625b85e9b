import dataclasses

import numpy as np
import pytest
from findings.made_runs import CONSTANT, FACTS, constant, cosine, falling, made_run, rising

from od_eval.findings.diagnoses.unfinished import unfinished_training


def ended_early(seed=0, **changes):
    given = {
        "loss": falling(0.1, 2.5, 0.3),
        "eval_loss": falling(0.2, 2.5, 0.3),
        "ap": rising(0.9, 0.8),
        "rate": constant,
        "facts": CONSTANT,
        "noise": 0.03,
        "seed": seed,
    }
    return made_run(**(given | changes))


@pytest.mark.parametrize("seed", range(5))
def test_losses_that_still_fall_at_the_end_ask_for_more_steps(seed):
    (finding,) = unfinished_training(ended_early(seed))
    assert finding.severity == "warning"
    assert finding.settings == ("train_config.num_steps=40000",)
    low, high = finding.evidence["expected_AP_interval"]
    assert low - 0.02 <= 0.9 * (1 - np.exp(-1.6)) <= high + 0.02  # the AP that the made run has at 40,000 steps
    assert "is to be expected" in finding.remedy


def test_a_schedule_is_stretched_with_the_steps():
    facts = dataclasses.replace(FACTS, num_steps=100000, decay_steps=100000)
    (finding,) = unfinished_training(ended_early(facts=facts, rate=lambda share: cosine(share / 5)))
    assert finding.settings[0] == "train_config.num_steps=40000"
    assert finding.settings[1].endswith("total_steps=40000")
    assert "stretch its cosine decay" in finding.remedy


def test_it_is_found_without_evaluations_too_but_then_nothing_is_expected():
    (finding,) = unfinished_training(ended_early(ap=None, eval_loss=None))
    assert finding.evidence["expected_AP"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": cosine},  # the rate is zero: nothing more would come
        {"done": 0.9},
        {"ap": lambda share: 0.4 + 0 * share, "eval_loss": lambda share: 0.6 + 0 * share},
        {"loss": falling(0.4, 2.5, 0.02)},
    ],
    ids=["decayed", "running", "evaluations level", "loss nearly level"],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_has_come_to_its_end_is_not_reported(changes, seed):
    assert not list(unfinished_training(ended_early(seed, **changes)))


def test_an_end_that_is_not_known_is_not_judged():
    assert not list(unfinished_training(dataclasses.replace(ended_early(), last_step=None)))
