"""BestCheckpoint: the checkpoint with the best metric so far."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from od_eval import checkpoint_files, cluster, files
from od_eval.callbacks.base import Callback, keras_3, number, steps_done, strategy_of
from od_eval.callbacks.base import checkpoint as model_checkpoint
from od_eval.errors import ODEvalError
from od_eval.evaluation.better import direction, is_better, main_metric
from od_eval.evaluation.sections.certainty import CERTAIN
from od_eval.runs import best


class BestCheckpoint(Callback):
    """Keeps the checkpoint with the best metric under `<model_dir>/best/`.

    With several workers every one of them must have this callback; the chief alone writes.

    After each evaluation it compares the metric with the best one so far. `best/best.json` names the best checkpoint
    (`ckpt-400` is from step 400), the metric and its value, and survives restarts. When training starts at step 0, the
    best checkpoint of an earlier training run is moved to `best-replaced-…`.

    Put it after the callback that evaluates, such as `DetectionEvaluation`.

    Args:
      model_dir: the folder that contains `best`.
      metric: a key of `logs`. By default `val_segm_AP` (mask AP) if it is present, otherwise `val_AP`, or the `val_IoU`
        of a segmentation.
      mode: `max` or `min`: whether higher or lower is better. By default `min` for names that contain `loss`.
      needs_certainty: whether a checkpoint is better only if its AP has improved beyond chance, by a paired 95%
        interval: `val_AP_certain` (or `val_segm_AP_certain`) of `DetectionEvaluation` decides.
      save_weights_only: for models of Keras 3, whether weights are saved (`.weights.h5`) or the whole model (`.keras`).

    Example:

    >>> detector.fit(dataset, epochs=20, steps_per_epoch=100, callbacks=[
    ...     od_eval.DetectionEvaluation(pipeline.eval_dataset(), "runs/a"), od_eval.BestCheckpoint("runs/a")])

    For a `Detector`, step, model and optimizer are saved, as in every checkpoint of the Object Detection API; for other
    models of tf_keras, `model` and `optimizer`:
    `tf.train.Checkpoint(model=model).restore(tf.train.latest_checkpoint(…))`. Keras 3, on any backend, saves its models
    and their optimizer to a file that `best.json` names: `model.load_weights("runs/a/best/ckpt-400.weights.h5")`. (It
    restores the optimizer only if that has been built: `model.optimizer.build(model.trainable_variables)`.)
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        metric: str | None = None,
        mode: Literal["min", "max"] | None = None,
        needs_certainty: bool = False,
        save_weights_only: bool = True,
    ):
        super().__init__()
        if not os.fspath(model_dir):
            raise ValueError("model_dir is empty; BestCheckpoint needs a folder to write to.")
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}.")
        self._directory = best.directory_in(files.absolute(model_dir))
        self._metric = metric
        self._mode = mode
        self._suffix = CERTAIN if needs_certainty else ""
        self._ending = best.WEIGHTS if save_weights_only else best.MODEL
        self._best: dict[str, Any] | None = None
        self._epochs = 0
        self._seen = False

    # ---- Keras hooks ------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._begun:  # not in on_train_begin, where other callbacks restore the checkpoint
            self.begin(starts_anew=steps_done(self.model, self) == 0)
            self._begun = True

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.keep_if_better(logs or {})  # a step-based evaluation may have just run

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epochs += 1
        self.keep_if_better(logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._epochs and not self._seen:
            warnings.warn(
                f"BestCheckpoint never saw {self._metric or 'val_AP or val_IoU'}{self._suffix} in the logs, and saved"
                " nothing: either no evaluation has succeeded, or this callback is not listed after the callback that"
                " evaluates.",
                stacklevel=2,
            )

    # ---- Implementation ---------------------------------------------------------------------------------------------

    def begin(self, starts_anew: bool) -> None:
        """Reads the best checkpoint so far. `fit` calls this; call it yourself to use `keep_if_better` without `fit`.

        Args:
          starts_anew: whether the recorded best checkpoint belongs to another training run.
        """
        self._best = cluster.on_chief(strategy_of(self.model), lambda: self._best_so_far(starts_anew))

    def _best_so_far(self, starts_anew: bool) -> dict[str, Any] | None:
        best.repair(self._directory)
        so_far = best.read_best(self._directory)
        if so_far is None or not starts_anew:
            return so_far
        moved_to = best.move_away(self._directory)
        print(
            f"This training starts at step 0: the best checkpoint of an earlier run, of step {so_far['step']}, is now"
            f" in {moved_to}.",
            file=sys.stderr,
        )
        return None

    def keep_if_better(self, logs: Mapping[str, Any]) -> None:
        """Saves the model as it is, if its metric is in `logs` and better than the best so far.

        Raises:
          ODEvalError: the checkpoint cannot be written; the previous one is kept.
        """
        candidate = self._candidate(logs)
        self._seen |= candidate is not None
        if candidate is None or not self.is_better(logs):
            return
        name, mode, value = candidate
        step = steps_done(self.model, self)
        strategy = strategy_of(self.model)
        checkpoint = None
        if keras_3(self.model) is None or hasattr(self.model, "checkpoint"):
            checkpoint = model_checkpoint(self.model)
            # Reading it creates the variable, which every checkpoint has, and in which all workers take part.
            checkpoint.save_counter  # noqa: B018

        def save() -> dict[str, Any]:
            saved_as = self._save(f"ckpt-{step}", checkpoint)
            saved = {"metric": name, "mode": mode, "value": value, "step": step, "checkpoint": saved_as}
            best.write_best(self._directory, saved)
            return saved

        with cluster.averaged(strategy, self.model.variables if cluster.num_workers(strategy) > 1 else ()):
            self._best = cluster.on_chief(strategy, save)

    def is_better(self, logs: Mapping[str, Any]) -> bool:
        """Whether the metric is in `logs` and better than the best so far."""
        candidate = self._candidate(logs)
        if candidate is None:
            return False
        name, mode, value = candidate
        if not math.isfinite(value):
            return False
        return self._best is None or self._best["metric"] != name or is_better(value, self._best["value"], mode)

    def _candidate(self, logs: Mapping[str, Any]) -> tuple[str, Literal["min", "max"], float] | None:
        """Name, mode and value of the metric in `logs`, if it is there."""
        name = (self._metric or main_metric(logs, prefix="val_")) + self._suffix
        return (name, self._mode or direction(name), number(logs[name])) if name in logs else None

    def _save(self, name: str, checkpoint: Any) -> str:
        """Saves the model; returns the name, with the ending of a file of Keras 3 if there is no checkpoint."""
        # Imported here for the reason given in `callbacks.base`.
        import tensorflow as tf

        name += self._ending if checkpoint is None else ""
        path = os.path.join(self._directory, name)
        try:
            files.make_folder(self._directory)
            if checkpoint is None:
                self._write_file(path)
            else:
                checkpoint.write(path)
                checkpoint_files.sync(path)
        except (tf.errors.OpError, OSError) as error:
            best.remove_all_but(self._directory, self._best["checkpoint"] if self._best else None)
            raise ODEvalError(
                f"the best checkpoint '{path}' could not be written: {files.reason(error)}; make room and start again."
            ) from error
        return name

    def _write_file(self, path: str) -> None:
        """Keras writes to a local folder first: it looks at the ending, and wants to seek."""
        with files.temporary_folder() as folder:
            local = os.path.join(folder, f"best{self._ending}")
            (self.model.save_weights if self._ending == best.WEIGHTS else self.model.save)(local)
            files.write_whole(path, files.read_bytes(local))
