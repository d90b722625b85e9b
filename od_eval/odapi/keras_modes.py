"""Process-wide settings of Keras, set while a model of the Object Detection API is built or run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tf_keras.src import backend as keras_backend


@contextlib.contextmanager
def learning_phase(training: bool) -> Iterator[None]:
    """Sets Keras's global learning phase, which DeepMAC reads; most layers get `training` as an argument."""
    with keras_backend.deprecated_internal_learning_phase_scope(int(training)):
        yield


@contextlib.contextmanager
def precision(bfloat16: bool) -> Iterator[None]:
    """Layers created inside compute in bfloat16, with float32 variables, if `bfloat16` is set."""
    before = tf.keras.mixed_precision.global_policy()
    if bfloat16:
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
