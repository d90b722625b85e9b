"""A training that breaks: values that are not finite, spikes, a loss or gradients that grow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Curve, Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import finite, from_share, robust_deviation, smooth

# A spike is a point with so many times the loss of its neighbours, and as many standard deviations above them as one
# normal value in 10⁹ is. A point is the mean of many steps, so in one of them it is far more.
_SPIKE = 2.0
_SPIKE_DEVIATIONS = 6.0
# The neighbours of a point, and how many points a curve must have so that they say what is usual.
_NEIGHBOURS = 11
_LEAST_POINTS = 15
# One or two spikes may be a bad record each; a rate that is too high goes on making them.
_MANY_SPIKES = 3
# A loss that grows has so many times its lowest level, for a tenth of the points and more: the bump that the end of
# the warm-up makes in good trainings (rate at its highest, a head that is still new) is gone by then.
_GROWTH = 1.5
# In the quickstart, a good training, the norm of the gradients was 12 times what it was at first when the
# warm-up ended, for 50 steps, and only fell after it.
_GRADIENT_GROWTH = 10.0
_LAST_PART = 0.9
# Half an order of magnitude: what a rate is usually changed by in a search.
_RATE_FACTOR = 3
# The zoo's SSD configs warm up for 2% to 8% of their steps: 1,000 of 50,000 to 2,000 of 25,000.
_WARMUP_SHARE = 0.05
# What those of the Object Detection API's configs that clip have.
_CLIPPING = 10.0


@diagnosis
def non_finite_loss(evidence: Evidence) -> Iterator[Finding]:
    """A loss or the gradient norm of training is NaN or infinite."""
    broken = {
        tag: curve
        for tag, curve in evidence.curves.items()
        if (tag.startswith("Loss/") or tag == "gradient_norm") and not np.isfinite(curve.values).all()
    }
    if not broken:
        return
    first = {tag: int(curve.steps[np.argmin(np.isfinite(curve.values))]) for tag, curve in broken.items()}
    step = min(first.values())
    tags = sorted(tag for tag in first if first[tag] == step)
    tag = "Loss/total_loss" if "Loss/total_loss" in tags else tags[0]
    before = [int(at) for at in broken[tag].steps if at < step]
    steps = f"of steps {before[-1] + 1} to {step}" if before and before[-1] + 1 < step else f"of step {step}"
    yield Finding(
        "non_finite_loss",
        "error",
        "",
        f"{tag} {steps} is not finite",
        f"{_calmer(evidence.config)}, and look for a bad record with od-eval replay --model_dir=… --step={step}",
        cause="so the weights are lost from there on: the learning rate is too high, its warm-up is too short, or a"
        " record is bad",
        field="train_config.gradient_clipping_by_norm",
        evidence={"step": step, "tags": tags},
        settings=_settings(evidence.config),
        impact=1.0,
    )


@diagnosis
def loss_spikes(evidence: Evidence) -> Iterator[Finding]:
    """Points of the training loss stand out from their neighbours."""
    curve = finite(evidence.curve("Loss/total_loss"))
    curve = Curve(curve.steps[curve.values > 0], curve.values[curve.values > 0])
    if len(curve) < _LEAST_POINTS:
        return
    # In logarithms, because noise is a share of the loss.
    residuals = np.log(curve.values) - smooth(np.log(curve.values), _NEIGHBOURS)
    # Where the loss falls steeply, at the beginning and at a step of the rate, no median follows it at the ends.
    limit = max(np.log(_SPIKE), _SPIKE_DEVIATIONS * robust_deviation(residuals))
    spikes = np.flatnonzero(residuals > limit)
    spikes = spikes[spikes > 0]
    if not len(spikes):
        return
    worst = spikes[np.argmax(residuals[spikes])]
    step, times = int(curve.steps[worst]), float(np.exp(residuals[worst]))
    many = len(spikes) >= _MANY_SPIKES
    count = (
        f"{len(spikes)} of {len(curve)} points of the training loss stand out"
        if many
        else (
            f"{'a point' if len(spikes) == 1 else 'two points'} of the training loss, of {len(curve)}, stand"
            f"{'s' if len(spikes) == 1 else ''} out"
        )
    )
    replay = f"od-eval replay --model_dir=… --step={step}"
    yield Finding(
        "loss_spikes",
        "warning" if many else "note",
        "",
        f"{count}, at worst with {times:.1f} times the loss around it (step {step})",
        f"{_calmer(evidence.config)}; {replay} names a bad record" if many else f"look for it with {replay}",
        cause="which a learning rate that is too high, a warm-up that is too short, or bad records make"
        if many
        else "which a bad record may have made",
        field="train_config.gradient_clipping_by_norm",
        evidence={"spikes": [int(at) for at in curve.steps[spikes]], "times": times, "points": len(curve)},
        sureness="likely" if many else "possible",
        settings=_settings(evidence.config) if many else (),
    )


@diagnosis
def loss_grows(evidence: Evidence) -> Iterator[Finding]:
    """The training loss is far above its lowest level at the end."""
    curve = finite(evidence.curve("Loss/total_loss"))
    grown = _grown(curve, _GROWTH)
    if grown is None or _in_warmup(evidence):
        return
    at, lowest, last = grown
    yield Finding(
        "loss_grows",
        "warning",
        "",
        f"the training loss has grown from {lowest:.3g} at step {at} to {last:.3g} at step {int(curve.steps[-1])}",
        _calmer(evidence.config),
        cause="so training diverges: the learning rate is too high, or its warm-up too short",
        field=_field_of_rate(evidence.config),
        evidence={"lowest": lowest, "step": at, "last": last, "points": len(curve)},
        sureness="likely",
        settings=_settings(evidence.config),
    )


@diagnosis
def exploding_gradients(evidence: Evidence) -> Iterator[Finding]:
    """The norm of the gradients is many times what it was."""
    curve = finite(evidence.curve("gradient_norm"))
    grown = _grown(curve, _GRADIENT_GROWTH)
    if grown is None or _in_warmup(evidence):
        return
    at, lowest, last = grown
    yield Finding(
        "exploding_gradients",
        "warning",
        "",
        f"the norm of the gradients has grown from {lowest:.3g} at step {at} to {last:.3g} at step"
        f" {int(curve.steps[-1])}",
        _calmer(evidence.config),
        cause="so training is about to diverge: the learning rate is too high, or its warm-up too short",
        field="train_config.gradient_clipping_by_norm",
        evidence={"lowest": lowest, "step": at, "last": last, "points": len(curve)},
        sureness="likely",
        settings=_settings(evidence.config),
    )


def _grown(curve: Curve, times: float) -> tuple[int, float, float] | None:
    """The step of the lowest level, that level, and the last one, if the last is so many times the lowest.

    The last level must stand out from the noise of the curve, too, and it is that of all of its last points.
    """
    curve = Curve(curve.steps[curve.values > 0], curve.values[curve.values > 0])
    if len(curve) < _LEAST_POINTS:
        return None
    logs = np.log(curve.values)
    course = smooth(logs, 5)
    last = np.log(from_share(curve, _LAST_PART).values)
    at = int(np.argmin(course))
    deviation = robust_deviation(logs - course)
    enough = max(np.log(times), _SPIKE_DEVIATIONS * deviation)
    if np.quantile(last, 0.25) - course[at] < enough:
        return None
    return int(curve.steps[at]), float(np.exp(course[at])), float(np.exp(np.median(last)))


def _in_warmup(evidence: Evidence) -> bool:
    """Whether the warm-up is not over for as long as it took."""
    return evidence.config is not None and evidence.step < 2 * evidence.config.warmup_steps


def _calmer(facts: ConfigFacts | None) -> str:
    if facts is None:
        return "lower the learning rate, lengthen its warm-up, or clip the gradients"
    parts = [f"lower the learning rate from {facts.learning_rate:g} to {facts.learning_rate / _RATE_FACTOR:.2g}"]
    if "warmup_steps" in facts.fields:
        parts.append(f"lengthen its warm-up from {facts.warmup_steps} to {_longer_warmup(facts)} steps")
    clip = "clip the gradients by gradient_clipping_by_norm"
    now = f" instead of {facts.gradient_clipping:g}" if facts.gradient_clipping > 0 else ""
    parts.append(f"{clip} {_clipping(facts):g}{now}")
    return ", or ".join(parts) if len(parts) == 2 else f"{parts[0]}, {parts[1]}, or {parts[2]}"


def _settings(facts: ConfigFacts | None) -> tuple[str, ...]:
    if facts is None:
        return ()
    rate = float(f"{facts.learning_rate / _RATE_FACTOR:.2g}")
    return (
        *facts.setting(learning_rate=rate),
        *facts.setting(warmup_steps=_longer_warmup(facts)),
        *facts.setting(gradient_clipping=_clipping(facts)),
    )


def _longer_warmup(facts: ConfigFacts) -> int:
    return max(2 * facts.warmup_steps, round(_WARMUP_SHARE * facts.num_steps))


def _clipping(facts: ConfigFacts) -> float:
    return facts.gradient_clipping / 2 if 0 < facts.gradient_clipping <= _CLIPPING else _CLIPPING


def _field_of_rate(facts: ConfigFacts | None) -> str:
    fields = facts.fields if facts is not None else {}
    return fields.get("learning_rate", "train_config.optimizer")
