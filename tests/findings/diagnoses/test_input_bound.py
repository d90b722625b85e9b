"""Training that waits for its input."""

import numpy as np
import pytest

from od_eval.findings.diagnoses.input_bound import input_bound
from od_eval.findings.evidence import Curve, Evidence


def of(shares):
    steps = np.arange(10, 10 * len(shares) + 1, 10)
    return list(input_bound(Evidence(curves={"input_wait": Curve(steps, np.array(shares))})))


def test_a_training_that_waits_for_half_of_its_time_would_be_twice_as_fast():
    (finding,) = of([0.9] * 20 + [0.5] * 20)
    assert finding.evidence == {"share": 0.5, "points": pytest.approx(20, abs=1)}
    assert "50% of the time" in str(finding)
    assert "2.0 times as fast" in str(finding)


def test_a_training_that_waits_always_is_told_too():
    (finding,) = of([1.0] * 40)
    assert "100% of the time" in str(finding)


@pytest.mark.parametrize(
    "shares",
    [
        [0.2] * 40,
        [0.9] * 20 + [0.05] * 20,  # only at the beginning
        [0.1, 0.1, 0.1, 0.9] * 10,  # now and then
        [0.9] * 8,  # too few points
        [np.nan] * 40,
        [],
    ],
)
def test_little_waiting_is_no_finding(shares):
    assert not of(shares)
