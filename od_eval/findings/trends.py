"""How curves go: noise, trends with their uncertainty, and where a curve that levels off would get.

Curves of a training have outliers (spikes), and neighbouring points that are alike. So points are smoothed by medians,
and a standard error heeds how much alike its residuals are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats

from od_eval.evaluation.result import EvaluationResult
from od_eval.findings.evidence import Curve, Evidence, Floats

# Two-sided. A diagnosis makes a handful of such tests, and is repeated after every evaluation of a training: with 1 in
# 20 most trainings would have a false alarm.
SIGNIFICANCE = 0.01
# Trends are of at most so many medians of neighbouring points: enough for the error of a slope (28 degrees of freedom),
# and each is of several points of a long curve, so that spikes and most of the likeness of neighbours are gone.
_MOST_POINTS = 30
# With fewer there is no error of a slope that says anything (one degree of freedom).
MIN_POINTS = 4
# With fewer a parabola would follow the noise.
_LEAST_FOR_PARABOLA = 8
# Courses of learning curves (families that Viering & Loog compare in The Shape of Learning Curves, 2022) and values of
# their parameter: what is left to learn at a share x of the steps so far, from nearly straight to level after a tenth.
_COURSES: tuple[tuple[Callable[[Any, float], Any], Floats], ...] = (
    (lambda x, power: x**-power, np.geomspace(0.1, 3.0, 40)),
    (lambda x, rate: np.exp(-rate * x), np.geomspace(0.1, 30.0, 60)),
    (lambda x, half: 1 / (x + half), np.geomspace(0.01, 10.0, 40)),
)
# A course whose squared errors are at most so many times those of the best one may be the true one, too: the ratio for
# which two models are told apart by Akaike's criterion with ten values, exp(4 / 10).
_AS_GOOD = 1.5
# 95% of a normal distribution lie between this and its negative.
_NORMAL_QUANTILE = 1.959963984540054
# The ends of an interval are uncertain by about 5% of its width with so many.
_RESAMPLES = 400
# Fewer values determine the three parameters of a course, and leave not two for their uncertainty.
MIN_TO_EXTRAPOLATE = 5


def finite(curve: Curve) -> Curve:
    """The points of a curve that are finite."""
    keep = np.isfinite(curve.values)
    return Curve(curve.steps[keep], curve.values[keep])


def between(curve: Curve, first_step: float, last_step: float = math.inf) -> Curve:
    """The points of a curve from a step to another, both included."""
    keep = (curve.steps >= first_step) & (curve.steps <= last_step)
    return Curve(curve.steps[keep], curve.values[keep])


def from_share(curve: Curve, share: float) -> Curve:
    """The last part of a curve: its points after a share of the steps that it covers."""
    if not len(curve):
        return curve
    first, last = float(curve.steps[0]), float(curve.steps[-1])
    return between(curve, first + share * (last - first))


def smooth(values: Floats, width: int) -> Floats:
    """Running medians of an odd number of values; of fewer at both ends, so that a median is always centred."""
    smoothed = np.array(values, np.float64)
    for reach in range(1, width // 2 + 1):
        if len(values) > 2 * reach:
            windows = np.lib.stride_tricks.sliding_window_view(values, 2 * reach + 1)
            if reach == width // 2:
                smoothed[reach : len(values) - reach] = np.median(windows, axis=1)
            else:
                smoothed[reach], smoothed[-reach - 1] = np.median(windows[0]), np.median(windows[-1])
    return smoothed


@dataclasses.dataclass(frozen=True)
class Noise:
    """The standard deviation of values around their smooth course, and the degrees of freedom of its estimate."""

    deviation: float
    degrees: float

    def quantile(self, significance: float = SIGNIFICANCE) -> float:
        """The two-sided quantile of Student's distribution for differences that are measured by this deviation."""
        return float(scipy.stats.t.isf(significance / 2, self.degrees))


