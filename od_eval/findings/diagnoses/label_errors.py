"""Labels of the evaluation data that are missing or wrong, seen by a detector that is right elsewhere.

A detector's own errors have lower scores than what it has right. Where "errors" score like what is right, mostly the
labels are in error: the idea of confident learning (Northcutt et al., Confident Learning: Estimating Uncertainty in
Dataset Labels, JAIR 2021), as in `od_eval.evaluation.analyses.label_suspects`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from od_eval.evaluation.analyses.label_suspects import SAME_PLACE_IOU
from od_eval.findings.chance import MAX_P_VALUE, at_least, is_higher
from od_eval.findings.diagnoses.renamed_category import renamed_pairs, taken_for
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import clearest_first, cost, most_first, percent

# The probability that a right detection has a higher score than a suspect: 0.5 if labels alone differ, 0.75 and more
# for errors of detectors. Labels and errors are mixed, hence the middle.
_ALIKE = 0.65
# Of another category in the same place, a detector's own errors are rarer and less confident: 0.86 on the quickstart's
# data, and 0.68 with 5% wrong labels among them.
_ALIKE_IN_PLACE = 0.7
# Who misses more than half of the objects is no judge of labels.
_MIN_RECALL = 0.5
# People miss 1% to 4% of the objects in benchmarks (Northcutt et al., Pervasive Label Errors, NeurIPS 2021, found 3.3%
# wrong labels on average), and a detector adds some errors of its own.
_MANY_MISSING = 0.1
_SOME_MISSING = 0.05
# With SAME_PLACE_IOU and the score of what is right, simulated detectors call 0.5% wrongly, the quickstart's none of
# 154; COCO's published label errors of classes are below 1%.
_MANY_WRONG = 0.025
_SOME_WRONG = 0.005
# If more than half of the suspects of many are of one pair, these two are confused.
_MOST_OF_ONE_PAIR = 0.5
_CATEGORIES_TO_SPREAD = 3
# With more that is wrong, nothing says which of the two is right.
_MOST_WRONG = 0.3


@diagnosis
def missing_labels(evidence: Evidence) -> Iterator[Finding]:
    """Where no label is, the detector finds objects with the same scores as where labels are."""
    judged = evidence.outcomes
    if judged is None or judged.recall < _MIN_RECALL:
        return
    right, background = judged.right, judged.wrong[judged.wrong["error"] == "background"]
    suspects = _confident(background, right)
    # How many right detections are as confident says how many suspects stand for each missing label.
    num_right = len(_confident(right, right))
    total = len(suspects) + num_right
    if not len(suspects) or len(suspects) < _MANY_MISSING * total:
        return
    alike = is_higher(right["score"], background["score"])
    if alike > _ALIKE or at_least(len(suspects), total, _SOME_MISSING) > MAX_P_VALUE:
        return
    share = len(suspects) / total
    missing = round(len(judged.objects) * share / (1 - share))
    yield Finding(
        "missing_labels",
        "warning",
        "",
        f"{len(suspects)} confident detections in {suspects['image_id'].nunique()} of the evaluated images cover no"
        " label, beside"
        f" {num_right} as confident ones that are right, and scores do not tell them apart (a right one is higher in"
        f" {percent(alike)} of all pairs)",
        "look at label_suspects.json in an annotation tool, label what is missing, and evaluate again; training"
        " data labelled"
        " in the same way miss as many, which costs recall",
        cause=f"so about {missing} objects ({percent(share)} of all) are probably not labelled, and count as false"
        " positives",
        evidence={
            "suspects": len(suspects),
            "as_confident_and_right": num_right,
            "right_scores_higher": alike,
            "missing_labels": missing,
            "share": share,
        },
        sureness="likely",
        images=_most_and_clearest(suspects),
        impact=cost(evidence, "background"),
    )


@diagnosis
def wrong_labels(evidence: Evidence) -> Iterator[Finding]:
    """Where a label is, the detector finds another category in the same place, as confidently as what is right."""
    judged = evidence.outcomes
    if judged is None:
        return
    taken = taken_for(judged)
    taken = taken[(taken["iou_other"] >= SAME_PLACE_IOU) & (taken["iou"] < 0.5)]
    renamed = renamed_pairs(judged, evidence.train_objects)
    pairs = zip(taken["actual"], taken["category"], strict=True)
    taken = taken[np.array([pair not in renamed for pair in pairs], bool)]
    right = judged.right[judged.right["iou"] >= SAME_PLACE_IOU]
    suspects = _confident(taken, judged.right)
    num_right = len(_confident(right, judged.right))
    total = len(suspects) + num_right
    if not len(suspects) or not _MANY_WRONG * total <= len(suspects) <= _MOST_WRONG * total:
        return
    alike = is_higher(right["score"], taken["score"])
    if alike > _ALIKE_IN_PLACE or at_least(len(suspects), total, _SOME_WRONG) > MAX_P_VALUE:
        return
    pairs = suspects.groupby(["actual", "category"]).size()
    several = judged.objects["category"].nunique() >= _CATEGORIES_TO_SPREAD
    if several and pairs.max() > _MOST_OF_ONE_PAIR * len(suspects):
        return
    share = len(suspects) / total
    yield Finding(
        "wrong_labels",
        "warning",
        "",
        f"{len(suspects)} objects in {suspects['image_id'].nunique()} images are found in the right place (IoU"
        f" {SAME_PLACE_IOU} or more) as another category than their label says, as confidently as the {num_right}"
        " that are"
        " right, and not as what the label says",
        "look at label_suspects.json in an annotation tool, and correct what is wrong, in the training data, too",
        cause=f"so about {percent(share)} of the labels ({round(share * len(judged.objects))}) are probably of a"
        " wrong category",
        evidence={"suspects": len(suspects), "as_confident_and_right": num_right, "share": share},
        sureness="likely",
        images=clearest_first(suspects),
        impact=max(cost(evidence, "class"), share),
    )


def _confident(detections: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """The detections whose score is not below the mean score of those of their category that are right."""
    means = right.groupby("category")["score"].mean()
    bound = detections["category"].map(means).astype(np.float64).fillna(right["score"].mean())
    return detections[detections["score"] >= bound]


def _most_and_clearest(suspects: pd.DataFrame) -> list[int | str]:
    """Images by the sum of the scores of their suspects."""
    total = suspects.groupby("image_id", sort=False)["score"].transform("sum")
    return most_first(suspects) if total.nunique() <= 1 else clearest_first(suspects.assign(score=total))
