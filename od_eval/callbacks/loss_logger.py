"""LossLogger: training and validation losses in TensorBoard."""

from __future__ import annotations

import contextlib
import numbers
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from od_eval import files
from od_eval import losses as loss_names
from od_eval.callbacks.base import (
    Callback,
    batch_size,
    has_graph_with_summaries,
    num_train_images,
    number,
    steps_done,
    writes_summaries,
)
from od_eval.callbacks.step_means import StepMeans
from od_eval.tensorboard import tags


class LossLogger(Callback):
    """Writes total, classification, localization and regularization loss to TensorBoard while a model trains.

    It writes the losses it finds in Keras's `logs`, under the same tags for every model: the categories of
    `od_eval.losses` (`Loss/total_loss`, `Loss/classification_loss`, `Loss/localization_loss`,
    `Loss/regularization_loss`, `Loss/other_loss`) and each part under the model's own name for it
    (`Loss/RPNLoss/objectness_loss`). It also writes `learning_rate` (the optimizer's value after the step),
    `gradient_norm` and `input_wait` (the part of the time that steps wait for their batches) if the model reports them,
    `steps_per_sec`, `images_per_sec`, and `Epoch`, the passes over the training images, if the model knows their
    number, as a `Detector` does. Training goes to `<log_dir>/train`, the `val_*` losses of Keras's validation to
    `<log_dir>/eval`, so that TensorBoard draws both in one chart. Its Custom Scalars tab shows what is written. Other
    entries of `logs`, such as accuracy, are left to `tf.keras.callbacks.TensorBoard`.

    Each point is the mean over all steps since the previous point, whether the model reports the loss of its last batch
    or, like Keras's metrics, the mean since the start of the epoch. Points are placed at training steps (`steps_done`
    of a model that has it, otherwise `optimizer.iterations`). Resumed training continues its curves: points after the
    step where it resumes are removed from the run first, because these steps are trained again (the original event
    files stay in the folder as `events.out.replaced-at-step-…`). Training that starts at step 0 starts with an empty
    run.

    While `fit` runs, the writer of the train run is TensorFlow's default writer (during validation, that of the eval
    run): `tf.summary.…` in a `train_step` writes to the same run. With several workers, only the chief writes.

    Args:
      log_dir: the folder that contains the runs `train` and `eval`; the `model_dir`, for example.
      log_every_n_steps: optimizer steps between points. 100, as in the Object Detection API: frequent enough to see
        what happens, and 100,000 steps make a chart of 1,000 points, which TensorBoard still shows without sampling.
        With `steps_per_execution` above 1 a point is written at the end of the execution that reaches it.
      losses: native loss name -> category (`"localization_loss"`, …), for names that `od_eval.losses` does not know or
        assigns to another category. Every name given here counts as a loss.
      batch_size: images per step, over all replicas, for `images_per_sec`. By default the model's own `batch_size`, if
        it has one, as a `Detector` does; otherwise `images_per_sec` is not written.

    Example:

    >>> model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> model.fit(x, y, batch_size=8, epochs=5, validation_data=(x, y), verbose=0,
    ...           callbacks=[od_eval.LossLogger("runs/a", log_every_n_steps=10, batch_size=8)])

    Then `tensorboard --logdir runs`.
    """

    # Reset by every `fit`.
    _means: StepMeans | None
    _clock: _Clock
    _first_step: int
    _step: int
    _next_point: int
    _executions: int
    _first_batch: int
    _batches_per_epoch: int

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        log_every_n_steps: int = 100,
        losses: Mapping[str, str] | None = None,
        batch_size: int | None = None,
    ):
        super().__init__()
        if not os.fspath(log_dir):
            raise ValueError("log_dir is empty; LossLogger needs a folder to write to.")
        for name, value in {"log_every_n_steps": log_every_n_steps, "batch_size": batch_size}.items():
            if (not isinstance(value, numbers.Integral) or value < 1) and (name, value) != ("batch_size", None):
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}.")
        loss_names.check_mapping(losses or {})
        self._runs = {run: files.absolute(os.path.join(os.fspath(log_dir), run)) for run in (tags.TRAIN, tags.EVAL)}
        self._log_every_n_steps = log_every_n_steps
        self._mapping = dict(losses or {})
        self._batch_size = batch_size
        self._last_step: int | None = None
        self._writer: Any = None
        self._default_writer: Any = None  # the context in which it is TensorFlow's default
        self._fitting = False
        self._start(0)

    # ---- Keras hooks ------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._summaries_go_to(None)  # A `fit` that ended with an error did not reach on_train_end.
        self._writes = writes_summaries(self.model)
        self._fitting = False
        if self._writes:
            steps_done(self.model, self)  # raises if nothing counts steps

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._writes:
            return
        if not self._fitting:
            self._begin()
        elif self._means is not None:
            self._means.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._writes:
            self._first_batch = batch
            self._clock.resume()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._writes:
            return
        # Keras 3 does not report that the last execution of an epoch is shorter than the others.
        steps = min(batch + 1, self._batches_per_epoch) - self._first_batch
        self._clock.count(steps)
        logs = logs or {}
        if self._means is None:
            self._means = StepMeans(self.model, self._names_to_log(logs))
        self._means.add(logs, steps)
        # Reading a variable takes longer than all of this. So batches are counted, and `iterations`, which may differ
        # (gradients accumulated over batches, a shortened last execution), is read when a point seems due.
        self._step += steps
        if self._step >= self._next_point:
            self._step = steps_done(self.model, self)
        if self._step >= self._next_point:
            self._write_point()
        elif self._executions == 1 or batch + 1 >= self._batches_per_epoch:
            # Early, to see which values are means of the epoch; and at its end, before anything is evaluated.
            self._means.settle()
        self._executions += 1

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._fitting:
            self._clock.pause()
            if self._means is not None:
                self._means.settle()  # Keras is about to reset the metrics.
            if not _writers().is_open(self._runs[tags.EVAL]):
                _writers().resume(self._runs[tags.EVAL], self._first_step)
            self._summaries_go_to(tags.EVAL)
            self._validated = True

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._fitting:
            self._summaries_go_to(tags.TRAIN)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._fitting:
            return
        self._clock.pause()
        if self._means is not None:
            self._means.settle(metrics_are_current=False)
        # Only Keras's validation: an evaluation in the middle of the epoch belongs to another step.
        validated, self._validated = self._validated, False
        losses = validation_losses(logs or {}, self._mapping) if validated else {}
        if losses:
            self._write(tags.EVAL, steps_done(self.model, self), self._loss_scalars(losses))

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._fitting:
            return
        self._step = steps_done(self.model, self)
        if self._step == self._first_step and self._executions:
            warnings.warn(
                "model.optimizer.iterations did not change while the model trained: LossLogger writes one point for all"
                " of it. Does train_step use another optimizer?",
                stacklevel=2,
            )
        self._write_point()
        self._last_step = self._step
        self._summaries_go_to(None)
        self._fitting = False
        self._start(0)

    # ---- Implementation ---------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Called in the first epoch, not in on_train_begin, where other callbacks restore the checkpoint."""
        self._start(steps_done(self.model, self))
        if self._step != self._last_step:
            # Not the eval run, unless this process has written to it: it may be that of an evaluator.
            written = [
                run_dir for run, run_dir in self._runs.items() if run == tags.TRAIN or _writers().is_open(run_dir)
            ]
            resumed = [_writers().resume(run_dir, self._step) for run_dir in written]
            if any(resumed):
                self._trace_again()  # summaries in the traced step would write to a writer that is now closed
        self._batches_per_epoch = self.params.get("steps") or sys.maxsize
        self._summaries_go_to(tags.TRAIN)
        self._fitting = True

    def _start(self, step: int) -> None:
        """Resets everything that is counted and collected from a step on."""
        self._first_step = self._step = step
        self._means = None
        self._clock = _Clock()
        self._executions = 0
        self._first_batch = 0
        self._batches_per_epoch = sys.maxsize
        self._validated = False
        self._in_layout: set[str] = set()
        self._set_next_point()

    def _names_to_log(self, logs: Mapping[str, Any]) -> list[str]:
        # An evaluation after the first execution may already have added its entries.
        names = [name for name in logs if loss_names.is_loss(name, self._mapping) and not name.startswith("val_")]
        if not names:
            warnings.warn(
                f"LossLogger finds no loss in what the model reports ({', '.join(logs) or 'nothing'}). Name yours:"
                ' LossLogger(log_dir, losses={"name": "total_loss"}).',
                stacklevel=2,
            )
        return names + [name for name in (tags.GRADIENT_NORM, tags.INPUT_WAIT) if name in logs]

    def _write_point(self) -> None:
        means = self._means.take() if self._means else {}
        if means:
            gradient_norm, input_wait = means.pop(tags.GRADIENT_NORM, None), means.pop(tags.INPUT_WAIT, None)
            steps_per_sec = self._clock.steps_per_sec()
            images_per_step, num_images = self._batch_size or batch_size(self.model), num_train_images(self.model)
            scalars = {
                **self._loss_scalars(means),
                tags.LEARNING_RATE: _learning_rate(self.model.optimizer),
                tags.GRADIENT_NORM: gradient_norm,
                tags.STEPS_PER_SEC: steps_per_sec,
                tags.INPUT_WAIT: _share(input_wait, steps_per_sec),
                tags.IMAGES_PER_SEC: steps_per_sec * images_per_step if steps_per_sec and images_per_step else None,
                tags.EPOCH: self._step * images_per_step / num_images if images_per_step and num_images else None,
            }
            self._write(tags.TRAIN, self._step, scalars)
        self._set_next_point()

    def _set_next_point(self) -> None:
        self._next_point = (self._step // self._log_every_n_steps + 1) * self._log_every_n_steps

    def _loss_scalars(self, losses: Mapping[str, float]) -> dict[str, float]:
        return {loss_names.tag(name): loss for name, loss in loss_names.with_categories(losses, self._mapping).items()}

    def _write(self, run: str, step: int, scalars: Mapping[str, float | None]) -> None:
        known = {tag: value for tag, value in scalars.items() if value is not None}
        _writers().write_scalars(self._runs[run], step, known)
        if run == tags.TRAIN and self._fitting and _writers().writer(self._runs[run]) is not self._writer:
            # After a write that failed there is another writer; summaries in the traced step know the old one.
            self._summaries_go_to(tags.TRAIN)
            self._trace_again()
        # What is validated is trained as well, and in the layout of the train run.
        if run == tags.TRAIN and not known.keys() <= self._in_layout:
            self._in_layout |= known.keys()
            _layout().write(self._runs[run], self._in_layout)

    def _trace_again(self) -> None:
        if has_graph_with_summaries(self.model):
            self.model.make_train_function(force=True)

    def _summaries_go_to(self, run: str | None) -> None:
        if self._default_writer is not None:
            self._default_writer.__exit__(None, None, None)
            self._default_writer = None
        if run is not None:
            self._writer = _writers().writer(self._runs[run])
            self._default_writer = self._writer.as_default()
            self._default_writer.__enter__()


def validation_losses(logs: Mapping[str, Any], mapping: Mapping[str, str] | None = None) -> dict[str, float]:
    """The losses of validation in the `logs` of an epoch, by their names in training.

    A loss without a counterpart in training is left out: `val_night_total_loss` belongs to another evaluation.
    """
    names = [name for name in logs if f"val_{name}" in logs and loss_names.is_loss(name, mapping)]
    return {name: number(logs[f"val_{name}"]) for name in names}


_seconds_not_training = 0.0


@contextlib.contextmanager
def not_training() -> Iterator[None]:
    """Excludes the time spent inside from the training time of every `LossLogger` of this process."""
    global _seconds_not_training
    started = time.perf_counter()
    try:
        yield
    finally:
        _seconds_not_training += time.perf_counter() - started


class _Clock:
    """Time spent training: excludes everything before the end of the first execution (tracing) and between epochs."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._first_is_over = False
        self._start_again()

    def resume(self) -> None:
        if self._since is None and self._first_is_over:
            self._since = self._now()

    def count(self, steps: int) -> None:
        now = self._now()
        if self._since is not None:
            self._seconds += now - self._since
            self._steps += steps
        self._since = now
        self._first_is_over = True

    def pause(self) -> None:
        self._since = None

    def steps_per_sec(self) -> float | None:
        """Steps per second since the last call; None if no step was timed."""
        steps, seconds = self._steps, self._seconds
        self._start_again()
        return steps / seconds if steps and seconds else None

    def _start_again(self) -> None:
        self._steps = 0
        self._seconds = 0.0

    def _now(self) -> float:
        return time.perf_counter() - _seconds_not_training


def _share(seconds_per_step: float | None, steps_per_sec: float | None) -> float | None:
    """The part of the time of a step."""
    return min(seconds_per_step * steps_per_sec, 1.0) if seconds_per_step is not None and steps_per_sec else None


def _learning_rate(optimizer: Any) -> float | None:
    learning_rate = getattr(optimizer, "learning_rate", None)
    if callable(learning_rate):  # a schedule, which legacy optimizers do not evaluate
        learning_rate = learning_rate(optimizer.iterations)
    return None if learning_rate is None else number(learning_rate)


def _writers() -> Any:
    """Imported here for the reason given in `callbacks.base`: it imports TensorFlow."""
    from od_eval.tensorboard import writers

    return writers


def _layout() -> Any:
    from od_eval.tensorboard import layout

    return layout
