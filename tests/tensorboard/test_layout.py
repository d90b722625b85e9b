"""The Custom Scalars tab, as TensorBoard's own plugin reads and matches it."""

from __future__ import annotations

import re

from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG

from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS
from od_eval.tensorboard import layout
from read_events import shown_tensors

CATEGORIES = {1: "cat", 2: "dog.*", 3: "raccoon (tame)"}
COCO = dict.fromkeys(COCO_METRICS, 0.5)


def charts(options: EvaluationOptions) -> dict[str, dict[str, list[str]]]:
    return {
        category.title: {chart.title: list(chart.multiline.tag) for chart in category.chart}
        for category in layout.layout(options).category
    }


def matched(patterns: list[str], tags: list[str]) -> list[str]:
    # As in tensorboard/plugins/custom_scalar/custom_scalars_plugin.py; its frontend joins patterns by "|".
    return [tag for tag in tags if re.compile("|".join(f"({pattern})" for pattern in patterns)).match(tag)]


def test_the_layout_written_to_a_run_is_what_tensorboard_reads(tmp_path):
    options = EvaluationOptions(CATEGORIES)
    layout.write(str(tmp_path), options)
    ((_, serialized),) = shown_tensors(tmp_path)[CONFIG_SUMMARY_TAG]
    read = layout_pb2.Layout.FromString(serialized.item())
    assert [category.title for category in read.category] == [
        "Losses: train and eval",
        "AP",
        "AR",
        "By category",
        "Speed and learning rate",
    ]


def test_every_loss_has_a_chart_of_its_own():
    tags = [f"Loss/{name}_loss" for name in ("total", "classification", "localization", "regularization", "other")]
    native = ["Loss/RPNLoss/localization_loss", "Loss/total_loss_2"]
    losses = charts(EvaluationOptions(CATEGORIES))["Losses: train and eval"]
    assert [matched(patterns, [*tags, *native]) for patterns in losses.values()] == [[tag] for tag in tags]


def test_each_chart_of_a_metric_has_one_tag_and_each_of_categories_those_of_all():
    options = EvaluationOptions(
        CATEGORIES, masks=True, per_category="all", super_categories={"animal": ["cat", "dog.*"]}
    )
    result = EvaluationResult(
        num_images=1,
        bbox=COCO,
        segm=COCO,
        per_category={name: {**COCO, "segm": COCO} for name in CATEGORIES.values()},
        per_super_category={"animal": {**COCO, "segm": COCO}},
    )
    tags = list(result.scalars(options.per_category))
    found = charts(options)
    for title in ("AP", "AR"):
        assert [len(matched(patterns, tags)) for patterns in found[title].values()] == [1] * 6
    assert matched(found["By category"]["AP of boxes by category"], tags) == [
        "DetectionBoxes_PerformanceByCategory/mAP/cat",
        "DetectionBoxes_PerformanceByCategory/mAP/dog.*",
    ]
    assert matched(found["By category"]["AP50 of masks by category"], tags) == [
        "DetectionMasks_Precision/mAP@.50IOU ByCategory/cat",
        "DetectionMasks_Precision/mAP@.50IOU ByCategory/dog.*",
    ]
    assert matched(found["By category"]["AP of masks by super category"], tags) == [
        "DetectionMasks_PerformanceBySuperCategory/animal"
    ]


def test_no_chart_matches_a_tag_with_a_parenthesis_which_tensorboard_cannot_draw():
    options = EvaluationOptions(CATEGORIES, per_category="all")
    result = EvaluationResult(num_images=1, bbox=COCO, per_category={name: COCO for name in CATEGORIES.values()})
    tags = list(result.scalars("all"))
    drawn = [
        tag for group in charts(options).values() for patterns in group.values() for tag in matched(patterns, tags)
    ]
    assert drawn
    assert not [tag for tag in drawn if "(" in tag]


def test_there_is_no_chart_of_what_is_not_evaluated():
    found = charts(EvaluationOptions(CATEGORIES, per_category="none"))
    assert "By category" not in found
    assert not [title for group in found.values() for title in group if "masks" in title or "super" in title]
