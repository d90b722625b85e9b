"""The Custom Scalars tab, as TensorBoard's own plugin reads and matches it."""

from __future__ import annotations

import re

from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG

from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS
from od_eval.tensorboard import layout
from read_events import shown_tensors

NAMES = ("cat", "dog.*", "raccoon (tame)")
COCO = dict.fromkeys(COCO_METRICS, 0.5)
LOSSES = [f"Loss/{name}_loss" for name in ("total", "classification", "localization", "regularization", "other")]


def charts(tags: list[str]) -> dict[str, dict[str, list[str]]]:
    """Title of the group -> title of the chart -> the tags it shows."""
    return {
        category.title: {chart.title: shown_by(chart, tags) for chart in category.chart}
        for category in layout.layout(tags).category
    }


def shown_by(chart: layout_pb2.Chart, tags: list[str]) -> list[str]:
    if chart.HasField("multiline"):
        return matched(list(chart.multiline.tag), tags)
    for series in chart.margin.series:
        assert series.lower == series.value == series.upper
    return [series.value for series in chart.margin.series if series.value in tags]


def matched(patterns: list[str], tags: list[str]) -> list[str]:
    # As in tensorboard/plugins/custom_scalar/custom_scalars_plugin.py; its frontend joins patterns by "|".
    return [tag for tag in tags if re.compile("|".join(f"({pattern})" for pattern in patterns)).match(tag)]


def tags_of(per_category: str = "AP", masks: bool = False, super_categories: bool = False) -> list[str]:
    of_all = {**COCO, "segm": COCO} if masks else COCO
    result = EvaluationResult(
        num_images=1,
        bbox=COCO,
        segm=COCO if masks else None,
        per_category=dict.fromkeys(NAMES, of_all),
        per_super_category={"animal": of_all} if super_categories else {},
    )
    return list(result.scalars(per_category))


def test_the_layout_written_to_a_run_is_what_tensorboard_reads(tmp_path):
    layout.write(str(tmp_path), [*LOSSES, *tags_of(), "learning_rate"])
    ((_, serialized),) = shown_tensors(tmp_path)[CONFIG_SUMMARY_TAG]
    read = layout_pb2.Layout.FromString(serialized.item())
    assert [category.title for category in read.category] == [
        "Losses: train and eval",
        "AP",
        "AR",
        "AP of boxes by category",
        "Speed and learning rate",
    ]


def test_every_loss_has_a_chart_of_its_own():
    native = ["Loss/RPNLoss/localization_loss", "Loss/total_loss_2"]
    assert list(charts([*LOSSES, *native])["Losses: train and eval"].values()) == [[tag] for tag in LOSSES]


def test_metrics_have_the_charts_that_tensorboard_neither_smooths_nor_cuts_off():
    kinds = {
        category.title: {chart.WhichOneof("content") for chart in category.chart}
        for category in layout.layout([*LOSSES, *tags_of(), "learning_rate"]).category
    }
    assert kinds == {
        "Losses: train and eval": {"multiline"},
        "AP": {"margin"},
        "AR": {"margin"},
        "AP of boxes by category": {"margin"},
        "Speed and learning rate": {"multiline"},
    }


def test_each_chart_of_a_metric_and_of_a_category_has_one_tag():
    found = charts(tags_of("all", masks=True, super_categories=True))
    assert list(found) == [
        "AP",
        "AR",
        *(f"{name} of boxes by {by}" for name, by in BY_CATEGORY),
        *(f"{name} of masks by {by}" for name, by in BY_CATEGORY),
    ]
    assert len(found["AP"]) == len(found["AR"]) == 6
    assert found["AP of boxes by category"] == {
        "cat": ["DetectionBoxes_PerformanceByCategory/mAP/cat"],
        "dog.*": ["DetectionBoxes_PerformanceByCategory/mAP/dog.*"],
    }
    assert found["AP50 of masks by category"]["dog.*"] == ["DetectionMasks_Precision/mAP@.50IOU ByCategory/dog.*"]
    assert found["AP of masks by super category"] == {"animal": ["DetectionMasks_PerformanceBySuperCategory/animal"]}
    assert all(len(shown) == 1 for group in found.values() for shown in group.values())


BY_CATEGORY = [("AP", "category"), ("AP50", "category"), ("AR100", "category"), ("AP", "super category")]


def test_no_chart_matches_a_tag_with_a_parenthesis_which_tensorboard_cannot_draw():
    drawn = [tag for group in charts(tags_of("all")).values() for tags in group.values() for tag in tags]
    assert drawn
    assert not [tag for tag in drawn if "(" in tag]


def test_no_chart_is_empty():
    assert charts(["Loss/total_loss", "steps_per_sec", "mine"]) == {
        "Losses: train and eval": {"Total loss": ["Loss/total_loss"]},
        "Speed and learning rate": {"Steps per second": ["steps_per_sec"]},
    }
    assert not [group for group in charts(tags_of("none")) if "category" in group]


def test_metrics_and_losses_of_a_segmentation_have_charts_of_their_own():
    of_class = {"IoU": 0.5}
    section = {"IoU": 0.5, "AP": 0.5, "boundary_IoU": None, "per_category": dict.fromkeys(NAMES, of_class)}
    result = EvaluationResult(num_images=1, segmentation=section, losses={"total_loss": 2.0, "dice_loss": 2.0})
    shown = charts(list(result.scalars()))
    assert shown["Losses: train and eval"]["Dice loss"] == ["Loss/dice_loss"]
    assert shown["Segmentation"] == {
        "IoU: mean over classes": ["Segmentation/IoU"],
        "AP: mean over classes": ["Segmentation/AP"],
    }
    tags = {name: [f"Segmentation_PerformanceByCategory/IoU/{name}"] for name in NAMES if "(" not in name}
    assert shown["IoU by class"] == tags
