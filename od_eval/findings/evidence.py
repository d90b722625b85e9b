"""What is known of a training, finished or not: what diagnoses are made from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from od_eval.evaluation.result import EvaluationResult
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.outcomes import Outcomes, judged

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve of TensorBoard: int64 `steps`, ascending, and float64 `values`, NaN where a value was not finite."""

    steps: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)


_NO_CURVE = Curve(np.zeros(0, np.int64), np.zeros(0))


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A training: its curves, its evaluations, and the objects of the newest of them.

    Attributes:
      curves: tag -> curve of the run `train`: `Loss/total_loss`, `Loss/classification_loss`, `learning_rate`,
        `gradient_norm`, `steps_per_sec`, …: every value that was logged.
      evaluations: of the evaluation set, by ascending step.
      train_evaluations: of a sample of the training images (`eval_train`), by ascending step.
      config: of the pipeline.config; None for models of other kinds.
      last_step: the step at which training is to end; None if unknown.
      num_train_images: None if unknown.
      stopped_early: whether early stopping ended it; False if that is unknown.
      train_objects: name of a category -> its number of objects in the training data; None if unknown.
      load_objects: reads the objects of the newest evaluation, or of the newest that has them.
    """

    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    evaluations: Sequence[EvaluationResult] = ()
    train_evaluations: Sequence[EvaluationResult] = ()
    config: ConfigFacts | None = None
    last_step: int | None = None
    num_train_images: int | None = None
    train_objects: Mapping[str, int] | None = None
    stopped_early: bool = False
    load_objects: Callable[[], pd.DataFrame | None] = lambda: None

    @functools.cached_property
    def objects(self) -> pd.DataFrame | None:
        """The object table of boxes (`evaluation.object_columns.as_pandas`) of the newest evaluation, if any."""
        return self.load_objects()

    @functools.cached_property
    def outcomes(self) -> Outcomes | None:
        """The same objects, judged at the confidence that is used; None without objects."""
        return judged(self.objects, self.newest)

    def curve(self, tag: str) -> Curve:
        """A curve of training; an empty one if there is none."""
        return self.curves.get(tag, _NO_CURVE)

    def metric(self, name: str, *, of_training_images: bool = False) -> Curve:
        """The values of a metric or loss over all evaluations that have it: `AP`, `AP50`, `total_loss`, `segm_AP`."""
        evaluations = self.train_evaluations if of_training_images else self.evaluations
        points = [
            (result.step or 0, result.log_values()[name]) for result in evaluations if name in result.log_values()
        ]
        return Curve(
            np.array([step for step, _ in points], np.int64), np.array([value for _, value in points], np.float64)
        )

    @property
    def newest(self) -> EvaluationResult | None:
        """The newest evaluation of the evaluation set."""
        return self.evaluations[-1] if self.evaluations else None

    @property
    def newest_of_training_images(self) -> EvaluationResult | None:
        """The newest evaluation of training images."""
        return self.train_evaluations[-1] if self.train_evaluations else None

    @property
    def step(self) -> int:
        """The newest step of which anything is known."""
        steps = [int(curve.steps[-1]) for curve in self.curves.values() if len(curve)]
        return max([*steps, *((result.step or 0) for result in self.evaluations)], default=0)
