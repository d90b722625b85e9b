"""Training and evaluation from a pipeline.config: what `model_main_tf2.py` does, on top of `Detector.fit` and the
callbacks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from od_eval import strategies
from od_eval.callbacks.best_checkpoint import BestCheckpoint
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.callbacks.loss_logger import LossLogger
from od_eval.errors import ODEvalError
from od_eval.evaluation_plan import EarlyStopping, EvaluationPlan
from od_eval.files import write_whole
from od_eval.odapi import datasets
from od_eval.odapi.checkpoints import Checkpoints, check_fine_tune_checkpoint, load_fine_tune_checkpoint
from od_eval.odapi.detector import Detector
from od_eval.odapi.eval_config import label_map_of_evaluation
from od_eval.odapi.execution import NonFiniteLossError
from od_eval.odapi.explained import explained_op_error
from od_eval.odapi.hyperparameters import hyperparameters
from od_eval.odapi.label_map import label_map_text
from od_eval.odapi.pipeline import Pipeline
from od_eval.run_summary import summary_table
from od_eval.stop_signals import Interrupted, StopSignals
from od_eval.tensorboard import hparams, tags, writers
from od_eval.tensorboard.command import how_to_look

SECONDS_BETWEEN_PROGRESS_LINES = 10


def train(
    pipeline_config_path: str,
    model_dir: str,
    *,
    overrides: Sequence[str] = (),
    num_train_steps: int | None = None,
    checkpoint_every_n: int = 1000,
    checkpoint_max_to_keep: int = 7,
    eval_every_n: int | None = None,
    evaluation: EvaluationPlan | None = None,
    log_every_n: int = 10,
    steps_per_execution: int | None = None,
    record_summaries: bool = True,
    seed: int | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains and evaluates a detector, or goes on where an earlier call with the same `model_dir` stopped.

    Writes checkpoints, `pipeline.config` as run, the TensorBoard runs `train/` and `eval/` with the files of the
    evaluations, and the best checkpoint to `model_dir`; progress to stdout.

    Args:
      pipeline_config_path: the pipeline.config.
      model_dir: made where it is missing.
      overrides: as for `Pipeline.load`.
      num_train_steps: the step to stop after; by default `train_config.num_steps`.
      checkpoint_every_n: steps between checkpoints. The last step is always saved.
      checkpoint_max_to_keep: the newest checkpoints that stay.
      eval_every_n: steps between evaluations, by default `checkpoint_every_n`; the last step is always evaluated. 0
        trains without evaluating, and so do several workers.
      evaluation: what to evaluate, and what to decide by it.
      log_every_n: steps between points of the curves.
      steps_per_execution: steps in one call of the training function; signals are answered, points written and
        checkpoints saved in between. By default up to ten on GPUs and TPUs, one on CPUs.
      record_summaries: whether to write images of training batches, at the first step and with every checkpoint.
      seed: of initial weights, shuffling, augmentation and sampling. On a CPU a run with the same seed has the same
        curves to the bit: TensorFlow's deterministic operations are asked for, and stay so in this process. On GPUs,
        where some operations have no deterministic form, they are not.
      strategy: to train under; by default all GPUs of the machine, or the CPU.

    Raises:
      ODEvalError: something the user can put right. An evaluation that fails does not end the training; but if the last
        one did, this says so in the end.
      Interrupted: SIGTERM or SIGINT arrived; a checkpoint is saved and the curves are flushed, unless it came before
        the first execution had ended, when nothing is there to save, or for the second time.
    """
    started = time.monotonic()
    strategy = strategy or strategies.default_strategy()
    plan = evaluation or EvaluationPlan()
    if seed is not None:
        _make_reproducible(seed)
    pipeline = Pipeline.load(pipeline_config_path, overrides)
    plan.apply(pipeline)
    last_step = pipeline.config.train_config.num_steps if num_train_steps is None else num_train_steps
    if last_step < 1:
        raise ODEvalError("how long to train is not said: pass --num_train_steps or set train_config.num_steps.")
    is_chief = strategy.extended.should_checkpoint
    say = functools.partial(print, flush=True) if is_chief else _silent
    eval_every_n = _steps_between_evaluations(eval_every_n, checkpoint_every_n, plan, strategy, say)
    if eval_every_n:
        with _remedy(" To train without evaluating, pass --eval_every_n=0."):
            options = plan.check(pipeline)

    with strategy.scope(), StopSignals() as signals:
        what = f"{pipeline.meta_architecture} for {pipeline.num_classes} classes"
        say(f"Building {what} on {strategies.devices(strategy)} …")
        dataset = pipeline.train_dataset()
        check_fine_tune_checkpoint(pipeline.config.train_config, model_dir)
        if is_chief:
            check_model_dir(model_dir)
        detector = Detector(pipeline, summary_every_n=checkpoint_every_n if record_summaries else 0)
        steps_per_execution = steps_per_execution or default_steps_per_execution(
            log_every_n, checkpoint_every_n, eval_every_n
        )
        detector.compile(steps_per_execution=steps_per_execution)
        checkpoints = Checkpoints(detector, model_dir, checkpoint_max_to_keep)
        saver = _SaveCheckpoints(checkpoints, checkpoint_every_n, last_step)
        evaluations: list[DetectionEvaluation] = []
        if eval_every_n:
            evaluations = plan.evaluations(
                pipeline, options, model_dir, saver.checkpoint_of, signals.interruptible, on_error="report"
            )
        early_stopping = plan.early_stopping(evaluations)
        restored = checkpoints.restore_newest()
        if restored:
            say(f"Going on from {restored}, step {detector.steps_done}.")
        else:
            load_fine_tune_checkpoint(detector, pipeline.config.train_config)
        if is_chief:
            pipeline.save(model_dir)
            _describe_run(pipeline, model_dir, evaluations, detector.steps_done)
        run = _Run(
            detector,
            dataset,
            loss_logger=LossLogger(model_dir, log_every_n_steps=log_every_n),
            progress=_Progress(last_step, say),
            saver=saver,
            stopper=signals.stopper(),
            evaluations=evaluations,
            best_checkpoint=plan.best_checkpoint(model_dir) if evaluations else None,
            early_stopping=early_stopping,
        )
        first_step = detector.steps_done
        run.evaluate_what_is_missing(last_step, eval_every_n)
        if first_step >= last_step:
            say(f"Nothing to train: {restored} is of step {first_step} already, and num_train_steps is {last_step}.")
        elif run.is_stopped_early():
            say(f"Nothing to train: early stopping has ended this run, of which {restored} is the last checkpoint.")
        else:
            say(f"Tracing the training step, which takes a while; {last_step - first_step} steps follow.")
            try:
                run.train(last_step, eval_every_n)
            except NonFiniteLossError as error:
                run.loss_logger.on_train_end()
                raise ODEvalError(f"{error} The last good checkpoint is {checkpoints.newest()}.") from error
            except tf.errors.OpError as error:
                config = pipeline.config
                raise explained_op_error(
                    error,
                    [config.train_input_reader],
                    "train_config.batch_size",
                    config.train_config.batch_size,
                ) from error
            except Interrupted as interrupted:
                if not interrupted.at_once:
                    saver.save()
                    run.loss_logger.on_train_end()
                    say(f"Stopped; saved {checkpoints.newest()}. The same command goes on from there.")
                raise
            saver.save()
            took = datetime.timedelta(seconds=round(time.monotonic() - started))
            losses = run.progress.printed_losses
            say(
                f"Trained {detector.steps_done - first_step} steps in {took}; total_loss went from {losses[0]:.4g} to"
                f" {losses[-1]:.4g}."
            )
            if detector.stop_training:
                say(f"Early stopping has ended it: {plan.early_stopping_metric} got no better.")
        for each in evaluations:
            hparams.end(each.run_dir, succeeded=True, step=detector.steps_done)
        if evaluations:
            say(summary_table(model_dir, evaluations[0]))
    say(f"Checkpoint: {checkpoints.newest()}\n{how_to_look(model_dir)}")
    _raise_if_last_evaluation_failed(evaluations)


