"""One step of training, to see whether a config can be trained at all."""

from __future__ import annotations

import tensorflow as tf

from od_eval.errors import ODEvalError, describe
from od_eval.odapi.checkpoints import load_fine_tune_checkpoint
from od_eval.odapi.detector import Detector
from od_eval.odapi.explained import explained_op_error
from od_eval.odapi.pipeline import Pipeline


def take_one_step(pipeline: Pipeline) -> None:
    """Builds the model of a config, loads its `fine_tune_checkpoint`, and takes one step of training; writes nothing.

    Raises:
      ODEvalError: something of it fails, whatever it is.
    """
    train_config = pipeline.config.train_config
    doing = "the model cannot be built"
    try:
        detector = Detector(pipeline)
        detector.compile()
        doing = "fine_tune_checkpoint cannot be loaded"
        load_fine_tune_checkpoint(detector, train_config)
        doing = "the first step of training fails"
        detector.fit(pipeline.train_dataset(), epochs=1, steps_per_epoch=1, verbose=0)
    except ODEvalError:
        raise
    except tf.errors.OpError as error:
        readers = [pipeline.config.train_input_reader]
        raise explained_op_error(error, readers, "train_config.batch_size", train_config.batch_size) from error
    except Exception as error:
        raise ODEvalError(
            f"{pipeline.source}: {doing}, with {describe(error)}; report it with this sentence, if the config is as it"
            " should be."
        ) from error
