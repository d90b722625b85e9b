"""Files and folders, on this machine or on any filesystem that TensorFlow knows (`gs://…`, `s3://…`, `hdfs://…`).

    files.write_whole("gs://bucket/runs/a/eval/metrics.json", text)
    files.names_in("runs/a")

Everything in this package that opens, lists, moves or removes a file does it here. A path with `://` in it goes through
`tf.io.gfile`; no other path needs TensorFlow. What fails raises an `OSError` (`FileNotFoundError`, …) on either.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

from od_eval.errors import ODEvalError

Path = str | os.PathLike[str]


def is_remote(path: Path) -> bool:
    """Whether a path needs TensorFlow to be opened."""
    return "://" in os.fspath(path)


def absolute(path: Path) -> str:
    """The path from the root; a remote one is that already."""
    return os.fspath(path) if is_remote(path) else os.path.abspath(path)


def reason(error: BaseException) -> str:
    """What an error of a filesystem or of TensorFlow says, without the path and the pages that may follow."""
    said = getattr(error, "strerror", None) or getattr(error, "message", None) or error
    said = re.sub(r"\{\{function_node [^}]*\}\} ?| ?\[Op:\w+\]", "", str(said)).strip()  # where in TensorFlow it was
    return said.splitlines()[0] if said else type(error).__name__


def exists(path: Path) -> bool:
    """Whether there is a file or a folder."""
    if not is_remote(path):
        return os.path.exists(path)
    with _gfile(path) as gfile:
        return gfile.exists(path)


def is_folder(path: Path) -> bool:
    """Whether there is a folder."""
    if not is_remote(path):
        return os.path.isdir(path)
    with _gfile(path) as gfile:
        return gfile.isdir(path)


def size(path: Path) -> int:
    """The length of a file in bytes."""
    if not is_remote(path):
        return os.path.getsize(path)
    with _gfile(path) as gfile:
        return gfile.stat(path).length


def names_in(folder: Path) -> list[str]:
    """The names of the files and folders in a folder, in order; none where there is no such folder."""
    if not is_folder(folder):
        return []
    if not is_remote(folder):
        return sorted(os.listdir(folder))
    with _gfile(folder) as gfile:
        return sorted(name.rstrip("/") for name in gfile.listdir(folder))


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder at and below a folder, with the names of the files in it, in order.

    Links to folders are followed; a folder that a link leads to again is passed over.
    """
    if is_remote(folder):
        with _gfile(folder) as gfile:
            for root, _, names in gfile.walk(folder):
                yield root.rstrip("/"), sorted(names)
        return
    walked: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        if os.path.realpath(root) in walked:  # a link may lead back up
            folders.clear()
            continue
        walked.add(os.path.realpath(root))
        yield root, sorted(names)


def files_below(folder: Path) -> Iterator[str]:
    """The files at and below a folder as `walk` finds them: their paths inside it, with forward slashes."""
    start = os.fspath(folder)
    for root, names in walk(start):
        inside = root[len(start) :].replace(os.sep, "/").strip("/")
        for name in names:
            yield f"{inside}/{name}" if inside else name


def glob(pattern: str) -> list[str]:
    """The files that match a pattern, in order. TensorFlow matches local ones, too, as it is what reads records."""
    with _gfile(pattern) as gfile:
        return sorted(gfile.glob(pattern))


