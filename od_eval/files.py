"""Files and folders, on this machine or any file system that TensorFlow has a client of, such as `gs://bucket/…`.

    files.write_whole("gs://bucket/runs/a/eval/metrics.json", text)
    files.names_in("runs/a")

Everything in this package that opens, lists, moves or removes a file does it here. A path that contains `://` goes
through `tf.io.gfile`; other paths do not need TensorFlow. Failures raise an `OSError` (`FileNotFoundError`, …) in both
cases.
"""

from __future__ import annotations

import contextlib
import errno
import glob as globbing
import io
import json
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from od_eval.errors import ODEvalError

Path = str | os.PathLike[str]

# As it stands in the names of temporary files.
_HOST = re.sub(r"\W", "_", socket.gethostname())
# Of this process, as in a container every process may have the same number.
_TOKEN = uuid.uuid4().hex[:4]
_SECONDS_OF_A_DAY = 24 * 3600
_BYTES_AT_A_TIME = 2**19  # of a remote file; TensorFlow's client reads no less


def is_remote(path: Path) -> bool:
    """Whether opening a path needs TensorFlow."""
    return "://" in os.fspath(path)


def absolute(path: Path) -> str:
    """The absolute path; remote paths are already absolute."""
    return os.fspath(path) if is_remote(path) else os.path.abspath(path)


def parent(path: Path) -> str:
    """The absolute path of the folder around a file or folder; that of a bucket is the bucket itself."""
    whole = absolute(path)
    if not is_remote(whole):
        return os.path.dirname(whole)
    around = os.path.dirname(whole.rstrip("/"))
    return around if is_remote(around) else whole.rstrip("/")


def reason(error: BaseException) -> str:
    """The message of a file system or TensorFlow error, without the path and any further lines."""
    message = getattr(error, "strerror", None) or getattr(error, "message", None) or error
    answer = re.search(r'HTTP response code (\d+)(?:.*?"message": *"(.*?)")?', str(message), re.DOTALL)
    if answer:  # of a bucket's server, in JSON
        return f"its server answers {answer[1]}" + (f", {answer[2].rstrip('.')}" if answer[2] else "")
    # TensorFlow's internals, around or above the reason: nodes of the graph, the operation, what called it.
    message = re.sub(r"\{\{.*?\}\} ?|\[\[.*?\]\]| ?\[Op:\w+\]( name: ?)?", "", str(message))
    lines = [re.sub(r"^\(\d+\) +[A-Z_]+: +", "", line.strip()) for line in message.splitlines()]
    return next((line for line in lines if line and not _ABOVE_A_REASON.match(line)), type(error).__name__)


_ABOVE_A_REASON = re.compile(r"Graph execution error|Detected at node|<stack traces|\d+ root error|File \"|[\W_]*$")


def exists(path: Path) -> bool:
    """Whether a file or folder exists."""
    if not is_remote(path):
        _check_slashes(path)
        return os.path.exists(path)
    with _gfile(path) as gfile:
        return gfile.exists(path)


def is_folder(path: Path) -> bool:
    """Whether a folder exists."""
    if not is_remote(path):
        _check_slashes(path)
        return os.path.isdir(path)
    with _gfile(path) as gfile:
        # Where a folder cannot be looked up, isdir only says that it is none; exists raises the reason.
        return gfile.isdir(path) or (gfile.exists(path) and gfile.isdir(path))


def size(path: Path) -> int:
    """The length of a file in bytes."""
    if not is_remote(path):
        return os.path.getsize(path)
    with _gfile(path) as gfile:
        return gfile.stat(path).length


def modified(path: Path) -> float:
    """When a file was last written, as `time.time()`."""
    if not is_remote(path):
        return os.path.getmtime(path)
    with _gfile(path) as gfile:
        return gfile.stat(path).mtime_nsec / 1e9


def names_in(folder: Path) -> list[str]:
    """The names of the files and folders in a folder, sorted; empty if there is no such folder."""
    if not is_folder(folder):
        return []
    if not is_remote(folder):
        return sorted(os.listdir(folder))
    with _gfile(folder) as gfile:
        return sorted(name.rstrip("/") for name in gfile.listdir(folder))


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A folder and all folders below it, each with the sorted names of its files.

    Links to folders are followed; a folder that has already been visited is skipped.
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
    """The files in and below a folder in the order of `walk`: relative paths with forward slashes."""
    start = os.fspath(folder)
    for root, names in walk(start):
        inside = root[len(start) :].replace(os.sep, "/").strip("/")
        for name in names:
            yield f"{inside}/{name}" if inside else name


