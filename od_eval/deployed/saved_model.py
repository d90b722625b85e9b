"""SavedModels, as the Object Detection API's exporter writes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval import files
from od_eval.deployed.model import (
    DeployedModel,
    DetectionsOfImage,
    Image,
    check_number_of_classes,
    in_pixels,
    not_a_detector,
)
from od_eval.deployed.tensorflow_runtime import start_tensorflow
from od_eval.errors import ODEvalError
from od_eval.model_json import BATCH_SIGNATURE, ModelDescription

_USUAL_OUTPUTS = {
    "boxes": "detection_boxes",
    "scores": "detection_scores",
    "classes": "detection_classes",
    "num_detections": "num_detections",
}
_MASKS = "detection_masks"
# More images at a time are hardly faster, and take more memory.
_BATCH_SIZE = 8


class SavedModel(DeployedModel):
    """A SavedModel that takes images as uint8 or float32 and returns what a detector of the Object Detection API does.

    Args:
      path: the folder with `saved_model.pb`.
      num_threads, description, label_map, is_given: as for `TFLiteModel`.

    Raises:
      ODEvalError: as for `TFLiteModel`.
    """

    format = "saved_model"

    def __init__(
        self,
        path: str,
        num_threads: int | None,
        description: ModelDescription | None,
        label_map: tuple[str, Mapping[int, str]] | None,
        is_given: bool,
    ):
        self.runtime = start_tensorflow(num_threads)
        import tensorflow as tf

        self.path = path
        absolute = files.absolute(path).rstrip("/")
        is_inside = os.path.basename(absolute) == "saved_model"
        self.name = os.path.basename(os.path.dirname(absolute) if is_inside else absolute)
        self.num_threads = num_threads
        try:
            self.file_size = sum(files.size(os.path.join(path, name)) for name in files.files_below(path))
            self._saved = tf.saved_model.load(path)  # its variables live as long as it
        except (tf.errors.OpError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ODEvalError(
                f"SavedModel '{path}' cannot be loaded: {files.reason(error)}; export it again."
            ) from error
        if "serving_default" not in self._saved.signatures:
            raise ODEvalError(f"SavedModel '{path}' has no signature 'serving_default'; export it with od-eval export.")
        self._signature = self._saved.signatures["serving_default"]
        outputs = self._signature.structured_outputs
        self._outputs = dict(description.outputs if description else _USUAL_OUTPUTS)
        missing = [usual for name, usual in _USUAL_OUTPUTS.items() if self._outputs.get(name) not in outputs]
        if missing:
            raise not_a_detector(path, missing, list(outputs))
        self.predicts_masks = _MASKS in outputs
        self._used = {*self._outputs.values(), _MASKS}
        self._input_name, self._input_spec = self._checked_input()
        height, width = self._input_spec.shape[1:3]
        self.input_size = (height, width) if height and width else None
        self.quantization = description.quantization if description else None
        self.step = description.step if description else None
        self.confidence = description.confidence if description else None
        self._class_offset = description.class_offset if description else 0
        if label_map is not None and (is_given or description is None):
            source, self.categories = label_map
        else:
            source, self.categories = (description.path, description.categories) if description else ("", {})
        of_classes = outputs.get("detection_multiclass_scores")  # the first is the background's
        num_classes = None if of_classes is None or not of_classes.shape[-1] else of_classes.shape[-1] - 1
        check_number_of_classes(self.categories, num_classes, path, source, is_given=is_given)
        if not description:
            self.guessed = ["its classes are ids of the label map"]

    def _checked_input(self) -> tuple[str, Any]:
        import tensorflow as tf

        inputs = self._signature.structured_input_signature[1]
        for name, spec in inputs.items():
            if len(inputs) == 1 and spec.dtype in (tf.uint8, tf.float32) and spec.shape.rank == 4:
                return name, spec
        told = ", ".join(f"{name}, {spec.dtype.name} {spec.shape}" for name, spec in inputs.items())
        raise ODEvalError(
            f"SavedModel '{self.path}' takes {told or 'nothing'}, not images alone; export it again with"
            " --input_type=image_tensor, or take the checkpoint."
        )

    def _detect(self, image: Image) -> DetectionsOfImage:
        return self._run(self._signature, [image])[0]

    def _detect_in_all(self, images: Sequence[Image]) -> Iterable[DetectionsOfImage]:
        """In batches of images of the same size, wherever they are, if the model has a signature for them."""
        if BATCH_SIGNATURE not in self._saved.signatures:
            return super()._detect_in_all(images)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault(image.shape, []).append(index)
        found: dict[int, DetectionsOfImage] = {}
        for indices in by_size.values():
            for start in range(0, len(indices), _BATCH_SIZE):
                batch = indices[start : start + _BATCH_SIZE]
                signature = self._saved.signatures[BATCH_SIGNATURE] if len(batch) > 1 else self._signature
                found.update(zip(batch, self._run(signature, [images[index] for index in batch]), strict=True))
        return [found[index] for index in range(len(images))]

    def _run(self, signature: Any, images: Sequence[Image]) -> list[DetectionsOfImage]:
        """Detects objects in images of one size by a signature."""
        import tensorflow as tf

        try:
            given = {self._input_name: tf.constant(np.stack(images), self._input_spec.dtype)}
            outputs = {name: values.numpy() for name, values in signature(**given).items() if name in self._used}
        except tf.errors.OpError as error:
            raise ODEvalError(f"SavedModel '{self.path}' cannot be run: {files.reason(error)}.") from error
        return [
            self._found({name: values[index] for name, values in outputs.items()}, image)
            for index, image in enumerate(images)
        ]

    def _found(self, outputs: Mapping[str, npt.NDArray[Any]], image: Image) -> DetectionsOfImage:
        num = int(outputs[self._outputs["num_detections"]])
        boxes, scores, classes = (outputs[self._outputs[name]][:num] for name in ("boxes", "scores", "classes"))
        masks = None
        if self.predicts_masks:
            from od_eval.odapi.box_masks import masks_of_image

            masks = masks_of_image(outputs[_MASKS][:num], boxes, image.shape[:2])
        classes = np.rint(classes).astype(np.int64) + self._class_offset
        return DetectionsOfImage(in_pixels(boxes, image), scores, classes, masks)
