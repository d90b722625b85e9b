"""Finds what is wrong with a pipeline.config and its data before time is spent on training.

    od-eval check --pipeline_config_path=pipeline.config
    od-eval check --annotations=instances.json --images=photos
    od-eval check --pipeline_config_path=pipeline.config --build --log_dir=runs/first
    od-eval check --pipeline_config_path=pipeline.config --deployment_images=camera --model_dir=runs/first

Reads the config, the label maps and all records, and prints what was found, the most important first: what cannot work
("error"), what is probably not as intended ("warning"), what is worth knowing ("note"); each with what to do about it
and, where that is a field of the config, what to pass to --set. Then come statistics of the datasets, side by side.
With --annotations, it is annotations that are checked, before od-eval convert. With --deployment_images, images from
where the model is to be used are compared with the training data, and with --model_dir a trained model's scores in them
with those in evaluation images.

With --log_dir, findings, statistics and plots are in TensorBoard's run check, under Text and Images.

Exit status: 0 no errors; 1 errors, or with --strict warnings; 2 wrong flags.
"""

from __future__ import annotations

import json
import sys

from absl import flags

from od_eval.data.reading import FORMATS

FLAGS = flags.FLAGS

flags.DEFINE_string("pipeline_config_path", None, "The pipeline.config; default: that of the model in --zoo.")
flags.DEFINE_string("zoo", None, "A model of the TF2 model zoo, as for od-eval train.")
flags.DEFINE_string("config_override", None, "Text proto (TrainEvalPipelineConfig) merged into the config.")
flags.DEFINE_multi_string(
    "set", [], "Sets one field of the config, e.g. --set train_config.batch_size=4. May be given several times."
)
flags.DEFINE_string(
    "annotations", None, "Instead of a config: COCO JSON file, folder of Pascal VOC XML files, or CSV file."
)
flags.DEFINE_string(
    "images", None, "Folder of the image files. By default VOC's JPEGImages, else the folder of the annotations."
)
flags.DEFINE_enum("format", None, FORMATS, "Format of the annotations. By default inferred from --annotations.")
flags.DEFINE_string(
    "label_map", None, "Label map (.pbtxt) whose ids are used for --annotations, as od-eval convert would use it."
)
flags.DEFINE_string(
    "deployment_images", None, "Folder or pattern of images from where the model is to be used, to compare with."
)
flags.DEFINE_string(
    "model_dir",
    None,
    "Folder of a training with this config: the scores of its best checkpoint, or of its newest, in"
    " --deployment_images are compared with those in evaluation images, up to 200 of each.",
)
flags.DEFINE_integer("max_examples", None, "Reads the first so many images of each dataset; default: all.", 1)
flags.DEFINE_bool("build", False, "Whether to build the model as well, and to take one step of training.")
flags.DEFINE_bool("json", False, "Whether to print everything as JSON instead of text.")
flags.DEFINE_string(
    "log_dir",
    None,
    "Writes findings, statistics and plots to TensorBoard's run check in this folder.",
    allow_override=True,  # absl.logging has a flag of this name, for files of messages, which programs do not write
)
flags.DEFINE_bool("strict", False, "Exit with status 1 when there are warnings, too.")


@flags.multi_flags_validator(
    ["pipeline_config_path", "zoo", "annotations"],
    message="pass --pipeline_config_path, --zoo or --annotations to say what to check",
)
def _says_what_to_check(values: dict[str, str | None]) -> bool:
    return any(values.values())


def main() -> int:
    """Checks what the flags name; returns the exit status."""
    if not FLAGS.annotations:
        print("Loading TensorFlow …", file=sys.stderr, flush=True)
    from od_eval.health.checking import check
    from od_eval.tensorboard.command import how_to_look_at_check

    report = check(
        FLAGS.pipeline_config_path,
        zoo=FLAGS.zoo,
        overrides=[*([FLAGS.config_override] if FLAGS.config_override else []), *FLAGS.set],
        annotations=FLAGS.annotations,
        images=FLAGS.images,
        annotation_format=FLAGS.format,
        label_map=FLAGS.label_map,
        deployment_images=FLAGS.deployment_images,
        model_dir=FLAGS.model_dir,
        max_examples=FLAGS.max_examples,
        build=FLAGS.build,
        log_dir=FLAGS.log_dir,
    )
    if FLAGS.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        print(report.to_text())
        if FLAGS.log_dir:
            print(f"\n{how_to_look_at_check(FLAGS.log_dir)}")
    return 1 if report.has_errors(FLAGS.strict) else 0
