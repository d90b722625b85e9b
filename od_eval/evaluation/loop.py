"""The evaluation loop: runs a model over batches of data and computes losses and metrics.

    result = evaluate(detector, pipeline.eval_dataset())
    result.bbox["AP"], result.losses["total_loss"]

The loop and its parts know little of each other: a model yields batches of detections and ground truth (`Evaluable`),
an evaluator takes batches and returns sections of a result (`BatchEvaluator`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import tqdm

from od_eval.errors import ODEvalError
from od_eval.evaluation.analysis import ExtraMetrics
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
        """Adds the batches of another evaluator of the same kind, as if they had been given to this one."""

    def evaluate(self) -> Mapping[str, Any]:
        """Name of a section (see `od_eval.evaluation.sections`) -> its value over all batches so far."""


class FurtherEvaluator(Protocol):
    """Computes model-specific metrics from `EvaluationBatch.outputs`."""

    def update(self, outputs: Any) -> None:
        """Adds the `outputs` of a batch."""

    def evaluate(self) -> Mapping[str, float]:
        """Tag -> metric."""


class Evaluable(Protocol):
    """A model that can be evaluated: a `Detector`, or any other model combined with a function."""

    @property
    def evaluation_options(self) -> EvaluationOptions:
        """What to evaluate and what to show by default."""

    def evaluate_batches(self, dataset: Iterable[Any]) -> Generator[EvaluationBatch, None, None]:
        """Runs the model over the dataset once."""

    def evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the model has the weights to be evaluated."""

    def further_evaluator(self) -> FurtherEvaluator | None:
        """A new evaluator of the model's own metrics, or None."""


def evaluate(
    model: Any,
    batches: Iterable[Any],
    evaluators: Sequence[BatchEvaluator] = (),
    *,
    options: EvaluationOptions | None = None,
    detect: Detect | None = None,
    step: int | None = None,
    checkpoint: str | None = None,
    name: str = "eval",
    num_images: int | None = None,
) -> EvaluationResult:
    """Evaluates a model once: runs it over the batches and computes losses and metrics. Nothing is written.

    Args:
      model: a `Detector`, or another model with the methods of `Evaluable`, or any model together with `detect`.
      batches: what to evaluate on; iterated once. `pipeline.eval_dataset()` for a `Detector`.
      evaluators: compute further sections of the result, besides the losses, the COCO metrics and the metrics of the
        model's own evaluator. An `Evaluator` among them takes the place of the one that would be created, for callers
        that also need its detections.
      options: what to evaluate; by default the model's own. If they have fewer categories than the model's own,
        detections and objects of the others are left out, and a warning gives the number of objects left out. (A
        model's own evaluator still gets all of them.)
      detect: a function of the model and one element of `batches` that returns an `EvaluationBatch`; it requires
        `options`.
      step: the training step, for the result.
      checkpoint: the path of the weights, for the result.
      name: the name of the data, for messages and the progress bar on stderr.
      num_images: the number of images, for the progress bar, if it is known.

    Returns:
      The sections of all evaluators. Without ground truth there are losses only.

    Raises:
      ODEvalError: there are no images, a batch is invalid (the message names image and row), two evaluators return the
        same metric, or the model cannot be evaluated.
    """
    evaluable = as_evaluable(model, detect, options)
    asked = options or evaluable.evaluation_options
    own = evaluable.evaluation_options
    if asked.box_format != own.box_format:
        raise ODEvalError(
            f"the options have the box_format '{asked.box_format}', but the model has '{own.box_format}'; use the same."
        )
    all_evaluators = _all_evaluators(evaluable, asked, evaluators)
    num_evaluated = 0
    with evaluable.evaluation_weights(), progress_bar(name, num_images) as progress:
        evaluated = evaluable.evaluate_batches(batches)
        if not isinstance(evaluable, FunctionOfModel):  # which returns what its author asks for
            evaluated = restricted(evaluated, asked, own, name)
        with contextlib.closing(evaluated):  # where an evaluator fails, other workers learn it at once
            for batch in evaluated:
                for evaluator in all_evaluators:
                    evaluator.update(batch)
                num_evaluated += len(batch.image_ids)
                progress.update(len(batch.image_ids))
    if not num_evaluated:
        raise ODEvalError(f"there is no image to evaluate in the dataset of {name}; look at its input_path.")
    parts = [evaluator.evaluate() for evaluator in all_evaluators]
    for part in parts:
        if isinstance(part, EvaluationResult):  # the images that the metrics rest on, which had ground truth
            num_evaluated = part.num_images
    return EvaluationResult(num_evaluated, step=step, checkpoint=checkpoint, **join_sections(parts))


