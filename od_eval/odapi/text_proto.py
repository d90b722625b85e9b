"""Text files in protobuf's text format, from any filesystem, with errors that say file, line and what was meant."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from od_eval.errors import ODEvalError


def read_text(path: str, what: str) -> str:
    """Reads a text file from any filesystem; an `ODEvalError` names it where that fails."""
    import tensorflow as tf  # here, as worker processes that convert images import this module and need no TensorFlow

    try:
        if tf.io.gfile.isdir(path):
            raise ODEvalError(f"{what} '{path}' is a folder; name the file in it.")
        with tf.io.gfile.GFile(path, "r") as file:
            return file.read()
    except tf.errors.NotFoundError as error:
        raise ODEvalError(f"{what} '{path}' does not exist (working directory: {os.getcwd()}).") from error
    except UnicodeDecodeError as error:
        raise ODEvalError(f"{what} '{path}' is not a text file.") from error
    except tf.errors.OpError as error:
        raise ODEvalError(f"{what} '{path}' cannot be read: {first_line(error)}") from error


def parse_text_proto(text: str, message: Message, source: str) -> None:
    """Merges text proto into `message`; an `ODEvalError` says file, line and the field that was probably meant."""
    try:
        text_format.Merge(text, message)
    except text_format.ParseError as error:
        line = f":{error.GetLine()}" if error.GetLine() else ""
        reason = re.sub(r"^\d+:\d+ : ", "", str(error)).rstrip(".")
        unknown = re.search(r'Message type "([\w.]+)" has no field named "(\w+)"', reason)
        if unknown:
            message_type = message.DESCRIPTOR.file.pool.FindMessageTypeByName(unknown[1])
            reason = f"{message_type.name} has no field '{unknown[2]}'{did_you_mean(unknown[2], message_type)}"
        raise ODEvalError(f"{source}{line}: {reason}.") from error


def did_you_mean(name: str, message_type: Descriptor) -> str:
    """The end of a message about a field that there is not: the field of nearly that name, if there is one."""
    return did_you_mean_one_of(name, [field.name for field in message_type.fields])


def did_you_mean_one_of(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that there is not: the known one that is nearly that, if there is one."""
    similar = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{similar[0]}'?" if similar else ""


def first_line(error: Exception) -> str:
    """What an error of TensorFlow says, without the pages that may follow."""
    return str(getattr(error, "message", None) or error).strip().splitlines()[0]
