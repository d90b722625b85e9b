"""A detector with the weights of a checkpoint, to detect or to be exported; not to be trained on."""

from __future__ import annotations

import tensorflow as tf

from od_eval.odapi.checkpoints import check_fits
from od_eval.odapi.detector import Detector
from od_eval.odapi.pipeline import Pipeline


def restored_detector(pipeline: Pipeline, checkpoint: str) -> Detector:
    """Builds a detector and restores its weights, and their moving averages if `eval_config.use_moving_averages`.

    Args:
      pipeline: the config.
      checkpoint: the path of one that exists (`checkpoints.existing_checkpoint`).

    Returns:
      The detector, whose averages are its weights within `evaluation_weights()`.

    Raises:
      ODEvalError: the checkpoint is damaged, or belongs to another model.
    """
    detector = Detector(pipeline)
    remedy = "Choose a checkpoint of this config, or the config of this checkpoint."
    check_fits({"model": detector.model}, checkpoint, remedy)
    if not pipeline.config.eval_config.use_moving_averages:
        tf.train.Checkpoint(model=detector.model).restore(checkpoint).expect_partial()
        return detector
    detector.compile()
    remedy = "For the weights without averages, --set eval_config.use_moving_averages=false, or do so in the config."
    check_fits({"optimizer": detector.optimizer}, checkpoint, remedy)
    detector.checkpoint().restore(checkpoint).expect_partial()
    return detector
