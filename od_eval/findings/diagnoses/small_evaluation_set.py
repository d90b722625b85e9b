"""Evaluation sets so small that chance decides about what is compared."""

from __future__ import annotations

import math
from collections.abc import Iterator

from od_eval.evaluation.analyses.intervals import MIN_IMAGES
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding

# Changes that people look for (another model of the zoo, augmentations) mostly move AP by 0.01 to 0.05. With a half
# width of 0.05 even the largest of these is within chance.
_WIDE = 0.05
# AP 0.5 would be anything from a bad to an excellent detector.
_EXTREMELY_WIDE = 0.2
# The half width to recommend images for.
_WANTED = 0.02


@diagnosis
def small_evaluation_set(evidence: Evidence) -> Iterator[Finding]:
    """The 95% interval of AP is wider than the differences that are looked for."""
    result = evidence.newest
    if result is None or not result.bbox or not result.intervals or result.bbox["AP"] is None:
        return
    if result.num_analysed < result.num_images:
        return  # the interval is that of some images of a set with millions of detections
    interval = result.intervals["AP"]
    if interval is None:
        yield Finding(
            "small_evaluation_set",
            "warning",
            "",
            f"fewer than {MIN_IMAGES} of the {result.num_images} evaluated images have objects",
            "evaluate at least 100 images with objects",
            cause="so AP says next to nothing of other images, and has no interval",
            evidence={"num_images": result.num_images},
        )
        return
    half = (interval[1] - interval[0]) / 2
    if half <= _WIDE:
        return
    # The width of an interval goes with 1 / √n.
    wanted = _rounded_up(result.num_images * (half / _WANTED) ** 2)
    yield Finding(
        "small_evaluation_set",
        "warning" if half > _EXTREMELY_WIDE else "note",
        "",
        f"the 95% interval of AP is {interval[0]:.2f} to {interval[1]:.2f} ({result.num_images} images)",
        f"evaluate about {wanted} images for ±{_WANTED}; until then compare runs with `od-eval compare`, which is"
        " surer, as it"
        " takes the same images of both",
        cause=f"so a difference of up to {half * math.sqrt(2):.2f} between evaluations of different images may be"
        " chance",
        evidence={"low": interval[0], "high": interval[1], "num_images": result.num_images, "wanted_images": wanted},
    )


def _rounded_up(number: float) -> int:
    """With two digits: 1,234 is 1,300."""
    unit = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return math.ceil(number / unit) * unit
