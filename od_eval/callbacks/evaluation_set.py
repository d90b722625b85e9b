"""A set of images that a model is evaluated on, and the run that its evaluations are written to.

    evaluation_set = EvaluationSet(pipeline.eval_dataset(), "runs/a")
    result = evaluation_set.evaluate(detector, step=1000)

`DetectionEvaluation` does this while a model trains, `od_eval.training` for the checkpoints of another process.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from od_eval import files, losses
from od_eval.callbacks.training_diagnoses import TrainingDiagnoses
from od_eval.evaluation.analyses.intervals import Interval
from od_eval.evaluation.analysis import ExtraMetrics, attempt
from od_eval.evaluation.better import best_of, main_value
from od_eval.evaluation.good_values import good_values
from od_eval.evaluation.loop import Detect, FoundInData, as_evaluable, coco_evaluator, evaluate
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.section import all_sections
from od_eval.figures.first_images import FirstImages
from od_eval.runs import certainty, metrics_files
from od_eval.runs.image_archive import ImageArchive
from od_eval.tensorboard import tags


class EvaluationSet:
    """Evaluates models on a dataset and writes the results.

    Args:
      dataset: iterated once per evaluation.
      model_dir: the folder that contains the run.
      run: the TensorBoard run below `model_dir`.
      prefix: prefix of the keys in Keras's `logs`.
      options, detect: as for `od_eval.evaluate`.
      findings: as for `FoundInData`; by default there are none.
      extra_metrics: as for `od_eval.evaluation.analysis.analyse`.
      diagnose, known: as for `DetectionEvaluation`.
      asked_by: the name of the caller, for messages.

    Attributes:
      run, run_dir: the run, and its folder.
      options: as given.
      results: the evaluations made so far.
    """

    def __init__(
        self,
        dataset: Iterable[Any],
        model_dir: str | os.PathLike[str],
        *,
        run: str = tags.EVAL,
        prefix: str = "val_",
        options: EvaluationOptions | None = None,
        detect: Detect | None = None,
        findings: Callable[[], list[Any]] = list,
        extra_metrics: ExtraMetrics | None = None,
        diagnose: bool = False,
        known: Callable[[], Mapping[str, Any]] = dict,
        asked_by: str = "EvaluationSet",
    ):
        self._dataset = dataset
        self.run = run
        self.run_dir = files.absolute(os.path.join(os.fspath(model_dir), run))  # the folder may change during `fit`
        self.options = options
        self._detect = detect
        self._findings = findings
        self._extra_metrics = extra_metrics
        # Images of the training are evaluated to be compared with.
        is_diagnosed = diagnose and run != tags.EVAL_TRAIN
        self._diagnoses = TrainingDiagnoses(files.absolute(model_dir), run, known) if is_diagnosed else None
        self._prefix = prefix
        self._asked_by = asked_by
        self._num_images: int | None = None  # known after the first evaluation
        self._best: EvaluationResult | None = None
        self._archive: ImageArchive | None = None
        self._has_layout = False
        self._is_repaired = False
        self._last_step_with_pictures: int | None = None
        self.results: list[EvaluationResult] = []

    def evaluate(self, model: Any, step: int, checkpoint: str | None = None) -> EvaluationResult:
        """Evaluates a model with its current weights, writes losses, metrics and pictures, and prints a line.

        Once in a process, it also prints which values are good, and how the losses are computed; and what diagnoses
        have found that they had not before.

        A picture that cannot be drawn, or a diagnosis that fails, is reported and does not affect the numbers.

        Args:
          model: as for `od_eval.evaluate`.
          step: the training step of its weights.
          checkpoint: the path of a checkpoint with these weights, if there is one.

        Raises:
          ODEvalError: a record cannot be read, memory does not suffice, a detection is not a number, a file cannot be
            written, …
        """
        # Imported here for the reason given in `callbacks.base`: it imports TensorFlow.
        from od_eval.runs.evaluation_run import (
            draw_error_examples,
            draw_pictures,
            draw_plots,
            write_analysis,
            write_analysis_summaries,
            write_evaluation,
        )

        started = time.monotonic()
        if self._best is None:
            self._best = best_of(self.recorded())
        evaluable = as_evaluable(model, self._detect, self.options, self._asked_by)
        options = self.options or evaluable.evaluation_options
        with_pictures = self._pictures_are_due(step, options)
        first_images = FirstImages(options, None if with_pictures else 0)
        # Also if no pictures are due: the archive is written once.
        has_archive = options.analysis is not None and options.num_pictures > 0
        self._archive = ImageArchive(self.run_dir, self._archive) if has_archive else None
        evaluator = coco_evaluator(options, self._extra_metrics)
        result = evaluate(
            evaluable,
            self._dataset,
            [evaluator, first_images, *([self._archive] if self._archive else []), FoundInData(self._findings)],
            options=options,
            step=step,
            checkpoint=checkpoint,
            name=self.run,
            num_images=self._num_images,
        )
        self._num_images = result.num_images
        difference = None
        if evaluator.analysis is not None:
            earlier = self._evaluated_before(step)
            section = attempt("certainty", certainty.certainty, self.run_dir, result, evaluator.analysis, earlier)
            result = result.with_section("certainty", section)
            if self._best is not None and self._best.step != step:
                if earlier is not None and self._best.step == earlier.certainty.get("step"):  # it has been computed
                    known = result.certainty.get("difference")
                    difference = None if known is None else Interval(*known)
                else:
                    best = self._best
                    difference = attempt("certainty", certainty.difference, self.run_dir, evaluator.analysis, best)
            best_step = None if self._best is None else self._best.step
            kept_steps = [kept for kept in (best_step, result.certainty.get("step")) if kept is not None]
            write_analysis(self.run, self.run_dir, step, evaluator.analysis, kept_steps, self._archive)
        diagnosed = None
        if self._diagnoses is not None:
            diagnosed = attempt("diagnoses", self._diagnoses.add, model, result, evaluator.analysis)
            result = diagnosed or result
        write_evaluation(
            self.run_dir,
            result,
            options,
            evaluator=evaluator if result.bbox is not None else None,  # without ground truth it has received nothing
            with_layout=not self._has_layout,
        )
        self._has_layout = True
        self._report(result, time.monotonic() - started, options.loss_formulas, difference)
        if self._diagnoses is not None and diagnosed is not None:
            attempt("new findings", self._diagnoses.print_new)
            attempt("findings in TensorBoard", self._diagnoses.write, self.run_dir, result)
        self.results.append(result)
        num_pictures = 0
        if evaluator.analysis is not None:
            write_analysis_summaries(self.run, self.run_dir, step, evaluator.analysis)
            if with_pictures and self._archive is not None:
                num_pictures += draw_plots(self.run, self.run_dir, step, evaluator.analysis)
                num_pictures += draw_error_examples(self.run, self.run_dir, step, evaluator.analysis, self._archive)
        num_pictures += draw_pictures(self.run, self.run_dir, step, first_images, options)
        if num_pictures:
            self._last_step_with_pictures = step
        return result

    def _evaluated_before(self, step: int) -> EvaluationResult | None:
        """The newest evaluation of an earlier step."""
        newest = self.results[-1] if self.results else None
        if newest is not None and newest.step is not None and newest.step < step:
            return newest
        return max(
            (result for result in self.recorded() if (result.step or 0) < step),
            key=lambda result: result.step or 0,
            default=None,
        )

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
        from od_eval.runs import evaluation_run

        evaluation_run.go_back(self.run_dir, step)
        self._best = best_of(self.recorded())

    def _pictures_are_due(self, step: int, options: EvaluationOptions) -> bool:
        last = self._last_step_with_pictures
        has_some_like_these = last is not None and last < step < last * 17 / 16
        return bool(options.pictures_dir) or not has_some_like_these

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