def _make_reproducible(seed: int) -> None:
    tf.keras.utils.set_random_seed(seed)
    if not tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


def _steps_between_evaluations(
    asked: int | None,
    checkpoint_every_n: int,
    plan: EvaluationPlan,
    strategy: tf.distribute.Strategy,
    say: Callable[..., None],
) -> int:
    """0 where nothing is evaluated."""
    workers = datasets.num_workers(strategy)
    if workers == 1:
        every_n = checkpoint_every_n if asked is None else asked
    elif asked:
        raise ODEvalError(
            f"of {workers} workers none evaluates: leave out --eval_every_n, and let another process do so, with"
            " --checkpoint_dir=MODEL_DIR."
        )
    else:
        every_n = 0
        say(f"{workers} workers train without evaluating; another process does, with --checkpoint_dir=MODEL_DIR.")
    if not every_n and plan.early_stopping_metric:
        raise ODEvalError("--early_stopping_metric needs evaluations during training, and there are none.")
    return every_n


@contextlib.contextmanager
def _remedy(words: str) -> Iterator[None]:
    """Adds to the errors of what is inside what else can be done about them."""
    try:
        yield
    except ODEvalError as error:
        raise ODEvalError(f"{error}{words}") from error


def default_steps_per_execution(*intervals: int) -> int:
    """How many steps are made in one call of the training function, if nobody says it.

    A call takes 10 ms beside its steps (on two CPU cores, see docs/performance.md), which is much where these are
    short: on GPUs and TPUs it makes up to ten. On CPUs it makes one, after which signals are answered.

    Args:
      intervals: numbers of steps after which something is to be done, at the end of a call; 0: never.
    """
    if not strategies.has_accelerator():
        return 1
    common = math.gcd(*intervals)
    return max(steps for steps in range(1, 11) if common % steps == 0)


