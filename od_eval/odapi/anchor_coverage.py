"""How well the anchors of a config fit the boxes of its data, and which anchors would fit better.

    anchors = anchors_of(config)
    if anchors is not None:
        ious = best_ious(boxes, anchors)

An anchor that matches no box trains nothing; a box that matches no anchor is learned by one that hardly overlaps with
it, or not at all. Nothing is built: where anchors lie follows from the strides of the feature maps.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from object_detection.protos import anchor_generator_pb2, pipeline_pb2
from object_detection.utils import config_util

from od_eval.findings.survey import Survey
from od_eval.odapi.overrides import apply_override

Floats = npt.NDArray[np.float64]

# A share of boxes is known to 0.7 percentage points from so many (the standard error of a half is 0.35).
_MOST_BOXES = 20_000
_MOST_BOXES_OF_SEARCH = 2_000
# Anchors are only suggested if they cover more by this part of all boxes than others that are closer to the config.
_WORTH_A_CHANGE = 0.02

# What is tried. Aspect ratios are width / height; those of objects that are long are added to the ones there are.
_FACTORS_OF_SCALE = (1.0, 0.25, 0.5, 0.75, 1.5, 2.0)
_MIN_SCALES = (0.05, 0.1, 0.15)
_MORE_ASPECT_RATIOS: tuple[tuple[float, ...], ...] = (
    (),
    (3.0, 0.3333),
    (3.0, 5.0),
    (0.3333, 0.2),
    (3.0, 6.0, 12.0),
    (0.3333, 0.1667, 0.0833),
)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Anchors of one shape, at the points of a grid; all in pixels of the model's input.

    Attributes:
      height, width: of an anchor.
      y, x: coordinates of the centers, float64 `[rows]` and `[columns]`, evenly spaced.
    """

    height: float
    width: float
    y: Floats
    x: Floats


@dataclasses.dataclass(frozen=True)
class Anchors:
    """All anchors of a config.

    Attributes:
      grids: one for each level and shape.
      window: height and width of the model's input.
      beyond: what becomes of anchors that reach beyond the window: they are `kept`, `clipped` to it, or `removed`.
    """

    grids: Sequence[Grid]
    window: tuple[int, int]
    beyond: Literal["kept", "clipped", "removed"]


def anchors_of(config: pipeline_pb2.TrainEvalPipelineConfig) -> Anchors | None:
    """The anchors in training, as the Object Detection API generates them.

    Returns:
      None where they cannot be known from the config: the size of the input varies, the strides of the feature maps
      are unknown, or the model has no anchors.
    """
    window = _window(config)
    kind = config.model.WhichOneof("model")
    if window is None or kind not in ("ssd", "faster_rcnn"):
        return None
    if kind == "ssd":
        generator, maps = config.model.ssd.anchor_generator, _maps_of_ssd(config, window)
        beyond: Literal["kept", "clipped", "removed"] = "kept"
    else:
        generator = config.model.faster_rcnn.first_stage_anchor_generator
        maps = _maps_of_faster_rcnn(config, window)
        beyond = "clipped" if config.model.faster_rcnn.clip_anchors_to_image else "removed"
    grids = list(_grids(generator, maps, window, kind == "ssd")) if maps else []
    return Anchors(grids, window, beyond) if grids else None


def _window(config: pipeline_pb2.TrainEvalPipelineConfig) -> tuple[int, int] | None:
    resizer = config_util.get_image_resizer_config(config.model)
    if resizer.HasField("fixed_shape_resizer"):
        return resizer.fixed_shape_resizer.height, resizer.fixed_shape_resizer.width
    if resizer.keep_aspect_ratio_resizer.pad_to_max_dimension:
        return resizer.keep_aspect_ratio_resizer.max_dimension, resizer.keep_aspect_ratio_resizer.max_dimension
    return None


_Maps = dict[int, tuple[int, int]]  # level, log2 of the stride of a feature map -> its rows and columns


