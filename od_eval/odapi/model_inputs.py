"""The inputs of a model: images and side inputs, with their shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from object_detection.core.standard_fields import InputDataFields
from object_detection.protos import pipeline_pb2
from object_detection.utils import config_util

from od_eval.errors import ODEvalError

_IMAGE_FEATURES = (InputDataFields.image, InputDataFields.true_image_shape)


def feature_specs(config: pipeline_pb2.TrainEvalPipelineConfig) -> dict[str, tf.TensorSpec]:
    """Shapes and dtypes of the inputs of `Detector.call`, for one image of the size in the config."""
    image_resizer = config_util.get_image_resizer_config(config.model)
    height, width = config_util.get_spatial_image_size(image_resizer)
    if height == -1:  # it varies between images, and no variable depends on it
        height = width = 512
    resizer = getattr(image_resizer, image_resizer.WhichOneof("image_resizer_oneof"))
    channels = 3 + config.train_input_reader.num_additional_channels
    if getattr(resizer, "convert_to_grayscale", False):
        channels = 1
    specs = {
        InputDataFields.image: tf.TensorSpec([1, height, width, channels], tf.float32),
        InputDataFields.true_image_shape: tf.TensorSpec([1, 3], tf.int32),
    }
    if config.model.faster_rcnn.HasField("context_config"):
        context = [
            1,
            config_util.get_max_num_context_features(config.model),
            config_util.get_context_feature_length(config.model),
        ]
        specs[InputDataFields.context_features] = tf.TensorSpec(context, tf.float32)
        specs[InputDataFields.valid_context_size] = tf.TensorSpec([1], tf.int32)
    return specs


def side_input_specs(config: pipeline_pb2.TrainEvalPipelineConfig) -> dict[str, tf.TensorSpec]:
    """Shapes and dtypes of the side inputs, for one image."""
    return {name: spec for name, spec in feature_specs(config).items() if name not in _IMAGE_FEATURES}


def images_vary(config: pipeline_pb2.TrainEvalPipelineConfig) -> bool:
    """Whether the model's input images in an evaluation differ in size."""
    size = config_util.get_spatial_image_size(config_util.get_image_resizer_config(config.model))
    return size == [-1, -1] or config.eval_config.force_no_resize


def fixed_input_size(config: pipeline_pb2.TrainEvalPipelineConfig) -> tuple[int, int] | None:
    """Height and width of the model's input images; None if they differ between images."""
    height, width = config_util.get_spatial_image_size(config_util.get_image_resizer_config(config.model))
    return None if -1 in (height, width) else (height, width)


def detection_inputs(
    images: npt.ArrayLike, side_inputs: Mapping[str, npt.ArrayLike], needed: Mapping[str, tf.TensorSpec]
) -> tuple[dict[str, tf.Tensor], dict[str, tf.TensorSpec]]:
    """Converts the arguments of `Detector.detect` to tensors.

    Args:
      images: uint8 `[batch, height, width, 3]`.
      side_inputs: the side inputs given.
      needed: the side inputs that the model needs.

    Returns:
      The tensors, and their specs with images of any height and width.

    Raises:
      ODEvalError: images have another shape or dtype, or a side input is missing or unknown to the model.
    """
    try:
        images = np.asarray(images)
    except ValueError as error:
        raise ODEvalError("Detector.detect takes images of one size; pass other sizes in separate calls.") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ODEvalError(
            f"Detector.detect takes images as uint8 [batch, height, width, 3], not {images.dtype.name}"
            f" {list(images.shape)}."
        )
    if side_inputs.keys() - needed.keys():
        raise ODEvalError(
            f"Detector.detect: this model takes {', '.join(needed) or 'nothing'} in addition to images, not"
            f" {', '.join(side_inputs)}."
        )
    inputs = {InputDataFields.image: tf.convert_to_tensor(images)}
    for name, spec in needed.items():
        if name not in side_inputs:
            raise ODEvalError(f"Detector.detect: this model needs {name}, {spec.dtype.name} {spec.shape}, as well.")
        inputs[name] = tf.convert_to_tensor(side_inputs[name], spec.dtype)
    specs = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in inputs.items()}
    specs[InputDataFields.image] = tf.TensorSpec([len(images), None, None, 3], tf.uint8)
    return inputs, specs
