"""The schedule of training, counted in steps."""

from __future__ import annotations

import dataclasses
import math

from od_eval.errors import ODEvalError
from od_eval.training import strategies
from od_eval.training.evaluation_plan import EvaluationPlan


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What happens at which step. An `eval_every_n` of 0 means never."""

    last_step: int
    checkpoint_every_n: int
    eval_every_n: int
    log_every_n: int
    steps_per_execution: int

    def is_evaluated(self, step: int) -> bool:
        """Whether the schedule has an evaluation at a step."""
        if not self.eval_every_n or step == 0:
            return False
        return step % self.eval_every_n == 0 or step >= self.last_step

    def epochs(self, first_step: int) -> list[tuple[int, int]]:
        """Splits training from a step on into epochs for Keras, so that an epoch ends at each evaluation.

        Returns:
          The number of epochs and the steps per epoch of each successive `fit`.
        """
        if not self.eval_every_n:
            return [(1, self.last_step - first_step)]
        to_first = min(-first_step % self.eval_every_n, self.last_step - first_step)
        whole, rest = divmod(self.last_step - first_step - to_first, self.eval_every_n)
        parts = [(1, to_first), (whole, self.eval_every_n), (1, rest)]
        return [(epochs, steps) for epochs, steps in parts if epochs and steps]


def steps_between_evaluations(
    asked: int | None,
    checkpoint_every_n: int,
    plan: EvaluationPlan,
) -> int:
    """The number of steps between evaluations, 0 for none."""
    every_n = checkpoint_every_n if asked is None else asked
    if not every_n and plan.early_stopping_metric:
        raise ODEvalError("early_stopping_metric needs evaluations during training, and there are none.")
    return every_n


def default_steps_per_execution(*intervals: int) -> int:
    """The default number of steps in one call of the training function.

    A call takes 10 ms in addition to its steps (on two CPU cores, see docs/performance.md), which matters if steps are
    short: on GPUs and TPUs a call does up to ten steps. On CPUs it does one, so that signals are handled after each
    step.

    Args:
      intervals: numbers of steps after which something is to be done, at the end of a call; 0: never.
    """
    if not strategies.has_accelerator():
        return 1
    common = math.gcd(*intervals)
    return max(steps for steps in range(1, 11) if common % steps == 0)