def _describe_run(pipeline: Pipeline, model_dir: str, evaluations: Sequence[DetectionEvaluation], step: int) -> None:
    """Config, label map and hyperparameters for TensorBoard."""
    train_run = os.path.join(model_dir, tags.TRAIN)
    writers.resume(train_run, step)
    writers.write_text(train_run, tags.PIPELINE_CONFIG, pipeline.text(), step)
    writers.write_text(train_run, tags.LABEL_MAP, label_map_text(label_map_of_evaluation(pipeline.config)), step)
    for evaluation in evaluations:
        writers.resume(evaluation.run_dir, step)
        hparams.write(evaluation.run_dir, hyperparameters(pipeline.config), evaluation.options.masks)


@dataclasses.dataclass
class _Run:
    """A training with everything that looks on, in the order in which it does."""

    detector: Detector
    dataset: Any
    loss_logger: LossLogger
    progress: _Progress
    saver: _SaveCheckpoints
    stopper: tf.keras.callbacks.Callback
    evaluations: Sequence[DetectionEvaluation]
    best_checkpoint: BestCheckpoint | None
    early_stopping: EarlyStopping | None

    def train(self, last_step: int, eval_every_n: int) -> None:
        """Trains up to `last_step`; an epoch of Keras is what lies between two evaluations."""
        callbacks = [self.loss_logger, self.progress, self.saver, self.stopper, *self._evaluating()]
        if self.early_stopping:
            callbacks.append(self.early_stopping)
        for epochs, steps_per_epoch in _epochs(self.detector.steps_done, last_step, eval_every_n):
            self.detector.fit(
                self.dataset, epochs=epochs, steps_per_epoch=steps_per_epoch, verbose=0, callbacks=callbacks
            )
            if self.detector.stop_training:
                break

    def evaluate_what_is_missing(self, last_step: int, eval_every_n: int) -> None:
        """Evaluates the checkpoint that the run goes on from, if its evaluation was interrupted or has failed."""
        step = self.detector.steps_done
        if not eval_every_n or step == 0 or (step % eval_every_n and step < last_step):
            return
        logs: dict[str, float] = {}
        missing = []
        for evaluation in self.evaluations:
            results = [result for result in evaluation.recorded() if result.step == step]
            if results:
                logs.update(evaluation.logs(results[0]))
            else:
                missing.append(evaluation)
        # The best checkpoint is asked in any case: the run may have ended between an evaluation and that.
        for callback in [*missing, self.best_checkpoint]:
            callback.set_model(self.detector)
            callback.on_train_begin()
            callback.on_epoch_begin(0)
            callback.on_epoch_end(0, logs)
            callback.on_train_end()

    def is_stopped_early(self) -> bool:
        """Whether the evaluations so far have ended the run."""
        if self.early_stopping:
            self.early_stopping.set_model(self.detector)
            self.early_stopping.on_train_begin()
        return self.detector.stop_training

    def _evaluating(self) -> list[tf.keras.callbacks.Callback]:
        return [*self.evaluations, *([self.best_checkpoint] if self.best_checkpoint else [])]


