"""AP that gets no better: when to stop, and with which patience."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Curve, Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import ap_name, between, finite, has_ended, trend

# Evaluations without improvement: the driver's default patience. Fewer are common in trainings that still improve.
PLATEAU = 5
# It must also be so much of the training: AP pauses, and goes on.
_SHARE = 1 / 3
# For a training that has ended: so much of it must have been for nothing that it is worth knowing.
_SHARE_TOO_LATE = 0.5
# Below this the question is not when to stop, but why so little is learned (`underfitting`, `flat`).
_LEAST_AP = 0.3
# An improvement that is worth waiting for.
_WORTH_WAITING = 0.01
# A rate that is to fall below this share of what it is will bring something: with each step of a schedule, and at the
# end of a cosine decay, AP rises though it was level.
_RATE_WILL_FALL = 0.5


@diagnosis
def plateau(evidence: Evidence) -> Iterator[Finding]:
    """AP of a running training is level for many evaluations: it can end now."""
    name = ap_name(evidence)
    curve = finite(evidence.metric(name))
    level = _level_since(curve)
    if has_ended(evidence) or evidence.stopped_early or not _rate_stays(evidence):
        return
    if level is None or level.share < _SHARE or level.value < _LEAST_AP:
        return
    yield Finding(
        "plateau",
        "note",
        "",
        f"{name} has been level for {level.evaluations} evaluations, {level.value:.3f} since step {level.step}:"
        f" what it changed by ({level.change:+.3f}) is within chance",
        "stop now and use the checkpoint in best/, or lower the learning rate; --early_stopping_metric=val_AP"
        f" --early_stopping_patience={_patience(curve, level)} does so by itself",
        cause="so more steps at this learning rate bring nothing",
        field="train_config.num_steps",
        evidence=dataclasses.asdict(level),
        sureness="likely" if evidence.config is not None or len(evidence.curve("learning_rate")) else "possible",
    )


@diagnosis
def stopped_too_late(evidence: Evidence) -> Iterator[Finding]:
    """A large part of a training that has ended brought no improvement."""
    name = ap_name(evidence)
    curve = finite(evidence.metric(name))
    level = _level_since(curve)
    if not has_ended(evidence) or level is None or level.share < _SHARE_TOO_LATE or level.value < _LEAST_AP:
        return
    patience = _patience(curve, level)
    if patience >= level.evaluations:
        return
    yield Finding(
        "stopped_too_late",
        "note",
        "",
        f"{name} was {level.value:.3f} at step {level.step} already, and what the {level.evaluations - 1} evaluations"
        f" after it changed ({level.change:+.3f}) is within chance",
        f"end the next training with --early_stopping_metric=val_AP --early_stopping_patience={patience}, or set"
        f" num_steps near {level.step}",
        cause=f"so {level.share:.0%} of the training was not needed",
        field="train_config.num_steps",
        evidence={**dataclasses.asdict(level), "patience": patience},
        sureness="likely",
    )


@diagnosis
def stopped_too_early(evidence: Evidence) -> Iterator[Finding]:
    """Early stopping ended a training whose AP was still rising."""
    if not evidence.stopped_early:
        return
    name = ap_name(evidence)
    curve = finite(evidence.metric(name))
    half = curve.steps[-1] / 2 if len(curve) else 0
    last = between(curve, half)
    rising = trend(last)
    if rising is None or not rising.rises or rising.change < _WORTH_WAITING:
        return
    pause = max(len(curve) - 1 - int(np.argmax(curve.values)), 1)
    yield Finding(
        "stopped_too_early",
        "warning",
        "",
        f"early stopping ended training at step {evidence.step}, after {pause} evaluation{'s' * (pause > 1)} without"
        f" improvement, while {name} was rising, by {rising.change:.3f} over the last {len(last)} evaluations",
        f"go on with a larger --early_stopping_patience, such as {2 * pause + 1}",
        cause="so its patience was shorter than the pauses that chance makes",
        evidence={"pause": pause, "rise": rising.change, "error": rising.error, "step": evidence.step},
        sureness="likely",
    )


@dataclasses.dataclass(frozen=True)
class _Level:
    step: int
    evaluations: int
    value: float
    change: float
    share: float


def _level_since(curve: Curve) -> _Level | None:
    """The longest end of a curve of AP of which it is sure that it rises by no more than a little; None if too short.

    That a rise is within chance is not sufficient: with few evaluations everything is.
    """
    for first in range(len(curve) - PLATEAU + 1):
        part = Curve(curve.steps[first:], curve.values[first:])
        found = trend(part)
        if found is None:
            continue
        low, high = found.interval(0.05)
        # A slow beginning before a level end is still a rise: its first value is below all that follow.
        rise = float(np.median(part.values) - part.values[0])
        if low <= 0 and abs(found.change) < _WORTH_WAITING and high < 2 * _WORTH_WAITING and rise < _WORTH_WAITING:
            return _Level(
                int(part.steps[0]),
                len(part),
                float(np.median(part.values)),
                found.change,
                float(part.steps[-1] - part.steps[0]) / max(float(curve.steps[-1]), 1.0),
            )
    return None


def _patience(curve: Curve, level: _Level) -> int:
    """The least patience that would not have ended training before AP was level; the driver's default at least."""
    return max(PLATEAU, _longest_pause(between(curve, 0, level.step)) + 1)


def _longest_pause(curve: Curve) -> int:
    """The most evaluations in a row without a new best that were followed by one worth waiting for."""
    longest = pause = 0
    best = -np.inf
    for value in curve.values:
        if value >= best + _WORTH_WAITING:
            longest = max(longest, pause)
            best, pause = value, 0
        else:
            pause += 1
    return longest


def _rate_stays(evidence: Evidence) -> bool:
    """Whether the learning rate has done all that it is going to do."""
    facts = evidence.config
    if facts is not None:
        if facts.schedule == "constant":
            return True
        return facts.decay_steps is not None and evidence.step >= facts.decay_steps
    rate = finite(evidence.curve("learning_rate"))
    if not len(rate):
        return True
    return bool(rate.values[-1] < _RATE_WILL_FALL * rate.values.max() or np.ptp(rate.values) == 0)