def read_bytes(path: Path) -> bytes:
    """The contents of a file."""
    if not is_remote(path):
        with open(path, "rb") as file:
            return file.read()
    with _gfile(path) as gfile, gfile.GFile(path, "rb") as file:
        return file.read()


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, a byte order mark at its beginning left out; line ends stay as they are.

    Raises:
      UnicodeDecodeError: it is not UTF-8.
      OSError: it cannot be read.
    """
    return read_bytes(path).decode("utf-8-sig")


def read_json(path: Path, what: str = "") -> Any:
    """What a JSON file holds.

    Args:
      path: the file.
      what: what a message calls the file, before its path: "annotation file".

    Raises:
      ODEvalError: it cannot be read or is not JSON; the message names the line where that is known.
    """
    name = f"{what} '{os.fspath(path)}'".lstrip()
    try:
        return json.loads(read_text(path))
    except OSError as error:
        raise ODEvalError(f"{name} cannot be read: {reason(error)}.") from error
    except json.JSONDecodeError as error:
        raise ODEvalError(f"{name}, line {error.lineno}, is not JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:  # not UTF-8; a number of thousands of digits; too deep
        raise ODEvalError(f"{name} is not JSON: {error}.") from error


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, where they are missing."""
    if not is_remote(path):
        os.makedirs(path or ".", exist_ok=True)
        return
    with _gfile(path) as gfile:
        gfile.makedirs(path)


def rename(source: Path, target: Path) -> None:
    """Moves a file, which replaces another one, or a folder."""
    if not is_remote(source):
        os.replace(source, target)
    elif is_folder(source):  # not every remote filesystem moves folders
        for name in files_below(source):
            make_folder(os.path.dirname(f"{os.fspath(target)}/{name}"))
            copy(f"{os.fspath(source)}/{name}", f"{os.fspath(target)}/{name}")
        remove(source)
    else:
        with _gfile(source) as gfile:
            gfile.rename(source, target, overwrite=True)


def copy(source: Path, target: Path) -> None:
    """Copies a file, which replaces another one; either may be remote."""
    if not is_remote(source) and not is_remote(target):
        shutil.copyfile(source, target)
        return
    with _gfile(source) as gfile:
        gfile.copy(source, target, overwrite=True)


def link_or_copy(source: Path, target: Path) -> None:
    """A file under a second name, where the filesystem has links, or else a copy, whole or not at all."""
    with contextlib.suppress(OSError):  # another filesystem, or none that has links; copying says what else is wrong
        if not is_remote(source) and not is_remote(target):
            os.link(source, target)
            return
    aside = f"{os.fspath(target)}.tmp"
    copy(source, aside)
    rename(aside, target)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it."""
    if is_remote(path):
        with _gfile(path) as gfile:
            (gfile.rmtree if gfile.isdir(path) else gfile.remove)(path)
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def write_whole(path: Path, contents: str | bytes) -> None:
    """Writes a file aside first, then renames it into place.

    Args:
      path: the file; its folder is made where it is missing.
      contents: text, written as UTF-8, or bytes.

    Raises:
      ODEvalError: it cannot be written; nothing is left of the attempt, and an older file stays as it was.
    """
    data = contents.encode("utf-8") if isinstance(contents, str) else contents
    aside = f"{os.fspath(path)}.{uuid.uuid4().hex}.tmp"
    try:
        make_folder(os.path.dirname(path))
        if is_remote(path):
            with _gfile(path) as gfile, gfile.GFile(aside, "wb") as file:
                file.write(data)
        else:
            with open(aside, "wb") as file:
                file.write(data)
        rename(aside, path)
    except OSError as error:
        raise ODEvalError(f"'{os.fspath(path)}' cannot be written: {reason(error)}") from error
    finally:  # also where a signal interrupts
        with contextlib.suppress(OSError):  # what was said above counts
            if exists(aside):
                remove(aside)


@contextlib.contextmanager
def _gfile(path: Path) -> Iterator[Any]:
    """`tf.io.gfile`, whose errors are made `OSError`s."""
    import tensorflow as tf

    numbers = {
        tf.errors.NotFoundError: errno.ENOENT,
        tf.errors.PermissionDeniedError: errno.EACCES,
        tf.errors.AlreadyExistsError: errno.EEXIST,
        tf.errors.FailedPreconditionError: errno.ENOTDIR,
    }
    try:
        yield tf.io.gfile
    except tf.errors.OpError as error:
        number = numbers.get(type(error), errno.EIO)
        raise OSError(number, reason(error) if error.message else os.strerror(number), os.fspath(path)) from error
