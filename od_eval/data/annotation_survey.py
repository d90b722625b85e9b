"""Surveys annotations before their conversion, and images without labels: what images and objects are like."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hotcoco import mask as coco_mask  # as in `examples`

from od_eval import files
from od_eval.coco_ids import is_number
from od_eval.data.annotations import AnnotatedImage, AnnotatedObject, Remark
from od_eval.data.images import EXTENSIONS, MOST_PIXELS, ImageUnusable, read_image
from od_eval.data.reading import read_annotations
from od_eval.errors import ODEvalError
from od_eval.findings.finding import Finding
from od_eval.findings.image_measures import ImageMeasures, UnreadableImage, box_iou, in_threads, measure_image
from od_eval.findings.survey import Progress, Survey, SurveyedObject, SurveyTables, reported
from od_eval.label_map import read_label_map
from od_eval.text import named

_MOST_NAMED = 20


@dataclasses.dataclass(frozen=True)
class _Surveyed:
    """What became of an annotated image: its measures, None if the image is left out; and what is left out."""

    image: AnnotatedImage
    measures: ImageMeasures | None
    objects: Sequence[SurveyedObject]
    remarks: Sequence[Remark]


def survey_annotations(
    annotations: files.Path,
    images: files.Path | None = None,
    annotation_format: str | None = None,
    *,
    label_map: files.Path | None = None,
    name: str = "annotations",
    max_examples: int | None = None,
    num_images_to_decode: int = 2000,
    progress: Progress | None = None,
) -> Survey:
    """Surveys annotations as `od-eval convert` reads them.

    Images are as they would be converted: turned upright as their EXIF data say, unless annotated otherwise. Boxes are
    parts of the image, in its annotated size; they are not clipped.

    Args:
      annotations: COCO's JSON file, the folder of VOC's XML files, or a CSV file.
      images: the folder of the image files; by default VOC's `JPEGImages` if there is one, else the folder of
        the annotations.
      annotation_format: "coco", "voc" or "csv"; by default inferred from `annotations`.
      label_map: an existing label map, whose ids are used; by default the ids that a conversion would give.
      name: of the dataset, in messages.
      max_examples: read no more images than so many, the first ones.
      num_images_to_decode: of so many images, chosen at random, but always the same ones, pixels are decoded.
      progress: called about twice a second with the number of images so far, and of all.

    Returns:
      The survey. What a conversion would leave out for faults is in `faults`, a finding for each reason, but for what
      the table of objects shows itself: boxes without area, or outside the image.

    Raises:
      ODEvalError: the annotations or the label map cannot be read.
    """
    read, _ = read_annotations(annotations, images, annotation_format)
    categories = read.categories if label_map is None else read_label_map(os.fspath(label_map))
    ids = {text: one.id for one in categories for text in (one.name, one.display_name) if text}
    part = read.images[:max_examples]
    decoded = _sample(len(part), num_images_to_decode)
    survey_image = functools.partial(_survey_image, ids=ids)

    tables = SurveyTables()
    remarks = [remark for remark in read.remarks if remark.left_out]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd metadata and big images; errors are still raised
        items = ((image, index in decoded) for index, image in enumerate(part))
        for one in reported(in_threads(survey_image, items), progress, len(part)):
            remarks += one.remarks
            if one.measures is not None:
                tables.add(one.image.path, one.image.filename, one.measures, one.objects)
    return Survey(
        name,
        {one.id: one.name or one.display_name for one in categories},
        tables.images(),
        tables.objects(),
        len(part) == len(read.images),
        tuple(_faults(remarks, os.fspath(annotations))),
    )


def survey_images(
    folder_or_pattern: files.Path,
    name: str = "deployment_images",
    *,
    max_examples: int | None = None,
    num_images_to_decode: int = 2000,
    progress: Progress | None = None,
) -> Survey:
    """Surveys images without labels.

    Args:
      folder_or_pattern: the folder of the image files, with those below it, or a pattern: `photos/*.jpg`.
      name: of the dataset, in messages.
      max_examples: read no more images than so many, the first ones by name.
      num_images_to_decode: of so many images, chosen at random, but always the same ones, pixels are decoded.
      progress: called about twice a second with the number of images so far, and of all.

    Returns:
      The survey, without categories and objects; `faults` tells of images that cannot be read.

    Raises:
      ODEvalError: there is no image, or the folder cannot be read.
    """
    paths = _image_files(os.fspath(folder_or_pattern))
    part = paths[:max_examples]
    decoded = _sample(len(part), num_images_to_decode)
    tables = SurveyTables()
    remarks: list[Remark] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        items = ((path, index in decoded) for index, path in enumerate(part))
        for path, measures in reported(in_threads(_measure_file, items), progress, len(part)):
            if isinstance(measures, Remark):
                remarks.append(measures)
            else:
                tables.add(path, os.path.basename(path), measures, ())
    return Survey(
        name,
        {},
        tables.images(),
        tables.objects(),
        len(part) == len(paths),
        tuple(_faults(remarks, os.fspath(folder_or_pattern))),
    )


def _sample(number: int, size: int) -> frozenset[int]:
    return frozenset(random.Random(0).sample(range(number), min(number, size)))


def _survey_image(item: tuple[AnnotatedImage, bool], ids: Mapping[str, int]) -> _Surveyed:
    image, decode = item
    try:
        measures = _measure_annotated(image, decode)
    except ImageUnusable as error:
        return _Surveyed(image, None, (), [Remark(error.reason, image.where, str(error), "image")])
    size = image.size or (measures.width, measures.height)
    objects, remarks = [], []
    for annotated in image.objects:
        if not all(map(math.isfinite, annotated.box)):
            remarks.append(Remark("box is not four numbers", annotated.where, str(annotated.box), "object"))
            continue
        if annotated.class_name not in ids:
            remarks.append(Remark("unknown class", annotated.where, repr(annotated.class_name), "object"))
        objects.append(_surveyed_object(annotated, ids.get(annotated.class_name, 0), size, decode))
    return _Surveyed(image, measures, objects, remarks)


def _measure_annotated(image: AnnotatedImage, decode: bool) -> ImageMeasures:
    """The measures of the image as it would be converted.

    Raises:
      ImageUnusable: it cannot be.
    """
    try:
        content = files.read_bytes(image.path)
        measures = measure_image(content, decode=decode, upright=True)
        if image.size in (None, (measures.width, measures.height)):
            return measures
        converted = read_image(image.path, image.size)  # slower: decides which of its sizes was annotated, if any
        if (converted.width, converted.height) == (measures.width, measures.height):
            return measures
        return measure_image(content, decode=decode)
    except (OSError, UnreadableImage) as error:
        read_image(image.path, image.size)  # raises, and in the words of a conversion
        raise ImageUnusable("image unreadable", f"{image.path}: {error}") from error


def _surveyed_object(
    annotated: AnnotatedObject, category: int, size: tuple[int, int], with_mask: bool
) -> SurveyedObject:
    box = _part_of(annotated.box, size)
    around = _box_around(annotated.segmentation, size) if with_mask else None
    iou = math.nan if around is None else box_iou(box, _part_of(around, size))
    return SurveyedObject(category, *box, annotated.crowd, bool(annotated.difficult), iou)


def _part_of(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """ymin, xmin, ymax, xmax as parts of an image from left, top, right, bottom in pixels, in any order."""
    (left, right), (top, bottom) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    return top / size[1], left / size[0], bottom / size[1], right / size[0]


def _box_around(segmentation: Any, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """left, top, right, bottom around COCO's polygons or RLE, in pixels; None if it is neither."""
    width, height = size
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width] or width * height > MOST_PIXELS:
            return None
        try:
            rows, columns = coco_mask.decode(segmentation).nonzero()
        except (ValueError, TypeError, OverflowError):
            return None
        if not len(rows):
            return None
        return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    if not isinstance(segmentation, list):
        return None
    polygons = [polygon for polygon in segmentation if isinstance(polygon, list) and len(polygon) >= 6]
    if not polygons or not all(is_number(value) for polygon in polygons for value in polygon):
        return None
    x = [value for polygon in polygons for value in polygon[0::2]]
    y = [value for polygon in polygons for value in polygon[1::2]]
    return min(x), min(y), max(x), max(y)


