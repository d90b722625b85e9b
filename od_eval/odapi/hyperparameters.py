"""The values of a pipeline.config that distinguish training runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
    schedule = schedule_of(train)
    return {
        "architecture": architecture_of(config.model),
        "input_size": _input_size(config_util.get_image_resizer_config(config.model)),
        "learning_rate": schedule.learning_rate,
        "batch_size": train.batch_size,
        "augmentations": ", ".join(augmentations_of(train)) or "none",
        "optimizer": (config_util.get_optimizer_type(train) or "none").removesuffix("_optimizer"),
        "schedule": schedule.name,
        "warmup_steps": schedule.warmup_steps,
        "moving_average": train.optimizer.use_moving_average,
        "num_steps": train.num_steps,
        "num_classes": config_util.get_number_of_classes(config.model),
        "fine_tune_checkpoint": (train.fine_tune_checkpoint_type or "yes") if train.fine_tune_checkpoint else "none",
        "bfloat16": train.use_bfloat16,
    }


def augmentations_of(train: train_pb2.TrainConfig) -> list[str]:
    """The names of the augmentations, in their order."""
    return [option.WhichOneof("preprocessing_step") or "" for option in train.data_augmentation_options]


def architecture_of(model: model_pb2.DetectionModel) -> str:
    """The name of an architecture: that of its feature extractor, and of its meta-architecture unless that has it."""
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


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A learning rate schedule.

    Attributes:
      name: `cosine decay`, `exponential decay`, `steps`, `constant`; `none` if there is none.
      learning_rate: the highest rate.
      warmup_steps: the steps until it is reached.
      decay_steps: the step from which the rate changes no more; None if it never does, or always.
      fields: name of an attribute above -> the field that holds it; only those that there are.
      rates: field -> value of every rate, in the order in which they are reached.
    """

    name: str = "none"
    learning_rate: float = 0.0
    warmup_steps: int = 0
    decay_steps: int | None = None
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)


def schedule_of(train: train_pb2.TrainConfig) -> Schedule:
    """The learning rate schedule of a training."""
    optimizer = config_util.get_optimizer_type(train)
    learning_rate: Any = getattr(train.optimizer, optimizer).learning_rate if optimizer else None
    kind = learning_rate.WhichOneof("learning_rate") if optimizer else None
    if kind is None:
        return Schedule()
    config: Any = getattr(learning_rate, kind)
    where = f"train_config.optimizer.{optimizer}.learning_rate.{kind}"
    if kind == "manual_step_learning_rate":
        return _manual_steps(config, where)
    name, highest, first, warmup_steps, decay_steps = {
        "cosine_decay_learning_rate": (
            "cosine decay",
            "learning_rate_base",
            "warmup_learning_rate",
            "warmup_steps",
            "total_steps",
        ),
        "exponential_decay_learning_rate": (
            "exponential decay",
            "initial_learning_rate",
            "burnin_learning_rate",
            "burnin_steps",
            None,
        ),
        "constant_learning_rate": ("constant", "learning_rate", None, None, None),
    }[kind]
    fields = {"learning_rate": highest, "warmup_steps": warmup_steps, "decay_steps": decay_steps}
    return Schedule(
        name,
        as_written(getattr(config, highest)),
        getattr(config, warmup_steps) if warmup_steps else 0,
        getattr(config, decay_steps) if decay_steps else None,
        {attribute: f"{where}.{field}" for attribute, field in fields.items() if field},
        {f"{where}.{field}": as_written(getattr(config, field)) for field in (first, highest) if field},
    )


def _manual_steps(config: Any, where: str) -> Schedule:
    rates = {f"{where}.initial_learning_rate": as_written(config.initial_learning_rate)}
    rates |= {
        f"{where}.schedule[{index}].learning_rate": as_written(step.learning_rate)
        for index, step in enumerate(config.schedule)
    }
    highest = max(rates, key=lambda field: rates[field])
    steps = [0, *(step.step for step in config.schedule)]
    index = list(rates).index(highest)
    fields = {"learning_rate": highest}
    if index:
        fields["warmup_steps"] = f"{where}.schedule[{index - 1}].step"
    if config.schedule:
        fields["decay_steps"] = f"{where}.schedule[{len(config.schedule) - 1}].step"
    return Schedule("steps", rates[highest], steps[index], steps[-1] or None, fields, rates)


def as_written(value: float) -> float:
    """A float32 of a config as it was written: 0.08 for 0.079999998."""
    return float(f"{value:.6g}")
