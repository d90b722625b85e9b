"""Standard output and standard error that never end a program, and that no name of a file can take over.

A closed pipe, a full disk or another encoding raise no error; control characters, with which a class name could move
the cursor or hide what is printed, are escaped.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


class UnfailingStream:
    """A text stream that loses what cannot be written, instead of raising an error.

    After `| head` has ended, or on `/dev/full`, what is written goes nowhere: a training must not end for it.
    Characters that the encoding lacks, and control characters but those of lines and progress bars, are escaped.

    Args:
      stream: `sys.stdout`, for example.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        with contextlib.suppress(AttributeError, ValueError):  # it is no file, as in a notebook or a test
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text.translate(_ESCAPES)))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def close_quietly(self) -> None:
        """Flushes for the last time; what cannot be written is given up."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _attempt(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except UnicodeEncodeError:  # of a stream that does not escape
            pass
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN):  # there may be room later
                self._give_up()
        except ValueError:  # it is closed
            self._give_up()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def _give_up(self) -> None:
        """Writes go nowhere from now on, those of TensorFlow and of the interpreter at its end too."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_ESCAPES = {code: ascii(chr(code))[1:-1] for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\r\t"}


def make_unfailing() -> None:
    """Replaces standard output and standard error of this process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, UnfailingStream):
            unfailing = UnfailingStream(stream)
            setattr(sys, name, unfailing)
            atexit.register(unfailing.close_quietly)
