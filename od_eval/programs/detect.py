"""Detects objects in images and videos with a trained model, and writes pictures, COCO JSON and CSV.

    od-eval detect --model=runs/raccoon/exported --output=found photos/
    od-eval detect --model=model.tflite --output=found a.jpg b.jpg clip.mp4

The model is the folder of an export, a SavedModel, a .tflite file, a checkpoint, or a model_dir, whose best checkpoint
is taken. Give images, folders, in which and below which images are looked for, and videos, which OpenCV reads
(pip install opencv-python-headless). A new folder gets

    pictures/          images with their detections, under their own names; of a video, a video
    detections.csv     a row for each detection: file, frame, category, score and box in pixels
    detections.json    the same in COCO's results format
    annotations.json   images, categories and detections as a dataset in COCO format, which annotation tools open

Both JSON files have the same ids, so that od-eval evaluate takes annotations.json as ground truth for detections.json
once somebody has corrected it. Frame 12 of clip.mp4, counted from 0, is there image clip.mp4/12.

In Python: od_eval.load_model("model.tflite").detect(images).
"""

from __future__ import annotations

import sys

from absl import flags

from od_eval.deployed.detecting import USUAL_CONFIDENCE, DetectedObjects, detect_in_files
from od_eval.deployed.input_files import find_input_files
from od_eval.deployed.loading import load_model
from od_eval.deployed.model import DeployedModel
from od_eval.text import named, printable, some, table

FLAGS = flags.FLAGS
MOST_ARGUMENTS = 1_000_000  # of a shell's *

flags.DEFINE_string("model", None, "The model: a folder, a .tflite file or a checkpoint.", required=True)
flags.DEFINE_string("output", None, "The folder to write to. There must be none.", required=True)
flags.DEFINE_float(
    "confidence",
    None,
    "The least score of a detection; default: that of its category in model.json, or in a checkpoint's evaluation, or"
    " else 0.5.",
    lower_bound=0,
    upper_bound=1,
)
flags.DEFINE_bool("pictures", True, "Whether pictures are drawn.")
flags.DEFINE_integer("every_n_frames", 1, "Of a video, every how many frames one is looked at.", lower_bound=1)
flags.DEFINE_integer("num_threads", None, "The number of threads; default: the runtime's.", lower_bound=1)
flags.DEFINE_string("label_map", None, "The label map that the model was trained with, if it is not beside it.")

flags.register_validator("output", bool, message="it must be the name of a folder")


def main(*paths: str) -> int:
    """Detects objects in what the arguments name; returns the exit status."""
    if not paths:
        print(
            "od-eval detect: give images, folders of images, or videos\nIts flags: od-eval detect --help",
            file=sys.stderr,
        )
        return 2
    inputs = find_input_files(paths)
    print("Loading the model …", flush=True)
    model = load_model(FLAGS.model, num_threads=FLAGS.num_threads, label_map=FLAGS.label_map)
    for guess in model.guessed:
        print(printable(f"note: nothing tells it, so it was taken that {guess}."), file=sys.stderr)
    print(printable(f"Detecting objects in {len(inputs)} files with {model.path}; {_confidence(model)} …"), flush=True)
    detected = detect_in_files(
        model,
        inputs,
        FLAGS.output,
        confidence=FLAGS.confidence,
        pictures=FLAGS.pictures,
        every_n_frames=FLAGS.every_n_frames,
    )
    print(_category_table(detected))
    for number, what, first in detected.left_out.cases():
        print(printable(f"warning: left out: {number} {what}; the first: {first}."), file=sys.stderr)
    pictures = "pictures/, " if FLAGS.pictures else ""
    print(printable(f"Files: {FLAGS.output}/: {pictures}detections.csv, detections.json, annotations.json"))
    return 0


def _confidence(model: DeployedModel) -> str:
    if FLAGS.confidence is not None:
        return f"scores of {FLAGS.confidence:g} or more"
    if not model.confidence:
        return f"scores of {USUAL_CONFIDENCE:g} or more, as nothing tells the model's confidence"
    least, most = min(model.confidence.values()), max(model.confidence.values())
    told = f"scores of {least:.2g} or more" if least == most else f"scores of {least:.2g} to {most:.2g} or more"
    missing = [name for id, name in model.categories.items() if id not in model.confidence]
    others = f"; of {USUAL_CONFIDENCE:g} for {some(missing, 3)}, for which it tells none" if missing else ""
    return f"{told}, as {model.confidence_source} tells for each category{others}"


def _category_table(detected: DetectedObjects) -> str:
    rows = [["category", "detections", "images"]]
    rows += [
        [named(detected.categories[id]), str(detections), str(images)]
        for id, (detections, images) in detected.per_category.items()
    ]
    total = sum(detections for detections, _ in detected.per_category.values())
    return "\n".join(
        [
            *([table(rows), ""] if detected.per_category else []),
            f"{total} detections in {detected.num_images} images",
        ]
    )
