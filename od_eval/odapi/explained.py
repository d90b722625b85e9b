"""Explains errors of the Object Detection API, Keras and TensorFlow in one sentence."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator

import tensorflow as tf
from object_detection.protos import input_reader_pb2

from od_eval import cluster, files
from od_eval.errors import ODEvalError
from od_eval.odapi.records import find_broken_record


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Converts any exception raised while something is built from a config to an `ODEvalError`.

    Args:
      where: the subject of the message, for example the config file.

    Raises:
      ODEvalError: with the reason given by the Object Detection API; the original error is the cause.
      tf.errors.OperatorNotAllowedInGraphError: unchanged, because it is meant for AutoGraph, not for the user.
    """
    try:
        yield
    except (ODEvalError, tf.errors.OperatorNotAllowedInGraphError):
        raise
    except Exception as error:
        reason = files.reason(error) if isinstance(error, tf.errors.OpError) else str(error) or type(error).__name__
        if reason.startswith("Exception encountered when calling layer"):  # Keras wraps it in a list of arguments
            reason = reason.split("\n\n")[1]
        reason = reason.strip().rstrip(".")
        download = re.fullmatch(r"URL fetch failure on (\S+): (.*)", reason, re.DOTALL)
        if download:  # weights in Keras's cache; only CenterNet MobileNet v2 uses them
            folder = os.path.join(os.path.expanduser("~"), ".keras", "models")
            raise ODEvalError(
                f"{where}: the model needs {download[1]}, which cannot be downloaded ({download[2]}); put the file into"
                f" {folder}."
            ) from error
        if re.match(r"Dimensions must be equal, but are \d+ and \d+ for .*/top_down/", reason):
            raise ODEvalError(
                f"{where}: at this image size the levels of the feature pyramid do not fit each other; make height"
                " and width of the image_resizer multiples of 32, or pad_to_multiple of the feature_extractor 32."
            ) from error
        raise ODEvalError(f"{where}: the Object Detection API cannot run this: {reason}.") from error


def explained_op_error(
    error: tf.errors.OpError,
    readers: Iterable[input_reader_pb2.InputReader],
    batch_size_field: str,
    batch_size: int,
) -> ODEvalError:
    """Explains an error in the middle of training or evaluation to the user.

    Args:
      error: the TensorFlow error.
      readers: the input readers in use; their files are searched for a record that cannot be used.
      batch_size_field: the field of the config that decides how much memory is needed.
      batch_size: the value of that field.
    """
    lost = cluster.lost_worker(error)
    if lost is not None:
        return lost
    if isinstance(error, tf.errors.ResourceExhaustedError) and "allocating" in error.message:
        return ODEvalError(
            f"memory does not suffice for a batch; lower {batch_size_field}, now {batch_size}, or the size of the"
            " image_resizer."
        )
    if "No space left" in error.message:
        return ODEvalError("the disk is full; make room and start again to continue from the newest checkpoint.")
    print("Looking for the record that cannot be read …", file=sys.stderr, flush=True)
    for reader in readers:
        broken = find_broken_record(reader)
        if broken:
            return ODEvalError(f"{broken}; create the file again or remove the record.")
    return ODEvalError(f"TensorFlow could not continue: {files.reason(error)}; verbosity=1 shows where.")
