"""Small objects that are missed where large ones are found."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from od_eval.findings.chance import MAX_P_VALUE, shares_differ
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import images_of, is_early, percent

# Every detector finds small objects less often; half as often is what larger inputs and tiles repair.
_MAX_RATIO = 0.5
# If large ones are not found either, their size is not what is wrong.
_MIN_RECALL_OF_LARGE = 0.5
# An object of half the finest anchors (SSD with levels from 3 on and anchor_scale 4: 32 pixels) has an IoU of 0.25 with
# them, so none matches it, and it is two cells of the finest level (stride 8) wide.
_FEW_PIXELS = 16
# The memory of a model goes with the square of its input: four times as much is what can be tried.
_MAX_ENLARGEMENT = 2
# Inputs of models with six or seven levels are multiples of this.
_INPUT_MULTIPLE = 128


@diagnosis
def small_objects_missed(evidence: Evidence) -> Iterator[Finding]:
    """Of the smallest quarter of the objects half as many are found as of the largest, or fewer."""
    judged = evidence.outcomes
    if judged is None or is_early(evidence):
        return
    objects = judged.objects
    low, high = np.percentile(objects["area"], [25, 75])
    small, large = objects[objects["area"] < low], objects[objects["area"] > high]
    if not len(small) or not len(large):
        return
    found_small, found_large = int(small["found"].sum()), int(large["found"].sum())
    recall_small, recall_large = found_small / len(small), found_large / len(large)
    if recall_large < _MIN_RECALL_OF_LARGE or recall_small > _MAX_RATIO * recall_large:
        return
    if shares_differ(found_small, len(small), found_large, len(large)) > MAX_P_VALUE:
        return
    missed = small[~small["found"]].sort_values("area", ascending=False, kind="stable")
    side = float(np.sqrt(small["area"].median()))
    facts = evidence.config
    scale = None if facts is None or evidence.objects is None else _scale(evidence.objects, facts)
    at_input = None if scale is None else side * scale
    has_few_pixels = at_input is not None and at_input < _FEW_PIXELS
    settings = _larger_input(facts, at_input) if facts and at_input else {}
    sizes = (evidence.newest.sizes if evidence.newest else None) or {}
    ap = {name: sizes[name]["AP"] for name in ("small", "large") if sizes.get(name, {}).get("AP") is not None}
    yield Finding(
        "small_objects_missed",
        # Of every detector small objects are found less often: only where pixels are missing is that to be repaired.
        "warning" if has_few_pixels else "note",
        "",
        f"of the smallest quarter of the objects ({len(small)}, median {side:.0f} × {side:.0f} pixels)"
        f" {percent(recall_small)} are found, of the largest quarter ({len(large)}) {percent(recall_large)}"
        + (f" (AP {ap['small']:.2f} and {ap['large']:.2f})" if len(ap) == 2 else ""),
        _remedy(facts, at_input, settings),
        cause=_cause(side, at_input),
        field=facts.fields.get("input_height") if facts else None,
        evidence={
            "small": len(small),
            "recall_small": recall_small,
            "recall_large": recall_large,
            "median_side": side,
            "side_at_input": at_input,
            **{f"AP_{name}": value for name, value in ap.items()},
        },
        sureness="likely" if has_few_pixels else "possible",
        settings=facts.setting(**settings) if facts else (),
        images=images_of(missed),
        # What would be found if small ones were found like large ones.
        impact=(recall_large - recall_small) * len(small) / len(objects),
    )


def _cause(side: float, at_input: float | None) -> str:
    if at_input is None:
        return "so size decides what is found"
    if at_input < _FEW_PIXELS:
        return f"as {at_input:.0f} of {side:.0f} pixels remain at the model's input size, too few for its anchors"
    return (
        f"though {at_input:.0f} of {side:.0f} pixels remain at the model's input size: anchors or examples are missing"
    )


def _remedy(facts: ConfigFacts | None, at_input: float | None, settings: dict[str, int]) -> str:
    anchors = "add finer anchors and levels (a lower min_level or anchor_scale of the anchor generator)"
    if settings and facts:
        larger = f"give the model a larger input ({settings['input_height']} × {settings['input_width']})"
        enough = at_input and at_input * _MAX_ENLARGEMENT >= _FEW_PIXELS
        return f"{larger}{'' if enough else ', cut images into tiles'}, or {anchors}"
    if at_input is not None:
        return f"{anchors}, and add images with such objects"
    return f"give the model a larger input, cut images into tiles, or {anchors}"


def _larger_input(facts: ConfigFacts, at_input: float) -> dict[str, int]:
    """The input size at which small objects have enough pixels, or the largest to be tried; empty if they have."""
    if at_input >= _FEW_PIXELS or not facts.input_height or not facts.input_width:
        return {}
    factor = min(_FEW_PIXELS / at_input, _MAX_ENLARGEMENT)
    return {
        name: math.ceil(size * factor / _INPUT_MULTIPLE) * _INPUT_MULTIPLE
        for name, size in (("input_height", facts.input_height), ("input_width", facts.input_width))
    }


def _scale(table: pd.DataFrame, facts: ConfigFacts) -> float | None:
    """By how much images are enlarged at the model's input; None if its size varies.

    Image sizes are not in the table. Images are about as large as what their boxes reach to, as models put boxes
    everywhere, at low scores.
    """
    if not facts.input_height or not facts.input_width:
        return None
    reach = pd.DataFrame(
        {"image": table["image_id"], "x": table["x"] + table["width"], "y": table["y"] + table["height"]}
    )
    width, height = reach.groupby("image")[["x", "y"]].max().median()
    if not width > 0 or not height > 0:
        return None
    return math.sqrt(facts.input_height / height * facts.input_width / width)
