"""Compares two evaluations of the same images, object by object, or one with what it would be if it were changed.

    od-eval compare runs/a runs/b
    od-eval compare runs/a@1000 runs/a@2000 --output=comparison
    od-eval compare a.json b.json --groundtruth=instances_val.json
    od-eval compare runs/a --what_if=nms=0.5 --what_if=confidence=cat:0.3

A and B are each a model_dir (the newest analysed step of its run eval), RUN@STEP (of a model_dir, or of the folder of
another run in it, as runs/a/eval/night@1000), a JSON file of detections in COCO's results format, or such a table:
.parquet, .arrow, .feather, a folder or pattern of these. Of more than two million detections, some images are compared.

Prints AP, AP50 and F1 of both, over all categories and for each, and whether the differences can be told from chance
(95% intervals, from a bootstrap over images); how many objects B finds and A does not ("fixed"), and the other way
("broke"); which false positives came and went; and the images that changed most. F1 and all that follows is at an IoU
of 0.50 and at the confidence with the highest F1, of each.

Instead of B, changes of A, in the order given: nms=0.5 (a further non-maximum suppression in each category),
merge=vehicle:car,truck (one category in place of several), confidence=0.4 or confidence=cat:0.3 (without detections
below), forgive_suspects (labels that are probably wrong do not count).
"""

from __future__ import annotations

import sys
import textwrap

from absl import flags

from od_eval import text
from od_eval.runs.comparison import RunComparison, as_text, compare

FLAGS = flags.FLAGS
MOST_ARGUMENTS = 2
_WIDTH = 100  # of the terminal

flags.DEFINE_string("groundtruth", None, "COCO JSON file with images, annotations and categories, for detections.")
flags.DEFINE_float("confidence", None, "The score from which detections are used; default: that with the highest F1.")
flags.DEFINE_multi_string("what_if", [], "A change of A, which is then compared with A. May be given several times.")
flags.DEFINE_string(
    "output", None, "Folder for objects.csv, images.csv and categories.csv. By default none is written."
)


def main(*runs: str) -> int:
    """Compares what the arguments name; returns the exit status."""
    if len(runs) + bool(FLAGS.what_if) != 2:
        print("od-eval compare: give A and B, or A and --what_if\nIts flags: od-eval compare --help", file=sys.stderr)
        return 2
    compared = compare(*runs, groundtruth=FLAGS.groundtruth, confidence=FLAGS.confidence, what_if=FLAGS.what_if)
    _print(compared)
    if FLAGS.output:
        print("\nFiles:", *map(text.printable, compared.write(FLAGS.output)), sep="\n  ")
    for warning in compared.warnings:
        print(text.printable(f"warning: {warning}"), file=sys.stderr)
    return 0


def _print(compared: RunComparison) -> None:
    print(text.printable(f"A: {compared.a}"), text.printable(f"B: {compared.b}"), sep="\n")
    for name, of in compared.comparisons.items():
        print(f"\n{name.capitalize()}, {of.num_images} images, {of.num_groundtruth} objects\n")
        print(as_text(of, _WIDTH))
    for note in compared.notes:
        print("", textwrap.fill(text.printable(f"note: {note}"), _WIDTH), sep="\n")
