"""SaveCheckpoints: a checkpoint every n steps and at the last step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from od_eval.callbacks.base import Callback, steps_done


class Checkpoints(Protocol):
    """Saves a model, like `tf.train.CheckpointManager` and `od_eval.odapi.checkpoints.Checkpoints`."""

    def save(self) -> Any:
        """Writes a checkpoint of the model in its current state."""


class SaveCheckpoints(Callback):
    """Saves before the first step, every n steps, at the last step, and on request.

    Args:
      checkpoints: saves the model.
      every_n: steps between checkpoints.
      last_step: the step at which training ends.

    Attributes:
      saved_step: the step of the newest checkpoint; set it if the model was restored from one.
    """

    def __init__(self, checkpoints: Checkpoints, every_n: int, last_step: int):
        super().__init__()
        self._checkpoints = checkpoints
        self._every_n = every_n
        self._last_step = last_step
        self.saved_step = -1

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        step = steps_done(self.model, self)
        if step == 0:
            self.save()
        self.saved_step = step

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        step = steps_done(self.model, self)
        if step // self._every_n > self.saved_step // self._every_n or step >= self._last_step:
            self.save()

    def save(self) -> None:
        """Saves, unless this step has already been saved."""
        step = steps_done(self.model, self)
        if step != self.saved_step:
            self._checkpoints.save()
            self.saved_step = step
