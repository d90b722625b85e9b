"""Over-fitting: the model learns the training images by heart, and gets worse on others."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import numpy as np

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Curve, Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import ap_name, between, differs, finite, noise, trend
from od_eval.text import named

# Fewer evaluations after the best are one or two unlucky ones: two of two are worse than the best in any run that has
# levelled off.
_AFTER_BEST = 3
# A smaller rise of the loss is real at times, but nothing that anybody should act on.
_LOSS_RISE = 0.05
# The same for AP: runs that differ only in their seed may differ by it.
_AP_FALL = 0.01
# Below this the training loss of the time after the best has not gone on to fall.
_TRAIN_FALL = 0.02

# Augmentations that configs of the model zoo have, by what they vary; one of a group is enough.
AUGMENTATIONS = {
    "mirror images": ("random_horizontal_flip", "random_vertical_flip"),
    "crops and scales": (
        "random_crop_image",
        "ssd_random_crop",
        "ssd_random_crop_pad",
        "ssd_random_crop_fixed_aspect_ratio",
        "ssd_random_crop_pad_fixed_aspect_ratio",
        "random_scale_crop_and_pad_to_square",
        "random_square_crop_by_scale",
        "random_crop_pad_image",
        "random_crop_to_aspect_ratio",
        "random_image_scale",
        "random_pad_image",
    ),
    "colours": (
        "random_distort_color",
        "random_adjust_brightness",
        "random_adjust_contrast",
        "random_adjust_hue",
        "random_adjust_saturation",
        "random_rgb_to_gray",
        "autoaugment_image",
    ),
}
# The one of a group that the zoo's configs of a meta-architecture have; the first of the group for others.
USUAL_CROPS = {
    "ssd": "random_crop_image",
    "faster_rcnn": "random_square_crop_by_scale",
    "center_net": "random_square_crop_by_scale",
}
USUAL_COLOURS = "random_distort_color"
_HAS_SIDES = re.compile(r"(^|[^a-z])(left|right)([^a-z]|$)", re.IGNORECASE)


@diagnosis
def overfitting(evidence: Evidence) -> Iterator[Finding]:
    """Eval loss rises, or AP falls, while the loss of training still falls."""
    segments = len(evidence.metric("IoU")) > 0 and not len(evidence.metric("AP"))
    name = "IoU" if segments else ap_name(evidence)
    loss = _worse_since_best(evidence.metric("total_loss"), -1.0, _LOSS_RISE, relative=True)
    ap = _worse_since_best(evidence.metric(name), 1.0, _AP_FALL, relative=False)
    if ap is not None and _is_chance(evidence, ap):
        ap = None
    worse = ap or loss
    if worse is None:
        return
    since = trend(between(finite(evidence.metric(name)), worse.step))
    if ap is None and since is not None and since.rises:
        return  # the loss rises with confident errors, while AP, which is wanted, still gets better
    fall = _fall_of_training(evidence, worse.step)
    if fall is None:
        return
    seen = []
    if loss is not None:
        seen.append(
            f"the eval loss has risen from {loss.best:.3g} at step {loss.step} to {loss.now:.3g} (mean of the last"
            f" {loss.averaged} evaluations)"
        )
    if ap is not None:
        seen.append(
            f"{name} has fallen from {ap.best:.3f} at step {ap.step} to {ap.now:.3f} (mean of the last"
            f" {ap.averaged} evaluations)"
        )
    best_step = _best_step(evidence, name, worse.step)
    missing = _missing(evidence)
    yield Finding(
        "overfitting",
        "warning",
        "",
        f"{' and '.join(seen)}, while the training loss fell by {fall:.0%}",
        _remedy(evidence, name, best_step, missing),
        cause=f"which is over-fitting since step {worse.step}",
        field="train_config.data_augmentation_options",
        evidence={
            "since_step": worse.step,
            "best_step": best_step,
            "loss_rise": None if loss is None else loss.now / loss.best - 1,
            "ap_fall": None if ap is None else ap.best - ap.now,
            "training_loss_fall": fall,
            "evaluations": len(evidence.evaluations),
        },
        sureness="likely",
        settings=[f"train_config {{ data_augmentation_options {{ {one} {{ }} }} }}" for one in missing.values()],
        impact=max(ap.best - ap.now, 0.0) if ap is not None else 0.0,
    )


@dataclasses.dataclass(frozen=True)
class _Worse:
    step: int
    best: float
    now: float
    averaged: int


def _worse_since_best(curve: Curve, sign: float, least: float, *, relative: bool) -> _Worse | None:
    """How much worse a metric has become since its best; None if no more than by chance.

    Compared are the mean of the best and its neighbours (the best alone is the luckiest of many), and that of the later
    half of the evaluations after it, by the noise from one evaluation to the next.

    Args:
      curve: of evaluations.
      sign: 1 if higher is better, -1 if lower is better.
      least: a smaller change does not count. relative: it is a share of the best.
    """
    curve = finite(curve)
    if len(curve) < _AFTER_BEST + 1:
        return None
    values = sign * curve.values
    at = int(np.argmax(values))
    after = len(values) - 1 - at
    # Those before the best on their steep way to it are no measure of noise.
    random = noise(values[max(at - 1, 0) :])
    if after < _AFTER_BEST or random is None:
        return None
    averaged = (after + 1) // 2
    peak = values[max(at - 1, 0) : at + 2]
    best, now = max(float(np.mean(peak)), float(np.median(peak))), float(np.mean(values[-averaged:]))
    fall = best - now
    error = random.deviation * np.sqrt(1 / len(peak) + 1 / averaged)
    if fall < least * (abs(best) if relative else 1.0) or fall <= random.quantile() * error:
        return None
    return _Worse(int(curve.steps[at]), sign * best, sign * now, averaged)


def _is_chance(evidence: Evidence, ap: _Worse) -> bool:
    """Whether other images could have shown no fall of AP: by the paired interval where there is one."""
    newest = evidence.newest
    best = next((result for result in evidence.evaluations if result.step == ap.step), None)
    if newest is None or best is None:
        return False
    difference = newest.certainty.get("difference")
    if difference is not None and newest.certainty["step"] == ap.step:
        return not difference[1] < 0
    limit = differs(best, newest)
    return limit is not None and ap.best - ap.now <= limit


def _fall_of_training(evidence: Evidence, step: int) -> float | None:
    """By which share the training loss has fallen since a step; None if it has not."""
    of_steps, of_images = evidence.curve("Loss/total_loss"), evidence.metric("total_loss", of_training_images=True)
    for curve in (of_steps, of_images):
        found = trend(between(finite(curve), step))
        if found is not None and found.level > 0:
            fall = -found.change / (found.level - found.change / 2)
            return fall if found.falls and fall >= _TRAIN_FALL else None
    return None


def _best_step(evidence: Evidence, name: str, otherwise: int) -> int:
    curve = finite(evidence.metric(name))
    return int(curve.steps[np.argmax(curve.values)]) if len(curve) and curve.values.max() > 0 else otherwise


def _missing(evidence: Evidence) -> dict[str, str]:
    """What no augmentation varies -> the augmentation to add; nothing without a config."""
    facts = evidence.config
    if facts is None:
        return {}
    missing = {}
    for varies, group in AUGMENTATIONS.items():
        if not set(facts.augmentations) & set(group):
            missing[varies] = _usual(facts, varies)
    if "mirror images" in missing and _has_sides(evidence):
        del missing["mirror images"]
    return missing


def _usual(facts: ConfigFacts, varies: str) -> str:
    if varies == "crops and scales":
        if "efficientnet" in facts.architecture:
            return "random_scale_crop_and_pad_to_square"
        return USUAL_CROPS.get(facts.meta_architecture, "random_crop_image")
    return USUAL_COLOURS if varies == "colours" else AUGMENTATIONS[varies][0]


def _has_sides(evidence: Evidence) -> bool:
    """Whether a mirror image of an object may be of another category."""
    of_newest = evidence.newest.per_category if evidence.newest is not None else {}
    return any(_HAS_SIDES.search(name) for name in (*of_newest, *(evidence.train_objects or {})))


def _remedy(evidence: Evidence, name: str, best_step: int, missing: dict[str, str]) -> str:
    facts = evidence.config
    best = next((result for result in evidence.evaluations if result.step == best_step), None)
    path = f"'{named(best.checkpoint)}', if it is still there, or " if best is not None and best.checkpoint else ""
    parts = [f"use the checkpoint of step {best_step} ({path}the one in best/)"]
    images = f" than {evidence.num_train_images} images" if evidence.num_train_images else ""
    parts.append(f"train on more data{images}")
    if missing:
        parts.append(f"add the augmentations that no option has yet ({', '.join(missing)})")
    elif facts is None:
        parts.append("augment it")
    if facts is not None and facts.dropout is False:
        parts.append("regularize with dropout or a higher weight of the l2_regularizer")
    else:
        parts.append("regularize more (weight of the l2_regularizer, or a smaller model)")
    parts.append(f"end such a training early with --early_stopping_metric=val_{name}")
    return ", ".join(parts[:-1]) + f", and {parts[-1]}"
