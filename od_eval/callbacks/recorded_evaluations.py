"""The evaluations of a run, of whatever kind: which were made before, which was best, and what is said of each."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from od_eval import files, losses
from od_eval.callbacks.training_diagnoses import TrainingDiagnoses
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.intervals import Interval
from od_eval.evaluation.analysis import Analysis, attempt
from od_eval.evaluation.better import best_of, main_value
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.good_values import good_values
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.section import all_sections
from od_eval.evaluation.segmentation.options import SegmentationOptions
from od_eval.runs import metrics_files
from od_eval.runs.image_archive import ImageArchive
from od_eval.tensorboard import tags


class RecordedEvaluations:
    """The evaluations of a run; a subclass says how one is made.

    Args:
      model_dir: the folder that contains the run.
      run: the TensorBoard run below `model_dir`.
      prefix: prefix of the keys in Keras's `logs`.
      diagnose, known: as for `DetectionEvaluation`.

    Attributes:
      run, run_dir: the run, and its folder.
      results: the evaluations made so far.
      losses_of_keras: native name -> loss, from Keras's validation of the weights that are evaluated next. They are the
        losses of an evaluation that computes none.
    """

    # The section of results of another kind, which must not be in the same run.
    _other_section: str

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        *,
        run: str,
        prefix: str,
        diagnose: bool,
        known: Callable[[], Mapping[str, Any]],
    ):
        self.run = run
        self.run_dir = files.absolute(os.path.join(os.fspath(model_dir), run))  # the folder may change during `fit`
        # Images of the training are evaluated to be compared with.
        is_diagnosed = diagnose and run != tags.EVAL_TRAIN
        self._diagnoses = TrainingDiagnoses(files.absolute(model_dir), run, known) if is_diagnosed else None
        self._prefix = prefix
        self._num_images: int | None = None  # known after the first evaluation
        self._best: EvaluationResult | None = None
        self._archive: ImageArchive | None = None
        self._has_layout = False
        self._is_repaired = False
        self._last_step_with_pictures: int | None = None
        self.results: list[EvaluationResult] = []
        self.losses_of_keras: Mapping[str, float] = {}

    def evaluate(self, model: Any, step: int, checkpoint: str | None = None) -> EvaluationResult:
        """Evaluates a model with its current weights, writes losses, metrics and pictures, and prints a line.

        Once in a process, it also prints which values are good, and how the losses are computed; and what diagnoses
        have found that they had not before.

        A picture that cannot be drawn, or a diagnosis that fails, is reported and does not affect the numbers.

        Args:
          model: any model of this kind of evaluation.
          step: the training step of its weights.
          checkpoint: the path of a checkpoint with these weights, if there is one.

        Raises:
          ODEvalError: a record cannot be read, memory does not suffice, a detection is not a number, a file cannot be
            written, …
        """
        raise NotImplementedError

    def help_to_evaluate(self, model: Any) -> None:
        """What other workers do while the chief evaluates this model: their part of the images."""
        raise NotImplementedError

    def recorded(self) -> list[EvaluationResult]:
        """All evaluations recorded in the files of the run, ordered by step. The first call repairs the files."""
        if not self._is_repaired:
            metrics_files.repair(self.run_dir)
            self._is_repaired = True
        return metrics_files.read_all(self.run_dir)

    def logs(self, result: EvaluationResult) -> dict[str, float]:
        """The entries of Keras's `logs` for an evaluation."""
        return {self._prefix + name: value for name, value in result.log_values().items()}

    def go_back(self, step: int) -> None:
        """Prepares the run for training that continues from `step`: evaluations of later steps are set aside."""
        from od_eval.runs import evaluation_run  # here for the reason given in `callbacks.base`

        evaluation_run.go_back(self.run_dir, step)
        recorded = self.recorded()
        self._best = None if self._of_other_kind(recorded) else best_of(recorded)  # None: `_begin` says what is wrong

    # ---- For subclasses ---------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """What comes before every evaluation.

        Raises:
          ODEvalError: the run has evaluations of another kind: of the same step, one would replace the other.
        """
        if self._best is not None:
            return
        recorded = self.recorded()
        other = self._of_other_kind(recorded)
        if other is not None:
            raise ODEvalError(
                f"the run '{self.run}' has evaluations with the section '{self._other_section}' (step {other.step});"
                " give detections and segmentation a run each, such as run='eval/segmentation'."
            )
        self._best = best_of(recorded)

    def _of_other_kind(self, recorded: Iterable[EvaluationResult]) -> EvaluationResult | None:
        return next((result for result in recorded if result.get(self._other_section)), None)

    def _pictures_are_due(self, step: int) -> bool:
        """In a long training, pictures become rarer."""
        last = self._last_step_with_pictures
        has_some_like_these = last is not None and last < step < last * 17 / 16
        return not has_some_like_these

    def _write(
        self,
        model: Any,
        result: EvaluationResult,
        options: EvaluationOptions | SegmentationOptions,
        *,
        started: float,
        analysis: Analysis | None = None,
        evaluator: Evaluator | None = None,
        difference: Interval | None = None,
    ) -> EvaluationResult:
        """Diagnoses an evaluation, writes its numbers, and prints a line.

        Args:
          model, result, options: of the evaluation.
          started: when the evaluation began, as `time.monotonic()`.
          analysis: the analyses of its detections, if there are any.
          evaluator: as for `write_evaluation`.
          difference: the 95% interval of the difference to the best evaluation so far, if it is known.

        Returns:
          The result with what was found.
        """
        from od_eval.runs.evaluation_run import write_evaluation

        if not result.losses:
            result = result.with_section("losses", losses.with_categories(self.losses_of_keras))
        self.losses_of_keras = {}  # the next evaluation is of other weights
        diagnosed = None
        if self._diagnoses is not None:
            diagnosed = attempt("diagnoses", self._diagnoses.add, model, result, analysis)
            result = diagnosed or result
        write_evaluation(self.run_dir, result, options, evaluator=evaluator, with_layout=not self._has_layout)
        self._has_layout = True
        formulas = options.loss_formulas if isinstance(options, EvaluationOptions) else {}
        self._report(result, time.monotonic() - started, formulas, difference)
        if self._diagnoses is not None and diagnosed is not None:
            attempt("new findings", self._diagnoses.print_new)
            attempt("findings in TensorBoard", self._diagnoses.write, self.run_dir, result)
        self.results.append(result)
        return result

    def _report(
        self,
        result: EvaluationResult,
        seconds: float,
        loss_formulas: Mapping[str, str],
        difference: Interval | None,
    ) -> None:
        values = result.log_values()
        sections = sorted(all_sections().values(), key=lambda section: section.line_rank)
        shown = [name for section in sections for name in section.in_line if name in values]
        before, self._best = self._best, best_of([*([self._best] if self._best else []), result])
        if before is None:
            verdict = ""
        elif self._best is result:
            verdict = f"; the best so far, before it was {main_value(before):.4g} at step {before.step}"
        else:
            verdict = f"; the best was {main_value(before):.4g} at step {before.step}"
        if difference is not None and difference.low <= 0 <= difference.high:
            interval = f"{difference.low:+.2g} to {difference.high:+.2g}"
            verdict += f", not distinguishable from this one: the difference is {interval} (95%)"
        line = "  ".join(f"{name} {values[name]:.4g}{self._interval(result, name)}" for name in shown)
        speed = f"{result.num_images} images in {seconds:.1f} s"
        print(f"{self.run} at step {result.step}: {line}  ({speed}){verdict}", flush=True)
        if good := good_values(values):
            _say_once(f"  good by convention, on images not trained with: {good}")
        if result.losses:
            _say_once(f"  {losses.how_to_read(loss_formulas)}")

    @staticmethod
    def _interval(result: EvaluationResult, name: str) -> str:
        """What the metrics of boxes or masks rest on: their 95% interval."""
        of_type = result.intervals.get("segm", {}) if name.startswith("segm_") else result.intervals
        interval = of_type.get(name.removeprefix("segm_"))
        return f" ({interval[0]:.2g}–{interval[1]:.2g})" if isinstance(interval, list) and name.endswith("AP") else ""


@functools.cache
def _say_once(line: str) -> None:
    """Prints a line once in this process, as it holds for every evaluation."""
    print(line, flush=True)
