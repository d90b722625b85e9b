"""Precision and recall at the confidence that is used: which is low, and what that says.

At the confidence with the highest F1 they are properties of the detector: neither can be had without losing more of the
other. At a confidence that a user has given, the confidence may be what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from od_eval.findings.chance import MAX_P_VALUE, at_least, at_most, shares_differ
from od_eval.findings.diagnoses.renamed_category import renamed_pairs
from od_eval.findings.diagnoses.wrong_coordinates import wrong_coordinates
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import (
    Outcomes,
    best_confidence,
    clearest_first,
    cost,
    is_early,
    most_first,
    names_with_shares,
    percent,
)

# Detectors published for COCO have a precision of 0.6 and a recall of 0.5 or more at the highest F1.
_LOW = 0.5
# By convention both are to be over 0.9 (evaluation.good_values). One is fair from here on, …
_FAIR = 0.7
# … and much higher than the other if it is twice as high.
_TIMES = 2
# Less of F1 is not worth another confidence.
_F1_LOST = 0.05
# Model zoo configs have 1e-8 or 0. Detections from here on are of use for AP if so many of those that come last are
# right.
_HIGH_THRESHOLD = 0.01
_RIGHT_AT_THE_END = 0.1
_LAST = 0.05


@diagnosis
def recall_low(evidence: Evidence) -> Iterator[Finding]:
    """What is detected is right, but most objects are missed."""
    judged = evidence.outcomes
    if judged is None or is_early(evidence) or judged.precision < _FAIR or judged.precision < _TIMES * judged.recall:
        return
    if not _is_below(judged.objects["found"], _LOW):
        return
    missed = judged.objects[~judged.objects["found"]]
    low_scored = int((missed["match_50"] >= 0).sum())
    where = _where_missed(judged)
    yield Finding(
        "recall_low",
        "warning",
        "",
        f"precision is high and recall low: {percent(judged.precision)} of {len(judged.used)} detections at the"
        f" confidence {judged.confidence:.2f} are right, but {percent(judged.recall)} of {len(judged.objects)}"
        " objects are found",
        f"{_lower_confidence(evidence, judged)}train longer, or a larger model, and add examples of what is missed",
        cause=f"and of {len(missed)} missed ones {low_scored} have a box below this confidence"
        + (f"; mostly missed are {where}" if where else ""),
        evidence={"precision": judged.precision, "recall": judged.recall, "confidence": judged.confidence},
        sureness="possible",
        images=most_first(missed),
        impact=cost(evidence, "false negatives"),
    )


@diagnosis
def precision_low(evidence: Evidence) -> Iterator[Finding]:
    """Most objects are found, but most of what is detected is wrong."""
    judged = evidence.outcomes
    if (
        judged is None
        or is_early(evidence)
        or judged.recall < _FAIR
        or judged.precision > judged.recall - (_FAIR - _LOW)
    ):
        return
    if not _is_below(judged.used["right"], _LOW + 0.05):
        return
    kinds = judged.wrong["error"].astype(str).value_counts(normalize=True)
    wanted = evidence.newest.operating_point.get("recall_at_precision", {}) if evidence.newest else {}
    better = [
        f"{at['confidence']:.2f} gives a precision of {precision} and a recall of {at['recall']:.2f}"
        for precision, at in wanted.items()
        if at and float(precision) > judged.precision and at["recall"] >= 0.1
    ]
    raised = f"raise the confidence ({better[-1]})" if better else "raise the confidence"
    yield Finding(
        "precision_low",
        "warning",
        "",
        f"recall is high and precision low: {percent(judged.recall)} of {len(judged.objects)} objects are found, but"
        f" {percent(judged.precision)} of {len(judged.used)} detections at the confidence {judged.confidence:.2f} are"
        " right",
        f"clean the labels (label_suspects.json), {raised}, and add images like these",
        cause=f"and what is wrong is mostly '{kinds.index[0]}' ({percent(float(kinds.iloc[0]))}), with scores as"
        " high as what is"
        " right: labels are missing or noisy, or the model takes other things for objects",
        evidence={"precision": judged.precision, "recall": judged.recall, "kinds": kinds.to_dict()},
        sureness="possible",
        images=clearest_first(judged.wrong),
        impact=cost(evidence, "false positives"),
    )


@diagnosis
def precision_and_recall_low(evidence: Evidence) -> Iterator[Finding]:
    """Most of what is detected is wrong, and most objects are missed."""
    judged = evidence.outcomes
    if judged is None or is_early(evidence) or not len(judged.used):
        return
    if not _is_below(judged.objects["found"], _LOW) or not _is_below(judged.used["right"], _LOW):
        return
    if renamed_pairs(judged, evidence.train_objects) or any(wrong_coordinates(evidence)):
        return
    facts = evidence.config
    field = facts.fields.get("num_steps") if facts else None
    yield Finding(
        "precision_and_recall_low",
        "warning",
        "",
        f"precision and recall are both low at the confidence {judged.confidence:.2f}: {percent(judged.precision)} of"
        f" {len(judged.used)} detections are right, and {percent(judged.recall)} of {len(judged.objects)} objects are"
        " found",
        f"train longer{f' ({field})' if field else ''}, start from a checkpoint that was trained for detection, or"
        " train a"
        " larger model; if AP is as low on training images (eval_train), look at labels and label map first",
        cause="so the model has learned little: it is too small for the data, or was not trained long enough",
        field=field,
        evidence={"precision": judged.precision, "recall": judged.recall, "confidence": judged.confidence},
        sureness="possible",
        settings=facts.setting(num_steps=2 * facts.num_steps) if facts else (),
        images=clearest_first(judged.wrong),
        impact=1 - (judged.precision + judged.recall) / 2,
    )


@diagnosis
def confidence_unbalanced(evidence: Evidence) -> Iterator[Finding]:
    """The confidence that was given is far from the one that balances precision and recall."""
    point = evidence.newest.operating_point if evidence.newest else {}
    judged = evidence.outcomes
    if judged is None or point.get("chosen_by") != "given":
        return
    best = best_confidence(judged.detections, len(judged.objects))
    at_best = judged.detections[judged.detections["score"] >= best]
    f1 = _f1(int(judged.used["right"].sum()), len(judged.used), len(judged.objects))
    best_f1 = _f1(int(at_best["right"].sum()), len(at_best), len(judged.objects))
    if best_f1 - f1 < _F1_LOST:
        return
    found = int(at_best["right"].sum()) / len(judged.objects)
    direction = "lower" if best < judged.confidence else "raise"
    yield Finding(
        "confidence_unbalanced",
        "note",
        "",
        f"at the given confidence {judged.confidence:.2f} precision is {judged.precision:.2f} and recall"
        f" {judged.recall:.2f}"
        f" (F1 {f1:.2f}; {len(judged.objects)} objects)",
        f"{direction} --confidence to {best:.2f} if false and missed objects cost the same",
        cause=f"while at {best:.2f} precision is {float(at_best['right'].mean()):.2f} and recall {found:.2f} (F1"
        f" {best_f1:.2f})",
        evidence={"confidence": judged.confidence, "best_confidence": best, "F1": f1, "best_F1": best_f1},
        impact=best_f1 - f1,
    )


@diagnosis
def score_threshold_cuts(evidence: Evidence) -> Iterator[Finding]:
    """The model's own threshold cuts off detections that would be right."""
    facts, judged = evidence.config, evidence.outcomes
    if facts is None or judged is None or not facts.score_threshold or facts.score_threshold < _HIGH_THRESHOLD:
        return
    last = judged.detections.nsmallest(max(round(_LAST * len(judged.detections)), 1), "score")
    num_right, missed = int(last["right"].sum()), int((judged.objects["match_50"] < 0).sum())
    if not missed or num_right < _RIGHT_AT_THE_END * len(last):
        return
    if at_least(num_right, len(last), _RIGHT_AT_THE_END / 2) > MAX_P_VALUE:
        return
    field = facts.fields.get("score_threshold")
    yield Finding(
        "score_threshold_cuts",
        "warning",
        "",
        f"the model drops detections with scores below {facts.score_threshold:g}, and of the {len(last)} lowest"
        " that are left"
        f" {percent(num_right / len(last))} are right",
        f"set {field or 'score_threshold'} to 1e-8, and choose a confidence where detections are used",
        cause=f"so it also drops right ones, and AP is too low: {missed} of {len(judged.objects)} objects have no"
        " detection",
        field=field,
        evidence={"score_threshold": facts.score_threshold, "last": len(last), "right_of_these": num_right},
        sureness="likely",
        settings=facts.setting(score_threshold="1e-8"),
        images=most_first(judged.objects[judged.objects["match_50"] < 0]),
        impact=min(missed, num_right) / len(judged.objects),
    )