def _image_files(folder_or_pattern: str) -> list[str]:
    """The paths of images, sorted."""
    try:
        if files.is_folder(folder_or_pattern):
            below = files.dataset_files_below(folder_or_pattern)
            names = [os.path.join(folder_or_pattern, name) for name in below if name.lower().endswith(EXTENSIONS)]
        else:
            names = [path for path in files.glob(folder_or_pattern) if not files.is_folder(path)]
    except OSError as error:
        raise ODEvalError(f"images '{folder_or_pattern}' cannot be looked up: {files.reason(error)}.") from error
    if not names:
        raise ODEvalError(
            f"there is no image in '{folder_or_pattern}' ({', '.join(EXTENSIONS)}); pass a folder of images, or a"
            " pattern such as 'photos/*.jpg'."
        )
    return sorted(names)


def _measure_file(item: tuple[str, bool]) -> tuple[str, ImageMeasures | Remark]:
    path, decode = item
    try:
        return path, measure_image(files.read_bytes(path), decode=decode, upright=True)
    except OSError as error:
        return path, Remark("image unreadable", path, files.reason(error), "image")
    except UnreadableImage as error:
        return path, Remark("image unreadable", path, str(error), "image")


def _faults(remarks: Sequence[Remark], where: str) -> Iterator[Finding]:
    """A finding for each reason why something is left out, in the words of `od-eval convert`."""
    by_reason: dict[tuple[str, str], list[Remark]] = defaultdict(list)
    for remark in remarks:
        by_reason[remark.left_out, remark.reason].append(remark)
    for (what, reason), same in by_reason.items():
        what = what.removesuffix("s")
        things = f"1 {what}" if len(same) == 1 else f"{len(same)} {what}s"
        first = f"{same[0].where}: {same[0].detail}" if same[0].detail else same[0].where
        yield Finding(
            f"{what}s_left_out",
            "warning",
            where,
            f"{things} cannot be used: {reason} ({'' if len(same) == 1 else 'first: '}{named(first)})",
            "correct the annotations or the files, or leave these out on purpose",
            evidence={"number": len(same), "reason": reason},
            images=[remark.where for remark in same[:_MOST_NAMED]],
        )
