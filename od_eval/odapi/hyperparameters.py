"""The values of a pipeline.config that distinguish training runs."""

from __future__ import annotations

from typing import Any

from object_detection.protos import image_resizer_pb2, model_pb2, pipeline_pb2, train_pb2
from object_detection.utils import config_util


def hyperparameters(config: pipeline_pb2.TrainEvalPipelineConfig) -> dict[str, str | float | int | bool]:
    """The main hyperparameters of a training run, for a table of runs.

    Args:
      config: the config of a `Pipeline`.

    Returns:
      Name -> value. The names and the types of their values are the same for every config: `architecture`,
      `input_size`, `learning_rate` (the highest: after warmup and before it decays), `batch_size`, `augmentations`,
      `optimizer`, `schedule`, `warmup_steps`, `moving_average`, `num_steps`, `num_classes`, `fine_tune_checkpoint`
      (the part that is loaded: `classification`, `detection`, …, or `none`), `bfloat16`. The values that are changed
      most often come first.
    """
    train = config.train_config
    schedule, learning_rate, warmup_steps = _schedule(train)
    augmentations = [option.WhichOneof("preprocessing_step") or "" for option in train.data_augmentation_options]
    return {
        "architecture": _architecture(config.model),
        "input_size": _input_size(config_util.get_image_resizer_config(config.model)),
        "learning_rate": float(f"{learning_rate:.6g}"),  # a float32: 0.079999998 for 0.08
        "batch_size": train.batch_size,
        "augmentations": ", ".join(augmentations) or "none",
        "optimizer": (config_util.get_optimizer_type(train) or "none").removesuffix("_optimizer"),
        "schedule": schedule,
        "warmup_steps": warmup_steps,
        "moving_average": train.optimizer.use_moving_average,
        "num_steps": train.num_steps,
        "num_classes": config_util.get_number_of_classes(config.model),
        "fine_tune_checkpoint": (train.fine_tune_checkpoint_type or "yes") if train.fine_tune_checkpoint else "none",
        "bfloat16": train.use_bfloat16,
    }


def _architecture(model: model_pb2.DetectionModel) -> str:
    meta_architecture = model.WhichOneof("model")
    feature_extractor = getattr(model, meta_architecture).feature_extractor.type
    masks = " with masks" if model.faster_rcnn.number_of_stages == 3 else ""
    # The name ssd_mobilenet_v2_keras contains the meta-architecture; resnet_v2_101, a CenterNet's, does not.
    if feature_extractor.startswith(meta_architecture):
        return feature_extractor + masks
    return f"{meta_architecture} {feature_extractor}"


def _input_size(resizer: image_resizer_pb2.ImageResizer) -> str:
    kind = resizer.WhichOneof("image_resizer_oneof")
    if kind == "fixed_shape_resizer":
        return f"{resizer.fixed_shape_resizer.height}x{resizer.fixed_shape_resizer.width}"
    if kind == "keep_aspect_ratio_resizer":
        sides = resizer.keep_aspect_ratio_resizer
        padded = f" padded to {sides.max_dimension}x{sides.max_dimension}" if sides.pad_to_max_dimension else ""
        return f"keep aspect {sides.min_dimension}..{sides.max_dimension}{padded}"
    if kind == "conditional_shape_resizer":
        condition = resizer.conditional_shape_resizer
        only_larger_ones = condition.condition == image_resizer_pb2.ConditionalShapeResizer.GREATER
        return f"{'at most' if only_larger_ones else 'at least'} {condition.size_threshold}"
    if kind == "pad_to_multiple_resizer":
        return f"multiple of {resizer.pad_to_multiple_resizer.multiple}"
    return "as it is"


def _schedule(train: train_pb2.TrainConfig) -> tuple[str, float, int]:
    """The name of the learning rate schedule, the highest rate, and the steps until it is reached."""
    optimizer = config_util.get_optimizer_type(train)
    learning_rate: Any = getattr(train.optimizer, optimizer).learning_rate if optimizer else None
    kind = learning_rate.WhichOneof("learning_rate") if optimizer else None
    config: Any = getattr(learning_rate, kind) if kind else None
    if kind == "cosine_decay_learning_rate":
        return "cosine decay", config.learning_rate_base, config.warmup_steps
    if kind == "exponential_decay_learning_rate":
        return "exponential decay", config.initial_learning_rate, config.burnin_steps
    if kind == "manual_step_learning_rate":
        if config.warmup and config.schedule:
            return "steps", config.schedule[0].learning_rate, config.schedule[0].step
        return "steps", config.initial_learning_rate, 0
    if kind == "constant_learning_rate":
        return "constant", config.learning_rate, 0
    return "none", 0.0, 0
