"""The Custom Scalars tab: which charts are shown together, and in which order."""

from __future__ import annotations

import re

from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.util import tensor_util

from od_eval import losses
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.sections.categories import PER_CATEGORY, PER_SUPER_CATEGORY
from od_eval.evaluation.sections.coco import metric_tag
from od_eval.tensorboard import tags, writers


def write(run_dir: str, options: EvaluationOptions) -> None:
    """Writes the layout of the Custom Scalars tab.

    TensorBoard merges the layouts of all runs under its logdir: charts that occur in several appear once, with the
    curves of every run. So it does no harm to write it to more than one run.

    Args:
      run_dir: the folder of any run.
      options: the options of the evaluation; there are no charts for metrics it does not compute.
    """
    summary = summary_pb2.Summary()
    summary.value.add(
        tag=custom_scalar_metadata.CONFIG_SUMMARY_TAG,
        metadata=custom_scalar_metadata.create_summary_metadata(),
        tensor=tensor_util.make_tensor_proto(layout(options).SerializeToString()),
    )
    writers.write_summary(run_dir, 0, summary)


def layout(options: EvaluationOptions) -> layout_pb2.Layout:
    """The layout for an evaluation with these options; training and evaluation share their charts.

    No chart depends on the names in a dataset, so that runs on different datasets still share charts. A category with
    "(" in its name is only in the Scalars tab.
    """
    kinds = {"bbox": "boxes", "segm": "masks"} if options.masks else {"bbox": "boxes"}
    precision, recall, by_category = [], [], []
    for iou_type, objects in kinds.items():
        # Metrics of small, medium and large objects are only in the Scalars tab: see _chart_of_prefix.
        precision += [
            _chart(f"AP of {objects}: mean over IoU 0.50 to 0.95", metric_tag("AP", iou_type)),
            _chart(f"AP50 of {objects}: IoU of 0.50 or more", metric_tag("AP50", iou_type)),
            _chart(f"AP75 of {objects}: IoU of 0.75 or more", metric_tag("AP75", iou_type)),
        ]
        recall += [
            _chart(f"AR100 of {objects}: 100 detections an image", metric_tag("AR100", iou_type)),
            _chart(f"AR10 of {objects}: 10 detections an image", metric_tag("AR10", iou_type)),
            _chart(f"AR1 of {objects}: 1 detection an image", metric_tag("AR1", iou_type)),
        ]
        if options.per_category != "none":
            by_category.append(_chart_of_prefix(f"AP of {objects} by category", PER_CATEGORY.ap_tag("", iou_type)))
        if options.per_category == "all":
            for name in ("AP50", "AR100"):
                title = f"{name} of {objects} by category"
                by_category.append(_chart_of_prefix(title, PER_CATEGORY.metric_tag(name, "", iou_type)))
        if options.super_categories:
            prefix = PER_SUPER_CATEGORY.ap_tag("", iou_type)
            by_category.append(_chart_of_prefix(f"AP of {objects} by super category", prefix))
    categories = {
        "Losses: train and eval": [
            _chart(name.replace("_", " ").capitalize(), losses.tag(name)) for name in losses.CATEGORIES
        ],
        "AP": precision,
        "AR": recall,
        "By category": by_category,
        "Speed and learning rate": [
            _chart("Learning rate", tags.LEARNING_RATE),
            _chart("Steps per second", tags.STEPS_PER_SEC),
            _chart("Images per second", tags.IMAGES_PER_SEC),
            _chart("Gradient norm", tags.GRADIENT_NORM),
        ],
    }
    return layout_pb2.Layout(
        category=[layout_pb2.Category(title=title, chart=charts) for title, charts in categories.items() if charts]
    )


def _chart(title: str, tag: str) -> layout_pb2.Chart:
    return _chart_of_pattern(title, f"{re.escape(tag)}$")


def _chart_of_prefix(title: str, prefix: str) -> layout_pb2.Chart:
    # A tag with "(" would break the chart: TensorBoard takes what is between the first "(" and the last ")" of
    # `tag (run)` for the run, finds no color for it, and stops drawing.
    return _chart_of_pattern(title, re.escape(prefix) + "[^(]*$")


def _chart_of_pattern(title: str, pattern: str) -> layout_pb2.Chart:
    """One curve per run and tag that `re.match` accepts, so the pattern matches from the start of the tag."""
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[pattern]))
