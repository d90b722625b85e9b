"""What to evaluate and what to show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from od_eval.errors import ODEvalError

BOX_FORMATS = ("yxyx", "xyxy", "xywh", "rel_yxyx", "rel_xyxy", "rel_xywh")


# The size ranges of every analysis, see `od_eval.evaluation.analyses.sizes`; `segm` is where those of masks are.
_BY_PERCENTILE = ("smallest", "small", "medium", "large", "corrected")
SIZE_RANGES = ("all", *_BY_PERCENTILE, "coco_small", "coco_medium", "coco_large", "segm")


@dataclasses.dataclass(frozen=True)
class AnalysisOptions:
    """How errors are analysed.

    Attributes:
      confidence: the operating point: detections with this score or more are used. By default it is chosen.
      f_beta: it is chosen by the highest F-beta, in which recall counts `f_beta` times as much as precision.
      cost_fp, cost_fn: if both are given, it is chosen by the lowest cost instead: of a wrong detection, and of a
        missed object.
      size_ranges: name -> least and largest area in pixels, further ranges in which AP and recall are told.
      save_examples: whether pictures of errors are also written as PNG files, into `analysis/step-…/errors`.
      max_megabytes: how much room the files of the analyses of a run may take, in 10⁶ bytes.

    Raises:
      ODEvalError: a value makes no sense.
    """

    confidence: float | None = None
    f_beta: float = 1.0
    cost_fp: float | None = None
    cost_fn: float | None = None
    size_ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    save_examples: bool = False
    max_megabytes: float = 500

    def __post_init__(self) -> None:
        if self.confidence is not None and not math.isfinite(self.confidence):
            raise ODEvalError(f"the confidence {self.confidence} is no score; give one, such as 0.5.")
        if not 0 < self.f_beta < math.inf:
            raise ODEvalError(f"f_beta is {self.f_beta}; give a number above 0: 1 for F1, 2 to count recall twice.")
        costs = (self.cost_fp, self.cost_fn)
        if costs != (None, None) and not all(cost is not None and 0 <= cost < math.inf for cost in costs):
            raise ODEvalError(
                f"cost_fp is {self.cost_fp} and cost_fn {self.cost_fn}; give both, each a number of 0 or more."
            )
        if not self.max_megabytes >= 0:
            raise ODEvalError(f"analyses may take {self.max_megabytes} MB; give a number of 0 or more.")
        for name, (low, high) in self.size_ranges.items():
            if name in SIZE_RANGES or not name:
                raise ODEvalError(
                    f"the size range '{name}' has no name, or one that is taken ({', '.join(SIZE_RANGES)}); give it"
                    " another."
                )
            if not 0 <= low <= high < math.inf:
                raise ODEvalError(
                    f"the size range '{name}' goes from {low:g} to {high:g}; give the least and the largest area in"
                    " pixels, 0 or more, the least first."
                )


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate and what to show. A `Detector` takes them from its pipeline.config.

    Attributes:
      categories: id -> name, of every class.
      box_format: `yxyx` (ymin, xmin, ymax, xmax), `xyxy` or `xywh` (xmin, ymin, width, height) in pixels of the image;
        with the prefix `rel_` relative to the image, from 0 to 1.
      masks: whether to evaluate masks as well.
      super_categories: name -> names of the categories over which its metrics are averaged.
      per_category: what TensorBoard shows for each category: its AP, all twelve metrics, or nothing. Files hold all.
      num_pictures: the number of images, from the first on, that are shown with detections and ground truth; with 0
        there are no pictures of errors and no plots either.
      max_boxes: the maximum number of detections in a picture; those with the highest scores are shown.
      min_score: the minimum score of detections in a picture. Early in training few have more than 0.3.
      show_groundtruth_boxes: whether ground truth is also drawn into the picture of the detections; the picture next to
        it always shows ground truth.
      groundtruth_color: the color of these ground truth boxes, a name or #rrggbb.
      show_scores, show_labels: what is written next to a detection.
      keypoint_edges: pairs of keypoints to connect.
      pictures_dir: a folder for these pictures as PNG files.
      save_detections: whether ground truth and detections are written in COCO format.
      analysis: how errors are analysed; None for not at all.
      loss_formulas: native loss name -> how the model computes it, to be printed after the first evaluation.
    """

    categories: Mapping[int, str]
    box_format: str = "yxyx"
    masks: bool = False
    super_categories: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    per_category: Literal["AP", "all", "none"] = "AP"
    num_pictures: int = 10
    max_boxes: int = 20
    min_score: float = 0.3
    show_groundtruth_boxes: bool = False
    groundtruth_color: str = "black"
    show_scores: bool = True
    show_labels: bool = True
    keypoint_edges: Sequence[tuple[int, int]] = ()
    pictures_dir: str | None = None
    save_detections: bool = False
    analysis: AnalysisOptions | None = dataclasses.field(default_factory=AnalysisOptions)
    loss_formulas: Mapping[str, str] = dataclasses.field(default_factory=dict)


def check_categories(categories: Mapping[int, str], super_categories: Mapping[str, Sequence[str]]) -> None:
    """Whether there are categories, each has a name of its own, and super categories have no other members.

    Raises:
      ODEvalError: it is not so.
    """
    if not categories:
        raise ODEvalError("there are no categories to evaluate; name at least one class in the label map.")
    first_id: dict[str, int] = {}
    for id, name in categories.items():
        if name in first_id:
            raise ODEvalError(
                f"the categories {first_id[name]} and {id} have the same name '{name}'; give each a name of its own."
            )
        first_id[name] = id
    for super_category, members in super_categories.items():
        for name in members:
            if name not in first_id:
                raise ODEvalError(
                    f"super category '{super_category}' has the member '{name}', which is not one of the categories"
                    f" ({', '.join(first_id)}); correct the name, or leave it out."
                )
