import numpy as np
import pandas as pd
import pytest

from od_eval.evaluation.result import EvaluationResult
from od_eval.findings.diagnoses.category_balance import (
    ap_grows_with_objects,
    category_carries_average,
    learning_curve,
    too_few_objects,
)
from od_eval.findings.evidence import Evidence


def of(ap, objects=None, half=0.05):
    """Evidence of categories with these APs, each in an interval of ± `half`."""
    metrics = {name: {"AP": value, "AP50": value, "num_groundtruth": 100} for name, value in ap.items()}
    intervals = {name: {"AP": [max(value - half, 0), value + half]} for name, value in ap.items()}
    result = EvaluationResult(500, per_category=metrics, intervals={"AP": None, "per_category": intervals})
    return Evidence(evaluations=(result,), train_objects=objects)


def curve(noise=0.0, slope=0.05, num=12):
    random = np.random.default_rng(2)
    objects = {f"c{index}": int(50 * 2 ** (index / 2)) for index in range(num)}
    ap = {name: 0.2 + slope * np.log2(count / 50) + float(random.normal(0, noise)) for name, count in objects.items()}
    return of(ap, objects)


def test_the_learning_curve_is_that_of_least_squares():
    evidence = curve(noise=0.03)
    frame = pd.DataFrame(
        {"n": evidence.train_objects, "ap": {k: v["AP"] for k, v in evidence.newest["per_category"].items()}}
    )
    x, y = np.log2(frame["n"]), frame["ap"]
    slope, offset = np.polyfit(x, y, 1)
    error = np.sqrt(((y - offset - slope * x) ** 2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    found = learning_curve(evidence)
    assert found.slope == pytest.approx(slope)
    # 2.228: Student's 97.5% quantile of 10 degrees of freedom.
    assert (found.low, found.high) == pytest.approx((slope - 2.228139 * error, slope + 2.228139 * error))


def test_ap_that_grows_with_objects_says_how_many_more():
    (finding,) = ap_grows_with_objects(curve(noise=0.01))
    assert finding.severity == "note"
    assert "'c0' (50)" in finding.remedy
    # 0.05 for a doubling: 0.1 takes four times as many.
    assert "for 0.1 more AP 4.0 times as many" in finding.remedy or "3.9 times" in finding.remedy


def test_no_growth_a_noisy_one_and_few_categories_are_no_finding():
    assert not list(ap_grows_with_objects(curve(noise=0.05, slope=0.0)))
    assert not list(ap_grows_with_objects(curve(noise=0.2, slope=0.03)))
    assert not list(ap_grows_with_objects(curve(num=7)))


def test_a_category_with_few_objects_and_a_low_ap_is_found_with_how_many_more():
    evidence = curve(noise=0.01)
    objects = {**evidence.train_objects, "rare": 10}
    ap = {name: one["AP"] for name, one in evidence.newest.per_category.items()} | {"rare": 0.08}
    (finding,) = too_few_objects(of(ap, objects))
    assert "'rare' (10 training objects, AP 0.08)" in str(finding)
    assert "more for 0.1 more AP" in finding.remedy
    assert finding.impact == pytest.approx((np.mean([*ap.values()][:-1]) - 0.08) / 13)


def test_few_objects_with_a_fair_or_uncertain_ap_are_no_finding():
    objects = {"a": 1000, "b": 900, "rare": 20}
    assert not list(too_few_objects(of({"a": 0.6, "b": 0.5, "rare": 0.4}, objects)))
    assert not list(too_few_objects(of({"a": 0.6, "b": 0.5, "rare": 0.2}, objects, half=0.2)))
    assert not list(too_few_objects(of({"a": 0.6, "b": 0.5, "rare": 0.1}, {**objects, "rare": 200})))
    assert len(list(too_few_objects(of({"a": 0.6, "b": 0.5, "rare": 0.1}, objects)))) == 1


def test_a_category_that_carries_the_average_is_named():
    (finding,) = category_carries_average(of({"a": 0.8, "b": 0.1, "c": 0.15}))
    assert "without 'a'" in str(finding)
    assert finding.severity == "note"
    assert not list(category_carries_average(of({"a": 0.5, "b": 0.3, "c": 0.35})))
    assert not list(category_carries_average(of({"a": 0.5, "b": 0.1, "c": 0.15}, half=0.25)))
    assert not list(category_carries_average(of({"a": 0.05, "b": 0.01, "c": 0.0}, half=0.001)))  # none is good
