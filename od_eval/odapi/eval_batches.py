"""Batches of an evaluation: split for the graphs they run in, then turned into arrays of what was detected."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from object_detection.core.standard_fields import DetectionResultFields, InputDataFields
from object_detection.protos import eval_pb2

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.options import EvaluationOptions
from od_eval.odapi import datasets

Tensors = Mapping[str, tf.Tensor]


# ---- Before the model: features and labels --------------------------------------------------------------------------


def batch_size_of(features: Tensors) -> int:
    """The number of images in a batch."""
    return features[InputDataFields.image].shape[0]


def parts_of(
    batch: tuple[Any, Any], strategy: tf.distribute.Strategy, batch_size: int
) -> Iterator[tuple[Tensors, Tensors]]:
    """The batch of each replica; image by image, if it is not full: a graph is traced for one size of batch.

    Args:
      batch: an element of a dataset, under a strategy with a value for each replica.
      strategy: under which it was read.
      batch_size: of a full one.
    """
    by_tensor = map(strategy.experimental_local_results, tf.nest.flatten(batch))
    for of_replica in zip(*by_tensor, strict=True):
        part = tf.nest.pack_sequence_as(batch, of_replica)
        size = batch_size_of(part[0])
        if size in (1, batch_size):
            yield part
        else:
            for index in range(size):
                with tf.device("CPU"):  # a GPU would keep its copies of batches for as long as these are kept
                    single = tf.nest.map_structure(lambda values: values[index : index + 1], part)  # noqa: B023
                yield single


def without_padding(labels: Tensors) -> dict[str, list[tf.Tensor]]:
    """Groundtruth of a batch -> a list of one tensor an image, without padding.

    `model_lib.unstack_batch` leaves the padding of some of them (weights of keypoints, confidences).
    """
    unstacked = {name: tf.unstack(value) for name, value in labels.items()}
    num_boxes = unstacked[InputDataFields.num_groundtruth_boxes]
    for name in labels.keys() - datasets.LABELS_OF_IMAGES:
        unstacked[name] = [value[:num] for value, num in zip(unstacked[name], num_boxes, strict=True)]
    return unstacked


# ---- After the model: arrays ----------------------------------------------------------------------------------------

_MASKS = (DetectionResultFields.detection_masks, InputDataFields.groundtruth_instance_masks)
_TAKEN = (
    DetectionResultFields.detection_boxes,
    DetectionResultFields.detection_scores,
    DetectionResultFields.detection_classes,
    DetectionResultFields.num_detections,
    DetectionResultFields.detection_keypoints,
    InputDataFields.groundtruth_boxes,
    InputDataFields.groundtruth_classes,
    InputDataFields.groundtruth_is_crowd,
    InputDataFields.groundtruth_difficult,
    InputDataFields.groundtruth_labeled_classes,
    InputDataFields.num_groundtruth_boxes,
    InputDataFields.original_image_spatial_shape,
)


def has_masks(eval_dict: Tensors) -> bool:
    """Whether there are masks of both detections and groundtruth."""
    return all(name in eval_dict for name in _MASKS)


def evaluation_batch(
    features: Tensors,
    eval_dict: Tensors,
    losses: Mapping[str, float],
    eval_config: eval_pb2.EvalConfig,
    options: EvaluationOptions,
) -> EvaluationBatch:
    """What a model made of a batch, as arrays.

    Args:
      features: of the dataset.
      eval_dict: as `object_detection.model_lib_v2.prepare_eval_dict` makes it.
      losses: of the batch.
      eval_config: which detections and groundtruth count.
      options: `categories` are those whose detections count, `masks` says whether masks are handed over.
    """
    taken = {*_TAKEN, *(_MASKS if options.masks else ())}
    arrays = {name: value.numpy() for name, value in eval_dict.items() if name in taken}
    sizes = arrays[InputDataFields.original_image_spatial_shape]
    detections = detections_of(arrays)
    keypoints = _relative(arrays.get(DetectionResultFields.detection_keypoints), sizes)
    classes = arrays[DetectionResultFields.detection_classes]
    counted = np.isin(classes, list(options.categories))  # a label map may have gaps
    labeled_classes = arrays.get(InputDataFields.groundtruth_labeled_classes)
    if eval_config.skip_predictions_for_unlabeled_class and labeled_classes is not None:
        # With their masks, which the Object Detection API counts. None of its decoders gives labeled classes, though.
        counted &= np.take_along_axis(labeled_classes, classes, axis=1) == 1
    if not counted.all():
        num_detections = arrays[DetectionResultFields.num_detections]
        kept = [np.flatnonzero(rows[:num]) for rows, num in zip(counted, num_detections, strict=True)]
        keypoints = _rows(keypoints, kept)
        detections = Detections(
            boxes=_rows(detections.boxes, kept),
            scores=_rows(detections.scores, kept),
            classes=_rows(detections.classes, kept),
            masks=_rows(detections.masks, kept),
        )
    return EvaluationBatch(
        image_ids=[source_id.decode("utf-8", "replace") for source_id in features[InputDataFields.source_id].numpy()],
        image_sizes=sizes,
        detections=detections,
        groundtruth=None if eval_config.ignore_groundtruth else _groundtruth_of(arrays),
        losses=losses,
        images=_images(features),
        keypoints=keypoints,
        outputs=eval_dict,
    )


def detections_of(arrays: Mapping[str, Any]) -> Detections:
    """The detections among what `object_detection.eval_util.result_dict_for_batched_example` makes of a batch."""
    return Detections(
        boxes=arrays[DetectionResultFields.detection_boxes],
        scores=arrays[DetectionResultFields.detection_scores],
        classes=arrays[DetectionResultFields.detection_classes],
        masks=arrays.get(DetectionResultFields.detection_masks),
        num=arrays[DetectionResultFields.num_detections],
    )


def _groundtruth_of(arrays: Mapping[str, Any]) -> GroundTruth:
    return GroundTruth(
        boxes=arrays[InputDataFields.groundtruth_boxes],
        classes=arrays[InputDataFields.groundtruth_classes],
        masks=arrays.get(InputDataFields.groundtruth_instance_masks),
        is_crowd=arrays.get(InputDataFields.groundtruth_is_crowd),
        difficult=arrays.get(InputDataFields.groundtruth_difficult),
        num=arrays[InputDataFields.num_groundtruth_boxes],
    )


def _rows(values: Any, kept: Sequence[np.ndarray]) -> Any:
    """The rows of each image that are kept."""
    return None if values is None else [value[rows] for value, rows in zip(values, kept, strict=True)]


def _relative(keypoints: np.ndarray | None, sizes: np.ndarray) -> np.ndarray | None:
    return None if keypoints is None else keypoints / sizes[:, np.newaxis, np.newaxis, :]


def _images(features: Tensors) -> list[np.ndarray]:
    """The images as they were before preprocessing, without padding; none where the dataset has not retained them."""
    images = features.get(InputDataFields.original_image)
    if images is None:
        return []
    shapes = features[InputDataFields.true_image_shape].numpy()
    return [image[:height, :width] for image, (height, width, _) in zip(images.numpy(), shapes, strict=True)]


class UniqueNames:
    """Tells images apart that have the same name: `a.jpg`, `a.jpg (2)`, …

    Attributes:
      repeated: how many images had the name of another.
      example: such a name.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self.example = ""
        self._times: collections.Counter[str] = collections.Counter()

    def unique(self, name: str) -> str:
        """The name, or a new one where it was given before."""
        self._times[name] += 1
        if self._times[name] == 1:
            return name
        self.repeated += 1
        self.example = name
        return self.unique(f"{name} ({self._times[name]})")
