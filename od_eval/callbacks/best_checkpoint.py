"""BestCheckpoint: the checkpoint with the best metric so far."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from od_eval import files
from od_eval.callbacks.base import Callback, number, steps_done
from od_eval.callbacks.base import checkpoint as model_checkpoint
from od_eval.errors import ODEvalError
from od_eval.evaluation.better import direction, is_better, main_metric
from od_eval.runs import best


class BestCheckpoint(Callback):
    """Keeps the checkpoint with the best metric under `<model_dir>/best/`.

    After each evaluation it compares the metric with the best one so far. `best/best.json` names the best checkpoint
    (`ckpt-400` is of step 400), the metric and its value; they hold over restarts of a training. A training that begins
    at step 0 begins anew: what was kept for an earlier one is moved to `best-replaced-…`.

    Put it after the callback that evaluates, like `DetectionEvaluation`.

    Args:
      model_dir: the folder above `best`.
      metric: a key of `logs`. By default `val_segm_AP`, the AP of masks, where it is there, and `val_AP` otherwise.
      mode: `max` or `min`, what is better; by default `min` for what has `loss` in its name.

    Example:

    >>> detector.fit(dataset, epochs=20, steps_per_epoch=100, callbacks=[
    ...     od_eval.DetectionEvaluation(pipeline.eval_dataset(), "runs/a"), od_eval.BestCheckpoint("runs/a")])

    What is saved of a `Detector` are step, model and optimizer as in every checkpoint of the Object Detection API; of
    other models, `model` and `optimizer`: `tf.train.Checkpoint(model=model).restore(tf.train.latest_checkpoint(…))`.
    """

    def __init__(
        self, model_dir: str | os.PathLike[str], metric: str | None = None, mode: Literal["min", "max"] | None = None
    ):
        super().__init__()
        if not os.fspath(model_dir):
            raise ValueError("model_dir is empty; BestCheckpoint needs a folder to write to.")
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}.")
        self._directory = best.directory_in(os.fspath(model_dir))
        self._metric = metric
        self._mode = mode
        self._best: dict[str, Any] | None = None
        self._epochs = 0
        self._seen = False

    # ---- Keras calls these ------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._begun:  # only now: in on_train_begin, other callbacks restore the checkpoint to go on from
            self.begin(starts_anew=steps_done(self.model, self) == 0)
            self._begun = True

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.keep_if_better(logs or {})  # an evaluation every so many steps has just been

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epochs += 1
        self.keep_if_better(logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._epochs and not self._seen:
            warnings.warn(
                f"BestCheckpoint never saw {self._metric or 'val_AP'} in the logs, and kept nothing: either no"
                " evaluation has succeeded, or it does not come after the callback that evaluates.",
                stacklevel=2,
            )

    # ---- How it does that -------------------------------------------------------------------------------------------

    def begin(self, starts_anew: bool) -> None:
        """Finds out what was best before; `fit` does this, and whoever calls `keep_if_better` without it must.

        Args:
          starts_anew: whether what was best before is of another training.
        """
        self._best = best.read_best(self._directory)
        if self._best is not None and starts_anew:
            moved_to = best.move_away(self._directory)
            print(
                f"This training starts at step 0: the best checkpoint of an earlier one, of step {self._best['step']},"
                f" is now in {moved_to}.",
                file=sys.stderr,
            )
            self._best = None

    def keep_if_better(self, logs: Mapping[str, Any]) -> None:
        """Saves the model as it is, if its metric in `logs` is there and better than the best so far.

        Raises:
          ODEvalError: the checkpoint cannot be written; the older one stays.
        """
        name = self._metric or main_metric(logs, prefix="val_")
        if name not in logs:
            return
        self._seen = True
        value = number(logs[name])
        mode = self._mode or direction(name)
        if not math.isfinite(value) or not self._is_better(name, mode, value):
            return
        step = steps_done(self.model, self)
        checkpoint = f"ckpt-{step}"
        self._save(checkpoint)
        self._best = {"metric": name, "mode": mode, "value": value, "step": step, "checkpoint": checkpoint}
        best.write_best(self._directory, self._best)

    def _is_better(self, name: str, mode: Literal["min", "max"], value: float) -> bool:
        if self._best is None or self._best["metric"] != name:
            return True
        return is_better(value, self._best["value"], mode)

    def _save(self, name: str) -> None:
        # Here for the reason given in `callbacks.base`.
        import tensorflow as tf

        checkpoint = model_checkpoint(self.model)
        checkpoint.save_counter  # noqa: B018 (reading makes the variable, which every checkpoint has)
        path = os.path.join(self._directory, name)
        try:
            files.make_folder(self._directory)
            checkpoint.write(path)
        except (tf.errors.OpError, OSError) as error:
            best.remove_all_but(self._directory, self._best["step"] if self._best else None)
            raise ODEvalError(
                f"the best checkpoint '{path}' could not be written: {files.reason(error)}; make room and start again."
            ) from error
