"""Batches of an evaluation: splits them for the graphs, and converts the model's outputs to arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from object_detection.core.standard_fields import DetectionResultFields, InputDataFields
from object_detection.protos import eval_pb2

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth, column_rows, rows_of, with_rles
from od_eval.evaluation.options import EvaluationOptions
from od_eval.odapi import datasets

Tensors = Mapping[str, tf.Tensor]

# An archive of pictures has room for so many.
_MOST_IMAGES_SENT = 2000


# ---- Before the model: features and labels --------------------------------------------------------------------------


def batch_size_of(features: Tensors) -> int:
    """The number of images in a batch."""
    return features[InputDataFields.image].shape[0]


def parts_of(
    batch: tuple[Any, Any], strategy: tf.distribute.Strategy, batch_size: int
) -> Iterator[tuple[Tensors, Tensors]]:
    """The batch of each replica, or its single images if it is not full: a graph is traced for one batch size.

    Args:
      batch: an element of a dataset; under a strategy with a value for each replica.
      strategy: the strategy under which it was read.
      batch_size: the size of a full batch.
    """
    by_tensor = map(strategy.experimental_local_results, tf.nest.flatten(batch))
    for of_replica in zip(*by_tensor, strict=True):
        part = tf.nest.pack_sequence_as(batch, of_replica)
        size = batch_size_of(part[0])
        if size in (1, batch_size):
            yield part
        else:
            for index in range(size):
                with tf.device("CPU"):  # a GPU would hold copies of the batches as long as they are kept
                    single = tf.nest.map_structure(lambda values: values[index : index + 1], part)  # noqa: B023
                yield single


def without_padding(labels: Tensors) -> dict[str, list[tf.Tensor]]:
    """Converts the ground truth of a batch to a list of one tensor per image, without padding.

    `model_lib.unstack_batch` keeps the padding of some tensors (keypoint weights, confidences).
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
    """Whether there are masks of both detections and ground truth."""
    return all(name in eval_dict for name in _MASKS)


def evaluation_batch(
    features: Tensors,
    eval_dict: Tensors,
    losses: Mapping[str, float],
    eval_config: eval_pb2.EvalConfig,
    options: EvaluationOptions,
) -> EvaluationBatch:
    """Converts a model's outputs for a batch to arrays.

    Args:
      features: the features of the dataset.
      eval_dict: as returned by `object_detection.model_lib_v2.prepare_eval_dict`.
      losses: the losses of the batch.
      eval_config: decides which detections and ground truth count.
      options: `categories` are those whose detections count, `masks` decides whether masks are passed on.
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
        # Including masks, which the Object Detection API keeps. None of its decoders returns labeled classes, though.
        counted &= np.take_along_axis(labeled_classes, classes, axis=1) == 1
    if not counted.all():
        num_detections = arrays[DetectionResultFields.num_detections]
        kept = [np.flatnonzero(rows[:num]) for rows, num in zip(counted, num_detections, strict=True)]
        detections, keypoints = rows_of(detections, kept), column_rows(keypoints, kept)
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
    """The detections in a result of `object_detection.eval_util.result_dict_for_batched_example`."""
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


def _relative(keypoints: np.ndarray | None, sizes: np.ndarray) -> np.ndarray | None:
    return None if keypoints is None else keypoints / sizes[:, np.newaxis, np.newaxis, :]


def _images(features: Tensors) -> list[np.ndarray]:
    """The images before preprocessing, without padding; empty if the dataset has not retained them."""
    images = features.get(InputDataFields.original_image)
    if images is None:
        return []
    shapes = features[InputDataFields.true_image_shape].numpy()
    return [image[:height, :width] for image, (height, width, _) in zip(images.numpy(), shapes, strict=True)]


def to_be_sent(batch: EvaluationBatch, num_images: int, with_outputs: bool) -> EvaluationBatch:
    """A batch for another worker, which gets masks as RLEs, arrays for tensors, and no more images than are looked at.

    Args:
      batch: from `evaluation_batch`.
      num_images: the number of images of all workers so far, with those of the batch.
      with_outputs: whether an evaluator needs the outputs of the model.
    """
    return dataclasses.replace(
        batch,
        detections=with_rles(batch.detections, batch.image_sizes),
        groundtruth=None if batch.groundtruth is None else with_rles(batch.groundtruth, batch.image_sizes),
        images=batch.images if num_images <= _MOST_IMAGES_SENT else (),
        outputs={name: value.numpy() for name, value in batch.outputs.items()} if with_outputs else None,
    )
