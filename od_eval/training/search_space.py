"""What a search tries: values of fields of a pipeline.config, and how the next ones are chosen.

tried = [parse("train_config.batch_size=4,8"), parse("….learning_rate_base=0.001..0.1 log")]
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from od_eval.errors import ODEvalError
from od_eval.text import short

_EXAMPLES = "train_config.batch_size=4,8 or eval_config.num_examples=1..100"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(\s+log)?")
_WHOLE = re.compile(r"[-+]?\d+")
_CLOSES = {"]": "[", "}": "{", ")": "("}
# Values drawn until one is new, before it is looked up whether there are any.
_MOST_DRAWS = 50
# Whole numbers of a range that are looked through for one that is new; more of them are never tried.
_MOST_CHOICES = 10_000


@dataclasses.dataclass(frozen=True)
class Listed:
    """A field with the values to try, as they are written in `--set`."""

    field: str
    values: tuple[str, ...]

    def draw(self, generator: np.random.Generator) -> str:
        """One of the values, each as likely."""
        return self.values[generator.integers(len(self.values))]

    def choices(self) -> Sequence[str]:
        """All values."""
        return self.values

    def examples(self) -> Sequence[str]:
        """Values of which each has to fit the field."""
        return self.values


@dataclasses.dataclass(frozen=True)
class Ranged:
    """A field with a range of numbers, both ends included.

    is_log: whether its logarithm is uniform. is_whole: whether only whole numbers are tried.
    """

    field: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    def draw(self, generator: np.random.Generator) -> str:
        """A number of the range, uniform, or uniform in its logarithm."""
        # Whole numbers are rounded from half a number beyond the ends, so that the ends are as likely as the others.
        half = 0.5 if self.is_whole else 0.0
        low, high = self.low - half, self.high + half
        drawn = (
            math.exp(generator.uniform(math.log(low), math.log(high))) if self.is_log else generator.uniform(low, high)
        )
        return self.written(drawn)

    def written(self, number: float) -> str:
        """A number of the range as text: four digits are enough to tell trials apart."""
        if self.is_whole:
            return str(int(min(max(round(number), self.low), self.high)))
        return repr(min(max(float(f"{number:.4g}"), self.low), self.high))

    def choices(self) -> Sequence[str]:
        """All values; none if there are too many."""
        if not self.is_whole or self.high - self.low >= _MOST_CHOICES:
            return ()
        return [str(number) for number in range(int(self.low), int(self.high) + 1)]

    def examples(self) -> Sequence[str]:
        """Values of which each has to fit the field."""
        return tuple(map(self.written, (self.low, (self.low + self.high) / 2, self.high)))


Tried = Listed | Ranged
Values = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A trial of the past, from which `bayes` learns.

    values: field -> value. curve: step -> value of the metric. best: the best of it; None if there is none.
    state: `finished`; `ended`, because others were better; `failed`.
    """

    values: Values
    curve: Mapping[int, float]
    best: float | None
    state: Literal["finished", "ended", "failed"]


def parse(text: str) -> Tried:
    """Reads `field=a,b,c` or `field=low..high`, a range of whole numbers if both are whole, with ` log` behind it.

    Commas in brackets and quotes do not separate values: `train_config.data_augmentation_options=[],[{…}, {…}]`.

    Raises:
      ODEvalError: the text is neither, or the range is none.
    """
    field, equals, rest = (part.strip() for part in text.partition("="))
    if not field or not equals or not rest:
        raise ODEvalError(f"try={short(text)} is no field with values; write it like {_EXAMPLES}.")
    match = _RANGE.fullmatch(rest)
    if match is None:
        values = _split(rest)
        if values is None or not all(values):
            raise ODEvalError(f"try={short(text)}: a value is empty or a bracket or quote has no end; correct it.")
        if len(set(values)) < len(values):
            raise ODEvalError(f"try={short(text)}: a value is given twice; remove one of them.")
        return Listed(field, tuple(values))
    low, high, is_log = float(match[1]), float(match[2]), bool(match[3])
    if not low < high < math.inf:
        raise ODEvalError(f"try={short(text)}: {match[1]} is not below {match[2]}; correct one of them.")
    if is_log and low <= 0:
        raise ODEvalError(
            f"try={short(text)}: a log scale has only numbers above 0, and the range begins at {match[1]}."
        )
    return Ranged(field, low, high, is_log, all(_WHOLE.fullmatch(match[end]) for end in (1, 2)))


