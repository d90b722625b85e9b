"""Means over steps, from the values Keras reports in `logs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from od_eval import cluster
from od_eval.callbacks.base import number, strategy_of, with_current_values

# Keras's metrics and the means they report are float32.
_SAME = 1e-5


class StepMeans:
    """Collects the values reported by executions, and returns their means over the steps since the last call of `take`.

    Keras reports a metric as its mean since the start of the epoch. The contribution of the steps since the last
    reading is the difference of two sums: of the metric's own total and count if these can be read, otherwise of the
    mean times the number of steps. Any other value is taken as the mean over the steps of its execution: this is what a
    `train_step` that averages over them reports, like that of `od_eval.Detector`. If it returns the loss of its batch,
    Keras passes on only the last batch of an execution, which then stands for the others.

    Adding costs next to nothing. No value is read before it is needed, because reading a tensor means waiting for it.

    Args:
      model: the model whose metrics are read.
      names: the entries of `logs` to collect.
    """

    def __init__(self, model: Any, names: list[str]):
        self._model = model
        self._names = names
        # Reading a metric while training on several workers is a collective operation, which the chief cannot do alone.
        self._metrics = {
            metric.name: metric
            for metric in _flatten(model.metrics)
            if metric.name in names and hasattr(metric, "total") and hasattr(metric, "count")
        }
        self._metrics_are_readable = cluster.num_workers(strategy_of(model)) == 1
        self._clear_window()
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """To be called after Keras has reset its metrics; call `settle` before it does."""
        self._epoch_steps = self._settled_steps = 0
        self._settled: dict[str, tuple[float, float]] = {}  # total and count when last settled

    def add(self, logs: Mapping[str, Any], steps: int) -> None:
        self._reports.append((steps, {name: logs[name] for name in self._names}))
        self._epoch_steps += steps

    def settle(self, metrics_are_current: bool = True) -> None:
        """Computes what the reports since the last call have added to the means of the epoch.

        Args:
          metrics_are_current: the metrics still hold the values of the last report, and have not been reset or used for
            validation since.
        """
        steps = self._epoch_steps - self._settled_steps
        if not steps:
            return
        last_report = self._reports[-1][1]
        if metrics_are_current and self._metrics:
            with_current_values(self._model)
        for name, metric in list(self._metrics.items()):
            mean = number(last_report[name])
            total_before, count_before = self._settled.get(name, (0.0, 0.0))
            if metrics_are_current and self._metrics_are_readable:
                total, count = number(metric.total), number(metric.count)
                if not count or abs(mean - total / count) > _SAME * abs(mean):
                    # A `train_step` that reports the loss of its batch under the name of a metric.
                    del self._metrics[name]
                    continue
            else:
                total, count = mean * self._epoch_steps, self._epoch_steps
                if count_before:
                    total_before, count_before = total_before / count_before * self._settled_steps, self._settled_steps
            if count <= count_before:  # The metric was reset in between, by an evaluation in the middle of an epoch.
                total_before, count_before = 0.0, 0.0
            self._sums[name] = self._sums.get(name, 0.0) + (total - total_before) / (count - count_before) * steps
            self._settled[name] = (total, count)
        self._settled_steps = self._epoch_steps

    def take(self) -> dict[str, float]:
        """The means since the last call; empty if there was no step."""
        self.settle()
        all_steps = sum(steps for steps, _ in self._reports)
        means = {}
        for name in self._names if all_steps else ():
            if name in self._metrics:
                sum_of_steps = self._sums[name]
            else:
                sum_of_steps = sum(steps * number(values[name]) for steps, values in self._reports)
            means[name] = sum_of_steps / all_steps
        self._clear_window()
        return means

    def _clear_window(self) -> None:
        self._reports: list[tuple[int, dict[str, Any]]] = []
        self._sums: dict[str, float] = {}


def _flatten(metrics: list[Any]) -> list[Any]:
    """The metrics and those nested in them (Keras 3 wraps those given to `compile` in one)."""
    return [leaf for metric in metrics for leaf in (metric, *_flatten(getattr(metric, "metrics", [])))]
