"""A training that ended while it still learned."""

from __future__ import annotations

from collections.abc import Iterator

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import ap_name, extrapolate, finite, from_share, has_ended, trend

# The part of the training in which the loss must still fall, and by which share: a level loss falls by 1% or 2% in a
# quarter of a training for a very long time.
_LAST_PART = 0.75
_FALL = 0.05
# Stricter than elsewhere: every training ends once, and with a rate that has not decayed most losses still fall a bit.
_SIGNIFICANCE = 0.001
# A schedule that has come below this share of its highest rate has been gone through: that the loss fell while the rate
# did is its purpose, and it falls no more afterwards.
_RATE_AT_END = 0.1
# An AP to expect that is less than this above what there is does not make up for twice the time.
_WORTH_IT = 0.02
# The part of the evaluations that must still get better.
_LAST_EVALUATIONS = 0.5


@diagnosis
def unfinished_training(evidence: Evidence) -> Iterator[Finding]:
    """The losses still fall at the last step, at a learning rate that would let them."""
    loss = finite(evidence.curve("Loss/total_loss"))
    last = trend(from_share(loss, _LAST_PART))
    if not has_ended(evidence) or last is None or _is_decayed(evidence) or last.interval(_SIGNIFICANCE)[1] >= 0:
        return
    fall = -last.change / (last.level - last.change / 2)
    if fall < _FALL or not _gets_better(evidence):
        return
    step, first = int(loss.steps[-1]), int(from_share(loss, _LAST_PART).steps[0])
    steps = 2 * step
    name = ap_name(evidence)
    curve = finite(evidence.metric(name))
    expected = extrapolate(curve, steps, ceiling=1.0)
    if expected is not None and expected.value < curve.values[-1] + _WORTH_IT:
        return
    then = (
        f" ({name} {expected.value:.2f} is to be expected then instead of {curve.values[-1]:.2f}, with 95% between"
        f" {expected.low:.2f} and {expected.high:.2f}, if it goes on as before)"
        if expected is not None
        else ""
    )
    schedule = evidence.config.schedule if evidence.config is not None else ""
    match = f", and stretch its {schedule} to them" if schedule not in ("", "constant") else ""
    yield Finding(
        "unfinished_training",
        "warning",
        "",
        f"the training loss still fell by {fall:.0%} from step {first} to the last, {step}",
        f"train for {steps} steps{match}{then}",
        cause="so the model was not trained to the end",
        field="train_config.num_steps",
        evidence={
            "fall": fall,
            "step": step,
            "expected_AP": None if expected is None else expected.value,
            "expected_AP_interval": None if expected is None else [expected.low, expected.high],
        },
        sureness="likely",
        settings=_settings(evidence.config, steps),
        impact=0.0 if expected is None else max(expected.value - float(curve.values[-1]), 0.0),
    )


def _is_decayed(evidence: Evidence) -> bool:
    rate = finite(evidence.curve("learning_rate"))
    return len(rate) > 0 and rate.values[-1] < _RATE_AT_END * rate.values.max()


def _gets_better(evidence: Evidence) -> bool:
    """Whether AP or the loss of the evaluation images gets better, too; True if there are too few to say."""
    ap = trend(from_share(evidence.metric(ap_name(evidence)), _LAST_EVALUATIONS))
    loss = trend(from_share(evidence.metric("total_loss"), _LAST_EVALUATIONS))
    if ap is None and loss is None:
        return True
    return (ap is not None and ap.rises) or (loss is not None and loss.falls)


def _settings(facts: ConfigFacts | None, steps: int) -> tuple[str, ...]:
    if facts is None:
        return ()
    decay = {"decay_steps": steps} if facts.schedule == "cosine decay" else {}
    return facts.setting(num_steps=steps, **decay)