def _split(text: str) -> list[str] | None:
    """The parts between commas that are in no brackets or quotes; None if one of these has no end."""
    parts, opened, quote, escaped = [""], "", "", False
    for char in text:
        if escaped or (quote and char == "\\"):
            escaped = not escaped
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[{(":
            opened += char
        elif char in _CLOSES:
            if opened[-1:] != _CLOSES[char]:
                return None
            opened = opened[:-1]
        elif char == "," and not opened:
            parts.append("")
            continue
        parts[-1] += char
    return None if opened or quote else [part.strip() for part in parts]


def grid(tried: Sequence[Tried]) -> Iterator[dict[str, str]]:
    """All combinations, the last field changing first.

    Raises:
      ODEvalError: a field has a range, of which there is no end of values.
    """
    listed = [one for one in tried if isinstance(one, Listed)]
    for one in tried:
        if one not in listed:
            raise ODEvalError(
                f"method=grid needs a list of values, and try={short(one.field)} is a range; list some of it."
            )
    for values in itertools.product(*(one.values for one in listed)):
        yield {one.field: value for one, value in zip(listed, values, strict=True)}


def next_values(
    method: str,
    tried: Sequence[Tried],
    past: Sequence[Outcome],
    known: Sequence[Values],
    number: int,
    seed: int,
    mode: str,
) -> dict[str, str] | None:
    """The values of the next trial.

    They depend on the arguments alone, so that a search that is started again goes on as if it had not been stopped.

    Args:
      method: `grid`; `random`; `bayes`, Optuna's tree-structured Parzen estimator (TPE).
      tried: the fields.
      past: the trials that are over.
      known: the values of all trials there are; none of them is tried again.
      number: of the trial, from 1.
      seed: of the search.
      mode: `min` or `max`: what is better.

    Returns:
      Field -> value; None if all there are have been tried.

    Raises:
      ODEvalError: `grid` with a range, or `bayes` without Optuna.
    """
    tested = [dict(values) for values in known]
    if method == "grid":
        return next((values for values in grid(tried) if values not in tested), None)
    for draw in range(_MOST_DRAWS):
        generator = np.random.default_rng([seed, number, draw])
        if method == "bayes" and draw == 0:
            values = _bayes(tried, past, int(generator.integers(2**32)), mode)
        else:
            values = {one.field: one.draw(generator) for one in tried}
        if values not in tested:
            return values
    choices = [one.choices() for one in tried]
    combinations = itertools.product(*choices) if all(choices) else iter(())
    every = ({one.field: value for one, value in zip(tried, chosen, strict=True)} for chosen in combinations)
    return next((values for values in every if values not in tested), None)


def check_method(method: str, tried: Sequence[Tried]) -> None:
    """Raises an `ODEvalError` if a method cannot be used: `grid` with a range, or `bayes` without Optuna."""
    if method == "grid":
        next(grid(tried))
    if method == "bayes":
        _optuna()


def _optuna():  # type: ignore[no-untyped-def]  # a module, and an optional one
    try:
        import optuna
    except ImportError as error:
        raise ODEvalError(
            'method=bayes needs Optuna, which is not installed; run: pip install "od_eval[search]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _bayes(tried: Sequence[Tried], past: Sequence[Outcome], seed: int, mode: str) -> dict[str, str]:
    """What Optuna proposes. It is told everything anew for each trial, so that there is no state to be kept."""
    optuna = _optuna()
    distributions = {one.field: _distribution(optuna, one) for one in tried}
    study = optuna.create_study(
        direction="minimize" if mode == "min" else "maximize", sampler=optuna.samplers.TPESampler(seed=seed)
    )
    states = {
        "finished": optuna.trial.TrialState.COMPLETE,
        "ended": optuna.trial.TrialState.PRUNED,
        "failed": optuna.trial.TrialState.FAIL,
    }
    for trial in past:
        study.add_trial(
            optuna.trial.create_trial(
                params={one.field: _parameter(one, trial.values[one.field]) for one in tried},
                distributions=distributions,
                state=states[trial.state],
                value=trial.best if trial.state == "finished" else None,
                intermediate_values=dict(trial.curve),
            )
        )
    proposed = study.ask(distributions).params
    return {
        one.field: one.written(proposed[one.field]) if isinstance(one, Ranged) else proposed[one.field] for one in tried
    }


def _distribution(optuna, one: Tried):  # type: ignore[no-untyped-def]
    if isinstance(one, Listed):
        return optuna.distributions.CategoricalDistribution(one.values)
    if one.is_whole:
        return optuna.distributions.IntDistribution(int(one.low), int(one.high), log=one.is_log)
    return optuna.distributions.FloatDistribution(one.low, one.high, log=one.is_log)


def _parameter(one: Tried, text: str) -> str | int | float:
    if isinstance(one, Listed):
        return text
    return int(text) if one.is_whole else float(text)
