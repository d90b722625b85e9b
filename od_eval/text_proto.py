"""Reads text files in protobuf's text format, with errors that give file, line and a probable correction."""

from __future__ import annotations

import os
import re

from google.protobuf import text_format
from google.protobuf.message import Message

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.text import did_you_mean


def read_text(path: str, what: str) -> str:
    """Reads a text file from any file system.

    Args:
      path: the file.
      what: the description of the file in messages.

    Raises:
      ODEvalError: the file cannot be read; the message names it and the reason.
    """
    try:
        if files.is_folder(path):
            raise ODEvalError(f"{what} '{path}' is a folder; name the file in it.")
        return files.read_text(path)
    except FileNotFoundError as error:
        raise ODEvalError(f"{what} '{path}' does not exist (working directory: {os.getcwd()}).") from error
    except UnicodeDecodeError as error:
        raise ODEvalError(f"{what} '{path}' is not a text file.") from error
    except OSError as error:
        raise ODEvalError(f"{what} '{path}' cannot be read: {files.reason(error)}") from error


def parse_text_proto(text: str, message: Message, source: str) -> None:
    """Merges a text proto into a message.

    Args:
      text: text in protobuf's text format.
      message: the message to change.
      source: the name of the text in errors, a file for example.

    Raises:
      ODEvalError: with the line, and the field that was probably meant.
    """
    try:
        text_format.Merge(text, message)
    except text_format.ParseError as error:
        line = f":{error.GetLine()}" if error.GetLine() else ""
        reason = re.sub(r"^\d+:\d+ : ", "", str(error)).rstrip(".")
        unknown = re.search(r'Message type "([\w.]+)" has no field named "(\w+)"', reason)
        if unknown:
            message_type = message.DESCRIPTOR.file.pool.FindMessageTypeByName(unknown[1])
            known = [field.name for field in message_type.fields]
            reason = f"{message_type.name} has no field '{unknown[2]}'{did_you_mean(unknown[2], known)}"
        raise ODEvalError(f"{source}{line}: {reason}.") from error
