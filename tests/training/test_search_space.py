"""What a search tries: how it is written, and how the next values are chosen."""

import collections
import itertools
import math
import sys

import numpy as np
import pytest

from od_eval.errors import ODEvalError
from od_eval.training.search_space import Listed, Outcome, Ranged, check_method, grid, next_values, parse

RATE = parse("rate=0.001..0.1 log")
SIZE = parse("size=1..8")


@pytest.mark.parametrize(
    ("text", "tried"),
    [
        ("a.b=4,8", Listed("a.b", ("4", "8"))),
        ("a=4", Listed("a", ("4",))),
        ("a=[], [{f {x: 1, y: 2}}, {g {}}]", Listed("a", ("[]", "[{f {x: 1, y: 2}}, {g {}}]"))),
        ("a='x,y',\"]\"", Listed("a", ("'x,y'", '"]"'))),
        ("a=../x,../y", Listed("a", ("../x", "../y"))),
        ("a=1..8", Ranged("a", 1, 8, False, True)),
        ("a=1..8 log", Ranged("a", 1, 8, True, True)),
        ("a=1..8.", Ranged("a", 1, 8, False, False)),
        ("a=-.5..1e-3", Ranged("a", -0.5, 0.001, False, False)),
        ("a=1e-5..0.1  log", Ranged("a", 1e-5, 0.1, True, False)),
    ],
)
def test_lists_and_ranges_are_read(text, tried):
    assert parse(text) == tried


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "no field with values; write it like train_config.batch_size=4,8"),
        ("=4,8", "no field with values"),
        ("a=", "no field with values"),
        ("a=4,,8", "a value is empty"),
        ("a=[4,8", "has no end"),
        ("a='4,8", "has no end"),
        ("a={4]", "has no end"),
        ("a=4,8,4", "given twice"),
        ("a=8..4", "8 is not below 4"),
        ("a=4..4", "4 is not below 4"),
        ("a=0..4 log", "the range begins at 0"),
        ("a=1..1e999", "is not below"),
    ],
)
def test_what_is_neither_is_refused_in_a_sentence(text, words):
    with pytest.raises(ODEvalError, match=words):
        parse(text)


def test_a_grid_has_all_combinations_and_needs_lists():
    tried = [parse("a=1,2"), parse("b=x,y,z")]
    assert [tuple(values.values()) for values in grid(tried)] == list(itertools.product("12", "xyz"))
    with pytest.raises(ODEvalError, match="method=grid needs a list of values, and try='size' is a range"):
        check_method("grid", [tried[0], SIZE])


def test_draws_are_uniform_or_uniform_in_their_logarithm_and_within_the_range():
    generator = np.random.default_rng(1)
    rates = np.array([float(RATE.draw(generator)) for _ in range(2000)])
    assert 0.001 <= rates.min() < 0.0011
    assert 0.09 < rates.max() <= 0.1
    # Of the decades from 0.001 and from 0.01 each has half: 1,000 with a standard deviation of 22.
    assert abs((rates < 0.01).sum() - 1000) < 90
    sizes = collections.Counter(SIZE.draw(generator) for _ in range(4000))
    assert set(sizes) == set("12345678")
    assert max(abs(count - 500) for count in sizes.values()) < 85  # four standard deviations
    whole = parse("a=1..100 log")
    below_10 = sum(int(whole.draw(generator)) < 10 for _ in range(2000))
    expected = 2000 * math.log(9.5 / 0.5) / math.log(100.5 / 0.5)
    assert abs(below_10 - expected) < 90


def choose(method, tried, past=(), known=None, number=1, seed=7, mode="max"):
    known = [outcome.values for outcome in past] if known is None else known
    return next_values(method, tried, past, known, number, seed, mode)


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_choices_depend_on_seed_and_number_alone(method):
    if method == "bayes":
        pytest.importorskip("optuna")
    assert choose(method, [RATE, SIZE]) == choose(method, [RATE, SIZE])
    assert choose(method, [RATE, SIZE]) != choose(method, [RATE, SIZE], number=2)
    assert choose(method, [RATE, SIZE]) != choose(method, [RATE, SIZE], seed=8)


@pytest.mark.parametrize(("method", "first"), [("grid", "a=1,2"), ("random", "a=1,2"), ("random", "a=1..2")])
def test_no_values_are_tried_twice_and_when_there_are_no_more_none_are_chosen(method, first):
    tried = [parse(first), parse("b=x,y")]
    known = []
    for number in range(1, 5):
        known.append(choose(method, tried, known=known, number=number))
    assert len({tuple(values.values()) for values in known}) == 4
    assert choose(method, tried, known=known, number=5) is None


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_bayes_learns_where_the_good_values_are(mode, sign):
    pytest.importorskip("optuna")
    tried = [parse("rate=0.0001..1.0 log"), parse("kind=a,b")]
    late = []
    for seed in range(3):
        past = []
        for number in range(1, 31):
            values = choose("bayes", tried, past, number=number, seed=seed, mode=mode)
            distance = abs(math.log10(float(values["rate"])) + 2)
            past.append(Outcome(values, {10: sign * distance}, sign * distance, "finished" if number % 3 else "ended"))
            late += [distance] if number > 20 else []
    # The mean of random draws is 1, of 30 of them with a standard deviation of 0.105.
    assert np.mean(late) < 0.6


def test_trials_that_failed_do_not_stop_bayes():
    pytest.importorskip("optuna")
    failed = Outcome({"rate": "0.01", "size": "3"}, {}, None, "failed")
    ended = Outcome({"rate": "0.02", "size": "4"}, {5: 0.1}, 0.1, "ended")
    assert choose("bayes", [RATE, SIZE], [failed, ended]) is not None


def test_without_optuna_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ODEvalError, match=r'run: pip install "od_eval\[search\]"'):
        check_method("bayes", [RATE])
