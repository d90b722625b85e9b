"""Draws a dataset of circles, squares, stars and triangles with boxes and masks, to try out training.

    od-eval shapes --output_dir=shapes --num_train=200 --num_validation=50

Writes train-?????-of-?????, validation-?????-of-????? and label_map.pbtxt, all or none of them, and prints the lines
for the pipeline.config. The same flags produce the same files, byte for byte.

With --segmentation it writes images and label images for semantic segmentation instead: train/images/000000.png,
train/labels/000000.png, …, the same below validation, and labels.json with the names of the classes.
"""

from __future__ import annotations

import os

from absl import flags

from od_eval.data.pipeline_lines import pipeline_lines
from od_eval.data.shapes import CATEGORIES, SEGMENTATION_CATEGORIES, write_segmentation_shapes, write_shapes
from od_eval.data.tfrecord import LABEL_MAP
from od_eval.text import printable

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", None, "Folder for the records and the label map.", required=True)
flags.DEFINE_integer("num_train", 200, "Number of images for training.", lower_bound=0)
flags.DEFINE_integer("num_validation", 50, "Number of images for validation.", lower_bound=0)
flags.DEFINE_integer("image_size", 320, "Width and height of the images in pixels.", lower_bound=32, upper_bound=4096)
flags.DEFINE_integer("max_shapes", 5, "The maximum number of shapes per image.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "A different seed gives different images.", lower_bound=0)
flags.DEFINE_bool("segmentation", False, "Write PNG images and label images, for semantic segmentation.")
flags.DEFINE_bool("overwrite", False, "Replace the files of an earlier dataset in --output_dir.")


def main() -> int:
    """Draws the dataset given by the flags; returns the exit status."""
    if not FLAGS.segmentation:
        print("Loading TensorFlow …", flush=True)
    written = (write_segmentation_shapes if FLAGS.segmentation else write_shapes)(
        FLAGS.output_dir,
        num_train=FLAGS.num_train,
        num_validation=FLAGS.num_validation,
        image_size=FLAGS.image_size,
        max_shapes=FLAGS.max_shapes,
        seed=FLAGS.seed,
        overwrite=FLAGS.overwrite,
    )
    for split, number in (("train", FLAGS.num_train), ("validation", FLAGS.num_validation)):
        if split in written:
            print(f"{split}: {number} images in {printable(os.path.join(FLAGS.output_dir, written[split]))}")
    if FLAGS.segmentation:
        print("classes: " + ", ".join(f"{id} {name}" for id, name in SEGMENTATION_CATEGORIES.items()))
        return 0
    print("classes: " + ", ".join(f"{category.id} {category.name}" for category in CATEGORIES))
    print("\nfor the pipeline.config:\n")
    label_map = os.path.join(FLAGS.output_dir, LABEL_MAP)
    print(pipeline_lines(FLAGS.output_dir, written, label_map, len(CATEGORIES), with_masks=True, num_keypoints=0))
    return 0
