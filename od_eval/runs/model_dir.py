"""A model_dir as a whole: whether it can be written to, and which of its checkpoints to use."""

from __future__ import annotations

import os

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.runs import best


def check_model_dir(model_dir: str) -> None:
    """Finds out whether a model_dir can be written to, before minutes are spent on what could not be saved.

    Raises:
      ODEvalError: it cannot, or its name is one that TensorFlow cannot find checkpoints in.
    """
    if set("*?[]") & set(model_dir):
        raise ODEvalError(
            f"model_dir '{model_dir}' has one of * ? [ ] in it, which TensorFlow takes for a pattern and then finds no"
            " checkpoint; choose another name."
        )
    probe = os.path.join(model_dir, ".od_eval_can_write")
    files.write_whole(probe, "")
    files.remove(probe)


def best_or_newest(model_dir: str) -> str:
    """The best checkpoint of a training; the model_dir itself, which stands for its newest one, where there is no best.

    Raises:
      ODEvalError: `best.json` is damaged.
    """
    directory = best.directory_in(model_dir)
    found = best.read_best(directory)
    return os.path.join(directory, found["checkpoint"]) if found else model_dir
