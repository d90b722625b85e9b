"""Images with their objects to evaluate a model on: of a pipeline.config, of record files, of COCO's ground truth."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from od_eval.data.images import MOST_PIXELS, EncodedImage, ImageFolder, ImageNotFound, ImageUnusable, read_image
from od_eval.deployed.model import names_of
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import GroundTruth, images_of, of_image
from od_eval.evaluation.coco_files import CocoGroundTruth, LeftOut, has_masks, read_groundtruth
from od_eval.evaluation.labeled_image import LabeledImage
from od_eval.evaluation.unique_names import UniqueNames
from od_eval.label_map import read_label_map
from od_eval.text import printable, short

# Of COCO's ground truth; record files are as large as they are.
_IMAGES_OF_A_PART = 500
_UNREADABLE = "images that cannot be read"

Image = TypeVar("Image")


@dataclasses.dataclass(frozen=True)
class Part:
    """Some successive images of a `LabeledSet`, to be read by any process: it can be pickled.

    Attributes:
      file: the file that has them in it, or names them.
      read: reads them once; is given what cannot be evaluated.
      images: the paths of their files, if these are files of their own.
      read_as: what else decides on what is read, in any words.
    """

    file: str
    read: Callable[[LeftOut], Iterator[LabeledImage]]
    images: Sequence[str] = ()
    read_as: str = ""


@dataclasses.dataclass(frozen=True)
class LabeledSet:
    """Images with their objects.

    Attributes:
      source: the file that names them, for messages.
      categories: id -> name, of the objects.
      images: reads them, once; their ids are unique.
      num_images: their number; None if it is not known before they are read.
      masks: whether their objects have masks.
      parts: returns the same images in parts, which may repeat the ids of others. It raises an `ODEvalError` if they
        can only be read as a whole.
    """

    source: str
    categories: Mapping[int, str]
    images: Iterator[LabeledImage]
    num_images: int | None
    masks: bool
    parts: Callable[[], Sequence[Part]] = tuple


def of_pipeline(path: str, masks: bool | None, left_out: LeftOut) -> LabeledSet:
    """The images of the first `eval_input_reader` of a pipeline.config.

    Args:
      path: of the config.
      masks: whether masks are read; None: if the reader reads them.
      left_out: is given what cannot be evaluated.

    Raises:
      ODEvalError: the config or its input has to be fixed.
    """
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
    return _of_reader(path, pipeline.evaluation.categories, reader, left_out)


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
    from od_eval.odapi.labeled_images import record_reader

    reader = record_reader(path, label_map, bool(masks))
    return _of_reader(path, names_of(read_label_map(label_map)), reader, left_out)


def _of_reader(source: str, categories: Mapping[int, str], reader: Any, left_out: LeftOut) -> LabeledSet:
    """The images of an input reader of the Object Detection API."""
    from od_eval.odapi import records
    from od_eval.odapi.labeled_images import labeled_images, readers_of_files

    def parts() -> list[Part]:
        return [
            Part(file, functools.partial(labeled_images, of_file, list(categories)), read_as=str(of_file))
            for file, of_file in readers_of_files(reader)
        ]

    images = _with_unique_ids(labeled_images(reader, list(categories), left_out), left_out)
    return LabeledSet(source, categories, images, records.count(reader), reader.load_instance_masks, parts)


def _with_unique_ids(images: Iterable[LabeledImage], left_out: LeftOut) -> Iterator[LabeledImage]:
    names = UniqueNames()
    for image in images:
        yield dataclasses.replace(image, id=names.unique_id(image.id))
    names.tell(left_out)


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
    parts = functools.partial(_coco_parts, groundtruth, ImageFolder(folder))
    images = (image for part in parts() for image in part.read(left_out))
    return LabeledSet(path, groundtruth.categories, images, len(groundtruth.images), masks, lambda: list(parts()))


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
    return read_image(*_coco_file(groundtruth, id, folder))


def _coco_file(groundtruth: CocoGroundTruth, id: int | str, folder: ImageFolder) -> tuple[str, tuple[int, int] | None]:
    """The path of an image, and the width and height that its file is said to have; raises as `read_coco_image`."""
    height, width = groundtruth.images[id]
    if height * width > MOST_PIXELS:
        raise ImageUnusable("image too large", f"image {short(id)} is not of {width}×{height} pixels")
    return folder.path(folder.find(groundtruth.file_names[id])), (width, height) if height and width else None


def _coco_parts(groundtruth: CocoGroundTruth, folder: ImageFolder) -> Iterator[Part]:
    ids = groundtruth.ids
    for start in range(0, len(ids), _IMAGES_OF_A_PART):
        indices = range(start, min(start + _IMAGES_OF_A_PART, len(ids)))
        files: list[tuple[str, tuple[int, int] | None] | str] = []
        for index in indices:
            try:
                files.append(_coco_file(groundtruth, ids[index], folder))
            except (ImageNotFound, ImageUnusable) as error:
                files.append(str(error))
        objects = images_of(groundtruth.objects, indices)
        read = functools.partial(_coco_images, [ids[index] for index in indices], files, objects)
        images = [file[0] for file in files if not isinstance(file, str)]
        yield Part(groundtruth.path, read, images, read_as=str(files))


def _coco_images(
    ids: Sequence[int | str],
    files: Sequence[tuple[str, tuple[int, int] | None] | str],
    objects: GroundTruth,
    left_out: LeftOut,
) -> Iterator[LabeledImage]:
    """Reads images whose files were found, or else there is a clause that says why not."""
    for index, (id, file) in enumerate(zip(ids, files, strict=True)):
        try:
            if isinstance(file, str):
                raise ImageUnusable("image file missing", file)
            image = read_image(*file)
        except ImageUnusable as error:
            left_out.add(_UNREADABLE, printable(str(error), 500))
            continue
        yield LabeledImage(id, image.pixels, image.annotated_size[::-1], _corners(of_image(objects, index)))


def checked_not_all_unreadable(images: Iterable[Image], source: str, left_out: LeftOut) -> Iterator[Image]:
    """The images of a set; raises an `ODEvalError` if there are files of images, but none can be read."""
    num_images = 0
    for num_images, image in enumerate(images, 1):  # noqa: B007
        yield image
    unreadable = next((first for _, what, first in left_out.cases() if what == _UNREADABLE), None)
    if not num_images and unreadable is not None:
        raise ODEvalError(f"no image of '{source}' can be read; the first: {unreadable}.")


def _corners(objects: GroundTruth) -> GroundTruth:
    """The objects of one image with their boxes `xywh` as `yxyx`."""
    x, y, width, height = np.asarray(objects.boxes[0], np.float64).reshape(-1, 4).T
    boxes: Any = [np.stack([y, x, y + height, x + width], axis=1)]
    return dataclasses.replace(objects, boxes=boxes)
