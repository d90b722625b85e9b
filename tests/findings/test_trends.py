import numpy as np
import pytest
import scipy.stats
from findings.made_runs import made_result, noisy

from od_eval.findings import trends
from od_eval.findings.evidence import Curve, Evidence


def curve_of(values, every=100):
    return Curve(np.arange(1, len(values) + 1) * every, np.asarray(values, np.float64))


def test_running_medians_ignore_a_spike_and_keep_the_ends():
    values = np.array([5.0, 4.0, 90.0, 3.0, 2.0, 1.0])
    assert trends.smooth(values, 3).tolist() == [5.0, 5.0, 4.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize("width", [3, 5, 11])
def test_running_medians_are_those_of_windows_that_shrink_at_the_ends(width):
    values = np.random.default_rng(0).normal(size=40)
    half = width // 2
    by_hand = []
    for at in range(40):
        reach = min(half, at, 39 - at)
        by_hand.append(np.median(values[at - reach : at + reach + 1]))
    np.testing.assert_array_equal(trends.smooth(values, width), by_hand)


def test_running_medians_of_fewer_values_than_the_window_are_centred():
    assert trends.smooth(np.array([3.0, 1.0, 2.0]), 11).tolist() == [3.0, 2.0, 2.0]


def test_the_noise_of_a_bent_curve_is_found_without_its_bend():
    rng = np.random.default_rng(0)
    course = np.exp(-np.linspace(0, 2, 4000))
    assert trends.noise(course + rng.normal(0, 0.02, 4000)).deviation == pytest.approx(0.02, rel=0.05)


def test_the_degrees_of_freedom_of_the_noise_are_those_of_its_scatter():
    rng = np.random.default_rng(0)
    estimates = [trends.noise(rng.normal(0, 1, 30)).deviation ** 2 for _ in range(3000)]
    # Of an estimate of a variance with d degrees of freedom: 2 d⁻¹ times its square.
    assert 2 / np.var(estimates) == pytest.approx(trends.noise(rng.normal(0, 1, 30)).degrees, rel=0.12)


def test_the_noise_of_two_values_is_not_known():
    assert trends.noise(np.array([1.0, 2.0])) is None


def test_the_change_of_a_trend_is_that_of_least_squares():
    rng = np.random.default_rng(1)
    curve = curve_of(2 - np.linspace(0, 0.5, 20) + rng.normal(0, 0.1, 20))
    expected = scipy.stats.linregress(curve.steps, curve.values).slope * (curve.steps[-1] - curve.steps[0])
    assert trends.trend(curve).change == pytest.approx(expected)


@pytest.mark.parametrize(
    ("points", "alike", "most"),
    # With few points, likeness of neighbours cannot be told from a trend.
    [(4, 0.0, 0.03), (6, 0.0, 0.03), (25, 0.0, 0.03), (200, 0.0, 0.03), (25, 0.5, 0.1), (200, 0.5, 0.03)],
)
def test_a_level_curve_has_a_trend_as_rarely_as_it_should(points, alike, most):
    rng = np.random.default_rng(0)
    found = [trends.trend(curve_of(noisy(np.full(points, 1.0), 0.05, rng, alike))) for _ in range(300)]
    assert np.mean([one.rises or one.falls for one in found]) <= most


def test_a_bent_curve_that_falls_does_so_for_sure():
    rng = np.random.default_rng(0)
    share = np.linspace(0, 1, 100)
    found = trends.trend(curve_of(noisy(0.1 + 2 * (1 + share / 0.1) ** -1.2, 0.05, rng)))
    assert found.falls
    assert not found.rises


def test_one_spike_of_a_long_curve_makes_no_trend():
    values = noisy(np.full(300, 1.0), 0.03, np.random.default_rng(0))
    values[-3] = 1000.0
    found = trends.trend(curve_of(values))
    assert abs(found.change) < 0.05


def test_few_points_and_points_that_are_not_finite_have_no_trend():
    assert trends.trend(curve_of([1.0, 2.0, 3.0])) is None
    assert trends.trend(curve_of([1.0, np.nan, 2.0, np.nan, 3.0])) is None
    assert trends.trend(Curve(np.full(6, 100), np.arange(6.0))) is None


def test_a_straight_line_without_noise_has_a_trend_without_error():
    found = trends.trend(curve_of(np.linspace(1, 2, 10)))
    assert found.change == pytest.approx(1.0)
    assert found.rises


COURSES = {
    "exponential": lambda x: 0.6 * (1 - np.exp(-2 * x)),
    "nearly straight": lambda x: 0.9 * (1 - np.exp(-0.8 * x)),
    "hyperbola": lambda x: 0.7 * x / (x + 0.5),
    "stretched": lambda x: 0.6 * (1 - np.exp(-((1.5 * x) ** 0.8))),
}


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES.keys())
def test_the_interval_of_an_extrapolation_contains_what_comes(course):
    share = np.linspace(0, 1, 13)[1:]
    inside = 0
    for seed in range(15):
        values = course(share) + np.random.default_rng(seed).normal(0, 0.008, 12)
        found = trends.extrapolate(Curve(np.round(share * 6000).astype(int), values), 12000, ceiling=1.0)
        assert found.low <= found.value <= found.high
        assert found.high - found.low < 0.2
        inside += found.low <= course(2.0) <= found.high
    assert inside >= 12


def test_no_extrapolation_is_above_the_ceiling():
    share = np.linspace(0, 1, 11)[1:]
    found = trends.extrapolate(Curve(np.round(share * 1000).astype(int), 0.95 * share), 4000, ceiling=1.0)
    assert found.high <= 1.0


def test_a_curve_that_falls_or_is_short_is_not_extrapolated():
    assert trends.extrapolate(curve_of(np.linspace(0.6, 0.3, 10)), 2000) is None
    assert trends.extrapolate(curve_of([0.1, 0.2, 0.3, 0.35]), 2000) is None


def test_parts_of_a_curve_are_by_steps_and_not_by_points():
    curve = Curve(np.array([100, 200, 300, 1000]), np.arange(4.0))
    assert trends.from_share(curve, 0.5).steps.tolist() == [1000]
    assert trends.between(curve, 200, 300).steps.tolist() == [200, 300]
    assert len(trends.from_share(Curve(np.zeros(0, np.int64), np.zeros(0)), 0.5)) == 0


def test_two_evaluations_differ_by_the_intervals_of_both():
    first, second = made_result(1, 0.5, half_interval=0.03), made_result(2, 0.5, half_interval=0.04)
    assert trends.differs(first, second) == pytest.approx(0.05)
    assert trends.differs(first, made_result(2, 0.5, half_interval=None)) is None


def test_a_training_has_ended_at_its_last_step_if_that_is_known():
    evidence = Evidence(curves={"Loss/total_loss": curve_of([1.0, 1.0])}, last_step=200)
    assert trends.has_ended(evidence)
    assert trends.share_done(evidence) == 1
    assert not trends.has_ended(Evidence(curves=evidence.curves, last_step=400))
    assert not trends.has_ended(Evidence(curves=evidence.curves))