def noise(values: Floats) -> Noise | None:
    """The noise of three values or more, from the differences of each to the mean of its neighbours.

    Such a difference has 1.5 times the variance of a value if the course is straight over three values; the estimate of
    the variance from n values has 18/35 (n - 2) degrees of freedom (Gasser, Sroka & Jennen-Steinmetz, Residual variance
    and residual pattern in nonlinear regression, Biometrika 1986).
    """
    if len(values) < 3:
        return None
    differences = values[1:-1] - (values[:-2] + values[2:]) / 2
    return Noise(math.sqrt(np.mean(differences**2) / 1.5), 18 / 35 * len(differences))


def robust_deviation(residuals: Floats) -> float:
    """The standard deviation of normal values, from their median absolute deviation, which outliers do not change."""
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))


@dataclasses.dataclass(frozen=True)
class Trend:
    """The straight line through a curve.

    Attributes:
      change: how much it rises from the first to the last step.
      error: the standard error of the change. degrees: its degrees of freedom.
      level: the mean.
    """

    change: float
    error: float
    degrees: float
    level: float

    def interval(self, significance: float = SIGNIFICANCE) -> tuple[float, float]:
        """The confidence interval of the change."""
        half = float(scipy.stats.t.isf(significance / 2, self.degrees)) * self.error
        return self.change - half, self.change + half

    @property
    def rises(self) -> bool:
        """Whether it rises by more than chance explains."""
        return self.interval()[0] > 0

    @property
    def falls(self) -> bool:
        """Whether it falls by more than chance explains."""
        return self.interval()[1] < 0


def trend(curve: Curve) -> Trend | None:
    """The trend of a curve, by least squares through medians of neighbouring points; None for less than `MIN_POINTS`.

    The error is that of least squares, with its variance increased by how much alike neighbouring residuals are:
    (1 + r) / (1 - r) times for their correlation r, if it is positive (Bartlett 1935).
    Residuals are those of a parabola if there are points enough: that a curve is bent makes its trend no less sure.
    """
    curve = _medians(finite(curve))
    n = len(curve)
    if n < MIN_POINTS or curve.steps[0] == curve.steps[-1]:
        return None
    x = (curve.steps - curve.steps[0]) / (curve.steps[-1] - curve.steps[0])
    centred = x - x.mean()
    slope = float(centred @ curve.values / (centred @ centred))
    parameters = 3 if n >= _LEAST_FOR_PARABOLA else 2
    residuals = curve.values - np.polynomial.Polynomial.fit(centred, curve.values, parameters - 1)(centred)
    squares = float(residuals @ residuals)
    alike = float(residuals[1:] @ residuals[:-1]) / squares if squares > 0 else 0.0
    # A correlation of so few values is too low by (1 + 4 r) / n on average (Marriott & Pope, Biometrika 1954).
    alike = min(max(alike + (1 + 4 * alike) / n, 0.0), 0.95)
    degrees = n - parameters
    error = math.sqrt(squares / degrees * (1 + alike) / (1 - alike) / (centred @ centred))
    return Trend(slope, error, degrees, float(curve.values.mean()))


def _medians(curve: Curve) -> Curve:
    if len(curve) <= _MOST_POINTS:
        return curve
    parts = np.array_split(np.arange(len(curve)), _MOST_POINTS)
    return Curve(
        np.array([round(float(np.mean(curve.steps[part]))) for part in parts], np.int64),
        np.array([np.median(curve.values[part]) for part in parts]),
    )


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """The value that a curve would have at a later step, with its 95% interval."""

    value: float
    low: float
    high: float


