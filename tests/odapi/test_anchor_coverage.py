"""Anchors against boxes: compared with the Object Detection API's own, and what is said of them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from surveyed import survey

from od_eval import Pipeline
from od_eval.odapi import config_checks
from od_eval.odapi.anchor_coverage import anchors_of, best_ious, boxes_at_input_size
from od_eval.odapi.config_checks import SurveyedData
from od_eval.odapi.config_facts import config_facts

# Importable since od_eval.odapi was imported.
from object_detection.builders import anchor_generator_builder  # isort: skip
from object_detection.core import box_list_ops  # isort: skip

CONFIGS = Path(__file__).parents[2] / "pipeline_configs"
ZOO = Path(__file__).parents[1] / "data" / "zoo_configs"
FPN = ZOO / "ssd_mobilenet_v1_fpn_640x640_coco17_tpu-8.config"
SSD = CONFIGS / "ssd_mobilenet_v2_raccoon_224x224.config"
FASTER_RCNN = ZOO / "faster_rcnn_resnet50_v1_640x640_coco17_tpu-8.config"
FIXED = "model.ssd.image_resizer={fixed_shape_resizer {height: %d width: %d}}"


def boxes_of_all_kinds(number, window, seed=0):
    """float64 [number, 4] in pixels; sides from 3 to 95% of the window's."""
    random = np.random.default_rng(seed)
    sides = np.exp(random.uniform(np.log(0.03), np.log(0.95), (number, 2)))
    centers = random.uniform(sides / 2, 1 - sides / 2)
    return np.concatenate([centers - sides / 2, centers + sides / 2], axis=1) * [*window, *window]


def anchors_of_the_api(config, shapes):
    """float64 [anchors, 4] in pixels, of feature maps of these shapes, as they are in training."""
    height, width = anchors_of(config).window
    if config.model.HasField("ssd"):
        generator = anchor_generator_builder.build(config.model.ssd.anchor_generator)
        boxes = box_list_ops.concatenate(generator.generate(shapes, im_height=height, im_width=width)).get()
        return boxes.numpy() * [height, width, height, width]
    generator = anchor_generator_builder.build(config.model.faster_rcnn.first_stage_anchor_generator)
    boxes = box_list_ops.concatenate(generator.generate(shapes))
    window = tf.constant([0, 0, height, width], tf.float32)
    if config.model.faster_rcnn.clip_anchors_to_image:
        boxes = box_list_ops.clip_to_window(boxes, window, filter_nonoverlapping=False)
    else:
        boxes, _ = box_list_ops.prune_outside_window(boxes, window)
    return boxes.get().numpy().astype(np.float64)


def all_ious(boxes, anchors):
    corners = np.maximum(boxes[:, None, :2], anchors[:, :2]), np.minimum(boxes[:, None, 2:], anchors[:, 2:])
    overlap = np.prod(np.maximum(corners[1] - corners[0], 0), axis=-1)
    areas = [np.prod(some[:, 2:] - some[:, :2], axis=-1) for some in (boxes, anchors)]
    return overlap / (areas[0][:, None] + areas[1] - overlap)


@pytest.mark.parametrize(
    ("path", "overrides", "shapes"),
    [
        (FPN, [], [(80, 80), (40, 40), (20, 20), (10, 10), (5, 5)]),
        (FPN, [FIXED % (200, 330)], [(25, 42), (13, 21), (7, 11), (4, 6), (2, 3)]),
        (SSD, [], [(14, 14), (7, 7), (4, 4), (2, 2), (1, 1), (1, 1)]),
        (SSD, [FIXED % (300, 500)], [(19, 32), (10, 16), (5, 8), (3, 4), (2, 2), (1, 1)]),
        (FASTER_RCNN, [], [(40, 40)]),
        (FASTER_RCNN, ["model.faster_rcnn.clip_anchors_to_image=false"], [(40, 40)]),
        (
            ZOO / "faster_rcnn_resnet50_v1_fpn_640x640_coco17_tpu-8.config",
            ["model.faster_rcnn.image_resizer={fixed_shape_resizer {height: 256 width: 256}}"],
            [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)],
        ),
    ],
)
def test_the_best_anchor_is_that_of_the_object_detection_api(path, overrides, shapes):
    config = Pipeline.load(path, overrides).config
    anchors = anchors_of(config)
    assert list(dict.fromkeys((len(grid.y), len(grid.x)) for grid in anchors.grids)) == list(dict.fromkeys(shapes))
    boxes = boxes_of_all_kinds(60, anchors.window)
    expected = all_ious(boxes, anchors_of_the_api(config, shapes)).max(axis=1)
    assert best_ious(boxes, anchors) == pytest.approx(expected, abs=0.01 if anchors.beyond == "clipped" else 1e-5)
    assert np.mean(np.abs(best_ious(boxes, anchors) - expected) < 1e-5) > 0.95


@pytest.mark.parametrize(
    ("path", "overrides"),
    [
        (ZOO / "centernet_hourglass104_512x512_coco17_tpu-8.config", []),  # has no anchors
        (FPN, ["model.ssd.image_resizer={keep_aspect_ratio_resizer {min_dimension: 300 max_dimension: 500}}"]),
        (FPN, ["model.ssd.feature_extractor.fpn.max_level=6"]),  # with anchors of another number of levels
        (FPN, ["model.ssd.feature_extractor.fpn=", "model.ssd.feature_extractor.type=ssd_mobilenet_v2_keras"]),
    ],
)
def test_anchors_that_the_config_does_not_tell_are_unknown(path, overrides):
    assert anchors_of(Pipeline.load(path, overrides).config) is None


