"""Says what a config is probably not meant to ask for, before time is spent on it."""

from __future__ import annotations

import sys

from od_eval.findings.finding import raise_first_error
from od_eval.odapi import config_checks
from od_eval.odapi.config_facts import config_facts
from od_eval.odapi.pipeline import Pipeline


def print_advice(pipeline: Pipeline, last_step: int, *, with_schedule: bool = True) -> None:
    """Prints the warnings of the stage `advice` of the checks of a config; no data are read.

    Args:
      pipeline: the config.
      last_step: the step at which training ends.
      with_schedule: whether the learning rates of the config are used.

    Raises:
      ODEvalError: the config cannot work.
    """
    config = type(pipeline.config)()
    config.CopyFrom(pipeline.config)
    # A shorter training is a trial, and its schedule that of the whole.
    config.train_config.num_steps = max(last_step, config.train_config.num_steps)
    meant = Pipeline(config, pipeline.source, check=False)
    findings = [
        finding
        for finding in config_checks.findings("advice", config, pipeline.source, config_facts(meant))
        if with_schedule or not (finding.field or "").startswith("train_config.optimizer")
    ]
    raise_first_error(findings)
    for finding in findings:
        if finding.severity == "warning":
            print(f"warning: {finding}", file=sys.stderr, flush=True)
