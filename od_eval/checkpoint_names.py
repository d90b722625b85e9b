"""The names of checkpoints in a folder: `ckpt-12` is the prefix of `ckpt-12.index` and `ckpt-12.data-00000-of-00001`.

A module of its own, because the programs of the Object Detection API write the same names.
"""

from __future__ import annotations

import os
import re

from od_eval import files


def path_of(directory: str, number: int) -> str:
    """The path of a checkpoint, as `tf.train.Checkpoint.restore` takes it."""
    return os.path.join(directory, f"ckpt-{number}")


def numbers_in(directory: str) -> list[int]:
    """The numbers of the checkpoints in a folder, ascending; empty if there is no such folder.

    The index is written last: a checkpoint without one is incomplete.
    """
    matches = (re.fullmatch(r"ckpt-(\d+)\.index", name) for name in files.names_in(directory))
    return sorted(int(match[1]) for match in matches if match)


def prefix_of(path: str) -> str:
    """The checkpoint that one of its files belongs to; any other path is returned unchanged."""
    return re.sub(r"\.(index|data-\d+-of-\d+)$", "", path)


def files_of(checkpoint: str) -> list[str]:
    """The paths of the files of a checkpoint, the index last, as TensorFlow writes them."""
    directory, prefix = os.path.split(checkpoint)
    names = [name for name in files.names_in(directory) if name.startswith(f"{prefix}.")]
    return [os.path.join(directory, name) for name in sorted(names, key=lambda name: name.endswith(".index"))]


def remove(checkpoint: str) -> None:
    """Removes a checkpoint, the index first: without it, the remaining files are not a checkpoint."""
    for path in reversed(files_of(checkpoint)):
        files.remove(path)


def remove_leftovers(directory: str, number: int) -> None:
    """Removes what an interrupted save has left of a checkpoint: its files, and the folder they were written to."""
    for name in files.names_in(directory):
        if re.match(rf"ckpt-{number}[._]", name):
            files.remove(os.path.join(directory, name))