def extrapolate(curve: Curve, step: int, ceiling: float = math.inf) -> Extrapolation | None:
    """The value at a later step of a curve that levels off: as a power law, an exponential, or a hyperbola.

    The interval is of a bootstrap: residuals, widened for the three parameters they lack, are drawn again, and each
    course that fits as well as the best is fitted to them. It knows nothing of what changes after the last point, such
    as the learning rate.

    Args:
      curve: of an evaluation's metric, with steps above 0.
      step: the later step.
      ceiling: what no value exceeds: 1 for AP.

    Returns:
      None if there are less than `MIN_TO_EXTRAPOLATE` values, or if the curve does not rise.
    """
    curve = between(finite(curve), 1)
    n = len(curve)
    if n < MIN_TO_EXTRAPOLATE:
        return None
    x, later = curve.steps / float(curve.steps[-1]), step / float(curve.steps[-1])
    fits = [_fit(course, x, curve.values[np.newaxis], later, ceiling) for course in _COURSES]
    squares = [float(((fit.values[0] - curve.values) ** 2).sum()) for fit in fits]
    best = fits[int(np.argmin(squares))]
    if best.later[0] <= best.values[0, -1]:
        return None
    rng = np.random.default_rng(0)
    resampled = []
    for course, fit, error in zip(_COURSES, fits, squares, strict=True):
        if error <= _AS_GOOD * min(squares):
            residuals = (curve.values - fit.values[0]) * math.sqrt(n / (n - 3))
            draws = rng.choice(residuals - residuals.mean(), (_RESAMPLES, n))
            resampled.append(_fit(course, x, fit.values + draws, later, ceiling).later)
    low = min(float(np.quantile(values, 0.025)) for values in resampled)
    high = max(float(np.quantile(values, 0.975)) for values in resampled)
    value = float(np.median(np.concatenate(resampled)))
    return Extrapolation(value, low, high)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """The values of curves, `[curves, n]`, and those of later, `[curves]`."""

    values: Floats
    later: Floats


def _fit(
    course: tuple[Callable[[Any, float], Any], Floats], x: Floats, values: Floats, later: float, ceiling: float
) -> _Fit:
    """Curves that level off, by least squares: the parameter of the course is tried, the rest is linear.

    Args:
      course: of `_COURSES`.
      x: `[n]`, above 0.
      values: `[curves, n]`.
      later: where the curves are continued to.
      ceiling: of the level that a curve approaches.
    """
    left, parameters = course
    least = np.full(len(values), np.inf)
    fitted, at_later = np.empty_like(values), np.empty(len(values))
    for parameter in parameters:
        basis = left(x, parameter)
        centred = basis - basis.mean()
        slope = np.minimum(values @ centred / (centred @ centred), 0.0)  # it rises, or is level
        level = values.mean(axis=1) - slope * basis.mean()
        above = level > ceiling  # then the curve below the ceiling that fits best
        slope = np.where(above, np.minimum((values - ceiling) @ basis / (basis @ basis), 0.0), slope)
        level = np.minimum(level, ceiling)
        line = level[:, np.newaxis] + slope[:, np.newaxis] * basis
        squares = ((values - line) ** 2).sum(axis=1)
        better = squares < least
        least[better], fitted[better] = squares[better], line[better]
        at_later[better] = (level + slope * left(later, parameter))[better]
    return _Fit(fitted, at_later)


# ---- What several diagnoses ask -------------------------------------------------------------------------------------

# A training that ends within so much of its last step has ended: the last evaluation or point may be a little earlier.
_END = 0.98


def has_ended(evidence: Evidence) -> bool:
    """Whether training has come to the step at which it is to end; False if that is unknown."""
    return evidence.last_step is not None and evidence.step >= _END * evidence.last_step


def share_done(evidence: Evidence) -> float:
    """The share of the training that is done; 1 if it is not known when it is to end."""
    return min(evidence.step / evidence.last_step, 1.0) if evidence.last_step else 1.0


def ap_name(evidence: Evidence) -> str:
    """The metric that a training is judged by: `AP` of boxes, or of masks where only they are evaluated."""
    return "AP" if len(evidence.metric("AP")) or not len(evidence.metric("segm_AP")) else "segm_AP"


def standard_error(result: EvaluationResult) -> float | None:
    """The standard error of AP of an evaluation, for other images of the same kind; None if it has no interval."""
    interval = result.intervals.get("AP")
    return None if interval is None else (interval[1] - interval[0]) / (2 * _NORMAL_QUANTILE)


def differs(first: EvaluationResult, second: EvaluationResult) -> float | None:
    """How much AP two evaluations must differ by so that 95% is no chance of the images.

    None if one of them has no interval. Where both are of the same images, the true limit is lower.
    """
    errors = standard_error(first), standard_error(second)
    if errors[0] is None or errors[1] is None:
        return None
    return _NORMAL_QUANTILE * math.hypot(errors[0], errors[1])
