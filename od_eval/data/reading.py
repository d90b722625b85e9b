"""Reads an annotated dataset in any of the supported formats."""

from __future__ import annotations

import collections
import math
import os
import unicodedata
from collections.abc import Sequence

from od_eval import files
from od_eval.data.annotations import AnnotatedImage, Annotations, Remark
from od_eval.data.coco import read_coco
from od_eval.data.csv_boxes import read_csv
from od_eval.data.images import ImageFolder
from od_eval.data.voc import read_voc
from od_eval.errors import ODEvalError
from od_eval.text import some

_READERS = {"coco": read_coco, "voc": read_voc, "csv": read_csv}
FORMATS = tuple(_READERS)


def read_annotations(
    path: files.Path, images_dir: files.Path | None = None, annotation_format: str | None = None
) -> tuple[Annotations, ImageFolder]:
    """Reads annotations and finds their image files.

    Args:
      path: COCO's JSON file, the folder of VOC's XML files, or a CSV file, on any file system.
      images_dir: the folder of the image files, on any file system; by default VOC's `JPEGImages` if there is one, else
        the folder of the annotations.
      annotation_format: one of `FORMATS`; by default inferred from `path`.

    Returns:
      The annotations, with one image per file, and the folder of the image files.

    Raises:
      ODEvalError: the annotations cannot be read, or boxes are not in pixels.
    """
    path = os.fspath(path)
    annotation_format = annotation_format or told_format(path)
    if annotation_format not in _READERS:
        raise ODEvalError(
            f"the format of '{path}' cannot be inferred from its name; set format to {', '.join(FORMATS[:-1])} or"
            f" {FORMATS[-1]}."
        )
    images = ImageFolder(images_dir or _default_images_dir(path))
    annotations = _READERS[annotation_format](path, images)
    annotations.images, remarks = _join_same_files(annotations.images)
    annotations.remarks += remarks
    _reject_relative_boxes(path, annotations.images)
    return annotations, images


def told_format(path: files.Path) -> str | None:
    """The format of annotations, one of `FORMATS`; None if it cannot be inferred from their name.

    Raises:
      ODEvalError: the path does not exist, or cannot be accessed.
    """
    path = os.fspath(path)
    try:
        if not files.exists(path):
            raise ODEvalError(
                f"'{path}' does not exist; set annotations to a JSON file, a folder of XML files or a CSV file."
            )
        if files.is_folder(path):
            return "voc"
    except OSError as error:
        raise ODEvalError(f"'{path}' cannot be read: {files.reason(error)}.") from error
    return {".json": "coco", ".csv": "csv"}.get(os.path.splitext(path)[1].lower())


def _default_images_dir(path: str) -> str:
    parent = os.path.dirname(path.rstrip("/" + os.sep)) or "."
    if not files.is_folder(path):
        return parent
    for root in (path, parent):
        if files.is_folder(os.path.join(root, "JPEGImages")):
            return os.path.join(root, "JPEGImages")
    return path


def _join_same_files(images: Sequence[AnnotatedImage]) -> tuple[list[AnnotatedImage], list[Remark]]:
    """Joins the annotations of the same image file; leaves all of them out if they refer to different images."""
    by_file: dict[str, list[AnnotatedImage]] = collections.defaultdict(list)
    for image in images:
        by_file[image.filename].append(image)
    kept, remarks = [], []
    for filename, same in by_file.items():
        first = same[0]
        names = sorted({image.annotated_as for image in same})
        if len(names) > 1 or len({image.size for image in same}) > 1:
            detail = f"{filename} for {some(names, 3)}"
            remarks += [
                Remark("one image file for different annotated images", image.where, detail, "image") for image in same
            ]
            continue
        for other in same[1:]:
            known = {(annotated.class_name, annotated.box) for annotated in first.objects}
            first.objects += [
                annotated for annotated in other.objects if (annotated.class_name, annotated.box) not in known
            ]
            remarks.append(
                Remark("image annotated twice, objects joined", other.where, f"{filename}, as {first.where}")
            )
        written = unicodedata.normalize("NFC", first.annotated_as.replace("\\", "/"))
        if written != unicodedata.normalize("NFC", filename):
            detail = f"{filename} for '{first.annotated_as}'"
            remarks.append(Remark("image file found under another name", first.where, detail))
        kept.append(first)
    return kept, remarks


def _reject_relative_boxes(path: str, images: Sequence[AnnotatedImage]) -> None:
    # If the annotated size is 1×1, such boxes are in pixels of that size, and are scaled with it.
    boxes = (annotated.box for image in images if image.size != (1, 1) for annotated in image.objects)
    if max(map(max, boxes), default=math.inf) <= 1:
        raise ODEvalError(
            f"all boxes in '{path}' are between 0 and 1: they seem to be relative, but must be in pixels; multiply"
            " them by the size of the image, or give every image the width and height 1."
        )
