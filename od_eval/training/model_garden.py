"""Trains an experiment of TensorFlow Model Garden with its own trainer, and evaluates it as any other detector."""

from __future__ import annotations

import contextlib
import datetime
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from od_eval import checkpoint_files, files
from od_eval.callbacks.best_checkpoint import BestCheckpoint
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.callbacks.early_stopping import EarlyStopping
from od_eval.callbacks.evaluation_callback import EvaluationCallback
from od_eval.callbacks.segmentation_evaluation import SegmentationEvaluation
from od_eval.callbacks.stop_signals import Interrupted, StopSignals
from od_eval.errors import ODEvalError, describe
from od_eval.evaluation.options import AnalysisOptions, EvaluationOptions
from od_eval.evaluation.section import all_sections
from od_eval.evaluation.sections.certainty import CERTAIN
from od_eval.evaluation.sections.losses import Losses
from od_eval.evaluation.segmentation.options import SegmentationOptions
from od_eval.garden.experiment import Experiment, load_experiment
from od_eval.garden.losses import native_losses
from od_eval.garden.summaries import Summaries
from od_eval.garden.trainer import (
    STEPS_PER_SEC,
    GardenModel,
    build_runner,
    build_strategy,
    build_trainer,
    save_config,
)
from od_eval.runs.lock import locked
from od_eval.runs.model_dir import check_model_dir
from od_eval.runs.summary import summary_table
from od_eval.tensorboard import layout, tags, writers
from od_eval.tensorboard.command import how_to_look
from od_eval.text import did_you_mean, some

# Part of an error -> what to do about it.
_REMEDIES = {
    "StringToNumber": "; an image/source_id is no number: set decoder.simple_decoder.regenerate_source_id=true",
    "loss value is NaN": "; lower the learning rate, or look for a record that is to blame: od-eval check",
}


class _StoppedEarly(Exception):
    """Early stopping has ended the training."""


def train_experiment(
    experiment: str,
    model_dir: str,
    *,
    config_file: Sequence[str] = (),
    params_override: str = "",
    analysis: AnalysisOptions | None = None,
    save_detections: bool = False,
    best_metric: str | None = None,
    best_needs_certainty: bool = False,
    early_stopping_metric: str | None = None,
    early_stopping_patience: int = 5,
    early_stopping_min_delta: float = 0.0,
) -> None:
    """Trains and evaluates an experiment, or continues where an earlier call with the same `model_dir` stopped.

    Writes what a training from a pipeline.config writes: the runs `train/` and `eval/` with curves, metrics, analyses
    and pictures, checkpoints, and the best one. How long it trains, how often it evaluates and how often it saves is
    in the experiment's config, `params.yaml` in `model_dir`.

    Args:
      experiment, config_file, params_override: as `load_experiment` takes them.
      model_dir: the output folder, created if missing.
      analysis, save_detections: as for `EvaluationOptions`.
      best_metric, best_needs_certainty: as for `BestCheckpoint`.
      early_stopping_metric: the metric that has to improve, such as `val_AP`; None: the training is not stopped early.
      early_stopping_patience, early_stopping_min_delta: after how many evaluations that do not improve it by this much.

    Raises:
      ODEvalError: something the user can fix. A failed evaluation does not end training, but if the last one failed,
        this is raised at the end.
      Interrupted: SIGTERM or SIGINT was received; a checkpoint is saved if a step has been done.
    """
    started = time.monotonic()
    loaded = load_experiment(experiment, config_file, params_override)
    for remark in loaded.remarks:
        print(f"note: {remark}", flush=True)
    for argument, key in {"best_metric": best_metric, "early_stopping_metric": early_stopping_metric}.items():
        _check_metric(argument, key)
    if best_needs_certainty and (analysis is None or loaded.kind == "segmentation"):
        raise ODEvalError(
            "best_needs_certainty needs an AP of boxes or masks, and the analyses of errors; leave it out"
            + (", as this is a segmentation." if loaded.kind == "segmentation" else ", or analysis=false.")
        )
    if early_stopping_metric and not loaded.is_evaluated:
        raise ODEvalError(
            "early_stopping_metric needs evaluations, and task.validation_data has no input_path; name one, or leave"
            " the metric out."
        )
    check_model_dir(model_dir)
    strategy = build_strategy(loaded.params)
    with locked(model_dir), StopSignals() as signals:
        with files.errors_as_sentences(f"model_dir '{model_dir}' cannot be prepared"):
            checkpoint_files.remove_interrupted(model_dir)
            files.remove_leftovers_below(model_dir)
        print(f"Building {experiment} for {len(loaded.categories)} classes …", flush=True)
        training = _Training(loaded, model_dir, strategy, signals)
        if loaded.is_evaluated:
            training.evaluate_with(
                analysis,
                save_detections,
                BestCheckpoint(model_dir, best_metric, needs_certainty=best_needs_certainty),
                early_stopping_metric and early_stopping_metric + (CERTAIN if best_needs_certainty else ""),
                {"patience": early_stopping_patience, "min_delta": early_stopping_min_delta},
            )
        else:
            print("task.validation_data has no input_path: it is trained without being evaluated.", flush=True)
        first_step = training.model.steps_done
        training.run()
        steps = training.model.steps_done - first_step
    took = datetime.timedelta(seconds=round(time.monotonic() - started))
    print(f"Trained {steps} steps in {took}." if steps else "Nothing to train.", flush=True)
    if loaded.is_evaluated:
        print(summary_table(model_dir, tags.EVAL))
    print(f"Checkpoint: {tf.train.latest_checkpoint(model_dir)}\n{how_to_look(model_dir)}", flush=True)
    training.raise_if_last_evaluation_failed()


