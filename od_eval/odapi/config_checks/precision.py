"""Advice on the precision that a training computes in."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
from object_detection.protos import pipeline_pb2

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.finding import Finding
from od_eval.odapi.config_checks import runs_at


@runs_at("advice")
def bfloat16_on_cpus(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """bfloat16 is only used where something computes in it: a convolution on a CPU took ten times as long."""
    field = "train_config.use_bfloat16"
    has_accelerator = any(tf.config.list_physical_devices(kind) for kind in ("GPU", "TPU"))
    if config.train_config.use_bfloat16 and not has_accelerator:
        yield Finding(
            "bfloat16_on_cpu",
            "warning",
            source,
            f"{field} is true, and this machine has no GPU or TPU",
            "set it to false, unless the training is to run elsewhere",
            cause="which most CPUs compute several times slower than float32",
            field=field,
            sureness="likely",
            settings=(f"{field}=false",),
        )
