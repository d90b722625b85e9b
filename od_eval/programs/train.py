"""Trains a detector of the TensorFlow Object Detection API from its pipeline.config, and evaluates it during training.

    python scripts/model_main_tf2.py --pipeline_config_path=pipeline.config --model_dir=runs/first

Checkpoints, the best one, the effective config, the TensorBoard runs train/ and eval/ and files with all metrics go to
--model_dir. --zoo=NAME starts from a model of the TF2 model zoo, with its config if none is given. The same command
continues where an earlier one stopped. With --checkpoint_dir it evaluates the checkpoints that another process writes
there. Flags of the Object Detection API's own model_main_tf2.py keep their names and meanings.

--experiment=NAME trains an experiment of TensorFlow Model Garden instead, with its own trainer and its own flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from absl import flags

from od_eval.programs import analysis_flags

flags.adopt_module_key_flags(analysis_flags)  # so that --help shows them

_MOST = 2**31 - 1  # steps, images, checkpoints

flags.DEFINE_string("pipeline_config_path", None, "The pipeline.config; default: that of the model in --zoo.")
flags.DEFINE_string(
    "zoo",
    None,
    "Starts from this model of the TF2 model zoo, e.g. ssd_mobilenet_v2_fpnlite_320x320: downloads it once, sets"
    " fine_tune_checkpoint and, from the label map, num_classes.",
)
flags.DEFINE_string("experiment", None, "An experiment of TensorFlow Model Garden, e.g. retinanet_resnetfpn_coco.")
flags.DEFINE_multi_string("config_file", [], "With experiment, a YAML file merged into its config; may be repeated.")
flags.DEFINE_string("params_override", "", "With experiment, YAML, or a.b=1,a.c=2, merged into its config at last.")
flags.register_multi_flags_validator(
    ["pipeline_config_path", "zoo", "experiment"],
    lambda values: any(values.values()),
    message="pass --pipeline_config_path, or --zoo to train with the config of a model of the zoo, or --experiment",
)
flags.DEFINE_string("model_dir", None, "Where checkpoints and TensorBoard runs are written.", required=True)
flags.DEFINE_integer("num_train_steps", None, "The step to stop after; default: train_config.num_steps.", 1, _MOST)
flags.DEFINE_string("config_override", None, "Text proto (TrainEvalPipelineConfig) merged into the config.")
flags.DEFINE_multi_string(
    "set", [], "Sets one field of the config, e.g. --set train_config.batch_size=4. May be given several times."
)
flags.DEFINE_integer("checkpoint_every_n", 1000, "Steps between checkpoints; the last step is always saved.", 1, _MOST)
flags.DEFINE_integer("checkpoint_max_to_keep", 7, "The number of newest checkpoints to keep.", 1, _MOST)
flags.DEFINE_integer("log_every_n", 10, "Steps between points of the curves.", 1, _MOST)
flags.DEFINE_integer(
    "steps_per_execution",
    None,
    "Training steps in one call into TensorFlow; curves, checkpoints and Ctrl-C wait for its end; default: up to 10"
    " on GPUs and TPUs, 1 on CPUs.",
    1,
    100_000,
)
flags.DEFINE_integer("seed", None, "Seed of everything random; on a CPU, curves are bit-identical.", 0, 2**32 - 1)
flags.DEFINE_string(
    "learning_rate",
    None,
    "A learning rate that the config has no words for: cyclical:low=0.001,high=0.01,period=2000, one_cycle:high=0.08,"
    " reduce_on_plateau:metric=val_AP,factor=0.1,patience=5, or range_test:low=1e-6,high=1, which suggests a rate."
    " All values have defaults.",
)
flags.DEFINE_bool("strict", False, "Whether data that would be left out, which a warning counts, are an error.")
flags.DEFINE_multi_string(
    "hparam",
    [],
    "A field of the config that is a column of TensorBoard's HParams tab, beside the main ones, e.g."
    " --hparam train_config.batch_size. May be given several times.",
)
flags.DEFINE_bool("record_summaries", True, "Whether to write images of training batches to TensorBoard.")
flags.DEFINE_integer("num_workers", 1, "Above 1: MultiWorkerMirroredStrategy over the workers in TF_CONFIG.", 1, _MOST)
flags.DEFINE_integer(
    "cluster_timeout", 3600, "With num_workers, seconds to wait until all workers have started.", 0, 10**6
)
flags.DEFINE_bool("use_tpu", False, "Whether to train on a Cloud TPU.")
flags.DEFINE_string("tpu_name", None, "The name of the Cloud TPU.")
flags.DEFINE_integer(
    "eval_every_n",
    None,
    "Steps between evaluations; default: checkpoint_every_n. 0 trains without evaluating.",
    0,
    _MOST,
)
flags.DEFINE_integer("eval_batch_size", None, "Batch size of evaluations; default: eval_config.batch_size.", 1, _MOST)
flags.DEFINE_integer("sample_1_of_n_eval_examples", None, "Evaluates one in n evaluation images.", 1, _MOST)
flags.DEFINE_bool("eval_on_train_data", False, "Whether to evaluate a sample of the training images, too.")
flags.DEFINE_integer(
    "sample_1_of_n_eval_on_train_examples", 5, "With eval_on_train_data, evaluates one in n training images.", 1, _MOST
)
flags.DEFINE_bool("save_detections", False, "Whether to write ground truth and detections in COCO format.")
flags.DEFINE_string("best_metric", None, "What decides which checkpoint is the best, e.g. val_AP50; default: the AP.")
flags.DEFINE_bool(
    "best_needs_certainty",
    False,
    "Whether the best checkpoint and early stopping need an AP that has improved beyond chance (95%).",
)
flags.DEFINE_string("early_stopping_metric", None, "Stops training when this metric stops improving, e.g. val_AP.")
flags.DEFINE_integer(
    "early_stopping_patience", 5, "The number of evaluations without improvement before that.", 0, _MOST
)
flags.DEFINE_float("early_stopping_min_delta", 0.0, "A smaller change is not an improvement.", 0.0)
flags.DEFINE_string("checkpoint_dir", None, "Evaluates checkpoints in this folder, or this one; does not train.")
flags.DEFINE_integer("eval_timeout", 3600, "With checkpoint_dir, seconds to wait for the next checkpoint.", 0, 10**9)

FLAGS = flags.FLAGS

# Flags of a pipeline.config -> the field that says the same in the config of an experiment, if there is one.
_FIELDS = {
    "num_train_steps": "trainer.train_steps",
    "checkpoint_every_n": "trainer.checkpoint_interval",
    "checkpoint_max_to_keep": "trainer.max_to_keep",
    "log_every_n": "trainer.steps_per_loop",
    "steps_per_execution": "trainer.steps_per_loop",
    "eval_every_n": "trainer.validation_interval",
    "eval_batch_size": "task.validation_data.global_batch_size",
    "use_tpu": "runtime.tpu",
    "tpu_name": "runtime.tpu",
    **dict.fromkeys(("pipeline_config_path", "zoo", "config_override", "set", "learning_rate", "seed", "strict")),
    **dict.fromkeys(("hparam", "record_summaries", "num_workers", "cluster_timeout", "checkpoint_dir", "eval_timeout")),
    **dict.fromkeys(("sample_1_of_n_eval_examples", "eval_on_train_data", "sample_1_of_n_eval_on_train_examples")),
}


def _is_of_one_kind(values: Mapping[str, Any]) -> bool:
    """Whether an experiment is given, or another flag with another value than its default, but not both."""
    return values["experiment"] is None or all(
        value == FLAGS[name].default for name, value in values.items() if name != "experiment"
    )


flags.register_multi_flags_validator(
    ["experiment", "config_file", "params_override"],
    lambda values: bool(values["experiment"]) or not (values["config_file"] or values["params_override"]),
    message="--config_file and --params_override are for an --experiment; of a pipeline.config, --set sets a field",
)
for _name, _field in _FIELDS.items():
    flags.register_multi_flags_validator(
        ["experiment", _name],
        _is_of_one_kind,
        message=f"--{_name} is for a pipeline.config, and this is an experiment; "
        + (f"say --params_override={_field}=…" if _field else "leave it out"),
    )


def main() -> int:
    """Runs the training or evaluation given by the flags; returns the exit status."""
    print("Loading TensorFlow …", flush=True)
    if FLAGS.experiment:
        return _train_experiment()
    from od_eval.callbacks.stop_signals import Interrupted
    from od_eval.training.checkpoint_evaluation import evaluate_checkpoints
    from od_eval.training.evaluation_plan import EvaluationPlan
    from od_eval.training.train import train

    overrides = [*([FLAGS.config_override] if FLAGS.config_override else []), *FLAGS.set]
    plan = EvaluationPlan(
        batch_size=FLAGS.eval_batch_size,
        sample_1_of_n_examples=FLAGS.sample_1_of_n_eval_examples,
        on_train_data=FLAGS.eval_on_train_data,
        sample_1_of_n_train_examples=FLAGS.sample_1_of_n_eval_on_train_examples,
        save_detections=FLAGS.save_detections,
        analysis=analysis_flags.analysis_options(),
        best_metric=FLAGS.best_metric,
        best_needs_certainty=FLAGS.best_needs_certainty,
        early_stopping_metric=FLAGS.early_stopping_metric,
        early_stopping_patience=FLAGS.early_stopping_patience,
        early_stopping_min_delta=FLAGS.early_stopping_min_delta,
    )
    if FLAGS.checkpoint_dir:
        evaluate_checkpoints(
            FLAGS.pipeline_config_path,
            FLAGS.model_dir,
            FLAGS.checkpoint_dir,
            zoo=FLAGS.zoo,
            overrides=overrides,
            num_train_steps=FLAGS.num_train_steps,
            evaluation=plan,
            timeout=FLAGS.eval_timeout,
            strict=FLAGS.strict,
        )
        return 0
    try:
        train(
            FLAGS.pipeline_config_path,
            FLAGS.model_dir,
            zoo=FLAGS.zoo,
            overrides=overrides,
            num_train_steps=FLAGS.num_train_steps,
            learning_rate=FLAGS.learning_rate,
            checkpoint_every_n=FLAGS.checkpoint_every_n,
            checkpoint_max_to_keep=FLAGS.checkpoint_max_to_keep,
            eval_every_n=FLAGS.eval_every_n,
            evaluation=plan,
            log_every_n=FLAGS.log_every_n,
            steps_per_execution=FLAGS.steps_per_execution,
            record_summaries=FLAGS.record_summaries,
            seed=FLAGS.seed,
            strict=FLAGS.strict,
            hparam=FLAGS.hparam,
            strategy=_strategy(),
        )
    except Interrupted as interrupted:
        return interrupted.exit_status
    return 0


def _train_experiment() -> int:
    """Runs the training of an experiment of Model Garden; returns the exit status."""
    from od_eval.callbacks.stop_signals import Interrupted
    from od_eval.training.model_garden import train_experiment

    try:
        train_experiment(
            FLAGS.experiment,
            FLAGS.model_dir,
            config_file=FLAGS.config_file,
            params_override=FLAGS.params_override,
            analysis=analysis_flags.analysis_options(),
            save_detections=FLAGS.save_detections,
            best_metric=FLAGS.best_metric,
            best_needs_certainty=FLAGS.best_needs_certainty,
            early_stopping_metric=FLAGS.early_stopping_metric,
            early_stopping_patience=FLAGS.early_stopping_patience,
            early_stopping_min_delta=FLAGS.early_stopping_min_delta,
        )
    except Interrupted as interrupted:
        return interrupted.exit_status
    return 0


def _strategy() -> Any:
    """The strategy given by the flags; None: all GPUs of this machine, or the CPU."""
    from od_eval.training import strategies

    if FLAGS.use_tpu:
        return strategies.tpu_strategy(FLAGS.tpu_name)
    if FLAGS.num_workers > 1:
        return strategies.multi_worker_strategy(FLAGS.num_workers, FLAGS.cluster_timeout)
    return None
