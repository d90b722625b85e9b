"""Detectors that are confident even when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator

from od_eval.evaluation.analyses.calibration import CONFIDENT_SCORE, LEAST_PRECISION
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import clearest_first, is_early, percent


@diagnosis
def overconfident(evidence: Evidence) -> Iterator[Finding]:
    """Of the most confident detections many are wrong; thresholds and test are those of `analyses.calibration`."""
    calibration = evidence.newest.calibration if evidence.newest else {}
    found = calibration.get("overconfidence")
    if not found or is_early(evidence):
        return
    judged = evidence.outcomes
    wrong = None if judged is None else judged.detections.query("score >= @CONFIDENT_SCORE and not right")
    yield Finding(
        "overconfident",
        "warning",
        "",
        f"{percent(found['num_right'] / found['num'])} of {found['num']} detections with a score of"
        f" {CONFIDENT_SCORE:g} or more are right, though their mean score is {found['mean_score']:.2f}",
        "look at these images: where the label is wrong, correct it, and where the detector is, add such images to the"
        " training data; until then choose the confidence by the precision it gives (operating_point), not by its"
        " value",
        cause="so the detector is confident even when it is wrong: labels are noisy, or it has learned its training"
        " data by"
        " heart",
        evidence={**found, "least_precision": LEAST_PRECISION, "ece": calibration.get("ece")},
        sureness="possible",
        images=[] if wrong is None else clearest_first(wrong),
    )
