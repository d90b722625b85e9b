"""The evaluation loop: a model, batches of data, and what is computed of them.

    result = evaluate(detector, pipeline.eval_dataset())
    result.bbox["AP"], result.losses["total_loss"]

The loop and what it feeds know little of each other: a model gives batches of detections and ground truth
(`Evaluable`), an evaluator takes batches and gives sections of a result (`BatchEvaluator`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import tqdm

from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.means import RunningMeans
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.restriction import restricted
from od_eval.evaluation.result import EvaluationResult, join_sections

Detect = Callable[[Any, Any], EvaluationBatch]


class BatchEvaluator(Protocol):
    """Computes sections of a result from batches. An `Evaluator` is one."""

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch of images."""

    def merge(self, other: Any) -> None:
        """Adds what another one of its kind was given, as if it had been given to this one."""

    def evaluate(self) -> Mapping[str, Any]:
        """Name of a section (see `od_eval.evaluation.sections`) -> its value, of all batches so far."""


class FurtherEvaluator(Protocol):
    """Computes metrics of a model's own from what the model puts into `EvaluationBatch.outputs`."""

    def update(self, outputs: Any) -> None:
        """Adds the `outputs` of a batch."""

    def evaluate(self) -> Mapping[str, float]:
        """Tag -> metric."""


class Evaluable(Protocol):
    """What a model must be able to do to be evaluated; a `Detector` is, and any other model is with a function."""

    @property
    def evaluation_options(self) -> EvaluationOptions:
        """What to evaluate and what to show of it, if nobody says otherwise."""

    def evaluate_batches(self, dataset: Iterable[Any]) -> Iterator[EvaluationBatch]:
        """Runs over the dataset once."""

    def evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        """While it is entered, the model has the weights to be evaluated."""

    def further_evaluator(self) -> FurtherEvaluator | None:
        """A new one for each evaluation."""


def evaluate(
    model: Any,
    batches: Iterable[Any],
    evaluators: Sequence[BatchEvaluator] | None = None,
    *,
    options: EvaluationOptions | None = None,
    detect: Detect | None = None,
    step: int | None = None,
    checkpoint: str | None = None,
    name: str = "eval",
    num_images: int | None = None,
) -> EvaluationResult:
    """Evaluates a model once: runs it over the batches and computes losses and metrics. It writes nothing.

    Args:
      model: a `Detector`, or another model with the methods of `Evaluable`, or any model together with `detect`.
      batches: what to evaluate on; gone through once. `pipeline.eval_dataset()` for a `Detector`.
      evaluators: what computes the sections of the result; by default `default_evaluators(model, options)`.
      options: what to evaluate; by default the model's own. Where they have fewer categories than the model's own,
        detections and objects of the others are left out, and a warning says how many objects that were.
      detect: a function of the model and one element of `batches` that returns an `EvaluationBatch`; with it, `options`
        are needed.
      step: of training, for the result.
      checkpoint: the path of the weights, for the result.
      name: of the data, for messages and the progress bar on stderr.
      num_images: how many images there are, for the progress bar, where it is known.

    Returns:
      The sections of all evaluators. Without ground truth there are losses only.

    Raises:
      ODEvalError: there is no image, a batch is wrong (the message names image and row), two evaluators give the same
        metric, or the model cannot be evaluated.
    """
    evaluable = as_evaluable(model, detect, options)
    asked = options or evaluable.evaluation_options
    if evaluators is None:
        evaluators = default_evaluators(evaluable, asked)
    num_evaluated = 0
    with evaluable.evaluation_weights(), _progress_bar(name, num_images) as progress:
        for batch in restricted(evaluable.evaluate_batches(batches), asked, evaluable.evaluation_options, name):
            for evaluator in evaluators:
                evaluator.update(batch)
            num_evaluated += len(batch.image_ids)
            progress.update(len(batch.image_ids))
    if not num_evaluated:
        raise ODEvalError(f"there is no image to evaluate in the dataset of {name}; look at its input_path.")
    sections = join_sections(evaluator.evaluate() for evaluator in evaluators)
    return EvaluationResult(num_evaluated, step=step, checkpoint=checkpoint, **sections)


