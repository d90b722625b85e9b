"""One sentence for what the Object Detection API and Keras raise when a config cannot work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from od_eval.errors import ODEvalError


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns whatever is raised inside, while something is built from a config, into an `ODEvalError`.

    Args:
      where: what the message names, for example the config file.

    Raises:
      ODEvalError: with the reason the Object Detection API gave; its own error is the cause.
      tf.errors.OperatorNotAllowedInGraphError: as it was; it asks for AutoGraph and not for the user.
    """
    try:
        yield
    except (ODEvalError, tf.errors.OperatorNotAllowedInGraphError):
        raise
    except Exception as error:
        reason = str(error)
        if reason.startswith("Exception encountered when calling layer"):  # Keras wraps it in a list of arguments
            reason = reason.split("\n\n")[1]
        reason = reason.strip().rstrip(".")
        raise ODEvalError(f"{where}: the Object Detection API cannot run this: {reason}.") from error
