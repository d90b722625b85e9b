"""Evaluation of checkpoints that another process writes: `model_main_tf2.py --checkpoint_dir`."""

from __future__ import annotations

import functools
import math
import os
import re
import sys
import threading
from collections.abc import Sequence

import tensorflow as tf

from od_eval.callbacks.best_checkpoint import BestCheckpoint
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.errors import ODEvalError
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation_plan import EvaluationPlan
from od_eval.files import reason as first_line
from od_eval.odapi.checkpoints import Checkpoints
from od_eval.odapi.detector import Detector
from od_eval.odapi.hyperparameters import hyperparameters
from od_eval.odapi.pipeline import Pipeline
from od_eval.run_summary import summary_table
from od_eval.tensorboard import hparams
from od_eval.tensorboard.command import how_to_look
from od_eval.training import check_model_dir

SECONDS_BETWEEN_LOOKS = 1.0


def evaluate_checkpoints(
    pipeline_config_path: str,
    model_dir: str,
    checkpoint_dir: str,
    *,
    overrides: Sequence[str] = (),
    num_train_steps: int | None = None,
    evaluation: EvaluationPlan | None = None,
    timeout: float = 3600,
) -> None:
    """Evaluates checkpoints, of this package or of the Object Detection API's own driver, as they come.

    Every one is evaluated, in order, however long an evaluation takes: those that wait are kept even if the training
    deletes them. What an earlier call with the same `model_dir` has evaluated is not evaluated again. Runs, files and
    the best checkpoint are written to `model_dir` as `train` writes them.

    Args:
      pipeline_config_path: the pipeline.config of the training.
      model_dir: where the evaluations go; may be `checkpoint_dir`.
      checkpoint_dir: a folder of checkpoints, which need not be there yet, or one checkpoint (`…/ckpt-12`), which is
        evaluated even if it was before.
      overrides: as for `Pipeline.load`.
      num_train_steps: the step of the last checkpoint to wait for; by default `train_config.num_steps`, and none where
        that is not set.
      evaluation: what to evaluate.
      timeout: seconds to wait for the next checkpoint, and for the first.

    Raises:
      ODEvalError: something the user can put right; an evaluation has failed; no checkpoint came at all.
    """
    plan = evaluation or EvaluationPlan()
    pipeline = Pipeline.load(pipeline_config_path, overrides)
    plan.apply(pipeline)
    if plan.early_stopping_metric:
        raise ODEvalError("--early_stopping_metric is for a training; leave it out to evaluate checkpoints.")
    last_step = num_train_steps or pipeline.config.train_config.num_steps or math.inf
    say = functools.partial(print, flush=True)
    options = plan.check(pipeline)
    single = _single_checkpoint(checkpoint_dir)
    check_model_dir(model_dir)

    say(f"Building {pipeline.meta_architecture} for {pipeline.num_classes} classes …")
    detector = Detector(pipeline)
    detector.compile()
    evaluator = _CheckpointEvaluator(pipeline, options, detector, plan, model_dir)
    if single:
        if not evaluator.restore(single, single):
            raise ODEvalError(f"checkpoint '{single}' cannot be read; choose another one.")
        evaluator.evaluate(evaluator.evaluations)
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
                f"no checkpoint came to '{checkpoint_dir}' within {timeout:g} seconds; check --checkpoint_dir, or let"
                " --eval_timeout be longer."
            )
    say(summary_table(model_dir, evaluator.evaluations[0]))
    say(how_to_look(model_dir))


def _single_checkpoint(path: str) -> str | None:
    """The checkpoint a path names, if it names one and not a folder."""
    prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", path)
    if tf.io.gfile.exists(prefix + ".index"):
        return prefix
    if re.fullmatch(r"ckpt-\d+", os.path.basename(prefix)):
        raise ODEvalError(f"checkpoint '{prefix}' does not exist: {prefix}.index is missing; correct --checkpoint_dir.")
    return None


