"""The lock of a model_dir: only one training writes to it at a time.

    with locked("runs/a"):
        …

The operating system releases it when the process ends, even if it is killed. Where files cannot be locked, as on remote
file systems, and between machines, the time of the lock file tells whether its process is alive: it is renewed every
half minute.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

from od_eval import files
from od_eval.errors import ODEvalError

fcntl: types.ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = ".training"
_SECONDS_BETWEEN_SIGNS_OF_LIFE = 30.0
# A busy machine may be late.
_SECONDS_UNTIL_DEAD = 2.5 * _SECONDS_BETWEEN_SIGNS_OF_LIFE
# Clocks of two machines differ by less.
_SECONDS_UNTIL_SURELY_DEAD = 3600.0


@contextlib.contextmanager
def locked(model_dir: str) -> Iterator[None]:
    """Keeps other trainings out of a folder, which is created if missing.

    If the training that had it cannot be seen from here, it is waited for a sign of life, with a message.

    Raises:
      ODEvalError: a training that is alive has the folder, or the folder cannot be written to.
    """
    path = os.path.join(files.absolute(model_dir), _NAME)
    with contextlib.ExitStack() as stack:
        with files.errors_as_sentences(f"model_dir '{model_dir}' cannot be written to"):
            files.make_folder(model_dir)
            is_locked = not files.is_remote(path) and _lock(path, model_dir, stack)
            _wait_for_a_sign_of_life(path, model_dir, is_locked)
            owner = {"host": socket.gethostname(), "process": os.getpid(), "since": _now(), "alive": time.time()}
            _write(path, owner, is_locked)
            if not _is_of(path, owner):  # two that have begun at the same time
                raise _refusal(model_dir, _owner(path))
        ended = threading.Event()
        thread = threading.Thread(target=_show_life, args=(path, owner, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            try:
                if _is_of(path, owner):
                    files.remove(path)
            except FileNotFoundError:  # somebody has removed the folder
                pass
            except OSError as error:
                print(f"warning: '{path}' cannot be removed: {files.reason(error)}.", file=sys.stderr)


def _lock(path: str, model_dir: str, stack: contextlib.ExitStack) -> bool:
    """Locks a file until the stack ends; returns False if its file system cannot lock files."""
    if fcntl is None:
        return False
    while True:
        file = open(path, "a")  # noqa: SIM115 (the stack closes it)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == os.stat(path).st_ino:
                stack.callback(file.close)
                return True
        except BlockingIOError:
            raise _refusal(model_dir, _owner(path)) from None
        except FileNotFoundError:  # the training that had it has just ended, and removed it
            pass
        except OSError:
            file.close()
            return False
        file.close()


def _wait_for_a_sign_of_life(path: str, model_dir: str, is_locked: bool) -> None:
    """Returns if the process that wrote the lock file is dead."""
    owner = _owner(path)
    is_here = owner.get("host") == socket.gethostname()
    if not owner or (is_here and (is_locked or not files.is_alive(int(owner["process"])))):
        return
    first_sign = _last_sign_of_life(path)
    if time.time() - first_sign > _SECONDS_UNTIL_SURELY_DEAD:
        return
    print(
        f"A training of process {owner['process']} on {owner['host']} has written to '{model_dir}' a short time ago;"
        f" waiting for a sign of life, {_SECONDS_UNTIL_DEAD:.0f} seconds at most …",
        file=sys.stderr,
        flush=True,
    )
    end = time.monotonic() + _SECONDS_UNTIL_DEAD
    while time.monotonic() < end and files.exists(path):
        if _last_sign_of_life(path) != first_sign:
            raise _refusal(model_dir, owner)
        time.sleep(min(1.0, _SECONDS_UNTIL_DEAD / 10))


def _owner(path: str) -> dict[str, Any]:
    """What is known of the process that wrote the lock file; empty if it has not written yet, or has ended."""
    try:
        owner = json.loads(files.read_text(path))
        types_of = {"host": str, "process": int, "since": str, "alive": float}
        return {name: of_type(owner[name]) for name, of_type in types_of.items()}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}


def _is_of(path: str, owner: dict[str, Any]) -> bool:
    return {**_owner(path), "alive": None} == {**owner, "alive": None}


def _last_sign_of_life(path: str) -> float:
    """As `time.time()`: the time of a local file; not every remote file system has one."""
    return float(_owner(path).get("alive", 0)) if files.is_remote(path) else files.modified(path)


def _refusal(model_dir: str, owner: dict[str, Any]) -> ODEvalError:
    who = f"process {owner['process']} on {owner['host']}, since {owner['since']}" if owner else "another process"
    return ODEvalError(
        f"model_dir '{model_dir}' is in use by a training ({who}): two trainings would mix their checkpoints and"
        " curves; wait until it ends, stop it, or choose another model_dir."
    )


def _write(path: str, owner: dict[str, Any], in_place: bool) -> None:
    text = json.dumps(owner) + "\n"
    if in_place:  # a file that takes its place would not be locked
        with open(path, "r+") as file:
            file.truncate()
            file.write(text)
    else:
        files.write_whole(path, text)


def _show_life(path: str, owner: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(_SECONDS_BETWEEN_SIGNS_OF_LIFE):
        with contextlib.suppress(OSError, ODEvalError):  # the next one may succeed
            if not files.is_remote(path):
                os.utime(path)
            elif _is_of(path, owner):
                _write(path, owner | {"alive": time.time()}, in_place=False)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
