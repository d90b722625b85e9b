"""What Keras keeps for a whole process, set while a model of the Object Detection API is built or run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tf_keras.src import backend as keras_backend


@contextlib.contextmanager
def learning_phase(training: bool) -> Iterator[None]:
    """Most layers are told by Keras that they train; DeepMAC asks Keras's global learning phase as well."""
    with keras_backend.deprecated_internal_learning_phase_scope(int(training)):
        yield


@contextlib.contextmanager
def precision(bfloat16: bool) -> Iterator[None]:
    """Layers made in here compute in bfloat16, with variables in float32, where the config asks for it."""
    before = tf.keras.mixed_precision.global_policy()
    if bfloat16:
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
