"""Compares the scores of a trained model between its evaluation images and those from where it is to be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from od_eval.data.images import ImageUnusable, read_image
from od_eval.errors import ODEvalError
from od_eval.findings.finding import Finding
from od_eval.findings.score_shift import different_scores
from od_eval.findings.survey import Progress, Survey, reported
from od_eval.runs import best, metrics_files
from od_eval.tensorboard import tags

if TYPE_CHECKING:
    from od_eval.odapi.pipeline import Pipeline

# Of each set: a medium difference between so many images each is significant (see `differences.MEDIUM`), and a small
# model takes about a minute for them.
MOST_IMAGES = 200
# Of a model without an evaluation, whose operating point would tell.
_CONFIDENCE = 0.5


def checkpoint_of(model_dir: str) -> str:
    """The best checkpoint of a training if there is one, otherwise the newest.

    Raises:
      ODEvalError: there is none, or none can be read.
    """
    from od_eval.odapi.checkpoints import existing_checkpoint

    directory = best.directory_in(model_dir)
    kept = best.read_best(directory)
    path = os.path.join(directory, kept["checkpoint"]) if kept else model_dir
    return existing_checkpoint(path, "model_dir", "pass the model_dir of a training, with its checkpoints")


def score_findings(
    pipeline: Pipeline, model_dir: str, checkpoint: str, evaluation: Survey, deployment: Survey, progress: Progress
) -> list[Finding]:
    """What differs in the scores of a model; or a warning that it could not be compared.

    Args:
      pipeline: the config of the model; its first `eval_input_reader` has the evaluation images.
      model_dir: the folder of its training, whose newest evaluation tells the confidence that is used.
      checkpoint: from `checkpoint_of`.
      evaluation, deployment: the surveys of both, which say how many images there are, and where.
      progress: called with the number of images so far, and of all.
    """
    from od_eval.odapi import image_scores

    known = _evenly(len(evaluation.images))
    paths = deployment.images["id"].iloc[_evenly(len(deployment.images))].tolist()
    total = len(known) + len(paths)
    confidence = _confidence(model_dir)
    try:
        detector = image_scores.trained_detector(pipeline, checkpoint)
        images = image_scores.sampled_images(pipeline.config.eval_input_reader[0], known)
        of_known = image_scores.image_scores(detector, reported(images, progress, total), confidence)
        images = reported(_encoded(paths), lambda done, total: progress(len(known) + done, total), total)
        of_new = image_scores.image_scores(detector, images, confidence)
    except ODEvalError as error:
        return [not_compared(checkpoint, deployment, str(error).rstrip("."))]
    return list(different_scores(evaluation.name, of_known, deployment.name, of_new, checkpoint, confidence))


def not_compared(checkpoint: str, deployment: Survey, reason: str) -> Finding:
    """The finding that scores were not compared, and why: a clause."""
    symptom = f"the scores of '{checkpoint}' were not compared: {reason}"
    return Finding("scores_not_compared", "warning", deployment.name, symptom, "")


def _evenly(number: int) -> list[int]:
    """Rows of a table of this length, `MOST_IMAGES` at most."""
    return np.unique(np.linspace(0, number - 1, min(number, MOST_IMAGES)).round().astype(int)).tolist()


def _encoded(paths: list[str]) -> Iterator[bytes]:
    """Image files as a conversion would write them into records."""
    for path in paths:
        try:
            yield read_image(path, None).encoded
        except ImageUnusable:
            continue


def _confidence(model_dir: str) -> float:
    """The operating point of the newest evaluation that has one."""
    for result in reversed(metrics_files.read_all(os.path.join(model_dir, tags.EVAL))):
        if result.operating_point:
            return float(result.operating_point["confidence"])
    return _CONFIDENCE
