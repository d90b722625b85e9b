"""Checks that the initial checkpoint exists, is for TF2, and is outside the output folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import tensorflow as tf
from object_detection.protos import pipeline_pb2, train_pb2

from od_eval import files
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.finding import Finding
from od_eval.odapi.checkpoints import find_checkpoints, how_it_is_missing
from od_eval.odapi.config_checks import runs_at
from od_eval.odapi.placeholder import PLACEHOLDER, placeholder
from od_eval.text import named, printable


@runs_at("load")
def load_all_detection_checkpoint_vars(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """The config does not use TF1's field for the part of a checkpoint to load."""
    if config.train_config.load_all_detection_checkpoint_vars:
        field = "train_config.load_all_detection_checkpoint_vars"
        yield Finding(
            "load_all_detection_checkpoint_vars",
            "error",
            source,
            f"{field} is true",
            f"remove it, or pass --set {field}=false (in TF2 train_config.fine_tune_checkpoint_type says what is"
            " loaded: classification, detection or full)",
            cause="which the Object Detection API only has in TF1",
            field=field,
        )


@runs_at("load")
def checkpoint_version(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """The config does not declare the checkpoint as one of TF1."""
    train_config = config.train_config
    # V1 is the default: if the field is not set, the checkpoint itself is checked.
    says_v1 = (
        train_config.HasField("fine_tune_checkpoint_version")
        and train_config.fine_tune_checkpoint_version == train_pb2.CheckpointVersion.V1
    )
    if says_v1 and train_config.fine_tune_checkpoint:
        yield Finding(
            "fine_tune_checkpoint_of_tf1",
            "error",
            source,
            "train_config.fine_tune_checkpoint_version is V1",
            "name a checkpoint of TF2 and V2, or pass --set train_config.fine_tune_checkpoint= to start without one",
            cause="and checkpoints of TF1 cannot be loaded in TF2 (fine_tune_checkpoint is"
            f" '{train_config.fine_tune_checkpoint}')",
            field="train_config.fine_tune_checkpoint_version",
        )


@runs_at("load")
def variable_patterns(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """The patterns of the variables to train are regular expressions."""
    for name in ("freeze_variables", "update_trainable_variables"):
        for index, pattern in enumerate(getattr(config.train_config, name)):
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                field = f"train_config.{name}[{index}]"
                yield Finding(
                    "invalid_pattern_of_variables",
                    "error",
                    source,
                    f"{field} '{named(pattern)}' is no regular expression ({printable(str(error), 200)})",
                    "correct it; \\( stands for a bracket itself",
                    field=field,
                )


@runs_at("fine_tuning")
def checkpoint_exists(train_config: train_pb2.TrainConfig) -> Iterator[Finding]:
    """The checkpoint exists."""
    path, field = train_config.fine_tune_checkpoint, "train_config.fine_tune_checkpoint"
    unset = list(placeholder("", field, path))
    yield from unset
    if path and not unset and not find_checkpoints(path):
        yield Finding(
            "missing_fine_tune_checkpoint",
            "error",
            "",
            f"{field} {how_it_is_missing(path)}",
            "correct the path, or set it to '' to train from scratch",
            field=field,
        )


@runs_at("advice")
def checkpoint_of_its_type(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """The checkpoint is of the kind that its type says. That it exists is checked at `fine_tuning`."""
    path, said = facts.fine_tune_checkpoint, facts.fine_tune_checkpoint_type
    found = find_checkpoints(path) if path and PLACEHOLDER not in path else []
    kind = _kind_of(found[0]) if found else None
    if kind is None or (kind == "classification") == (said == "classification"):
        return
    holds = {
        "classification": "only a backbone, of a classification",
        "detection": "a whole detector",
    }[kind]
    yield Finding(
        "fine_tune_checkpoint_of_another_type",
        "error",
        source,
        f"train_config.fine_tune_checkpoint '{named(path)}' has {holds}, and fine_tune_checkpoint_type is"
        f" '{named(said)}'",
        f"set train_config.fine_tune_checkpoint_type to '{kind}'",
        cause="so that it cannot be loaded",
        field="train_config.fine_tune_checkpoint_type",
        evidence={"holds": kind, "fine_tune_checkpoint_type": said},
        settings=facts.setting(fine_tune_checkpoint_type=kind),
    )


def _kind_of(checkpoint: str) -> str | None:
    """`detection` or `classification`, by what the Object Detection API asks of a checkpoint; None if unclear."""
    try:
        names = [name for name, _ in tf.train.list_variables(checkpoint)]
    except (tf.errors.OpError, ValueError, RuntimeError):
        return None  # a damaged one is told of when it is loaded
    roots = {name.partition("/")[0] for name in names}
    if ("model" in roots) == ("feature_extractor" in roots):
        return None
    return "detection" if "model" in roots else "classification"


@runs_at("model_dir")
def checkpoint_outside_model_dir(train_config: train_pb2.TrainConfig, model_dir: str) -> Iterator[Finding]:
    """The checkpoint is not in `model_dir`, where it would be mistaken for a checkpoint of the run."""
    path = train_config.fine_tune_checkpoint
    if path and _same_folder(os.path.dirname(path), model_dir):
        yield Finding(
            "fine_tune_checkpoint_in_model_dir",
            "error",
            "",
            f"train_config.fine_tune_checkpoint '{path}' is in model_dir",
            "choose another model_dir",
            cause="where the checkpoints of this run are written",
            field="train_config.fine_tune_checkpoint",
        )


def _same_folder(folder: str, other: str) -> bool:
    return files.absolute(folder).rstrip("/") == files.absolute(other).rstrip("/")
