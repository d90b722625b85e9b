"""What wrong detections are: another category, background, or the same object once more."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from od_eval.findings.chance import MAX_P_VALUE, at_least
from od_eval.findings.diagnoses.label_errors import missing_labels
from od_eval.findings.diagnoses.renamed_category import renamed_pairs, taken_for, the_only_category
from od_eval.findings.diagnoses.wrong_coordinates import wrong_coordinates
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import clearest_first, cost, is_early, names_with_shares, percent
from od_eval.text import named

# A tenth of a category called by one other name is more than the odd object that people would confuse, too.
_CONFUSED = 0.1
# Less than this is what good detectors confuse; the test is against it.
_CONFUSED_BY_CHANCE = 0.05
_MIN_CONFUSED = 5
_MOST_PAIRS = 5
# A quarter of the detections used; of detectors published for COCO background costs 4 points of AP50 of about 60
# (Bolya et al., TIDE, ECCV 2020, table 2), or every tenth.
_BACKGROUND = 0.25
_BACKGROUND_BY_CHANCE = 0.15
# Most of what is wrong, or another kind of error is to be repaired first.
_MOST_OF_WRONG = 0.5
# Guides advise up to 10% of background images (Ultralytics, Tips for Best Training Results; COCO has 1%).
_BACKGROUND_IMAGES = 0.1
# NMS leaves 1% or less of duplicates (TIDE: 0.2 points of AP).
_DUPLICATES = 0.05
_DUPLICATES_BY_CHANCE = 0.02
# Of the duplicates, so many are suppressed by the threshold that is recommended.
_SUPPRESSED = 0.9
_LOWEST_NMS = 0.3  # below, neighbours are suppressed


@diagnosis
def confused_categories(evidence: Evidence) -> Iterator[Finding]:
    """Many objects of a category are found as one certain other category."""
    judged = evidence.outcomes
    if judged is None or is_early(evidence):
        return
    taken = taken_for(judged)
    renamed = renamed_pairs(judged, evidence.train_objects)
    num = judged.objects.groupby("category").size()
    num_pairs = max(len(num) * (judged.detections["category"].nunique() - 1), 1)
    pairs = taken.groupby(["actual", "category"]).size().sort_values(ascending=False, kind="stable")
    told = 0
    for (actual, predicted), count in pairs.items():
        share = count / num[actual]
        if (actual, predicted) in renamed or count < _MIN_CONFUSED or share < _CONFUSED:
            continue
        if at_least(count, int(num[actual]), _CONFUSED_BY_CHANCE) > MAX_P_VALUE / num_pairs:
            continue
        of_pair = taken[(taken["actual"] == actual) & (taken["category"] == predicted)]
        back = int(pairs.get((predicted, actual), 0))
        yield Finding(
            "confused_categories",
            "warning",
            "",
            f"{count} of {num[actual]} objects of '{named(actual)}' ({percent(share)}) are found as"
            f" '{named(predicted)}'"
            + (f" (the other way round {back} of {num[predicted]})" if predicted in num else ""),
            "look at these images: correct labels, add examples of both that show the difference, give the model a"
            " larger input"
            " if what differs is small, or make one category of the two",
            cause="so the two look alike to the model, or their labels are mixed",
            evidence={"actual": actual, "predicted": predicted, "count": int(count), "objects": int(num[actual])},
            sureness="likely",
            images=clearest_first(of_pair),
            impact=cost(evidence, "class", str(actual)) / len(num),
        )
        told += 1
        if told == _MOST_PAIRS:
            return


@diagnosis
def background_taken_for_objects(evidence: Evidence) -> Iterator[Finding]:
    """Many detections are where nothing is."""
    judged = evidence.outcomes
    if judged is None or is_early(evidence):
        return
    used, wrong = judged.used, judged.wrong
    background = wrong[wrong["error"] == "background"]
    if len(background) < max(_BACKGROUND * len(used), _MOST_OF_WRONG * len(wrong), 1):
        return
    if at_least(len(background), len(used), _BACKGROUND_BY_CHANCE) > MAX_P_VALUE or _is_explained(evidence):
        return
    categories = background["category"].value_counts(normalize=True)
    images = evidence.num_train_images
    how_many = f"up to {max(math.ceil(_BACKGROUND_IMAGES * images), 1)}" if images else "up to 10% of all"
    yield Finding(
        "background_taken_for_objects",
        "warning",
        "",
        f"{len(background)} of {len(used)} detections ({percent(len(background) / len(used))}) at the confidence"
        f" {judged.confidence:.2f} are where no object is, most of them of"
        f" {names_with_shares(categories.head(3).items())}",
        f"add images without objects that show such background ({how_many}) to"
        " train_input_reader.tf_record_input_reader.input_path,"
        " and look at the first of these images for objects without label",
        cause="so background is taken for objects",
        field="train_input_reader.tf_record_input_reader.input_path",
        evidence={"background": len(background), "used": len(used), "per_category": categories.head(20).to_dict()},
        sureness="possible",
        images=clearest_first(background),
        impact=cost(evidence, "background"),
    )


@diagnosis
def many_duplicates(evidence: Evidence) -> Iterator[Finding]:
    """Objects are found several times."""
    judged = evidence.outcomes
    if judged is None or is_early(evidence):
        return
    used = judged.used
    duplicates = used[(used["error"] == "duplicate") & (used["iou_row"] >= 0)]
    if not len(duplicates) or len(duplicates) < _DUPLICATES * len(used):
        return
    if at_least(len(duplicates), len(used), _DUPLICATES_BY_CHANCE) > MAX_P_VALUE:
        return
    first = judged.labels["match_50"].loc[duplicates["iou_row"]].to_numpy()
    table = evidence.objects
    assert table is not None
    known = first >= 0
    overlap = _iou(duplicates[known], table.iloc[first[known]])
    wanted = max(math.floor(20 * float(np.quantile(overlap, 1 - _SUPPRESSED))) / 20, _LOWEST_NMS)
    facts = evidence.config
    now = facts.nms_iou_threshold if facts else None
    field = facts.fields.get("nms_iou_threshold") if facts else None
    lower = now is None or wanted < now
    yield Finding(
        "many_duplicates",
        "warning",
        "",
        f"{len(duplicates)} of {len(used)} detections ({percent(len(duplicates) / len(used))}) at the confidence"
        f" {judged.confidence:.2f} find an object that a better detection has found already",
        f"set {field or 'the iou_threshold of NMS'} to {wanted:g}, unless objects of one category overlap by more"
        " than that"
        if lower
        else "raise the confidence, or train longer, as duplicates overlap less than NMS looks for",
        cause="so NMS leaves several boxes of one object: they overlap the better one by an IoU of"
        f" {np.median(overlap):.2f} (median)"
        + (f", and NMS suppresses what is above {now:g}" if now is not None else ""),
        field=field,
        evidence={"duplicates": len(duplicates), "used": len(used), "median_iou": float(np.median(overlap))},
        sureness="likely",
        settings=facts.setting(nms_iou_threshold=wanted) if facts and lower else (),
        images=clearest_first(duplicates),
        impact=cost(evidence, "duplicate"),
    )


@diagnosis
def detections_of_one_category(evidence: Evidence) -> Iterator[Finding]:
    """All detections are of one category, but not all objects."""
    judged = evidence.outcomes
    name = None if judged is None or is_early(evidence) else the_only_category(judged)
    if judged is None or name is None:
        return
    share = float((judged.used["category"] == name).mean())
    others = float((judged.objects["category"] != name).mean())
    facts = evidence.config
    yield Finding(
        "detections_of_one_category",
        "warning",
        "",
        f"{percent(share)} of {len(judged.used)} detections at the confidence"
        f" {judged.confidence:.2f} are of"
        f" '{named(name)}', but {percent(others)} of {len(judged.objects)} objects are of other"
        " categories",
        "compare num_classes, the label map and the ids of the labels in the training records, and look whether one"
        " category"
        " has nearly all training objects",
        cause="so the model does not tell categories apart",
        field=facts.fields.get("num_classes") if facts else None,
        evidence={"share": share, "other_objects": others},
        sureness="likely",
        images=clearest_first(judged.wrong),
        impact=others,
    )


def _is_explained(evidence: Evidence) -> bool:
    """Whether what is on background is right, and labels are missing or in other coordinates."""
    return any(missing_labels(evidence)) or any(wrong_coordinates(evidence))


def _iou(boxes: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """The IoU of each box with the other of the same row, float64 `[n]`."""
    first, second = (rows[["x", "y", "width", "height"]].to_numpy(np.float64) for rows in (boxes, others))
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    intersection = np.maximum(high - low, 0).prod(axis=1)
    return intersection / np.maximum(first[:, 2:].prod(axis=1) + second[:, 2:].prod(axis=1) - intersection, 1e-9)
