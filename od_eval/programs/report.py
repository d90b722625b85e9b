"""Writes evaluations into one HTML file, to look at the errors behind the metrics and to share them.

    od-eval report runs/a
    od-eval report runs/a runs/b --output=comparison.html
    od-eval report instances_val.json detections.json

Give folders with evaluations, each a model_dir, a run in it, or a folder of several; or two JSON files in COCO's
formats, ground truth and detections of any detector, for which there are no pictures; detections may also be a table,
.parquet, .arrow, .feather, a folder or pattern of these. (For pictures, evaluate the files with `od-eval evaluate
--images=…`, and report its model_dir.)

The file has the page "Detections" of TensorBoard with the newest evaluation of each run. It opens from disk, without a
server or a network, loads nothing, and can be printed, sent, or kept by a CI job.
"""

from __future__ import annotations

import sys

from absl import flags

from od_eval.html_report import MAX_IMAGES, report
from od_eval.text import printable

FLAGS = flags.FLAGS
MOST_ARGUMENTS = 100

flags.DEFINE_string("output", "report.html", "The file to write. It is replaced if there is one.")
flags.DEFINE_integer(
    "max_images",
    MAX_IMAGES,
    "The number of images whose pictures are in the file, at most: up to a third with suspected labels, and those in"
    " which most is wrong. Each takes 10 kB.",
    lower_bound=0,
)

flags.register_validator("output", bool, message="it must be the name of a file")


def main(*sources: str) -> int:
    """Writes the report of what the arguments name; returns the exit status."""
    if not sources:
        print(
            "od-eval report: give a folder with evaluations, or two files, ground truth and detections\n"
            "Its flags: od-eval report --help",
            file=sys.stderr,
        )
        return 2
    written = report(sources, FLAGS.output, max_images=FLAGS.max_images)
    print(
        printable(
            f"{written.path}: {', '.join(written.runs)}; pictures of {written.num_pictures} of {written.num_images}"
            f" images; {written.num_bytes / 1e6:.1f} MB. Open it in a browser."
        )
    )
    return 0
