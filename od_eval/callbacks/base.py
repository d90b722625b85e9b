"""What makes one class a callback for tf_keras and for Keras 3, and what callbacks ask of the model that trains.

Any Keras model will do. One that meets `TrainedModel`, as a `Detector` does, is asked instead of guessed at.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol


class TrainedModel(Protocol):
    """What a model may say of itself; each of these is used where it is there."""

    @property
    def steps_done(self) -> int:
        """Training steps so far; otherwise those that the optimizer has counted."""

    @property
    def batch_size(self) -> int:
        """Images in a step, over all replicas; otherwise not known."""

    def checkpoint(self) -> Any:
        """The `tf.train.Checkpoint` to save; otherwise one of `model` and `optimizer`."""


class Callback:
    """Base of this package's callbacks.

    An instance is a `tf.keras.callbacks.Callback` of whichever Keras `tf.keras` is in this process. It is settled when
    `tf.keras` is first used; therefore a callback asks for it when it is made and not when its module is imported, and
    importing callbacks before `od_eval.odapi`, which needs tf_keras, does no harm.

    A callback works in the `fit` of the other Keras as well (`import keras` in a process where `tf.keras` is tf_keras,
    or the reverse): the two base classes have the same hooks, and what one has beyond the other is defined here.

    Attributes:
      keras_base: the name of the class of `tf.keras.callbacks` that an instance is one of.
    """

    keras_base = "Callback"

    if TYPE_CHECKING:  # what Keras's class has
        model: Any
        params: dict[str, Any]

        def set_model(self, model: Any) -> None: ...
        def on_train_begin(self, logs: Any = None) -> None: ...
        def on_train_end(self, logs: Any = None) -> None: ...
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None: ...
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None: ...
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> Callback:
        return super().__new__(_with_keras_base(cls))  # type: ignore[arg-type]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # tf_keras: hand `logs` over as the tensors they are; to make numbers of them is to wait for the device.
        self._supports_tf_logs = True

    # tf_keras asks these of every callback; the base class of Keras 3 does not have them.

    def _implements_train_batch_hooks(self) -> bool:
        return self._overrides("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")

    def _implements_test_batch_hooks(self) -> bool:
        return self._overrides("on_test_batch_begin", "on_test_batch_end")

    def _implements_predict_batch_hooks(self) -> bool:
        return self._overrides("on_predict_batch_begin", "on_predict_batch_end")

    def _overrides(self, *hooks: str) -> bool:
        # Both Kerases mark the empty hooks of their base class with this attribute.
        return not all(getattr(getattr(self, hook), "_is_default", False) for hook in hooks)


@functools.cache
def _with_keras_base(cls: type[Callback]) -> type:
    import tensorflow as tf

    keras_class = getattr(tf.keras.callbacks, cls.keras_base)
    if issubclass(cls, keras_class):  # made here before: `copy.copy` and pickle ask for it by its class
        return cls
    return type(cls.__name__, (cls, keras_class), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def number(value: Any) -> float:
    """Of a tensor or variable of TensorFlow, on one replica or several, or of Keras 3; or of a number."""
    return float(value.numpy() if hasattr(value, "numpy") else value)


def steps_done(model: Any, asked_by: Callback) -> int:
    """The training steps that a model has done.

    Args:
      model: that trains.
      asked_by: the callback that counts them, for the message.

    Raises:
      ValueError: neither the model nor an optimizer counts steps.
    """
    steps = getattr(model, "steps_done", None)
    if steps is None:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            name = type(asked_by).__name__
            raise ValueError(f"{name} counts optimizer steps, and this model has no optimizer: compile it with one.")
        steps = number(optimizer.iterations)
    return int(steps)


def batch_size(model: Any) -> int | None:
    """The images in a training step, where the model says it."""
    return getattr(model, "batch_size", None)


def checkpoint(model: Any) -> Any:
    """The `tf.train.Checkpoint` that is saved of a model."""
    import tensorflow as tf

    if hasattr(model, "checkpoint"):
        return model.checkpoint()
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


def writes_summaries(model: Any) -> bool:
    """Whether this process is the one that writes: of several workers, the chief alone."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy is None or strategy.extended.should_save_summary


def has_other_workers(model: Any) -> bool:
    """Whether other processes train the same model together with this one."""
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return False
    return strategy.num_replicas_in_sync > len(strategy.extended.worker_devices)
