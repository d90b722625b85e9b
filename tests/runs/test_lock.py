"""One training at a time in a model_dir, whatever became of the one before."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.runs import lock
from od_eval.runs.lock import locked

REPOSITORY = Path(__file__).parents[2]
HOLD = (
    "import sys; from od_eval.runs.lock import locked\n"
    "with locked(sys.argv[1]):\n    print('held', flush=True); sys.stdin.readline()\n"
)


@contextlib.contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_training_is_refused_and_told_who_has_the_folder(tmp_path):
    with another_process(tmp_path) as process:
        with pytest.raises(ODEvalError) as error, locked(str(tmp_path)):
            pytest.fail("it has begun")
        assert f"model_dir '{tmp_path}' is in use by a training (process {process.pid} on " in str(error.value)
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait()
        assert not list(tmp_path.iterdir()), "the file is gone with its training"
    with locked(str(tmp_path)):
        pass


def test_a_training_that_was_killed_does_not_lock_its_folder(tmp_path, capsys):
    with another_process(tmp_path) as process:
        process.kill()
        process.wait()
        assert list(tmp_path.iterdir())
        with locked(str(tmp_path)):
            assert json.loads((tmp_path / ".training").read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == ""


def test_two_trainings_in_one_process_are_two(tmp_path):
    with locked(str(tmp_path)), pytest.raises(ODEvalError, match="is in use by a training"), locked(str(tmp_path)):
        pytest.fail("it has begun")


@pytest.fixture(params=["another machine", "remote", "no locks"])
def unseen(request, tmp_path, monkeypatch):
    """A folder and its lock file, of a process that cannot be seen; half a second without a sign of life is death."""
    monkeypatch.setattr(lock, "_SECONDS_BETWEEN_SIGNS_OF_LIFE", 0.1)
    monkeypatch.setattr(lock, "_SECONDS_UNTIL_DEAD", 0.5)
    folder = f"ram://{uuid.uuid4().hex}/run" if request.param == "remote" else str(tmp_path)
    if request.param == "no locks":
        monkeypatch.setattr(lock, "fcntl", None)
    owner = {"host": "elsewhere", "process": 7, "since": "noon", "alive": time.time()}
    if request.param == "no locks":
        owner |= {"host": lock.socket.gethostname(), "process": os.getppid()}
    files.write_whole(f"{folder}/.training", json.dumps(owner))
    return folder


def test_a_process_that_gives_no_sign_of_life_is_dead(unseen, capsys):
    with locked(unseen):
        pass
    assert "waiting for a sign of life" in capsys.readouterr().err
    assert files.names_in(unseen) == []


def test_a_process_that_gives_a_sign_of_life_keeps_the_folder(unseen):
    ended = lock.threading.Event()
    path = f"{unseen}/.training"
    other = lock.threading.Thread(target=lock._show_life, args=(path, lock._owner(path), ended))
    other.start()
    try:
        with pytest.raises(ODEvalError, match="is in use by a training"), locked(unseen):
            pytest.fail("it has begun")
    finally:
        ended.set()
        other.join()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ODEvalError, match=r"model_dir '.*/file/run' cannot be written to"),
        locked(f"{tmp_path}/file/run"),
    ):
        pytest.fail("it has begun")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": "x"}', "\udcff"])
def test_a_damaged_lock_file_locks_nothing(tmp_path, content):
    (tmp_path / ".training").write_text(content, errors="surrogateescape")
    with locked(str(tmp_path)):
        pass


@pytest.mark.parametrize(
    "content", ['{"process": Infinity}', '{"host": "a", "process": 1e400, "since": "", "alive": 0}', "[" * 10**5]
)
def test_a_lock_file_of_impossible_numbers_locks_nothing(tmp_path, content):
    (tmp_path / ".training").write_text(content)
    with locked(str(tmp_path)):
        pass


def test_a_lock_that_another_has_taken_over_is_left_to_it(tmp_path):
    path = tmp_path / ".training"
    with locked(str(tmp_path)):
        path.write_text(json.dumps({"host": "elsewhere", "process": 7, "since": "noon", "alive": 0}))
    assert json.loads(path.read_text())["host"] == "elsewhere"