def default_evaluators(
    evaluable: Evaluable, options: EvaluationOptions, evaluator: Evaluator | None = None
) -> list[BatchEvaluator]:
    """COCO metrics, the model's own metrics where it has some, and means of losses.

    Args:
      evaluable: a model.
      options: what to evaluate.
      evaluator: of the COCO metrics, for a caller who wants its detections as well; by default a new one. It comes
        first, as it finds what is wrong with a batch.
    """
    evaluators: list[BatchEvaluator] = [WithGroundTruth(evaluator or coco_evaluator(options))]
    further = evaluable.further_evaluator()
    if further is not None:
        evaluators.append(WithGroundTruth(FurtherMetrics(further)))
    return [*evaluators, LossMeans()]


def coco_evaluator(options: EvaluationOptions) -> Evaluator:
    """An `Evaluator` for these options."""
    return Evaluator(
        options.categories,
        box_format=options.box_format,
        masks=options.masks,
        super_categories=options.super_categories,
    )


def as_evaluable(
    model: Any, detect: Detect | None, options: EvaluationOptions | None, asked_by: str = "od_eval.evaluate"
) -> Evaluable:
    """The model itself, or with `detect` what makes it `Evaluable`.

    Args:
      model, detect, options: as for `evaluate`.
      asked_by: who needs it, for the message.

    Raises:
      ODEvalError: the model has not the methods, and there is no `detect`, or no `options` with it.
    """
    if detect is not None:
        if options is None:
            raise ODEvalError("with detect, options are needed: options=EvaluationOptions(categories={1: 'cat'}).")
        return FunctionOfModel(model, detect, options)
    if not hasattr(model, "evaluate_batches"):
        raise ODEvalError(
            f"{asked_by} does not know how {type(model).__name__} detects; pass detect=, a function of the model and a"
            " batch, and options=."
        )
    evaluable: Evaluable = model
    return evaluable


class FunctionOfModel:
    """Makes any model `Evaluable`.

    Args:
      model: handed to the function.
      detect: (model, batch of the dataset) -> detections and ground truth.
      options: what to evaluate.
    """

    def __init__(self, model: Any, detect: Detect, options: EvaluationOptions):
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


# ---- Evaluators beside `Evaluator` ----------------------------------------------------------------------------------


class LossMeans:
    """The section `losses`: means over all images, which batches may have different numbers of."""

    def __init__(self) -> None:
        self._means = RunningMeans()

    def update(self, batch: EvaluationBatch) -> None:
        self._means.add(batch.losses, weight=len(batch.image_ids))

    def merge(self, other: LossMeans) -> None:
        self._means.merge(other._means)

    def evaluate(self) -> dict[str, Any]:
        return {"losses": self._means.result()}


class FurtherMetrics:
    """The section `other`, from a model's own evaluator."""

    def __init__(self, further: FurtherEvaluator):
        self._further = further

    def update(self, batch: EvaluationBatch) -> None:
        self._further.update(batch.outputs)

    def merge(self, other: FurtherMetrics) -> None:
        merge = getattr(self._further, "merge", None)
        if merge is None:
            name = type(self._further).__name__
            raise ODEvalError(f"{name} cannot be merged with another; evaluate all images in one process.")
        merge(other._further)

    def evaluate(self) -> dict[str, Any]:
        return {"other": self._further.evaluate()}


class WithGroundTruth:
    """Passes an evaluator the batches that have ground truth; without any, it gives no sections."""

    def __init__(self, evaluator: BatchEvaluator):
        self.evaluator = evaluator
        self.has_any = False

    def update(self, batch: EvaluationBatch) -> None:
        if batch.groundtruth is not None:
            self.has_any = True
            self.evaluator.update(batch)

    def merge(self, other: WithGroundTruth) -> None:
        self.has_any |= other.has_any
        self.evaluator.merge(other.evaluator)

    def evaluate(self) -> Mapping[str, Any]:
        return self.evaluator.evaluate() if self.has_any else {}


def _progress_bar(name: str, num_images: int | None) -> Any:
    # Into a log file, a line every now and then; on a terminal, a bar that goes when all is done.
    seconds = 0.1 if sys.stderr.isatty() else 10
    return tqdm.tqdm(
        desc=name, total=num_images, unit=" images", file=sys.stderr, leave=False, mininterval=seconds, delay=2
    )
