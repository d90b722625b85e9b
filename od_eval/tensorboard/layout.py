"""The Custom Scalars tab: which charts are shown together, and in which order."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.util import tensor_util

from od_eval import losses
from od_eval.evaluation.sections import segmentation
from od_eval.evaluation.sections.categories import PER_CATEGORY, PER_SUPER_CATEGORY
from od_eval.evaluation.sections.coco import TAG_PREFIX, metric_tag
from od_eval.evaluation.sections.intervals import INTERVALS
from od_eval.tensorboard import tags, writers

_OBJECTS = {"bbox": "boxes", "segm": "masks"}
# Metrics of small, medium and large objects are only in the Scalars tab: a tag with "(" would break the chart, as
# TensorBoard takes what is between the first "(" and the last ")" of `tag (run)` for the run, finds no color for it,
# and stops drawing.
_PRECISION = {"AP": "mean over IoU 0.50 to 0.95", "AP50": "IoU of 0.50 or more", "AP75": "IoU of 0.75 or more"}
_RECALL = {"AR100": "100 detections an image", "AR10": "10 detections an image", "AR1": "1 detection an image"}
_SEGMENTATION = {
    "IoU": "mean over classes",
    "F1": "mean over classes",
    "pixel_accuracy": "right pixels",
    "mean_class_accuracy": "right pixels of a class, mean over classes",
    "AP": "mean over classes",
    "AR": "mean over classes",
    "boundary_IoU": "of pixels near a boundary, mean over classes",
}
_SPEED = {
    "Learning rate": tags.LEARNING_RATE,
    "Steps per second": tags.STEPS_PER_SEC,
    "Images per second": tags.IMAGES_PER_SEC,
    "Gradient norm": tags.GRADIENT_NORM,
}


def write(run_dir: str, written: Iterable[str]) -> None:
    """Writes the layout of the Custom Scalars tab for what a run shows.

    TensorBoard merges the layouts of all runs under its logdir: charts that occur in several appear once, with the
    curves of every run.

    Args:
      run_dir: the folder of the run.
      written: the tags of its scalars.
    """
    summary = summary_pb2.Summary()
    summary.value.add(
        tag=custom_scalar_metadata.CONFIG_SUMMARY_TAG,
        metadata=custom_scalar_metadata.create_summary_metadata(),
        tensor=tensor_util.make_tensor_proto(layout(written).SerializeToString()),
    )
    writers.write_summary(run_dir, 0, summary)


def layout(written: Iterable[str]) -> layout_pb2.Layout:
    """The layout for these tags of scalars: no chart is empty, and training and evaluation share theirs.

    A category has charts of its own, as all curves of a run have one color. One with "(" in its name is only in the
    Scalars tab.
    """
    all_tags = set(written)
    written = [tag for tag in written if "(" not in tag]
    charts: dict[str, dict[str, str]] = {
        "Losses: train and eval": {
            name.replace("_", " ").capitalize(): losses.tag(name)
            for name in (*losses.CATEGORIES, *losses.PARTS_OF_TOTAL)
        },
        **{
            group: {
                f"{name} of {objects}: {meaning}": metric_tag(name, iou_type)
                for iou_type, objects in _OBJECTS.items()
                for name, meaning in metrics.items()
            }
            for group, metrics in (("AP", _PRECISION), ("AR", _RECALL))
        },
    }
    charts["Segmentation"] = {
        f"{name.replace('_', ' ')}: {meaning}": segmentation.TAG_PREFIX + name
        for name, meaning in _SEGMENTATION.items()
    }
    iou_tag = segmentation.category_tag("IoU", "")
    charts["IoU by class"] = {tag.removeprefix(iou_tag): tag for tag in written if tag.startswith(iou_tag)}
    for iou_type, objects in _OBJECTS.items():
        for title, prefix in {
            f"AP of {objects} by category": PER_CATEGORY.ap_tag("", iou_type),
            f"AP50 of {objects} by category": PER_CATEGORY.metric_tag("AP50", "", iou_type),
            f"AR100 of {objects} by category": PER_CATEGORY.metric_tag("AR100", "", iou_type),
            f"AP of {objects} by super category": PER_SUPER_CATEGORY.ap_tag("", iou_type),
        }.items():
            charts[title] = {tag.removeprefix(prefix): tag for tag in written if tag.startswith(prefix)}
    charts["Speed and learning rate"] = _SPEED
    return layout_pb2.Layout(
        category=[
            layout_pb2.Category(title=title, chart=[_chart(name, tag, all_tags) for name, tag in shown.items()])
            for title, group in charts.items()
            if (shown := {name: tag for name, tag in group.items() if tag in written})
        ]
    )


def _chart(title: str, tag: str, written: Container[str]) -> layout_pb2.Chart:
    if tag.startswith((*TAG_PREFIX.values(), segmentation.TAG_PREFIX, segmentation.CATEGORY_TAG_PREFIX)):
        # A chart with margins, mostly of no width: TensorBoard smooths those without, and cuts off their highest and
        # lowest twentieth, which of the few points of a metric are the first and the last.
        lower = upper = tag
        for iou_type, prefix in TAG_PREFIX.items():
            if tag == metric_tag("AP", iou_type) and INTERVALS.tags(prefix)[0] in written:
                lower, upper = INTERVALS.tags(prefix)
        series = layout_pb2.MarginChartContent.Series(value=tag, lower=lower, upper=upper)
        return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))
    # One curve per run and tag that `re.match` accepts: from its start.
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"{re.escape(tag)}$"]))
