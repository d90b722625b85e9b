"""The metrics of `eval_config.metrics_set` other than the COCO metrics of boxes and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
from object_detection import eval_util, inputs
from object_detection.core.standard_fields import DetectionResultFields, InputDataFields
from object_detection.protos import eval_pb2

from od_eval.errors import ODEvalError
from od_eval.label_map import Category
from od_eval.odapi import datasets
from od_eval.odapi.eval_config import BOXES, MASKS, category_names
from od_eval.odapi.explained import explained


class FurtherEvaluator:
    """The Object Detection API's own evaluators, for metrics other than the COCO metrics of boxes and masks.

    A metric that is listed twice is evaluated once.

    Args:
      eval_config: `metrics_set` and `parameterized_metric` select the metrics.
      label_map: the classes.

    Raises:
      ODEvalError: an evaluator cannot be created.
    """

    def __init__(self, eval_config: eval_pb2.EvalConfig, label_map: Sequence[Category]):
        names = category_names(label_map)
        categories = []
        for category in label_map:
            as_dict = {"id": category.id, "name": names[category.id], "keypoints": category.keypoints}
            if category.frequency:
                as_dict["frequency"] = category.frequency[0].lower()  # f, c or r
            categories.append(as_dict)
        further = eval_pb2.EvalConfig()
        further.CopyFrom(eval_config)
        # The Object Detection API treats an empty set as the COCO box metrics; so these are added here and dropped
        # below.
        further.metrics_set[:] = dict.fromkeys(
            [BOXES, *(name for name in eval_config.metrics_set if name not in (BOXES, MASKS))]
        )
        del further.parameterized_metric[:]
        for metric in eval_config.parameterized_metric:
            if metric not in further.parameterized_metric:
                further.parameterized_metric.append(metric)
        with explained("eval_config.metrics_set"):
            options = eval_util.evaluator_options_from_eval_config(further)
            _, *self._evaluators = eval_util.get_evaluators(further, categories, options)
        self._keys: set[int] = set()

    @property
    def is_empty(self) -> bool:
        """Whether `eval_config` asks for no other metrics than COCO's of boxes and masks."""
        return not self._evaluators

    def update(self, eval_dict: Mapping[str, tf.Tensor]) -> None:
        """Adds a batch, as returned by `object_detection.model_lib_v2.prepare_eval_dict`, of tensors or arrays."""
        eval_dict = {name: tf.convert_to_tensor(value) for name, value in eval_dict.items()}
        sizes = eval_dict[InputDataFields.original_image_spatial_shape].numpy()
        num_boxes = eval_dict[InputDataFields.num_groundtruth_boxes].numpy()
        num_detections = eval_dict[DetectionResultFields.num_detections].numpy()
        for index, (height, width) in enumerate(sizes):
            # Image by image, without padding: several of these evaluators treat a padded box as an object of class 1,
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
            single[InputDataFields.key] = tf.constant([self._unique(int(single[InputDataFields.key][0]))])
            for evaluator in self._evaluators:
                evaluator.add_eval_dict(single)

    def _unique(self, key: int) -> int:
        """A unique key: keys are hashes, and these evaluators skip an image whose key has occurred before."""
        while key in self._keys:
            key = (key + 1) % inputs.HASH_BINS
        self._keys.add(key)
        return key

    def evaluate(self) -> dict[str, float]:
        """The metrics under the Object Detection API's tags, without those that are not defined (NaN or -1).

        Raises:
          ODEvalError: two evaluators use the same tag for different metrics.
        """
        metrics: dict[str, float] = {}
        for evaluator in self._evaluators:
            for tag, value in evaluator.evaluate().items():
                if str(tag) in metrics:
                    raise ODEvalError(
                        f"eval_config: two of its metrics have the tag '{tag}', under which only one can be shown;"
                        " remove one of them."
                    )
                metrics[str(tag)] = float(value)
        return {tag: value for tag, value in metrics.items() if value >= 0}
