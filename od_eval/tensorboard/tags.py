"""The tags this package writes to TensorBoard, and the runs it writes them to.

The tags of losses are in `od_eval.losses`, those of metrics in the modules of `od_eval.evaluation.sections`.
"""

from __future__ import annotations

from od_eval.evaluation.sections.coco import TAG_PREFIX

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

# Prefixes of the tags of metrics and pictures of detections.
OF_DETECTIONS = (*TAG_PREFIX.values(), _PICTURE)


def picture(index: int) -> str:
    """The tag of the picture of detections and ground truth for the image with this index, from 0.

    It is the tag of the Object Detection API (model_lib_v2.py).
    """
    return f"{_PICTURE}{index}_0"
