"""Training and evaluation from a pipeline.config, as in `model_main_tf2.py`, built on `Detector.fit` and callbacks."""

from __future__ import annotations

import contextlib
import datetime
import functools
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from od_eval import checkpoint_files, files
from od_eval.callbacks.base import Callback
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.callbacks.learning_rate import RangeTest
from od_eval.callbacks.loss_logger import LossLogger
from od_eval.callbacks.progress import Progress
from od_eval.callbacks.save_checkpoints import SaveCheckpoints
from od_eval.callbacks.stop_signals import Interrupted, StopSignals
from od_eval.cluster import everywhere, num_workers, on_chief, worker
from od_eval.errors import ODEvalError
from od_eval.evaluation.options import EvaluationOptions
from od_eval.losses import how_to_read
from od_eval.odapi.checkpoints import Checkpoints, check_fine_tune_checkpoint, load_fine_tune_checkpoint
from od_eval.odapi.datasets import has_record_ids
from od_eval.odapi.detector import Detector
from od_eval.odapi.execution import NonFiniteLossError
from od_eval.odapi.explained import explained_op_error
from od_eval.odapi.overrides import field_value
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.shards import check_same_files, uneven_shares
from od_eval.runs.lock import locked
from od_eval.runs.model_dir import check_model_dir
from od_eval.runs.summary import summary_table
from od_eval.tensorboard import hparams, writers
from od_eval.tensorboard.command import how_to_look
from od_eval.training import strategies
from od_eval.training.advice import print_advice
from od_eval.training.batch_record import BatchRecord
from od_eval.training.evaluation_plan import EvaluationPlan
from od_eval.training.learning_rates import LearningRatePlan, learning_rate_callback
from od_eval.training.record_watch import RecordWatch
from od_eval.training.run_description import describe_training, enter_hyperparameters, summarize_training
from od_eval.training.schedule import Schedule, default_steps_per_execution, steps_between_evaluations


