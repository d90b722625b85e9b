"""Learning rates that the pipeline.config has no words for: cyclical, one-cycle, lower on a plateau, and a range test.

    detector.fit(…, callbacks=[LearningRate(one_cycle(high=0.08, num_steps=5000)), LossLogger("runs/a")])

They set the rate of the optimizer that the model is compiled with, so the curve `learning_rate` shows it. They depend
on the step and on recorded evaluations alone: training that continues has the rate that it would have had.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from od_eval.callbacks.base import Callback, number, steps_done
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.callbacks.early_stopping import is_evaluated, logs_so_far
from od_eval.errors import ODEvalError
from od_eval.evaluation.better import direction, is_better

# Of Smith & Topin, Super-Convergence, 2019, as PyTorch's OneCycleLR has them.
_WARM_UP = 0.3
_START = 1 / 25
_END = 1e-4
# A range test ends when the smoothed loss is so many times its lowest.
_DIVERGED = 4.0
# Of the exponential moving average of the losses in a range test.
_SMOOTHING = 0.95
# With fewer points a range test says nothing.
_FEWEST_POINTS = 20

Rate = Callable[[int], float]


def cyclical(low: float, high: float, period: int) -> Rate:
    """A rate that rises and falls in straight lines, once in `period` steps (Smith, Cyclical Learning Rates, 2017)."""

    def rate(step: int) -> float:
        part = (step % period) / period
        return low + (high - low) * (1 - abs(2 * part - 1))

    return rate


def one_cycle(high: float, num_steps: int) -> Rate:
    """A rate that rises from a 25th of `high` to `high` in 30% of the steps, and then falls to a 10,000th of its start.

    Both in the form of half a cosine; see Smith & Topin, Super-Convergence, 2019.
    """
    top = max(round(_WARM_UP * num_steps), 1)

    def rate(step: int) -> float:
        if step < top:
            return _cosine(high * _START, high, step / top)
        return _cosine(high, high * _START * _END, (step - top) / max(num_steps - top, 1))

    return rate


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(part, 1.0))) / 2


class LearningRate(Callback):
    """Sets the learning rate before each call of the training function.

    With several steps per execution, all steps of one have the rate of its first.

    Args:
      rate: the number of steps done -> the rate of the next one.
    """

    def __init__(self, rate: Rate):
        super().__init__()
        self._rate = rate
        self._set: Callable[[float], None] | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._set is None:  # a `fit` that continues keeps the variable: the traced step knows it
            self._set = _settable_rate(self.model)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        assert self._set is not None
        self._set(self._rate(steps_done(self.model, self)))


class ReduceOnPlateau(Callback):
    """Multiplies the learning rate of the optimizer's own schedule by a factor when a metric stops improving.

    Put it after the callbacks that evaluate. Evaluations that earlier processes recorded count as well.

    Args:
      evaluations: the callbacks that evaluate.
      monitor: a key of `logs`: `val_AP`.
      factor: between 0 and 1.
      patience: evaluations without improvement before each reduction.
      say: what a reduction is told with.
    """

    def __init__(
        self,
        evaluations: Iterable[DetectionEvaluation],
        *,
        monitor: str,
        factor: float = 0.1,
        patience: int = 5,
        say: Callable[[str], None] = print,
    ):
        super().__init__()
        self._evaluations = list(evaluations)
        self._monitor = monitor
        self._reduction = factor
        self._patience = patience
        self._say = say
        self._set: Callable[[float], None] | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._set is None:
            self._set = _settable_factor(self.model)
        self._factor, self._without = 1.0, 0
        self._best: float | None = None
        for earlier in logs_so_far(self._evaluations, steps_done(self.model, self)):
            self._count(earlier)
        self._set(self._factor)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        assert self._set is not None
        if not is_evaluated(self._monitor, logs or {}, self._evaluations, steps_done(self.model, self)):
            return
        before = self._factor
        self._count(logs or {})
        if self._factor != before:
            self._set(self._factor)
            self._say(
                f"{self._monitor} has not improved for {self._patience} evaluations: the learning rate is now"
                f" {self._factor:.3g} times that of the schedule."
            )

    def _count(self, logs: Mapping[str, Any]) -> None:
        if self._monitor not in logs:
            return
        value = logs[self._monitor]
        if self._best is None or is_better(value, self._best, direction(self._monitor)):
            self._best, self._without = value, 0
            return
        self._without += 1
        if self._without >= self._patience:
            self._factor *= self._reduction
            self._without = 0


@dataclasses.dataclass(frozen=True)
class SuggestedRate:
    """What a range test found.

    rate: to train with, as the highest rate: a tenth of that at which the loss was lowest.
    fastest: where the loss fell fastest. lowest: where it was lowest. num_steps: that were made.
    """

    rate: float
    fastest: float
    lowest: float
    num_steps: int

    def __str__(self) -> str:
        return (
            f"The loss fell fastest at a learning rate of {self.fastest:.2g} and was lowest at {self.lowest:.2g}"
            f" ({self.num_steps} steps): try {self.rate:.2g} as the highest rate."
        )


class RangeTest(LearningRate):
    """Raises the learning rate step by step until the loss grows, ends training, and suggests a rate.

    (Smith, Cyclical Learning Rates, 2017.) The weights are of no use afterwards.

    Args:
      low, high: the first and the last rate, which grows by the same factor at each step.
      num_steps: from one to the other; training ends after them, or when the loss is four times its lowest.

    Attributes:
      suggested: what was found; None before the end, or if there is too little to tell: fewer than 20 steps, or a loss
        that never fell.
    """

    def __init__(self, low: float = 1e-6, high: float = 1.0, num_steps: int = 200):
        super().__init__(lambda step: low * (high / low) ** ((step - self._first) / max(num_steps - 1, 1)))
        self._num_steps = num_steps
        self.suggested: SuggestedRate | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._first = steps_done(self.model, self)
        self._rates: list[float] = []
        self._losses: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        super().on_train_batch_begin(batch, logs)
        self._rates.append(self._rate(steps_done(self.model, self)))

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = logs or {}
        loss = number(logs["Loss/total_loss"] if "Loss/total_loss" in logs else logs["loss"])
        self._losses.append(loss)
        smoothed = _smoothed(self._losses)
        diverged = not math.isfinite(loss) or smoothed[-1] > _DIVERGED * smoothed.min()
        if diverged or steps_done(self.model, self) - self._first >= self._num_steps:
            self.model.stop_training = True

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.suggested = suggested_rate(self._rates, self._losses)


def suggested_rate(rates: Iterable[float], losses: Iterable[float]) -> SuggestedRate | None:
    """The learning rate that a range test suggests.

    Args:
      rates, losses: of each step, the rates ascending.

    Returns:
      None if there are fewer than 20 finite losses, or the loss never fell.
    """
    points = [(rate, loss) for rate, loss in zip(rates, losses, strict=False) if math.isfinite(loss)]
    if len(points) < _FEWEST_POINTS:
        return None
    log_rates = np.log([rate for rate, _ in points])
    smoothed = _smoothed([loss for _, loss in points])
    # The first losses are smoothed over few.
    start = len(points) // 10
    lowest = start + int(np.argmin(smoothed[start:]))
    slope = np.gradient(smoothed, log_rates)[start : lowest + 1]
    if lowest <= start or slope.min() >= 0:
        return None
    fastest = start + int(np.argmin(slope))
    return SuggestedRate(
        rate=math.exp(log_rates[lowest]) / 10,
        fastest=math.exp(log_rates[fastest]),
        lowest=math.exp(log_rates[lowest]),
        num_steps=len(points),
    )


def _smoothed(losses: Iterable[float]) -> np.ndarray:
    """An exponential moving average without bias towards its start."""
    average, values = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        values.append(average / (1 - _SMOOTHING**count))
    return np.array(values)


# ---- The optimizer --------------------------------------------------------------------------------------------------


def _settable_rate(model: Any) -> Callable[[float], None]:
    """Takes over the learning rate of a model's optimizer; returns what sets it."""
    optimizer = _inner(model)
    if not hasattr(optimizer, "_hyper"):
        return _setter_of_keras(optimizer)
    variable = _variable(model, number(_value(optimizer)))
    optimizer.learning_rate = lambda: variable
    return variable.assign


