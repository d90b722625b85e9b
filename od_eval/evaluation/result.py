"""What one evaluation found."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from typing import Any

# The twelve numbers of the COCO protocol, in its order (cocodataset.org/#detection-eval).
COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

Metrics = Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What one evaluation found. A metric that is not defined (no ground truth of that size) is None.

    Attributes:
      num_images: images evaluated.
      bbox: the COCO metrics of boxes, by the names in `COCO_METRICS`.
      segm: those of masks, where masks were evaluated.
      per_category: category name -> its COCO metrics of boxes; `num_groundtruth`, the objects to be found, which crowds
        are not; `num_detections`, all that were given; and under `segm` its COCO metrics of masks, where masks were
        evaluated.
      per_super_category: super category name -> the same for its categories: means of the metrics that are defined,
        and sums of the counts.
      losses: loss name -> mean over the images; NaN for what is not finite.
      other: metrics of further evaluators, by their own tags; NaN for what is not finite.
      step: of training, of the weights that were evaluated.
      checkpoint: the path that holds these weights, where there is one.
    """

    num_images: int
    bbox: Metrics | None = None
    segm: Metrics | None = None
    per_category: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    per_super_category: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    other: Mapping[str, float] = dataclasses.field(default_factory=dict)
    step: int | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        # Plain Python numbers, whatever they were, so that all of it can go into JSON.
        object.__setattr__(self, "num_images", operator.index(self.num_images))
        object.__setattr__(self, "step", None if self.step is None else operator.index(self.step))
        for name in ("losses", "other"):
            object.__setattr__(self, name, {key: _number(value) for key, value in getattr(self, name).items()})

    def to_json_dict(self) -> dict[str, Any]:
        """What metrics.json holds: nothing but what JSON can, so NaN is null; `from_json_dict` makes it NaN again.

        `segm`, `per_super_category` and `other` are only there where there is something in them.
        """
        sections = {
            "step": self.step,
            "checkpoint": self.checkpoint,
            "num_images": self.num_images,
            "losses": _nan_to_none(self.losses),
            "bbox": None if self.bbox is None else dict(self.bbox),
            "segm": None if self.segm is None else dict(self.segm),
            "per_category": {name: dict(metrics) for name, metrics in self.per_category.items()},
            "per_super_category": {name: dict(metrics) for name, metrics in self.per_super_category.items()},
            "other": _nan_to_none(self.other),
        }
        optional = ("segm", "per_super_category", "other")
        return {name: section for name, section in sections.items() if section or name not in optional}

    @classmethod
    def from_json_dict(cls, sections: Mapping[str, Any]) -> EvaluationResult:
        """The result that `to_json_dict` made this from; sections it does not know are passed over.

        Raises:
          ValueError: that is no such thing.
        """
        for name in ("losses", "bbox", "segm", "per_category", "per_super_category", "other"):
            if not isinstance(sections.get(name) or {}, Mapping):
                raise ValueError(f"this is not the result of an evaluation: '{name}' is {sections[name]!r}")
        try:
            return cls(
                num_images=sections["num_images"],
                bbox=sections.get("bbox"),
                segm=sections.get("segm"),
                per_category=sections.get("per_category") or {},
                per_super_category=sections.get("per_super_category") or {},
                losses=_none_to_nan(sections.get("losses") or {}),
                other=_none_to_nan(sections.get("other") or {}),
                step=sections.get("step"),
                checkpoint=sections.get("checkpoint"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the result of an evaluation: {error!r}") from error

    def log_values(self) -> dict[str, float]:
        """What Keras's `logs` get of it, before `val_` is put in front: name -> value.

        Losses by their names, metrics of boxes by theirs (`AP`, `AP50`, …), those of masks as `segm_AP`, …, others by
        their tags. Metrics that are not defined are left out.
        """
        metrics = {**(self.bbox or {}), **{f"segm_{name}": value for name, value in (self.segm or {}).items()}}
        return {
            **self.losses,
            **{name: value for name, value in metrics.items() if value is not None},
            **self.other,
        }


def _number(value: Any) -> float:
    """As a float; what is not finite as `math.nan` itself, so that equal results compare as equal."""
    value = float(value)
    return value if math.isfinite(value) else math.nan


def _nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _none_to_nan(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in values.items()}
