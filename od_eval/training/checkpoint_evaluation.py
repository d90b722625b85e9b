"""Evaluation of checkpoints that another process writes: `model_main_tf2.py --checkpoint_dir`."""

from __future__ import annotations

import functools
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from od_eval import checkpoint_files, files
from od_eval.callbacks.evaluation_set import EvaluationSet
from od_eval.errors import ODEvalError
from od_eval.evaluation.options import EvaluationOptions
from od_eval.losses import how_to_read
from od_eval.odapi.checkpoints import Checkpoints, DamagedCheckpoint, step_of
from od_eval.odapi.detector import Detector
from od_eval.odapi.pipeline import Pipeline
from od_eval.runs.model_dir import check_model_dir
from od_eval.runs.summary import summary_table
from od_eval.tensorboard.command import how_to_look
from od_eval.training.checkpoint_queue import CheckpointQueue
from od_eval.training.evaluation_plan import EvaluationPlan
from od_eval.training.record_watch import RecordWatch
from od_eval.training.run_description import enter_hyperparameters


def evaluate_checkpoints(
    pipeline_config_path: str | None,
    model_dir: str,
    checkpoint_dir: str,
    *,
    zoo: str | None = None,
    overrides: Sequence[str] = (),
    num_train_steps: int | None = None,
    evaluation: EvaluationPlan | None = None,
    timeout: float = 3600,
    strict: bool = False,
) -> None:
    """Evaluates checkpoints of this package or of the Object Detection API's own program as they are written.

    All are evaluated, in order, however long an evaluation takes: waiting checkpoints are kept even if training deletes
    them. Checkpoints that an earlier call with the same `model_dir` has evaluated are skipped. Runs, files and the best
    checkpoint are written to `model_dir` in the same way as by `train`.

    Args:
      pipeline_config_path: the pipeline.config of the training run; with None, that of the model of the zoo.
      model_dir: the folder for the evaluations; may be `checkpoint_dir`.
      checkpoint_dir: a folder of checkpoints, which need not exist yet, or one checkpoint (`…/ckpt-12`), which is
        evaluated even if it has been evaluated before.
      zoo, overrides: as for `Pipeline.load`.
      num_train_steps: the step of the last checkpoint to wait for; by default `train_config.num_steps`, or no limit if
        that is not set.
      evaluation: what to evaluate.
      timeout: seconds to wait for the next checkpoint, and for the first.
      strict: whether data that would be left out are an error, instead of a warning.

    Raises:
      ODEvalError: something the user can fix; an evaluation has failed; no checkpoint appeared.
    """
    plan = evaluation or EvaluationPlan()
    pipeline = Pipeline.load(pipeline_config_path, overrides, zoo=zoo)
    plan.apply(pipeline)
    if plan.early_stopping_metric:
        raise ODEvalError("early_stopping_metric is for training; leave it out to evaluate checkpoints.")
    last_step = num_train_steps or pipeline.config.train_config.num_steps or math.inf
    say = functools.partial(print, flush=True)
    options = plan.check(pipeline)
    single = _single_checkpoint(checkpoint_dir)
    check_model_dir(model_dir)
    files.remove_leftovers_below(model_dir)

    if pipeline.zoo_remark:
        say(pipeline.zoo_remark)
    cannot = f"the evaluation in '{model_dir}' cannot be written"
    with (
        files.errors_as_sentences(cannot),
        RecordWatch(pipeline, training=False, evaluation=True, strict=strict) as watch,
    ):
        say(f"Building {pipeline.meta_architecture} for {pipeline.num_classes} classes …")
        detector = Detector(pipeline)
        detector.compile()
        known = {} if math.isinf(last_step) else {"last_step": last_step}
        evaluator = _CheckpointEvaluator(pipeline, options, detector, plan, model_dir, watch, known)
        if single:
            if not evaluator.restore(single, single):
                raise ODEvalError(f"checkpoint '{single}' cannot be read; choose another one.")
            evaluator.evaluate(single, evaluator.sets)
        else:
            queue = CheckpointQueue(checkpoint_dir, os.path.join(model_dir, ".checkpoints-to-evaluate"))
            with queue:
                while evaluator.newest_step < last_step:
                    if not queue.waiting():
                        say(f"Waiting for checkpoints in {checkpoint_dir}, {timeout:g} seconds at most …")
                    checkpoint = queue.take(timeout)
                    if checkpoint is None:
                        say(f"No new checkpoint came within {timeout:g} seconds.")
                        break
                    original, kept = checkpoint
                    evaluator.evaluate_new(original, kept)
                    queue.done(kept)
            if evaluator.newest_step < 0:
                raise ODEvalError(
                    f"no checkpoint came to '{checkpoint_dir}' within {timeout:g} seconds, or none that can be read;"
                    " check checkpoint_dir, or set a longer timeout."
                )
        say(summary_table(model_dir, evaluator.sets[0].run))
        say(how_to_read(options.loss_formulas))
        watch.report()
    say(how_to_look(model_dir))


