"""Masks relative to their boxes, as a SavedModel returns them, in their image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from object_detection.utils import ops


def masks_of_image(masks: npt.NDArray[Any], boxes: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Masks of an image, as the Object Detection API's evaluation makes them of those relative to their boxes.

    Args:
      masks: float `[n, mask height, mask width]`, from 0 to 1.
      boxes: `[n, 4]`, `yxyx`, relative to the image.
      size: height and width of the image in pixels.

    Returns:
      `[n, height, width]`, 0 or 1.
    """
    of_image = ops.reframe_box_masks_to_image_masks(masks, boxes, *size)
    return (of_image.numpy() > 0.5).astype(np.uint8)
