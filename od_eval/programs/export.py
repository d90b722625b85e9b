"""Exports a trained detector, as a SavedModel or for TensorFlow Lite.

    od-eval export --model_dir=runs/raccoon

writes runs/raccoon/exported from the best checkpoint of the training run, or from the newest if there is no best one:
saved_model/, checkpoint/, pipeline.config, label_map.pbtxt and model.json, which tells programs what goes in, what
comes out, and the confidences that the evaluation of the checkpoint chose. With --format=tflite it writes model.tflite,
with TensorFlow Lite's metadata in it, and --quantize makes it smaller, if need be by images of the training set. It
runs the Object Detection API's own exporters; flags shared with exporter_main_v2.py and export_tflite_graph_tf2.py have
the same names and meanings. Side inputs and keypoints need no flags: a model that has them is exported with them.

Then it is checked, if the files of the first eval_input_reader are there: the exported model against the checkpoint, on
images of the evaluation set. If it loses more than --max_ap_drop, the exit status is 1, and it says why that may be and
what to try; the exported model stays. --check=false leaves that out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.findings.shown import as_text as as_text_of_findings
from od_eval.runs.comparison import as_text
from od_eval.tensorboard import tags
from od_eval.text import printable

if TYPE_CHECKING:
    from od_eval.deployed.export_check import ExportCheck

INPUT_TYPES = (
    "image_tensor",
    "encoded_image_string_tensor",
    "tf_example",
    "float_image_tensor",
    "image_and_boxes_tensor",
)
QUANTIZATIONS = ("none", "dynamic", "float16", "int8", "full_int8")
_CALIBRATED = ("int8", "full_int8")

flags.DEFINE_string("model_dir", None, "The model_dir of the training run; gives the defaults of the following.")
flags.DEFINE_string("pipeline_config_path", None, "The pipeline.config; default: the one in model_dir.")
flags.DEFINE_string(
    "trained_checkpoint_dir",
    None,
    "A folder of checkpoints, whose newest is exported, or one checkpoint; default: the best of the training run, or"
    " the newest if there is no best one.",
)
flags.DEFINE_string("output_directory", None, "The folder to write the model to; default: exported/ in model_dir.")
flags.DEFINE_enum("format", "saved_model", ["saved_model", "tflite"], "What to export.")
flags.DEFINE_enum("input_type", None, INPUT_TYPES, "The input of a SavedModel; default: image_tensor, uint8 images.")
flags.DEFINE_integer("max_detections", None, "With --format=tflite, detections per image; default: 10.", 1)
flags.DEFINE_bool("ssd_use_regular_nms", None, "With --format=tflite, applies non-maximum suppression per class.")
flags.DEFINE_enum(
    "quantize",
    None,
    QUANTIZATIONS,
    "With --format=tflite: none (float32, the default); dynamic (int8 weights); float16 (weights); int8 (weights and"
    " activations, calibrated with images of the training set; float32 input); full_int8 (the same, uint8 input).",
)
flags.DEFINE_integer(
    "num_calibration_images",
    None,
    "With --quantize=int8 or full_int8: images of the training set, spread over its categories; default: 100.",
    1,
)
flags.DEFINE_bool("check", None, "Compares the result with the checkpoint; default: if the evaluation set is there.")
flags.DEFINE_integer("check_images", 500, "The most images of the evaluation set, spread evenly over it.", 1)
flags.DEFINE_float("max_ap_drop", 0.02, "How much AP the exported model may lose.", 0, 1)
flags.DEFINE_string("config_override", None, "Text proto (TrainEvalPipelineConfig) merged into the config.")
flags.DEFINE_multi_string("set", [], "Sets one field of the config, e.g. --set model.ssd.num_classes=4.")
flags.register_multi_flags_validator(
    ["model_dir", "pipeline_config_path", "trained_checkpoint_dir", "output_directory"],
    lambda values: values.pop("model_dir") or all(values.values()),
    message="pass --model_dir, or all of --pipeline_config_path, --trained_checkpoint_dir and --output_directory",
)
flags.register_validator(
    "output_directory", lambda path: path != "", message="it must be the name of a folder; . is the working directory"
)
flags.register_multi_flags_validator(
    ["format", "input_type"],
    lambda values: values["format"] == "saved_model" or values["input_type"] is None,
    message="--input_type is for --format=saved_model",
)
flags.register_multi_flags_validator(
    ["format", "max_detections", "ssd_use_regular_nms", "quantize"],
    lambda values: values.pop("format") == "tflite" or all(value is None for value in values.values()),
    message="--max_detections, --quantize and --ssd_use_regular_nms are for --format=tflite",
)
flags.register_multi_flags_validator(
    ["quantize", "num_calibration_images"],
    lambda values: values["quantize"] in _CALIBRATED or values["num_calibration_images"] is None,
    message="--num_calibration_images is for --quantize=int8 and --quantize=full_int8",
)

FLAGS = flags.FLAGS


def main() -> int:
    """Runs the export given by the flags; returns the exit status."""
    model_dir = FLAGS.model_dir or ""
    config = FLAGS.pipeline_config_path or os.path.join(model_dir, "pipeline.config")
    output_directory = FLAGS.output_directory or os.path.join(model_dir, "exported")
    print("Loading TensorFlow …", flush=True)
    from od_eval.deployed.export_check import check_export, why_unchecked
    from od_eval.odapi import export
    from od_eval.odapi.checkpoints import existing_checkpoint
    from od_eval.runs.model_dir import best_or_newest

    with files.errors_as_sentences("model_dir cannot be read"):
        if not FLAGS.pipeline_config_path and files.is_folder(model_dir) and not files.exists(config):
            raise ODEvalError(f"'{model_dir}' has no pipeline.config; pass --pipeline_config_path.")
        checkpoint = FLAGS.trained_checkpoint_dir or best_or_newest(model_dir)
    checkpoint = existing_checkpoint(checkpoint, "checkpoint", "correct the path")
    overrides = [*([FLAGS.config_override] if FLAGS.config_override else []), *FLAGS.set]
    input_type = FLAGS.input_type or "image_tensor"
    unchecked = "" if FLAGS.check is False else why_unchecked(config, overrides, input_type)
    if FLAGS.check and unchecked:
        raise ODEvalError(f"the exported model cannot be checked, because {unchecked}; export it with check=false.")
    operating_point = _operating_point(model_dir, checkpoint)
    if FLAGS.format == "tflite":
        exported = export.export_tflite(
            config,
            checkpoint,
            output_directory,
            overrides=overrides,
            max_detections=FLAGS.max_detections or 10,
            use_regular_nms=bool(FLAGS.ssd_use_regular_nms),
            quantization=FLAGS.quantize or "none",
            num_calibration_images=FLAGS.num_calibration_images or 100,
            operating_point=operating_point,
        )
    else:
        exported = export.export(
            config,
            checkpoint,
            output_directory,
            overrides=overrides,
            input_type=input_type,
            operating_point=operating_point,
        )
    print(printable(f"Exported {exported} to {output_directory}"), flush=True)
    if unchecked:
        print(printable(f"It was not compared with the checkpoint, because {unchecked}."))
    if unchecked or FLAGS.check is False:
        return 0
    checked = check_export(
        output_directory,
        config,
        exported,
        overrides=overrides,
        num_images=FLAGS.check_images,
        max_ap_drop=FLAGS.max_ap_drop,
    )
    _print_check(checked)
    return 0 if checked.is_ok else 1


def _print_check(checked: ExportCheck) -> None:
    for what, of in (("boxes", checked.comparison), ("masks", checked.of_masks)):
        if of is not None:
            about = f"{what}, {of.num_images} images, {of.num_groundtruth} objects"
            print(f"\nA: the checkpoint; B: the exported model; {about}\n", as_text(of), sep="\n", flush=True)
    if checked.findings:
        print(as_text_of_findings(checked.findings), file=sys.stderr)


def _operating_point(model_dir: str, checkpoint: str) -> Mapping[str, Any] | None:
    """The operating point of the evaluation of a checkpoint in model_dir; None, and it is said, if there is none."""
    from od_eval.odapi.checkpoints import step_of
    from od_eval.runs import best, metrics_files

    step = step_of(checkpoint)
    folders = [files.absolute(folder) for folder in (model_dir, best.directory_in(model_dir)) if model_dir]
    if step is None or files.absolute(os.path.dirname(checkpoint)) not in folders:
        print("No confidences are exported, because the checkpoint is not one of model_dir.", flush=True)
        return None
    evaluation = metrics_files.read_step(os.path.join(model_dir, tags.EVAL), step)
    if evaluation is None or not evaluation.operating_point:
        print(f"No confidences are exported, because run '{tags.EVAL}' has none of step {step}.", flush=True)
        return None
    return evaluation.operating_point
