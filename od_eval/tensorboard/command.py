"""The `tensorboard` command to show the results."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from od_eval import files


def how_to_look(model_dir: str) -> str:
    """A line with the `tensorboard` command for a folder of runs that works in this environment."""
    # If the environment is not activated, the command needs its path.
    beside_python = os.path.join(os.path.dirname(sys.executable), "tensorboard")
    tensorboard = "tensorboard" if shutil.which("tensorboard") else beside_python
    return f"Look at the curves: {shlex.quote(tensorboard)} --logdir {shlex.quote(files.absolute(model_dir))}"
