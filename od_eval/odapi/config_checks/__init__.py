"""Checks of a pipeline.config, before time is spent on a config that cannot work.

A check is a generator function in a module of this package; a new check is a new function and needs no registration:

    @runs_at("load")
    def graph_rewriter(config, source):
        if config.HasField("graph_rewriter"):
            yield Finding("quantization_aware_training", "error", source, …)

The stage determines when a check runs, and its arguments:

| stage             | when                                                   | arguments                   |
| ----------------- | ------------------------------------------------------ | --------------------------- |
| `load`            | a `Pipeline` is created; only the config is checked    | `config, source`            |
| `model`           | before a model is built                                | `config, source`            |
| `input`           | before an input reader is read; checks its files       | a `Reader`                  |
| `evaluation`      | before an evaluation; checks `eval_config`             | a `RequestedEvaluation`     |
| `evaluation_sets` | before all sets are evaluated; checks their names      | `config, source`            |
| `fine_tuning`     | before `fine_tune_checkpoint` is loaded                | `train_config`              |
| `model_dir`       | before training, against the folder it will write to   | `train_config`, `model_dir` |
| `advice`          | before training; what works, but not as intended       | `config, source, facts`     |
| `data`            | when the data were surveyed                            | a `SurveyedData`            |

A caller that cannot continue with an error raises the first one of its stage; later findings are not computed:

    raise_first_error(findings("load", config, source))

`check_pipeline` lists all findings of all stages but `data`.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from object_detection.protos import input_reader_pb2, model_pb2, pipeline_pb2

from od_eval.discovery import modules_of
from od_eval.errors import ODEvalError
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.finding import Finding
from od_eval.findings.survey import Survey
from od_eval.odapi.config_facts import config_facts

if TYPE_CHECKING:
    from od_eval.odapi.pipeline import Pipeline

Stage = Literal[
    "load",
    "model",
    "input",
    "evaluation",
    "evaluation_sets",
    "fine_tuning",
    "model_dir",
    "advice",
    "data",
]
Check = Callable[..., Iterator[Finding]]
_Check = TypeVar("_Check", bound=Check)


@dataclasses.dataclass(frozen=True)
class SurveyedData:
    """The argument of checks of a config against its data.

    Attributes:
      config: the whole config.
      source: the name of the config in messages.
      facts: what `config_facts` knows of it.
      train: the training data, or a sample of it.
      evaluation: the evaluation sets.
    """

    config: pipeline_pb2.TrainEvalPipelineConfig
    source: str
    facts: ConfigFacts
    train: Survey
    evaluation: Sequence[Survey] = ()


@dataclasses.dataclass(frozen=True)
class Reader:
    """The argument of checks of an input reader.

    Attributes:
      config: the whole config.
      source: the name of the config in messages.
      field: the name of the reader in messages: `train_input_reader`, `eval_input_reader[0]`.
      proto: the reader itself.
    """

    config: pipeline_pb2.TrainEvalPipelineConfig
    source: str
    field: str
    proto: input_reader_pb2.InputReader


def runs_at(stage: Stage) -> Callable[[_Check], _Check]:
    """Marks a generator of findings as a check of this stage."""

    def mark(check: _Check) -> _Check:
        check.stage = stage  # type: ignore[attr-defined]
        return check

    return mark


@functools.cache
def checks_of(stage: Stage) -> tuple[Check, ...]:
    """The checks of a stage, by module, and within a module in the order of their definition."""
    return tuple(
        value
        for module in modules_of(sys.modules[__name__])
        for value in vars(module).values()
        if getattr(value, "stage", None) == stage and value.__module__ == module.__name__
    )


def findings(stage: Stage, *arguments: Any) -> Iterator[Finding]:
    """The findings of all checks of a stage; a check runs when its findings are requested.

    Args:
      stage: see the docstring of this module.
      *arguments: the arguments of the checks of this stage.

    Raises:
      ODEvalError: a check cannot read a file.
    """
    for check in checks_of(stage):
        yield from check(*arguments)


def has_num_classes(model: model_pb2.DetectionModel) -> bool:
    """Whether a model has a number of classes. A config without a model has none; `load` has a check for that."""
    kind = model.WhichOneof("model")
    return kind is not None and hasattr(getattr(model, kind), "num_classes")


def check_pipeline(pipeline: Pipeline, model_dir: str | None = None) -> Iterator[Finding]:
    """The findings of the checks of all stages, for all input readers.

    Args:
      pipeline: `Pipeline.load(path, check=False)`, so that its own errors are listed, too.
      model_dir: the output folder of training; None: not checked.

    Yields:
      Each finding once. A file that a check cannot read is a finding, too.
    """
    config, source = pipeline.config, pipeline.source
    readers = [("train_input_reader", config.train_input_reader)]
    readers += [(f"eval_input_reader[{index}]", reader) for index, reader in enumerate(config.eval_input_reader)]
    runs: list[tuple[Any, ...]] = [("load", config, source), ("model", config, source)]
    runs += [("input", Reader(config, source, field, reader)) for field, reader in readers]
    if has_num_classes(config.model):
        runs.append(("evaluation", pipeline.evaluation))
    runs.append(("evaluation_sets", config, source))
    runs.append(("fine_tuning", config.train_config))
    if has_num_classes(config.model):
        runs.append(("advice", config, source, config_facts(pipeline)))
    if model_dir is not None:
        runs.append(("model_dir", config.train_config, model_dir))
    sentences = set()
    for stage, *arguments in runs:
        for check in checks_of(stage):
            for finding in _with_errors(check, arguments):
                if str(finding) not in sentences:
                    sentences.add(str(finding))
                    yield finding


def _with_errors(check: Check, arguments: list[Any]) -> Iterator[Finding]:
    try:
        yield from check(*arguments)
    except ODEvalError as error:
        yield Finding("cannot_be_checked", "error", where="", symptom=str(error).rstrip("."), remedy="")