def _epochs(first_step: int, last_step: int, eval_every_n: int) -> list[tuple[int, int]]:
    """Number of epochs and steps in each, so that an epoch ends at each multiple of `eval_every_n` and in the end."""
    if not eval_every_n:
        return [(1, last_step - first_step)]
    to_first = min(-first_step % eval_every_n, last_step - first_step)
    whole, rest = divmod(last_step - first_step - to_first, eval_every_n)
    parts = [(1, to_first), (whole, eval_every_n), (1, rest)]
    return [(epochs, steps) for epochs, steps in parts if epochs and steps]


def _raise_if_last_evaluation_failed(evaluations: Sequence[DetectionEvaluation]) -> None:
    for evaluation in evaluations:
        if evaluation.failures and (not evaluation.results or evaluation.failures[-1][0] > evaluation.results[-1].step):
            step, error = evaluation.failures[-1]
            raise ODEvalError(
                f"{evaluation.run}: the evaluation at step {step} failed: {error} The training is complete; the same"
                " command evaluates its last checkpoint again."
            )


# ---- Callbacks of the driver ----------------------------------------------------------------------------------------


class _Progress(tf.keras.callbacks.Callback):
    """Prints where the training is: after the first execution, every few seconds, and after the last."""

    LOSSES = ("total_loss", "classification_loss", "localization_loss", "regularization_loss", "other_loss")

    def __init__(self, last_step: int, say: Callable[..., None]):
        super().__init__()
        self._last_step = last_step
        self._say = say
        self.printed_losses: list[float] = []  # total_loss of each line
        self._executions: list[Mapping[str, float]] = []  # since the last line

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        now, step = time.monotonic(), self.model.steps_done
        self._executions.append(logs)
        if not self.printed_losses:  # tracing is over, the clock starts
            self._began, self._first_step = now, step
            self._paused: float | None = None
        elif step < self._last_step and now - self._printed < SECONDS_BETWEEN_PROGRESS_LINES:
            return
        self._print(step, now)
        self._executions.clear()
        self._printed = now

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self._paused = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if self.printed_losses and self._paused is not None:  # evaluating is not training
            self._began += time.monotonic() - self._paused

    def _print(self, step: int, now: float) -> None:
        losses = {
            name: sum(logs[name] for logs in self._executions) / len(self._executions)
            for name in self.LOSSES
            if name in self._executions[0]
        }
        parts = [f"step {step:>{len(str(self._last_step))}}/{self._last_step}"]
        parts += [f"{name} {loss:.4g}" for name, loss in losses.items()]
        if step > self._first_step:
            speed = (step - self._first_step) / (now - self._began)
            left = datetime.timedelta(seconds=round((self._last_step - step) / speed))
            parts += [f"{speed:.3g} steps/s", f"{speed * self.model.batch_size:.3g} images/s", f"{left} left"]
        self._say("  ".join(parts))
        self.printed_losses.append(losses["total_loss"])


class _SaveCheckpoints(tf.keras.callbacks.Callback):
    """Saves before the first step, every n steps, at the last, and when asked."""

    def __init__(self, checkpoints: Checkpoints, every_n: int, last_step: int):
        super().__init__()
        self._checkpoints = checkpoints
        self._every_n = every_n
        self._last_step = last_step
        self._saved_step = -1

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._saved_step = self.model.steps_done
        if self._saved_step == 0:
            self._checkpoints.save()

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        step = self.model.steps_done
        if step // self._every_n > self._saved_step // self._every_n or step >= self._last_step:
            self.save()

    def checkpoint_of(self, step: int) -> str | None:
        """The path of the checkpoint of this step, if the newest one is."""
        return self._checkpoints.newest() if step == self._saved_step else None

    def save(self) -> None:
        """Saves unless this step is saved already."""
        step = self.model.steps_done
        if step != self._saved_step:
            self._checkpoints.save()
            self._saved_step = step


# ---- The model_dir --------------------------------------------------------------------------------------------------


def check_model_dir(model_dir: str) -> None:
    """Finds out whether a model_dir can be written to, before minutes are spent on what could not be saved."""
    if set("*?[]") & set(model_dir):
        raise ODEvalError(
            f"model_dir '{model_dir}' has one of * ? [ ] in it, which TensorFlow takes for a pattern and then finds no"
            " checkpoint; choose another name."
        )
    probe = os.path.join(model_dir, ".od_eval_can_write")
    write_whole(probe, "")
    tf.io.gfile.remove(probe)


# ---- Words ----------------------------------------------------------------------------------------------------------


def _silent(*args: object, **kwargs: object) -> None:
    """What workers other than the chief say."""