def _maps(levels: Sequence[int], window: tuple[int, int], pad_to_multiple: int) -> _Maps:
    """Each layer of stride 2 pads, so that a feature map has the size divided by its stride, rounded up."""
    height, width = (-(-side // max(1, pad_to_multiple)) * max(1, pad_to_multiple) for side in window)
    return {level: (-(-height // 2**level), -(-width // 2**level)) for level in levels}


def _maps_of_ssd(config: pipeline_pb2.TrainEvalPipelineConfig, window: tuple[int, int]) -> _Maps | None:
    extractor = config.model.ssd.feature_extractor
    if extractor.type in ("ssd_mobilenet_v1_keras", "ssd_mobilenet_v2_keras"):
        levels = range(4, 4 + min(6, extractor.num_layers))  # strides of 16 to 512
    elif "bifpn" in extractor.type:
        levels = range(extractor.bifpn.min_level, extractor.bifpn.max_level + 1)
    elif "_fpn" in extractor.type:
        levels = range(extractor.fpn.min_level, extractor.fpn.max_level + 1)
    else:
        return None
    return _maps(levels, window, extractor.pad_to_multiple)


def _maps_of_faster_rcnn(config: pipeline_pb2.TrainEvalPipelineConfig, window: tuple[int, int]) -> _Maps | None:
    extractor = config.model.faster_rcnn.feature_extractor
    if extractor.type.endswith("_fpn_keras"):
        return _maps(range(extractor.fpn.min_level, extractor.fpn.max_level + 1), window, extractor.pad_to_multiple)
    level = {8: 3, 16: 4}.get(extractor.first_stage_features_stride)
    return _maps([level], window, 1) if level else None


def _grids(
    generator: anchor_generator_pb2.AnchorGenerator, maps: _Maps, window: tuple[int, int], knows_size: bool
) -> Iterator[Grid]:
    kind = generator.WhichOneof("anchor_generator_oneof")
    if kind == "multiscale_anchor_generator":
        yield from _multiscale(generator.multiscale_anchor_generator, maps, window, knows_size)
    elif kind == "ssd_anchor_generator":
        yield from _ssd(generator.ssd_anchor_generator, maps, window)
    elif kind == "grid_anchor_generator" and len(maps) == 1:
        grid = generator.grid_anchor_generator
        (rows, columns) = next(iter(maps.values()))
        y = _centers(rows, grid.height_stride, grid.height_offset)
        x = _centers(columns, grid.width_stride, grid.width_offset)
        for scale, ratio in itertools.product(grid.scales, grid.aspect_ratios):
            yield Grid(scale / ratio**0.5 * grid.height, scale * ratio**0.5 * grid.width, y, x)


def _centers(number: int, stride: float, offset: float) -> Floats:
    return np.arange(number, dtype=np.float64) * stride + offset


def _multiscale(generator: Any, maps: _Maps, window: tuple[int, int], knows_size: bool) -> Iterator[Grid]:
    """`MultiscaleGridAnchorGenerator`: of Faster R-CNN, which does not tell it the size, the grid begins at 0."""
    if list(maps) != list(range(generator.min_level, generator.max_level + 1)):
        return
    for level, (rows, columns) in maps.items():
        stride = 2.0**level
        offsets = [stride / 2 if not knows_size or side % stride == 0 else 0.0 for side in window]
        y, x = _centers(rows, stride, offsets[0]), _centers(columns, stride, offsets[1])
        for octave, ratio in itertools.product(range(generator.scales_per_octave), generator.aspect_ratios):
            side = 2 ** (octave / generator.scales_per_octave) * generator.anchor_scale * stride
            yield Grid(side / ratio**0.5, side * ratio**0.5, y, x)


def _ssd(generator: Any, maps: _Maps, window: tuple[int, int]) -> Iterator[Grid]:
    """`create_ssd_anchors`."""
    layers = generator.num_layers
    if layers != len(maps) or layers < 2 or (generator.scales and len(generator.scales) < layers):
        return
    step = (generator.max_scale - generator.min_scale) / (layers - 1)
    scales = [*(generator.scales or [generator.min_scale + step * index for index in range(layers)]), 1.0]
    base_height = generator.base_anchor_height * min(window)
    base_width = generator.base_anchor_width * min(window)
    for layer, (rows, columns) in enumerate(maps.values()):
        strides = [window[0] / rows, window[1] / columns]
        if generator.height_stride:
            strides = [generator.height_stride[layer], generator.width_stride[layer]]
        offsets = [stride / 2 for stride in strides]
        if generator.height_offset:
            offsets = [generator.height_offset[layer], generator.width_offset[layer]]
        y, x = _centers(rows, strides[0], offsets[0]), _centers(columns, strides[1], offsets[1])
        if layer == 0 and generator.reduce_boxes_in_lowest_layer:
            shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        else:
            shapes = [(scales[layer], ratio) for ratio in generator.aspect_ratios]
            if generator.interpolated_scale_aspect_ratio > 0:
                between = (scales[layer] * scales[layer + 1]) ** 0.5
                shapes.append((between, generator.interpolated_scale_aspect_ratio))
        for scale, ratio in shapes:
            yield Grid(scale / ratio**0.5 * base_height, scale * ratio**0.5 * base_width, y, x)


# ---- Matching -------------------------------------------------------------------------------------------------------


def best_ious(boxes: Floats, anchors: Anchors) -> Floats:
    """The IoU of each box with the anchor that fits it best.

    Of anchors of one shape the one fits best whose center is next to that of the box, along each axis by itself. Those
    that are clipped are smaller and may fit better: of them, the one that fits best along each axis is compared, too.
    That is not always the best of them, and so the IoU may be too low by less than 0.01.

    Args:
      boxes: float64 `[boxes, 4]`: ymin, xmin, ymax, xmax in pixels of the model's input.
      anchors: the anchors.

    Returns:
      float64 `[boxes]`.
    """
    best = np.zeros(len(boxes))
    low, high = boxes[:, :2], boxes[:, 2:]
    areas = np.prod(high - low, axis=1)
    for grid in anchors.grids:
        axes = []
        for axis, (centers, side) in enumerate(((grid.y, grid.height), (grid.x, grid.width))):
            axes.append(_along_axis(low[:, axis], high[:, axis], centers, side, anchors.window[axis], anchors.beyond))
        for (overlap_y, side_y), (overlap_x, side_x) in itertools.product(*axes):
            overlap = overlap_y * overlap_x
            best = np.maximum(best, overlap / np.maximum(areas + side_y * side_x - overlap, 1e-12))
    return best


def _along_axis(
    low: Floats, high: Floats, centers: Floats, side: float, window: int, beyond: str
) -> list[tuple[Floats, Floats]]:
    """(overlap, side of the anchor) of each box along an axis, for each of the anchors that may be the best."""
    if beyond == "removed":
        inside = (centers - side / 2 >= 0) & (centers + side / 2 <= window)
        centers = centers[inside]
        if not len(centers):
            return []
    nearest = centers[_nearest((low + high) / 2, centers)]
    if beyond != "clipped":
        return [_overlap(low, high, nearest, side, None)]
    found = [_overlap(low, high, nearest, side, window)]
    clipped = centers[(centers - side / 2 < 0) | (centers + side / 2 > window)]
    if len(clipped):
        overlaps, sides = _overlap(low[:, None], high[:, None], clipped[None], side, window)
        one_dimensional = overlaps / np.maximum((high - low)[:, None] + sides - overlaps, 1e-12)
        fitting = clipped[np.argmax(one_dimensional, axis=1)]
        found.append(_overlap(low, high, fitting, side, window))
    return found


def _overlap(low: Any, high: Any, centers: Any, side: float, window: int | None) -> tuple[Floats, Floats]:
    first, last = centers - side / 2, centers + side / 2
    if window is not None:
        first, last = np.clip(first, 0, window), np.clip(last, 0, window)
    return np.maximum(np.minimum(high, last) - np.maximum(low, first), 0.0), np.broadcast_to(
        last - first, np.shape(first)
    )


def _nearest(values: Floats, centers: Floats) -> npt.NDArray[np.intp]:
    if len(centers) == 1:
        return np.zeros(len(values), np.intp)
    places = np.rint((values - centers[0]) / (centers[1] - centers[0]))
    return np.clip(places, 0, len(centers) - 1).astype(np.intp)


# ---- The boxes of a dataset -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SurveyedBoxes:
    """Boxes at the model's input size.

    Attributes:
      boxes: float64 `[boxes, 4]`: ymin, xmin, ymax, xmax in pixels.
      categories: int64 `[boxes]`: their ids.
    """

    boxes: Floats
    categories: npt.NDArray[np.int64]

    def sample(self, most: int) -> SurveyedBoxes:
        """At most so many of them, always the same."""
        if len(self.boxes) <= most:
            return self
        chosen = np.sort(np.random.default_rng(0).choice(len(self.boxes), most, replace=False))
        return SurveyedBoxes(self.boxes[chosen], self.categories[chosen])


def boxes_at_input_size(survey: Survey, config: pipeline_pb2.TrainEvalPipelineConfig) -> SurveyedBoxes:
    """The boxes that are learned, as large as they are after resizing, without augmentation; of many, a sample."""
    objects = survey.objects
    kept = objects[~objects["crowd"].astype(bool) & (objects["category"] > 0)]
    kept = kept[(kept["ymax"] > kept["ymin"]) & (kept["xmax"] > kept["xmin"])]
    boxes = kept[["ymin", "xmin", "ymax", "xmax"]].to_numpy(np.float64)
    sizes = survey.images[["height", "width"]].to_numpy(np.float64)[kept["image"].to_numpy(np.int64)]
    resizer = config_util.get_image_resizer_config(config.model)
    if resizer.HasField("fixed_shape_resizer"):
        sizes = np.broadcast_to(
            np.array([resizer.fixed_shape_resizer.height, resizer.fixed_shape_resizer.width], np.float64), sizes.shape
        )
        known = np.ones(len(boxes), bool)
    else:
        sides = resizer.keep_aspect_ratio_resizer
        known = (sizes > 0).all(axis=1)
        shortest, longest = np.maximum(sizes.min(axis=1), 1), np.maximum(sizes.max(axis=1), 1)
        factors = np.minimum(sides.min_dimension / shortest, sides.max_dimension / longest)
        sizes = np.rint(sizes * factors[:, None])
    found = SurveyedBoxes(
        (boxes * np.concatenate([sizes, sizes], axis=1))[known], kept["category"].to_numpy(np.int64)[known]
    )
    return found.sample(_MOST_BOXES)


# ---- Better anchors -------------------------------------------------------------------------------------------------


def better_anchors(
    boxes: SurveyedBoxes, config: pipeline_pb2.TrainEvalPipelineConfig, iou: float
) -> tuple[tuple[str, ...], float] | None:
    """The anchors that leave the fewest boxes below an IoU, among those that a few changes to the config give.

    Of those that are about as good, the ones of the fewest changes.

    Returns:
      What to pass to `--set`, and the share of boxes that is left; None if nothing that is tried is better.
    """
    sample = boxes.sample(_MOST_BOXES_OF_SEARCH)
    tried = []
    for settings in _changes(config):
        changed = pipeline_pb2.TrainEvalPipelineConfig()
        changed.CopyFrom(config)
        for setting in settings:
            apply_override(changed, setting)
        anchors = anchors_of(changed)
        if anchors is not None:
            left = float(np.mean(best_ious(sample.boxes, anchors) < iou))
            tried.append((left, len(anchors.grids), settings, anchors))
    if not tried:
        return None
    enough = min(left for left, *_ in tried) + _WORTH_A_CHANGE
    _, _, settings, anchors = min(
        (one for one in tried if one[0] <= enough), key=lambda one: (len(one[2]), one[1], one[0])
    )
    return (settings, float(np.mean(best_ious(boxes.boxes, anchors) < iou))) if settings else None


def _changes(config: pipeline_pb2.TrainEvalPipelineConfig) -> Iterator[tuple[str, ...]]:
    """Sets of overrides to try; the first changes nothing."""
    if config.model.WhichOneof("model") == "ssd":
        generator, where = config.model.ssd.anchor_generator, "model.ssd.anchor_generator"
    else:
        generator = config.model.faster_rcnn.first_stage_anchor_generator
        where = "model.faster_rcnn.first_stage_anchor_generator"
    kind = generator.WhichOneof("anchor_generator_oneof")
    settings: Any = getattr(generator, kind)
    where = f"{where}.{kind}"
    if kind == "multiscale_anchor_generator":
        scales = [_assign(where, "anchor_scale", settings.anchor_scale * factor) for factor in _FACTORS_OF_SCALE]
    elif kind == "grid_anchor_generator":
        scales = [
            _assign(where, "scales", [scale * factor for scale in settings.scales]) for factor in _FACTORS_OF_SCALE
        ]
    elif settings.scales:
        scales = [()]
    else:
        smaller = [scale for scale in _MIN_SCALES if scale < settings.min_scale]
        # The first layer has an anchor of 0.1 whatever min_scale is, unless it has all of them.
        whole = _assign(where, "reduce_boxes_in_lowest_layer", "false") if settings.reduce_boxes_in_lowest_layer else ()
        scales = [(), *[(*_assign(where, "min_scale", scale), *whole) for scale in smaller]]
    scales[0] = ()
    for scale, more in itertools.product(scales, _MORE_ASPECT_RATIOS):
        present = list(settings.aspect_ratios)
        added = [ratio for ratio in more if all(abs(ratio - other) > 0.01 for other in present)]
        if bool(added) == bool(more):
            yield (*scale, *(_assign(where, "aspect_ratios", [*present, *added]) if added else ()))


def _assign(where: str, name: str, value: float | str | Sequence[float]) -> tuple[str, ...]:
    if isinstance(value, str):
        return (f"{where}.{name}={value}",)
    if isinstance(value, Sequence):
        return (f"{where}.{name}=[{', '.join(f'{one:.4g}' for one in value)}]",)
    return (f"{where}.{name}={value:.4g}",)
