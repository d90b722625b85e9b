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
    return "\n".join([_command(model_dir), f"  losses and AP: {first_page()}", f"  pictures:      {_ADDRESS}/#images"])


def how_to_look_at_check(log_dir: str) -> str:
    """The same for a folder with a run `check`, which has texts and pictures."""
    return "\n".join([_command(log_dir), f"  findings: {_ADDRESS}/#text", f"  plots:    {_ADDRESS}/#images"])


def _command(folder: str) -> str:
    # If the environment is not activated, the command needs its path.
    beside_python = os.path.join(os.path.dirname(sys.executable), "tensorboard")
    tensorboard = "tensorboard" if shutil.which("tensorboard") else beside_python
    return f"Look at the results: {shlex.quote(tensorboard)} --logdir {shlex.quote(files.absolute(folder))}"


def first_page() -> str:
    """The link to TensorBoard's Time Series with the charts that matter at the top, not smoothed."""
    cards = json.dumps([{"plugin": "scalars", "tag": tag} for tag in _PINNED], separators=(",", ":"))
    return f"{_ADDRESS}/?pinnedCards={urllib.parse.quote(cards, safe='')}&smoothing=0#timeseries"
