"""What a model must be able to do to be evaluated; a `Detector` is, and any other model is with a function."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.options import EvaluationOptions


class FurtherEvaluator(Protocol):
    """Computes metrics that an `Evaluator` has not got, from what the model itself puts into a batch."""

    def update(self, outputs: Any) -> None:
        """Adds the `outputs` of a batch."""

    def evaluate(self) -> dict[str, float]:
        """Tag -> metric."""


class Evaluable(Protocol):
    """A model that can be evaluated."""

    @property
    def evaluation_options(self) -> EvaluationOptions:
        """What to evaluate and what to show of it."""

    def evaluate_batches(self, dataset: Iterable[Any]) -> Iterator[EvaluationBatch]:
        """Runs over the dataset once."""

    def evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        """While it is entered, the model has the weights to be evaluated."""

    def further_evaluator(self) -> FurtherEvaluator | None:
        """A new one for each evaluation."""


class FunctionOfModel:
    """Makes any model `Evaluable`.

    Args:
      model: handed to the function.
      detect: (model, batch of the dataset) -> detections and ground truth.
      options: what to evaluate.
    """

    def __init__(self, model: Any, detect: Callable[[Any, Any], EvaluationBatch], options: EvaluationOptions):
        self._model = model
        self._detect = detect
        self.evaluation_options = options

    def evaluate_batches(self, dataset: Iterable[Any]) -> Iterator[EvaluationBatch]:
        for batch in dataset:
            yield self._detect(self._model, batch)

    def evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def further_evaluator(self) -> None:
        return None