def test_fifty_thousand_boxes_take_less_than_two_seconds():
    anchors = anchors_of(Pipeline.load(FPN).config)
    boxes = boxes_of_all_kinds(50_000, anchors.window)
    begin = time.process_time()
    best_ious(boxes, anchors)
    assert time.process_time() - begin < 2


def test_boxes_are_as_large_as_the_resizer_makes_them():
    data = survey(
        [(0, 1, 0.25, 0.5, 0.75, 1.0), (1, 1, 0.5, 0.5, 0.5, 0.9), (1, 0, 0.1, 0.1, 0.2, 0.2)], size=(400, 800)
    )
    fixed = Pipeline.load(FPN, [FIXED % (100, 300)]).config
    assert boxes_at_input_size(data, fixed).boxes.tolist() == [[25, 150, 75, 300]]
    sides = "min_dimension: 100 max_dimension: 160 pad_to_max_dimension: true"
    keep = Pipeline.load(FPN, [f"model.ssd.image_resizer={{keep_aspect_ratio_resizer {{{sides}}}}}"]).config
    # 400x800 becomes 80x160, as 100x200 would be too wide.
    assert boxes_at_input_size(data, keep).boxes.tolist() == [[20, 80, 60, 160]]


# ---- What is said ---------------------------------------------------------------------------------------------------


def found(path, data, *overrides):
    pipeline = Pipeline.load(path, overrides)
    data = SurveyedData(pipeline.config, pipeline.source, config_facts(pipeline), data)
    return [one for one in config_checks.findings("data", data) if one.kind == "anchors_miss_boxes"]


def objects(number, height, width, *, category=1, seed=0, row=0):
    """Objects of about this size, as parts of the image, anywhere."""
    random = np.random.default_rng(seed)
    sides = np.minimum(np.array([height, width]) * np.exp(random.normal(0, 0.1, (number, 2))), 0.99)
    corners = random.uniform(0, 1 - sides)
    return [
        (row + index // 5, category, *corner, *(corner + side))
        for index, (corner, side) in enumerate(zip(corners, sides, strict=True))
    ]


def test_boxes_that_are_smaller_than_all_anchors_are_found_and_other_anchors_cover_them():
    small = survey(objects(400, 0.03, 0.03), size=(640, 640))  # 19 pixels; the smallest anchor has 32
    [finding] = found(FPN, small)
    assert (finding.severity, finding.sureness) == ("warning", "likely")
    assert "of 400 boxes overlap with no anchor by an IoU of 0.5 at the size of the model's input (" in str(finding)
    assert "of 400 small ones" in str(finding)
    assert "learned by one anchor each" in str(finding)
    pipeline = Pipeline.load(FPN, finding.settings)
    boxes = boxes_at_input_size(small, pipeline.config).boxes
    left = np.mean(best_ious(boxes, anchors_of(pipeline.config)) < 0.5)
    assert left == pytest.approx(finding.evidence["share_with_settings"], abs=1e-4)
    assert left <= finding.evidence["share"] / 2
    assert found(FPN, small, *finding.settings) == []


def test_without_a_match_for_each_box_none_of_them_is_learned():
    [finding] = found(
        FPN,
        survey(objects(400, 0.03, 0.03), size=(640, 640)),
        "model.ssd.matcher.argmax_matcher.force_match_for_each_row=false",
    )
    assert "so that no anchor learns them" in str(finding)


def test_long_boxes_get_aspect_ratios():
    [finding] = found(FPN, survey(objects(400, 0.5, 0.09), size=(640, 640)))
    assert any("aspect_ratios=" in setting for setting in finding.settings)
    assert found(FPN, survey(objects(400, 0.5, 0.09), size=(640, 640)), *finding.settings) == []


@pytest.mark.parametrize("path", [FPN, SSD, FASTER_RCNN])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_of_usual_sizes_and_shapes_are_none_to_tell_of(path, seed):
    random = np.random.default_rng(seed)
    usual = []
    for row in range(100):
        for side, ratio in zip(random.uniform(0.15, 0.8, 3), np.exp(random.normal(0, 0.35, 3)), strict=True):
            height, width = min(side / ratio**0.5, 0.95), min(side * ratio**0.5, 0.95)
            y, x = random.uniform(0, 1 - height), random.uniform(0, 1 - width)
            usual.append((row, 1, y, x, y + height, x + width))
    assert found(path, survey(usual)) == []


def test_a_few_boxes_that_happen_to_fit_badly_are_chance():
    assert found(FPN, survey(objects(3, 0.03, 0.03) + objects(5, 0.3, 0.3, row=1))) == []


def test_a_category_that_the_whole_does_not_show_is_named():
    data = survey(
        [*objects(1000, 0.3, 0.3), *objects(40, 0.6, 0.05, category=2, row=200)],
        categories=("cat", "pole"),
        size=(640, 640),
    )
    [finding] = found(FPN, data)
    assert "of 40 boxes of 'pole' overlap with no anchor" in str(finding)
    few = survey([*objects(1000, 0.3, 0.3), *objects(19, 0.6, 0.05, category=2, row=200)], categories=("cat", "pole"))
    assert found(FPN, few) == []


def test_a_matcher_that_asks_for_no_iou_is_not_judged_by_one():
    small = survey(objects(400, 0.03, 0.03), size=(640, 640))
    assert found(FPN, small, "model.ssd.matcher.argmax_matcher.ignore_thresholds=true") == []
