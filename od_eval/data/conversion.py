"""Converts an annotated dataset to TFRecords: reads, splits, encodes and writes in parallel, and reports."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from od_eval import files
from od_eval.data.annotations import Annotations, Remark
from od_eval.data.encoding import Encoding, plan_encoding, with_keypoints
from od_eval.data.examples import LOST_ALL_OBJECTS
from od_eval.data.reading import read_annotations
from od_eval.data.shards import Shard, WrittenShard, check_num_workers, default_num_workers, write_shards
from od_eval.data.splits import split_images
from od_eval.data.tfrecord import (
    LABEL_MAP,
    choose_num_shards,
    dataset_folder,
    shard_name,
    shard_pattern,
    shard_slices,
)
from od_eval.errors import ODEvalError
from od_eval.label_map import Category, label_map_text, read_label_map
from od_eval.text import named


@dataclasses.dataclass
class SplitSummary:
    """A summary of the files of one split.

    Attributes:
      pattern: the name of its files: "train-?????-of-00004".
      num_images: the number of records.
      num_empty: the number of records without objects.
      objects: class name -> number of objects.
    """

    pattern: str
    num_images: int = 0
    num_empty: int = 0
    objects: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
      splits: "train", "validation" or both -> its summary.
      categories: the label map.
      label_map_path: the path of the label map: the given one, on any file system, or the one that was written.
      with_masks: whether the records have masks.
      keypoint_labels: the keypoints in the records.
      remarks: everything that was left out or changed.
      num_unannotated: the number of image files in the folder without annotation.
      report_path: the JSON file with all of this.
    """

    splits: Mapping[str, SplitSummary]
    categories: Sequence[Category]
    label_map_path: str
    with_masks: bool
    keypoint_labels: Sequence[str]
    remarks: Sequence[Remark]
    num_unannotated: int
    report_path: str

    @property
    def left_out(self) -> list[Remark]:
        """The remarks about data missing in the records."""
        return [remark for remark in self.remarks if remark.left_out]


