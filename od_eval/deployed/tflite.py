"""TensorFlow Lite models, run by `ai_edge_litert` if it is installed, or else by TensorFlow."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from od_eval import files
from od_eval.deployed.model import (
    DeployedModel,
    DetectionsOfImage,
    Image,
    check_number_of_classes,
    in_pixels,
)
from od_eval.deployed.resizing import resized
from od_eval.deployed.tflite_metadata import NO_CLASS, TFLiteMetadata, read_metadata
from od_eval.errors import ODEvalError
from od_eval.model_json import OUTPUTS, ModelDescription
from od_eval.text import some

# Of the feature extractors that nearly all SSD models have.
_USUAL_MEAN, _USUAL_STD = [127.5], [127.5]
# What red, green and blue count in gray, as in `tf.image.rgb_to_grayscale`.
_GRAY = np.array([[0.2989], [0.587], [0.114]], np.float32)
# Orders of the outputs, sorted by name, that exporters give them: the Object Detection API's for TF2, and for TF1.
_ORDERS = (("num_detections", "scores", "classes", "boxes"), ("boxes", "classes", "scores", "num_detections"))


class TFLiteModel(DeployedModel):
    """A TensorFlow Lite model whose outputs are those of `TFLite_Detection_PostProcess`.

    It is run without a delegate, on `num_threads` threads.

    Args:
      path: the file.
      num_threads: None: as many as the runtime chooses.
      description: the contents of its model.json, if there is one.
      label_map: its path and its categories, id -> name; None: those of model.json or of the file itself.
      is_given: whether the user has named the label map; otherwise it lies beside the model.

    Raises:
      ODEvalError: it cannot be read or run, or is no detector; it does not belong to model.json or the label map.
    """

    format = "tflite"

    def __init__(
        self,
        path: str,
        num_threads: int | None,
        description: ModelDescription | None,
        label_map: tuple[str, Mapping[int, str]] | None,
        is_given: bool,
    ):
        self.path = path
        folder, file_name = os.path.split(files.absolute(path))
        self.name = os.path.basename(folder if file_name == "model.tflite" else path).removesuffix(".tflite")
        self.num_threads = num_threads
        try:
            contents = files.read_bytes(path)
        except OSError as error:
            raise ODEvalError(f"model '{path}' cannot be read: {files.reason(error)}.") from error
        self.file_size = len(contents)
        if not contents:
            raise _damaged(path)
        runtime = tflite_runtime()
        self.runtime = runtime.name
        self._interpreter = _interpreter(path, contents, runtime, num_threads)
        self._input = self._checked_input()
        _, height, width, _ = self._input["shape"].tolist()
        self.input_size = (height, width)
        guessed: list[str] = []
        metadata = read_metadata(path, contents, runtime.schema)
        self.quantization = description.quantization if description else None
        self.step = description.step if description else None
        self.confidence = description.confidence if description else None
        self._class_offset = description.class_offset if description else 1
        if not description:
            guessed.append("class 0 is id 1 of the label map")
        self._normalization = self._told_normalization(description, metadata, guessed)
        self._outputs = self._told_outputs(description, guessed)
        self.categories = self._told_categories(description, label_map, is_given, metadata)
        self.guessed = guessed

    def without_normalization(self) -> DeployedModel | None:
        if self._normalization is None:
            return None
        other = copy.copy(self)
        other._normalization = None
        return other

    def _detect(self, image: Image) -> DetectionsOfImage:
        self._interpreter.set_tensor(self._input["index"], self.input_of(image))
        self._interpreter.invoke()
        outputs = {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
        num = int(outputs["num_detections"].reshape(-1)[0])
        boxes, scores, classes = (outputs[name][0, : max(num, 0)] for name in ("boxes", "scores", "classes"))
        if num < 0 or not np.array_equal(classes, np.rint(classes)) or not ((scores >= 0) & (scores <= 1)).all():
            raise ODEvalError(
                f"'{self.path}' returns {num} detections with the scores {some(scores, 3)} and the classes"
                f" {some(classes, 3)}, which cannot be; export it again, with model.json beside it."
            )
        return DetectionsOfImage(in_pixels(boxes, image), scores, classes.astype(np.int64) + self._class_offset)

    def input_of(self, image: Image) -> npt.NDArray[Any]:
        """The model's input for an image, `[1, height, width, 3]`: resized, normalised, quantized."""
        height, width = self.input_size or (0, 0)
        values = resized(image, height, width)
        if self._input["shape"][3] == 1:
            values = values @ _GRAY
        if self._normalization is not None:
            mean, std = self._normalization
            values = (values - mean) / std
        dtype = self._input["dtype"]
        if dtype != np.float32:
            scale, zero_point = self._input["quantization"]
            limits = np.iinfo(dtype)
            quantized = values if not scale else values / np.float32(scale) + zero_point
            values = np.clip(np.rint(quantized), limits.min, limits.max)
        return values[np.newaxis].astype(dtype)

    # ---- What the input and the outputs mean ---------------------------------------------------------------------

    def _checked_input(self) -> dict[str, Any]:
        details = self._interpreter.get_input_details()
        shapes = [details_of["shape_signature"].tolist() for details_of in details]
        dtype = details[0]["dtype"] if details else None
        is_image = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][0] == 1 and shapes[0][3] in (1, 3)
        if not is_image or min(shapes[0]) < 1 or dtype not in (np.float32, np.uint8, np.int8):
            told = some((f"{one['dtype'].__name__} {one['shape_signature'].tolist()}" for one in details), 3)
            raise ODEvalError(
                f"'{self.path}' is not a detector: its input is {told or 'nothing'}, and not one image [1, height,"
                " width, channels] of a fixed size, float32, uint8 or int8; choose another model."
            )
        return dict(details[0])

    def _told_normalization(
        self, description: ModelDescription | None, metadata: TFLiteMetadata, guessed: list[str]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        mean: Sequence[float] | None
        std: Sequence[float] | None
        if description is not None:
            if list(description.input_shape) != self._input["shape"].tolist():
                raise ODEvalError(
                    f"'{description.path}' belongs to another model: its input is {list(description.input_shape)}, and"
                    f" that of '{self.path}' is {self._input['shape'].tolist()}; put the right one beside the model."
                )
            mean, std = description.mean, description.std
        elif metadata.mean and metadata.std:
            mean, std = metadata.mean, metadata.std
        elif self._input["dtype"] != np.float32 and not self._input["quantization"][0]:
            mean = std = None
            guessed.append("its input is pixel values from 0 to 255")
        else:
            mean, std = _USUAL_MEAN, _USUAL_STD
            guessed.append("its input is (pixel − 127.5) ÷ 127.5")
        if mean is None or std is None:
            return None
        return np.array(mean, np.float32), np.array(std, np.float32)

    def _told_outputs(self, description: ModelDescription | None, guessed: list[str]) -> dict[str, int]:
        """`boxes`, `scores`, `classes`, `num_detections` -> index of the tensor."""
        self._invoke_once()
        details = self._interpreter.get_output_details()
        shapes = {one["index"]: tuple(self._interpreter.get_tensor(one["index"]).shape) for one in details}
        if description is not None:
            named = self._outputs_by_name(details)
            missing = [name for name in OUTPUTS if description.outputs.get(name) not in named]
            if missing:
                raise ODEvalError(
                    f"'{description.path}' belongs to another model: '{self.path}' lacks the output for"
                    f" {some(missing)}, and has {some(named)}; put the right one beside the model."
                )
            outputs = {name: named[description.outputs[name]] for name in OUTPUTS}
            if self._are_of_a_detector(outputs, shapes):
                return outputs
        elif len(details) == 4:
            indices = [one["index"] for one in sorted(details, key=lambda one: _number_last(one["name"]))]
            for order in _ORDERS:
                outputs = dict(zip(order, indices, strict=True))
                if self._are_of_a_detector(outputs, shapes):
                    guessed.append(f"its outputs, sorted by name, are {', '.join(order)}")
                    return outputs
        raise ODEvalError(
            f"'{self.path}' is not a detector with its post-processing: its outputs are"
            f" {some((list(shape) for shape in shapes.values()), 6)}, and not boxes [1, n, 4], classes [1, n], scores"
            " [1, n] and their number [1]; export it with od-eval export --format=tflite."
        )

    def _outputs_by_name(self, details: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Names of tensors and of the outputs of the signature -> index of the tensor."""
        named = {one["name"]: one["index"] for one in details}
        if len(self._interpreter.get_signature_list()) == 1:
            of_signature = self._interpreter.get_signature_runner().get_output_details()
            named |= {name: one["index"] for name, one in of_signature.items()}
        return named

    @staticmethod
    def _are_of_a_detector(outputs: Mapping[str, int], shapes: Mapping[int, tuple[int, ...]]) -> bool:
        boxes, scores, classes, num = (
            shapes[outputs[name]] for name in ("boxes", "scores", "classes", "num_detections")
        )
        return len(boxes) == 3 and boxes[::2] == (1, 4) and scores == classes == boxes[:2] and int(np.prod(num)) == 1

    def _invoke_once(self) -> None:
        """Runs it on a gray image: until then, the shapes of some outputs are unknown."""
        try:
            gray = np.full([1, 1, 3], 128, np.uint8)
            self._interpreter.set_tensor(self._input["index"], self.input_of(gray))
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise _cannot_be_run(self.path, error) from error

    def _told_categories(
        self,
        description: ModelDescription | None,
        label_map: tuple[str, Mapping[int, str]] | None,
        is_given: bool,
        metadata: TFLiteMetadata,
    ) -> Mapping[int, str]:
        if label_map is not None and (is_given or description is None):
            source, categories = label_map
        elif description is not None:
            source, categories = description.path, description.categories
        else:
            source = f"the labels in {self.path}"
            categories = {
                index + self._class_offset: name
                for index, name in enumerate(metadata.labels)
                if name not in ("", NO_CLASS)
            }
        check_number_of_classes(categories, self._num_classes(), self.path, source, is_given=is_given)
        return categories

    def _num_classes(self) -> int | None:
        """The number of classes that the post-processing gets scores of, besides the background; None if unknown."""
        try:
            operations = self._interpreter._get_ops_details()  # there is no public way
            [last] = [one for one in operations if one["op_name"] == "TFLite_Detection_PostProcess"]
            scores = self._interpreter._get_tensor_details(int(last["inputs"][1]), 0)
        except (AttributeError, KeyError, ValueError, IndexError, TypeError):  # of another version, or post-processing
            return None
        return int(scores["shape"][-1]) - 1


class TFLiteRuntime(NamedTuple):
    """A library that runs TensorFlow Lite models.

    Attributes:
      name: with its version.
      interpreter, op_resolver_type: its classes `Interpreter` and `OpResolverType`.
      schema: its module of the schema of their files.
    """

    name: str
    interpreter: Any
    op_resolver_type: Any
    schema: Any


def tflite_runtime() -> TFLiteRuntime:
    """The library that runs TensorFlow Lite models in this environment."""
    if importlib.util.find_spec("ai_edge_litert"):
        from ai_edge_litert import interpreter, schema_py_generated

        version = importlib.metadata.version("ai-edge-litert")
        return TFLiteRuntime(
            f"ai_edge_litert {version}", interpreter.Interpreter, interpreter.OpResolverType, schema_py_generated
        )
    import tensorflow as tf

    schema = importlib.import_module("tensorflow.lite.python.schema_py_generated")
    name = f"tf.lite of TensorFlow {tf.__version__}"
    return TFLiteRuntime(name, tf.lite.Interpreter, tf.lite.experimental.OpResolverType, schema)


def _interpreter(path: str, contents: bytes, runtime: TFLiteRuntime, num_threads: int | None) -> Any:
    try:
        interpreter = runtime.interpreter(
            model_content=contents,
            num_threads=num_threads,
            experimental_op_resolver_type=runtime.op_resolver_type.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _cannot_be_run(path, error) from error
    return interpreter


def _cannot_be_run(path: str, error: Exception) -> ODEvalError:
    of_tensorflow = re.findall(r"\bFlex(\w+)", str(error))
    if of_tensorflow:
        return ODEvalError(
            f"'{path}' needs operators of TensorFlow ({some(sorted(set(of_tensorflow)))}), which TensorFlow Lite does"
            " not have without the Flex delegate; evaluate the SavedModel or the checkpoint instead."
        )
    if "Flatbuffer" in str(error):
        return _damaged(path)
    reason = files.reason(error).rstrip(".")
    return ODEvalError(f"'{path}' cannot be run by TensorFlow Lite: {reason}; export it again.")


def _damaged(path: str) -> ODEvalError:
    return ODEvalError(f"'{path}' is damaged, or no TensorFlow Lite model; export it again.")


def _number_last(name: str) -> tuple[str, int]:
    """The order of names that end in a number, or in none for the first: `a`, `a:1`, `a:2`, `a:10`."""
    match = re.fullmatch(r"(.*?):?(\d*)", name)
    assert match is not None
    return match[1], int(match[2] or 0)
