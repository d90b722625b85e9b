"""Progress: a line every few seconds that shows how far training has got."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any

from od_eval import losses as loss_names
from od_eval.callbacks.base import Callback, batch_size, number, steps_done

SECONDS_BETWEEN_LINES = 10


class Progress(Callback):
    """Prints the progress of training: after the first execution, every few seconds, and after the last step.

    A line has the step, the losses by category, the speed, and the time left. Each loss is averaged over what Keras has
    reported since the previous line: for a `Detector` the losses of these steps, for Keras's own metrics their means
    since the epoch began. Time spent between epochs, on evaluation, does not count.

    Args:
      last_step: the step at which training ends.
      say: prints a line.

    Attributes:
      total_losses: the `total_loss` of each line.
    """

    def __init__(self, last_step: int, say: Callable[..., None] = print):
        super().__init__()
        self._last_step = last_step
        self._say = say
        self.total_losses: list[float] = []
        self._printed: float | None = None  # time of the last line
        self._paused: float | None = None
        self._executions: list[Mapping[str, Any]] = []  # logs since the last line

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        now, step = time.monotonic(), steps_done(self.model, self)
        self._executions.append(logs or {})
        if self._printed is None:  # tracing is over, the clock starts
            self._began, self._first_step = now, step
        elif step < self._last_step and now - self._printed < SECONDS_BETWEEN_LINES:
            return
        self._print(step, now)
        self._executions.clear()
        self._printed = now

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._paused = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._printed is not None and self._paused is not None:  # evaluation is not training time
            self._began += time.monotonic() - self._paused

    def _print(self, step: int, now: float) -> None:
        reported = [name for name in self._executions[0] if loss_names.is_loss(name) and not name.startswith("val_")]
        means = {
            name: sum(number(logs[name]) for logs in self._executions) / len(self._executions) for name in reported
        }
        losses = loss_names.categorize(means)
        parts = [f"step {step:>{len(str(self._last_step))}}/{self._last_step}"]
        parts += [f"{name} {loss:.4g}" for name, loss in losses.items()]
        if step > self._first_step:
            speed = (step - self._first_step) / (now - self._began)
            left = datetime.timedelta(seconds=min(round((self._last_step - step) / speed), 10**9))
            images = batch_size(self.model)
            parts += [f"{speed:.3g} steps/s", *([f"{speed * images:.3g} images/s"] if images else []), f"{left} left"]
        self._say("  ".join(parts))
        if loss_names.TOTAL in losses:
            self.total_losses.append(losses[loss_names.TOTAL])
