"""The results of a segmentation, image by image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class SegmentedImages:
    """The results of a segmentation: an entry per image in each column.

    Attributes:
      ids: their ids.
      pixels: int64, the number of pixels that count: without ignored ones.
      wrong: int64, how many of them are taken for another class.
      iou: float64, the mean IoU of the classes in the image; NaN if no pixel counts.
      worst_class: int64, the index (among the sorted ids of the categories) of the class with the most pixels that are
        taken for another class; -1 if no pixel is wrong.
    """

    ids: Sequence[int | str]
    pixels: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]
    worst_class: npt.NDArray[np.int64]

    @property
    def pixel_accuracy(self) -> npt.NDArray[np.float64]:
        """float64, the part of the pixels that is right; NaN if no pixel counts."""
        with np.errstate(invalid="ignore"):
            return 1 - self.wrong / self.pixels

    def worst_first(self) -> npt.NDArray[Any]:
        """int64, the indices of the images by the part of their pixels that is wrong; images of no pixel last."""
        return np.argsort(self.pixel_accuracy, kind="stable")  # NaN comes last
