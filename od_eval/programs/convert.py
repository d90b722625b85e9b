"""Converts annotated images to TFRecords for the Object Detection API, and writes a label map.

    od-eval convert --annotations=instances.json --images=photos --output_dir=records
    od-eval convert --annotations=VOC2012 --validation_list=VOC2012/ImageSets/Main/val.txt --output_dir=records
    od-eval convert --annotations=boxes.csv --images=photos --validation_fraction=0.2 --output_dir=records

Reads COCO's JSON (boxes, polygon and RLE masks, crowds, keypoints), a folder of Pascal VOC's XML files, or a CSV file
with the columns filename, class, xmin, ymin, xmax, ymax and, if known, width and height. Writes train-?????-of-?????,
validation-?????-of-?????, label_map.pbtxt and conversion_report.json into --output_dir, all or none of them, and prints
the lines for the pipeline.config.

Whatever cannot be converted is left out, counted here by reason and listed in the report: an image that is missing,
broken or of another shape than annotated, a box without area or outside the image, an unknown class. Whatever can be
corrected is converted and listed too: a box that extends beyond the image is clipped, CMYK becomes RGB, BMP, GIF and
TIFF become PNG, WebP becomes JPEG, an image with an EXIF rotation is rotated.

Inputs and --output_dir may be on any file system that TensorFlow supports (gs://…).

Images are converted in --num_workers processes of this machine, or with --ray on the machines of a Ray cluster: auto is
the one that was begun here by `ray start --head`, local one for this conversion alone, else HOST:PORT. All its machines
have this package (pip install "od_eval[ray]"), and see the images and --output_dir under the same paths. Each file is
one task, which is repeated if its worker or machine is lost. The files are the same, however many write them.

Which images --validation_fraction takes is decided by a hash of their names and --seed: when a dataset grows, each
image stays on its side. So of few images the fraction is a rough one; the counts are printed.

Training and validation images with separate annotation files take two commands: --validation_fraction=0 for the first,
then --validation_fraction=1 and --label_map=OUTPUT_DIR/label_map.pbtxt for the second.

Exit status: 0 converted; 1 nothing converted, or with --strict anything left out; 2 wrong flags.
"""

from __future__ import annotations

import os
import sys
from collections import Counter

from absl import flags

from od_eval.data.conversion import Conversion, convert_dataset
from od_eval.data.pipeline_lines import pipeline_lines
from od_eval.data.reading import FORMATS, told_format
from od_eval.data.tfrecord import shards_in
from od_eval.errors import ODEvalError
from od_eval.text import named, printable, shortened

FLAGS = flags.FLAGS

flags.DEFINE_string("annotations", None, "COCO JSON file, folder of Pascal VOC XML files, or CSV file.", required=True)
flags.DEFINE_string(
    "images", None, "Folder of the image files. By default VOC's JPEGImages, else the folder of the annotations."
)
flags.DEFINE_string("output_dir", None, "Folder for the records, the label map and the report.", required=True)
flags.DEFINE_enum("format", None, FORMATS, "Format of the annotations. By default inferred from --annotations.")
flags.DEFINE_string(
    "label_map",
    None,
    "Label map (.pbtxt) whose ids are used; classes that are not in it are left out. By default one is written: COCO's"
    " own ids if they start at 1 and have few gaps or end by 90, else ids from 1.",
)
flags.DEFINE_float(
    "validation_fraction", 0.1, "About this fraction of the images is for validation.", lower_bound=0.0, upper_bound=1.0
)
flags.DEFINE_string(
    "validation_list", None, "Text file that lists the images for validation, one per line, instead of a fraction."
)
flags.DEFINE_integer("seed", 0, "Decides which images are for validation, and the order of the training images.")
flags.DEFINE_integer("num_shards", None, "Number of files for training. By default one per 500 images.", lower_bound=1)
flags.DEFINE_bool("include_masks", True, "Write masks, if the annotations have any.")
flags.DEFINE_bool(
    "keep_emptied_images",
    False,
    "Keep an image whose objects all have to be left out, as one without objects, instead of leaving it out.",
)
flags.DEFINE_integer(
    "num_workers",
    None,
    "Number of processes. By default one per processor, or a single one for few images.",
    lower_bound=1,
)
flags.DEFINE_string("ray", None, "Convert on a Ray cluster: auto, local, or its address HOST:PORT.")
flags.DEFINE_bool("overwrite", False, "Replace the files of an earlier conversion in --output_dir.")
flags.DEFINE_bool("strict", False, "Exit with status 1 when anything was left out.")


