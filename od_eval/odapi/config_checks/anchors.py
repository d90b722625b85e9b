"""Checks that the anchors of a model fit the boxes of its training data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from object_detection.protos import pipeline_pb2

from od_eval.findings.finding import Finding
from od_eval.odapi.anchor_coverage import SurveyedBoxes, anchors_of, best_ious, better_anchors, boxes_at_input_size
from od_eval.odapi.config_checks import SurveyedData, runs_at
from od_eval.text import named

# Of Faster R-CNN, whose matcher asks for 0.7, which most boxes of any data miss: its second stage begins at 0.5.
_IOU_OF_PROPOSALS = 0.5
# One box in five, as far as chance allows to say so, and only where other anchors would leave at most half of them.
# Anchors for COCO leave about as many of COCO's small objects.
_HIGHEST_SHARE = 0.2
_BETTER_BY = 0.5
# Of a category whose boxes the whole does not show: most of them, and enough of them to say so.
_HIGHEST_SHARE_OF_CATEGORY = 0.5
_FEWEST_BOXES_OF_CATEGORY = 20
_SMALL, _MEDIUM = 32**2, 96**2  # pixels, of COCO's sizes, but at the model's input size
_Z = 1.96  # of a confidence of 95%


@runs_at("data")
def anchors_against_boxes(data: SurveyedData) -> Iterator[Finding]:
    """Most boxes overlap with an anchor well enough to be matched, all in all and in each category."""
    anchors, iou = anchors_of(data.config), _iou_of_matcher(data.config)
    boxes = boxes_at_input_size(data.train, data.config) if anchors and iou else None
    if anchors is None or iou is None or boxes is None or not len(boxes.boxes):
        return
    missed = best_ious(boxes.boxes, anchors) < iou
    if _at_least(missed) > _HIGHEST_SHARE:
        yield from _finding(data, boxes, missed, iou, "")
        return
    worst = []
    for category in np.unique(boxes.categories):
        of_category = boxes.categories == category
        if of_category.sum() >= _FEWEST_BOXES_OF_CATEGORY and _at_least(missed[of_category]) > (
            _HIGHEST_SHARE_OF_CATEGORY
        ):
            worst.append((float(missed[of_category].mean()), category))
    for _, category in sorted(worst, reverse=True)[:1]:
        chosen = boxes.categories == category
        name = named(data.train.categories.get(int(category), str(category)))
        found = SurveyedBoxes(boxes.boxes[chosen], boxes.categories[chosen])
        yield from _finding(data, found, missed[chosen], iou, f" of '{name}'", len(worst) - 1)


def _finding(
    data: SurveyedData,
    boxes: SurveyedBoxes,
    missed: npt.NDArray[np.bool_],
    iou: float,
    whose: str,
    other_categories: int = 0,
) -> Iterator[Finding]:
    share = float(missed.mean())
    better = better_anchors(boxes, data.config, iou)
    if better is None or better[1] > _BETTER_BY * share:
        return
    settings, left = better
    also = f" (and most of {other_categories} more categories)" if other_categories else ""
    yield Finding(
        "anchors_miss_boxes",
        "warning",
        data.train.name,
        f"{share:.0%} of {len(missed)} boxes{whose}{also} overlap with no anchor by an IoU of {iou:g} at the size"
        f" of the model's input ({_by_size(boxes, missed)})",
        f"change the anchors: with {' and '.join(settings)}, {left:.0%} do",
        cause="so that they are learned by one anchor each, which hardly fits"
        if _is_forced(data.config)
        else "so that no anchor learns them",
        field=settings[0].partition("=")[0],
        evidence={
            "boxes": len(missed),
            "share": round(share, 4),
            "iou": iou,
            "share_with_settings": round(left, 4),
            "by_category": _by_category(data, boxes, missed),
        },
        sureness="likely",
        settings=settings,
        impact=share,
    )


def _iou_of_matcher(config: pipeline_pb2.TrainEvalPipelineConfig) -> float | None:
    """The IoU from which a box is matched; None if the matcher asks for none."""
    if config.model.WhichOneof("model") == "faster_rcnn":
        return _IOU_OF_PROPOSALS
    matcher = config.model.ssd.matcher
    if not matcher.HasField("argmax_matcher") or matcher.argmax_matcher.ignore_thresholds:
        return None
    return round(matcher.argmax_matcher.matched_threshold, 6)


def _is_forced(config: pipeline_pb2.TrainEvalPipelineConfig) -> bool:
    """Whether a box gets its best anchor in any case; Faster R-CNN's first stage always does so."""
    ssd = config.model.ssd
    return config.model.WhichOneof("model") != "ssd" or ssd.matcher.argmax_matcher.force_match_for_each_row


def _at_least(missed: npt.NDArray[np.bool_]) -> float:
    """The lower end of Wilson's interval of a share (Wilson 1927)."""
    n, share = len(missed), float(missed.mean())
    middle = share + _Z**2 / (2 * n)
    return float((middle - _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))) / (1 + _Z**2 / n))


def _by_size(boxes: SurveyedBoxes, missed: npt.NDArray[np.bool_]) -> str:
    areas = np.prod(boxes.boxes[:, 2:] - boxes.boxes[:, :2], axis=1)
    size = np.digitize(areas, [_SMALL, _MEDIUM])
    return ", ".join(
        f"{missed[size == index].mean():.0%} of {(size == index).sum()} {name} ones"
        for index, name in enumerate(("small", "medium", "large"))
        if (size == index).any()
    )


def _by_category(data: SurveyedData, boxes: SurveyedBoxes, missed: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Name -> share of its boxes, the highest first."""
    shares = {
        data.train.categories.get(int(category), str(category)): round(
            float(missed[boxes.categories == category].mean()), 4
        )
        for category in np.unique(boxes.categories)
    }
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
