"""Splits the images of a dataset into training and validation."""

from __future__ import annotations

import bisect
import hashlib
import os
from collections.abc import Sequence

from od_eval import files
from od_eval.data.annotations import AnnotatedImage, Remark
from od_eval.data.images import ImageFolder, ImageNotFound
from od_eval.errors import ODEvalError


def split_images(
    images: Sequence[AnnotatedImage], validation: float | files.Path, seed: int, folder: ImageFolder
) -> tuple[list[AnnotatedImage], list[AnnotatedImage], list[Remark]]:
    """Splits the images of a dataset; an image stays on its side when others come to the dataset, or leave it.

    A hash of the seed and the file name gives each image a place from 0 to 1. Those below the fraction are for
    validation, so of many images about that fraction is.

    Args:
      images: the dataset.
      validation: the fraction of the images for validation, or the path of a text file that lists them, one per line,
        with or without folder and extension. With a fraction other than 0 and 1, and several images, each side has at
        least one image: if need be, the one whose place is nearest to it.
      seed: decides which images make up the fraction, and the order of the training images.
      folder: the folder of the images; finds those listed in the file.

    Returns:
      The training images in the order of their hashes, which is like a random one; the validation images sorted by file
      name; a remark for each listed name that is not an annotated image.

    Raises:
      ODEvalError: the file cannot be read or lists no image, or the fraction is none.
    """
    places = sorted((_place(image.filename, seed), image.filename) for image in images)
    if isinstance(validation, str | os.PathLike):
        held_out, remarks = _read_list(os.fspath(validation), {image.filename for image in images}, folder)
    else:
        held_out, remarks = _draw(places, validation), []
    by_filename = {image.filename: image for image in images}
    train = [by_filename[filename] for _, filename in places if filename not in held_out]
    return train, [by_filename[filename] for filename in sorted(held_out)], remarks


def _place(filename: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed} {filename}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _draw(places: Sequence[tuple[float, str]], fraction: float) -> set[str]:
    """The file names of a fraction of the images, from the sorted places and file names of all."""
    if not 0 <= fraction <= 1:
        raise ODEvalError(f"the fraction of the images for validation is {fraction:g}; it must be from 0 to 1.")
    number = bisect.bisect_left(places, fraction, key=lambda place: place[0])
    if 0 < fraction < 1 and len(places) > 1:
        number = min(max(number, 1), len(places) - 1)
    return {filename for _, filename in places[:number]}


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