def _single_checkpoint(path: str) -> str | None:
    """The checkpoint that a path names, or None if it names a folder."""
    prefix = checkpoint_files.prefix_of(path)
    with files.errors_as_sentences(f"checkpoint_dir '{path}' cannot be read"):
        if files.exists(prefix + ".index"):
            return prefix
    if re.fullmatch(r"ckpt-\d+", os.path.basename(prefix)):
        raise ODEvalError(f"checkpoint '{prefix}' does not exist: {prefix}.index is missing; correct checkpoint_dir.")
    return None


class _CheckpointEvaluator:
    """Restores a checkpoint into a detector and evaluates it.

    Attributes:
      sets: the evaluation sets.
      newest_step: the highest step of a checkpoint taken so far; -1 before the first.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        options: EvaluationOptions,
        detector: Detector,
        plan: EvaluationPlan,
        model_dir: str,
        watch: RecordWatch,
        known: Mapping[str, Any],
    ):
        self._detector = detector
        self._checkpoints = Checkpoints(detector, model_dir)
        self.sets = plan.evaluation_sets(pipeline, options, model_dir, watch.section, lambda: known)
        self._best = plan.best_checkpoint(model_dir)
        self._best.set_model(detector)
        self._best.begin(starts_anew=False)
        for evaluation_set in self.sets:
            enter_hyperparameters(pipeline, evaluation_set)
        self.newest_step = -1

    def evaluate_new(self, original: str, kept: str) -> None:
        """Evaluates a checkpoint on the sets that do not have it yet, unless it cannot be read.

        Args:
          original: the path of the checkpoint to record in files.
          kept: the path from which it can be read.
        """
        step = step_of(kept)  # None: restoring it reports what is wrong
        missing = [one for one in self.sets if step is None or not self._has(one, original, step)]
        # A recorded one may be the best that a killed process did not keep any more.
        if (missing or self._best.is_better(self._recorded_logs(step))) and self.restore(original, kept):
            self.evaluate(original, missing)

    def restore(self, original: str, kept: str) -> bool:
        """Restores a checkpoint; returns False, with a warning, if it cannot be read."""
        try:
            self._checkpoints.restore(kept)
        except DamagedCheckpoint as error:
            print(f"warning: {DamagedCheckpoint(original, error.reason).passed_over()}", file=sys.stderr)
            return False
        return True

    def evaluate(self, checkpoint: str, sets: Sequence[EvaluationSet]) -> None:
        """Evaluates the restored checkpoint on these sets, and keeps it if it is the best; others have it already."""
        step = self._detector.steps_done
        if sets:
            print(f"Evaluating {checkpoint} of step {step} …", flush=True)
        for evaluation_set in sets:
            evaluation_set.evaluate(self._detector, step, checkpoint)
        self._best.keep_if_better(self._recorded_logs(step))
        self.newest_step = max(self.newest_step, step)

    def _recorded_logs(self, step: int | None) -> dict[str, float]:
        """What the files of all sets have of a step, as Keras's `logs`."""
        logs: dict[str, float] = {}
        for evaluation_set in self.sets:
            for result in evaluation_set.recorded():
                logs.update(evaluation_set.logs(result) if result.step == step else {})
        return logs

    def _has(self, evaluation_set: EvaluationSet, original: str, step: int) -> bool:
        """Whether the files of a set have an evaluation of this very checkpoint."""
        name = os.path.basename(original)
        is_recorded = any(
            result.step == step and os.path.basename(result.checkpoint or "") == name
            for result in evaluation_set.recorded()
        )
        if is_recorded:
            self.newest_step = max(self.newest_step, step)
        return is_recorded
