"""How probable it is that chance alone explains a count."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

# How probable it may be that chance explains a finding. Stricter than the usual 0.05: objects of one image are alike,
# so there are fewer independent ones than are counted, and each evaluation is asked many questions.
MAX_P_VALUE = 0.001


def at_least(successes: int, num: int, probability: float) -> float:
    """The probability of so many successes, or more, in `num` independent trials (the binomial distribution).

    Args:
      successes: 0 to `num`.
      probability: of a success, above 0 and below 1.
    """
    if successes <= 0:
        return 1.0
    numbers = np.arange(successes, num + 1)
    # Logarithms, as factorials are above the largest float.
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, num + 1)))))
    logs = (
        log_factorial[num]
        - log_factorial[numbers]
        - log_factorial[num - numbers]
        + numbers * math.log(probability)
        + (num - numbers) * math.log1p(-probability)
    )
    return min(1.0, float(np.exp(logs).sum()))


def at_most(successes: int, num: int, probability: float) -> float:
    """The probability of so many successes, or fewer; see `at_least`."""
    return at_least(num - successes, num, 1 - probability)


def shares_differ(first: int, of_first: int, second: int, of_second: int) -> float:
    """The probability of two shares that differ so much, either way, if they were samples of the same one.

    The z-test of two proportions with a pooled variance; 1 where there is nothing to compare.
    """
    if not of_first or not of_second:
        return 1.0
    pooled = (first + second) / (of_first + of_second)
    variance = pooled * (1 - pooled) * (1 / of_first + 1 / of_second)
    if variance <= 0:
        return 1.0
    return math.erfc(abs(first / of_first - second / of_second) / math.sqrt(2 * variance))


def is_higher(values: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """The probability that one of `values`, drawn by chance, is higher than one of `others`; equal ones count half.

    It is the area under the ROC curve: 0.5 if the two are distributed alike, 1 if all are higher. NaN if one is empty.
    """
    first, second = np.asarray(values, np.float64), np.sort(np.asarray(others, np.float64))
    if not len(first) or not len(second):
        return math.nan
    below = np.searchsorted(second, first, "left") + np.searchsorted(second, first, "right")
    return float(below.mean() / (2 * len(second)))
