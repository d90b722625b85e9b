"""What an image file is like: size, mode, digest; and of its pixels, brightness, contrast, saturation and a hash.

Needs no TensorFlow. Pillow's decoders and hashing leave Python to other threads while they work:

    for measures in in_threads(measure_image, contents):
        …
"""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# None that runs another program (EPS) or opens other files, whatever the file name.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
_SIDE = 64  # of the reduced image that is measured: small enough that no resolution shows, twice what the hash needs
_HASHED_SIDE, _FREQUENCIES = 32, 8  # as in pHash
_DIGITS_OF_DIGEST = 32  # 128 bits: two of 2^64 different files are expected to have the same
_TURNED_SIDEWAYS = (5, 6, 7, 8)  # orientations of EXIF that swap width and height
_ITEMS_PER_TASK = 16  # a task costs as much as measuring an image without decoding it
_TASKS_PER_THREAD = 2  # one at work, one ahead; more would fill memory with the bytes of images


class ImageMeasures(NamedTuple):
    """The columns of `Survey.images` that come from the file of an image."""

    width: int = 0
    height: int = 0
    mode: str = ""
    digest: str = ""
    perceptual_hash: str = ""
    brightness: float = math.nan
    contrast: float = math.nan
    saturation: float = math.nan


class UnreadableImage(Exception):
    """Pillow cannot read this image. The message says why."""


def measure_image(content: bytes, *, decode: bool = False, upright: bool = False) -> ImageMeasures:
    """Measures an image.

    Args:
      content: the bytes of its file.
      decode: whether to look at its pixels, too; takes some milliseconds instead of a tenth of one.
      upright: whether to turn it as its EXIF data say, as TensorFlow does not.

    Raises:
      UnreadableImage: it is none of the formats that detectors are trained on, or broken as far as it was read.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        mode, (width, height) = image.mode, image.size
        turned = image.getexif().get(ExifTags.Base.Orientation) if upright else None
        if turned in _TURNED_SIDEWAYS:
            width, height = height, width
        digest = hashlib.sha256(content).hexdigest()[:_DIGITS_OF_DIGEST]
        if not decode:
            return ImageMeasures(width, height, mode, digest)
        reduced = _reduced(image, upright)
    except Exception as error:  # decoders raise almost anything for broken files; it is passed on, not hidden
        raise UnreadableImage(str(error) or type(error).__name__) from error
    if reduced is None:
        return ImageMeasures(width, height, mode, digest)
    # ITU-R BT.601, as in JPEG and in Pillow's mode L.
    luma = reduced @ np.array([0.299, 0.587, 0.114])
    red, green, blue = np.moveaxis(reduced, -1, 0)  # the maximum along a short axis takes NumPy long
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    saturation = (highest - lowest) / np.maximum(highest, 1e-9)  # of HSV; 0 for black
    return ImageMeasures(
        width,
        height,
        mode,
        digest,
        perceptual_hash(luma),
        float(luma.mean()),
        float(luma.std()),
        float(saturation.mean()),
    )


def perceptual_hash(luma: npt.NDArray[np.float64]) -> str:
    """A hash of which few bits change when an image is resized or encoded anew: pHash's of 64 bits.

    The signs of the lowest 8×8 frequencies of a discrete cosine transform of the image in 32×32, against their median
    (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.1.1; as in the
    library ImageHash the frequencies begin with 0).

    Args:
      luma: [64, 64].

    Returns:
      16 hexadecimal digits.
    """
    pixels = luma.reshape(_HASHED_SIDE, 2, _HASHED_SIDE, 2).mean(axis=(1, 3))
    frequencies = _COSINES @ pixels @ _COSINES.T
    bits = (frequencies > np.median(frequencies)).ravel()
    return np.packbits(bits).tobytes().hex()


# [frequency, position] of the discrete cosine transform (II), whose scale is of no consequence to signs.
_COSINES = np.cos(np.pi / _HASHED_SIDE * np.outer(np.arange(_FREQUENCIES), np.arange(_HASHED_SIDE) + 0.5))


def _reduced(image: Image.Image, upright: bool) -> npt.NDArray[np.float64] | None:
    """RGB [64, 64, 3] of an image, 0 to 1; None if the range of its values is unknown (32-bit TIFF).

    Reads a file to its end, so that a truncated one raises.
    """
    image.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded at a fraction of its size, which is faster
    image.load()
    if image.mode.startswith("I;16"):  # as TensorFlow reads it; convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return None
    if upright:
        image = ImageOps.exif_transpose(image)
    reduced = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(reduced, np.float64) / 255


def box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    """The intersection of two boxes over their union; boxes are ymin, xmin, ymax, xmax. 0 if both have no area."""
    height = min(first[2], second[2]) - max(first[0], second[0])
    width = min(first[3], second[3]) - max(first[1], second[1])
    common = max(height, 0.0) * max(width, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (areas - common) if areas > common else 0.0


def in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item], num_threads: int | None = None
) -> Iterator[_Result]:
    """The results of a function for each item, in order, computed in threads.

    Items are taken only a little ahead of the results, so that they need not fit into memory together.

    Args:
      function: what lets other threads work meanwhile: reads files, decodes images.
      items: read by the calling thread.
      num_threads: by default one per processor.
    """
    num_threads = num_threads or _num_processors()
    iterator = iter(items)
    pool = concurrent.futures.ThreadPoolExecutor(num_threads)
    tasks: collections.deque[concurrent.futures.Future[list[_Result]]] = collections.deque()
    try:
        while batch := list(itertools.islice(iterator, _ITEMS_PER_TASK)):
            tasks.append(pool.submit(lambda items: list(map(function, items)), batch))
            if len(tasks) > _TASKS_PER_THREAD * num_threads:
                yield from tasks.popleft().result()
        while tasks:
            yield from tasks.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