def dataset_files_below(folder: Path) -> list[str]:
    """`files_below` without hidden files and folders, and without what macOS adds to ZIP files (`__MACOSX`)."""
    return [
        path
        for path in files_below(folder)
        if not any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
    ]


def glob(pattern: str) -> list[str]:
    """The files that match a pattern, sorted. TensorFlow also matches local files, because it reads the records."""
    with _gfile(pattern) as gfile:
        return sorted(gfile.glob(pattern))


def read_bytes(path: Path) -> bytes:
    """The contents of a file.

    Raises:
      OSError: it cannot be read, or is no regular file: a pipe or a device may never end.
    """
    if not is_remote(path):
        with open_local(path) as file:
            return file.read()
    with _gfile(path) as gfile, gfile.GFile(path, "rb") as file:
        return file.read()


def open_local(path: Path) -> BinaryIO:
    """Opens a file on this machine, to read parts of it.

    Raises:
      OSError: it cannot be opened, or is no regular file.
    """
    _check_name(path)
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):  # opening a folder says what it is
        raise OSError(errno.EINVAL, "not a regular file but a pipe or a device", os.fspath(path))
    return open(path, "rb")


@contextlib.contextmanager
def open_read(path: Path) -> Iterator[BinaryIO]:
    """Opens a file, on any file system, to read it in parts.

    Raises:
      OSError: it cannot be opened or read, or is no regular file.
    """
    if not is_remote(path):
        with open_local(path) as file:
            yield file
        return
    with _gfile(path) as gfile, gfile.GFile(path, "rb") as remote:
        yield io.BufferedReader(_RemoteFile(remote, gfile.stat(path).length), _BYTES_AT_A_TIME)


class _RemoteFile(io.RawIOBase):
    """What others, such as pyarrow, ask of a file, and `tf.io.gfile.GFile` does not have in full."""

    def __init__(self, file: Any, num_bytes: int):
        super().__init__()
        self._file = file
        self._num_bytes = num_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._num_bytes}[whence]
        self._file.seek(position)
        return position

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _check_slashes(path: Path) -> None:
    """Raises an `OSError` for `gs:/bucket`, which would be a folder on this machine."""
    if re.match(r"\w\w+:/(?!/)", os.fspath(path)):
        reason = "it has one slash after the colon, so write two, in a string, as a Path drops one"
        raise OSError(errno.EINVAL, reason, os.fspath(path))


def _check_name(path: Path) -> None:
    """Raises an `OSError` for a path that Python would not even ask the file system for, or that cannot be meant."""
    _check_slashes(path)
    try:
        os.fsencode(path).index(b"\0")
    except UnicodeEncodeError:
        raise OSError(errno.EINVAL, "the path has half a character, which no file name can have") from None
    except ValueError:
        return
    raise OSError(errno.EINVAL, "the path has a null character, which no file name can have")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark; line endings are kept.

    Raises:
      UnicodeDecodeError: it is not UTF-8.
      OSError: it cannot be read.
    """
    return read_bytes(path).decode("utf-8-sig")


def read_json(path: Path, what: str = "") -> Any:
    """The contents of a JSON file.

    Args:
      path: the file.
      what: the description of the file in messages, before its path: "annotation file".

    Raises:
      ODEvalError: it cannot be read or is not JSON; the message names the line if it is known.
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
    """Creates a folder and its parents if they are missing."""
    if not is_remote(path):
        _check_name(path)
        os.makedirs(path or ".", exist_ok=True)
        return
    with _gfile(path) as gfile:
        if gfile.isdir(path):
            return
    bucket = re.match(r"gs://[^/]*/?", os.fspath(path))
    if bucket:
        with contextlib.suppress(PermissionError):  # who may write objects need not see the bucket
            if not exists(bucket[0]):  # TensorFlow would look for a folder above it, for ever
                raise OSError(errno.ENOENT, f"there is no bucket {bucket[0]}", os.fspath(path))
    with _gfile(path) as gfile:
        gfile.makedirs(path)


def rename(source: Path, target: Path) -> None:
    """Moves a file, replacing any existing one, or a folder, within one file system."""
    if not is_remote(source):
        os.replace(source, target)
    elif is_folder(source):  # not every remote file system can move folders
        for name in files_below(source):
            make_folder(os.path.dirname(f"{os.fspath(target)}/{name}"))
            rename(f"{os.fspath(source)}/{name}", f"{os.fspath(target)}/{name}")
        remove(source)
    else:
        with _gfile(source) as gfile:
            gfile.rename(source, target, overwrite=True)


