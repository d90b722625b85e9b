"""Labels and scores of the pixels of a batch of images, in the form a `SegmentationEvaluator` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

# One entry per image: an array, or anything that NumPy can convert to one, such as a tensor.
PerImage = npt.NDArray[Any] | Sequence[Any]


@dataclasses.dataclass(frozen=True)
class SegmentationBatch:
    """A batch of images of an evaluation set: what each pixel is, and what the model takes it for.

    A class is the index of a category among the sorted ids in `scores`, and the id itself in `labels`. The predicted
    class of a pixel is that with the highest score, the first of equals.

    Attributes:
      image_ids: one int or str per image, unique within an evaluation.
      labels: int `[batch, height, width]`, or a sequence of `[height, width]` where images differ in size: ids of
        categories, or the `ignore_label` of the evaluation.
      scores: float `[batch, height, width, classes]`, or a sequence of `[height, width, classes]`: probabilities, from
        0 to 1, at the size of the labels.
      losses: the losses of the batch by name, each averaged over its images.
      images: uint8 `[height, width, 3]` each, of any size, for pictures; may hold only the first images.
    """

    image_ids: Sequence[int | str]
    labels: PerImage
    scores: PerImage
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    images: PerImage = ()
