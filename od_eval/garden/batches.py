"""What a task of Model Garden returns for a batch of images, in the form evaluators take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from official.vision.evaluation import segmentation_metrics
from official.vision.ops import mask_ops, preprocess_ops

from od_eval.evaluation import masks as coco_masks
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.segmentation.batch import SegmentationBatch

Arrays = Mapping[str, npt.NDArray[Any]]


def detection_batch(
    groundtruth: Arrays,
    predictions: Arrays,
    images: Sequence[npt.NDArray[Any]],
    image_ids: Sequence[int | str],
    losses: Mapping[str, float],
    *,
    scaled_boxes: bool,
    object_masks: Sequence[Sequence[dict[str, Any]]] | None = None,
) -> EvaluationBatch:
    """A batch for an `Evaluator` with boxes as `yxyx` in pixels of the original images.

    Args:
      groundtruth, predictions: what a task gives its COCO metric, see `COCOEvaluator.update_state` of Model Garden.
        Objects are in pixels of the original image.
      images: as in `EvaluationBatch`.
      image_ids: an id for each image.
      losses: of the batch.
      scaled_boxes: whether detected boxes are in pixels of the model's input (YOLO's are not).
      object_masks: for each image the COCO RLEs of its objects; None if there are only boxes.
    """
    sizes = np.stack([groundtruth["height"], groundtruth["width"]], axis=1).astype(int)
    scale = np.tile(predictions["image_info"][:, 2:3], (1, 1, 2)).astype(np.float32) if scaled_boxes else np.float32(1)
    boxes = predictions["detection_boxes"].astype(np.float32) / scale
    num_detections = predictions["num_detections"].astype(int)
    num_objects = np.minimum(groundtruth["num_detections"], groundtruth["boxes"].shape[1])
    detected_masks = None
    if object_masks is not None:
        outer_boxes = predictions.get("detection_outer_boxes")
        mask_boxes = boxes if outer_boxes is None else outer_boxes.astype(np.float32) / scale
        detected_masks = [
            _pasted(predictions["detection_masks"][index, :num], mask_boxes[index, :num], size)
            for index, (num, size) in enumerate(zip(num_detections, sizes, strict=True))
        ]
    return EvaluationBatch(
        image_ids=image_ids,
        image_sizes=sizes,
        detections=Detections(
            boxes=_rows(boxes, num_detections),
            scores=_rows(predictions["detection_scores"], num_detections),
            classes=_rows(predictions["detection_classes"].astype(int), num_detections),
            masks=detected_masks,
        ),
        groundtruth=GroundTruth(
            boxes=_rows(groundtruth["boxes"], num_objects),
            classes=_rows(groundtruth["classes"].astype(int), num_objects),
            masks=object_masks,
            is_crowd=_rows(groundtruth["is_crowds"].astype(bool), num_objects),
            area=_rows(groundtruth["areas"].astype(np.float64), num_objects),
        ),
        losses=losses,
        images=images,
    )


def segmentation_batch(
    labels: Arrays,
    logits: npt.NDArray[Any],
    images: Sequence[npt.NDArray[Any]],
    image_ids: Sequence[int | str],
    losses: Mapping[str, float],
    *,
    ignore_label: int,
    rescale: bool,
    independent: bool,
) -> SegmentationBatch:
    """A batch for a `SegmentationEvaluator`, at the size at which Model Garden's own IoU is computed.

    Args:
      labels: of the batch, as the parser of segmentation makes them.
      logits: float `[batch, height, width, classes]`, of any size.
      images, image_ids, losses: as for `detection_batch`.
      ignore_label: the label of pixels that do not count, padding among them.
      rescale: whether labels are at the size of the original images, to which predictions are scaled back.
      independent: whether classes have a sigmoid each; otherwise there is one softmax.
    """
    scaled, masks, valid = segmentation_metrics.preprocess_inputs(
        {name: tf.constant(value) for name, value in labels.items()}, tf.constant(logits), rescale
    )
    scores = (tf.sigmoid if independent else tf.nn.softmax)(tf.cast(scaled, tf.float32)).numpy()
    ids = np.where(valid.numpy().astype(bool), masks.numpy(), ignore_label)[..., 0].astype(int)
    return SegmentationBatch(image_ids=image_ids, labels=ids, scores=scores, losses=losses, images=images)


def pixels(features: npt.NDArray[Any], image_info: npt.NDArray[Any], *, normalized: bool) -> list[npt.NDArray[Any]]:
    """The images that a model was given, uint8 `[height, width, 3]` each, without their padding.

    Args:
      features: float `[batch, height, width, 3]`.
      image_info: float `[batch, 4, 2]`: original size, size of the input, scale, offset.
      normalized: whether they were normalized by ImageNet's mean and deviation; otherwise they are from 0 to 1.
    """
    features = features.astype(np.float32)
    if normalized:
        features = features * np.float32(preprocess_ops.STDDEV_RGB) + np.float32(preprocess_ops.MEAN_RGB)
    else:
        features = features * 255
    images = np.clip(np.round(features), 0, 255).astype(np.uint8)
    return [image[_valid(info, image.shape)] for image, info in zip(images, image_info, strict=True)]


def _valid(info: npt.NDArray[Any], shape: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of an input that show the image: where it begins is negative in `offset` if it was padded."""
    begin = np.maximum(-info[3], 0).astype(int)
    end = np.minimum(np.round(info[0] * info[2] - info[3]).astype(int), shape[:2])
    return slice(begin[0], max(end[0], begin[0] + 1)), slice(begin[1], max(end[1], begin[1] + 1))


def _rows(column: npt.NDArray[Any], num: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [rows[:count] for rows, count in zip(column, num, strict=True)]


def _pasted(masks: npt.NDArray[Any], boxes: npt.NDArray[Any], size: npt.NDArray[Any]) -> list[dict[str, Any]]:
    """RLEs of masks that are given in their boxes (`yxyx`), as Model Garden's evaluator makes them."""
    corners = np.concatenate([boxes[:, 1::-1], boxes[:, 3:1:-1] - boxes[:, 1::-1]], axis=1)  # xywh
    return [_rle(mask > 0, size) for mask in mask_ops.paste_instance_masks(masks, corners, int(size[0]), int(size[1]))]


def _rle(mask: npt.NDArray[Any], size: npt.NDArray[Any]) -> dict[str, Any]:
    return coco_masks.as_rle(coco_masks.from_array(mask), (int(size[0]), int(size[1])))
