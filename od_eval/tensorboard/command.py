"""The command that shows what was written."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from od_eval import files


def how_to_look(model_dir: str) -> str:
    """A line that tells the `tensorboard` command for a folder of runs, as it works in this environment."""
    # Where its environment is not activated, the command needs its path.
    beside_python = os.path.join(os.path.dirname(sys.executable), "tensorboard")
    tensorboard = "tensorboard" if shutil.which("tensorboard") else beside_python
    return f"Look at the curves: {shlex.quote(tensorboard)} --logdir {shlex.quote(files.absolute(model_dir))}"
