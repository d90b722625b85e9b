"""Describes a run in TensorBoard before training starts: config, label map and hyperparameters."""

from __future__ import annotations

import os

from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.callbacks.evaluation_set import EvaluationSet
from od_eval.odapi.hyperparameters import hyperparameters
from od_eval.odapi.label_map import label_map_text
from od_eval.odapi.pipeline import Pipeline
from od_eval.tensorboard import hparams, tags, writers


def describe_training(pipeline: Pipeline, model_dir: str, step: int) -> None:
    """Writes the effective config and the label map to the training run, which continues from `step`."""
    train_run = os.path.join(model_dir, tags.TRAIN)
    writers.resume(train_run, step)
    writers.write_text(train_run, tags.PIPELINE_CONFIG, pipeline.text(), step)
    writers.write_text(train_run, tags.LABEL_MAP, label_map_text(pipeline.evaluation.label_map), step)


def enter_hyperparameters(pipeline: Pipeline, evaluation: DetectionEvaluation | EvaluationSet) -> None:
    """Adds the run of an evaluation, which has its own options, to the table of the HParams tab."""
    masks = evaluation.options is not None and evaluation.options.masks
    hparams.write(evaluation.run_dir, hyperparameters(pipeline.config), masks)
