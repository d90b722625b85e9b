"""Reads lists of a JSON file entry by entry: of a file of many gigabytes, a few megabytes are in memory.

Python's own decoder reads the entries, so that what is valid, what a value is, and what is said of an error, is as in
`json.loads`; ijson is slower, reads no NaN, and knows no line of an error.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from od_eval import files
from od_eval.errors import ODEvalError

_BYTES_AT_ONCE = 2**22
_NEAR_END = 2**16  # characters, in which at least one object begins, or the objects are too large to gain from it
_DECODER = json.JSONDecoder()
_AFTER_VALUE = (",", "]", "}", ":", " ", "\t", "\n", "\r")
_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN_OBJECTS = re.compile(r"\}[ \t\n\r]*,[ \t\n\r]*\{")


def list_entries(path: files.Path, keys: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The entries of lists in the object that an annotation file holds.

    Args:
      path: the JSON file, on any file system.
      keys: of the lists.

    Yields:
      The key of a list and an entry, as they stand in the file.

    Raises:
      ODEvalError: the file cannot be read, is not JSON, or has not one list for each of the keys.
    """
    name = f"annotation file '{path}'"
    found = set()
    try:
        with files.open_read(path) as file:
            text = _Text(file.read)
            try:
                if text.next() != "{":
                    text.value()
                    text.end()
                    raise ODEvalError(f"{name} is not COCO JSON: it does not hold an object.")
                for key in text.members():
                    if key not in keys or text.next() != "[":
                        text.value()
                        continue
                    if key in found:
                        raise ODEvalError(f"{name} has two lists '{key}'; keep one of them.")
                    found.add(key)
                    for entry in text.entries():
                        yield key, entry
                text.end()
            except json.JSONDecodeError as error:
                line = text.lines_before + error.lineno
                raise ODEvalError(f"{name}, line {line}, is not JSON: {error.msg}.") from error
            except (ValueError, RecursionError) as error:  # not UTF-8; a number of thousands of digits; too deep
                raise ODEvalError(f"{name} is not JSON: {error}.") from error
    except OSError as error:
        raise ODEvalError(f"{name} cannot be read: {files.reason(error)}.") from error
    for key in keys:
        if key not in found:
            raise ODEvalError(f"{name} is not COCO ground truth: it has no list '{key}'.")


class _Text:
    """A JSON text of which only a part is in memory, and a position in it.

    Args:
      read: returns the next bytes of the file, so many at most, and none at its end.

    Attributes:
      lines_before: the number of lines before the part in memory.
    """

    def __init__(self, read: Callable[[int], bytes]):
        self._read = read
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._part = ""
        self._at = 0
        self._is_new = False  # whether the part in memory was read since the last attempt to read much of it at once
        self._is_last = False
        self.lines_before = 0

    def _read_on(self) -> None:
        """Drops what is before the position, and reads at least as much as there is left."""
        content = self._read(max(_BYTES_AT_ONCE, len(self._part) - self._at))
        self._is_last = not content
        self.lines_before += self._part.count("\n", 0, self._at)
        self._part = self._part[self._at :] + self._decoder.decode(content, final=self._is_last)
        self._at = 0
        self._is_new = True

    def next(self) -> str:
        """The next character that is no space; the position is there. At the end of the text, an empty string."""
        while True:
            self._at = _SPACE.match(self._part, self._at).end()  # type: ignore[union-attr]  # it always matches
            if self._at < len(self._part) or self._is_last:
                return self._part[self._at : self._at + 1]
            self._read_on()

    def value(self) -> Any:
        """Reads a value."""
        while True:
            self.next()
            try:
                value, end = _DECODER.raw_decode(self._part, self._at)
            except json.JSONDecodeError:
                if self._is_last:
                    raise
            else:
                # Anything else may be the beginning of a number.
                if self._is_last or self._part[end : end + 1] in _AFTER_VALUE:
                    self._at = end
                    return value
            self._read_on()

    def entries(self) -> Iterator[Any]:
        """Reads a list, value by value."""
        self._expect("[")
        if self.next() == "]":
            self._at += 1
            return
        while True:
            yield from self._whole_objects()
            yield self.value()
            if self.next() == "]":
                self._at += 1
                return
            self._expect(",")

    def _whole_objects(self) -> list[Any]:
        """Reads what can be read at once, as that is faster: the objects of a list that are in memory, but the last.

        Where one object ends and another begins near the end of the part in memory, the list goes on, if what is before
        is valid. It is not if that is in another list, or in a string: then its values are read one by one.
        """
        if not self._is_new:
            return []
        self._is_new = False
        near_end = max(self._at, len(self._part) - _NEAR_END)
        ends = [match.start() + 1 for match in _BETWEEN_OBJECTS.finditer(self._part, near_end)]
        if not ends:
            return []
        try:
            values = json.loads(f"[{self._part[self._at : ends[-1]]}]")
        except (ValueError, RecursionError):
            return []
        self._at = ends[-1]
        self._expect(",")
        return values

    def members(self) -> Iterator[str]:
        """Reads an object, key by key; the caller reads the value of each."""
        self._expect("{")
        if self.next() == "}":
            self._at += 1
            return
        while True:
            if self.next() != '"':
                raise self._error("Expecting property name enclosed in double quotes")
            key = self.value()
            self._expect(":")
            yield key
            if self.next() == "}":
                self._at += 1
                return
            self._expect(",")

    def end(self) -> None:
        """Checks that there is nothing more."""
        if self.next():
            raise self._error("Extra data")

    def _expect(self, delimiter: str) -> None:
        if self.next() != delimiter:
            raise self._error(f"Expecting '{delimiter}' delimiter")
        self._at += 1

    def _error(self, message: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(message, self._part, self._at)
