"""Boxes that find objects but do not fit them: AP50 is high, AP is low."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from od_eval.findings.chance import MAX_P_VALUE, at_most
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import images_of, is_early, percent

# Below, that objects are not found is what matters more.
_MIN_AP50 = 0.5
# By convention AP is 0.45 to 0.65 where AP50 is 0.85 to 0.95 (evaluation.good_values), so 0.53 of it or more; of
# detectors published for COCO it is 0.59 (SSD MobileNet v2, AP 0.22) to 0.75 (large ones).
_MAX_AP_PER_AP50 = 0.5
_USUAL_AP_PER_AP50 = 0.6
# IoUs from 0.50 to 1 without any preference leave half above 0.75: a detector that places boxes leaves more.
_MAX_SHARE_AT_75 = 0.5
# An edge that is off by this much is within what people who draw boxes differ by, and costs small objects most: an
# object of 16 pixels that is moved by 2 in both directions has an IoU of 0.62.
_PRECISION_OF_LABELS = 2.0
# Boxes that are all too large, or moved to one side, by this part of their side have an IoU of 0.8 at most without any
# other fault.
_SYSTEMATIC = 0.1


@diagnosis
def loose_boxes(evidence: Evidence) -> Iterator[Finding]:
    """AP is low beside AP50, as fewer than half of the boxes that are right at IoU 0.50 still are at 0.75."""
    metrics = evidence.newest.bbox if evidence.newest else None
    judged = evidence.outcomes
    if not metrics or judged is None or is_early(evidence) or not metrics["AP50"] or metrics["AP50"] < _MIN_AP50:
        return
    right = judged.right
    num_tight = int((right["iou"] >= 0.75).sum())
    ratio = metrics["AP"] / metrics["AP50"]
    if ratio > _MAX_AP_PER_AP50 or at_most(num_tight, len(right), _MAX_SHARE_AT_75) > MAX_P_VALUE:
        return
    off = _edges_off(right, judged.labels)
    pixels = float(off.abs().mean(axis=1).median())
    systematic = _systematic(off, right, judged.labels)
    facts = evidence.config
    if systematic:
        cause = f"and {systematic}, as if training data and evaluation data were labelled by different rules"
        remedy = "compare boxes of both by eye, and label both by the same rule, tightly around what is visible"
    else:
        cause = "so objects are found, but their boxes are loose"
        if pixels <= _PRECISION_OF_LABELS:
            cause += ", by hardly more than labels are exact to: objects are small"
        where = f" ({facts.fields['localization_weight']})" if facts and "localization_weight" in facts.fields else ""
        remedy = (
            "train longer (AP rises after AP50 does), give the model a larger input, look whether labels fit tightly,"
            f" or give localization more weight{where}"
        )
    field = facts.fields.get("localization_weight") if facts and not systematic else None
    yield Finding(
        "boxes_off_systematically" if systematic else "loose_boxes",
        "warning",
        "",
        f"AP is {metrics['AP']:.2f} where AP50 is {metrics['AP50']:.2f}: of {len(right)} boxes that are right at"
        " IoU 0.50,"
        f" {percent(num_tight / len(right))} still are at 0.75, and edges are off by {pixels:.1f} pixels (median)",
        remedy,
        cause=cause,
        field=field,
        evidence={
            "AP": metrics["AP"],
            "AP50": metrics["AP50"],
            "AP75": metrics["AP75"],
            "right": len(right),
            "right_at_75": num_tight,
            "median_iou": float(right["iou"].median()),
            "median_pixels_off": pixels,
        },
        sureness="likely" if systematic else "possible",
        settings=facts.setting(localization_weight=2 * facts.localization_weight)
        if facts and field and facts.localization_weight
        else (),
        images=images_of(right.sort_values("iou", kind="stable")),
        impact=max(_USUAL_AP_PER_AP50 * metrics["AP50"] - metrics["AP"], 0.0),
    )


def _edges_off(right: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """By how many pixels the left, top, right and bottom edges of boxes are off: positive to the right and down."""
    label = labels.loc[right["match_50"]]
    of_label, of_box = (
        np.stack(
            (rows["x"], rows["y"], rows["x"] + rows["width"], rows["y"] + rows["height"]), axis=1, dtype=np.float64
        )
        for rows in (label, right)
    )
    return pd.DataFrame(of_box - of_label, index=right.index, columns=["left", "top", "right", "bottom"])


def _systematic(off: pd.DataFrame, right: pd.DataFrame, labels: pd.DataFrame) -> str:
    """What is off in the same direction in most boxes, as a clause; empty if nothing is."""
    label = labels.loc[right["match_50"]]
    width, height = (np.maximum(label[name].to_numpy(np.float64), 1e-9) for name in ("width", "height"))
    wider = float(np.median((off["right"] - off["left"]) / width))
    higher = float(np.median((off["bottom"] - off["top"]) / height))
    to_the_right = float(np.median((off["left"] + off["right"]) / 2 / width))
    down = float(np.median((off["top"] + off["bottom"]) / 2 / height))
    clauses = []
    for value, positive, negative in (
        (wider, "wider", "narrower"),
        (higher, "higher", "lower"),
    ):
        if abs(value) >= 2 * _SYSTEMATIC:
            clauses.append(f"{percent(abs(value))} {positive if value > 0 else negative}")
    moved = [
        f"{percent(abs(value))} of their side {positive if value > 0 else negative}"
        for value, positive, negative in ((to_the_right, "to the right", "to the left"), (down, "down", "up"))
        if abs(value) >= _SYSTEMATIC
    ]
    size = f"most are {' and '.join(clauses)} than labels" if clauses else ""
    place = f"most are moved by {' and '.join(moved)}" if moved else ""
    return " and ".join(filter(None, (size, place)))
