"""Checkpoints that are equally good: which one is chosen is chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import ap_name, differs, has_ended
from od_eval.text import some

# Two or three of equal AP are at the end of every training that has levelled off; five were in 1 of 100 simulated ones.
_SEVERAL = 5
# Below this AP nothing has been learned that could differ.
_LEARNED = 0.05
# A difference that nobody would choose by, however sure it is.
_EQUAL = 0.005


@diagnosis
def equal_checkpoints(evidence: Evidence) -> Iterator[Finding]:
    """The best of several checkpoints is best by chance, and it is not the newest."""
    name = ap_name(evidence)
    known = [result for result in evidence.evaluations if name in result.log_values()]
    if not has_ended(evidence) or len(known) < _SEVERAL:
        return
    values = np.array([result.log_values()[name] for result in known])
    best = int(np.argmax(values))
    limits = [differs(known[best], result) for result in known]
    if values[best] < _LEARNED or any(limit is None for limit in limits):
        return
    equal = np.flatnonzero(values[best] - values <= np.minimum(_EQUAL, np.array(limits, float)))
    if len(equal) < _SEVERAL or best == len(known) - 1:
        return
    steps = some((known[at].step for at in equal), 6)
    span = float(values[best] - values[equal].min())
    yield Finding(
        "equal_checkpoints",
        "note",
        "",
        f"{len(equal)} checkpoints have {name} {values[equal].min():.4f} to {values[best]:.4f} on"
        f" {known[best].num_analysed} images (steps {steps})",
        "take any of them, such as the newest, or evaluate them on more images; --best_needs_certainty keeps the"
        " earlier one in such a case",
        cause=f"a difference of {span:.4f} that other images could reverse, so there is nothing to choose between them",
        evidence={
            "steps": [known[at].step for at in equal],
            "difference": span,
            "num_images": known[best].num_analysed,
        },
        sureness="certain",
    )
