"""Writing files whole or not at all."""

from __future__ import annotations

import os
import uuid

import tensorflow as tf

from od_eval.errors import ODEvalError


def write_whole(path: str, contents: str | bytes) -> None:
    """Writes a file on any filesystem `tf.io.gfile` knows: aside first, then renamed into place.

    Args:
      path: the file; its folder is made where it is missing.
      contents: text, written as UTF-8, or bytes.

    Raises:
      ODEvalError: it cannot be written; nothing is left of the attempt, and an older file stays as it was.
    """
    aside = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")
        with tf.io.gfile.GFile(aside, "wb" if isinstance(contents, bytes) else "w") as file:
            file.write(contents)
        tf.io.gfile.rename(aside, path, overwrite=True)
    except (tf.errors.OpError, OSError) as error:
        raise ODEvalError(f"'{path}' cannot be written: {getattr(error, 'message', error)!s}") from error
    finally:  # also where a signal interrupts
        if tf.io.gfile.exists(aside):
            tf.io.gfile.remove(aside)
