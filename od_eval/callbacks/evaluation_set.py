"""A set of images that a model is evaluated on, and the run that its evaluations are written to.

    evaluation_set = EvaluationSet(pipeline.eval_dataset(), "runs/a")
    result = evaluation_set.evaluate(detector, step=1000)

`DetectionEvaluation` does this while a model trains, `od_eval.training` for the checkpoints of another process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from od_eval.callbacks.recorded_evaluations import RecordedEvaluations
from od_eval.evaluation.analyses.intervals import Interval
from od_eval.evaluation.analysis import ExtraMetrics, attempt
from od_eval.evaluation.loop import (
    Detect,
    FoundInData,
    as_evaluable,
    coco_evaluator,
    evaluate,
    help_to_evaluate,
)
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.figures.first_images import FirstImages
from od_eval.runs import certainty
from od_eval.runs.image_archive import ImageArchive
from od_eval.tensorboard import tags


class EvaluationSet(RecordedEvaluations):
    """Evaluates detectors on a dataset and writes the results.

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

    _other_section = "segmentation"

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
        super().__init__(model_dir, run=run, prefix=prefix, diagnose=diagnose, known=known)
        self._dataset = dataset
        self.options = options
        self._detect = detect
        self._findings = findings
        self._extra_metrics = extra_metrics
        self._asked_by = asked_by

    def evaluate(self, model: Any, step: int, checkpoint: str | None = None) -> EvaluationResult:
        # Imported here for the reason given in `callbacks.base`: it imports TensorFlow.
        from od_eval.runs.evaluation_run import (
            draw_error_examples,
            draw_pictures,
            draw_plots,
            write_analysis,
            write_analysis_summaries,
        )

        started = time.monotonic()
        self._begin()
        evaluable = as_evaluable(model, self._detect, self.options, self._asked_by)
        options = self.options or evaluable.evaluation_options
        with_pictures = bool(options.pictures_dir) or self._pictures_are_due(step)
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
        result = self._write(
            model,
            result,
            options,
            started=started,
            analysis=evaluator.analysis,
            evaluator=evaluator if result.bbox is not None else None,  # without ground truth it has received nothing
            difference=difference,
        )
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

    def help_to_evaluate(self, model: Any) -> None:
        help_to_evaluate(model, self._dataset, self._detect, self.options)

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
