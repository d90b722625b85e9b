"""Checks whether a model_dir can be written to, and selects one of its checkpoints."""

from __future__ import annotations

import os
import sys

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.runs import best


def check_model_dir(model_dir: str) -> None:
    """Checks whether a model_dir can be written to, before minutes are spent on results that could not be saved.

    Raises:
      ODEvalError: it cannot, or it has a name in which TensorFlow cannot find checkpoints.
    """
    if not model_dir:
        raise ODEvalError("model_dir is empty; name a folder for the results.")
    if set("*?[]") & set(model_dir):
        raise ODEvalError(
            f"model_dir '{model_dir}' contains one of * ? [ ], which TensorFlow takes for a pattern and then finds no"
            " checkpoint; choose another name."
        )
    probe = files.temporary_path(os.path.join(model_dir, "od_eval"))
    try:
        files.write_whole(probe, "")
    except ODEvalError as error:
        reason = files.reason(error.__cause__ or error)
        raise ODEvalError(f"model_dir '{model_dir}' cannot be written to: {reason}.") from error
    with files.errors_as_sentences(f"model_dir '{model_dir}' cannot be written to"):
        files.remove(probe)


def best_or_newest(model_dir: str) -> str:
    """The path of the best checkpoint; if there is none that can be read, the model_dir, for its newest checkpoint."""
    directory = best.directory_in(model_dir)
    best_checkpoint = best.read_best(directory)
    if best_checkpoint is None:
        return model_dir
    path = os.path.join(directory, best_checkpoint["checkpoint"])
    reason = best.damage(path)
    if reason is None:
        return path
    print(f"warning: the best checkpoint '{path}' is damaged ({reason}); the newest one is taken.", file=sys.stderr)
    return model_dir
