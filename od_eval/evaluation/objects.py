"""Ground truth or detections of an evaluation as arrays with a row per object."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Objects:
    """Ground truth or detections of all images: one row per object, in ascending order of images.

    image: int `[n]`, the index of the object's image.
    category: int `[n]`, the index of the object's category.
    box: float64 `[n, 4]`: xmin, ymin, width, height.
    area: float64 `[n]`.
    score: float64 `[n]`, for detections.
    crowd, difficult: bool `[n]`, for ground truth.
    masks: COCO RLEs, if masks are evaluated.
    mask_area: float64 `[n]`, the number of pixels of each mask. `area` may be another, which an annotation gives.
    """

    image: npt.NDArray[np.integer[Any]]
    category: npt.NDArray[np.integer[Any]]
    box: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64] | None = None
    crowd: npt.NDArray[np.bool_] | None = None
    difficult: npt.NDArray[np.bool_] | None = None
    masks: list[Any] | None = None
    mask_area: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.image)

    def rows(self, rows: npt.NDArray[np.integer[Any]]) -> Objects:
        """The objects in these rows."""
        columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        of_rows: dict[str, Any] = {
            name: [column[row] for row in rows]
            if isinstance(column, list)
            else None
            if column is None
            else column[rows]
            for name, column in columns.items()
        }
        return Objects(**of_rows)
