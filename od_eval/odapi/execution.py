"""Executions: several training steps in one call of a `tf.function`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from od_eval import losses as loss_names
from od_eval.errors import ODEvalError
from od_eval.odapi.record_ids import ids_in

# (iterator of a dataset, number of steps) -> (names of values, values: float32 [steps, names], for each step the ids of
# the records in its batch: int32 [batch], of this worker).
Execution = Callable[[Iterator[Any], tf.Tensor], tuple[list[str], np.ndarray, list[np.ndarray]]]

# The seconds that a step waited for its batch.
INPUT_WAIT = "input_wait"


class NonFiniteLossError(ODEvalError):
    """A loss became infinite or NaN: the weights are lost.

    Attributes:
      step: the step at which it happened, counted from 1.
      values: the values of that step: native loss names, `gradient_norm`, `learning_rate`.
    """

    def __init__(self, step: int, values: Mapping[str, float]):
        self.step = step
        self.values = dict(values)
        listed = ", ".join(f"{name.removeprefix('Loss/')} {value:.6g}" for name, value in values.items())
        super().__init__(
            f"the loss is not finite at step {step} ({listed}); lower the learning rate, lengthen its warm-up or set"
            " train_config.gradient_clipping_by_norm, and look for boxes without area in the data."
        )


def make_execution(
    step: Callable[[Any], Mapping[str, tf.Tensor]],
    strategy: tf.distribute.Strategy,
    should_summarize: Callable[[], tf.Tensor] | bool,
) -> Execution:
    """Combines several calls of a step into one.

    Args:
      step: the function of one replica: element of the dataset -> scalars by name.
      strategy: the strategy under which the step runs.
      should_summarize: whether a step may write summaries.

    Returns:
      A function from an iterator and a number of steps to names, values and ids of records; values are summed over
      replicas, but for `INPUT_WAIT`, which is added to them unless operations are deterministic.
    """
    names: list[str] = []
    # Of deterministic operations, none tells the time.
    is_timed = not is_op_determinism_enabled()

    def run_step(data: Any) -> tuple[tf.Tensor, tf.Tensor]:
        values = step(data)
        names[:] = values  # known when the step is traced
        return tf.stack([tf.cast(value, tf.float32) for value in values.values()]), ids_in(data)

    # One loop with one call of the step, so that the step is traced once.
    def run(iterator: Iterator[Any], num_steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def body(done: tf.Tensor, *arrays: tf.TensorArray) -> tuple[tf.Tensor, ...]:
            batch, waited = _timed_next(iterator) if is_timed else (next(iterator), tf.constant(0.0))
            of_replicas, ids_of_replicas = strategy.run(run_step, args=(batch,))
            of_batch = strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas, axis=None)
            of_batch = tf.concat((of_batch, [waited]), axis=0)
            ids = tf.concat(strategy.experimental_local_results(ids_of_replicas), axis=0)
            index = tf.cast(done, tf.int32)
            results = (of_batch, ids, tf.size(ids))
            return done + 1, *(array.write(index, one) for array, one in zip(arrays, results, strict=True))

        arrays = [
            tf.TensorArray(dtype, size=tf.cast(num_steps, tf.int32), infer_shape=False)
            for dtype in (tf.float32, tf.int32, tf.int32)
        ]
        with tf.summary.record_if(should_summarize):
            _, values, ids, batch_sizes = tf.while_loop(
                lambda done, *_: done < num_steps, body, (tf.zeros_like(num_steps), *arrays), parallel_iterations=1
            )
        return values.stack(), ids.concat(), batch_sizes.stack()  # the last batch of a pass may be smaller

    # With AutoGraph, tracing takes two to three times as long, and only DeepMAC is known to need it.
    quickly = tf.function(run, autograph=False, reduce_retracing=True)
    with_autograph = tf.function(run, autograph=True, reduce_retracing=True)

    def execute(iterator: Iterator[Any], num_steps: tf.Tensor) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
        nonlocal quickly
        try:
            values, ids, batch_sizes = quickly(iterator, num_steps)
        except tf.errors.OperatorNotAllowedInGraphError:  # while tracing, before any step: `if tensor:`
            quickly = with_autograph
            values, ids, batch_sizes = with_autograph(iterator, num_steps)
        values = values.numpy()
        ids_of_steps = np.split(ids.numpy(), np.cumsum(batch_sizes.numpy())[:-1])
        if not is_timed:
            return names, values[:, :-1], ids_of_steps
        # In later steps of an execution, a GPU may still be computing while the next batch is waited for.
        values[1:, -1] = values[0, -1]
        return [*names, INPUT_WAIT], values, ids_of_steps

    return execute


def _timed_next(iterator: Iterator[Any]) -> tuple[Any, tf.Tensor]:
    """The next batch, and the seconds it took to come."""
    before = tf.timestamp()
    with tf.control_dependencies([before]):
        batch = next(iterator)
    with tf.control_dependencies([tf.nest.flatten(batch, expand_composites=True)[0]]):
        after = tf.timestamp()
    return batch, tf.cast(after - before, tf.float32)


def check_finite(names: Sequence[str], values: np.ndarray, last_step: int) -> None:
    """Checks that all losses are finite.

    Args:
      names, values: the results of an execution.
      last_step: its last step.

    Raises:
      NonFiniteLossError: with the first step that has a loss that is not finite.
    """
    losses = [column for column, name in enumerate(names) if name.startswith("Loss/")]
    broken = np.flatnonzero(~np.isfinite(values[:, losses]).all(axis=1))
    if broken.size:
        first = int(broken[0])
        step = last_step - len(values) + first + 1
        of_step = dict(zip(names, values[first].tolist(), strict=True))
        raise NonFiniteLossError(step, {name: value for name, value in of_step.items() if name != INPUT_WAIT})


def logs_of(values: Mapping[str, float]) -> dict[str, float]:
    """Converts the values of a step to Keras's logs."""
    native = {name: value for name, value in values.items() if name.startswith("Loss/")}
    logs = {**loss_names.categorize(native), **native}
    return logs | {name: values[name] for name in ("gradient_norm", INPUT_WAIT) if name in values}
