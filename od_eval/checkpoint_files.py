"""The files of checkpoints: `ckpt-12` is the prefix of `ckpt-12.index` and `ckpt-12.data-00000-of-00001`.

The programs of the Object Detection API write the same names.
"""

from __future__ import annotations

import os
import re
import sys

from od_eval import files
from od_eval.errors import ODEvalError


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


def damage(checkpoint: str) -> str | None:
    """Why a checkpoint cannot be read; None if it can, for which every value in it is read.

    Restoring one that is truncated would assign some variables and then fail.

    Raises:
      ODEvalError: the file system cannot be reached, or does not permit it.
    """
    import tensorflow as tf  # here, as names can be told without it

    try:
        reader = tf.compat.v1.train.NewCheckpointReader(checkpoint)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)  # TensorFlow compares it with its checksum
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.PermissionDeniedError) as error:
        raise ODEvalError(f"checkpoint '{checkpoint}' cannot be read: {files.reason(error)}.") from error
    except (tf.errors.OpError, IndexError, RuntimeError) as error:  # IndexError: a file is shorter than it says
        return files.reason(error)
    return None


def repair_state(directory: str) -> None:
    """Writes the file `checkpoint` of a folder anew if it cannot be read, or lacks the newest checkpoints.

    TensorFlow keeps in it which checkpoints there are, and removes the oldest of these; it cannot go on with a damaged
    one. A process that is killed while it saves leaves a checkpoint that is not listed.
    """
    import tensorflow as tf

    path = os.path.join(directory, "checkpoint")
    present = numbers_in(directory)
    if not present:
        return
    try:
        state = tf.train.get_checkpoint_state(directory)
        listed = [os.path.basename(one) for one in state.all_model_checkpoint_paths] if state else []
    except ValueError:  # empty, or not text
        listed = []
    if not listed and files.exists(path):
        print(f"warning: '{path}' is damaged and is written anew from the checkpoints beside it.", file=sys.stderr)
    numbers = [int(match[1]) for match in (re.fullmatch(r"ckpt-(\d+)", name) for name in listed) if match]
    newer = [f"ckpt-{number}" for number in present if number > max(numbers, default=-1)]
    if newer:
        names = [*listed, *newer]
        lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
        # In their order; those that are not later than the last one that is never to be removed would stay for ever.
        lines += [f"all_model_checkpoint_timestamps: {order}" for order, _ in enumerate(names, 1)]
        files.write_whole(path, "\n".join([*lines, "last_preserved_timestamp: 0", ""]))


def sync(checkpoint: str) -> None:
    """Waits until the files of a checkpoint, and their names in the folder, are on disk."""
    for path in files_of(checkpoint):
        files.sync(path)
    files.sync(os.path.dirname(checkpoint) or os.curdir)


def remove(checkpoint: str) -> None:
    """Removes a checkpoint, the index first: without it, the remaining files are not a checkpoint."""
    for path in reversed(files_of(checkpoint)):
        files.remove(path)


def remove_interrupted(directory: str) -> None:
    """Removes what interrupted saves have left: files without an index, and the folders they were written to."""
    whole = {f"ckpt-{number}" for number in numbers_in(directory)}
    for name in files.names_in(directory):
        match = re.match(r"(ckpt-\d+)(_temp|\.data-\d+-of-\d+)$", name)
        if match and (match[2] == "_temp" or match[1] not in whole):
            files.remove(os.path.join(directory, name))
