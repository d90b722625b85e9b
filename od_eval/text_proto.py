"""Reads text files in protobuf's text format, with errors that give file, line and a probable correction."""

from __future__ import annotations

import os
import re

from google.protobuf import text_format
from google.protobuf.message import Message

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.text import backslash_hint, did_you_mean, named, printable


def read_text(path: str, what: str) -> str:
    """Reads a text file from any file system, in UTF-8, with or without a byte order mark.

    Args:
      path: the file.
      what: the description of the file in messages.

    Raises:
      ODEvalError: the file cannot be read; the message names it and the reason.
    """
    try:
        if files.is_folder(path):
            raise ODEvalError(f"{what} '{printable(path)}' is a folder; name the file in it.")
        return files.read_text(path)
    except UnicodeDecodeError as error:
        raise ODEvalError(f"{what} '{printable(path)}' is not a text file.") from error
    except (FileNotFoundError, ValueError) as error:  # the latter: no file has such a name, with a NUL for example
        looked_from = "" if files.is_remote(path) else f" (working directory: {os.getcwd()})"
        raise ODEvalError(f"{what} '{printable(path)}' does not exist{looked_from}{backslash_hint(path)}.") from error
    except OSError as error:
        raise ODEvalError(f"{what} '{printable(path)}' cannot be read: {files.reason(error)}.") from error


def parse_text_proto(text: str, message: Message, source: str) -> None:
    """Merges a text proto into a message.

    A field given twice in the text is an error, also where protobuf would merge both or take the last.

    Args:
      text: text in protobuf's text format.
      message: the message to change.
      source: the name of the text in errors, a file for example.

    Raises:
      ODEvalError: with the line, and the field that was probably meant.
    """
    try:
        # Not into the message itself, in which fields may be set that the text sets again.
        message.MergeFrom(text_format.Parse(text, type(message)()))
    except text_format.ParseError as error:
        line = f":{error.GetLine()}" if error.GetLine() else ""
        reason = re.sub(r"^\d+:\d+ : ", "", str(error)).rstrip(".")
        unknown = re.search(r'Message type "([\w.]+)" has no field named "(\w+)"', reason)
        if unknown:
            message_type = message.DESCRIPTOR.file.pool.FindMessageTypeByName(unknown[1])
            known = [field.name for field in message_type.fields]
            reason = f"{message_type.name} has no field '{named(unknown[2])}'{did_you_mean(unknown[2], known)}"
        twice = re.search(r'Message type "[\w.]*?(\w+)" should not have multiple "(\w+)" fields', reason)
        if twice:
            lists = [field for field in message.DESCRIPTOR.fields if field.is_repeated and field.message_type]
            own = next((f", or give each its own {one.name}" for one in lists if one.message_type.name == twice[1]), "")
            reason = f"'{twice[2]}' is given twice in one {twice[1]}; remove one of them{own}"
        rivals = re.search(r'Field "(\w+)" is specified along with field "(\w+)"', reason)
        if rivals:
            reason = f"'{rivals[1]}' is given beside '{rivals[2]}', and only one of them can be; remove one"
        number = error.GetLine()
        written = text.splitlines()[number - 1] if number and number <= len(text.splitlines()) else text
        if "escape" in reason and "\\" in written:
            reason = "a backslash in quotes begins an escape, and this one is none; write / or \\\\ instead of \\"
        raise ODEvalError(f"{source}{line}: {printable(reason, 500)}.") from error
