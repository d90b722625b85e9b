import itertools
import math

import numpy as np
import pytest

from od_eval.findings import chance


@pytest.mark.parametrize(("num", "probability"), [(1, 0.5), (7, 0.2), (12, 0.9)])
def test_the_binomial_tails_equal_sums_of_exact_terms(num, probability):
    terms = [math.comb(num, k) * probability**k * (1 - probability) ** (num - k) for k in range(num + 1)]
    for k in range(num + 1):
        assert chance.at_least(k, num, probability) == pytest.approx(sum(terms[k:]), rel=1e-9)
        assert chance.at_most(k, num, probability) == pytest.approx(sum(terms[: k + 1]), rel=1e-9)


def test_the_binomial_tails_equal_those_of_scipy_for_large_numbers():
    binom = pytest.importorskip("scipy.stats").binom
    for k, num, probability in ((12_000, 100_000, 0.1), (3, 50_000, 0.001), (99_000, 100_000, 0.985)):
        assert chance.at_least(k, num, probability) == pytest.approx(binom.sf(k - 1, num, probability), rel=1e-6)
        assert chance.at_most(k, num, probability) == pytest.approx(binom.cdf(k, num, probability), rel=1e-6)


def test_the_test_of_two_shares_is_the_chi_square_test_without_correction():
    contingency = pytest.importorskip("scipy.stats").chi2_contingency
    for first, of_first, second, of_second in ((30, 100, 50, 100), (5, 40, 9, 60), (0, 20, 7, 300)):
        table = [[first, of_first - first], [second, of_second - second]]
        expected = contingency(table, correction=False).pvalue
        assert chance.shares_differ(first, of_first, second, of_second) == pytest.approx(expected, rel=1e-9)
    assert chance.shares_differ(1, 2, 0, 0) == chance.shares_differ(3, 3, 4, 4) == 1


def test_is_higher_counts_all_pairs_and_ties_half():
    random = np.random.default_rng(0)
    values, others = random.integers(0, 9, 40), random.integers(2, 12, 25)
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(values, others)]
    assert chance.is_higher(values, others) == pytest.approx(np.mean(pairs))
    assert math.isnan(chance.is_higher([], [1]))
