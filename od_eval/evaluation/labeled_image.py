"""An image with its objects, before any model has seen it."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from od_eval.evaluation.batch import GroundTruth
from od_eval.evaluation.columns import ImageId


@dataclasses.dataclass
class LabeledImage:
    """An image with its objects.

    Attributes:
      id: as the data have it; of records, those of several images may be the same.
      image: uint8 `[height, width, 3]`, RGB.
      size: height and width in pixels that the boxes refer to; those of `image`, or of the image that was annotated.
      objects: a batch of one image, boxes `yxyx`.
    """

    id: ImageId
    image: npt.NDArray[np.uint8]
    size: tuple[int, int]
    objects: GroundTruth
