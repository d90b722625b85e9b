"""What makes one class a callback for tf_keras and for Keras 3."""

from __future__ import annotations

import functools
from typing import Any


class Callback:
    """Base of this package's callbacks.

    An instance is a `tf.keras.callbacks.Callback` of whichever Keras `tf.keras` is in this process. It is settled when
    `tf.keras` is first used; therefore a callback asks for it when it is made and not when its module is imported, and
    importing callbacks before `od_eval.odapi`, which needs tf_keras, does no harm.

    A callback works in the `fit` of the other Keras as well (`import keras` in a process where `tf.keras` is tf_keras,
    or the reverse): the two base classes have the same hooks, and what one has beyond the other is defined here.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Callback:
        return super().__new__(_with_keras_base(cls))

    def __init__(self) -> None:
        super().__init__()
        # tf_keras: hand `logs` over as the tensors they are; to make numbers of them is to wait for the device.
        self._supports_tf_logs = True

    # tf_keras asks these of every callback; Keras 3's base class has not got them.

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
def _with_keras_base(cls: type) -> type:
    import tensorflow as tf

    keras_callback = tf.keras.callbacks.Callback
    if issubclass(cls, keras_callback):  # made here before: `copy.copy` and pickle ask for it by its class
        return cls
    return type(cls.__name__, (cls, keras_callback), {"__module__": cls.__module__, "__doc__": cls.__doc__})
