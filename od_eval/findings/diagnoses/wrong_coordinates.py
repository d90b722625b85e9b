"""Boxes in other coordinates than those of the labels: nothing is found, though the detector is right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import clearest_first, percent

# A detector that finds more than this has no other coordinates.
_MAX_RECALL = 0.1
# In the right coordinates so many of the most confident detections are on an object: chance is far below.
_MIN_SHARE = 0.5
_MIN_DETECTIONS = 10
# Enough to tell, and quick to compare with all objects of their images.
_MAX_DETECTIONS = 1000
# Boxes relative to the image end at 1, or a little beyond.
_LARGEST_RELATIVE = 1.5


@diagnosis
def wrong_coordinates(evidence: Evidence) -> Iterator[Finding]:
    """Nothing is found, but boxes with x and y swapped, or with coordinates from 0 to 1 taken for pixels, would be."""
    judged = evidence.outcomes
    if judged is None or (judged.objects["match_50"] >= 0).mean() > _MAX_RECALL:
        return
    detections = judged.detections.nlargest(min(len(judged.objects), _MAX_DETECTIONS), "score")
    if len(detections) < _MIN_DETECTIONS:
        return
    reach = detections[["x", "y"]].to_numpy() + detections[["width", "height"]].to_numpy()
    of_objects = judged.objects[["width", "height"]].to_numpy()
    if np.quantile(reach, 0.99) <= _LARGEST_RELATIVE < np.median(of_objects):
        share = 1.0
        what = "end within 1 pixel of the corner, as coordinates from 0 to 1 do"
    else:
        share = _share_on_objects(detections, judged.objects)
        what = f"are on objects in {percent(share)} of all cases if x and y are swapped"
    if share < _MIN_SHARE:
        return
    yield Finding(
        "wrong_coordinates",
        "error",
        "",
        f"of {len(judged.objects)} objects {percent(float((judged.objects['match_50'] >= 0).mean()))} are found at any"
        f" confidence, but the {len(detections)} most confident boxes {what}",
        "compare the box format of detections and labels (box_format of the evaluation; ymin, xmin, ymax, xmax in"
        " records)",
        cause="so detections and labels have their boxes in different formats",
        evidence={"detections": len(detections), "share_on_objects": share},
        sureness="likely",
        images=clearest_first(detections),
        impact=share,
    )


def _share_on_objects(detections: pd.DataFrame, objects: pd.DataFrame) -> float:
    """The part of the detections that cover an object of their category by an IoU of 0.50, with x and y swapped."""
    names = {"x": "y", "y": "x", "width": "height", "height": "width"}
    columns = ["image_id", "category", *names]
    swapped = detections[columns].rename(columns=names).assign(row=np.arange(len(detections)))
    pairs = swapped.merge(objects[columns], on=["image_id", "category"], suffixes=("", "_of_object"))
    first, second = (
        pairs[[f"{name}{suffix}" for name in ("x", "y", "width", "height")]].to_numpy(np.float64)
        for suffix in ("", "_of_object")
    )
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    both = np.maximum(high - low, 0).prod(axis=1)
    covers = 2 * both >= first[:, 2:].prod(axis=1) + second[:, 2:].prod(axis=1) - both
    return pairs["row"][covers].nunique() / len(detections)
