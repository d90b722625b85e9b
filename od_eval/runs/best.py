"""`best/` in a model_dir: the best checkpoint so far, and `best.json`, which describes it."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from od_eval import files
from od_eval.errors import ODEvalError

_TYPES = {"metric": str, "mode": str, "value": float, "step": int, "checkpoint": str}
# Fields of a `tensorflow.CheckpointState`.
_NAMES_IN_STATE = ("model_checkpoint_path", "all_model_checkpoint_paths")


def directory_in(model_dir: str) -> str:
    """The folder of the best checkpoint."""
    return os.path.join(model_dir, "best")


def read_best(directory: str) -> dict[str, Any] | None:
    """Reads `best.json`: `checkpoint` (the name of the best checkpoint), `metric`, `mode`, `value`, `step`.

    Args:
      directory: `<model_dir>/best`.

    Returns:
      None if there is no best checkpoint.

    Raises:
      ODEvalError: `best.json` is damaged or cannot be read.
    """
    path = os.path.join(directory, "best.json")
    if not files.exists(path):
        return None
    try:
        best = json.loads(files.read_text(path))
        best = {key: of_type(best[key]) for key, of_type in _TYPES.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ODEvalError(f"'{path}' is damaged; remove it, and the next evaluation becomes the best.") from error
    except OSError as error:
        raise ODEvalError(f"'{path}' cannot be read: {files.reason(error)}.") from error
    if not files.exists(os.path.join(directory, best["checkpoint"] + ".index")):
        print(
            f"warning: '{path}' names {best['checkpoint']}, which is gone; the next evaluation becomes the best.",
            file=sys.stderr,
        )
        return None
    return best


def write_best(directory: str, best: dict[str, Any]) -> None:
    """Records a checkpoint in `directory` as the best, then removes all others there.

    In this order, `best.json` never names a checkpoint that does not exist.

    Args:
      directory: `<model_dir>/best`.
      best: as returned by `read_best`.

    Raises:
      ODEvalError: a file cannot be written.
    """
    files.write_whole(os.path.join(directory, "best.json"), json.dumps(best, indent=1) + "\n")
    # What `tf.train.latest_checkpoint` reads.
    state = "".join(f'{name}: "{best["checkpoint"]}"\n' for name in _NAMES_IN_STATE)
    files.write_whole(os.path.join(directory, "checkpoint"), state)
    with files.errors_as_sentences(f"the previous best checkpoint in '{directory}' cannot be removed"):
        remove_all_but(directory, best["step"])


def remove_all_but(directory: str, step: int | None) -> None:
    """Removes all checkpoints except that of a step, and incomplete ones."""
    for name in files.names_in(directory):
        match = re.match(r"ckpt-(\d+)\.", name)
        if re.match(r"ckpt-\d+_temp", name) or (match and int(match[1]) != step):
            files.remove(os.path.join(directory, name))


def move_away(directory: str) -> str:
    """Moves the best checkpoint of an earlier run to a folder `best-replaced-…` next to it; returns that folder."""
    number = 1
    while files.exists(f"{directory}-replaced-{number}"):
        number += 1
    with files.errors_as_sentences(f"the best checkpoint in '{directory}' cannot be moved"):
        files.rename(directory, f"{directory}-replaced-{number}")
    return f"{directory}-replaced-{number}"
