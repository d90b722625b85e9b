"""Detections of many images as columns, as fast readers of files have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from od_eval.evaluation.batch import Detections, RowsByImage
from od_eval.evaluation.columns import ImageId


@dataclasses.dataclass(frozen=True)
class DetectionRows:
    """Detections, one row each.

    Attributes:
      image: int64 `[n]`, the index of the row's image among the images of the ground truth.
      category: int64 `[n]`, the id of its category.
      box: float64 `[n, 4]`: x, y, width, height in pixels.
      score: float64 `[n]`.
    """

    image: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    box: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: Any) -> DetectionRows:
        return DetectionRows(self.image[rows], self.category[rows], self.box[rows], self.score[rows])

    @staticmethod
    def concatenated(parts: Sequence[DetectionRows]) -> DetectionRows:
        """The rows of all parts."""
        parts = [DetectionRows(*(np.empty(0, np.int64),) * 2, np.empty((0, 4)), np.empty(0)), *parts]
        names = [field.name for field in dataclasses.fields(DetectionRows)]
        return DetectionRows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def by_image(self, images: npt.NDArray[np.int64]) -> Detections:
        """The detections as those of images, to which all belong.

        Args:
          images: indices in ascending order. The rows of an image keep their order.
        """
        rows = self
        if np.any(self.image[1:] < self.image[:-1]):
            rows = self[np.argsort(self.image, kind="stable")]
        bounds = np.append(np.searchsorted(rows.image, images), len(rows))
        area = rows.box[:, 2] * rows.box[:, 3]
        boxes, scores, classes, areas = (
            RowsByImage(column, bounds) for column in (rows.box, rows.score, rows.category, area)
        )
        return Detections(boxes=boxes, scores=scores, classes=classes, area=areas)


def arrow_ids(images: Mapping[ImageId, Any]) -> pa.Array | None:
    """The ids of the images, int64 or string; None if they are not of one kind that Arrow has."""
    kinds = {type(id) for id in images}
    if kinds not in ({int}, {str}):
        return None
    try:
        return pa.array(list(images), pa.int64() if kinds == {int} else pa.string())
    except (OverflowError, UnicodeEncodeError, pa.ArrowException):  # beyond int64; half a character
        return None
