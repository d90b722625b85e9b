"""EarlyStopping: Keras's own, which goes on over restarts of a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from od_eval.callbacks.base import Callback, steps_done
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.errors import ODEvalError
from od_eval.evaluation.better import direction


class EarlyStopping(Callback):
    """Keras's early stopping, which goes on where an earlier process stopped: it looks at its evaluations once more.

    An evaluation that failed decides nothing. Put it after the callbacks that evaluate.

    Args:
      evaluations: whose files tell of earlier evaluations, and which say when one has failed.
      monitor: a key of `logs`.
      mode: `max` or `min`, what is better; by default told from `monitor`.
      **kwargs: of Keras's: `patience`, `min_delta`, …
    """

    keras_base = "EarlyStopping"

    def __init__(
        self, evaluations: Iterable[DetectionEvaluation], *, monitor: str, mode: str | None = None, **kwargs: Any
    ):
        super().__init__(monitor=monitor, mode=mode or direction(monitor), **kwargs)
        self._supports_tf_logs = False  # Keras's compares numbers
        self._monitored = monitor
        self._evaluations = list(evaluations)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._count = 0
        step = steps_done(self.model, self)
        logs_at: dict[int, dict[str, float]] = {}
        for evaluation in self._evaluations:
            for result in evaluation.recorded():
                if result.step is not None and result.step <= step and step > 0:  # one that begins at 0 begins anew
                    logs_at.setdefault(result.step, {}).update(evaluation.logs(result))
        for evaluated_step in sorted(logs_at):
            if self._monitored in logs_at[evaluated_step]:
                self._evaluated(logs_at[evaluated_step])

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = logs or {}
        step = steps_done(self.model, self)
        has_failed = any(evaluation.failures and evaluation.failures[-1][0] == step for evaluation in self._evaluations)
        if self._monitored in logs:
            self._evaluated(logs)
        elif not has_failed:
            raise ODEvalError(
                f"the metric to stop early by, '{self._monitored}', is not among what was evaluated:"
                f" {', '.join(name for name in logs if name.startswith('val_')) or 'nothing'}."
            )

    def _evaluated(self, logs: Mapping[str, Any]) -> None:
        # Not the epoch of `fit`, of which there are several: Keras never stops in the first.
        self._count += 1
        super().on_epoch_end(self._count, logs)
