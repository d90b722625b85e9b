"""Exports a trained detector in several formats, evaluates each, and shows them side by side.

    od-eval benchmark --model_dir=runs/raccoon

writes runs/raccoon/benchmark with benchmark.csv, benchmark.json, benchmark.md, and the exported models; and prints the
table: AP with its 95% interval, the difference to the checkpoint, AP50, size, latency and memory. The checkpoint is the
best of the training, or the newest if there is no best one; the images are those of the config's first
eval_input_reader. A format that cannot be made is a row with the reason.

The models for TensorFlow Lite give as many detections as the checkpoint and suppress overlapping ones in the same way,
which od-eval export does not do by default: --max_detections and --ssd_use_regular_nms change it.
"""

from __future__ import annotations

import os

from absl import flags

from od_eval.deployed.benchmark import DEFAULT_FORMATS, FORMATS, benchmark, table_rows, what_it_rests_on
from od_eval.text import printable, table

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "The model_dir of the training run.", required=True)
flags.DEFINE_list("formats", list(DEFAULT_FORMATS), f"Some of {', '.join(FORMATS)}.")
flags.DEFINE_integer("check_images", 500, "The most images of the evaluation set, spread evenly over it.", 1)
flags.DEFINE_string("output", None, "The folder to write to, which must not exist; default: benchmark/ in model_dir.")
flags.DEFINE_integer("num_threads", None, "The number of threads of a model; default: the runtime's.", 1)
flags.DEFINE_integer("max_detections", 100, "Detections per image of the models for TensorFlow Lite.", 1)
flags.DEFINE_bool("ssd_use_regular_nms", True, "Whether non-maximum suppression in them is per class.")
flags.DEFINE_integer("num_calibration_images", 100, "For int8: images of the training set.", 1)

flags.register_validator(
    "formats",
    lambda names: bool(names) and len(set(names)) == len(names) and not set(names) - FORMATS.keys(),
    message=f"it must be some of {', '.join(FORMATS)}, each once",
)
for _flag in ("model_dir", "output"):
    flags.register_validator(_flag, lambda path: path != "", message="it must be the name of a folder")


def main() -> int:
    """Runs the benchmark given by the flags; returns the exit status."""
    output = FLAGS.output or os.path.join(FLAGS.model_dir, "benchmark")
    rows = benchmark(
        FLAGS.model_dir,
        output,
        FLAGS.formats,
        num_images=FLAGS.check_images,
        num_threads=FLAGS.num_threads,
        max_detections=FLAGS.max_detections,
        use_regular_nms=FLAGS.ssd_use_regular_nms,
        num_calibration_images=FLAGS.num_calibration_images,
    )
    print("", table(table_rows(rows), left=(0, 10)), "", what_it_rests_on(rows), sep="\n")
    print(printable(f"Files: {os.path.join(output, 'benchmark.csv')}, benchmark.json, benchmark.md and the models"))
    return 0 if any(not row.problem for row in rows[1:]) else 1
