"""What checks and diagnoses know of a pipeline.config, of every meta-architecture in the same terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from object_detection.protos import image_resizer_pb2
from object_detection.utils import config_util

from od_eval.errors import ODEvalError
from od_eval.findings.config_facts import ConfigFacts
from od_eval.odapi.hyperparameters import architecture_of, as_written, augmentations_of, schedule_of

if TYPE_CHECKING:
    from od_eval.odapi.pipeline import Pipeline

# Attribute -> field below `model`, where a meta-architecture has a fixed place for it. What a field of its own decides
# (the kind of resizer, of box predictor) is looked up by the functions below.
_FIELDS: dict[str, dict[str, str]] = {
    "ssd": {
        "num_classes": "ssd.num_classes",
        "localization_weight": "ssd.loss.localization_weight",
        "classification_weight": "ssd.loss.classification_weight",
        "max_detections_per_class": "ssd.post_processing.batch_non_max_suppression.max_detections_per_class",
        "max_total_detections": "ssd.post_processing.batch_non_max_suppression.max_total_detections",
        "score_threshold": "ssd.post_processing.batch_non_max_suppression.score_threshold",
        "nms_iou_threshold": "ssd.post_processing.batch_non_max_suppression.iou_threshold",
    },
    "faster_rcnn": {
        "num_classes": "faster_rcnn.num_classes",
        "localization_weight": "faster_rcnn.second_stage_localization_loss_weight",
        "classification_weight": "faster_rcnn.second_stage_classification_loss_weight",
        **{
            attribute: f"faster_rcnn.second_stage_post_processing.batch_non_max_suppression.{field}"
            for attribute, field in (
                ("max_detections_per_class", "max_detections_per_class"),
                ("max_total_detections", "max_total_detections"),
                ("score_threshold", "score_threshold"),
                ("nms_iou_threshold", "iou_threshold"),
            )
        },
    },
    "center_net": {
        "num_classes": "center_net.num_classes",
        "localization_weight": "center_net.object_detection_task.task_loss_weight",
        "classification_weight": "center_net.object_center_params.object_center_loss_weight",
        "max_total_detections": "center_net.object_center_params.max_box_predictions",
    },
}
# Of a CenterNet with non-maximum suppression, which is optional there.
_NMS_OF_CENTER_NET = {
    "max_detections_per_class": "center_net.post_processing.batch_non_max_suppression.max_detections_per_class",
    "score_threshold": "center_net.post_processing.batch_non_max_suppression.score_threshold",
    "nms_iou_threshold": "center_net.post_processing.batch_non_max_suppression.iou_threshold",
}
_FIELDS_OF_TRAINING = (
    "batch_size",
    "num_steps",
    "fine_tune_checkpoint",
    "fine_tune_checkpoint_type",
    "freeze_variables",
    "max_number_of_boxes",
)


def config_facts(pipeline: Pipeline) -> ConfigFacts:
    """The values of a config that explain how a training goes, and the fields they stand in.

    Args:
      pipeline: of any meta-architecture; it need not have been checked.

    Raises:
      ODEvalError: its `model` is none of `ssd`, `faster_rcnn` and `center_net`.
    """
    model, train = pipeline.config.model, pipeline.config.train_config
    kind = model.WhichOneof("model")
    if kind not in _FIELDS:
        raise ODEvalError(f"{pipeline.source}: `model` is none of {', '.join(_FIELDS)}; choose one of them.")
    places = dict(_FIELDS[kind])
    if kind == "center_net" and model.center_net.HasField("post_processing"):
        places |= _NMS_OF_CENTER_NET
    places |= _place_of_dropout(model, kind) | _place_of_l2_weight(model, kind)
    values: dict[str, Any] = dict.fromkeys(
        ("dropout", "l2_weight", "max_detections_per_class", "score_threshold", "nms_iou_threshold")
    )
    values |= {attribute: _value(model, place) for attribute, place in places.items()}
    resizer = config_util.get_image_resizer_config(model)
    schedule = schedule_of(train)
    height, width = _input_size(resizer)
    fields = {attribute: f"model.{place}" for attribute, place in places.items()}
    fields |= _places_of_input_size(resizer, f"model.{kind}.image_resizer")
    fields |= schedule.fields
    fields |= {name: f"train_config.{name}" for name in _FIELDS_OF_TRAINING}
    fields |= {
        "gradient_clipping": "train_config.gradient_clipping_by_norm",
        "augmentations": "train_config.data_augmentation_options",
    }
    return ConfigFacts(
        source=pipeline.source,
        architecture=architecture_of(model),
        meta_architecture=kind,
        input_height=height,
        input_width=width,
        batch_size=train.batch_size,
        num_steps=train.num_steps,
        schedule=schedule.name,
        learning_rate=schedule.learning_rate,
        warmup_steps=schedule.warmup_steps,
        decay_steps=schedule.decay_steps,
        gradient_clipping=as_written(train.gradient_clipping_by_norm),
        augmentations=tuple(augmentations_of(train)),
        fine_tune_checkpoint=train.fine_tune_checkpoint,
        fine_tune_checkpoint_type=train.fine_tune_checkpoint_type,
        freeze_variables=tuple(train.freeze_variables),
        max_number_of_boxes=train.max_number_of_boxes,
        fields=fields,
        rates=schedule.rates,
        resize_range=_resize_range(resizer),
        **values,
    )


def _value(message: Message, place: str) -> Any:
    for name in place.split("."):
        message = getattr(message, name)
    return as_written(message) if isinstance(message, float) else message


def _place_of_dropout(model: Any, kind: str) -> dict[str, str]:
    predictor = {"ssd": "box_predictor", "faster_rcnn": "second_stage_box_predictor"}.get(kind)
    box_predictor = getattr(getattr(model, kind), predictor).WhichOneof("box_predictor_oneof") if predictor else None
    if box_predictor in (None, "rfcn_box_predictor"):  # which has none
        return {}
    return {"dropout": f"{kind}.{predictor}.{box_predictor}.use_dropout"}


def _place_of_l2_weight(model: Any, kind: str) -> dict[str, str]:
    extractor = getattr(model, kind).feature_extractor
    if kind == "center_net" or not extractor.conv_hyperparams.regularizer.HasField("l2_regularizer"):
        return {}
    return {"l2_weight": f"{kind}.feature_extractor.conv_hyperparams.regularizer.l2_regularizer.weight"}


def _input_size(resizer: image_resizer_pb2.ImageResizer) -> tuple[int | None, int | None]:
    """Height and width of all images after resizing; None if they vary."""
    kind = resizer.WhichOneof("image_resizer_oneof")
    if kind == "fixed_shape_resizer":
        return resizer.fixed_shape_resizer.height, resizer.fixed_shape_resizer.width
    if kind == "keep_aspect_ratio_resizer" and resizer.keep_aspect_ratio_resizer.pad_to_max_dimension:
        side = resizer.keep_aspect_ratio_resizer.max_dimension
        return side, side
    return None, None


def _resize_range(resizer: image_resizer_pb2.ImageResizer) -> tuple[int, int] | None:
    if not resizer.HasField("keep_aspect_ratio_resizer"):
        return None
    return resizer.keep_aspect_ratio_resizer.min_dimension, resizer.keep_aspect_ratio_resizer.max_dimension


def _places_of_input_size(resizer: image_resizer_pb2.ImageResizer, where: str) -> dict[str, str]:
    kind = resizer.WhichOneof("image_resizer_oneof")
    names = {
        "fixed_shape_resizer": ("height", "width"),
        "keep_aspect_ratio_resizer": ("min_dimension", "max_dimension"),
    }.get(kind)
    if names is None:
        return {}
    return {"input_height": f"{where}.{kind}.{names[0]}", "input_width": f"{where}.{kind}.{names[1]}"}