def _is_below(flags: pd.Series, share: float) -> bool:
    """Whether, surely, fewer than this share are true."""
    return bool(len(flags)) and at_most(int(flags.sum()), len(flags), share) <= MAX_P_VALUE


def _f1(right: int, num_detections: int, num_objects: int) -> float:
    return 2 * right / max(num_detections + num_objects, 1)


def _lower_confidence(evidence: Evidence, judged: Outcomes) -> str:
    """What a lower confidence gives, as the beginning of a remedy; empty if it gives nothing."""
    wanted = evidence.newest.operating_point.get("precision_at_recall", {}) if evidence.newest else {}
    for recall, at in wanted.items():
        if at and float(recall) > judged.recall and at["confidence"] < judged.confidence:
            given = f"gives a recall of {recall} and a precision of {at['precision']:.2f}"
            return f"lower the confidence ({at['confidence']:.2f} {given}), "
    return "lower the confidence if a missed object costs more than a false one, "


def _where_missed(judged: Outcomes) -> str:
    """The categories of which surely fewer are found than of the others, and whether small objects are; or empty."""
    objects = judged.objects
    low = []
    for name, of_category in objects.groupby("category"):
        others = objects[objects["category"] != name]["found"]
        found = of_category["found"]
        differ = shares_differ(int(found.sum()), len(found), int(others.sum()), len(others))
        if found.mean() < others.mean() and differ <= MAX_P_VALUE:
            low.append((str(name), 1 - float(found.mean())))
    parts = [names_with_shares(sorted(low, key=lambda one: -one[1])[:3])] if low else []
    small = objects["area"] < objects["area"].quantile(0.25)
    found, others = objects["found"][small], objects["found"][~small]
    if (
        len(found)
        and found.mean() < others.mean()
        and shares_differ(int(found.sum()), len(found), int(others.sum()), len(others)) <= MAX_P_VALUE
    ):
        parts.append(f"the smallest quarter ({percent(1 - float(found.mean()))})")
    return " and ".join(parts)
