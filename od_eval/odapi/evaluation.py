"""What `eval_config` asks for, and how outputs of the Object Detection API become arrays to evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from object_detection import eval_util, inputs
from object_detection.core.standard_fields import DetectionResultFields, InputDataFields
from object_detection.protos import eval_pb2, pipeline_pb2
from object_detection.utils import config_util, label_map_util

from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.options import EvaluationOptions
from od_eval.odapi import datasets
from od_eval.odapi.explained import explained
from od_eval.odapi.label_map import Category, read_label_map
from od_eval.odapi.text_proto import did_you_mean_one_of

BOXES = "coco_detection_metrics"
MASKS = "coco_mask_metrics"
KEYPOINTS = "coco_keypoint_metrics"
PANOPTIC = "coco_panoptic_metrics"
LVIS = "lvis_mask_metrics"
METRICS_OF_MASKS = (
    MASKS,
    LVIS,
    "oid_challenge_segmentation_metrics",
    "pascal_voc_instance_segmentation_metrics",
    "weighted_pascal_voc_instance_segmentation_metrics",
)
# More categories than these, and charts by category would be too many to look at, unless the config asks for them.
MAX_CATEGORIES_IN_CHARTS = 30


def evaluation_options(config: pipeline_pb2.TrainEvalPipelineConfig) -> EvaluationOptions:
    """What `eval_config` asks to be evaluated and shown.

    Raises:
      ODEvalError: it asks for what the model or the data cannot give.
    """
    eval_config = config.eval_config
    _check_metrics_set(eval_config)
    masks = _evaluates_masks(config)
    for metric in eval_config.parameterized_metric:
        _check_keypoint_metrics(config, metric.coco_keypoint_metrics)
    if LVIS in eval_config.metrics_set:
        _check_lvis(config)
    if eval_config.use_moving_averages and not config.train_config.optimizer.use_moving_average:
        raise ODEvalError(
            "eval_config.use_moving_averages is true, but train_config.optimizer.use_moving_average is false, so that"
            " there are no averages; set both to the same."
        )
    FurtherEvaluator(config)  # raises what it cannot compute
    categories = _categories(label_map_of_evaluation(config))
    if not eval_config.HasField("include_metrics_per_category"):
        per_category = "AP" if len(categories) <= MAX_CATEGORIES_IN_CHARTS else "none"
    elif not eval_config.include_metrics_per_category:
        per_category = "none"
    else:
        per_category = "all" if eval_config.all_metrics_per_category else "AP"
    return EvaluationOptions(
        categories=categories,
        masks=masks,
        super_categories={name: members.split(",") for name, members in eval_config.super_categories.items()},
        per_category=per_category,
        num_pictures=eval_config.num_visualizations if eval_config.retain_original_images else 0,
        max_boxes=eval_config.max_num_boxes_to_visualize,
        min_score=eval_config.min_score_threshold,
        show_groundtruth_boxes=eval_config.visualize_groundtruth_boxes,
        groundtruth_color=eval_config.groundtruth_box_visualization_color,
        show_scores=not eval_config.skip_scores,
        show_labels=not eval_config.skip_labels,
        keypoint_edges=[(edge.start, edge.end) for edge in eval_config.keypoint_edge],
        pictures_dir=eval_config.visualization_export_dir or None,
        save_detections=bool(eval_config.export_path),
    )


def _check_metrics_set(eval_config: eval_pb2.EvalConfig) -> None:
    known = [name for name in eval_util.EVAL_METRICS_CLASS_DICT if name not in (KEYPOINTS, PANOPTIC)]
    for name in eval_config.metrics_set:
        if name == KEYPOINTS:
            raise ODEvalError(
                f"eval_config.metrics_set: {KEYPOINTS} belong to one class of objects; say which in"
                " eval_config.parameterized_metric { coco_keypoint_metrics { class_label: '…' } }."
            )
        if name == PANOPTIC:  # its evaluator has no `add_eval_dict`, with which the loop of TF2 feeds all the others
            raise ODEvalError(
                f"eval_config.metrics_set: the Object Detection API has {PANOPTIC} in TF1 only; take it out, and see"
                f" how good masks are with {MASKS}."
            )
        if name not in known:
            raise ODEvalError(
                f"eval_config.metrics_set: there are no metrics '{name}'{did_you_mean_one_of(name, known)}; the names"
                f" are {', '.join(known)}."
            )


def _check_keypoint_metrics(config: pipeline_pb2.TrainEvalPipelineConfig, asked: eval_pb2.CocoKeypointMetrics) -> None:
    where = f"eval_config.parameterized_metric {{ {KEYPOINTS} }}"
    label_map = label_map_of_evaluation(config)
    names = _categories(label_map)
    label, sigmas = asked.class_label, asked.keypoint_label_to_sigmas
    keypoints = {names[one.id]: one.keypoints for one in label_map}.get(label)
    if keypoints is None:
        known = list(names.values())
        raise ODEvalError(
            f"{where}: class_label is '{label}'{did_you_mean_one_of(label, known)}; the label map has"
            f" {', '.join(known)}."
        )
    if not keypoints:
        raise ODEvalError(
            f"{where}: '{label}' has no keypoints in the label map; add keypoints {{ id: 0 label: '…' }} to its item"
            " for each."
        )
    missing = [name for name in keypoints if sigmas and name not in sigmas]
    if missing:
        raise ODEvalError(
            f"{where}: keypoint_label_to_sigmas has none for {', '.join(missing)}; give one for each keypoint of"
            f" '{label}' in the label map, or leave all out for 0.05."
        )
    model = config.model
    box_coder = model.ssd.box_coder.WhichOneof("box_coder_oneof")
    if not model.center_net.keypoint_estimation_task and box_coder != "keypoint_box_coder":
        raise ODEvalError(f"{where}: the model predicts no keypoints; take it out.")
    if any(reader.num_keypoints <= max(keypoints.values()) for reader in config.eval_input_reader):
        raise ODEvalError(
            f"{where}: eval_input_reader does not load all keypoints of '{label}'; set its num_keypoints to the number"
            " that each object has in the data."
        )


def _check_lvis(config: pipeline_pb2.TrainEvalPipelineConfig) -> None:
    for name in ("include_metrics_per_category", "all_metrics_per_category", "super_categories"):
        if getattr(config.eval_config, name):
            raise ODEvalError(
                f"eval_config.metrics_set: the Object Detection API has no {LVIS} of single categories; take them or"
                f" eval_config.{name} out."
            )
    label_map, num_classes = label_map_of_evaluation(config), config_util.get_number_of_classes(config.model)
    if len(label_map) != num_classes:
        raise ODEvalError(
            f"eval_config.metrics_set: for {LVIS} the label map must have all classes of the model, and it has"
            f" {len(label_map)}, the model {num_classes}; give both the same."
        )
    frequencies = _frequencies(config)
    names = [one.name for one in label_map if one.id not in frequencies]
    if names:
        raise ODEvalError(
            f"eval_config.metrics_set: {LVIS} are by the frequency of classes, and the label map does not say that of"
            f" '{names[0]}'; add frequency: FREQUENT, COMMON or RARE to each item."
        )


def _evaluates_masks(config: pipeline_pb2.TrainEvalPipelineConfig) -> bool:
    model, metrics_set = config.model, config.eval_config.metrics_set
    predicts_masks = (
        (model.WhichOneof("model") == "faster_rcnn" and model.faster_rcnn.number_of_stages == 3)
        or model.center_net.HasField("mask_estimation_task")
        or model.center_net.HasField("deepmac_mask_estimation")
    )
    reads_masks = all(reader.load_instance_masks for reader in config.eval_input_reader)
    of_masks = next((name for name in metrics_set if name in METRICS_OF_MASKS), None)
    if of_masks and not (predicts_masks and reads_masks):
        lacking = "the model predicts no masks" if not predicts_masks else "eval_input_reader does not load any"
        remedy = "take it out" if not predicts_masks else "set eval_input_reader.load_instance_masks to true"
        raise ODEvalError(f"eval_config.metrics_set asks for {of_masks}, but {lacking}; {remedy}.")
    return predicts_masks and reads_masks and (MASKS in metrics_set or not metrics_set)


def label_map_of_evaluation(config: pipeline_pb2.TrainEvalPipelineConfig) -> list[Category]:
    """The classes of the first reader that has a label map; without any, classes that are called by their numbers."""
    if config.model.HasField("faster_rcnn") and config.model.faster_rcnn.number_of_stages == 1:
        return [Category(1, "object")]  # proposals are of no class
    path = _label_map_path(config)
    if path:
        return read_label_map(path)
    return [Category(number, str(number)) for number in range(1, config_util.get_number_of_classes(config.model) + 1)]


def _label_map_path(config: pipeline_pb2.TrainEvalPipelineConfig) -> str | None:
    readers = [*config.eval_input_reader, config.train_input_reader]
    return next((reader.label_map_path for reader in readers if reader.label_map_path), None)


def _frequencies(config: pipeline_pb2.TrainEvalPipelineConfig) -> dict[int, str]:
    """Category id -> `f`, `c` or `r`, of those whose frequency the label map says; LVIS alone wants to know."""
    path = _label_map_path(config)
    categories = label_map_util.create_categories_from_labelmap(path) if path else []
    return {category["id"]: category["frequency"] for category in categories if "frequency" in category}


def _categories(label_map: Sequence[Category]) -> dict[int, str]:
    """Category id -> name, as the Object Detection API names them in tags."""
    names = [category.display_name or category.name or str(category.id) for category in label_map]
    if len(set(names)) < len(names):
        names = [category.name or str(category.id) for category in label_map]
    return dict(zip((category.id for category in label_map), names, strict=True))


class FurtherEvaluator:
    """The Object Detection API's own evaluators, for the metrics that are not COCO's of boxes and masks.

    Args:
      config: `eval_config.metrics_set` and `parameterized_metric` say which.
    """

    def __init__(self, config: pipeline_pb2.TrainEvalPipelineConfig):
        label_map = label_map_of_evaluation(config)
        names = _categories(label_map)
        categories = [{"id": one.id, "name": names[one.id], "keypoints": one.keypoints} for one in label_map]
        if LVIS in config.eval_config.metrics_set:
            frequencies = _frequencies(config)
            categories = [{**category, "frequency": frequencies[category["id"]]} for category in categories]
        eval_config = eval_pb2.EvalConfig()
        eval_config.CopyFrom(config.eval_config)
        # The Object Detection API takes an empty set for COCO's metrics of boxes; so these go in, and out again.
        further = [name for name in eval_config.metrics_set if name not in (BOXES, MASKS)]
        eval_config.metrics_set[:] = [BOXES, *further]
        with explained("eval_config.metrics_set"):
            options = eval_util.evaluator_options_from_eval_config(eval_config)
            _, *self._evaluators = eval_util.get_evaluators(eval_config, categories, options)
        self._keys: set[int] = set()

    def update(self, eval_dict: Mapping[str, tf.Tensor]) -> None:
        """Adds a batch, as `object_detection.model_lib_v2.prepare_eval_dict` describes it."""
        if not self._evaluators:
            return
        sizes = eval_dict[InputDataFields.original_image_spatial_shape].numpy()
        num_boxes = eval_dict[InputDataFields.num_groundtruth_boxes].numpy()
        num_detections = eval_dict[DetectionResultFields.num_detections].numpy()
        for index, (height, width) in enumerate(sizes):
            # Image by image, without padding: several of these evaluators take a padded box for an object of class 1,
            # and in a batch masks are padded to the largest image.
            single = {name: value[index : index + 1] for name, value in eval_dict.items()}
            for name, value in single.items():
                if name.startswith("groundtruth_") and name not in datasets.LABELS_OF_IMAGES:
                    single[name] = value[:, : num_boxes[index]]
                elif name.startswith("detection_"):
                    single[name] = value[:, : num_detections[index]]
            for name in (DetectionResultFields.detection_masks, InputDataFields.groundtruth_instance_masks):
                if name in single:
                    single[name] = single[name][..., :height, :width]
            key = int(single[InputDataFields.key][0])
            while key in self._keys:  # a hash; these evaluators pass over what they think they have seen
                key = (key + 1) % inputs.HASH_BINS
            self._keys.add(key)
            single[InputDataFields.key] = tf.constant([key])
            for evaluator in self._evaluators:
                evaluator.add_eval_dict(single)

    def evaluate(self) -> dict[str, float]:
        """The metrics under the Object Detection API's tags, without those that are not defined (NaN or -1)."""
        metrics: dict[str, float] = {}
        for evaluator in self._evaluators:
            metrics.update({str(tag): float(value) for tag, value in evaluator.evaluate().items() if value >= 0})
        return metrics


