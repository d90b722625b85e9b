"""Exports a trained detector, as a SavedModel or for TensorFlow Lite.

    od-eval export --model_dir=runs/raccoon

writes runs/raccoon/exported from the best checkpoint of the training, or from the newest where there is no best one:
saved_model/, checkpoint/, pipeline.config and label_map.pbtxt. With --format=tflite it writes model.tflite. It runs the
Object Detection API's own exporters; flags of its exporter_main_v2.py and export_tflite_graph_tf2.py keep their names
and meaning.
"""

from __future__ import annotations

import os

from absl import flags

flags.DEFINE_string("model_dir", None, "The model_dir of the training; says where the following are by default.")
flags.DEFINE_string("pipeline_config_path", None, "The pipeline.config; default: the one in model_dir.")
flags.DEFINE_string(
    "trained_checkpoint_dir",
    None,
    "A folder of checkpoints, of which the newest is exported, or one checkpoint; default: best/ in model_dir, and"
    " model_dir where there is none.",
)
flags.DEFINE_string("output_directory", None, "Where the model is written; default: exported/ in model_dir.")
flags.DEFINE_enum("format", "saved_model", ["saved_model", "tflite"], "What to export.")
flags.DEFINE_string("input_type", "image_tensor", "What the SavedModel takes; see exporter_main_v2.py.")
flags.DEFINE_integer("max_detections", 10, "With --format=tflite, detections in an image.", 1)
flags.DEFINE_bool("ssd_use_regular_nms", False, "With --format=tflite, suppresses non-maxima class by class.")
flags.DEFINE_string("config_override", None, "Text proto (TrainEvalPipelineConfig) merged into the config.")
flags.DEFINE_multi_string("set", [], "Sets one field of the config, e.g. --set model.ssd.num_classes=4.")

flags.register_multi_flags_validator(
    ["model_dir", "pipeline_config_path", "trained_checkpoint_dir", "output_directory"],
    lambda values: values.pop("model_dir") or all(values.values()),
    message="pass --model_dir, or all of --pipeline_config_path, --trained_checkpoint_dir and --output_directory",
)

FLAGS = flags.FLAGS


def main() -> int:
    """Exports as the flags say; returns the exit status."""
    model_dir = FLAGS.model_dir or ""
    config = FLAGS.pipeline_config_path or os.path.join(model_dir, "pipeline.config")
    output_directory = FLAGS.output_directory or os.path.join(model_dir, "exported")
    checkpoint = FLAGS.trained_checkpoint_dir
    if checkpoint is None:
        best = os.path.join(model_dir, "best")
        checkpoint = best if os.path.exists(best) else model_dir
    print("Loading TensorFlow …", flush=True)
    from od_eval.odapi import export

    overrides = [*([FLAGS.config_override] if FLAGS.config_override else []), *FLAGS.set]
    if FLAGS.format == "tflite":
        exported = export.export_tflite(
            config,
            checkpoint,
            output_directory,
            overrides=overrides,
            max_detections=FLAGS.max_detections,
            use_regular_nms=FLAGS.ssd_use_regular_nms,
        )
    else:
        exported = export.export(config, checkpoint, output_directory, overrides=overrides, input_type=FLAGS.input_type)
    print(f"Exported {exported} to {output_directory}")
    return 0
