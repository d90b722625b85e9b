import dataclasses

import numpy as np
import pytest
from findings.made_runs import annealed, falling, made_run, rising

from od_eval.findings.diagnoses.checkpoints import equal_checkpoints


def level(ap_noise=0.0015, **changes):
    given = {"loss": annealed(falling()), "ap": lambda share: 0.5 * (1 - np.exp(-share / 0.03)), "ap_noise": ap_noise}
    return made_run(**(given | changes))


def test_between_checkpoints_of_equal_ap_there_is_nothing_to_choose():
    evidence = level(seed=1)
    (finding,) = equal_checkpoints(evidence)
    assert finding.severity == "note"
    best = max(result.bbox["AP"] for result in evidence.evaluations)
    equal = [result.step for result in evidence.evaluations if best - result.bbox["AP"] <= 0.005]
    assert finding.evidence["steps"] == equal
    assert "on 200 images" in finding.symptom
    assert "…" in finding.symptom  # not all of them are listed


@pytest.mark.parametrize(
    "changes",
    [
        {"ap": rising(0.6, 2)},
        {"ap_noise": 0.02},
        {"half_interval": 0.0001},  # so many images that the differences are real
        {"half_interval": None},
        {"evaluations": 4},
        {"done": 0.5},
        {"ap": lambda share: 0.001 + 0 * share},
    ],
    ids=["rises", "varies", "certain", "no intervals", "few", "running", "nothing learned"],
)
def test_checkpoints_that_differ_are_not_called_equal(changes):
    assert not list(equal_checkpoints(level(**({"seed": 1} | changes))))


def test_the_newest_is_taken_anyway_if_it_is_the_best():
    evidence = level(seed=1)
    results = sorted(evidence.evaluations, key=lambda result: result.bbox["AP"])
    assert not list(equal_checkpoints(dataclasses.replace(evidence, evaluations=results)))