class _Training:
    """A trainer, its model, and what is done while it trains.

    Attributes:
      model: the model that is trained.
    """

    def __init__(self, experiment: Experiment, model_dir: str, strategy: tf.distribute.Strategy, signals: StopSignals):
        self._experiment = experiment
        self._model_dir = model_dir
        self._signals = signals
        self._train_run, self._eval_run = (os.path.join(model_dir, run) for run in (tags.TRAIN, tags.EVAL))
        self._in_layout: set[str] = set()
        self._evaluation: EvaluationCallback | None = None
        with _explained((AssertionError, AttributeError, KeyError, TypeError)):
            self._trainer = build_trainer(experiment, strategy, model_dir)
            self.model = GardenModel(experiment, self._trainer)
            self._runner = build_runner(
                experiment,
                self._trainer,
                model_dir,
                Summaries(lambda: writers.writer(self._train_run), self._write_point),
                Summaries(lambda: writers.writer(self._eval_run)),  # `DetectionEvaluation` has written it
            )
        step = self.model.steps_done
        writers.resume(self._train_run, step)
        writers.write_text(self._train_run, tags.PIPELINE_CONFIG, save_config(experiment.params, model_dir), step)
        self._summarize()

    def _summarize(self) -> None:
        """Writes a summary of the run so far to TensorBoard's Text; diagnoses read from it how long it trains."""
        step, last_step = self.model.steps_done, self._experiment.params.trainer.train_steps
        lines = {
            "classes": f"{len(self._experiment.categories)}: {some(self._experiment.categories.values())}",
            **{f"note {number}": remark for number, remark in enumerate(self._experiment.remarks, start=1)},
            "step": f"{step} of {last_step}",
            "command": shlex.join(sys.orig_argv),
        }
        text = "\n".join(f"{name:16}{line}" for name, line in lines.items())
        writers.write_text(self._train_run, tags.SUMMARY, text, step)

    def evaluate_with(
        self,
        analysis: AnalysisOptions | None,
        save_detections: bool,
        best_checkpoint: BestCheckpoint,
        early_stopping_metric: str | None,
        early_stopping: Mapping[str, Any],
    ) -> None:
        """Prepares the evaluations, and what depends on them."""
        batches = self._signals.interruptible(self.model.eval_batches())
        categories, kind = self._experiment.categories, self._experiment.kind
        common: dict[str, Any] = {
            "checkpoint": self._checkpoint_of,
            "known": lambda: {"last_step": self._experiment.params.trainer.train_steps},
        }
        if kind == "segmentation":
            ignored = self._experiment.params.task.losses.ignore_label
            self._evaluation = SegmentationEvaluation(
                batches,
                self._model_dir,
                segment=GardenModel.segment,
                options=SegmentationOptions(categories, ignore_label=ignored),
                **common,
            )
        else:
            self._evaluation = DetectionEvaluation(
                batches,
                self._model_dir,
                detect=GardenModel.detect,
                options=EvaluationOptions(
                    categories, masks=kind == "masks", analysis=analysis, save_detections=save_detections
                ),
                **common,
            )
        self._best_checkpoint = best_checkpoint
        self._early_stopping = (
            EarlyStopping([self._evaluation], monitor=early_stopping_metric, **early_stopping)
            if early_stopping_metric
            else None
        )
        for callback in (self._evaluation, best_checkpoint, self._early_stopping):
            if callback is not None:
                callback.set_model(self.model)
        self._evaluation.begin()
        best_checkpoint.begin(starts_anew=self.model.steps_done == 0)
        self._trainer.on_evaluation = self._evaluate

    def run(self) -> None:
        """Trains up to the last step and saves it.

        Raises:
          ODEvalError, Interrupted: as for `train_experiment`.
        """
        trainer = self._experiment.params.trainer
        step = self.model.steps_done
        if step:
            print(f"Continuing from {tf.train.latest_checkpoint(self._model_dir)}, step {step}.", flush=True)
        try:
            if self._evaluation is not None:
                if self._early_stopping is not None:
                    self._early_stopping.on_train_begin()  # replays the recorded evaluations
                    self._raise_if_stopped()
                every_n = trainer.validation_interval or trainer.train_steps
                is_due = step and (step % every_n == 0 or step >= trainer.train_steps)
                if is_due and step not in {result.step for result in self._evaluation.recorded()}:
                    self._evaluate()  # a process that ended had saved it, and not evaluated
            with _explained():
                self._runner.run()
            self._summarize()
        except _StoppedEarly:
            self._runner.controller.save_checkpoint()
            print("Early stopping ended training: its metric did not improve.", flush=True)
        except Interrupted as interrupted:
            if not interrupted.at_once:
                self._runner.controller.save_checkpoint()
                print("Stopped and saved. The same command continues from there.", flush=True)
            raise

    def raise_if_last_evaluation_failed(self) -> None:
        """Raises ODEvalError if it did."""
        evaluation = self._evaluation
        if evaluation is not None and evaluation.failures:
            step, error = evaluation.failures[-1]
            if step > max((result.step or 0 for result in evaluation.results), default=-1):
                raise ODEvalError(
                    f"{evaluation.run}: the evaluation at step {step} failed: {describe(error)} The training is"
                    " complete; the same command evaluates its last checkpoint again."
                ) from error

    def _evaluate(self) -> None:
        assert self._evaluation is not None
        logs: dict[str, float] = {}
        with self.model.evaluation_weights():
            self._evaluation.evaluate_into(logs, self.model.steps_done)
            self._best_checkpoint.keep_if_better(logs)
        if self._early_stopping is not None:
            self._early_stopping.on_epoch_end(0, logs)
            self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        if self.model.stop_training:
            raise _StoppedEarly

    def _write_point(self, reported: Mapping[str, Any]) -> None:
        """Writes what was reported of the last steps, the mean over these."""
        losses = native_losses(reported, self._experiment.loss_config)
        scalars = dict(Losses().scalars(losses, "none"))
        scalars |= {name: float(value) for name, value in reported.items() if name == tags.LEARNING_RATE}
        speed = reported.get(STEPS_PER_SEC)
        if speed is not None:
            scalars |= {tags.STEPS_PER_SEC: speed, tags.IMAGES_PER_SEC: speed * self.model.batch_size}
        writers.write_scalars(self._train_run, self.model.steps_done, scalars)
        if not scalars.keys() <= self._in_layout:
            self._in_layout |= scalars.keys()
            layout.write(self._train_run, self._in_layout)
        self._signals.can_finish = True
        self._signals.raise_if_received()

    def _checkpoint_of(self, step: int) -> str | None:
        """The path of the checkpoint of this step, if it is the newest one."""
        newest = tf.train.latest_checkpoint(self._model_dir)
        return newest if newest and newest.endswith(f"-{step}") else None


def _check_metric(argument: str, key: str | None) -> None:
    """Raises ODEvalError if there is no such key of `logs`; one with a / is a tag, which evaluations alone know."""
    names = ["val_" + name for section in all_sections().values() for name in section.log_names]
    if key is not None and "/" not in key and key not in names:
        raise ODEvalError(f"{argument} is '{key}', but there is no such metric{did_you_mean(key, names)}.")


@contextlib.contextmanager
def _explained(errors_of_config: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Errors of Model Garden as sentences, and those further ones that a value in a config leads to."""
    try:
        yield
    except errors_of_config as error:
        raise ODEvalError(f"Model Garden cannot use this config: {describe(error)}") from error
    except (tf.errors.OpError, RuntimeError, ValueError, OSError) as error:
        # An error in a graph has the stack in its message, then what it is, and the node.
        lines = [line.strip() for line in str(error).splitlines()]
        lines = [line for line in lines if line and not line.startswith(("[[", "•"))] or [type(error).__name__]
        reason = next((line for line in reversed(lines) if "Error:" in line), lines[-1])
        remedy = next((remedy for part, remedy in _REMEDIES.items() if part in str(error)), "")
        raise ODEvalError(f"Model Garden cannot go on: {reason}{remedy}") from error
