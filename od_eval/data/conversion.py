"""A whole annotated dataset into TFRecords: reading, splitting, encoding in parallel, writing, and the report."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from od_eval.data.annotations import AnnotatedImage, Annotations, Remark
from od_eval.data.coco import read_coco
from od_eval.data.csv_boxes import read_csv
from od_eval.data.examples import Converted, Encoding, Features, convert_image
from od_eval.data.images import ImageFolder, ImageNotFound
from od_eval.data.tfrecord import dataset_folder, default_num_shards, shard_pattern, write_shards
from od_eval.data.voc import read_voc
from od_eval.errors import ODEvalError
from od_eval.odapi.label_map import Category, label_map_text, read_label_map

LABEL_MAP = "label_map.pbtxt"
_READERS = {"coco": read_coco, "voc": read_voc, "csv": read_csv}
FORMATS = tuple(_READERS)
# Below this many images, starting worker processes takes longer than it saves.
_FEWEST_IMAGES_FOR_WORKERS = 1000
_IMAGES_PER_TASK = 16  # of a worker process
_TASKS_AHEAD = 64  # so that finished ones do not fill the memory where the disk is slower


@dataclasses.dataclass
class SplitSummary:
    """What was written of one split.

    Attributes:
      pattern: of its files: "train-?????-of-00004".
      num_images: how many records.
      num_empty: how many of them have no object.
      objects: class name -> number of objects.
    """

    pattern: str
    num_images: int = 0
    num_empty: int = 0
    objects: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
      splits: "train", "validation" or both -> what was written of it.
      categories: the label map.
      label_map_path: where it is.
      with_masks: whether the records hold masks.
      keypoint_labels: the keypoints in the records.
      remarks: everything that was left out or changed.
      num_unannotated: how many image files are in the folder that no annotation names.
      report_path: the JSON file that holds all of this.
    """

    splits: Mapping[str, SplitSummary]
    categories: Sequence[Category]
    label_map_path: Path
    with_masks: bool
    keypoint_labels: Sequence[str]
    remarks: Sequence[Remark]
    num_unannotated: int
    report_path: Path

    @property
    def left_out(self) -> list[Remark]:
        """The remarks about what is not in the records."""
        return [remark for remark in self.remarks if remark.left_out]