def convert_dataset(
    annotations_path: files.Path,
    output_dir: files.Path,
    *,
    images_dir: files.Path | None = None,
    annotation_format: str | None = None,
    label_map_path: files.Path | None = None,
    validation: float | files.Path = 0.1,
    seed: int = 0,
    num_shards: int | None = None,
    include_masks: bool = True,
    keep_emptied_images: bool = False,
    num_workers: int | None = None,
    ray: str | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Converts an annotated dataset to TFRecords, a label map and a report.

    The same input and seed give the same files, byte for byte, for any number of processes and machines. Inputs and
    outputs may be on any file system that TensorFlow supports. An image that is left out leaves its file one record
    shorter: which images are in which file does not depend on what becomes of them.

    Args:
      annotations_path: COCO's JSON file, the folder of VOC's XML files, or a CSV file.
      output_dir: gets `train-00000-of-00001`, …, `validation-00000-of-00001`, …, `label_map.pbtxt` and
        `conversion_report.json`, all of them or, if anything goes wrong, none.
      images_dir: the folder of the image files; by default VOC's `JPEGImages` if there is one, else the folder of the
        annotations.
      annotation_format: "coco", "voc" or "csv"; by default inferred from `annotations_path`.
      label_map_path: an existing label map, whose ids are used; by default one is written.
      validation: about this fraction of the images is for validation, chosen by a hash of their names, so that an image
        stays on its side when others are added; or a text file that lists them, one per line, with or without folder
        and extension.
      seed: decides which images are for validation, and the order of the training images.
      num_shards: the number of files for training; by default one per 500 images.
      include_masks: whether to write masks if there are any.
      keep_emptied_images: whether an image whose objects all have to be left out, because of faults in them, is kept as
        one without objects; by default it is left out, too.
      num_workers: the number of processes; by default the number of processors, or only this process for few images.
      ray: the Ray cluster on which images are converted, in place of processes of this machine: "auto", "local" or an
        address, as for `batch_jobs.run`. Its machines see images and records under the same paths.
      overwrite: whether existing files of a dataset in `output_dir` are replaced.

    Returns:
      What was written and what was left out.

    Raises:
      ODEvalError: a number is out of range, the annotations or the label map cannot be read, no image, no object or no
        object of a class of the label map can be converted, or the files cannot be written.
    """
    annotations_path, output_dir = os.fspath(annotations_path), os.fspath(output_dir)
    if num_workers is not None:
        check_num_workers(num_workers)
        if ray is not None:
            raise ODEvalError(
                f"num_workers={num_workers} is of this machine, and ray={ray} of a cluster; set one of them."
            )
    annotations, images = read_annotations(annotations_path, images_dir, annotation_format)
    remarks = annotations.remarks
    if not annotations.images:
        raise ODEvalError(_nothing_left(annotations_path, remarks))

    if label_map_path:
        used_label_map = os.fspath(label_map_path)
        categories = read_label_map(used_label_map)
    else:
        used_label_map = os.path.join(output_dir, LABEL_MAP)
        categories = with_keypoints(annotations.categories, annotations.keypoint_names)
    if not categories:
        raise ODEvalError(f"'{annotations_path}' contains no class: there is nothing to learn from these annotations.")
    encoding, encoding_remarks = plan_encoding(
        annotations, categories, used_label_map, include_masks, keep_emptied_images
    )
    train, held_out, split_remarks = split_images(annotations.images, validation, seed, images)
    remarks += encoding_remarks + split_remarks

    parts = {name: part for name, part in (("train", train), ("validation", held_out)) if part}
    # Separate reports, in case training and validation images are converted to one folder by two commands.
    report_name = "conversion_report.json" if len(parts) == 2 else f"conversion_report_{next(iter(parts))}.json"
    new_files = [report_name] if label_map_path else [report_name, LABEL_MAP]
    num_of_shards = {
        name: choose_num_shards(len(part), num_shards if name == "train" else None) for name, part in parts.items()
    }
    if num_workers is None:
        num_workers = default_num_workers(len(annotations.images))
    with dataset_folder(output_dir, list(parts), new_files, overwrite) as folder:
        splits = {name: SplitSummary(shard_pattern(name, number)) for name, number in num_of_shards.items()}
        shards = [
            (name, Shard(f"{folder}/{shard_name(name, shard, number)}", parts[name][part], images.folder, encoding))
            for name, number in num_of_shards.items()
            for shard, part in enumerate(shard_slices(len(parts[name]), number))
        ]
        remarks += _write_and_count(shards, splits, ray, num_workers)
        _raise_if_objects_are_lost(annotations_path, annotations, encoding, splits)
        if not any(split.num_images for split in splits.values()):
            raise ODEvalError(_nothing_left(annotations_path, remarks))
        conversion = Conversion(
            splits,
            categories,
            used_label_map,
            encoding.with_masks,
            encoding.keypoint_labels,
            remarks,
            len(images) - len({image.filename for image in annotations.images}),
            os.path.join(output_dir, report_name),
        )
        if not label_map_path:
            files.write_whole(f"{folder}/{LABEL_MAP}", label_map_text(categories))
        files.write_whole(f"{folder}/{report_name}", _report_text(conversion))
    return conversion


def _write_and_count(
    shards: Sequence[tuple[str, Shard]], splits: Mapping[str, SplitSummary], ray: str | None, num_workers: int
) -> list[Remark]:
    """Writes the shards of each split, and sums up their counts; returns the remarks, in the order of the shards."""
    written: dict[int, WrittenShard] = {}
    with (
        contextlib.closing(write_shards([shard for _, shard in shards], ray, num_workers)) as as_completed,
        tqdm(total=sum(len(shard.images) for _, shard in shards), unit="image", disable=None) as progress,
    ):
        for index, one in as_completed:
            written[index] = one
            progress.update(len(shards[index][1].images))
    remarks = []
    for index, (name, _) in enumerate(shards):  # not as they were written, so that reports are the same, too
        split, one = splits[name], written[index]
        split.num_images += one.num_images
        split.num_empty += one.num_empty
        for class_name, number in one.objects.items():
            split.objects[class_name] = split.objects.get(class_name, 0) + number
        remarks += one.remarks
    return remarks


def _raise_if_objects_are_lost(
    path: str, annotations: Annotations, encoding: Encoding, splits: Mapping[str, SplitSummary]
) -> None:
    """Raises an error if of all objects, or of all objects of a class to be learned, none was converted."""
    converted: Counter[str] = Counter()
    for split in splits.values():
        converted.update(split.objects)
    annotated = annotations.lost + Counter(one.class_name for image in annotations.images for one in image.objects)
    left_out = [remark for remark in annotations.remarks if remark.left_out in ("image", "object")]
    left_out = [remark for remark in left_out if remark.reason != LOST_ALL_OBJECTS]  # which is no reason
    num_objects = annotated.total() + sum(image.num_unreadable for image in annotations.images)
    if not any(split.num_images for split in splits.values()) and {one.left_out for one in left_out} == {"image"}:
        return  # it is the images that cannot be converted
    if num_objects and not converted:
        what, remedy = f"none of the {num_objects} objects", "correct the annotations"
    else:
        lost = [name for name in annotated if name in encoding.class_ids and not converted[name]]
        if not lost:
            return
        what = f"none of the {annotated[lost[0]]} objects of class '{named(lost[0])}'"
        remedy = "correct the annotations, or set label_map to one without the class to leave it out"
    reason, times = Counter(remark.reason for remark in left_out).most_common(1)[0]
    first = next(remark for remark in left_out if remark.reason == reason)
    raise ODEvalError(
        f"{what} of '{path}' can be converted; most often: {reason} ({times} times), first in {first.where}:"
        f" {named(first.detail)}; {remedy}."
    )


def _nothing_left(path: str, remarks: Sequence[Remark]) -> str:
    """The message for a dataset without any image that could be converted."""
    left_out = [remark for remark in remarks if remark.left_out == "image"]
    if not left_out:
        return f"there is no image in '{path}'."
    reason, times = Counter(remark.reason for remark in left_out).most_common(1)[0]
    first = next(remark for remark in left_out if remark.reason == reason)
    return (
        f"none of the images of '{path}' can be converted: {reason} ({times} times), first in {first.where}:"
        f" {named(first.detail)}."
    )


def _report_text(conversion: Conversion) -> str:
    report: dict[str, Any] = {
        "splits": {name: dataclasses.asdict(split) for name, split in conversion.splits.items()},
        "images_without_annotation": conversion.num_unannotated,
        "left_out": [dataclasses.asdict(remark) for remark in conversion.left_out],
        "changed": [dataclasses.asdict(remark) for remark in conversion.remarks if not remark.left_out],
    }
    return json.dumps(report, indent=1) + "\n"
