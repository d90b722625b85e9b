"""`best/` in a model_dir: the best checkpoint so far, and `best.json`, which describes it."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from typing import Any

from od_eval import checkpoint_files, files
from od_eval.errors import ODEvalError
from od_eval.text import short

_BEST = "best.json"
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
      None if there is no best checkpoint, or with a warning if `best.json` is damaged or names one that is gone.

    Raises:
      ODEvalError: `best.json` cannot be read.
    """
    try:
        best = _read(directory)
    except _Damaged as error:
        print(f"warning: {error}", file=sys.stderr)
        return None
    if best is not None and not files.exists(os.path.join(directory, best["checkpoint"] + ".index")):
        print(
            f"warning: '{os.path.join(directory, _BEST)}' names {best['checkpoint']}, which is gone; the next"
            " evaluation becomes the best.",
            file=sys.stderr,
        )
        return None
    return best


def repair(directory: str) -> None:
    """Prepares the folder for a process that goes on with it.

    A folder whose `best.json`, or whose best checkpoint, is damaged is renamed, and it is said. Otherwise what a killed
    process has left undone is done: the file `checkpoint` names the best one, and the others are gone.

    Args:
      directory: `<model_dir>/best`; it need not exist.

    Raises:
      ODEvalError: a file cannot be read or written.
    """
    try:
        best = _read(directory)
        if best is None:
            return
        checkpoint = os.path.join(directory, best["checkpoint"])
        reason = checkpoint_files.damage(checkpoint) if files.exists(checkpoint + ".index") else None
        if reason is not None:
            raise _Damaged(f"the best checkpoint '{checkpoint}' is damaged: {reason}")
    except _Damaged as error:
        files.set_aside(directory, str(error))
        return
    if files.exists(checkpoint + ".index"):
        _finish(directory, best)


class _Damaged(ODEvalError):
    """`best.json` or its checkpoint is not what was written."""


def _read(directory: str) -> dict[str, Any] | None:
    path = os.path.join(directory, _BEST)
    if not files.exists(path):
        return None
    try:
        best = json.loads(files.read_text(path))
        best = {key: of_type(best[key]) for key, of_type in _TYPES.items()}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _Damaged(f"'{path}' is damaged; the next evaluation becomes the best.") from error
    except OSError as error:
        raise ODEvalError(f"'{path}' cannot be read: {files.reason(error)}.") from error
    if best["checkpoint"] != f"ckpt-{best['step']}" or not math.isfinite(best["value"]):
        raise _Damaged(f"'{path}' is damaged: {short(best['checkpoint'])} is not of its step, or its value no number.")
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
    files.write_whole(os.path.join(directory, _BEST), json.dumps(best, indent=1) + "\n")
    _finish(directory, best)


def _finish(directory: str, best: dict[str, Any]) -> None:
    """What follows from `best.json`."""
    # What `tf.train.latest_checkpoint` reads.
    state = "".join(f'{name}: "{best["checkpoint"]}"\n' for name in _NAMES_IN_STATE)
    path = os.path.join(directory, "checkpoint")
    if not files.exists(path) or files.read_bytes(path) != state.encode():
        files.write_whole(path, state)
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
    aside = files.free_path(f"{directory}-replaced-1")
    with files.errors_as_sentences(f"the best checkpoint in '{directory}' cannot be moved"):
        files.rename(directory, aside)
    return aside
