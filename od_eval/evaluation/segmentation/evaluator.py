"""Computes the metrics of semantic segmentation from batches of labels and scores.

    evaluator = SegmentationEvaluator({0: "background", 1: "cat", 2: "dog"}, ignore_label=255)
    evaluator.update(labels=labels, scores=probabilities, image_ids=["a.jpg", "b.jpg"])
    evaluator.evaluate().segmentation["IoU"]

Every metric follows from counts over pixels. So evaluators merge exactly, and memory grows with the number of images by
a row each. The counts take 200 kB for each class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation.columns import ImageId, image_id
from od_eval.evaluation.options import check_categories
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.segmentation.batch import PerImage
from od_eval.evaluation.segmentation.images import SegmentedImages
from od_eval.evaluation.segmentation.metrics import ious, segmentation_section
from od_eval.evaluation.segmentation.pixel_counts import IGNORED, Ints, PixelCounts
from od_eval.text import some

# Probabilities that were resized may leave the range by rounding.
_TOLERANCE = 1e-3
_MOST_CLASSES = 2**15  # int16


class _ImageResult(NamedTuple):
    """A row of `SegmentedImages`."""

    pixels: int
    wrong: int
    iou: float
    worst_class: int


class SegmentationEvaluator:
    """Takes batches of labels and scores and computes the metrics of semantic segmentation over all pixels.

    Its metrics are those of `od_eval.evaluation.segmentation.metrics.segmentation_section`.

    Args:
      categories: id -> name, of every class, also of the background if labels have it. Ids may begin at 0, and need not
        be contiguous. The last axis of scores, and both axes of `confusion()`, follow the sorted ids.
      ignore_label: the label of pixels that count nowhere; None if there is none.

    Raises:
      ODEvalError: there are no categories, two have the same name, or one has the id `ignore_label`.
    """

    def __init__(self, categories: Mapping[int, str], ignore_label: int | None = None) -> None:
        self._categories = {int(id): str(categories[id]) for id in sorted(categories)}
        self._ignore_label = ignore_label
        check_categories(self._categories, {})
        if ignore_label in self._categories:
            raise ODEvalError(
                f"the ignore_label {ignore_label} is the id of the category '{self._categories[ignore_label]}'; leave"
                " out one of the two."
            )
        if len(self._categories) > _MOST_CLASSES:
            raise ODEvalError(
                f"there are {len(self._categories)} categories; no more than {_MOST_CLASSES} are possible."
            )
        self._ids = np.array(list(self._categories))
        self._counts = PixelCounts.zeros(len(self._ids))
        self._images: dict[ImageId, _ImageResult] = {}

    def update(self, *, labels: PerImage, scores: PerImage, image_ids: Sequence[int | str] | None = None) -> None:
        """Adds images; if it raises, nothing is added.

        Args:
          labels, scores, image_ids: as in `SegmentationBatch`. Without ids, images are numbered.

        Raises:
          ODEvalError: the arrays do not fit together, or a value is invalid; the message names image, row and column.
        """
        labels, scores = _per_image(labels), _per_image(scores)
        if image_ids is None:
            image_ids = range(len(self._images), len(self._images) + len(labels))
        ids = [image_id(id) for id in image_ids]
        if not len(ids) == len(labels) == len(scores):
            raise ODEvalError(
                f"a batch has {len(ids)} image ids, labels of {len(labels)} images and scores of {len(scores)}; give as"
                " many of each."
            )
        self._check_new(ids)
        images = [
            self._read(f"image {id!r}", np.asarray(of_pixels), np.asarray(of_classes))
            for id, of_pixels, of_classes in zip(ids, labels, scores, strict=True)
        ]
        for id, (actual, scores_of_image) in zip(ids, images, strict=True):
            self._images[id] = _image_result(self._counts.add_image(actual, scores_of_image))

    def merge(self, other: SegmentationEvaluator) -> None:
        """Adds the images of another evaluator, as if they had been given to this one; the other is not changed.

        Raises:
          ODEvalError: the two differ in categories or ignore label, or share an image.
        """
        for name in ("categories", "ignore_label"):
            own_value, other_value = getattr(self, f"_{name}"), getattr(other, f"_{name}")
            if own_value != other_value:
                raise ODEvalError(
                    f"evaluators of different {name} cannot be merged: {own_value} and {other_value}; create both"
                    " with the same."
                )
        self._check_new(other._images)
        self._counts.add(other._counts)
        self._images.update(other._images)

    def evaluate(
        self,
        *,
        losses: Mapping[str, float] | None = None,
        step: int | None = None,
        checkpoint: str | None = None,
    ) -> EvaluationResult:
        """The metrics of all images so far, in the section `segmentation`. More images may be added afterwards.

        Args:
          losses, step, checkpoint: further contents of the result, see `EvaluationResult`.

        Raises:
          ODEvalError: there are no images.
        """
        if not self._images:
            raise ODEvalError("there are no images to evaluate; see whether the evaluation set is empty.")
        return EvaluationResult(
            num_images=len(self._images),
            segmentation=segmentation_section(self._counts, list(self._categories.values())),
            losses=losses or {},
            step=step,
            checkpoint=checkpoint,
        )

    def confusion(self) -> Ints:
        """int64 `[classes, classes]`: the number of pixels by actual class (rows) and predicted class (columns)."""
        return self._counts.confusion.copy()

    def images(self) -> SegmentedImages:
        """What became of each image so far, in the order in which they were added."""
        results = self._images.values()
        return SegmentedImages(
            ids=list(self._images),
            pixels=np.array([result.pixels for result in results], np.int64),
            wrong=np.array([result.wrong for result in results], np.int64),
            iou=np.array([result.iou for result in results], np.float64),
            worst_class=np.array([result.worst_class for result in results], np.int64),
        )

    def _check_new(self, ids: Iterable[ImageId]) -> None:
        seen: set[ImageId] = set()
        for id in ids:
            if id in self._images or id in seen:
                raise ODEvalError(
                    f"image {id!r} has already been evaluated; give every image an id of its own, and see whether the"
                    " evaluation set contains an image twice or repeats."
                )
            seen.add(id)

    def _read(
        self, image: str, labels: npt.NDArray[Any], scores: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
        """The class of each pixel and its scores; `image` is its name in messages."""
        classes = len(self._ids)
        if labels.ndim != 2 or not labels.size or not np.issubdtype(labels.dtype, np.integer):
            raise ODEvalError(
                f"the labels of {image} are {labels.dtype} of shape {list(labels.shape)}; give integers [height,"
                " width]."
            )
        if scores.shape != (*labels.shape, classes):
            raise ODEvalError(
                f"the scores of {image} are of shape {list(scores.shape)}, and its labels and the {classes} categories"
                f" of {[*labels.shape, classes]}; give a score for each category ([height, width, classes]), at the"
                " size of the labels."
            )
        scores = np.ascontiguousarray(scores, np.float32)
        if not (scores.min() >= -_TOLERANCE and scores.max() <= 1 + _TOLERANCE):  # also of NaN
            wrong = ~((scores >= -_TOLERANCE) & (scores <= 1 + _TOLERANCE))
            where = _first(wrong)
            advice = (
                "give probabilities, a softmax of logits"
                if np.isfinite(scores[where])
                else "see whether training has diverged"
            )
            raise ODEvalError(
                f"{image} has the score {scores[where]:g} for '{self._categories[int(self._ids[where[2]])]}' in row"
                f" {where[0]}, column {where[1]}, which is not from 0 to 1; {advice}."
            )
        actual = np.minimum(np.searchsorted(self._ids, labels), classes - 1)
        is_class = self._ids[actual] == labels
        ignored = np.zeros_like(is_class) if self._ignore_label is None else labels == self._ignore_label
        unknown = ~(is_class | ignored)
        if unknown.any():
            where = _first(unknown)
            raise ODEvalError(
                f"{image} has the label {labels[where]} in row {where[0]}, column {where[1]}, which is neither a"
                f" category ({some(self._categories)}) nor the ignore_label ({self._ignore_label}); add it to the"
                " categories, or ignore it."
            )
        return np.where(ignored, IGNORED, actual).astype(np.int16), scores


def _per_image(values: PerImage) -> Sequence[Any]:
    return values if isinstance(values, list | tuple) else np.asarray(values)  # type: ignore[return-value]


def _first(wrong: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(int(wrong.argmax()), wrong.shape))


def _image_result(confusion: Ints) -> _ImageResult:
    actual = confusion.sum(axis=1)
    wrong_of_class = actual - np.diag(confusion)
    wrong = int(wrong_of_class.sum())
    return _ImageResult(
        pixels=int(actual.sum()),
        wrong=wrong,
        iou=float(ious(confusion)[actual > 0].mean()) if actual.any() else float("nan"),
        worst_class=int(wrong_of_class.argmax()) if wrong else -1,
    )
