"""What to evaluate and what to show of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

BOX_FORMATS = ("yxyx", "xyxy", "xywh", "rel_yxyx", "rel_xyxy", "rel_xywh")


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate and what to show of it. A `Detector` has those of its pipeline.config.

    Attributes:
      categories: id -> name, of every class.
      box_format: `yxyx` (ymin, xmin, ymax, xmax), `xyxy` or `xywh` (xmin, ymin, width, height) in pixels of the image;
        with `rel_` before it relative to the image, from 0 to 1.
      masks: whether to evaluate masks as well.
      super_categories: name -> names of the categories whose metrics are averaged under it.
      per_category: what TensorBoard shows of each category: its AP, all twelve numbers, or nothing. Files hold all.
      num_pictures: the first so many images are shown with detections and ground truth.
      max_boxes: in a picture, the detections with the highest scores.
      min_score: of detections in a picture.
      show_groundtruth_boxes: whether ground truth is drawn into the picture of the detections, too; beside it it always
        is.
      groundtruth_color: of these, a name or #rrggbb.
      show_scores, show_labels: what is written at a detection.
      keypoint_edges: pairs of keypoints to connect.
      pictures_dir: a folder for these pictures as PNG files.
      save_detections: whether ground truth and detections are written in COCO format.
    """

    categories: Mapping[int, str]
    box_format: str = "yxyx"
    masks: bool = False
    super_categories: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    per_category: Literal["AP", "all", "none"] = "AP"
    num_pictures: int = 10
    max_boxes: int = 20
    min_score: float = 0.5
    show_groundtruth_boxes: bool = False
    groundtruth_color: str = "black"
    show_scores: bool = True
    show_labels: bool = True
    keypoint_edges: Sequence[tuple[int, int]] = ()
    pictures_dir: str | None = None
    save_detections: bool = False
