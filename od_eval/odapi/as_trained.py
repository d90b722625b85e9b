"""What an export changes of the model that was trained: the size of its input, and how overlaps are suppressed."""

from __future__ import annotations

import dataclasses
from typing import Any

from od_eval.odapi.pipeline import Pipeline

# The fields of a model that change what it detects, and not its variables.
_POST_PROCESSING = ("post_processing", "second_stage_post_processing")
_WITHOUT_VARIABLES = ("image_resizer", *_POST_PROCESSING)


@dataclasses.dataclass(frozen=True)
class Suppression:
    """How a model drops detections that overlap: its non-maximum suppression, in each category.

    Attributes:
      iou_threshold: of two detections that overlap by more, the one with the lower score is dropped.
      score_threshold: detections with a lower score are dropped.
    """

    iou_threshold: float
    score_threshold: float


def as_trained(exported: Pipeline, trained: Pipeline) -> Pipeline:
    """The pipeline of a checkpoint: that of its export, with the image resizer and the suppression of its training.

    All else that overrides set for an export, such as the files of the evaluation set, holds for both.

    Args:
      exported: with the overrides of the export.
      trained: without them.
    """
    config = type(exported.config).FromString(exported.config.SerializeToString())
    if trained.meta_architecture == exported.meta_architecture:
        target, source = _model(config, exported), _model(trained.config, trained)
        for field in _WITHOUT_VARIABLES:
            if field in target.DESCRIPTOR.fields_by_name:
                target.ClearField(field)
                if source.HasField(field):  # a CenterNet with an empty post_processing suppresses, without one not
                    getattr(target, field).CopyFrom(getattr(source, field))
    return Pipeline(config, exported.source)


def suppression(pipeline: Pipeline) -> Suppression | None:
    """The suppression that a config asks for; None for a model without."""
    model = _model(pipeline.config, pipeline)
    for field in _POST_PROCESSING:
        if field not in model.DESCRIPTOR.fields_by_name:
            continue
        if model.HasField(field) or pipeline.meta_architecture != "center_net":  # the others have defaults
            asked = getattr(model, field).batch_non_max_suppression
            return Suppression(asked.iou_threshold, asked.score_threshold)
    return None


def resizer(pipeline: Pipeline) -> str:
    """The image resizer of a config as text, to compare: `fixed_shape_resizer { height: 128 width: 128 }`."""
    return " ".join(str(_model(pipeline.config, pipeline).image_resizer).split())


def _model(config: Any, pipeline: Pipeline) -> Any:
    return getattr(config.model, pipeline.meta_architecture)
