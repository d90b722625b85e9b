"""Every tag this package writes to TensorBoard, and the runs it writes them to."""

from __future__ import annotations

from od_eval.evaluation.result import COCO_METRICS

# Runs: folders under a log_dir or model_dir.
TRAIN = "train"
EVAL = "eval"
EVAL_TRAIN = "eval_train"  # an evaluation of training images

# Scalars. `learning_rate` and `steps_per_sec` are the Object Detection API's tags.
LEARNING_RATE = "learning_rate"
GRADIENT_NORM = "gradient_norm"
STEPS_PER_SEC = "steps_per_sec"
IMAGES_PER_SEC = "images_per_sec"

# Texts.
PIPELINE_CONFIG = "pipeline_config"
LABEL_MAP = "label_map"

_LOSS_PREFIX = "Loss/"

# The rest is the Object Detection API's: metrics/coco_tools.py, metrics/coco_evaluation.py, model_lib_v2.py.
_COCO_METRICS = dict(
    zip(
        COCO_METRICS,
        (
            "Precision/mAP",
            "Precision/mAP@.50IOU",
            "Precision/mAP@.75IOU",
            "Precision/mAP (small)",
            "Precision/mAP (medium)",
            "Precision/mAP (large)",
            "Recall/AR@1",
            "Recall/AR@10",
            "Recall/AR@100",
            "Recall/AR@100 (small)",
            "Recall/AR@100 (medium)",
            "Recall/AR@100 (large)",
        ),
        strict=True,
    )
)
_OF_WHAT = {"bbox": "DetectionBoxes_", "segm": "DetectionMasks_"}
_PICTURE = "eval_side_by_side_"

# What the tags of metrics and pictures begin with.
OF_DETECTIONS = (*_OF_WHAT.values(), _PICTURE)


def loss(name: str) -> str:
    """The tag of a loss: a category (`total_loss`) or a part by its native name (`Loss/RPNLoss/objectness_loss`)."""
    return _utf8(name if name.startswith(_LOSS_PREFIX) else _LOSS_PREFIX + name)


def metric(name: str, of: str = "bbox") -> str:
    """The tag of a COCO metric over all categories.

    Args:
      name: one of `COCO_METRICS`.
      of: `bbox` or `segm`.
    """
    return _OF_WHAT[of] + _COCO_METRICS[name]


def category_ap(category: str, of: str = "bbox") -> str:
    """The tag of a category's AP, where AP is all that is shown of it; of no category (""), what they begin with."""
    return _OF_WHAT[of] + "PerformanceByCategory/mAP/" + _utf8(category)


def category_metric(name: str, category: str, of: str = "bbox") -> str:
    """The tag of a category's COCO metric, where all are shown."""
    return f"{metric(name, of)} ByCategory/{_utf8(category)}"


def super_category_ap(super_category: str, of: str = "bbox") -> str:
    """Like `category_ap`."""
    return _OF_WHAT[of] + "PerformanceBySuperCategory/" + _utf8(super_category)


def super_category_metric(name: str, super_category: str, of: str = "bbox") -> str:
    """Like `category_metric`."""
    return f"{metric(name, of)} BySuperCategory/{_utf8(super_category)}"


def picture(index: int) -> str:
    """The tag of the picture of detections and ground truth of an evaluation's image, counted from 0."""
    return f"{_PICTURE}{index}_0"


def _utf8(name: str) -> str:
    """A name that a proto can hold: JSON can say `\\ud800`, half a character, which UTF-8 has not."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
