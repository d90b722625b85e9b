"""Images with their objects to evaluate a model on: of a pipeline.config, of record files, of COCO's ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from od_eval.data.images import MOST_PIXELS, EncodedImage, ImageFolder, ImageNotFound, ImageUnusable, read_image
from od_eval.deployed.model import names_of
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import GroundTruth, of_image
from od_eval.evaluation.coco_files import CocoGroundTruth, LeftOut, has_masks, read_groundtruth
from od_eval.evaluation.labeled_image import LabeledImage
from od_eval.label_map import read_label_map
from od_eval.text import printable, short


@dataclasses.dataclass(frozen=True)
class LabeledSet:
    """Images with their objects.

    Attributes:
      source: the file that names them, for messages.
      categories: id -> name, of the objects.
      images: reads them, once.
      num_images: their number; None if it is not known before they are read.
      masks: whether their objects have masks.
    """

    source: str
    categories: Mapping[int, str]
    images: Iterator[LabeledImage]
    num_images: int | None
    masks: bool


def of_pipeline(path: str, masks: bool | None, left_out: LeftOut) -> LabeledSet:
    """The images of the first `eval_input_reader` of a pipeline.config.

    Args:
      path: of the config.
      masks: whether masks are read; None: if the reader reads them.
      left_out: is given what cannot be evaluated.

    Raises:
      ODEvalError: the config or its input has to be fixed.
    """
    from od_eval.odapi import records
    from od_eval.odapi.labeled_images import labeled_images
    from od_eval.odapi.pipeline import Pipeline

    pipeline = Pipeline.load(path)
    if not pipeline.config.eval_input_reader:
        raise ODEvalError(f"{path} has no eval_input_reader, so there is nothing to evaluate on; add one.")
    reader = pipeline.config.eval_input_reader[0]
    pipeline.check_input("eval_input_reader[0]", reader)
    if masks and not reader.load_instance_masks:
        raise ODEvalError(f"{path}: eval_input_reader reads no masks; set its load_instance_masks, or pass --nomasks.")
    if masks is False:
        reader.load_instance_masks = False
    categories = pipeline.evaluation.categories
    images = labeled_images(reader, categories, left_out)
    return LabeledSet(path, categories, images, records.count(reader), reader.load_instance_masks)


def of_records(path: str, label_map: str, masks: bool | None, left_out: LeftOut) -> LabeledSet:
    """The images of record files.

    Args:
      path: a file, or a pattern of files.
      label_map: the path of their label map.
      masks: whether masks are read, as PNG; None: not.
      left_out: as for `of_pipeline`.

    Raises:
      ODEvalError: no file matches, or the label map cannot be read.
    """
    from od_eval.odapi import records
    from od_eval.odapi.labeled_images import labeled_images, record_reader

    reader = record_reader(path, label_map, bool(masks))
    categories = names_of(read_label_map(label_map))
    return LabeledSet(
        path, categories, labeled_images(reader, categories, left_out), records.count(reader), bool(masks)
    )


def of_coco(path: str, folder: str, masks: bool | None, left_out: LeftOut) -> LabeledSet:
    """The images of a file of COCO's ground truth.

    Args:
      path: the JSON file.
      folder: of the image files.
      masks: whether masks are read; None: if the file has any.
      left_out: is given what cannot be evaluated, also images that cannot be read.

    Raises:
      ODEvalError: the file cannot be read, or the folder has no images.
    """
    masks = has_masks(path) if masks is None else masks
    groundtruth = read_groundtruth(path, masks, left_out)
    images = _coco_images(groundtruth, ImageFolder(folder), left_out)
    return LabeledSet(path, groundtruth.categories, images, len(groundtruth.images), masks)


def read_coco_image(groundtruth: CocoGroundTruth, id: int | str, folder: ImageFolder) -> EncodedImage:
    """Reads an image of COCO's ground truth.

    Args:
      groundtruth: the file's contents.
      id: of the image.
      folder: of the image files.

    Raises:
      ImageNotFound, ImageUnusable: it is not there, cannot be read, or has another shape or far more pixels than the
        file says.
    """
    height, width = groundtruth.images[id]
    if height * width > MOST_PIXELS:
        raise ImageUnusable("image too large", f"image {short(id)} is not of {width}×{height} pixels")
    path = folder.path(folder.find(groundtruth.file_names[id]))
    return read_image(path, (width, height) if height and width else None)


def _coco_images(groundtruth: CocoGroundTruth, folder: ImageFolder, left_out: LeftOut) -> Iterator[LabeledImage]:
    problem = ""
    num_read = 0
    for index, id in enumerate(groundtruth.images):
        try:
            image = read_coco_image(groundtruth, id, folder)
        except (ImageNotFound, ImageUnusable) as error:
            problem = problem or printable(str(error), 500)
            left_out.add("images that cannot be read", printable(str(error), 500))
            continue
        num_read += 1
        yield LabeledImage(id, image.pixels, image.annotated_size[::-1], _corners(of_image(groundtruth.objects, index)))
    if not num_read:
        raise ODEvalError(f"no image of '{groundtruth.path}' can be read; the first: {problem}.")


def _corners(objects: GroundTruth) -> GroundTruth:
    """The objects of one image with their boxes `xywh` as `yxyx`."""
    x, y, width, height = np.asarray(objects.boxes[0], np.float64).reshape(-1, 4).T
    boxes: Any = [np.stack([y, x, y + height, x + width], axis=1)]
    return dataclasses.replace(objects, boxes=boxes)
