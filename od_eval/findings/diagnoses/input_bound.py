"""Training that waits for its input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.trends import finite, from_share

# With a quarter of the time, training takes a third longer than it would.
_WAITS = 0.25
# The first points fill buffers and read files that the system does not have in memory yet.
_FEWEST_POINTS = 10


@diagnosis
def input_bound(evidence: Evidence) -> Iterator[Finding]:
    """Steps wait for their batches for a good part of the time."""
    curve = from_share(finite(evidence.curve("input_wait")), 0.5)
    if len(curve) < _FEWEST_POINTS:
        return
    share = float(np.median(curve.values))
    # In most points, not on average: a few waits are those of a busy disk.
    if share < _WAITS:
        return
    yield Finding(
        "input_bound",
        "warning",
        "",
        f"steps wait for their batches for {100 * share:.0f}% of the time (the median of {len(curve)} points)",
        "store images no larger than the model's input (convert them again from smaller ones), write the dataset in"
        " several record files on a local disk, leave out costly augmentations, or give the machine more CPU cores",
        cause=f"so training would be up to {1 / max(1 - share, 0.01):.1f} times as fast if reading, decoding and"
        " augmenting kept pace",
        field="train_input_reader",
        evidence={"share": share, "points": len(curve)},
        sureness="likely",
    )
