"""One sentence for what the Object Detection API, Keras and TensorFlow raise when something cannot work."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator

import tensorflow as tf
from object_detection.protos import input_reader_pb2

from od_eval.errors import ODEvalError
from od_eval.odapi.records import find_broken_record


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns whatever is raised inside, while something is built from a config, into an `ODEvalError`.

    Args:
      where: what the message names, for example the config file.

    Raises:
      ODEvalError: with the reason the Object Detection API gave; its own error is the cause.
      tf.errors.OperatorNotAllowedInGraphError: as it was: it is meant for AutoGraph, not for the user.
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
        download = re.fullmatch(r"URL fetch failure on (\S+): (.*)", reason, re.DOTALL)
        if download:  # of weights that Keras keeps; only CenterNet MobileNet v2 begins with such
            folder = os.path.join(os.path.expanduser("~"), ".keras", "models")
            raise ODEvalError(
                f"{where}: the model needs {download[1]}, which cannot be downloaded ({download[2]}); put the file into"
                f" {folder}."
            ) from error
        if re.match(r"Dimensions must be equal, but are \d+ and \d+ for .*/top_down/", reason):
            raise ODEvalError(
                f"{where}: at this size of images the levels of the feature pyramid do not fit each other; make height"
                " and width of the image_resizer multiples of 32, or pad_to_multiple of the feature_extractor 32."
            ) from error
        raise ODEvalError(f"{where}: the Object Detection API cannot run this: {reason}.") from error


def explained_op_error(
    error: tf.errors.OpError,
    readers: Iterable[input_reader_pb2.InputReader],
    batch_size_field: str,
    batch_size: int,
) -> ODEvalError:
    """What an error in the middle of training or evaluation means to the user.

    Args:
      error: as TensorFlow raised it.
      readers: what was being read; a record that cannot be used is looked for in their files.
      batch_size_field: the field of the config that decides how much memory is needed.
      batch_size: its value.
    """
    if isinstance(error, tf.errors.ResourceExhaustedError) and "allocating" in error.message:
        return ODEvalError(
            f"memory does not suffice for a batch; lower {batch_size_field}, now {batch_size}, or the size of the"
            " image_resizer."
        )
    if "No space left" in error.message:
        return ODEvalError("the disk is full; make room and start again to go on from the newest checkpoint.")
    print("Looking for the record that cannot be read …", file=sys.stderr, flush=True)
    for reader in readers:
        broken = find_broken_record(reader)
        if broken:
            return ODEvalError(f"{broken}; make the file again or take the record out.")
    return ODEvalError(
        f"TensorFlow could not go on: {error.message.strip().splitlines()[-1]}; verbosity 1 shows where."
    )
