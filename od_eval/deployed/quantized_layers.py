"""Where a quantized TensorFlow Lite model departs from the same model in float32, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

# Operators that only move values: their outputs differ as their inputs do.
_MOVING = {"CONCATENATION", "GATHER", "PACK", "PAD", "RESHAPE", "SLICE", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "UNPACK"}
_MOVING |= {"EXPAND_DIMS", "QUANTIZE", "RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE"}
_NUM_IMAGES = 10


@dataclasses.dataclass(frozen=True)
class LayerDifference:
    """The output of a layer in int8 against that in float32.

    Attributes:
      layer: its name.
      operator: `CONV_2D`, …
      difference: the root mean square of the difference, as a part of the standard deviation of the output in float32;
        over all values of some images. It has the differences of all layers before it in it.
    """

    layer: str
    operator: str
    difference: float


def quantized_layers(quantized: bytes, saved_model: str, inputs: Iterable[npt.NDArray[Any]]) -> list[LayerDifference]:
    """The layers of a model in int8, those that differ most from float32 first.

    Args:
      quantized: the contents of the `.tflite`.
      saved_model: the folder that it was converted from.
      inputs: of the quantized model, one array for each image; the first ten are used.

    Returns:
      Those whose output has the same name in float32, which nearly all have.
    """
    from od_eval.odapi.tflite_conversion import float32_converter

    in_int8, in_float32 = _interpreter(quantized), _interpreter(float32_converter(saved_model).convert())
    [taken], [taken_float] = in_int8.get_input_details(), in_float32.get_input_details()
    of_name = {one["name"]: one["index"] for one in in_float32.get_tensor_details()}
    tensors = {one["index"]: one for one in in_int8.get_tensor_details()}
    compared = {
        int(index): operation["op_name"]
        for operation in in_int8._get_ops_details()  # there is no public way
        for index in operation["outputs"]
        if operation["op_name"] not in _MOVING
        and tensors[int(index)]["dtype"] == np.int8
        and tensors[int(index)]["name"] in of_name
    }
    squares = dict.fromkeys(compared, 0.0)
    moments = {index: np.zeros(3) for index in compared}  # number, sum, sum of squares of the values in float32
    for values, _ in zip(inputs, range(_NUM_IMAGES), strict=False):
        in_int8.set_tensor(taken["index"], values)
        in_float32.set_tensor(taken_float["index"], _in_float32(values, taken))
        in_int8.invoke()
        in_float32.invoke()
        for index in compared:
            expected = in_float32.get_tensor(of_name[tensors[index]["name"]]).astype(np.float64)
            found = _in_float32(in_int8.get_tensor(index), tensors[index]).astype(np.float64)
            squares[index] += float(np.square(found - expected).sum())
            moments[index] += [expected.size, expected.sum(), np.square(expected).sum()]
    differences = []
    for index, operator in compared.items():
        num, total, total_of_squares = moments[index]
        variance = total_of_squares - total**2 / max(num, 1)  # times their number, as are the squares
        if variance > 0:
            layer = tensors[index]["name"].partition(";")[0]  # the others were fused with it
            differences.append(LayerDifference(layer, operator, float(np.sqrt(squares[index] / variance))))
    return sorted(differences, key=lambda one: -one.difference)


def _in_float32(values: npt.NDArray[Any], details: dict[str, Any]) -> npt.NDArray[np.float32]:
    if values.dtype == np.float32:
        return values
    scale, zero_point = details["quantization"]
    result: npt.NDArray[np.float32] = (values.astype(np.float32) - zero_point) * np.float32(scale)
    return result


def _interpreter(model: bytes) -> Any:
    from od_eval.deployed.tflite import tflite_runtime

    runtime = tflite_runtime()
    interpreter = runtime.interpreter(
        model_content=model,
        experimental_op_resolver_type=runtime.op_resolver_type.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter
