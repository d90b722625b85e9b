"""Splits the images of a dataset into training and validation."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

from od_eval import files
from od_eval.data.annotations import AnnotatedImage, Remark
from od_eval.data.images import ImageFolder, ImageNotFound
from od_eval.errors import ODEvalError


def split_images(
    images: Sequence[AnnotatedImage], validation: float | files.Path, seed: int, folder: ImageFolder
) -> tuple[list[AnnotatedImage], list[AnnotatedImage], list[Remark]]:
    """Splits the images of a dataset; the same images and seed give the same split.

    Args:
      images: the dataset.
      validation: the fraction of the images for validation, or the path of a text file that lists them, one per line,
        with or without folder and extension. With a fraction other than 0 and 1, and several images, each side has at
        least one image.
      seed: decides which images make up the fraction, and the order of the training images.
      folder: the folder of the images; finds those listed in the file.

    Returns:
      The training images in random order; the validation images sorted by file name; a remark for each listed name that
      is not an annotated image.

    Raises:
      ODEvalError: the file cannot be read or lists no image, or the fraction is none.
    """
    by_filename = sorted(images, key=lambda image: image.filename)
    if isinstance(validation, str | os.PathLike):
        named, remarks = _read_list(os.fspath(validation), {image.filename for image in images}, folder)
    else:
        named, remarks = _draw(by_filename, validation, seed), []
    train = [image for image in by_filename if image.filename not in named]
    random.Random(seed).shuffle(train)
    return train, [image for image in by_filename if image.filename in named], remarks


def _draw(images: Sequence[AnnotatedImage], fraction: float, seed: int) -> set[str]:
    """The file names of a fraction of the images."""
    if not 0 <= fraction <= 1:
        raise ODEvalError(f"the fraction of the images for validation is {fraction:g}; it must be from 0 to 1.")
    filenames = [image.filename for image in images]
    random.Random(seed).shuffle(filenames)
    number = round(len(filenames) * fraction)
    if 0 < fraction < 1 and len(filenames) > 1:
        number = min(max(number, 1), len(filenames) - 1)
    return set(filenames[:number])


def _read_list(path: str, annotated: set[str], folder: ImageFolder) -> tuple[set[str], list[Remark]]:
    """The file names of the annotated images listed in a text file, and remarks about its other lines."""
    try:
        lines = files.read_text(path).splitlines()
    except (OSError, ValueError) as error:  # the latter: it is not UTF-8, or no file has such a name
        raise ODEvalError(f"validation list '{path}' cannot be read: {files.reason(error)}.") from error
    named, remarks = set(), []
    for line, name in enumerate(lines, start=1):
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
            remarks.append(Remark(reason, f"{path}: line {line}", name, "image"))
    if not named:
        raise ODEvalError(f"the validation list '{path}' names no image; write one file name per line.")
    return named, remarks
