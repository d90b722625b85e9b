import dataclasses

import numpy as np
import pytest
from findings.made_runs import FACTS, annealed, bump, falling, made_run

from od_eval.findings.diagnoses.instability import exploding_gradients, loss_grows, loss_spikes, non_finite_loss
from od_eval.findings.evidence import Curve

SEEDS = range(5)


def with_values(evidence, tag, values_at):
    curve = evidence.curves[tag]
    values = curve.values.copy()
    for at, change in values_at.items():
        values[at] = change(values[at])
    return dataclasses.replace(evidence, curves={**evidence.curves, tag: Curve(curve.steps, values)})


def healthy(seed=0, **changes):
    return made_run(**({"loss": annealed(falling()), "seed": seed} | changes))


def test_a_loss_that_is_not_finite_is_an_error_with_the_steps_to_replay():
    evidence = with_values(healthy(), "Loss/total_loss", {at: lambda _: np.nan for at in range(120, 200)})
    (finding,) = non_finite_loss(evidence)
    assert finding.severity == "error"
    assert "of steps 12001 to 12100 is not finite" in finding.symptom
    assert "--step=12100" in finding.remedy
    assert "train_config.gradient_clipping_by_norm=10.0" in finding.settings
    assert any(setting.endswith("learning_rate_base=0.027") for setting in finding.settings)
    assert any(setting.endswith("warmup_steps=2000") for setting in finding.settings)


def test_a_gradient_norm_that_is_infinite_is_found_and_other_curves_are_not_looked_at():
    evidence = healthy()
    assert list(non_finite_loss(with_values(evidence, "gradient_norm", {5: lambda _: np.nan})))
    assert not list(non_finite_loss(with_values(evidence, "steps_per_sec", {5: lambda _: np.nan})))
    assert not list(non_finite_loss(evidence))


@pytest.mark.parametrize("seed", SEEDS)
def test_many_spikes_are_a_learning_rate_that_is_too_high(seed):
    spiky = with_values(healthy(seed), "Loss/total_loss", {at: lambda value: 4 * value for at in (30, 70, 130, 131)})
    (finding,) = loss_spikes(spiky)
    assert finding.severity == "warning"
    assert finding.evidence["spikes"] == [3100, 7100, 13100, 13200]
    assert "lower the learning rate from 0.08" in finding.remedy


@pytest.mark.parametrize("seed", SEEDS)
def test_one_spike_may_be_a_bad_record(seed):
    (finding,) = loss_spikes(with_values(healthy(seed), "Loss/total_loss", {70: lambda value: 5 * value}))
    assert finding.severity == "note"
    assert "od-eval replay --model_dir=… --step=7100" in finding.remedy
    assert not finding.settings


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_is_no_spike(seed):
    nearly = with_values(healthy(seed), "Loss/total_loss", {70: lambda value: 1.6 * value})
    assert not list(loss_spikes(nearly))
    assert not list(loss_spikes(healthy(seed, noise=0.25)))


def growing(seed=0, slope=3.0, **changes):
    return healthy(seed, loss=lambda share: falling()(share) + slope * np.maximum(share - 0.5, 0), **changes)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_that_grows_diverges(seed):
    (finding,) = loss_grows(growing(seed))
    assert finding.severity == "warning"
    assert 7000 <= finding.evidence["step"] <= 12000
    assert finding.field.endswith("learning_rate_base")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_that_grows_a_little_or_for_a_while_does_not_diverge(seed):
    assert not list(loss_grows(growing(seed, slope=0.15)))
    assert not list(loss_grows(healthy(seed, loss=lambda share: falling()(share) + bump(share))))
    assert not list(loss_grows(healthy(seed, loss=lambda share: falling()(share) + bump(share), done=0.06)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gradient_norm_that_is_many_times_what_it_was_explodes(seed):
    evidence = healthy(seed, gradient_norm=lambda share: 3 * np.exp(6 * np.maximum(share - 0.4, 0)))
    (finding,) = exploding_gradients(evidence)
    assert finding.severity == "warning"
    assert "gradient_clipping_by_norm 10" in finding.remedy


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gradient_norm_that_triples_or_peaks_in_the_warm_up_does_not_explode(seed):
    assert not list(exploding_gradients(healthy(seed, gradient_norm=lambda share: 2 + 4 * share)))
    peak = healthy(seed, gradient_norm=lambda share: 3 + 160 * np.exp(-(((share - 0.04) / 0.01) ** 2)), done=0.06)
    assert not list(exploding_gradients(peak))


def test_gradients_that_are_clipped_already_are_clipped_more():
    facts = dataclasses.replace(FACTS, gradient_clipping=4.0)
    (finding,) = loss_grows(growing(facts=facts))
    assert "gradient_clipping_by_norm 2 instead of 4" in finding.remedy
    assert "train_config.gradient_clipping_by_norm=2.0" in finding.settings


def test_short_curves_and_none_are_not_judged():
    for diagnose in (non_finite_loss, loss_spikes, loss_grows, exploding_gradients):
        assert not list(diagnose(healthy(done=0.05)))
        assert not list(diagnose(dataclasses.replace(healthy(), curves={})))
