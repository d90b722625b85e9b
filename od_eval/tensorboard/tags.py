"""The tags this package writes to TensorBoard, and the runs it writes them to.

The tags of losses are in `od_eval.losses`, those of metrics in the modules of `od_eval.evaluation.sections`.
"""

from __future__ import annotations

from od_eval.evaluation.section import all_sections

# Runs: folders under a log_dir or model_dir.
TRAIN = "train"
EVAL = "eval"
EVAL_TRAIN = "eval_train"  # evaluation on training images

# Scalars. `learning_rate` and `steps_per_sec` are the Object Detection API's tags.
LEARNING_RATE = "learning_rate"
GRADIENT_NORM = "gradient_norm"
STEPS_PER_SEC = "steps_per_sec"
IMAGES_PER_SEC = "images_per_sec"

# Texts.
PIPELINE_CONFIG = "pipeline_config"
LABEL_MAP = "label_map"

_PICTURE = "eval_side_by_side_"


def of_detections() -> tuple[str, ...]:
    """How the tags of metrics and pictures of detections begin."""
    return (*(prefix for section in all_sections().values() for prefix in section.tag_prefixes), _PICTURE)


def picture(index: int) -> str:
    """The tag of the picture of detections and ground truth for the image with this index, from 0.

    It is the tag of the Object Detection API (model_lib_v2.py).
    """
    return f"{_PICTURE}{index}_0"
