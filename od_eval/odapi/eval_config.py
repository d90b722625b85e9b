"""The evaluation that `eval_config` requests: which classes and metrics are evaluated, and what is shown."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

from object_detection.protos import pipeline_pb2
from object_detection.utils import config_util

from od_eval.evaluation.options import EvaluationOptions
from od_eval.findings.finding import raise_first_error
from od_eval.label_map import Category, read_label_map
from od_eval.odapi import config_checks
from od_eval.odapi.loss_formulas import loss_formulas
from od_eval.odapi.placeholder import placeholder

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
# With more categories, there would be too many curves to look at, unless the config asks for them.
MAX_CATEGORIES_IN_CHARTS = 30


class RequestedEvaluation:
    """The evaluation that a config requests. Its label map is read once, when it is first needed.

    Attributes:
      config: the config; `eval_config` is the request, model and input readers decide what is available.
      source: the name of the config in messages.
    """

    def __init__(self, config: pipeline_pb2.TrainEvalPipelineConfig, source: str = "pipeline.config"):
        self.config = config
        self.source = source

    @functools.cached_property
    def options(self) -> EvaluationOptions:
        """What to evaluate and what to show.

        Raises:
          ODEvalError: the config requests something that the model or the data cannot provide.
        """
        raise_first_error(config_checks.findings("evaluation", self))
        eval_config = self.config.eval_config
        return EvaluationOptions(
            categories=self.categories,
            masks=self.has_masks and (MASKS in eval_config.metrics_set or not eval_config.metrics_set),
            super_categories={name: members.split(",") for name, members in eval_config.super_categories.items()},
            per_category=self._per_category(),
            num_pictures=eval_config.num_visualizations if eval_config.retain_original_images else 0,
            max_boxes=eval_config.max_num_boxes_to_visualize,
            min_score=(
                eval_config.min_score_threshold
                if eval_config.HasField("min_score_threshold")
                else EvaluationOptions.min_score
            ),
            show_groundtruth_boxes=eval_config.visualize_groundtruth_boxes,
            groundtruth_color=eval_config.groundtruth_box_visualization_color,
            show_scores=not eval_config.skip_scores,
            show_labels=not eval_config.skip_labels,
            keypoint_edges=[(edge.start, edge.end) for edge in eval_config.keypoint_edge],
            pictures_dir=eval_config.visualization_export_dir or None,
            save_detections=bool(eval_config.export_path),
            loss_formulas=loss_formulas(self.config.model),
        )

    @functools.cached_property
    def label_map(self) -> list[Category]:
        """The classes of the first reader that has a label map; without any, classes named by their numbers.

        Raises:
          ODEvalError: the label map cannot be read.
        """
        if self.config.model.HasField("faster_rcnn") and self.config.model.faster_rcnn.number_of_stages == 1:
            return [Category(1, "object")]  # proposals have no class
        readers = [
            (f"eval_input_reader[{index}]", reader) for index, reader in enumerate(self.config.eval_input_reader)
        ]
        for name, reader in [*readers, ("train_input_reader", self.config.train_input_reader)]:
            path, field = reader.label_map_path, f"{name}.label_map_path"
            if path:
                raise_first_error(placeholder(self.source, field, path))
                return read_label_map(path, f"{self.source}: {field}: label map")
        return [Category(number, str(number)) for number in range(1, self.num_classes + 1)]

    @property
    def categories(self) -> dict[int, str]:
        """Category id -> name, as the Object Detection API names them in tags."""
        return category_names(self.label_map)

    @property
    def num_classes(self) -> int:
        """The number of classes of the model."""
        return config_util.get_number_of_classes(self.config.model)

    @property
    def predicts_masks(self) -> bool:
        """Whether the model has an output for masks."""
        model = self.config.model
        return (
            (model.WhichOneof("model") == "faster_rcnn" and model.faster_rcnn.number_of_stages == 3)
            or model.center_net.HasField("mask_estimation_task")
            or model.center_net.HasField("deepmac_mask_estimation")
        )

    @property
    def reads_masks(self) -> bool:
        """Whether every evaluation set has masks."""
        return all(reader.load_instance_masks for reader in self.config.eval_input_reader)

    @property
    def has_masks(self) -> bool:
        """Whether masks can be evaluated."""
        return self.predicts_masks and self.reads_masks

    def _per_category(self) -> Literal["AP", "all", "none"]:
        eval_config = self.config.eval_config
        if not eval_config.HasField("include_metrics_per_category"):
            return "AP" if len(self.categories) <= MAX_CATEGORIES_IN_CHARTS else "none"
        if not eval_config.include_metrics_per_category:
            return "none"
        return "all" if eval_config.all_metrics_per_category else "AP"


def category_names(label_map: Sequence[Category]) -> dict[int, str]:
    """Category id -> name, as the Object Detection API names them in tags."""
    names = [category.display_name or category.name or str(category.id) for category in label_map]
    if len(set(names)) < len(names):
        names = [category.name or str(category.id) for category in label_map]
    return dict(zip((category.id for category in label_map), names, strict=True))
