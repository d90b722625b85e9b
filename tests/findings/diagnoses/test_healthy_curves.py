"""Healthy trainings are not warned of, by any diagnosis."""

import pytest
from findings.made_runs import HEALTHY, made_result

from od_eval.findings.diagnosis import diagnose
from od_eval.findings.evidence import Evidence


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_training_has_no_warning(name, seed):
    found = diagnose(HEALTHY[name](seed))
    assert [str(finding) for finding in found if finding.severity != "note"] == []
    assert [finding.kind for finding in found if finding.kind == "diagnosis_failed"] == []


# Values of the run of `od-eval quickstart`, every 150 steps.
QUICKSTART = [
    (0.0001, 2.8521), (0.2141, 0.6245), (0.3056, 0.5582), (0.4310, 0.4476), (0.4610, 0.4225),
    (0.6006, 0.3410), (0.6288, 0.3248), (0.6685, 0.2962), (0.6798, 0.2906), (0.6837, 0.2856),
]  # fmt: skip


@pytest.mark.parametrize("num", range(len(QUICKSTART) + 1))
def test_the_evaluations_of_a_real_training_give_nothing_at_any_time(num):
    results = [made_result(150 * (at + 1), ap, loss) for at, (ap, loss) in enumerate(QUICKSTART[:num])]
    assert [str(one) for one in diagnose(Evidence(evaluations=results, last_step=1500)) if one.severity != "note"] == []


def test_nothing_is_known_and_nothing_is_said():
    assert diagnose(Evidence()) == []