def evaluation_batch(
    features: Mapping[str, tf.Tensor],
    eval_dict: Mapping[str, tf.Tensor],
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
      options: of the evaluation.
    """
    taken = {*_TAKEN, *(_MASKS if options.masks else ())}
    arrays = {name: value.numpy() for name, value in eval_dict.items() if name in taken}
    sizes = arrays[InputDataFields.original_image_spatial_shape]
    detections = detections_of(arrays)
    keypoints = _relative(arrays.get(DetectionResultFields.detection_keypoints), sizes)
    counted = np.isin(detections.classes, list(options.categories))  # a label map may have gaps
    labeled_classes = arrays.get(InputDataFields.groundtruth_labeled_classes)
    if eval_config.skip_predictions_for_unlabeled_class and labeled_classes is not None:
        # With their masks, which the Object Detection API counts. None of its decoders gives labeled classes, though.
        counted &= np.take_along_axis(labeled_classes, np.asarray(detections.classes), axis=1) == 1
    if not counted.all():
        kept = [np.flatnonzero(rows[:num]) for rows, num in zip(counted, detections.num, strict=True)]
        keypoints = _rows(keypoints, kept)
        detections = Detections(
            boxes=_rows(detections.boxes, kept),
            scores=_rows(detections.scores, kept),
            classes=_rows(detections.classes, kept),
            masks=_rows(detections.masks, kept),
        )
    groundtruth = None
    if not eval_config.ignore_groundtruth:
        groundtruth = GroundTruth(
            boxes=arrays[InputDataFields.groundtruth_boxes],
            classes=arrays[InputDataFields.groundtruth_classes],
            masks=arrays.get(InputDataFields.groundtruth_instance_masks),
            is_crowd=arrays.get(InputDataFields.groundtruth_is_crowd),
            difficult=arrays.get(InputDataFields.groundtruth_difficult),
            num=arrays[InputDataFields.num_groundtruth_boxes],
        )
    return EvaluationBatch(
        image_ids=[source_id.decode("utf-8", "replace") for source_id in features[InputDataFields.source_id].numpy()],
        image_sizes=sizes,
        detections=detections,
        groundtruth=groundtruth,
        losses=losses,
        images=_images(features),
        keypoints=keypoints,
        outputs=eval_dict,
    )


def detections_of(arrays: Mapping[str, np.ndarray]) -> Detections:
    """The detections among what `object_detection.eval_util.result_dict_for_batched_example` makes of a batch."""
    return Detections(
        boxes=arrays[DetectionResultFields.detection_boxes],
        scores=arrays[DetectionResultFields.detection_scores],
        classes=arrays[DetectionResultFields.detection_classes],
        masks=arrays.get(DetectionResultFields.detection_masks),
        num=arrays[DetectionResultFields.num_detections],
    )


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


def _rows(values: Iterable[np.ndarray] | None, kept: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    return None if values is None else [value[rows] for value, rows in zip(values, kept, strict=True)]


def _relative(keypoints: np.ndarray | None, sizes: np.ndarray) -> np.ndarray | None:
    return None if keypoints is None else keypoints / sizes[:, np.newaxis, np.newaxis, :]


def _images(features: Mapping[str, Any]) -> list[np.ndarray]:
    """The images as they were before preprocessing, without padding; none where the dataset has not retained them."""
    images = features.get(InputDataFields.original_image)
    if images is None:
        return []
    shapes = features[InputDataFields.true_image_shape].numpy()
    return [image[:height, :width] for image, (height, width, _) in zip(images.numpy(), shapes, strict=True)]