def train(
    pipeline_config_path: str | None,
    model_dir: str,
    *,
    zoo: str | None = None,
    overrides: Sequence[str] = (),
    num_train_steps: int | None = None,
    learning_rate: str | None = None,
    checkpoint_every_n: int = 1000,
    checkpoint_max_to_keep: int = 7,
    eval_every_n: int | None = None,
    evaluation: EvaluationPlan | None = None,
    log_every_n: int = 10,
    steps_per_execution: int | None = None,
    record_summaries: bool = True,
    seed: int | None = None,
    strict: bool = False,
    hparam: Sequence[str] = (),
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains and evaluates a detector, or continues where an earlier call with the same `model_dir` stopped.

    Writes checkpoints, the effective `pipeline.config`, the TensorBoard runs `train/` and `eval/` with the files of the
    evaluations, and the best checkpoint to `model_dir`, and progress to stdout.

    Args:
      pipeline_config_path: the pipeline.config; with None, that of the model of the zoo.
      model_dir: the output folder, created if missing.
      zoo, overrides: as for `Pipeline.load`.
      num_train_steps: the step to stop after; by default `train_config.num_steps`.
      learning_rate: what takes the place of the config's schedule, or lowers it: see `learning_rates.KINDS`; by default
        nothing does. A range test does not evaluate.
      checkpoint_every_n: steps between checkpoints. The last step is always saved.
      checkpoint_max_to_keep: the number of newest checkpoints to keep.
      eval_every_n: steps between evaluations, by default `checkpoint_every_n`; the last step is always evaluated. With
        0 there is no evaluation. Several workers evaluate together.
      evaluation: what to evaluate, and what depends on it.
      log_every_n: steps between points of the curves.
      steps_per_execution: steps in one call of the training function; signals are handled, points written and
        checkpoints saved between calls. By default up to ten on GPUs and TPUs, one on CPUs.
      record_summaries: whether to write images of training batches, at the first step and with every checkpoint.
      seed: the seed for initial weights, shuffling, augmentation and sampling. On a CPU, runs with the same seed have
        bit-identical curves: TensorFlow's deterministic operations are enabled, and stay enabled in this process. On
        GPUs, where some operations have no deterministic form, they are not.
      strict: whether data that would be left out end the training before it begins, instead of a warning.
      hparam: fields of the config that are columns of TensorBoard's HParams tab, beside the main ones.
      strategy: the strategy to train under; by default all GPUs of the machine, or the CPU.

    Raises:
      ODEvalError: something the user can fix. A failed evaluation does not end training, but if the last one failed,
        this is raised at the end.
      Interrupted: SIGTERM or SIGINT was received. A checkpoint is saved and the curves are flushed, unless the signal
        came before the end of the first execution, when there is nothing to save, or for the second time.
    """
    started = time.monotonic()
    strategy = strategy or strategies.default_strategy()
    plan = evaluation or EvaluationPlan()
    rate_plan = LearningRatePlan.parse(learning_rate) if learning_rate else None
    if seed is not None:
        make_reproducible(seed)
    pipeline = Pipeline.load(pipeline_config_path, overrides, zoo=zoo)
    for field in hparam:
        field_value(pipeline.config, field)  # before anything is built
    plan.apply(pipeline)
    last_step = pipeline.config.train_config.num_steps if num_train_steps is None else num_train_steps
    if last_step < 1:
        raise ODEvalError("the number of training steps is missing: set num_train_steps or train_config.num_steps.")
    say = functools.partial(print, flush=True) if strategy.extended.should_checkpoint else _silent
    if pipeline.zoo_remark:
        say(pipeline.zoo_remark)
    if rate_plan is not None and rate_plan.kind == "range_test":
        eval_every_n = 0  # the weights are of no use
    eval_every_n = steps_between_evaluations(eval_every_n, checkpoint_every_n, plan)
    schedule = Schedule(
        last_step,
        checkpoint_every_n,
        eval_every_n,
        log_every_n,
        steps_per_execution or default_steps_per_execution(log_every_n, checkpoint_every_n, eval_every_n),
    )
    options = None
    if eval_every_n:
        with _remedy(" To train without evaluating, set eval_every_n=0."):
            options = plan.check(pipeline)
    pipeline.check_input("train_input_reader", pipeline.config.train_input_reader)
    is_chief = strategy.extended.should_checkpoint
    check_fine_tune_checkpoint(pipeline.config.train_config, model_dir)
    check_same_files(strategy, pipeline.config)
    watch = RecordWatch(pipeline, training=is_chief, evaluation=is_chief and bool(eval_every_n), strict=strict)

    def prepare() -> None:
        print_advice(pipeline, last_step, with_schedule=rate_plan is None)
        uneven = uneven_shares(pipeline.config.train_input_reader, num_workers(strategy))
        if uneven is not None:
            print(f"warning: {uneven}", file=sys.stderr, flush=True)
        check_model_dir(model_dir)
        contexts.enter_context(locked(model_dir))
        with files.errors_as_sentences(f"model_dir '{model_dir}' cannot be prepared"):
            checkpoint_files.remove_interrupted(model_dir)
            files.remove_leftovers_below(model_dir)

    with contextlib.ExitStack() as contexts:
        on_chief(strategy, prepare)
        everywhere(strategy, lambda: contexts.enter_context(watch))
        contexts.enter_context(strategy.scope())
        signals = contexts.enter_context(StopSignals())
        model = f"{pipeline.meta_architecture} for {pipeline.num_classes} classes"
        say(f"Building {model} on {strategies.devices(strategy)} …")
        training = _Training(
            pipeline,
            model_dir,
            plan,
            options,
            schedule,
            signals,
            watch,
            say,
            checkpoint_max_to_keep,
            record_summaries,
            rate_plan,
            seed,
            hparam,
        )
        with files.errors_as_sentences(f"model_dir '{model_dir}' cannot be prepared"):
            restored = training.restore()
        first_step = training.detector.steps_done
        training.evaluate_what_is_missing()
        if first_step >= last_step:
            say(f"Nothing to train: {restored} is already at step {first_step}, and num_train_steps is {last_step}.")
        elif training.is_stopped_early():
            say(f"Nothing to train: early stopping has ended this run; its last checkpoint is {restored}.")
        else:
            say(f"Tracing the training step, which takes a while; {last_step - first_step} steps follow.")
            training.run()
            training.summarize()
            steps = training.detector.steps_done - first_step
            took = datetime.timedelta(seconds=round(time.monotonic() - started))
            losses = training.progress.total_losses
            say(f"Trained {steps} steps in {took}; total_loss went from {losses[0]:.4g} to {losses[-1]:.4g}.")
            if training.detector.stop_training and training.suggested_rate() is None:
                say(f"Early stopping ended training: {plan.early_stopping_metric} did not improve.")
        on_chief(strategy, lambda: training.conclude(say))
    say(f"Checkpoint: {training.checkpoints.newest()}\n{how_to_look(model_dir)}")
    on_chief(strategy, lambda: _raise_if_last_evaluation_failed(training.evaluations))


class _Training:
    """A detector with its data and callbacks, created in the order in which they can fail.

    Attributes:
      detector, checkpoints: the model that is trained, and its checkpoints.
      evaluations, progress: callbacks.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        model_dir: str,
        plan: EvaluationPlan,
        options: EvaluationOptions | None,
        schedule: Schedule,
        signals: StopSignals,
        watch: RecordWatch,
        say: Callable[..., None],
        checkpoint_max_to_keep: int,
        record_summaries: bool,
        rate_plan: LearningRatePlan | None,
        seed: int | None,
        hparam: Sequence[str],
    ):
        self._pipeline = pipeline
        self._model_dir = model_dir
        self._schedule = schedule
        self._say = say
        self._dataset = pipeline.train_dataset()
        self._strategy = tf.distribute.get_strategy()
        self._options = options
        self.detector = Detector(pipeline, summary_every_n=schedule.checkpoint_every_n if record_summaries else 0)
        self.detector.compile(steps_per_execution=schedule.steps_per_execution)
        self.checkpoints = Checkpoints(self.detector, model_dir, checkpoint_max_to_keep)
        self._saver = SaveCheckpoints(self.checkpoints, schedule.checkpoint_every_n, schedule.last_step)
        self._loss_logger = LossLogger(model_dir, log_every_n_steps=schedule.log_every_n)
        self.progress = Progress(schedule.last_step, say)
        self._stopper = signals.callback()
        self._watch = watch
        self._seed = seed
        self._hparam = hparam
        self.evaluations: list[DetectionEvaluation] = []
        if options is not None:
            self.evaluations = plan.evaluations(
                pipeline,
                options,
                model_dir,
                self._checkpoint_of,
                signals.interruptible,
                on_error="report",
                findings=watch.section,
                known=lambda: {"last_step": schedule.last_step, "train_objects": watch.train_objects()},
            )
            for evaluation in self.evaluations:
                evaluation.set_model(self.detector)
        self._best_checkpoint = plan.best_checkpoint(model_dir) if self.evaluations else None
        self._early_stopping = plan.early_stopping(self.evaluations)
        self._overruled = rate_plan.hyperparameters() if rate_plan else {}
        self._learning_rate = (
            learning_rate_callback(rate_plan, pipeline, schedule.last_step, self.evaluations, say)
            if rate_plan
            else None
        )

    def restore(self) -> str | None:
        """Continues from the newest checkpoint, if there is one, and returns its path; writes the config."""
        restored = self.checkpoints.restore_newest()
        if restored:
            self._say(f"Continuing from {restored}, step {self.detector.steps_done}.")
            self._saver.saved_step = self.detector.steps_done
        else:
            load_fine_tune_checkpoint(self.detector, self._pipeline.config.train_config)
        on_chief(self._strategy, self._describe)
        return restored

    def _describe(self) -> None:
        """Writes what the run is, on the chief."""
        self._pipeline.save(self._model_dir)
        describe_training(self._pipeline, self._model_dir, self.detector.steps_done)
        self._summarize()
        for evaluation in self.evaluations:
            writers.resume(evaluation.run_dir, self.detector.steps_done)
            enter_hyperparameters(self._pipeline, evaluation, self._hparam, self._overruled)

    def summarize(self) -> None:
        """Writes a summary of the run so far to TensorBoard's Text."""
        on_chief(self._strategy, self._summarize)

    def _summarize(self) -> None:
        steps_done, last_step = self.detector.steps_done, self._schedule.last_step
        warnings = self._watch.warnings()
        summarize_training(self._pipeline, self._model_dir, steps_done, last_step, warnings, self._overruled)

    def evaluate_what_is_missing(self) -> None:
        """Evaluates the checkpoint from which the run continues, if its evaluation was interrupted or failed."""
        step = self.detector.steps_done
        if not self._schedule.is_evaluated(step) or self._best_checkpoint is None:
            return
        logs: dict[str, float] = {}
        for evaluation in self.evaluations:
            recorded = next((result for result in evaluation.recorded() if result.step == step), None)
            if recorded is not None:
                logs.update(evaluation.logs(recorded))
            else:
                evaluation.begin()
                evaluation.evaluate_into(logs, step)
        # The best checkpoint is always updated: the run may have ended between the evaluation and that update.
        self._best_checkpoint.set_model(self.detector)
        self._best_checkpoint.begin(starts_anew=False)
        self._best_checkpoint.keep_if_better(logs)

    def conclude(self, say: Callable[..., None]) -> None:
        """Says what has come of the training, on the chief.

        Raises:
          ODEvalError: something was wrong with the data.
        """
        for evaluation in self.evaluations:
            hparams.end(evaluation.run_dir, succeeded=True, step=self.detector.steps_done)
        if self.suggested_rate() is not None:
            say(self.suggested_rate())
        if self._options is not None:
            say(summary_table(self._model_dir, self.evaluations[0].run))
            say(how_to_read(self._options.loss_formulas))
        self._watch.report()

    def suggested_rate(self) -> str | None:
        """What a range test of the learning rate found; None if there was none."""
        if not isinstance(self._learning_rate, RangeTest):
            return None
        suggested = self._learning_rate.suggested
        return str(suggested or "The range test suggests no learning rate: the loss did not fall; use more steps.")

    def is_stopped_early(self) -> bool:
        """Whether the evaluations so far have triggered early stopping."""
        if self._early_stopping:
            self._early_stopping.set_model(self.detector)
            self._early_stopping.on_train_begin()  # replays the recorded evaluations
        return self.detector.stop_training

    def run(self) -> None:
        """Trains up to the last step and saves it.

        Raises:
          ODEvalError, Interrupted: as for `train`.
        """
        try:
            self._fit()
        except NonFiniteLossError as error:
            if isinstance(self._learning_rate, RangeTest):  # as far as it could get
                self._learning_rate.on_train_end()
                return
            raise ODEvalError(
                f"{error} The last good checkpoint is {self.checkpoints.newest()}.{self._how_to_replay(error.step)}"
            ) from error
        except tf.errors.OpError as error:
            config = self._pipeline.config
            raise explained_op_error(
                error, [config.train_input_reader], "train_config.batch_size", config.train_config.batch_size
            ) from error
        except OSError as error:
            where = f"'{error.filename}': " if error.filename else ""
            raise ODEvalError(
                f"a file of the training cannot be written: {where}{files.reason(error)}; put that right, and the same"
                " command continues from the newest checkpoint."
            ) from error
        except Interrupted as interrupted:
            if not interrupted.at_once:
                self._saver.save()
                self._loss_logger.on_train_end()
                self._say(f"Stopped; saved {self.checkpoints.newest()}. The same command continues from there.")
            raise
        self._saver.save()

    def _fit(self) -> None:
        """Trains; a Keras epoch spans the steps between two evaluations."""
        callbacks: list[Callback] = [self._loss_logger, self.progress, self._saver, self._stopper]
        callbacks += [self._watch.callback(), *self.evaluations]
        further = (self._best_checkpoint, self._early_stopping, self._learning_rate)
        callbacks += [callback for callback in further if callback]
        step, schedule = self.detector.steps_done, self._schedule
        number = worker(self._strategy)
        batches = BatchRecord(self._model_dir, worker=number, steps_done=step, seed=self._seed)
        if has_record_ids(self._pipeline.config):
            self.detector.on_batches = batches.add
        try:
            for epochs, steps_per_epoch in schedule.epochs(step):
                self.detector.fit(
                    self._dataset, epochs=epochs, steps_per_epoch=steps_per_epoch, verbose=0, callbacks=callbacks
                )
                if self.detector.stop_training:
                    break
        except Exception:
            # Keras calls it only if `fit` succeeds. It writes the points so far, and gives TensorFlow's default writer
            # back.
            self._loss_logger.on_train_end()
            raise
        finally:
            batches.write()

    def _how_to_replay(self, step: int) -> str:
        """A sentence about the program that shows the records of a step; empty if they are not recorded."""
        if not has_record_ids(self._pipeline.config):
            return ""
        command = f"od-eval replay --model_dir={shlex.quote(self._model_dir)} --step={step}"
        return f" Whether a record is to blame, and which one, says: {command}"

    def _checkpoint_of(self, step: int) -> str | None:
        """The path of the checkpoint of this step, if it is the newest one."""
        return self.checkpoints.newest() if step == self._saver.saved_step else None


def make_reproducible(seed: int) -> None:
    """Seeds everything random in this process and, on a CPU, makes operations deterministic."""
    if not 0 <= seed < 2**32:
        raise ODEvalError(f"seed={seed} is out of range; give a number from 0 to {2**32 - 1}.")
    tf.keras.utils.set_random_seed(seed)
    if not tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _remedy(words: str) -> Iterator[None]:
    """Appends another remedy to the errors raised inside."""
    try:
        yield
    except ODEvalError as error:
        raise ODEvalError(f"{error}{words}") from error


def _raise_if_last_evaluation_failed(evaluations: Sequence[DetectionEvaluation]) -> None:
    for evaluation in evaluations:
        if not evaluation.failures:
            continue
        step, error = evaluation.failures[-1]
        last_success = (evaluation.results[-1].step or 0) if evaluation.results else -1
        if step > last_success:
            raise ODEvalError(
                f"{evaluation.run}: the evaluation at step {step} failed: {error} The training is complete; the same"
                " command evaluates its last checkpoint again."
            )


def _silent(*args: object, **kwargs: object) -> None:
    """Prints nothing, for workers other than the chief."""
