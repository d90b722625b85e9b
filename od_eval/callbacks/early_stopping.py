"""EarlyStopping: Keras's early stopping, continued when training restarts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from od_eval.callbacks.base import Callback, steps_done
from od_eval.callbacks.evaluation_callback import EvaluationCallback
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
        self, evaluations: Iterable[EvaluationCallback], *, monitor: str, mode: str | None = None, **kwargs: Any
    ):
        super().__init__(monitor=monitor, mode=mode or direction(monitor), **kwargs)
        self._supports_tf_logs = False  # Keras's class compares numbers
        self._monitored = monitor
        self._evaluations = list(evaluations)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._count = 0
        for earlier in logs_so_far(self._evaluations, steps_done(self.model, self)):
            if self._monitored in earlier:
                self._evaluated(earlier)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = logs or {}
        if is_evaluated(self._monitored, logs, self._evaluations, steps_done(self.model, self)):
            self._evaluated(logs)

    def _evaluated(self, logs: Mapping[str, Any]) -> None:
        # Counts evaluations over all calls of `fit` instead of its epochs: Keras never stops in the first epoch.
        self._count += 1
        super().on_epoch_end(self._count, logs)


def logs_so_far(evaluations: Iterable[EvaluationCallback], step: int) -> list[dict[str, float]]:
    """The entries of `logs` of each evaluation that was recorded up to a step, by ascending step; none at step 0."""
    logs_at: dict[int, dict[str, float]] = {}
    for evaluation in evaluations:
        for result in evaluation.recorded():
            if result.step is not None and result.step <= step and step > 0:  # step 0: a new training run
                logs_at.setdefault(result.step, {}).update(evaluation.logs(result))
    return [logs_at[evaluated_step] for evaluated_step in sorted(logs_at)]


def is_evaluated(monitor: str, logs: Mapping[str, Any], evaluations: Iterable[EvaluationCallback], step: int) -> bool:
    """Whether a metric is among the `logs` of an evaluation at a step; it may be missing if an evaluation failed.

    Raises:
      ODEvalError: no evaluation failed, so the metric does not exist.
    """
    if monitor in logs:
        return True
    if not any(evaluation.failures and evaluation.failures[-1][0] == step for evaluation in evaluations):
        raise ODEvalError(
            f"the metric '{monitor}', which training depends on, is not among the evaluated metrics:"
            f" {', '.join(name for name in logs if name.startswith('val_')) or 'nothing'}."
        )
    return False
