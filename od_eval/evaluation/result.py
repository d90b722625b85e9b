"""The result of an evaluation: sections by name.

result = evaluator.evaluate()
result.bbox["AP"], result["per_category"]["cat"]["AP50"]
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from od_eval.errors import ODEvalError
from od_eval.evaluation.result_html import as_html
from od_eval.evaluation.section import all_sections


class EvaluationResult(Mapping[str, Any]):
    """The result of an evaluation. A metric that is not defined (no ground truth of that size) is None.

    It is a mapping from section names to plain data. Each section is also an attribute, which is empty or None if the
    evaluation did not produce it. `od_eval.evaluation.sections` has a module for each:

    * `losses`: loss name -> mean over the images; NaN if not finite.
    * `bbox`, `segm`: the COCO metrics of boxes and, if masks were evaluated, of masks, by the names in `COCO_METRICS`.
    * `per_category`: category name -> its COCO metrics of boxes; `num_groundtruth`, the number of ground truth objects
      without crowds; `num_detections`, the number of all detections; and under `segm` its COCO metrics of masks.
    * `per_super_category`: super category name -> the same for its categories: means of the metrics that are defined,
      and sums of the counts.
    * `other`: metrics of a model's own evaluators, by their own tags; NaN if not finite.
    * `operating_point`, `intervals`, `sizes`, `errors`, `calibration`, `class_agnostic`, `dataset`, `certainty`: what
      the analyses of errors give (docs/metrics.md).
    * `deployment`: of a deployed model: its runtime, latency, size and memory.
    * `custom`: a user's own metrics.
    * `findings`: a list of what was left out of the data and the like.

    Args:
      num_images: the number of images evaluated.
      step: the training step of the evaluated weights.
      checkpoint: the path of a checkpoint with these weights, if there is one.
      **sections: section name -> value.

    Attributes:
      num_images, step, checkpoint: as given.

    Raises:
      TypeError: a section name is unknown.
    """

    num_images: int
    step: int | None
    checkpoint: str | None
    _sections: dict[str, Any]
    __slots__ = ("_sections", "checkpoint", "num_images", "step")

    def __init__(self, num_images: int, *, step: int | None = None, checkpoint: str | None = None, **sections: Any):
        unknown = sections.keys() - all_sections().keys()
        if unknown:
            raise TypeError(f"there is no section '{min(unknown)}'; there are {', '.join(all_sections())}")
        values = {
            "num_images": operator.index(num_images),
            "step": None if step is None else operator.index(step),
            "checkpoint": checkpoint,
            "_sections": {
                name: section.checked(sections[name])
                for name, section in all_sections().items()
                if sections.get(name) not in (None, {}, [])
            },
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def num_analysed(self) -> int:
        """The number of images on which the analyses rest; of very many detections, these are some of the images."""
        return int(self.dataset.get("num_images", self.num_images))

    def __getattr__(self, name: str) -> Any:
        section = None if name.startswith("_") else all_sections().get(name)
        if section is None:
            raise AttributeError(f"an evaluation has no section '{name}'")
        return self._sections.get(name, section.absent)

    def __getitem__(self, name: str) -> Any:
        return self._sections[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sections)

    def __len__(self) -> int:
        return len(self._sections)

    def __bool__(self) -> bool:
        return True  # also without sections

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an EvaluationResult cannot be changed, and its {name} neither; make another one.")

    def __reduce__(self) -> tuple[Any, ...]:
        return EvaluationResult.from_json_dict, (self.to_json_dict(),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EvaluationResult):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = {"num_images": self.num_images, "step": self.step, "checkpoint": self.checkpoint, **self._sections}
        return f"EvaluationResult({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def _repr_html_(self) -> str:
        return as_html(self)

    def with_section(self, name: str, value: Any) -> EvaluationResult:
        """The same result with a section added, or left out if its value is empty."""
        sections = {**self._sections, name: value}
        return EvaluationResult(self.num_images, step=self.step, checkpoint=self.checkpoint, **sections)

    def to_json_dict(self) -> dict[str, Any]:
        """The contents of metrics.json: only what JSON allows, so NaN becomes null; `from_json_dict` restores it.

        Optional sections are only included if they are not empty.
        """
        content: dict[str, Any] = {"step": self.step, "checkpoint": self.checkpoint, "num_images": self.num_images}
        for name, section in all_sections().items():
            if name in self._sections or not section.optional:
                content[name] = section.to_json(getattr(self, name))
        return content

    @classmethod
    def from_json_dict(cls, content: Mapping[str, Any]) -> EvaluationResult:
        """The inverse of `to_json_dict`; unknown sections are ignored.

        Raises:
          ValueError: the content is not an evaluation result.
        """
        try:
            sections = {
                name: section.from_json(content[name])
                for name, section in all_sections().items()
                if content.get(name) not in (None, {}, [])
            }
            about = {name: content.get(name) for name in ("step", "checkpoint")}
            return cls(content["num_images"], **about, **sections)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the result of an evaluation: {error!r}") from error

    def table_values(self) -> dict[str, float | None]:
        """Name -> value of all single numbers, as in the columns of metrics.csv; None if not defined."""
        return {
            name: value
            for section_name, value_of_section in self._sections.items()
            for name, value in all_sections()[section_name].log_values(value_of_section).items()
        }

    def log_values(self) -> dict[str, float]:
        """The values for Keras's `logs`, without the prefix `val_`: name -> value.

        Losses under their names, box metrics under theirs (`AP`, `AP50`, …), mask metrics as `segm_AP`, …, others under
        their tags. Metrics that are not defined are left out.
        """
        return {name: value for name, value in self.table_values().items() if value is not None}

    def scalars(self, per_category: str = "AP") -> dict[str, float]:
        """All scalars for TensorBoard by tag; metrics that are not defined are left out.

        Args:
          per_category: what is shown for each category: `AP`, `all` or `none`, as in `EvaluationOptions`. AP of super
            categories, which the user has defined, is always shown.
        """
        return {
            tag: float(value)
            for name, value_of_section in self._sections.items()
            for tag, value in all_sections()[name].scalars(value_of_section, per_category).items()
            if value is not None
        }


def join_sections(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Joins the sections of several evaluators; two may share a section if they have no metric in common.

    Raises:
      ODEvalError: two evaluators return a metric of the same name, or one returns a section that does not exist.
    """
    joined: dict[str, Any] = {}
    names: set[str] = set()
    for part in parts:
        unknown = part.keys() - all_sections().keys()
        if unknown:
            raise ODEvalError(
                f"an evaluator returns the section '{min(unknown)}', which does not exist; there are"
                f" {', '.join(all_sections())}. Metrics of your own go into 'other'."
            )
        sections = {name: all_sections()[name] for name in part}
        names_of_part = {
            metric
            for name, section in sections.items()
            for metric in (*section.log_values(part[name]), *section.scalars(part[name], "all"))
        }
        if names & names_of_part:
            raise ODEvalError(
                f"two evaluators give the metric '{min(names & names_of_part)}'; rename one, or leave one out."
            )
        names |= names_of_part
        for name, value in part.items():
            if name not in joined:
                joined[name] = value
            elif isinstance(value, Mapping):
                joined[name] = {**joined[name], **value}
            else:
                joined[name] = [*joined[name], *value]
    return joined