def _settable_factor(model: Any) -> Callable[[float], None]:
    """Multiplies the learning rate of a model's optimizer, whatever its schedule, by what is set."""
    optimizer = _inner(model)
    if not hasattr(optimizer, "_hyper"):
        base, set_rate = number(optimizer.learning_rate), _setter_of_keras(optimizer)
        return lambda factor: set_rate(base * factor)
    own, variable = optimizer._hyper["learning_rate"], _variable(model, 1.0)
    optimizer.learning_rate = lambda: variable * _called(own, optimizer)
    return variable.assign


def _inner(model: Any) -> Any:
    """The optimizer; inside a moving average of weights."""
    return getattr(model.optimizer, "_optimizer", model.optimizer)


def _value(optimizer: Any) -> Any:
    return _called(optimizer._hyper["learning_rate"], optimizer)


def _called(rate: Any, optimizer: Any) -> Any:
    """The value of a learning rate: a schedule of Keras takes the step, the Object Detection API's takes nothing."""
    if hasattr(rate, "get_config") and callable(rate):
        return rate(optimizer.iterations)
    return rate() if callable(rate) else rate


def _variable(model: Any, value: float) -> Any:
    import tensorflow as tf

    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        return tf.Variable(
            value, trainable=False, dtype=tf.float32, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )


def _setter_of_keras(optimizer: Any) -> Callable[[float], None]:
    def set_rate(rate: float) -> None:
        try:
            optimizer.learning_rate = rate
        except TypeError as error:
            raise ODEvalError(
                "the optimizer has a schedule of its own, which Keras does not let anybody change; compile the model"
                " with a number as learning_rate."
            ) from error

    return set_rate
