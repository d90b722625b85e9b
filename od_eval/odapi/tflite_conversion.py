"""TensorFlow Lite's converter: from the SavedModel of `export_tflite_graph_lib_tf2` to a `.tflite`, quantized or not.

none       float32
dynamic    weights in int8, activations in float32, quantized as they come
float16    weights in float16
int8       weights and activations in int8, the input in float32
full_int8  the same with a uint8 input

The converter leaves operators without an int8 kernel in float32, without a word: the post-processing of an SSD,
`TFLite_Detection_PostProcess`, for one. `operators_in_float32` tells which. What TensorFlow Lite has no kernel for at
all is left to TensorFlow's own kernels; not in int8, as the interpreter that calibrates has none of these.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from object_detection.builders import image_resizer_builder
from object_detection.utils import config_util
from tensorflow.lite.python.schema_py_generated import TensorType
from tensorflow.lite.tools import flatbuffer_utils

from od_eval.errors import ODEvalError
from od_eval.odapi.detector import Detector
from od_eval.odapi.pipeline import Pipeline
from od_eval.text import named

QUANTIZATIONS = ("none", "dynamic", "float16", "int8", "full_int8")
CALIBRATED = ("int8", "full_int8")

_SECONDS_BETWEEN_REPORTS = 2.0
# In the order in which the exporter's function returns them; a model with keypoints has two more before them.
_OUTPUTS = ("num_detections", "scores", "classes", "boxes")
_KEYPOINT_OUTPUTS = ("keypoint_scores", "keypoints")


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """How an image becomes the input of the float32 model.

    Attributes:
      of_image: uint8 `[height, width, 3]` -> float32 of `shape`: resized, and normalised.
      shape: `[1, height, width, channels]`.
      mean, std: per channel: what is normalised is (pixel − mean) / std of pixels from 0 to 255.
    """

    of_image: Callable[[tf.Tensor], tf.Tensor]
    shape: Sequence[int]
    mean: Sequence[float]
    std: Sequence[float]


def image_input(pipeline: Pipeline, detector: Detector) -> ImageInput:
    """The input of a model with a `fixed_shape_resizer`, as `export_tflite_graph_lib_tf2` exports it.

    Raises:
      ODEvalError: the images are not normalised by a mean and a standard deviation per channel.
    """
    resizer = config_util.get_image_resizer_config(pipeline.config.model)
    size = resizer.fixed_shape_resizer
    channels = 1 if size.convert_to_grayscale else 3
    shape = [1, size.height, size.width, channels]
    if pipeline.meta_architecture == "center_net":  # its exported model preprocesses the image itself
        resize = image_resizer_builder.build(resizer)
        return ImageInput(
            lambda image: resize(tf.cast(image, tf.float32))[0][tf.newaxis], shape, [0.0] * channels, [1.0] * channels
        )

    def of_image(image: tf.Tensor) -> tf.Tensor:
        return detector.model.preprocess(tf.cast(image, tf.float32)[tf.newaxis])[0]

    def of_pixels(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Without resizing: `[height, width, channels]` -> the same shape."""
        image = np.broadcast_to(pixels, [size.height, size.width, 3])
        return of_image(tf.constant(image, tf.float32)).numpy()[0].astype(float)

    black, white = (of_pixels(np.full((1, 1, channels), value)) for value in (0.0, 255.0))
    black, white = black[0, 0], white[0, 0]
    std = (255 / (white - black)).round(4)
    mean = (0 - black * std).round(4)
    pixels = np.random.default_rng(0).integers(0, 256, (size.height, size.width, channels)).astype(float)
    if not np.allclose((pixels - mean) / std, of_pixels(pixels), rtol=1e-4, atol=1e-4):
        raise ODEvalError(
            f"{pipeline.source}: the feature extractor does not normalise images by a mean and a standard deviation per"
            " channel, which is all that TensorFlow Lite's metadata can tell; export a SavedModel."
        )
    return ImageInput(of_image, shape, mean.tolist(), std.tolist())


