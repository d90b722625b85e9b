"""Trains a small detector on drawn shapes, to see what there is: images, curves, and a detector that detects.

    od-eval quickstart

Draws 2,000 images for training and 200 for evaluation into quickstart/shapes, and trains on them into quickstart/run,
with an evaluation every 150 steps: under four minutes on two CPU cores. Run again, it finds what is there and does
nothing twice. The same by hand: od-eval shapes, then od-eval train with the pipeline.config in quickstart/run.

Exit status: 0 done; 1 something is wrong, said in a sentence; 2 wrong flags; 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import os
from pathlib import Path

from absl import flags

from od_eval import files

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", "quickstart", "Folder for the images and the run.")
flags.DEFINE_integer("num_train", 2000, "Number of images for training.", lower_bound=1)
flags.DEFINE_integer("num_validation", 200, "Number of images for evaluation.", lower_bound=1)
flags.DEFINE_integer("num_train_steps", None, "The step to stop after; default: 1,500.", lower_bound=1)

_CONFIG = Path(__file__).with_name("quickstart.config")
_STEPS_BETWEEN_EVALUATIONS = 150
# Small images, as the detector sees no more of them, with few shapes, which it learns to tell apart sooner.
_IMAGE_SIZE, _MAX_SHAPES = 160, 3


def main() -> int:
    """Draws the images and trains; returns the exit status."""
    print("Loading TensorFlow …", flush=True)
    from od_eval.callbacks.stop_signals import Interrupted
    from od_eval.data.shapes import write_shapes
    from od_eval.data.tfrecord import LABEL_MAP
    from od_eval.training.train import train

    shapes = os.path.join(FLAGS.output_dir, "shapes")
    with files.errors_as_sentences(f"output_dir '{FLAGS.output_dir}' cannot be read"):
        is_drawn = files.exists(os.path.join(shapes, LABEL_MAP))  # of a dataset, it is written last
    if not is_drawn:
        print(f"Drawing {FLAGS.num_train} + {FLAGS.num_validation} images into {shapes} …", flush=True)
        write_shapes(
            shapes,
            num_train=FLAGS.num_train,
            num_validation=FLAGS.num_validation,
            image_size=_IMAGE_SIZE,
            max_shapes=_MAX_SHAPES,
        )
    overrides = []
    for reader, split in (("train_input_reader", "train"), ("eval_input_reader", "validation")):
        overrides.append(f"{reader}.label_map_path={os.path.join(shapes, LABEL_MAP)}")
        overrides.append(f"{reader}.tf_record_input_reader.input_path={os.path.join(shapes, split)}-?????-of-?????")
    try:
        train(
            os.fspath(_CONFIG),
            os.path.join(FLAGS.output_dir, "run"),
            overrides=overrides,
            num_train_steps=FLAGS.num_train_steps,
            checkpoint_every_n=_STEPS_BETWEEN_EVALUATIONS,
            steps_per_execution=10,
        )
    except Interrupted as interrupted:
        return interrupted.exit_status
    return 0
