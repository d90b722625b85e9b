"""Training from a pipeline.config: what `model_main_tf2.py` does, on top of `Detector.fit` and the callbacks."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import shutil
import signal
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from od_eval.callbacks.loss_logger import LossLogger
from od_eval.errors import ODEvalError
from od_eval.files import write_whole
from od_eval.odapi import datasets
from od_eval.odapi.checkpoints import Checkpoints, check_fine_tune_checkpoint, load_fine_tune_checkpoint
from od_eval.odapi.detector import Detector, NonFiniteLossError
from od_eval.odapi.pipeline import Pipeline

SECONDS_BETWEEN_PROGRESS_LINES = 10


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C arrived.

    Attributes:
      exit_status: 128 + the signal's number, as shells have it.
    """

    def __init__(self, signal_number: int):
        self.exit_status = 128 + signal_number
        super().__init__(signal.Signals(signal_number).name)


def train(
    pipeline_config_path: str,
    model_dir: str,
    *,
    overrides: Sequence[str] = (),
    num_train_steps: int | None = None,
    checkpoint_every_n: int = 1000,
    checkpoint_max_to_keep: int = 7,
    log_every_n: int = 10,
    steps_per_execution: int = 1,
    record_summaries: bool = True,
    seed: int | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains a detector, or goes on where an earlier call with the same `model_dir` stopped.

    Writes checkpoints, `pipeline.config` as run and the TensorBoard run `train/` to `model_dir`; progress to stdout.

    Args:
      pipeline_config_path: the pipeline.config.
      model_dir: made where it is missing.
      overrides: as for `Pipeline.load`.
      num_train_steps: the step to stop after; by default `train_config.num_steps`.
      checkpoint_every_n: steps between checkpoints. The last step is always saved.
      checkpoint_max_to_keep: the newest checkpoints that stay.
      log_every_n: steps between points of the curves.
      steps_per_execution: steps in one call of the training function; signals are answered in between.
      record_summaries: whether to write images of training batches, at the first step and with every checkpoint.
      seed: of initial weights, shuffling and augmentation.
      strategy: to train under; by default all GPUs of the machine, or the CPU.

    Raises:
      ODEvalError: something the user can put right.
      Interrupted: SIGTERM or SIGINT arrived; a checkpoint is saved and the curves are flushed, unless it came before
        the first execution had ended, when nothing is there to save, or for the second time.
    """
    started = time.monotonic()
    strategy = strategy or default_strategy()
    if seed is not None:
        tf.keras.utils.set_random_seed(seed)
    pipeline = Pipeline.load(pipeline_config_path, overrides)
    last_step = pipeline.config.train_config.num_steps if num_train_steps is None else num_train_steps
    if last_step < 1:
        raise ODEvalError("how long to train is not said: pass --num_train_steps or set train_config.num_steps.")
    is_chief = strategy.extended.should_checkpoint
    say = print if is_chief else _silent

    with strategy.scope(), _StopSignals() as signals:
        what = f"{pipeline.meta_architecture} for {pipeline.num_classes} classes"
        say(f"Building {what} on {_devices(strategy)} …", flush=True)
        dataset = pipeline.train_dataset()
        check_fine_tune_checkpoint(pipeline.config.train_config, model_dir)
        if is_chief:
            _check_model_dir(model_dir)
        detector = Detector(pipeline, summary_every_n=checkpoint_every_n if record_summaries else 0)
        detector.compile(steps_per_execution=steps_per_execution)
        checkpoints = Checkpoints(detector, model_dir, checkpoint_max_to_keep)
        restored = checkpoints.restore_newest()
        if restored:
            say(f"Going on from {restored}, step {detector.steps_done}.")
        else:
            load_fine_tune_checkpoint(detector, pipeline.config.train_config)
        if is_chief:
            pipeline.save(model_dir)
        first_step = detector.steps_done
        if first_step >= last_step:
            say(f"Nothing to do: {restored} is of step {first_step} already, and num_train_steps is {last_step}.")
            say(_how_to_look(model_dir))
            return
        say(f"Tracing the training step, which takes a while; {last_step - first_step} steps follow.", flush=True)
        loss_logger = LossLogger(model_dir, log_every_n_steps=log_every_n)
        progress = _Progress(last_step, say)
        saver = _SaveCheckpoints(checkpoints, checkpoint_every_n)
        try:
            detector.fit(
                dataset,
                steps_per_epoch=last_step - first_step,
                verbose=0,
                callbacks=[loss_logger, progress, saver, signals.stopper()],
            )
        except NonFiniteLossError as error:
            loss_logger.on_train_end()
            raise ODEvalError(f"{error} The last good checkpoint is {checkpoints.newest()}.") from error
        except tf.errors.OpError as error:
            raise _explained(error, pipeline) from error
        saver.save()
        signals.raise_if_received(say, checkpoints.newest())

    say(
        f"Trained {last_step - first_step} steps in {datetime.timedelta(seconds=round(time.monotonic() - started))};"
        f" total_loss went from {progress.printed_losses[0]:.4g} to {progress.printed_losses[-1]:.4g}.\n"
        f"Checkpoint: {checkpoints.newest()}\n{_how_to_look(model_dir)}"
    )


def default_strategy() -> tf.distribute.Strategy:
    """`MirroredStrategy` over the GPUs of this machine where there are several, no distribution otherwise."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def multi_worker_strategy(num_workers: int) -> tf.distribute.Strategy:
    """`MultiWorkerMirroredStrategy` over the workers that the environment variable `TF_CONFIG` lists.

    Raises:
      ODEvalError: `TF_CONFIG` is missing, is not JSON, or lists another number of workers.
    """
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    except ValueError as error:
        raise ODEvalError(
            f"the environment variable TF_CONFIG is not JSON ({error}); it looks like {example}."
        ) from error
    listed = sum(len(cluster.get(kind, [])) for kind in ("chief", "worker"))
    if listed != num_workers:
        raise ODEvalError(
            f"num_workers is {num_workers}, but the environment variable TF_CONFIG lists {listed} workers; on each"
            f" machine set it like {example}, with its own index."
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def tpu_strategy(tpu_name: str | None) -> tf.distribute.Strategy:
    """`TPUStrategy` on the named Cloud TPU.

    Raises:
      ODEvalError: it cannot be reached.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu_name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ODEvalError(
            f"no TPU can be used under the name {tpu_name!r}: {str(error).splitlines()[0]}; correct --tpu_name or leave"
            " out --use_tpu."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


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
        elif step < self._last_step and now - self._printed < SECONDS_BETWEEN_PROGRESS_LINES:
            return
        self._print(step, now)
        self._executions.clear()
        self._printed = now

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
        self._say("  ".join(parts), flush=True)
        self.printed_losses.append(losses["total_loss"])


class _SaveCheckpoints(tf.keras.callbacks.Callback):
    """Saves before the first step, every n steps, and when asked."""

    def __init__(self, checkpoints: Checkpoints, every_n: int):
        super().__init__()
        self._checkpoints = checkpoints
        self._every_n = every_n
        self._saved_step = -1

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._saved_step = self.model.steps_done
        if self._saved_step == 0:
            self._checkpoints.save()

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if self.model.steps_done // self._every_n > self._saved_step // self._every_n:
            self.save()

    def save(self) -> None:
        """Saves unless this step is saved already."""
        step = self.model.steps_done
        if step != self._saved_step:
            self._checkpoints.save()
            self._saved_step = step


class _StopSignals:
    """SIGTERM and Ctrl-C stop the training after the execution under way; a second one stops it at once.

    Of several workers, all stop after the same execution, whichever of them was asked to.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._can_finish = False
        self._before: dict[int, signal.Handlers] = {}

    def __enter__(self) -> _StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self._received is not None or not self._can_finish:
            raise Interrupted(number)
        self._received = number
        print("Stopping after this step …", file=sys.stderr, flush=True)

    def stopper(self) -> tf.keras.callbacks.Callback:
        """The callback that ends `fit` when a signal has come; before the first step there is nothing to save."""
        signals = self

        class StopWhenAsked(tf.keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
                signals._can_finish = True
                strategy = self.model.distribute_strategy
                stop = signals._received is not None
                if datasets.num_workers(strategy) > 1:
                    # Only by what all workers know: a signal that comes meanwhile counts at the next execution.
                    stop = _any_worker(strategy, stop)
                if stop:
                    signals._received = signals._received or signal.SIGTERM
                    self.model.stop_training = True

        return StopWhenAsked()

    def raise_if_received(self, say: Callable[..., None], checkpoint: str | None) -> None:
        if self._received is not None:
            say(f"Stopped; saved {checkpoint}. The same command goes on from there.", flush=True)
            raise Interrupted(self._received)


def _any_worker(strategy: tf.distribute.Strategy, value: bool) -> bool:
    """Whether `value` is true on any worker; all of them must ask."""

    def count() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.constant(int(value)))

    return int(strategy.experimental_local_results(strategy.run(count))[0]) > 0


# ---- What can go wrong ----------------------------------------------------------------------------------------------


def _check_model_dir(model_dir: str) -> None:
    """Writes and removes a file there, before minutes are spent on what could not be saved."""
    if set("*?[]") & set(model_dir):
        raise ODEvalError(
            f"model_dir '{model_dir}' has one of * ? [ ] in it, which TensorFlow takes for a pattern and then finds no"
            " checkpoint; choose another name."
        )
    probe = os.path.join(model_dir, ".od_eval_can_write")
    write_whole(probe, "")
    tf.io.gfile.remove(probe)


def _explained(error: tf.errors.OpError, pipeline: Pipeline) -> ODEvalError:
    """What an error in the middle of the training means to the user."""
    if isinstance(error, tf.errors.ResourceExhaustedError) and "allocating" in error.message:
        return ODEvalError(
            "memory does not suffice for a training step; lower train_config.batch_size, now"
            f" {pipeline.config.train_config.batch_size}, or the size of the image_resizer."
        )
    if "No space left" in error.message:
        return ODEvalError("the disk is full; make room and start again to go on from the newest checkpoint.")
    print("Looking for the record that cannot be read …", file=sys.stderr, flush=True)
    broken = datasets.find_broken_record(pipeline.config.train_input_reader)
    if broken:
        return ODEvalError(f"{broken}; make the file again or take the record out.")
    return ODEvalError(
        f"TensorFlow could not go on: {error.message.strip().splitlines()[-1]}; --verbosity=1 shows where."
    )


# ---- Words ----------------------------------------------------------------------------------------------------------


def _silent(*args: object, **kwargs: object) -> None:
    """What workers other than the chief say."""


def _devices(strategy: tf.distribute.Strategy) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        names = {tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus}
        devices = f"{len(gpus)} × {', '.join(sorted(names))}"
    else:
        devices = f"{os.cpu_count()} CPU cores"
    replicas = strategy.num_replicas_in_sync
    return f"{devices}, {replicas} replicas" if replicas > 1 else devices


def _how_to_look(model_dir: str) -> str:
    # Where its environment is not activated, the command needs its path.
    beside_python = os.path.join(os.path.dirname(sys.executable), "tensorboard")
    tensorboard = "tensorboard" if shutil.which("tensorboard") else beside_python
    log_dir = model_dir if "://" in model_dir else os.path.abspath(model_dir)
    return f"Look at the curves: {shlex.quote(tensorboard)} --logdir {shlex.quote(log_dir)}"