def convert(
    saved_model: str,
    quantization: str,
    of_input: ImageInput,
    images: Callable[[], Iterator[tf.Tensor]] | None = None,
) -> bytes:
    """Converts a model, and writes progress to stdout.

    Args:
      saved_model: the folder that `export_tflite_graph_lib_tf2` wrote.
      quantization: one of `QUANTIZATIONS`.
      of_input: how the model takes an image.
      images: for those in `CALIBRATED`: gives the images to calibrate with, uint8 `[height, width, 3]`.

    Returns:
      The contents of a `.tflite` without metadata.

    Raises:
      ODEvalError: the converter cannot do it; an operator that is in the way is named, with its layer.
    """
    converter = float32_converter(saved_model)
    if quantization != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if images is not None:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _representative(of_input, images())
    if quantization == "full_int8":
        converter.inference_input_type = tf.uint8
    print(f"Converting to TensorFlow Lite, quantization {quantization} …", flush=True)
    try:
        return converter.convert()
    except Exception as error:  # the converter raises its own, RuntimeError and ValueError
        raise ODEvalError(_explained(str(error), quantization)) from error


def float32_converter(saved_model: str) -> tf.lite.TFLiteConverter:
    """TensorFlow Lite's converter of the SavedModel in a folder; it quantizes nothing."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    return converter


def _representative(of_input: ImageInput, images: Iterator[tf.Tensor]) -> Iterator[list[npt.NDArray[np.float32]]]:
    """The inputs of images; says now and then how many there were."""
    last = time.monotonic()
    for number, image in enumerate(images, 1):
        values = of_input.of_image(image).numpy()
        if number == 1:
            # A black and a white pixel: the range of the input is that of pixels, whichever images were chosen. A uint8
            # input then takes pixels as they are, if mean and std are the same for all channels.
            for column, pixel in enumerate((0, 255)):
                values[0, 0, column] = (pixel - np.array(of_input.mean)) / of_input.std
        yield [values]
        if time.monotonic() - last > _SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            print(f"Calibrating: {number} images", flush=True)


def _explained(message: str, quantization: str) -> str:
    """What the converter's message of many lines says, in a sentence."""
    refused = re.search(r"'tf\.(\w+)' op is neither a custom op nor a flex op", message)
    if not refused or quantization not in CALIBRATED:
        reason = " ".join(message.strip().splitlines()[:1]).rstrip(".") or "it says nothing"
        return f"TensorFlow Lite's converter cannot convert this model ({named(reason)}); export a SavedModel."
    operator = refused[1]
    layer = re.search(rf'fused\["{operator}:", "([^"@]+)', message)
    where = f" of layer {named(layer[1])}" if layer else ""
    return (
        f"TensorFlow Lite has no kernel for operator {operator}{where}, which {quantization} needs; choose dynamic or"
        " float16, where TensorFlow's own kernel computes it."
    )


def operators_in_float32(model: bytes) -> list[str]:
    """What a model from `convert` computes in float32: `CAST (top/Cast_2)`, by operator and layer."""
    contents = flatbuffer_utils.convert_bytearray_to_object(model)
    graph = contents.subgraphs[0]
    found = []
    for operator in graph.operators:
        custom = contents.operatorCodes[operator.opcodeIndex].customCode
        name = custom.decode() if custom else flatbuffer_utils.opcode_to_name(contents, operator.opcodeIndex)
        outputs = [graph.tensors[index] for index in operator.outputs]
        if name != "DEQUANTIZE" and any(one.type == TensorType.FLOAT32 for one in outputs):
            found.append(f"{name} ({outputs[0].name.decode().partition(';')[0]})")  # the others were fused with it
    return found


@dataclasses.dataclass(frozen=True)
class TensorNames:
    """The tensors that a `.tflite` takes and gives.

    Attributes:
      input: the name of its input.
      dtype: of the input: `float32` or `uint8`.
      outputs: what it is (`boxes`, `classes`, `scores`, `num_detections`, and of keypoints `keypoints` and
        `keypoint_scores`) -> name, in the order of the file.
    """

    input: str
    dtype: str
    outputs: Mapping[str, str]


def tensor_names(model: bytes) -> TensorNames:
    """The tensors of a model from `convert`, which its signature tells apart.

    The order of the outputs in the file is another one than that of the signature.
    """
    contents = flatbuffer_utils.convert_bytearray_to_object(model)
    graph, signature = contents.subgraphs[0], contents.signatureDefs[0]
    in_signature = {one.name.decode(): one.tensorIndex for one in signature.outputs}
    whats = _OUTPUTS if len(in_signature) == len(_OUTPUTS) else (*_KEYPOINT_OUTPUTS, *_OUTPUTS)
    what_of = {in_signature[f"output_{number}"]: what for number, what in enumerate(whats)}
    taken = graph.tensors[graph.inputs[0]]
    return TensorNames(
        taken.name.decode(),
        "uint8" if taken.type == TensorType.UINT8 else "float32",
        {what_of[index]: graph.tensors[index].name.decode() for index in graph.outputs},
    )
