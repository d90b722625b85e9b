"""Describes a run in TensorBoard: its summary, config, label map and hyperparameters."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.callbacks.evaluation_set import EvaluationSet
from od_eval.findings.finding import Finding
from od_eval.label_map import label_map_text
from od_eval.odapi import records
from od_eval.odapi.hyperparameters import hyperparameters
from od_eval.odapi.overrides import field_value, short_names
from od_eval.odapi.pipeline import Pipeline
from od_eval.runs import best
from od_eval.tensorboard import hparams, tags, writers
from od_eval.text import some

_PACKAGES = ("od_eval", "tensorflow", "tf-keras", "tf-models-research-object-detection", "numpy")


def describe_training(pipeline: Pipeline, model_dir: str, step: int) -> None:
    """Writes the effective config and the label map to the training run, which continues from `step`."""
    train_run = os.path.join(model_dir, tags.TRAIN)
    writers.resume(train_run, step)
    writers.write_text(train_run, tags.PIPELINE_CONFIG, pipeline.text(), step)
    writers.write_text(train_run, tags.LABEL_MAP, label_map_text(pipeline.evaluation.label_map), step)


def summarize_training(
    pipeline: Pipeline,
    model_dir: str,
    step: int,
    last_step: int,
    warnings: Sequence[Finding],
    overruled: Mapping[str, str | float] = MappingProxyType({}),
) -> None:
    """Writes a summary of the run at this step: data and what is lost of it, classes, model, best step, versions.

    Args:
      pipeline, model_dir, step, last_step: of the run.
      warnings: what is lost of the data.
      overruled: hyperparameters that are not those of the config.
    """
    chosen = {**hyperparameters(pipeline.config), **overruled}
    categories = pipeline.evaluation.categories
    kept = best.read_best(best.directory_in(model_dir))
    readers = {"train": pipeline.config.train_input_reader}
    for index, reader in enumerate(pipeline.config.eval_input_reader):
        readers[f"eval {reader.name or index or ''}".rstrip()] = reader
    lines = {
        **{f"{name} data": _data(reader) for name, reader in readers.items()},
        **{f"data warning {number}": str(finding) for number, finding in enumerate(warnings, start=1)},
        "classes": f"{len(categories)}: {some(categories.values())}",
        "model": ", ".join(f"{name} {value}" for name, value in chosen.items()),
        "step": f"{step} of {last_step}",
        "best": f"step {kept['step']}: {kept['metric']} {kept['value']:.4g}" if kept else "not known yet",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)]
        ),
        "command": shlex.join(sys.orig_argv),
    }
    text = "\n".join(f"{name:16}{line}" for name, line in lines.items())
    writers.write_text(os.path.join(model_dir, tags.TRAIN), tags.SUMMARY, text, step)


def _data(reader: Any) -> str:
    num_images = records.count(reader)
    number = "an unknown number of images" if num_images is None else f"{num_images} images"
    return f"{number} in {some(reader.tf_record_input_reader.input_path, 3)}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a folder that is not installed
        return "?"


def enter_hyperparameters(
    pipeline: Pipeline,
    evaluation: DetectionEvaluation | EvaluationSet,
    fields: Sequence[str] = (),
    overruled: Mapping[str, str | float] = MappingProxyType({}),
) -> None:
    """Adds the run of an evaluation, which has its own options, to the table of the HParams tab.

    Args:
      pipeline, evaluation: of the run.
      fields: fields of the config that are columns, too.
      overruled: hyperparameters that are not those of the config.
    """
    masks = evaluation.options is not None and evaluation.options.masks
    values = {**hyperparameters(pipeline.config), **overruled}
    names = short_names(fields, taken=values)
    searched = {name: field_value(pipeline.config, field) for field, name in names.items()}
    hparams.write(evaluation.run_dir, values, masks, searched)
