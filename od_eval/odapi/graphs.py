"""Graphs of evaluation and detection, each traced once per detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from object_detection.core.standard_fields import InputDataFields

from od_eval.odapi import datasets

Tensors = Mapping[str, tf.Tensor]
Specs = Mapping[str, tf.TensorSpec]


class Graphs(dict[tuple[str, ...], Callable[..., Any]]):
    """Traced functions by their name and the specs of their arguments."""

    def run(self, function: Callable[..., Any], specs: tuple[Specs, ...], *args: Tensors) -> Any:
        """Runs a function in a graph, which is traced when the function is first run with these specs."""
        key = (function.__name__, *(str(spec) for spec in tf.nest.flatten(specs)))
        if key not in self:
            self[key] = _trace(function, specs)
        return self[key](*args)


def _trace(function: Callable[..., Any], specs: tuple[Specs, ...]) -> Callable[..., Any]:
    try:
        return tf.function(function, autograph=False).get_concrete_function(*specs)
    except tf.errors.OperatorNotAllowedInGraphError:  # as for the training step
        return tf.function(function, autograph=True).get_concrete_function(*specs)


def specs_of_batches(features: Tensors, labels: Tensors, images_vary: bool) -> tuple[Specs, Specs]:
    """Specs that fit all batches with the same number of images.

    Args:
      features, labels: a batch.
      images_vary: whether image sizes may differ between batches; the number of boxes always may.
    """

    def spec(name: str, value: tf.Tensor) -> tf.TensorSpec:
        shape = value.shape.as_list()
        if name in labels and name not in datasets.LABELS_OF_IMAGES:
            shape[1] = None
        if images_vary and name in (InputDataFields.image, InputDataFields.original_image):
            shape[1:3] = None, None
        if images_vary and name == InputDataFields.groundtruth_instance_masks:
            shape[2:4] = None, None
        return tf.TensorSpec(shape, value.dtype)

    return (
        {name: spec(name, value) for name, value in features.items()},
        {name: spec(name, value) for name, value in labels.items()},
    )
