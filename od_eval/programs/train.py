"""Trains a detector of the TensorFlow Object Detection API from its pipeline.config.

    python scripts/model_main_tf2.py --pipeline_config_path=pipeline.config --model_dir=runs/first

Checkpoints, the config as run and the TensorBoard run train/ go to --model_dir. The same command goes on where an
earlier one stopped. Flags of the Object Detection API's own model_main_tf2.py keep their names and meaning.
"""

from __future__ import annotations

import sys

from absl import flags

from od_eval.errors import ODEvalError

flags.DEFINE_string("pipeline_config_path", None, "The pipeline.config.", required=True)
flags.DEFINE_string("model_dir", None, "Where checkpoints and TensorBoard runs are written.", required=True)
flags.DEFINE_integer("num_train_steps", None, "The step to stop after; default: train_config.num_steps.", lower_bound=1)
flags.DEFINE_string("config_override", None, "Text proto (TrainEvalPipelineConfig) merged into the config.")
flags.DEFINE_multi_string(
    "set", [], "Sets one field of the config, e.g. --set train_config.batch_size=4. May be given several times."
)
flags.DEFINE_integer("checkpoint_every_n", 1000, "Steps between checkpoints; the last step is always saved.", 1)
flags.DEFINE_integer("checkpoint_max_to_keep", 7, "How many of the newest checkpoints stay.", 1)
flags.DEFINE_integer("log_every_n", 10, "Steps between points of the curves.", 1)
flags.DEFINE_integer("steps_per_execution", 1, "Training steps in one call into TensorFlow.", 1)
flags.DEFINE_integer("seed", None, "Seed of initial weights, shuffling and augmentation.")
flags.DEFINE_bool("record_summaries", True, "Whether to write images of training batches to TensorBoard.")
flags.DEFINE_integer("num_workers", 1, "Over 1: MultiWorkerMirroredStrategy over the workers in TF_CONFIG.", 1)
flags.DEFINE_bool("use_tpu", False, "Whether to train on a Cloud TPU.")
flags.DEFINE_string("tpu_name", None, "The name of the Cloud TPU.")
flags.DEFINE_string("checkpoint_dir", None, "Evaluates the checkpoints in this folder instead of training.")
flags.DEFINE_integer("eval_timeout", 3600, "Seconds to wait for a checkpoint to evaluate.", 0)
flags.DEFINE_bool("eval_on_train_data", False, "Evaluates training data as well.")
flags.DEFINE_integer("sample_1_of_n_eval_examples", None, "Evaluates one of so many evaluation examples.", 1)
flags.DEFINE_integer(
    "sample_1_of_n_eval_on_train_examples", 5, "Evaluates one of so many training examples, with eval_on_train_data.", 1
)

FLAGS = flags.FLAGS


def main() -> int:
    """Trains as the flags say; returns the exit status."""
    if FLAGS.checkpoint_dir:
        raise ODEvalError(
            "--checkpoint_dir asks for evaluation, which this version of od_eval cannot do yet; leave it out to train."
        )
    if FLAGS.eval_on_train_data:
        message = "warning: --eval_on_train_data has no effect: this version of od_eval does not evaluate yet."
        print(message, file=sys.stderr)
    print("Loading TensorFlow …", flush=True)
    from od_eval import training

    if FLAGS.use_tpu:
        strategy = training.tpu_strategy(FLAGS.tpu_name)
    elif FLAGS.num_workers > 1:
        strategy = training.multi_worker_strategy(FLAGS.num_workers)
    else:
        strategy = None
    try:
        training.train(
            FLAGS.pipeline_config_path,
            FLAGS.model_dir,
            overrides=[*([FLAGS.config_override] if FLAGS.config_override else []), *FLAGS.set],
            num_train_steps=FLAGS.num_train_steps,
            checkpoint_every_n=FLAGS.checkpoint_every_n,
            checkpoint_max_to_keep=FLAGS.checkpoint_max_to_keep,
            log_every_n=FLAGS.log_every_n,
            steps_per_execution=FLAGS.steps_per_execution,
            record_summaries=FLAGS.record_summaries,
            seed=FLAGS.seed,
            strategy=strategy,
        )
    except training.Interrupted as interrupted:
        return interrupted.exit_status
    return 0