def help_to_evaluate(
    model: Any, batches: Iterable[Any], detect: Detect | None, options: EvaluationOptions | None
) -> None:
    """What another worker of a cluster does while the chief runs `evaluate`: its part of the batches.

    A model with `detect`, which says nothing of workers, is run over all batches, as on the chief: variables that
    differ among replicas can only be read by all at the same time.

    Args:
      model, batches, detect, options: as for `evaluate`.
    """
    evaluable = as_evaluable(model, detect, options)
    with evaluable.evaluation_weights():
        for _ in evaluable.evaluate_batches(batches):
            pass


def coco_evaluator(
    options: EvaluationOptions, extra_metrics: ExtraMetrics | None = None, backend: str = "hotcoco"
) -> Evaluator:
    """An `Evaluator` for these options."""
    return Evaluator(
        options.categories,
        box_format=options.box_format,
        masks=options.masks,
        super_categories=options.super_categories,
        backend=backend,
        analysis=options.analysis,
        extra_metrics=extra_metrics,
    )


def as_evaluable(
    model: Any, detect: Detect | None, options: EvaluationOptions | None, asked_by: str = "od_eval.evaluate"
) -> Evaluable:
    """The model itself, or with `detect` a wrapper that makes it `Evaluable`.

    Args:
      model, detect, options: as for `evaluate`.
      asked_by: the name of the caller, for the message.

    Raises:
      ODEvalError: the model lacks the methods and there is no `detect`, or there is `detect` without `options`.
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
      model: passed to the function.
      detect: (model, batch of the dataset) -> detections and ground truth.
      options: what to evaluate.
    """

    def __init__(self, model: Any, detect: Detect, options: EvaluationOptions):
        self._model = model
        self._detect = detect
        self.evaluation_options = options

    def evaluate_batches(self, dataset: Iterable[Any]) -> Generator[EvaluationBatch, None, None]:
        for batch in dataset:
            yield self._detect(self._model, batch)

    def evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def further_evaluator(self) -> None:
        return None


# ---- Further evaluators ---------------------------------------------------------------------------------------------


class LossMeans:
    """The section `losses`: means over all images, weighted by batch size."""

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


class FoundInData:
    """The section `findings`: what was found in the data by those who read it, not in its batches.

    Args:
      findings: returns the section as far as it is known by then.
    """

    def __init__(self, findings: Callable[[], list[Any]]):
        self._findings = findings

    def update(self, batch: EvaluationBatch) -> None:
        pass

    def merge(self, other: FoundInData) -> None:
        pass  # both read the same data

    def evaluate(self) -> dict[str, Any]:
        return {"findings": self._findings()}


class WithGroundTruth:
    """Passes batches with ground truth to an evaluator; if there are none, it returns no sections."""

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


def _all_evaluators(
    evaluable: Evaluable, options: EvaluationOptions, given: Sequence[BatchEvaluator]
) -> list[BatchEvaluator]:
    """COCO metrics, the model's own metrics if it has any, mean losses, and what the caller adds.

    The evaluator of the COCO metrics comes first, because it reports what is wrong with a batch.
    """
    coco = next((evaluator for evaluator in given if isinstance(evaluator, Evaluator)), None)
    evaluators: list[BatchEvaluator] = [WithGroundTruth(coco or coco_evaluator(options))]
    further = evaluable.further_evaluator()
    if further is not None:
        evaluators.append(WithGroundTruth(FurtherMetrics(further)))
    return [*evaluators, LossMeans(), *(evaluator for evaluator in given if evaluator is not coco)]


def progress_bar(name: str, total: int | None, unit: str = " images") -> Any:
    # In a log file, a line every ten seconds; on a terminal, a bar that disappears at the end.
    seconds = 0.1 if sys.stderr.isatty() else 10
    return tqdm.tqdm(desc=name, total=total, unit=unit, file=sys.stderr, leave=False, mininterval=seconds, delay=2)
