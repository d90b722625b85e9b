"""The optimizer of a `train_config`, with its variables, learning rate and moving averages."""

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
    """Builds the optimizer of a config, with its schedule and moving average.

    Args:
      train_config: the config.
      model: the `DetectionModel` whose weights are averaged.
      step: the variable that the schedule follows.
    """
    optimizer, _ = optimizer_builder.build(train_config.optimizer, global_step=step)
    if train_config.optimizer.use_moving_average:
        optimizer.shadow_copy(model)
    return optimizer


def create_slots(optimizer: Any, variables: Sequence[tf.Variable]) -> None:
    """Creates an optimizer's variables: replicas cannot do so in the loop of an execution, and restoring needs all."""
    optimizer = getattr(optimizer, "_optimizer", optimizer)  # the optimizer inside a moving average
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
    """The variables that `freeze_variables` and `update_trainable_variables` leave trainable.

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
    """A context in which the weights are their moving averages; afterwards they are restored bit by bit.

    Does not use `optimizer.swap_weights()`, which adds and subtracts, and so does not restore the exact weights.
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