def copy(source: Path, target: Path) -> None:
    """Copies a file, replacing any existing one; either may be remote."""
    if not is_remote(source) and not is_remote(target):
        shutil.copyfile(source, target)
        return
    with _gfile(target if is_remote(target) else source) as gfile:
        gfile.copy(source, target, overwrite=True)


def on_this_machine(path: Path, folder: Path) -> str:
    """The path of a file for what opens local files only: its own, or that of a copy, with its ending.

    Args:
      path: the file.
      folder: on this machine, for the copy, which is removed with it.

    Raises:
      OSError: it cannot be read.
    """
    if not is_remote(path):
        return os.fspath(path)
    local = os.path.join(folder, f"copy{os.path.splitext(path)[1]}")
    copy(path, local)
    return local


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-links a file if the file system supports it, otherwise copies it, completely or not at all."""
    with contextlib.suppress(OSError):  # another file system, or no links; copying reports other errors
        if not is_remote(source) and not is_remote(target):
            os.link(source, target)
            return
    temporary = temporary_path(target)
    copy(source, temporary)
    rename(temporary, target)


def remove(path: Path) -> None:
    """Removes a file, or a folder with its contents."""
    if is_remote(path):
        with _gfile(path) as gfile:
            (gfile.rmtree if gfile.isdir(path) else gfile.remove)(path)
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def write_whole(path: Path, contents: str | bytes) -> None:
    """Writes to a temporary file, syncs it to disk, then renames it into place.

    Args:
      path: the file; its folder is created if missing.
      contents: text, written as UTF-8, or bytes.

    Raises:
      ODEvalError: it cannot be written; no partial file is left, and an older file is kept unchanged.
    """
    data = contents.encode("utf-8") if isinstance(contents, str) else contents
    temporary = temporary_path(path)
    try:
        make_folder(os.path.dirname(path))
        if is_remote(path):
            with _gfile(path) as gfile, gfile.GFile(temporary, "wb") as file:
                file.write(data)
        else:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        rename(temporary, path)
        sync(os.path.dirname(path) or os.curdir)
    except OSError as error:
        raise ODEvalError(f"'{os.fspath(path)}' cannot be written: {reason(error)}") from error
    finally:  # also if a signal interrupts
        with contextlib.suppress(OSError):  # the error above matters more
            if exists(temporary):
                remove(temporary)


def append(path: Path, data: bytes) -> None:
    """Adds bytes to the end of a file, which is created if missing. If it fails, a part of them may be there.

    Raises:
      OSError: it cannot be written.
    """
    if is_remote(path):
        with _gfile(path) as gfile, gfile.GFile(path, "ab") as file:
            file.write(data)
    else:
        with open(path, "ab") as file:
            file.write(data)


def free_path(path: Path) -> str:
    """The path, or the first that is free when the number at its end is counted up: `a-1`, `a-2`; `a`, `a.2`, `a.3`."""
    wanted = os.fspath(path)
    match = re.fullmatch(r"(.*-)1", wanted, re.DOTALL)
    stem, number, free = match[1] if match else f"{wanted}.", 1, wanted
    while exists(free):
        number += 1
        free = f"{stem}{number}"
    return free


def set_aside(path: Path, why: str) -> str:
    """Renames a file or folder that is damaged, so that work goes on without it, and says so on stderr.

    Args:
      path: the file or folder.
      why: a sentence about what is wrong; a remedy, behind its last semicolon, is left out.

    Returns:
      Its new path: `best.json.damaged-1`.

    Raises:
      ODEvalError: it cannot be renamed.
    """
    aside = free_path(f"{os.fspath(path)}.damaged-1")
    with errors_as_sentences(f"'{os.fspath(path)}' is damaged and cannot be renamed"):
        rename(path, aside)
    print(f"warning: {why.rpartition(';')[0] or why.rstrip('.')}; it was renamed to '{aside}'.", file=sys.stderr)
    return aside


def sync(path: Path) -> None:
    """Waits until a local file, or the entries of a local folder, are on disk, as far as its file system can.

    Raises:
      OSError: the disk has failed, or is full: what was written may be lost.
    """
    if is_remote(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):  # it cannot sync folders
            raise
    finally:
        os.close(descriptor)


def temporary_path(path: Path) -> str:
    """A new path next to a file or folder that is being written, which tells the process that writes it."""
    return f"{os.fspath(path)}.{_HOST}-{os.getpid()}-{_TOKEN}{uuid.uuid4().hex[:4]}.tmp"


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[str]:
    """An empty folder for the time of the context, by default in the system's temporary folder.

    What killed processes have left there is removed.
    """
    parent = os.fspath(parent or tempfile.gettempdir())
    remove_leftovers(parent)
    folder = temporary_path(os.path.join(parent, "od_eval"))
    make_folder(folder)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            remove(folder)


@contextlib.contextmanager
def new_folder(path: Path, last: Sequence[str]) -> Iterator[str]:
    """A temporary folder to write to, which becomes the folder `path` at the end of the context, unless it fails.

    On this machine it lies beside `path`, and is renamed. Other file systems, as a bucket, cannot rename a folder, nor
    need they have one: for them it lies on this machine, and its files are copied.

    Args:
      path: there must be nothing yet.
      last: relative paths, with forward slashes, of the files by which readers tell that the folder is whole, as far as
        it will have them. They are copied when all others are there, in this order.

    Raises:
      OSError: it cannot be written; then nothing is left at `path`.
    """
    target = os.fspath(path)
    parent = os.path.dirname(absolute(target))
    temporary = temporary_path(target)
    remove_leftovers(parent)
    if not is_remote(target):
        try:
            make_folder(temporary)
            yield temporary
            rename(temporary, target)
        finally:  # also if a signal interrupts
            with contextlib.suppress(OSError):  # an error above matters more
                if exists(temporary):
                    remove(temporary)
        return
    make_folder(parent)
    append(temporary, b"")  # what cannot be written is known before the work
    remove(temporary)
    with temporary_folder() as folder:
        yield folder
        order = {name: number for number, name in enumerate(last, start=1)}
        try:
            for name in sorted(files_below(folder), key=lambda name: (order.get(name, 0), name)):
                make_folder(os.path.dirname(f"{target}/{name}"))
                copy(os.path.join(folder, name), f"{target}/{name}")
        except BaseException:  # also if a signal interrupts
            with contextlib.suppress(OSError):
                remove(target)
            raise


def remove_leftovers_below(folder: Path) -> None:
    """`remove_leftovers` in a folder and, on this machine, in the folders below it, as deep as a run has any."""
    remove_leftovers(folder)
    if is_remote(folder):
        return
    for depth in range(1, 4):
        for path in globbing.glob(os.path.join(globbing.escape(os.fspath(folder)), *["*"] * depth, "")):
            if not os.path.islink(path.rstrip("/")):
                remove_leftovers(path)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes have left at a `temporary_path` in a folder.

    What belongs to a process that lives stays. A process of another machine is taken for dead after a day.
    """
    try:
        names = names_in(folder)
    except FileNotFoundError:  # removed by another process
        return
    for name in names:
        written_by = re.search(r"\.(\w+)-(\d+)-([0-9a-f]{4})[0-9a-f]{4}\.tmp$", name)
        if not written_by:
            continue
        path = os.path.join(os.fspath(folder), name)
        with contextlib.suppress(OSError):  # of another user, or removed by another process
            if written_by[1] == _HOST and int(written_by[2]) == os.getpid():
                is_left = written_by[3] != _TOKEN
            elif written_by[1] == _HOST:
                is_left = not is_alive(int(written_by[2]))
            else:
                is_left = time.time() - modified(path) > _SECONDS_OF_A_DAY
            if is_left:
                remove(path)


