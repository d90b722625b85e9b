"""`best/` in a model_dir: the best checkpoint so far, and `best.json`, which describes it.

The checkpoint is one of TensorFlow (`ckpt-400`, which stands for `ckpt-400.index` and others), or a file of Keras 3:
`ckpt-400.weights.h5`, `ckpt-400.keras`.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
import zipfile
from typing import Any

from od_eval import checkpoint_files, files
from od_eval.errors import ODEvalError
from od_eval.text import short

_BEST = "best.json"
WEIGHTS, MODEL = ".weights.h5", ".keras"  # how names of files of Keras 3 end
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
    if best is not None and not is_there(os.path.join(directory, best["checkpoint"])):
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
        reason = damage(checkpoint) if is_there(checkpoint) else None
        if reason is not None:
            raise _Damaged(f"the best checkpoint '{checkpoint}' is damaged: {reason}")
    except _Damaged as error:
        files.set_aside(directory, str(error))
        return
    if is_there(checkpoint):
        _finish(directory, best)


def is_there(checkpoint: str) -> bool:
    """Whether there is a checkpoint at a path, of TensorFlow or Keras 3."""
    return files.exists(checkpoint if checkpoint.endswith((WEIGHTS, MODEL)) else f"{checkpoint}.index")


def damage(checkpoint: str) -> str | None:
    """Why a checkpoint of TensorFlow or Keras 3 cannot be read; None if it can.

    Raises:
      ODEvalError: the file system cannot be reached, or does not permit it.
    """
    if not checkpoint.endswith((WEIGHTS, MODEL)):
        return checkpoint_files.damage(checkpoint)
    try:
        contents = io.BytesIO(files.read_bytes(checkpoint))
        if checkpoint.endswith(MODEL):
            with zipfile.ZipFile(contents) as archive:
                wrong = archive.testzip()
            return f"{wrong} in it is not what was written" if wrong else None
        import h5py  # here, as Keras has it, and nobody else needs it

        h5py.File(contents, "r").close()  # it knows how long it should be
    except (zipfile.BadZipFile, OSError) as error:
        return files.reason(error)
    return None


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
    if best["checkpoint"] not in [
        f"ckpt-{best['step']}{ending}" for ending in ("", WEIGHTS, MODEL)
    ] or not math.isfinite(best["value"]):
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
    # What `tf.train.latest_checkpoint` reads; it does not know files of Keras 3.
    state = "".join(f'{name}: "{best["checkpoint"]}"\n' for name in _NAMES_IN_STATE)
    path = os.path.join(directory, "checkpoint")
    if best["checkpoint"].endswith((WEIGHTS, MODEL)):
        if files.exists(path):
            with files.errors_as_sentences(f"'{path}', of an earlier checkpoint, cannot be removed"):
                files.remove(path)
    elif not files.exists(path) or files.read_bytes(path) != state.encode():
        files.write_whole(path, state)
    with files.errors_as_sentences(f"the previous best checkpoint in '{directory}' cannot be removed"):
        remove_all_but(directory, best["checkpoint"])


def remove_all_but(directory: str, checkpoint: str | None) -> None:
    """Removes all checkpoints except one, given by its name, and incomplete ones."""
    for name in files.names_in(directory):
        if re.match(r"ckpt-\d+(_temp|\.)", name) and checkpoint_files.prefix_of(name) != checkpoint:
            files.remove(os.path.join(directory, name))


def move_away(directory: str) -> str:
    """Moves the best checkpoint of an earlier run to a folder `best-replaced-…` next to it; returns that folder."""
    aside = files.free_path(f"{directory}-replaced-1")
    with files.errors_as_sentences(f"the best checkpoint in '{directory}' cannot be moved"):
        files.rename(directory, aside)
    return aside
