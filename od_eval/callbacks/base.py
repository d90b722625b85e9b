"""The base class that works with tf_keras and with Keras 3, and what callbacks ask of the model being trained.

Any Keras model will do. A model that implements `TrainedModel`, like a `Detector`, is asked instead of guessed at.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Protocol

from od_eval.findings.config_facts import ConfigFacts


class TrainedModel(Protocol):
    """What a model may report about itself; every member is optional."""

    @property
    def steps_done(self) -> int:
        """Training steps so far. Without it, the optimizer's count is used."""

    @property
    def batch_size(self) -> int:
        """Images per step, over all replicas. Without it, the batch size is unknown."""

    @property
    def num_train_images(self) -> int | None:
        """Images in the training data. Without it, their number is unknown."""

    @property
    def config_facts(self) -> ConfigFacts | None:
        """What is known of its pipeline.config, for diagnoses. Without it, nothing is."""

    def checkpoint(self) -> Any:
        """The `tf.train.Checkpoint` to save. Without it, one of `model` and `optimizer` is made."""


class Callback:
    """Base class of this package's callbacks.

    An instance is a `tf.keras.callbacks.Callback` of whichever Keras `tf.keras` is in this process. That is decided
    when `tf.keras` is first used. Therefore a callback looks it up when it is created, not when its module is imported,
    and callbacks can be imported before `od_eval.odapi`, which needs tf_keras.

    A callback also works in the `fit` of the other Keras (`import keras` in a process where `tf.keras` is tf_keras, or
    the reverse): the two base classes have the same hooks, and whatever only one of them has is defined here.

    Attributes:
      keras_base: the name of the class in `tf.keras.callbacks` that instances inherit from.
    """

    keras_base = "Callback"

    if TYPE_CHECKING:  # attributes of Keras's class
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
        # tf_keras: pass `logs` as tensors; converting them to numbers means waiting for the device.
        self._supports_tf_logs = True

    @property
    def model(self) -> Any:
        """The model being trained, with its values as of the last step: see `with_current_values`."""
        return with_current_values(self._model)

    @model.setter
    def model(self, model: Any) -> None:  # tf_keras assigns it; Keras 3 assigns `_model`
        self._model = model

    # tf_keras calls these on every callback; the base class of Keras 3 does not have them.

    def _implements_train_batch_hooks(self) -> bool:
        return self._overrides("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")

    def _implements_test_batch_hooks(self) -> bool:
        return self._overrides("on_test_batch_begin", "on_test_batch_end")

    def _implements_predict_batch_hooks(self) -> bool:
        return self._overrides("on_predict_batch_begin", "on_predict_batch_end")

    def _overrides(self, *hooks: str) -> bool:
        # Both versions of Keras mark the empty hooks of their base class with this attribute.
        return not all(getattr(getattr(self, hook), "_is_default", False) for hook in hooks)


@functools.cache
def _with_keras_base(cls: type[Callback]) -> type:
    import tensorflow as tf

    keras_class = getattr(tf.keras.callbacks, cls.keras_base)
    if issubclass(cls, keras_class):  # created here earlier: `copy.copy` and pickle pass the derived class
        return cls
    _leave_gpus_to_other_backends(keras_class)
    return type(cls.__name__, (cls, keras_class), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def _leave_gpus_to_other_backends(keras_class: type) -> None:
    """TensorFlow, which writes the summaries, would take the memory of all GPUs that JAX or torch trains on."""
    import tensorflow as tf

    keras = sys.modules.get("keras")
    if keras is None or not issubclass(keras_class, keras.callbacks.Callback):  # `tf.keras` is tf_keras
        return
    if keras.config.backend() == "tensorflow":
        return
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:  # it has begun to use its devices
        if tf.config.get_visible_devices("GPU"):
            print(
                f"note: TensorFlow has taken GPU memory beside {keras.config.backend()}: call"
                ' tf.config.set_visible_devices([], "GPU") before anything else of TensorFlow.',
                file=sys.stderr,
            )


def number(value: Any) -> float:
    """The value as a float. It may be a tensor or variable, of TensorFlow (on any number of replicas) or of Keras 3."""
    # Tensors of torch have `item`, too, and `numpy` fails for one on a GPU.
    return float(value.numpy() if hasattr(value, "numpy") and not hasattr(value, "item") else value)


def keras_3(model: Any) -> Any:
    """The module `keras` if it is Keras 3 that made the model, otherwise None.

    Whoever has made one has imported it. It is not imported here: beside tf_keras nobody needs it.
    """
    keras = sys.modules.get("keras")
    return keras if keras is not None and isinstance(model, keras.Model) else None


def with_current_values(model: Any) -> Any:
    """The model; on JAX, with the values as of the last step.

    There, Keras 3 keeps all values outside the model during an epoch, and metrics and variables cannot be read. This
    puts them back, as the `model` of Keras 3's own callbacks does. It takes time, so a hook of every step should read
    the model only when it needs it.
    """
    if type(model).__name__ == "DistributedDataParallel":  # of torch: the model is inside
        return model.module
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    return model


def has_graph_with_summaries(model: Any) -> bool:
    """Whether summaries in the model's step, once traced, keep writing to the writer that they were traced with."""
    keras = keras_3(model)
    return keras is None or keras.config.backend() == "tensorflow"


def steps_done(model: Any, asked_by: Callback) -> int:
    """The number of training steps the model has done.

    Args:
      model: the model being trained.
      asked_by: the callback that needs the number, for the message.

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
    """The number of images per training step, if the model reports it."""
    return getattr(model, "batch_size", None)


def num_train_images(model: Any) -> int | None:
    """The number of images in the training data, if the model reports it."""
    return getattr(model, "num_train_images", None)


def config_facts(model: Any) -> ConfigFacts | None:
    """What is known of the model's pipeline.config, if the model reports it."""
    return getattr(model, "config_facts", None)


def checkpoint(model: Any) -> Any:
    """The `tf.train.Checkpoint` that is saved for a model."""
    import tensorflow as tf

    if hasattr(model, "checkpoint"):
        return model.checkpoint()
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


def strategy_of(model: Any) -> Any:
    """The `tf.distribute` strategy of a model; None of a model of another backend than TensorFlow."""
    return getattr(model, "distribute_strategy", None)


def writes_summaries(model: Any) -> bool:
    """Whether this process writes files: with several workers, only the chief does."""
    strategy = strategy_of(model)
    return strategy is None or strategy.extended.should_save_summary
