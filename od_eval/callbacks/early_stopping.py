"""EarlyStopping: Keras's early stopping, continued when training restarts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from od_eval.callbacks.base import Callback, steps_done
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.errors import ODEvalError
from od_eval.evaluation.better import direction


class EarlyStopping(Callback):
    """Keras's early stopping, continued when training restarts: it replays the evaluations of earlier processes.

    A failed evaluation is ignored. Put it after the callbacks that evaluate.

    Args:
      evaluations: the callbacks that evaluate: their files hold earlier evaluations, and they report failed ones.
      monitor: a key of `logs`.
      mode: `max` or `min`: whether higher or lower is better; by default inferred from `monitor`.
      **kwargs: arguments of Keras's class: `patience`, `min_delta`, …
    """

    keras_base = "EarlyStopping"

    def __init__(
        self, evaluations: Iterable[DetectionEvaluation], *, monitor: str, mode: str | None = None, **kwargs: Any
    ):
        super().__init__(monitor=monitor, mode=mode or direction(monitor), **kwargs)
        self._supports_tf_logs = False  # Keras's class compares numbers
        self._monitored = monitor
        self._evaluations = list(evaluations)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._count = 0
        step = steps_done(self.model, self)
        logs_at: dict[int, dict[str, float]] = {}
        for evaluation in self._evaluations:
            for result in evaluation.recorded():
                if result.step is not None and result.step <= step and step > 0:  # step 0: a new training run
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
                f"the early stopping metric '{self._monitored}' is not among the evaluated metrics:"
                f" {', '.join(name for name in logs if name.startswith('val_')) or 'nothing'}."
            )

    def _evaluated(self, logs: Mapping[str, Any]) -> None:
        # Counts evaluations over all calls of `fit` instead of its epochs: Keras never stops in the first epoch.
        self._count += 1
        super().on_epoch_end(self._count, logs)
