"""Every tag this package writes to TensorBoard, and the runs it writes them to."""

from __future__ import annotations

# Runs: folders under a log_dir or model_dir.
TRAIN = "train"
EVAL = "eval"

# Scalars. `learning_rate` and `steps_per_sec` are the Object Detection API's tags.
LEARNING_RATE = "learning_rate"
GRADIENT_NORM = "gradient_norm"
STEPS_PER_SEC = "steps_per_sec"
IMAGES_PER_SEC = "images_per_sec"

_LOSS_PREFIX = "Loss/"


def loss(name: str) -> str:
    """The tag of a loss: a category (`total_loss`) or a part by its native name (`Loss/RPNLoss/objectness_loss`)."""
    return name if name.startswith(_LOSS_PREFIX) else _LOSS_PREFIX + name