def convert_dataset(
    annotations_path: Path,
    output_dir: Path,
    *,
    images_dir: Path | None = None,
    annotation_format: str | None = None,
    label_map_path: Path | None = None,
    validation: float | Path = 0.1,
    seed: int = 0,
    num_shards: int | None = None,
    include_masks: bool = True,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Converts an annotated dataset to TFRecords, a label map and a report.

    The same input and seed give the same files, byte for byte, however many processes work on it.

    Args:
      annotations_path: COCO's JSON file, the folder of VOC's XML files, or a CSV file.
      output_dir: gets `train-00000-of-00001`, …, `validation-00000-of-00001`, …, `label_map.pbtxt` and
        `conversion_report.json`, all of them or, if anything goes wrong, none.
      images_dir: where the image files are; by default VOC's `JPEGImages` if there is one, else where the annotations
        are.
      annotation_format: one of `FORMATS`; by default told from `annotations_path`.
      label_map_path: an existing label map, whose ids are used; by default one is written.
      validation: the fraction of the images for validation, or a text file that names them, one a line, with or
        without folder and extension.
      seed: decides which images are for validation, and the order of the training images.
      num_shards: the number of files for training; by default one per 500 images, and never more than 100.
      include_masks: whether masks are written where there are any.
      num_workers: processes; by default as many as there are processors, or this one alone for few images.
      overwrite: whether earlier files of a dataset in `output_dir` are replaced.

    Returns:
      What was written and what was left out.

    Raises:
      ODEvalError: the annotations or the label map cannot be read, nothing can be converted, or it cannot be written.
    """
    annotation_format = annotation_format or _told_format(annotations_path)
    images = ImageFolder(images_dir or _default_images_dir(annotations_path))
    annotations = _READERS[annotation_format](annotations_path, images)
    annotations.images, renamed = _one_image_a_file(annotations.images)
    annotations.remarks += renamed
    num_unannotated = len(images) - len({image.filename for image in annotations.images})
    if not annotations.images:
        raise ODEvalError(_nothing_left(annotations_path, annotations.remarks))
    _reject_relative_boxes(annotations_path, annotations.images)

    if label_map_path:
        categories = read_label_map(label_map_path)
    else:
        categories = _with_keypoints(annotations.categories, annotations.keypoint_names)
    if not categories:
        raise ODEvalError(f"'{annotations_path}' has no class in it: there is nothing to learn from these annotations.")
    encoding = _make_encoding(annotations, categories, label_map_path or output_dir / LABEL_MAP, include_masks)

    if isinstance(validation, Path):
        train, held_out, remarks = _split_by_list(annotations.images, validation, images)
        annotations.remarks += remarks
    else:
        train, held_out = _split_by_fraction(annotations.images, validation, seed)
    random.Random(seed).shuffle(train)
    parts = {name: part for name, part in (("train", train), ("validation", held_out)) if part}
    # A report each, where training and validation images are converted by two commands into one folder.
    report_name = "conversion_report.json" if len(parts) == 2 else f"conversion_report_{next(iter(parts))}.json"
    new_files = [report_name] if label_map_path else [report_name, LABEL_MAP]

    if num_workers is None:
        num_workers = _num_processors() if len(annotations.images) >= _FEWEST_IMAGES_FOR_WORKERS else 1
    splits = {}
    with dataset_folder(output_dir, list(parts), new_files, overwrite) as folder:
        with tqdm(total=len(annotations.images), unit="image", disable=None) as progress:
            for name, part in parts.items():
                shards = min(num_shards, len(part)) if num_shards and name == "train" else default_num_shards(len(part))
                progress.set_description(name)
                splits[name] = SplitSummary(shard_pattern(name, shards))
                with contextlib.closing(_convert_all(part, encoding, num_workers)) as converted:
                    write_shards(folder, name, shards, _counted(converted, splits[name], annotations.remarks, progress))
        if not any(split.num_images for split in splits.values()):
            raise ODEvalError(_nothing_left(annotations_path, annotations.remarks))
        conversion = Conversion(
            splits,
            categories,
            label_map_path or output_dir / LABEL_MAP,
            encoding.with_masks,
            encoding.keypoint_labels,
            annotations.remarks,
            num_unannotated,
            output_dir / report_name,
        )
        if not label_map_path:
            (folder / LABEL_MAP).write_text(label_map_text(categories), encoding="utf-8")
        (folder / report_name).write_text(_report_text(conversion), encoding="utf-8")
    return conversion


# ---- Before ---------------------------------------------------------------------------------------------------------


def _told_format(path: Path) -> str:
    if not path.exists():
        raise ODEvalError(
            f"'{path}' does not exist; --annotations names a JSON file, a folder of XML files or a CSV file."
        )
    if path.is_dir():
        return "voc"
    formats = {".json": "coco", ".csv": "csv"}
    if path.suffix.lower() not in formats:
        raise ODEvalError(f"what '{path}' is cannot be told from its name; say --format={'|'.join(FORMATS)}.")
    return formats[path.suffix.lower()]


def _default_images_dir(annotations_path: Path) -> Path:
    if not annotations_path.is_dir():
        return annotations_path.parent
    for root in (annotations_path, annotations_path.parent):
        if (root / "JPEGImages").is_dir():
            return root / "JPEGImages"
    return annotations_path


def _one_image_a_file(images: Sequence[AnnotatedImage]) -> tuple[list[AnnotatedImage], list[Remark]]:
    """Joins annotations of the same file; takes none of them where they mean different images."""
    by_file: dict[str, list[AnnotatedImage]] = collections.defaultdict(list)
    for image in images:
        by_file[image.filename].append(image)
    kept, remarks = [], []
    for filename, same in by_file.items():
        first = same[0]
        names = sorted({image.annotated_as for image in same})
        if len(names) > 1 or len({image.size for image in same}) > 1:
            detail = f"{filename} for {', '.join(names[:3])}"
            remarks += [
                Remark("one image file for different annotated images", image.where, detail, "image") for image in same
            ]
            continue
        for other in same[1:]:
            boxes = {(one.class_name, one.box) for one in first.objects}
            first.objects += [one for one in other.objects if (one.class_name, one.box) not in boxes]
            remarks.append(
                Remark("image annotated twice, objects joined", other.where, f"{filename}, as {first.where}")
            )
        if first.annotated_as.replace("\\", "/") != filename:
            detail = f"{filename} for '{first.annotated_as}'"
            remarks.append(Remark("image file found under another name", first.where, detail))
        kept.append(first)
    return kept, remarks


def _reject_relative_boxes(path: Path, images: Sequence[AnnotatedImage]) -> None:
    boxes = [one.box for image in images if image.size != (1, 1) for one in image.objects]
    if boxes and max(map(max, boxes)) <= 1:
        raise ODEvalError(
            f"all boxes in '{path}' lie between 0 and 1: these are parts of the image, and pixels are meant; multiply"
            " them with the size of the image, or give every image the width and height 1."
        )


def _with_keypoints(categories: Sequence[Category], keypoint_names: Mapping[str, Sequence[str]]) -> list[Category]:
    """The categories with their keypoints, counted through from 0."""
    times = Counter(name for names in keypoint_names.values() for name in names)
    index = itertools.count()
    return [
        dataclasses.replace(
            one,
            # The Object Detection API wants each label once in a label map.
            keypoints={
                name if times[name] == 1 else f"{one.name} {name}": next(index)
                for name in keypoint_names.get(one.name, ())
            },
        )
        for one in categories
    ]


def _make_encoding(
    annotations: Annotations, categories: Sequence[Category], label_map: Path, include_masks: bool
) -> Encoding:
    by_name = {name: one for one in categories for name in (one.name, one.display_name) if name}
    labels = {index: label for one in categories for label, index in one.keypoints.items()}
    if sorted(labels) != list(range(sum(len(one.keypoints) for one in categories))):
        raise ODEvalError(f"label map '{label_map}': the ids of the keypoints are not 0, 1, 2, ….")
    indices: dict[str, list[int | None]] = {}
    for class_name, names in annotations.keypoint_names.items():
        if class_name in by_name:
            known = by_name[class_name].keypoints
            indices[class_name] = [known.get(name, known.get(f"{class_name} {name}")) for name in names]
            unknown = [name for name, index in zip(names, indices[class_name], strict=True) if index is None]
            if unknown:
                detail = f"{class_name}: {', '.join(unknown)}"
                annotations.remarks.append(
                    Remark("keypoint that the label map does not have", str(label_map), detail, "keypoints")
                )
    return Encoding(
        {name: one.id for name, one in by_name.items()},
        include_masks and any(one.segmentation for image in annotations.images for one in image.objects),
        [labels[index] for index in sorted(labels)],
        indices,
    )


def _split_by_fraction(
    images: Sequence[AnnotatedImage], fraction: float, seed: int
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """(train, validation); at least one image in each where the fraction is neither 0 nor 1 and there are two."""
    shuffled = sorted(images, key=lambda image: image.filename)
    random.Random(seed).shuffle(shuffled)
    number = round(len(images) * fraction)
    if 0 < fraction < 1 and len(images) > 1:
        number = min(max(number, 1), len(images) - 1)
    return _by_filename(shuffled[number:]), _by_filename(shuffled[:number])


def _split_by_list(
    images: Sequence[AnnotatedImage], path: Path, folder: ImageFolder
) -> tuple[list[AnnotatedImage], list[AnnotatedImage], list[Remark]]:
    """(train, validation, remarks about names that are no image)."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ODEvalError(f"validation list '{path}' cannot be read: {error}.") from error
    annotated = {image.filename for image in images}
    named, remarks = set(), []
    for number, name in enumerate(lines, start=1):
        if not name.strip():
            continue
        try:
            filename = folder.find(name)
        except ImageNotFound:
            filename = ""
        if filename in annotated:
            named.add(filename)
        else:
            reason = "name in the validation list that is no annotated image"
            remarks.append(Remark(reason, f"{path}: line {number}", name, "image"))
    if not named:
        raise ODEvalError(f"no image is named in the validation list '{path}'; it holds a file name a line.")
    train = [image for image in images if image.filename not in named]
    return _by_filename(train), _by_filename([image for image in images if image.filename in named]), remarks


def _by_filename(images: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    return sorted(images, key=lambda image: image.filename)


# ---- While ----------------------------------------------------------------------------------------------------------


def _convert_all(images: Sequence[AnnotatedImage], encoding: Encoding, num_workers: int) -> Iterator[Converted]:
    """What `convert_image` makes of each image, in order."""
    if num_workers <= 1:
        for image in images:
            yield convert_image(image, encoding)
        return
    # Not forked: the caller's process may have threads, TensorFlow's for example.
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        step = num_workers * _TASKS_AHEAD * _IMAGES_PER_TASK
        for start in range(0, len(images), step):
            convert = functools.partial(convert_image, encoding=encoding)
            yield from pool.map(convert, images[start : start + step], chunksize=_IMAGES_PER_TASK)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ODEvalError(
            "a worker process was ended from outside, as happens when the memory is full; try again with a lower"
            " --num_workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # the parent was killed; otherwise this process would wait for tasks forever


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _counted(
    all_converted: Iterator[Converted], split: SplitSummary, remarks: list[Remark], progress: tqdm
) -> Iterator[Features]:
    """Passes on the features of the images that were not left out, and counts and lists what passes."""
    for converted in all_converted:
        progress.update()
        remarks += converted.remarks
        if converted.features is not None:
            split.num_images += 1
            split.num_empty += not converted.class_names
            for name in converted.class_names:
                split.objects[name] = split.objects.get(name, 0) + 1
            yield converted.features


# ---- After ----------------------------------------------------------------------------------------------------------


def _nothing_left(path: Path, remarks: Sequence[Remark]) -> str:
    """The message for a dataset of which no image could be converted."""
    left_out = [remark for remark in remarks if remark.left_out == "image"]
    if not left_out:
        return f"there is no image in '{path}'."
    reason, times = Counter(remark.reason for remark in left_out).most_common(1)[0]
    first = next(remark for remark in left_out if remark.reason == reason)
    return (
        f"none of the images of '{path}' can be converted: {reason} ({times} times), first in {first.where}:"
        f" {first.detail}."
    )


def _report_text(conversion: Conversion) -> str:
    report: dict[str, Any] = {
        "splits": {name: dataclasses.asdict(split) for name, split in conversion.splits.items()},
        "images_without_annotation": conversion.num_unannotated,
        "left_out": [dataclasses.asdict(remark) for remark in conversion.left_out],
        "changed": [dataclasses.asdict(remark) for remark in conversion.remarks if not remark.left_out],
    }
    return json.dumps(report, indent=1) + "\n"
