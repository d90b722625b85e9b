"""The interface of a deployed model, whatever its format."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, rows_of
from od_eval.label_map import Category
from od_eval.text import named, quoted

Image = npt.NDArray[np.uint8]


class DetectionsOfImage(NamedTuple):
    """What was found in one image.

    Attributes:
      boxes: float32 `[n, 4]`, `yxyx`, in pixels of the image.
      scores: float32 `[n]`.
      classes: int64 `[n]`, ids of the label map.
      masks: uint8 `[n, height, width]`, 0 or 1; None if the model predicts none.
    """

    boxes: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    classes: npt.NDArray[Any]
    masks: npt.NDArray[Any] | None = None


class DeployedModel(abc.ABC):
    """A model that detects objects in images; `od_eval.load_model` makes one.

    Attributes:
      path: of its file, folder or checkpoint.
      name: short, for people: of its file or folder.
      format: `tflite`, `saved_model` or `checkpoint`.
      quantization: as model.json tells it (`none`, `int8`, …); None if unknown.
      runtime: the library that runs it, with its version.
      num_threads: as asked for; None: as many as the runtime chooses.
      file_size: of all its files, in bytes.
      input_size: height and width in pixels of the model's input; None if it varies.
      categories: id of the label map -> name; empty if nothing tells the names.
      confidence: category id -> the score from which on its detections are to be used; None if nothing tells it.
      confidence_source: what tells it: `model.json`, or an evaluation.
      step: the training step of its weights; None if unknown.
      predicts_masks: whether detections have masks.
      guessed: what nothing tells, and was taken as is usual: sentences.
    """

    path: str
    name: str
    format: str
    quantization: str | None = None
    runtime: str
    num_threads: int | None
    file_size: int
    input_size: tuple[int, int] | None = None
    categories: Mapping[int, str]
    confidence: Mapping[int, float] | None = None
    confidence_source = "model.json"
    step: int | None = None
    predicts_masks = False
    guessed: Sequence[str] = ()

    def detect(self, images: npt.NDArray[Any] | Sequence[npt.NDArray[Any]]) -> Detections:
        """Detects objects in images: in batches if the model takes them, or else one after the other.

        Args:
          images: uint8 `[batch, height, width, 3]`, RGB, or a list of images `[height, width, 3]` of any sizes.

        Returns:
          For each image, by descending score: boxes `yxyx` in pixels of the image, scores, classes as ids of the label
          map and, if the model predicts them, masks of the image's size, 0 or 1.

        Raises:
          ODEvalError: an image has another shape or dtype, or the model returns what no detector returns.
        """
        checked = [_checked(image, index) for index, image in enumerate(images)]
        found = [self._sorted(one) for one in self._detect_in_all(checked)]
        boxes, scores, classes, masks = zip(*found, strict=True) if found else ((), (), (), ())
        return Detections(boxes, scores, classes, masks if self.predicts_masks else None)

    def without_normalization(self) -> DeployedModel | None:
        """The same model, given pixel values where it is now given normalised ones; None if that is not done here."""
        return None

    @abc.abstractmethod
    def _detect(self, image: Image) -> DetectionsOfImage:
        """Detects objects in one image, uint8 `[height, width, 3]`."""

    def _detect_in_all(self, images: Sequence[Image]) -> Iterable[DetectionsOfImage]:
        """Detects objects in each of the images, which are uint8 `[height, width, 3]` of any sizes."""
        return map(self._detect, images)

    @staticmethod
    def _sorted(found: DetectionsOfImage) -> DetectionsOfImage:
        order = np.argsort(-found.scores, kind="stable")
        masks = None if found.masks is None else found.masks[order]
        return DetectionsOfImage(found.boxes[order], found.scores[order], found.classes[order], masks)


def in_pixels(boxes: npt.NDArray[Any], image: Image) -> npt.NDArray[np.float32]:
    """Boxes `[n, 4]`, `yxyx`, relative to an image, in its pixels; cut off at its border, as in evaluation."""
    return (np.clip(boxes, 0, 1) * np.tile(image.shape[:2], 2)).astype(np.float32)


def with_ids(detections: Detections, ids: Mapping[int, int], shift: int = 0) -> Detections:
    """The detections of one image with other ids of their classes, without those of classes that have none.

    Args:
      detections: as `DeployedModel.detect` returns them for one image.
      ids: id of the model's label map -> other id.
      shift: is added to classes before they are looked up.
    """
    classes = [ids.get(int(one) + shift) for one in detections.classes[0]]
    kept = np.array([index for index, one in enumerate(classes) if one is not None], np.int64)
    with_own_ids = [np.array([classes[index] for index in kept], np.int64)]
    return dataclasses.replace(rows_of(detections, [kept]), classes=with_own_ids)


def scaled(detections: Detections, size: Sequence[int], new_size: Sequence[int]) -> Detections:
    """The detections of one image in the pixels of another size of it: height and width."""
    if tuple(size) == tuple(new_size):
        return detections
    factors = np.tile(np.divide(new_size, size), 2).astype(np.float32)
    masks = None
    if detections.masks is not None:
        rows, columns = (np.arange(new) * old // new for old, new in zip(size, new_size, strict=True))
        masks = [detections.masks[0][:, rows][:, :, columns]]
    return Detections([detections.boxes[0] * factors], detections.scores, detections.classes, masks)


def check_number_of_classes(
    categories: Mapping[int, str], num_classes: int | None, model: str, label_map: str, *, is_given: bool
) -> None:
    """Compares a label map with a model.

    Args:
      categories: of the label map; empty if there is none.
      num_classes: of the model; None if it does not tell.
      model, label_map: their paths, for the message.
      is_given: whether the user names the label map. One that lies beside the model may have fewer classes, as the
        model was trained like this.

    Raises:
      ODEvalError: they do not belong together.
    """
    if not categories or num_classes is None:
        return
    highest = max(categories)
    if highest > num_classes or (is_given and highest < num_classes):
        raise ODEvalError(
            f"'{model}' has {num_classes} classes, but the highest id in '{label_map}' is {highest}"
            f" ('{named(categories[highest])}'); give the label map that the model was trained with."
        )


def names_of(label_map: Sequence[Category]) -> dict[int, str]:
    """Category id -> name."""
    return {one.id: one.display_name or one.name or str(one.id) for one in label_map}


def not_a_detector(path: str, expected: Sequence[str], there: Sequence[str]) -> ODEvalError:
    """The error of a model that lacks outputs of a detector."""
    return ODEvalError(
        f"'{path}' is not a detector as the Object Detection API exports it: it has no output"
        f" {quoted(expected)}, but {quoted(there)}; choose another model."
    )


def _checked(image: Any, index: int) -> Image:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ODEvalError(
            f"image {index} is {image.dtype.name} {list(image.shape)}; detect takes uint8 [batch, height, width, 3], or"
            " a list of images uint8 [height, width, 3]."
        )
    return image
