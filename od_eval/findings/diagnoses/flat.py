"""A training that does not learn: a loss that is flat from the start, or AP that stays at zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import ap_name, finite, share_done, trend
from od_eval.text import some

# So few points may all be of the warm-up.
_LEAST_POINTS = 10
# What a loss that is flat has lost by the end. Trainings that learn lose half and more.
_FALL = 0.05
# A model that detects something in spite of a flat loss was trained before, and is only trained on.
_KNOWS_ALREADY = 0.05
# AP of chance: what a model says that has learned nothing of where and what.
_ZERO_AP = 0.005
# Evaluations of zero AP, the part of the training, and how much the loss has fallen, before it is no slow beginning.
_EVALUATIONS = 3
_SHARE_DONE = 0.5
_LOSS_HAS_FALLEN = 0.5
# Rates below this hardly move weights, whatever the optimizer: Adam moves each by about the rate in a step, so 10,000
# steps of it change a weight by at most 0.01.
_TINY_RATE = 1e-6


@diagnosis
def flat_from_the_start(evidence: Evidence) -> Iterator[Finding]:
    """The training loss has not fallen at all."""
    loss = finite(evidence.curve("Loss/total_loss"))
    if len(loss) < _LEAST_POINTS or _in_warmup(evidence):
        return
    third = len(loss) // 3
    first, last = float(np.median(loss.values[:3])), float(np.median(loss.values[-third:]))
    whole = trend(loss)
    if whole is None or last < (1 - _FALL) * first or whole.rises or -whole.change > _FALL * whole.level:
        return
    ap = finite(evidence.metric(ap_name(evidence)))
    if len(ap) and ap.values.max() >= _KNOWS_ALREADY:
        return
    seen = f", and {ap_name(evidence)} is {ap.values[-1]:.3f}" if len(ap) else ""
    rate = finite(evidence.curve("learning_rate"))
    highest = float(rate.values.max()) if len(rate) else None
    yield Finding(
        "flat_from_the_start",
        "warning",
        "",
        f"the training loss was {first:.3g} at the first steps and is {last:.3g} over the last third of"
        f" {int(loss.steps[-1])} steps{seen}",
        f"check {_suspects(evidence.config, highest)}",
        cause="so nothing is learned",
        field="train_config.fine_tune_checkpoint",
        evidence={"first": first, "last": last, "steps": int(loss.steps[-1]), "highest_rate": highest},
        sureness="likely" if len(ap) else "possible",
        impact=1.0 if len(ap) else 0.0,
    )


@diagnosis
def ap_stays_zero(evidence: Evidence) -> Iterator[Finding]:
    """The loss falls as it should, but nothing of the evaluation images is detected."""
    name = ap_name(evidence)
    ap, loss = finite(evidence.metric(name)), finite(evidence.curve("Loss/total_loss"))
    of_train = finite(evidence.metric(name, of_training_images=True))
    if len(ap) < _EVALUATIONS or ap.values.max() >= _ZERO_AP or share_done(evidence) < _SHARE_DONE:
        return
    if len(loss) < _LEAST_POINTS or np.median(loss.values[-3:]) > (1 - _LOSS_HAS_FALLEN) * loss.values[0]:
        return
    learned = len(of_train) > 0 and of_train.values.max() >= _KNOWS_ALREADY
    on_train = f", though {of_train.values.max():.3f} on training images" if learned else ""
    yield Finding(
        "ap_stays_zero",
        "warning",
        "",
        f"{name} is {ap.values[-1]:.3f} in all {len(ap)} evaluations{on_train}, while the training loss has fallen from"
        f" {loss.values[0]:.3g} to {np.median(loss.values[-3:]):.3g}",
        "compare label_map_path of train_input_reader and eval_input_reader, see that ids begin with 1 and that the"
        " records have the ids of the label map, and look at the detections in TensorBoard's Images",
        cause="as it is when the labels of training and evaluation differ (off by one), or one of them has boxes in"
        " pixels",
        field="eval_input_reader.label_map_path",
        evidence={"AP": float(ap.values.max()), "evaluations": len(ap), "step": evidence.step},
        sureness="likely" if learned else "possible",
        impact=1.0,
    )


def _in_warmup(evidence: Evidence) -> bool:
    return evidence.config is not None and evidence.step < 2 * evidence.config.warmup_steps


def _suspects(facts: ConfigFacts | None, highest: float | None) -> str:
    """What may be wrong, the most probable first, as the end of a sentence."""
    suspects = []
    if highest is not None and highest < _TINY_RATE:
        suspects.append(f"the learning rate, which was {highest:g} at most and is too low")
    if facts is not None and facts.freeze_variables:
        suspects.append(f"train_config.freeze_variables ({some(facts.freeze_variables, 3)}), which may freeze all")
    if facts is not None and not facts.fine_tune_checkpoint:
        suspects.append("whether to begin from a trained model: train_config.fine_tune_checkpoint is empty")
    elif facts is not None:
        suspects.append(
            "how many variables came from train_config.fine_tune_checkpoint, as is said at the start of training (type"
            f" {facts.fine_tune_checkpoint_type or 'not given'})"
        )
    else:
        suspects.append("whether a checkpoint was loaded and variables are trainable")
    if highest is None or highest >= _TINY_RATE:
        suspects.append("the learning rate" + (f" ({highest:g} at most)" if highest is not None else ""))
    suspects.append("whether the ids of the labels are those of the label map, from 1 on")
    return ", ".join(suspects[:-1]) + f", and {suspects[-1]}"
