"""What each category contributes to AP, and what more objects of it would bring."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import scipy.stats

from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.text import named, some

# AP differs between categories for many reasons: of COCO's 80 it is 0.1 to 0.8 with any detector. Half of what the
# others have is where the mean says little of a category.
_FAR_BELOW = 0.5
# The same the other way round.
_FAR_ABOVE = 2
# Below, no category is good, and which is ahead changes from evaluation to evaluation.
_WORTH_A_WORD = 0.1
# With more categories one cannot carry the average.
_MOST_CARRIED = 5
# A tenth of the objects of the median category: about 3 doublings fewer.
_FEW = 0.1
# With fewer categories the regression says nothing: its slope would have fewer than six degrees of freedom.
_MIN_CATEGORIES = 8
# Two-sided. Categories are not drawn by chance, and the question is asked at every evaluation.
_SIGNIFICANCE = 0.001
# How much more AP to tell the number of objects for.
_WANTED = 0.1
# Further than ten times the objects of the category with the most, a straight line is no forecast.
_FARTHEST = 10


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """AP of categories against the logarithm of their number of training objects, a straight line.

    slope: of AP per doubling; low, high: its 95% interval. p_value: of a slope of 0.
    num: of categories.
    """

    slope: float
    low: float
    high: float
    p_value: float
    num: int


def learning_curve(evidence: Evidence) -> LearningCurve | None:
    """The learning curve over categories; None with too few categories, or if all have as many objects."""
    objects = _train_objects(evidence)
    ap = _ap(evidence)
    names = [name for name in ap if objects.get(name)]
    if len(names) < _MIN_CATEGORIES:
        return None
    doublings = np.log2([objects[name] for name in names])
    if np.ptp(doublings) == 0:
        return None
    line = scipy.stats.linregress(doublings, [ap[name] for name in names])
    margin = float(scipy.stats.t.isf(0.025, len(names) - 2)) * line.stderr
    return LearningCurve(
        float(line.slope), float(line.slope - margin), float(line.slope + margin), float(line.pvalue), len(names)
    )


@diagnosis
def too_few_objects(evidence: Evidence) -> Iterator[Finding]:
    """Categories with few training objects have an AP far below that of the others."""
    objects, ap = _train_objects(evidence), _ap(evidence)
    known = {name: objects[name] for name in ap if name in objects}
    if len(known) < 2:
        return
    median = float(np.median(list(known.values())))
    few = [name for name in known if known[name] < _FEW * median and _is_far_below(evidence, name)]
    if not few:
        return
    few.sort(key=lambda name: known[name])
    others = float(np.mean([ap[name] for name in ap if name not in few])) if len(few) < len(ap) else 0.0
    curve = learning_curve(evidence)
    more = _objects_for(known[few[0]], max(known.values()), curve)
    listed = some((f"'{named(name)}' ({known[name]} training objects, AP {ap[name]:.2f})" for name in few), 5)
    yield Finding(
        "too_few_objects",
        "warning",
        "",
        f"{listed} {'is' if len(few) == 1 else 'are'} far below the others (AP {others:.2f} on average, a median of"
        f" {median:.0f}"
        " training objects)",
        f"add training objects of {'it' if len(few) == 1 else 'them'}{more}, or show images that have them more often",
        cause="with less than a tenth of the objects of the median category",
        evidence={"train_objects": {name: known[name] for name in few}, "median": median, **_evidence_of(curve)},
        sureness="likely",
        impact=sum(max(others - ap[name], 0.0) for name in few) / len(ap),
    )


@diagnosis
def ap_grows_with_objects(evidence: Evidence) -> Iterator[Finding]:
    """Categories with more training objects have a higher AP, more surely than by chance."""
    curve, ap, objects = learning_curve(evidence), _ap(evidence), _train_objects(evidence)
    if curve is None or curve.slope <= 0 or curve.p_value > _SIGNIFICANCE:
        return
    mean = float(np.mean(list(ap.values())))
    low = sorted((name for name in ap if objects.get(name) and ap[name] < mean), key=lambda name: objects[name])[:3]
    if not low:
        return
    yield Finding(
        "ap_grows_with_objects",
        "note",
        "",
        f"over {curve.num} categories AP grows by {curve.slope:.3f} ({curve.low:.3f} to {curve.high:.3f}) with each"
        " doubling of"
        " the training objects",
        f"add objects of {some((_with_objects(name, objects[name]) for name in low), 3)} first: for {_WANTED:g}"
        " more AP"
        f" {2 ** (_WANTED / curve.slope):.1f} times as many ({2 ** (_WANTED / curve.high):.1f}"
        f" to {_at_most_times(curve.low)})",
        cause="so more objects of the rare categories are likely to help, if these are not harder for another reason",
        evidence=_evidence_of(curve),
        sureness="possible",
    )


@diagnosis
def category_carries_average(evidence: Evidence) -> Iterator[Finding]:
    """Of few categories one has an AP far above that of all others."""
    ap = _ap(evidence)
    if not 2 <= len(ap) <= _MOST_CARRIED or evidence.newest is None:
        return
    best = max(ap, key=ap.__getitem__)
    others = float(np.mean([value for name, value in ap.items() if name != best]))
    interval = _interval(evidence, best)
    highest = max((_interval(evidence, name) or [0, 1])[1] for name in ap if name != best)
    if ap[best] < max(_FAR_ABOVE * others, _WORTH_A_WORD) or interval is None or interval[0] <= highest:
        return
    counts = {name: evidence.newest.per_category[name]["num_groundtruth"] for name in ap}
    listed = some((f"'{named(name)}' {value:.2f} ({counts[name]} objects)" for name, value in ap.items()), 5)
    yield Finding(
        "category_carries_average",
        "note",
        "",
        f"AP is {float(np.mean(list(ap.values()))):.2f} on average, but {others:.2f} without '{named(best)}': {listed}",
        "look at per_category, not at the mean, and add training objects of the other categories",
        cause="so one category carries the average",
        evidence={"AP": ap, "without_best": others},
    )


def _with_objects(name: str, objects: int) -> str:
    """A category and its training objects: `'cat' (12)`."""
    return f"'{named(name)}' ({objects})"


def _objects_for(now: int, most: int, curve: LearningCurve | None) -> str:
    """How many more objects bring `_WANTED` more AP, as a clause with its uncertainty; empty where that is unknown."""
    if curve is None or curve.slope <= 0 or curve.p_value > _SIGNIFICANCE:
        return ""
    wanted = now * 2 ** (_WANTED / curve.slope)
    if wanted > _FARTHEST * most:
        return ""
    least = now * 2 ** (_WANTED / curve.high)
    return (
        f": about {math.ceil(wanted - now)} more for {_WANTED:g} more AP (with 95%, from {math.ceil(least - now)}"
        " on), as AP"
        f" grows by {curve.slope:.3f} with each doubling over {curve.num} categories"
    )


def _at_most_times(slope: float) -> str:
    times = 2 ** min(_WANTED / slope, 20) if slope > 0 else math.inf
    return f"{times:.1f}" if times < 100 else "over 100"


def _ap(evidence: Evidence) -> dict[str, float]:
    """The AP of each category that has objects in the newest evaluation."""
    per_category = evidence.newest.per_category if evidence.newest else {}
    return {name: float(of["AP"]) for name, of in per_category.items() if of["AP"] is not None}


def _train_objects(evidence: Evidence) -> dict[str, int]:
    return dict(evidence.train_objects or {})


def _interval(evidence: Evidence, name: str) -> list[float] | None:
    intervals = evidence.newest.intervals if evidence.newest else {}
    interval: list[float] | None = intervals.get("per_category", {}).get(name, {}).get("AP")
    return interval


def _is_far_below(evidence: Evidence, name: str) -> bool:
    """Whether the AP of a category surely is below half of the mean of the others."""
    ap = _ap(evidence)
    bound = _FAR_BELOW * float(np.mean([value for other, value in ap.items() if other != name]))
    interval = _interval(evidence, name)
    return ap[name] < bound and interval is not None and interval[1] < bound


def _evidence_of(curve: LearningCurve | None) -> dict[str, float]:
    if curve is None:
        return {}
    return {"ap_per_doubling": curve.slope, "low": curve.low, "high": curve.high, "p_value": curve.p_value}
