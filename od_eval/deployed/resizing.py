"""Resizes images as the Object Detection API does for a model's input, without TensorFlow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def resized(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.float32]:
    """An image as `fixed_shape_resizer` resizes it: bilinear, with corners of pixels, not their centers, on each other.

    That is `tf.compat.v1.image.resize_bilinear`: the pixel i of the result is taken at i · old size ÷ new size.

    Args:
      image: uint8 `[old height, old width, channels]`.
      height, width: the new size.

    Returns:
      float32 `[height, width, channels]`, from 0 to 255.
    """
    top, bottom, down = _places(image.shape[0], height)
    left, right, across = _places(image.shape[1], width)
    # Rows first: of a large image only those needed become floats.
    rows = np.stack([image[top], image[bottom]]).astype(np.float32)
    columns = rows[:, :, left] + (rows[:, :, right] - rows[:, :, left]) * across[:, np.newaxis]
    result: npt.NDArray[np.float32] = columns[0] + (columns[1] - columns[0]) * down[:, np.newaxis, np.newaxis]
    return result


def _places(old: int, new: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each pixel of the new side: the pixels of the old one before and after it, and how far it is between them."""
    place = np.arange(new, dtype=np.float32) * np.float32(old / new)
    before = np.floor(place).astype(np.int64)
    return before, np.minimum(before + 1, old - 1), place - before.astype(np.float32)
