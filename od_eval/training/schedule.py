"""When what happens in a training, counted in steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from od_eval.errors import ODEvalError
from od_eval.odapi.datasets import num_workers
from od_eval.training import strategies
from od_eval.training.evaluation_plan import EvaluationPlan


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When what happens, in steps; `eval_every_n` 0: never."""

    last_step: int
    checkpoint_every_n: int
    eval_every_n: int
    log_every_n: int
    steps_per_execution: int

    def is_evaluated(self, step: int) -> bool:
        """Whether an evaluation belongs to a step."""
        if not self.eval_every_n or step == 0:
            return False
        return step % self.eval_every_n == 0 or step >= self.last_step

    def epochs(self, first_step: int) -> list[tuple[int, int]]:
        """What Keras is to train from a step on, so that an epoch ends at each evaluation.

        Returns:
          Number of epochs, and steps in each, of one `fit` after the other.
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
    strategy: tf.distribute.Strategy,
    say: Callable[..., None],
) -> int:
    """0 where nothing is evaluated."""
    workers = num_workers(strategy)
    if workers == 1:
        every_n = checkpoint_every_n if asked is None else asked
    elif asked:
        raise ODEvalError(
            f"of {workers} workers none evaluates: leave out eval_every_n, and let another process evaluate the"
            " checkpoints, with checkpoint_dir=MODEL_DIR."
        )
    else:
        every_n = 0
        say(f"{workers} workers train without evaluating; another process does, with this model_dir as checkpoint_dir.")
    if not every_n and plan.early_stopping_metric:
        raise ODEvalError("early_stopping_metric needs evaluations during training, and there are none.")
    return every_n


def default_steps_per_execution(*intervals: int) -> int:
    """How many steps are made in one call of the training function, if nobody says it.

    A call takes 10 ms beside its steps (on two CPU cores, see docs/performance.md), which is much where these are
    short: on GPUs and TPUs it makes up to ten. On CPUs it makes one, after which signals are answered.

    Args:
      intervals: numbers of steps after which something is to be done, at the end of a call; 0: never.
    """
    if not strategies.has_accelerator():
        return 1
    common = math.gcd(*intervals)
    return max(steps for steps in range(1, 11) if common % steps == 0)
