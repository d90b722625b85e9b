"""A set of images that a model's semantic segmentation is evaluated on, and the run of its evaluations.

segmentation_set = SegmentationSet(dataset, "runs/a", options=SegmentationOptions({0: "background", 1: "cat"}))
result = segmentation_set.evaluate(model, step=1000)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from od_eval import losses
from od_eval.callbacks.base import keras_3
from od_eval.callbacks.recorded_evaluations import RecordedEvaluations
from od_eval.errors import ODEvalError
from od_eval.evaluation.loop import progress_bar
from od_eval.evaluation.means import RunningMeans
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.segmentation.batch import SegmentationBatch
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
from od_eval.evaluation.segmentation.options import SegmentationOptions
from od_eval.runs.image_archive import ImageArchive
from od_eval.runs.segmentation_files import LabelArchive
from od_eval.segmentation_losses import SegmentationLoss
from od_eval.tensorboard import tags

Segment = Callable[[Any, Any], SegmentationBatch]


class SegmentationSet(RecordedEvaluations):
    """Evaluates the semantic segmentation of models on a dataset and writes the results.

    Args:
      dataset: iterated once per evaluation.
      model_dir: the folder that contains the run.
      options: what to evaluate, and what to show.
      segment: a function of the model and one element of the dataset; by default `ImagesAndLabels`.
      run: the TensorBoard run below `model_dir`.
      prefix: prefix of the keys in Keras's `logs`.
      diagnose, known: as for `DetectionEvaluation`.

    Attributes:
      run, run_dir: the run, and its folder.
      options: as given.
      results: the evaluations made so far.
    """

    _other_section = "bbox"

    def __init__(
        self,
        dataset: Iterable[Any],
        model_dir: str | os.PathLike[str],
        *,
        options: SegmentationOptions,
        segment: Segment | None = None,
        run: str = tags.EVAL,
        prefix: str = "val_",
        diagnose: bool = False,
        known: Callable[[], Mapping[str, Any]] = dict,
    ):
        super().__init__(model_dir, run=run, prefix=prefix, diagnose=diagnose, known=known)
        SegmentationEvaluator(options.categories, options.ignore_label)  # raises if they make no sense
        self._dataset = dataset
        self.options = options
        self._segment = segment

    def evaluate(self, model: Any, step: int, checkpoint: str | None = None) -> EvaluationResult:
        # Imported here for the reason given in `callbacks.base`: it imports TensorFlow.
        from od_eval.runs.evaluation_run import draw_segmentation, write_segmentation

        started = time.monotonic()
        self._begin()
        options = self.options
        segment = self._segment or ImagesAndLabels(options)
        self._archive = ImageArchive(self.run_dir, self._archive) if options.num_pictures else None
        labels = LabelArchive(options.categories)
        evaluator = SegmentationEvaluator(options.categories, options.ignore_label)
        means = RunningMeans()
        with progress_bar(self.run, self._num_images) as progress:
            for element in self._dataset:
                batch = segment(model, element)
                evaluator.update(labels=batch.labels, scores=batch.scores, image_ids=batch.image_ids)
                means.add(batch.losses, weight=len(batch.image_ids))
                if self._archive is not None:
                    self._archive.update(batch)
                    _add_labels(labels, batch, self._archive)
                progress.update(len(batch.image_ids))
        result = evaluator.evaluate(losses=means.result(), step=step, checkpoint=checkpoint)
        self._num_images = result.num_images
        kept_steps = [] if self._best is None or self._best.step is None else [self._best.step]
        write_segmentation(self.run, self.run_dir, step, evaluator, options, kept_steps, self._archive, labels)
        result = self._write(model, result, options, started=started)
        if (
            self._archive is not None
            and self._pictures_are_due(step)
            and draw_segmentation(self.run, self.run_dir, step, evaluator, options, self._archive, labels)
        ):
            self._last_step_with_pictures = step
        return result

    def help_to_evaluate(self, model: Any) -> None:
        # All of the images, as on the chief: see `od_eval.evaluation.loop.help_to_evaluate`.
        segment = self._segment or ImagesAndLabels(self.options)
        for element in self._dataset:
            segment(model, element)


class ImagesAndLabels:
    """What a Keras model makes of a batch of images and labels; images are numbered.

    So the dataset has to give the same images in the same order every time: pictures are kept by these numbers.

    It is a function of the model and an element of the dataset that returns a `SegmentationBatch`. The element is a
    tuple of images `[batch, height, width, channels]` and labels `[batch, height, width]` or `[batch, height, width,
    1]`, ids of categories, or one-hot `[batch, height, width, classes]`. The model's output is `[batch, height, width,
    classes]`, at the size of the labels; a smaller or larger one is an error of the evaluation.

    Its `losses` are those that the model was compiled with: the sum and, of a loss of `od_eval`, its parts.

    Pictures are made of the images that the model is given: floats from 0 to 1, from −1 to 1 and from 0 to 255 are
    recognized by the range of the batch; others, such as standardized images, are stretched to the range of colors.

    Args:
      options: the categories, and whether the model returns logits.
    """

    def __init__(self, options: SegmentationOptions):
        self._from_logits = options.from_logits
        self._ids = np.array(sorted(options.categories))
        self._ignore_label = options.ignore_label
        self._num_images = 0

    def __call__(self, model: Any, element: Any) -> SegmentationBatch:
        if not isinstance(element, tuple | list) or len(element) != 2:
            what = f"{len(element)} parts" if isinstance(element, tuple | list) else type(element).__name__
            raise ODEvalError(
                f"an element of the dataset is not images and labels, but {what}; pass segment=, a function of the"
                " model and an element that returns a SegmentationBatch."
            )
        images, labels = (np.asarray(part) for part in element)
        outputs = np.asarray(model.predict_on_batch(element[0]))
        if outputs.ndim != 4 or outputs.shape[-1] != len(self._ids):
            raise ODEvalError(
                f"the model's output is of shape {list(outputs.shape)}, and there are {len(self._ids)} categories; give"
                f" it a last axis of {len(self._ids)}, or pass segment=, a function of the model and an element."
            )
        image_ids = range(self._num_images, self._num_images + len(images))
        self._num_images += len(images)
        return SegmentationBatch(
            image_ids=image_ids,
            labels=self._ids_of(labels),
            scores=_softmax(outputs) if self._from_logits else outputs,
            losses=_losses(model, labels, outputs),
            images=_as_pictures(images),
        )

    def _ids_of(self, labels: np.ndarray) -> np.ndarray:
        """Ids of categories `[batch, height, width]`, of one-hot labels too."""
        if labels.ndim != 4:
            return labels
        if labels.shape[-1] == 1:
            return labels[..., 0]
        if labels.shape[-1] != len(self._ids):
            raise ODEvalError(
                f"the labels are of shape {list(labels.shape)}, and there are {len(self._ids)} categories; give one-hot"
                f" labels a last axis of {len(self._ids)}, or give ids of categories [batch, height, width]."
            )
        ids = self._ids[labels.argmax(axis=-1)]
        has_class = labels.any(axis=-1)
        if has_class.all():
            return ids
        if self._ignore_label is None:
            raise ODEvalError(
                "the one-hot labels have pixels of no class, and options no ignore_label to give them; name a number"
                " that is no category: SegmentationOptions(…, ignore_label=255)."
            )
        return np.where(has_class, ids, self._ignore_label)


def _softmax(logits: np.ndarray) -> np.ndarray:
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float32)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _losses(model: Any, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """The losses of a batch that a model was compiled with; none if it was not, or with several."""
    import tensorflow as tf

    keras = keras_3(model)
    as_tensor = tf.convert_to_tensor if keras is None else keras.ops.convert_to_tensor
    as_array = np.asarray if keras is None else keras.ops.convert_to_numpy
    loss = getattr(model, "loss", None)
    if isinstance(loss, str):
        loss = (keras or tf.keras).losses.get(loss)
    if not callable(loss):
        return {}
    functions = {losses.TOTAL: loss}
    if isinstance(loss, SegmentationLoss):
        functions |= {part.name: part for part in loss.metrics()}
    given = as_tensor(labels), as_tensor(outputs)
    means = {name: float(as_array(function(*given)).mean()) for name, function in functions.items()}
    if model.losses:
        means[losses.REGULARIZATION] = float(sum(as_array(value) for value in model.losses))
        means[losses.TOTAL] += means[losses.REGULARIZATION]
    return means


def _as_pictures(images: np.ndarray) -> np.ndarray:
    """Images that a model is given as colors: uint8 `[batch, height, width, 3]`."""
    images = images[..., :3] if images.shape[-1] >= 3 else images[..., :1].repeat(3, axis=-1)
    if images.dtype == np.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    if low < -1 or high > 255:
        scale, offset = 255 / max(high - low, 1e-9), low
    elif low < 0:
        scale, offset = 127.5, -1
    else:
        scale, offset = (255, 0) if high <= 1 else (1, 0)
    return np.clip(np.round((images - offset) * scale), 0, 255).astype(np.uint8)


def _add_labels(labels: LabelArchive, batch: SegmentationBatch, archive: ImageArchive) -> None:
    """Adds the label images of a batch where the archive has a picture."""
    for image_id, of_pixels, scores in zip(batch.image_ids, batch.labels, batch.scores, strict=True):
        size = archive.size(image_id)
        if size is not None:
            labels.add(image_id, size, np.asarray(of_pixels), np.asarray(scores).argmax(axis=-1))
