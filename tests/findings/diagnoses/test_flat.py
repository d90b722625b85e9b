import dataclasses

import pytest
from findings.made_runs import FACTS, falling, made_run, rising

from od_eval.findings.diagnoses.flat import ap_stays_zero, flat_from_the_start

SEEDS = range(5)


def zero(share):
    return 0 * share


def flat(seed=0, **changes):
    given = {
        "loss": lambda share: 2 + 0 * share,
        "ap": zero,
        "ap_noise": 0.0005,
        "noise": 0.02,
        "rate": lambda share: 1e-8 + 0 * share,
        "seed": seed,
    }
    return made_run(**(given | changes))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_that_never_fell_names_the_rate_first_where_it_is_tiny(seed):
    (finding,) = flat_from_the_start(flat(seed))
    assert finding.severity == "warning"
    assert finding.remedy.startswith("check the learning rate, which was 1e-08 at most")


def test_frozen_variables_and_a_missing_checkpoint_are_named():
    facts = dataclasses.replace(FACTS, freeze_variables=(".*",), fine_tune_checkpoint="")
    (finding,) = flat_from_the_start(flat(facts=facts, rate=lambda share: 0.08 + 0 * share))
    assert finding.remedy.startswith("check train_config.freeze_variables (.*)")
    assert "fine_tune_checkpoint is empty" in finding.remedy
    (finding,) = flat_from_the_start(flat(facts=None))
    assert "ids of the labels" in finding.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": falling(1.0, 1.0, 0.3)},
        {"loss": lambda share: 2 - 0.3 * share},
        {"ap": lambda share: 0.5 + 0 * share},  # it goes on from a trained model
        {"done": 0.03},
        {"done": 0.08},  # the warm-up is hardly over
    ],
    ids=["falls", "falls slowly", "trained before", "few points", "warm-up"],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_only_nearly_flat_is_not_reported(changes, seed):
    assert not list(flat_from_the_start(flat(seed, **changes)))


@pytest.mark.parametrize("seed", SEEDS)
def test_ap_of_zero_in_spite_of_a_loss_that_falls_points_at_the_labels(seed):
    (finding,) = ap_stays_zero(flat(seed, loss=falling()))
    assert finding.sureness == "possible"
    assert "off by one" in finding.cause


def test_ap_of_zero_of_new_images_alone_is_likely_to_be_the_labels():
    (finding,) = ap_stays_zero(flat(loss=falling(), train_ap=rising(0.6)))
    assert finding.sureness == "likely"
    assert "on training images" in finding.symptom


@pytest.mark.parametrize(
    "changes",
    [
        {"ap": lambda share: 0.02 * share},
        {"evaluations": 2},
        {"done": 0.3},
        {"loss": lambda share: 2 + 0 * share},
    ],
    ids=["a little AP", "two evaluations", "beginning", "loss flat as well"],
)
def test_ap_that_may_still_come_is_not_reported(changes):
    assert not list(ap_stays_zero(flat(**({"loss": falling()} | changes))))
