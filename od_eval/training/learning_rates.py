"""The flag `--learning_rate`: which learning rate takes the place of the config's schedule.

learning_rate_callback("one_cycle:high=0.08", pipeline, last_step, evaluations, say)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from od_eval.callbacks.base import Callback
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.callbacks.learning_rate import LearningRate, RangeTest, ReduceOnPlateau, cyclical, one_cycle
from od_eval.errors import ODEvalError
from od_eval.odapi.hyperparameters import hyperparameters
from od_eval.odapi.pipeline import Pipeline
from od_eval.text import did_you_mean, short

KINDS: dict[str, dict[str, str]] = {
    "cyclical": {
        "low": "the lowest rate; default: a tenth of high",
        "high": "the highest rate; default: that of the config",
        "period": "steps from low to high and back; default: a tenth of the steps",
    },
    "one_cycle": {"high": "the highest rate; default: that of the config"},
    "reduce_on_plateau": {
        "metric": "what has to improve; default: val_AP",
        "factor": "what the rate is multiplied by; default: 0.1",
        "patience": "evaluations without improvement before that; default: 5",
    },
    "range_test": {
        "low": "the first rate; default: 1e-6",
        "high": "the last rate; default: 1",
    },
}
_WHOLE_NUMBERS = ("period", "patience")
_TEXTS = ("metric",)
_EXAMPLE = "one_cycle:high=0.08"


@dataclasses.dataclass(frozen=True)
class LearningRatePlan:
    """A learning rate that was asked for.

    kind: a key of `KINDS`. numbers: those that were given, by the names in `KINDS`. metric: that was given, if any.
    """

    kind: str
    numbers: dict[str, float]
    metric: str | None = None

    @classmethod
    def parse(cls, text: str) -> LearningRatePlan:
        """Reads `kind` or `kind:name=value,name=value`.

        Raises:
          ODEvalError: there is no such kind or name, or a value is not possible.
        """
        kind, _, rest = text.partition(":")
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS)
            raise ODEvalError(
                f"learning_rate={short(text)} is none of {', '.join(KINDS)}{hint or ', such as'} {_EXAMPLE}."
            )
        numbers: dict[str, float] = {}
        metric = None
        for part in filter(None, rest.split(",")):
            name, _, value = part.partition("=")
            if name not in KINDS[kind]:
                raise ODEvalError(
                    f"learning_rate={short(text)}: {kind} has no '{name}'; it has {', '.join(KINDS[kind])}."
                )
            if name in _TEXTS:
                metric = value
            else:
                numbers[name] = _number(name, value, text)
        plan = cls(kind, numbers, metric)
        plan._check(text)
        return plan

    def hyperparameters(self) -> dict[str, str | float]:
        """What takes the place of the config's values in descriptions of the run; see `odapi.hyperparameters`."""
        highest = {"learning_rate": self.numbers["high"]} if "high" in self.numbers else {}
        return {"schedule": self.kind.replace("_", " "), **highest}

    def _check(self, text: str) -> None:
        low, high = (self.numbers.get(name) for name in ("low", "high"))
        if low is not None and high is not None and low >= high:
            raise ODEvalError(f"learning_rate={short(text)}: low is not below high; correct one of them.")
        if not 0 < self.numbers.get("factor", 0.5) < 1:
            raise ODEvalError(f"learning_rate={short(text)}: factor must be between 0 and 1.")


def learning_rate_callback(
    plan: LearningRatePlan,
    pipeline: Pipeline,
    last_step: int,
    evaluations: Sequence[DetectionEvaluation],
    say: Callable[..., None],
) -> Callback:
    """The callback for a learning rate.

    Args:
      plan: what was asked for.
      pipeline: its highest rate is the default of `high`.
      last_step: of the training.
      evaluations: what `reduce_on_plateau` follows.
      say: prints.

    Raises:
      ODEvalError: `reduce_on_plateau` without an evaluation.
    """
    values = plan.numbers
    of_config = float(hyperparameters(pipeline.config)["learning_rate"])
    high = values.get("high", of_config)
    if plan.kind in ("cyclical", "one_cycle") and not high > 0:
        raise ODEvalError(f"learning_rate={plan.kind} needs high=NUMBER, as the config has no learning rate.")
    if plan.kind == "one_cycle":
        return LearningRate(one_cycle(high, last_step))
    if plan.kind == "cyclical":
        low, period = values.get("low", high / 10), values.get("period", max(last_step // 10, 2))
        if low >= high:
            raise ODEvalError(f"learning_rate=cyclical: low={low:g} is not below high={high:g}; give both.")
        return LearningRate(cyclical(low, high, int(period)))
    if plan.kind == "range_test":
        return RangeTest(values.get("low", 1e-6), values.get("high", 1.0), last_step)
    if not evaluations:
        raise ODEvalError("learning_rate=reduce_on_plateau needs evaluations during training, and there are none.")
    return ReduceOnPlateau(
        evaluations,
        monitor=plan.metric or "val_AP",
        factor=values.get("factor", 0.1),
        patience=int(values.get("patience", 5)),
        say=say,
    )


def _number(name: str, value: str, text: str) -> float:
    try:
        number = float(int(value) if name in _WHOLE_NUMBERS else float(value))
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        wanted = "a whole number above 0" if name in _WHOLE_NUMBERS else "a number above 0"
        raise ODEvalError(f"learning_rate={short(text)}: {name} is {short(value)}; give {wanted}.")
    return number