def is_alive(process: int) -> bool:
    """Whether a process of this machine lives."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        return True
    return True


@contextlib.contextmanager
def errors_as_sentences(what: str) -> Iterator[None]:
    """Turns an `OSError` raised inside into an `ODEvalError`.

    Args:
      what: the beginning of the sentence: what could not be done.
    """
    try:
        yield
    except OSError as error:
        path = f"'{error.filename}': " if error.filename else ""
        raise ODEvalError(f"{what}: {path}{reason(error)}.") from error


@contextlib.contextmanager
def _gfile(path: Path) -> Iterator[Any]:
    """`tf.io.gfile`, with its errors converted to `OSError`."""
    import tensorflow as tf

    scheme, is_url, _ = os.fspath(path).partition("://")
    if is_url and scheme not in tf.io.gfile.get_registered_schemes():  # some functions would say that nothing is there
        raise OSError(
            errno.EPROTONOSUPPORT,
            f"this TensorFlow has no file system for {scheme}://, so copy the files to this machine or to gs://, or"
            " mount the bucket as a folder",
            os.fspath(path),
        )
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
        # That of a missing file is said in other words by each file system.
        is_told = error.message and (number != errno.ENOENT or "bucket does not exist" in error.message)
        raise OSError(number, reason(error) if is_told else os.strerror(number), os.fspath(path)) from error