class _CheckpointEvaluator:
    """Restores a checkpoint into a detector and evaluates it.

    Attributes:
      evaluations: of the plan.
      newest_step: the highest step of a checkpoint that was taken; -1 before the first.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        options: EvaluationOptions,
        detector: Detector,
        plan: EvaluationPlan,
        model_dir: str,
    ):
        self._detector = detector
        self._checkpoints = Checkpoints(detector, model_dir)
        self._current: str | None = None
        self.evaluations: list[DetectionEvaluation] = plan.evaluations(
            pipeline,
            options,
            model_dir,
            checkpoint=lambda step: self._current,
            interruptible=lambda batches: batches,
            on_error="raise",
        )
        self._best: BestCheckpoint = plan.best_checkpoint(model_dir)
        for callback in (*self.evaluations, self._best):
            callback.set_model(detector)
        self._best.begin(starts_anew=False)
        for evaluation in self.evaluations:
            hparams.write(evaluation.run_dir, hyperparameters(pipeline.config), evaluation.options.masks)
        self.newest_step = -1

    def evaluate_new(self, original: str, kept: str) -> None:
        """Evaluates a checkpoint into the runs that do not have it yet, unless it cannot be read.

        Args:
          original: what the checkpoint is called in files.
          kept: where it can be read.
        """
        missing = [each for each in self.evaluations if not self._has(each, original, kept)]
        if missing and self.restore(original, kept):
            self.evaluate(missing)

    def restore(self, original: str, kept: str) -> bool:
        """Restores a checkpoint; False, with a warning, where it cannot be read."""
        try:
            self._checkpoints.restore(kept)
        except tf.errors.OpError as error:
            print(f"warning: checkpoint '{original}' is damaged and passed over: {first_line(error)}", file=sys.stderr)
            return False
        self._current = original
        return True

    def evaluate(self, evaluations: Sequence[DetectionEvaluation]) -> None:
        """Evaluates what was restored; what the other evaluations found of it is known already."""
        step = self._detector.steps_done
        print(f"Evaluating {self._current} of step {step} …", flush=True)
        logs: dict[str, float] = {}
        for evaluation in self.evaluations:
            if evaluation in evaluations:
                logs.update(evaluation.logs(evaluation.evaluate(step)))
            else:
                for result in evaluation.recorded():
                    logs.update(evaluation.logs(result) if result.step == step else {})
        self._best.on_epoch_end(0, logs)
        self.newest_step = max(self.newest_step, step)

    def _has(self, evaluation: DetectionEvaluation, original: str, kept: str) -> bool:
        """Whether an evaluation of this very checkpoint is in its files."""
        try:
            step = int(tf.train.load_variable(kept, "step/.ATTRIBUTES/VARIABLE_VALUE"))
        except tf.errors.OpError:
            return False  # restoring it says what is wrong
        name = os.path.basename(original)
        found = any(
            result.step == step and os.path.basename(result.checkpoint or "") == name
            for result in evaluation.recorded()
        )
        if found:
            self.newest_step = max(self.newest_step, step)
        return found


class CheckpointQueue:
    """The checkpoints of a folder in order, kept until they are done with even if their training deletes them.

    While this context is entered, a thread looks for new ones and links or copies them to a folder of its own. What is
    left there when a process ends is waiting in the next.

    Args:
      checkpoint_dir: where checkpoints appear.
      kept_dir: where they wait.
    """

    def __init__(self, checkpoint_dir: str, kept_dir: str):
        self._checkpoint_dir = checkpoint_dir
        self._kept_dir = kept_dir
        self._seen: set[int] = set()
        self._changed = threading.Condition()
        self._ends = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> CheckpointQueue:
        self._seen = set(_numbers(self._kept_dir))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        if tf.io.gfile.isdir(self._kept_dir) and not tf.io.gfile.listdir(self._kept_dir):
            tf.io.gfile.rmtree(self._kept_dir)

    def waiting(self) -> bool:
        """Whether there is one to take."""
        return bool(_numbers(self._kept_dir))

    def take(self, timeout: float) -> tuple[str, str] | None:
        """Waits for the next checkpoint.

        Returns:
          Its path in `checkpoint_dir`, and the path where it is kept; None if none came within `timeout` seconds.

        Raises:
          ODEvalError: checkpoints can no longer be looked for or kept.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.waiting() or self._error, timeout)
        if self._error and not self.waiting():
            raise ODEvalError(
                f"checkpoints of '{self._checkpoint_dir}' cannot be kept in '{self._kept_dir}':"
                f" {first_line(self._error)}."
            ) from self._error
        numbers = _numbers(self._kept_dir)
        if not numbers:
            return None
        name = f"ckpt-{numbers[0]}"
        return os.path.join(self._checkpoint_dir, name), os.path.join(self._kept_dir, name)

    def done(self, kept: str) -> None:
        """Lets go of a checkpoint that was taken."""
        _remove(kept)

    def _look(self) -> None:
        try:
            while not self._ends.is_set():
                for number in _numbers(self._checkpoint_dir):
                    if number not in self._seen:
                        self._keep(number)
                        self._seen.add(number)
                        with self._changed:
                            self._changed.notify_all()
                self._ends.wait(SECONDS_BETWEEN_LOOKS)
        except Exception as error:  # goes to who waits in `take`
            self._error = error
            with self._changed:
                self._changed.notify_all()

    def _keep(self, number: int) -> None:
        tf.io.gfile.makedirs(self._kept_dir)
        names = [name for name in tf.io.gfile.listdir(self._checkpoint_dir) if name.startswith(f"ckpt-{number}.")]
        # The index last, as TensorFlow itself writes it: where it is, all is there.
        try:
            for name in sorted(names, key=lambda name: name.endswith(".index")):
                _link_or_copy(os.path.join(self._checkpoint_dir, name), os.path.join(self._kept_dir, name))
        except tf.errors.NotFoundError:
            print(
                f"warning: ckpt-{number} was deleted before it could be kept, and is not evaluated; let the training"
                " keep more checkpoints.",
                file=sys.stderr,
            )
            _remove(os.path.join(self._kept_dir, f"ckpt-{number}"))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem, or none that has links; or there is no such file, which copying finds
        tf.io.gfile.copy(source, target + ".tmp", overwrite=True)
        tf.io.gfile.rename(target + ".tmp", target, overwrite=True)


def _numbers(directory: str) -> list[int]:
    """Of the whole checkpoints in a folder, which need not be there, in order."""
    names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else []
    matches = (re.fullmatch(r"ckpt-(\d+)\.index", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def _remove(checkpoint: str) -> None:
    directory, prefix = os.path.split(checkpoint)
    # The index first: without it, what is left is no checkpoint.
    names = [name for name in tf.io.gfile.listdir(directory) if name.startswith(prefix + ".")]
    for name in sorted(names, key=lambda name: not name.endswith(".index")):
        tf.io.gfile.remove(os.path.join(directory, name))
