"""Objects that cannot be found because the number of detections of an image is limited."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from od_eval.evaluation.matching import MAX_DETECTIONS
from od_eval.findings.chance import MAX_P_VALUE, at_least
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import Outcomes, most_first, percent

# Most models return as many detections as they may in every image, nearly all at scores near 0: that is no fault. It is
# one if what comes last is still right as often as this, in the last tenth: then the next would be, too.
_RIGHT_AT_THE_END = 0.1
_LAST = 0.1


@diagnosis
def detections_per_image_limited(evidence: Evidence) -> Iterator[Finding]:
    """Images have as many detections as are allowed, objects in them are missed, and the last are still right."""
    yield from _limited(evidence, "max_total_detections", ["image_id"], "for all categories of an image")


@diagnosis
def detections_per_category_limited(evidence: Evidence) -> Iterator[Finding]:
    """The same of the detections of one category in an image."""
    yield from _limited(evidence, "max_detections_per_class", ["image_id", "category"], "for one category of an image")


@diagnosis
def more_objects_than_coco_counts(evidence: Evidence) -> Iterator[Finding]:
    """COCO counts 100 detections of a category in an image, but there are more objects."""
    judged = evidence.outcomes
    if judged is None:
        return
    num = judged.objects.groupby(["image_id", "category"], sort=False).size()
    lost = int((num - MAX_DETECTIONS).clip(lower=0).sum())
    if not lost:
        return
    share = lost / len(judged.objects)
    crowded = num[num > MAX_DETECTIONS].sort_values(ascending=False, kind="stable")
    yield Finding(
        "more_objects_than_coco_counts",
        "warning" if share >= 0.05 else "note",
        "",
        f"{len(crowded)} times an image has more than {MAX_DETECTIONS} objects of one category, up to"
        f" {int(crowded.max())}",
        "look at the recall of the operating point, which counts all detections, or cut images into tiles",
        cause=f"of which COCO's metrics count no more than {MAX_DETECTIONS} detections, so {lost} of"
        f" {len(judged.objects)}"
        f" objects ({percent(share)}) are missed in AP whatever the detector does",
        evidence={"lost": lost, "objects": len(judged.objects)},
        images=list(dict.fromkeys(image for image, _ in crowded.index)),
        impact=share,
    )


def _limited(evidence: Evidence, attribute: str, keys: Sequence[str], scope: str) -> Iterator[Finding]:
    judged, facts = evidence.outcomes, evidence.config
    limit = getattr(facts, attribute) if facts else None
    if judged is None or not limit or facts is None:
        return
    # Detections that match ignored objects take places, too.
    table = evidence.objects
    assert table is not None
    num_detections = table[table["kind"] == "detection"].groupby(list(keys), observed=True, sort=False).size()
    full = num_detections[num_detections >= limit].index
    at_limit = judged.objects.set_index(list(keys)).index.isin(full)
    missed = judged.objects[at_limit & ~(judged.objects["match_50"] >= 0)]
    last = _last_detections(judged, keys, full, max(round(_LAST * limit), 1))
    num_right = int(last["right"].sum())
    if not len(missed) or not len(last):
        return
    if num_right < _RIGHT_AT_THE_END * len(last) or at_least(num_right, len(last), _RIGHT_AT_THE_END / 2) > MAX_P_VALUE:
        return
    most_objects = int(judged.objects.groupby(list(keys), sort=False).size().max())
    # Twice as many as there are objects, as some detections are wrong; at least twice as many as now.
    wanted = math.ceil(2 * max(most_objects, limit) / 100) * 100
    settings = {attribute: wanted}
    if attribute == "max_detections_per_class" and (facts.max_total_detections or wanted) < wanted:
        settings["max_total_detections"] = wanted
    most_of_category = int(judged.objects.groupby(["image_id", "category"], sort=False).size().max())
    if attribute == "max_total_detections" and (facts.max_detections_per_class or wanted) < most_of_category:
        settings["max_detections_per_class"] = wanted
    field = facts.fields.get(attribute)
    images = missed["image_id"].nunique()
    yield Finding(
        "detections_limited",
        "warning",
        "",
        f"in {images} of {judged.objects['image_id'].nunique()} images with objects there are as many detections as"
        f" {attribute}"
        f" allows {scope} ({limit}), and {len(missed)} objects in them are missed",
        f"raise {field or attribute} to {wanted}",
        cause=f"and of those that come last {percent(num_right / len(last))} are still right, so the limit cuts off"
        " objects;"
        f" the most in one place are {most_objects}",
        field=field,
        evidence={
            "limit": limit,
            "images": images,
            "missed": len(missed),
            "last_detections": len(last),
            "right_of_these": num_right,
            "most_objects": most_objects,
        },
        sureness="likely",
        settings=facts.setting(**settings),
        images=most_first(missed),
        impact=len(missed) / len(judged.objects),
    )


def _last_detections(judged: Outcomes, keys: Sequence[str], full: pd.Index, num: int) -> pd.DataFrame:
    """The `num` detections with the lowest scores in each of the places that are full."""
    of_full = judged.detections[judged.detections.set_index(list(keys)).index.isin(full)]
    return of_full.sort_values("score", kind="stable").groupby(list(keys), sort=False).head(num)