def main() -> int:
    """Runs the conversion given by the flags; returns the exit status."""
    print("Reading annotations and loading TensorFlow …", flush=True)
    if not FLAGS.format and told_format(FLAGS.annotations) is None:
        raise ODEvalError(
            f"the format of '{FLAGS.annotations}' cannot be inferred from its name; pass --format={'|'.join(FORMATS)}."
        )
    conversion = convert_dataset(
        FLAGS.annotations,
        FLAGS.output_dir,
        images_dir=FLAGS.images,
        annotation_format=FLAGS.format,
        label_map_path=FLAGS.label_map,
        validation=FLAGS.validation_list or FLAGS.validation_fraction,
        seed=FLAGS.seed,
        num_shards=FLAGS.num_shards,
        include_masks=FLAGS.include_masks,
        keep_emptied_images=FLAGS.keep_emptied_images,
        num_workers=FLAGS.num_workers,
        ray=FLAGS.ray,
        overwrite=FLAGS.overwrite,
    )
    print(_summary(conversion, FLAGS.output_dir))
    left_out = conversion.left_out
    if left_out and FLAGS.strict:
        path = printable(conversion.report_path)
        print(f"error: {len(left_out)} items were left out, see {path}.", file=sys.stderr)
        return 1
    return 0


def _summary(conversion: Conversion, folder: str) -> str:
    lines = []
    for name, split in conversion.splits.items():
        empty = f", {split.num_empty} of them without objects" if split.num_empty else ""
        num_objects = sum(split.objects.values())
        lines.append(
            f"{name}: {split.num_images} images{empty}, {num_objects} objects in"
            f" {printable(os.path.join(folder, split.pattern))}"
        )
    for name in {"train", "validation"} - set(conversion.splits):
        if shards_in(folder, name):
            where = printable(folder)
            lines.append(f"{name}: the files of an earlier conversion are still in {where}; this one made none.")
    lines += [
        "",
        f"classes ({printable(conversion.label_map_path)}) and their objects in " + " + ".join(conversion.splits) + ":",
    ]
    rows = [
        f"  {category.id:4} {named(category.name)}: "
        + " + ".join(
            str(split.objects.get(category.name, 0) + split.objects.get(category.display_name, 0))
            for split in conversion.splits.values()
        )
        for category in conversion.categories
    ]
    lines += shortened(rows)
    if conversion.num_unannotated:
        lines += ["", f"{conversion.num_unannotated} image files have no annotation and are not in any record."]
    for title, remarks in (
        ("left out:", conversion.left_out),
        ("converted with a change:", [remark for remark in conversion.remarks if not remark.left_out]),
    ):
        if remarks:
            lines += ["", title]
            first = {remark.reason: remark for remark in reversed(remarks)}
            for reason, times in Counter(remark.reason for remark in remarks).most_common():
                example = f"{first[reason].where}: {first[reason].detail}"
                lines.append(f"  {times:5} × {reason}; first {printable(example, 500)}")
    if conversion.remarks:
        lines.append(f"all of them: {printable(conversion.report_path)}")
    config = pipeline_lines(
        folder,
        {name: split.pattern for name, split in conversion.splits.items()},
        conversion.label_map_path,
        max(category.id for category in conversion.categories),
        conversion.with_masks,
        len(conversion.keypoint_labels),
    )
    return "\n".join([*lines, "", "for the pipeline.config:", "", config])
