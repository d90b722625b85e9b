"""The optimizer of a `train_config`: made, with its variables, its learning rate and its moving averages."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from object_detection.builders import optimizer_builder
from object_detection.protos import train_pb2

from od_eval.errors import ODEvalError


def build_optimizer(train_config: train_pb2.TrainConfig, model: Any, step: tf.Variable) -> Any:
    """The optimizer that a config asks for, with its schedule and its moving average.

    Args:
      train_config: says which.
      model: the `DetectionModel` whose weights are averaged.
      step: the schedule follows it.
    """
    optimizer, _ = optimizer_builder.build(train_config.optimizer, global_step=step)
    if train_config.optimizer.use_moving_average:
        optimizer.shadow_copy(model)
    return optimizer


def create_slots(optimizer: Any, variables: Sequence[tf.Variable]) -> None:
    """Makes an optimizer's variables now: replicas cannot in the loop of an execution, and restoring wants them all."""
    optimizer = getattr(optimizer, "_optimizer", optimizer)  # what a moving average is wrapped around
    if isinstance(optimizer, tf.keras.optimizers.legacy.Optimizer):
        optimizer._create_all_weights(variables)
    else:
        optimizer.build(variables)


def learning_rate_of(optimizer: Any) -> tf.Tensor:
    """The learning rate of the next step."""
    learning_rate = optimizer.learning_rate
    if isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        learning_rate = learning_rate(optimizer.iterations)
    return tf.cast(learning_rate, tf.float32)


def variables_to_train(variables: Sequence[tf.Variable], train_config: train_pb2.TrainConfig) -> list[tf.Variable]:
    """The variables without those that `freeze_variables` and `update_trainable_variables` leave out.

    Raises:
      ODEvalError: one of their patterns matches no variable.
    """
    only, frozen = train_config.update_trainable_variables, train_config.freeze_variables
    for pattern in [*only, *frozen]:
        if not any(re.match(pattern, variable.name) for variable in variables):
            raise ODEvalError(
                f"train_config.freeze_variables or update_trainable_variables: '{pattern}' matches no trainable"
                f" variable; their names look like '{variables[0].name}'."
            )
    return [
        variable
        for variable in variables
        if (not only or any(re.match(pattern, variable.name) for pattern in only))
        and not any(re.match(pattern, variable.name) for pattern in frozen)
    ]


@contextlib.contextmanager
def averaged_weights(optimizer: Any) -> Iterator[None]:
    """Inside, the weights are their moving averages; then they are what they were before, to the bit.

    Not `optimizer.swap_weights()`, which adds and subtracts, and so gives back other weights than it took.
    """
    weights, averages = optimizer._model_weights, optimizer._average_weights
    raw = [weight.numpy() for weight in weights]
    for weight, average in zip(weights, averages, strict=True):
        weight.assign(average.numpy())
    try:
        yield
    finally:
        for weight, value in zip(weights, raw, strict=True):
            weight.assign(value)
