"""How to look at the results: the `tensorboard` command, and links to the pages that matter."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import urllib.parse

from od_eval import files, losses
from od_eval.evaluation.sections.coco import metric_tag

_ADDRESS = "http://localhost:6006"  # TensorBoard's default
# The charts at the top of the first page. Those of which a run has nothing are not shown.
_PINNED = (
    losses.tag(losses.TOTAL),
    metric_tag("AP"),
    metric_tag("AP50"),
    losses.tag("classification_loss"),
    losses.tag("localization_loss"),
)


def how_to_look(model_dir: str) -> str:
    """Three lines for a folder of runs: the `tensorboard` command that works in this environment, and two links."""
    # If the environment is not activated, the command needs its path.
    beside_python = os.path.join(os.path.dirname(sys.executable), "tensorboard")
    tensorboard = "tensorboard" if shutil.which("tensorboard") else beside_python
    return "\n".join(
        [
            f"Look at the results: {shlex.quote(tensorboard)} --logdir {shlex.quote(files.absolute(model_dir))}",
            f"  losses and AP: {first_page()}",
            f"  pictures:      {_ADDRESS}/#images",
        ]
    )


def first_page() -> str:
    """The link to TensorBoard's Time Series with the charts that matter at the top, not smoothed."""
    cards = json.dumps([{"plugin": "scalars", "tag": tag} for tag in _PINNED], separators=(",", ":"))
    return f"{_ADDRESS}/?pinnedCards={urllib.parse.quote(cards, safe='')}&smoothing=0#timeseries"
