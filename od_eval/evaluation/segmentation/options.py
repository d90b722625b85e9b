"""What to evaluate of a semantic segmentation, and what to show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal


@dataclasses.dataclass(frozen=True)
class SegmentationOptions:
    """What to evaluate of a semantic segmentation, and what to show.

    Attributes:
      categories: id -> name, of every class, also of the background if labels have it. Ids are those of the labels;
        they may begin at 0, and need not be contiguous. The last axis of scores follows the sorted ids.
      ignore_label: the label of pixels that nobody has to get right (255, for example); None if there is none.
      from_logits: whether the model returns logits, of which a softmax is taken, or probabilities.
      per_category: what TensorBoard shows for each category: its IoU, all its metrics, or nothing. Files hold all.
      num_pictures: the number of images, first ones and worst ones each, that are shown; with 0 there are no plots
        either.
      max_megabytes: how much room the files of the analyses of a run may take, in 10⁶ bytes.
    """

    categories: Mapping[int, str]
    ignore_label: int | None = None
    from_logits: bool = True
    per_category: Literal["IoU", "all", "none"] = "IoU"
    num_pictures: int = 8
    max_megabytes: float = 500
