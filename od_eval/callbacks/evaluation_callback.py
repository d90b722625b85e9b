"""EvaluationCallback: decides when to evaluate during training; `RecordedEvaluations` does the evaluation."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

from od_eval import cluster
from od_eval.callbacks.base import Callback, steps_done, strategy_of, writes_summaries
from od_eval.callbacks.loss_logger import not_training, validation_losses
from od_eval.callbacks.recorded_evaluations import RecordedEvaluations
from od_eval.errors import describe
from od_eval.evaluation.result import EvaluationResult
from od_eval.tensorboard import tags


class EvaluationCallback(Callback):
    """Evaluates a model while it trains, at the end of every epoch, or every few epochs or steps.

    Args:
      evaluations: how, and where the results are written.
      every_n_epochs, every_n_steps, on_error, checkpoint: as for `DetectionEvaluation`.

    Attributes:
      run, run_dir: the TensorBoard run, and its folder.
      results: the evaluations made so far.
      failures: step and error of each evaluation that failed.
    """

    def __init__(
        self,
        evaluations: RecordedEvaluations,
        *,
        every_n_epochs: int,
        every_n_steps: int | None,
        on_error: Literal["report", "raise"],
        checkpoint: Callable[[int], str | None] | None,
    ):
        super().__init__()
        for name, value in {"every_n_epochs": every_n_epochs, "every_n_steps": every_n_steps}.items():
            if (not isinstance(value, numbers.Integral) or value < 1) and (name, value) != ("every_n_steps", None):
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}.")
        if on_error not in ("report", "raise"):
            raise ValueError(f"on_error must be 'report' or 'raise', not {on_error!r}.")
        self._evaluations = evaluations
        self._every_n_epochs = every_n_epochs
        self._every_n_steps = every_n_steps
        self._on_error = on_error
        self._checkpoint = checkpoint or (lambda step: None)
        self._last_step: int | None = None
        self._begun = False
        self._counted = 0  # steps
        self._due = 0  # the step of the next evaluation, with every_n_steps
        self._last_batch = -1
        self._in_epoch: dict[str, float] = {}
        self.failures: list[tuple[int, Exception]] = []

    @property
    def run(self) -> str:
        return self._evaluations.run

    @property
    def run_dir(self) -> str:
        return self._evaluations.run_dir

    @property
    def results(self) -> list[EvaluationResult]:
        return self._evaluations.results

    # ---- Keras hooks ------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._in_epoch = {}
        self._last_batch = -1
        if not self._begun:  # not in on_train_begin, where other callbacks restore the checkpoint
            self.begin()
            self._begun = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._every_n_steps is None:
            return
        self._counted += batch - self._last_batch
        self._last_batch = batch
        if self._counted >= self._due:  # counting is faster than reading the step, but it may differ
            self._counted = steps_done(self.model, self)
        if self._counted >= self._due:
            self._due = (self._counted // self._every_n_steps + 1) * self._every_n_steps
            self.evaluate_into(logs, self._counted)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._every_n_steps is None and (epoch + 1) % self._every_n_epochs == 0:
            if self.run == tags.EVAL:  # that of Keras's validation: see `LossLogger`
                self._evaluations.losses_of_keras = validation_losses(logs or {})
            self.evaluate_into(logs, steps_done(self.model, self))
        elif logs is not None:
            for name, value in self._in_epoch.items():
                logs.setdefault(name, value)  # Keras's own validation at the end of the epoch is newer

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._last_step = steps_done(self.model, self)

    # ---- Implementation ---------------------------------------------------------------------------------------------

    def evaluate(self, step: int) -> EvaluationResult:
        """Evaluates the model now and raises any error; see `RecordedEvaluations.evaluate`.

        With several workers, the chief calls it while the others call `RecordedEvaluations.help_to_evaluate`.
        """
        return self._evaluations.evaluate(self.model, step, self._checkpoint(step))

    def logs(self, result: EvaluationResult) -> dict[str, float]:
        """The entries of Keras's `logs` for an evaluation."""
        return self._evaluations.logs(result)

    def recorded(self) -> list[EvaluationResult]:
        """All evaluations recorded in the files of the run, ordered by step; all workers call it together."""
        return cluster.on_chief(strategy_of(self.model), self._evaluations.recorded)

    def begin(self) -> None:
        """Prepares the run to continue at the model's step. `fit` calls it; without `fit`, call it before `evaluate`.

        Raises:
          ODEvalError: a file of an earlier evaluation is damaged.
        """
        step = steps_done(self.model, self)
        self._counted = step
        self._due = (step // self._every_n_steps + 1) * self._every_n_steps if self._every_n_steps else 0
        if step != self._last_step:
            cluster.on_chief(strategy_of(self.model), lambda: self._evaluations.go_back(step))

    def evaluate_into(self, logs: dict[str, Any] | None, step: int) -> None:
        """Evaluates, and adds the metrics to `logs`; a failure is reported or raised, depending on `on_error`.

        All workers call it together, and have the same metrics in `logs`.
        """
        try:
            with not_training():
                self._in_epoch = cluster.on_chief(
                    strategy_of(self.model),
                    lambda: self.logs(self.evaluate(step)),
                    others=lambda: self._evaluations.help_to_evaluate(self.model),
                )
        except Exception as error:
            if self._on_error == "raise" or isinstance(error, cluster.LostWorker):
                raise
            self.failures.append((step, error))
            if writes_summaries(self.model):
                print(
                    f"warning: {self.run}: the evaluation at step {step} failed: {describe(error)}",
                    file=sys.stderr,
                    flush=True,
                )
            return
        if logs is not None:
            logs.update(self._in_epoch)
