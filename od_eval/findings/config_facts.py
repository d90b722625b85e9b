"""What diagnoses and checks know of a pipeline.config: plain values, and the fields they stand in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ConfigFacts:
    """The values of a config that explain how a training goes. None where the model has no such value.

    Attributes:
      source: the file, for messages.
      architecture: such as `ssd_mobilenet_v2_fpn_keras`, as in TensorBoard's HParams.
      meta_architecture: `ssd`, `faster_rcnn`, `center_net`, ….
      input_height, input_width: of what the model is given, in pixels; None if it varies.
      num_classes, batch_size, num_steps: as in the config.
      schedule: the name of the learning rate's schedule: `cosine decay`, `exponential decay`, `steps`, `constant`.
      learning_rate: the highest rate. warmup_steps: the steps until it is reached.
      decay_steps: the step from which the rate changes no more; None if it never does, or always.
      gradient_clipping: `train_config.gradient_clipping_by_norm`; 0 for none.
      augmentations: names of `data_augmentation_options`, in their order.
      fine_tune_checkpoint: path; empty for none. fine_tune_checkpoint_type: `detection`, ….
      freeze_variables: the patterns.
      dropout: whether the box predictor uses it. l2_weight: of the feature extractor's regularizer.
      max_detections_per_class, max_total_detections, score_threshold, nms_iou_threshold: of the postprocessing.
      localization_weight, classification_weight: of the losses.
      max_number_of_boxes: that training keeps of an image.
      fields: name of an attribute above -> the field of this config that holds it:
        `model.ssd.post_processing.batch_non_max_suppression.max_total_detections`. Only those that there are. With a
        resizer that keeps the aspect ratio, the fields of `input_height` and `input_width` are its shortest and its
        longest side, which only make sense together.
      rates: field -> value of every rate of the schedule: of the warm-up and of the steps, too.
      resize_range: `min_dimension` and `max_dimension` of a `keep_aspect_ratio_resizer`; None with another resizer.
    """

    source: str
    architecture: str
    meta_architecture: str
    input_height: int | None
    input_width: int | None
    num_classes: int
    batch_size: int
    num_steps: int
    schedule: str
    learning_rate: float
    warmup_steps: int
    decay_steps: int | None
    gradient_clipping: float
    augmentations: tuple[str, ...]
    fine_tune_checkpoint: str
    fine_tune_checkpoint_type: str
    freeze_variables: tuple[str, ...]
    dropout: bool | None
    l2_weight: float | None
    max_detections_per_class: int | None
    max_total_detections: int | None
    score_threshold: float | None
    nms_iou_threshold: float | None
    localization_weight: float | None
    classification_weight: float | None
    max_number_of_boxes: int
    fields: Mapping[str, str]
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    resize_range: tuple[int, int] | None = None

    def setting(self, **values: Any) -> tuple[str, ...]:
        """What to pass to `--set` so that these attributes have these values; nothing for those without a field.

        facts.setting(max_total_detections=300)

        With `learning_rate` all rates of the schedule change by the same factor: a warm-up that starts above the
        highest rate is an error.
        """
        settings = []
        for name, value in values.items():
            if name == "learning_rate" and self.rates and self.learning_rate > 0:
                factor = value / self.learning_rate
                settings += [f"{field}={rate * factor:.6g}" for field, rate in self.rates.items() if rate]
            elif name in self.fields:
                settings.append(f"{self.fields[name]}={value}")
        return tuple(settings)
