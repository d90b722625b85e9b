"""BestCheckpoint: the checkpoint with the best metric so far."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from od_eval.callbacks.base import Callback
from od_eval.callbacks.step_means import number
from od_eval.errors import ODEvalError

# Of a `tensorflow.CheckpointState`.
_NAMES_IN_STATE = ("model_checkpoint_path", "all_model_checkpoint_paths")


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

    def __init__(self, model_dir: str | os.PathLike[str], metric: str | None = None, mode: str | None = None):
        super().__init__()
        if not os.fspath(model_dir):
            raise ValueError("model_dir is empty; BestCheckpoint needs a folder to write to.")
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}.")
        self._directory = os.path.join(os.fspath(model_dir), "best")
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
            self.begin(starts_anew=int(number(self.model.optimizer.iterations)) == 0)
            self._begun = True

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._compare(logs or {})  # an evaluation every so many steps has just been

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epochs += 1
        self._compare(logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._epochs and not self._seen:
            warnings.warn(
                f"BestCheckpoint never saw {self._metric or 'val_AP'} in the logs, and kept nothing: either no"
                " evaluation has succeeded, or it does not come after the callback that evaluates.",
                stacklevel=2,
            )

    # ---- How it does that -------------------------------------------------------------------------------------------

    def begin(self, starts_anew: bool) -> None:
        """Finds out what was best before; `fit` does this, and who calls `on_epoch_end` without it must.

        Args:
          starts_anew: whether what was best before is of another training.
        """
        self._best = read_best(self._directory)
        if self._best is not None and starts_anew:
            self._move_away()
            self._best = None

    def _compare(self, logs: Mapping[str, Any]) -> None:
        name = self._metric or ("val_segm_AP" if "val_segm_AP" in logs else "val_AP")
        if name not in logs:
            return
        self._seen = True
        value = number(logs[name])
        mode = self._mode or ("min" if "loss" in name else "max")
        if not math.isfinite(value) or not self._is_better(name, mode, value):
            return
        step = int(number(self.model.optimizer.iterations))
        self._save({"metric": name, "mode": mode, "value": value, "step": step, "checkpoint": f"ckpt-{step}"})

    def _is_better(self, name: str, mode: str, value: float) -> bool:
        if self._best is None or self._best["metric"] != name:
            return True
        return value > self._best["value"] if mode == "max" else value < self._best["value"]

    def _save(self, best: dict[str, Any]) -> None:
        # Here for the reason given in `callbacks.base`.
        import tensorflow as tf

        from od_eval.files import write_whole

        checkpoint = self._checkpoint()
        checkpoint.save_counter  # noqa: B018 (reading makes the variable, which every checkpoint has)
        step = best["step"]
        path = os.path.join(self._directory, best["checkpoint"])
        try:
            tf.io.gfile.makedirs(self._directory)
            checkpoint.write(path)
        except (tf.errors.OpError, OSError) as error:
            self._remove_all_but(self._best and self._best["step"])
            reason = str(getattr(error, "message", None) or error).strip().splitlines()[0]
            raise ODEvalError(
                f"the best checkpoint '{path}' could not be written: {reason}; make room and start again."
            ) from error
        # The old one goes when the new one is known, so that best.json never names what is not there.
        write_whole(os.path.join(self._directory, "best.json"), json.dumps(best, indent=1) + "\n")
        self._best = best
        # What `tf.train.latest_checkpoint` reads.
        state = "".join(f'{name}: "{best["checkpoint"]}"\n' for name in _NAMES_IN_STATE)
        write_whole(os.path.join(self._directory, "checkpoint"), state)
        self._remove_all_but(step)

    def _checkpoint(self) -> Any:
        import tensorflow as tf

        if hasattr(self.model, "checkpoint"):
            return self.model.checkpoint()
        return tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)

    def _remove_all_but(self, step: int | None) -> None:
        import tensorflow as tf

        for name in tf.io.gfile.listdir(self._directory) if tf.io.gfile.isdir(self._directory) else []:
            path = os.path.join(self._directory, name)
            if re.match(r"ckpt-\d+_temp", name):  # of one that was cut off
                tf.io.gfile.rmtree(path)
            elif (match := re.match(r"ckpt-(\d+)\.", name)) and int(match[1]) != step:
                tf.io.gfile.remove(path)

    def _move_away(self) -> None:
        import tensorflow as tf

        number = 1
        while tf.io.gfile.exists(f"{self._directory}-replaced-{number}"):
            number += 1
        tf.io.gfile.rename(self._directory, f"{self._directory}-replaced-{number}")
        print(
            f"This training starts at step 0: the best checkpoint of an earlier one, of step {self._best['step']}, is"
            f" now in {self._directory}-replaced-{number}.",
            file=sys.stderr,
        )


def read_best(directory: str) -> dict[str, Any] | None:
    """What `best.json` says of the best checkpoint: `checkpoint`, its name, and `metric`, `mode`, `value`, `step`.

    Args:
      directory: `<model_dir>/best`.

    Returns:
      None where there is no best checkpoint.

    Raises:
      ODEvalError: `best.json` is damaged.
    """
    import tensorflow as tf

    path = os.path.join(directory, "best.json")
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path) as file:
            best = json.load(file)
        types = {"metric": str, "mode": str, "value": float, "step": int, "checkpoint": str}
        best = {key: of_type(best[key]) for key, of_type in types.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ODEvalError(f"'{path}' is damaged; remove it, and the next evaluation is the best again.") from error
    if not tf.io.gfile.exists(os.path.join(directory, best["checkpoint"] + ".index")):
        print(
            f"warning: '{path}' names {best['checkpoint']}, which is gone; the next evaluation is the best again.",
            file=sys.stderr,
        )
        return None
    return best
