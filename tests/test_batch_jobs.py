"""Tasks in this process, in processes of this machine, and on Ray: the same results, and errors in a sentence."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from od_eval import batch_jobs
from od_eval.errors import ODEvalError


def squared(number: int) -> int:
    if number == 13:
        raise ODEvalError("there is no square of 13.")
    return number * number


def killed_once(path: Path) -> int:
    """Ends its process without a word when it is called for the first time; then returns the number of the process."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def always_killed(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def until_stopped(path: Path) -> None:
    path.touch()
    while True:
        batch_jobs.stop_if_asked()
        time.sleep(0.01)


def its_share(_: object) -> tuple[str | None, ...]:
    """The GPUs and the threads that a task is to use, and the number of its process."""
    names = ("CUDA_VISIBLE_DEVICES", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return (*map(os.environ.get, names), str(os.getpid()))


@pytest.fixture(params=["here", "processes", "ray"])
def where(request) -> dict:
    """The arguments of `batch_jobs.run` that say where tasks run."""
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
        return {"ray": "auto"}
    return {"num_processes": 2 if request.param == "processes" else 1}


def test_each_task_has_its_result(where) -> None:
    assert dict(batch_jobs.run(squared, range(12), **where)) == {number: number * number for number in range(12)}
    assert list(batch_jobs.run(squared, [], **where)) == []


def test_tasks_are_taken_as_they_are_needed(where) -> None:
    taken = []
    results = batch_jobs.run(squared, (taken.append(number) or number % 10 for number in range(1000)), **where)
    for _ in range(5):
        next(results)
    results.close()
    assert 5 <= len(taken) <= 10


def test_an_error_of_a_task_is_the_same_sentence(where) -> None:
    with pytest.raises(ODEvalError, match=r"^there is no square of 13\.$") as error:
        list(batch_jobs.run(squared, range(20), **where))
    assert type(error.value) is ODEvalError


def test_ctrl_c_ends_tasks_that_run(tmp_path, where) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            for _ in batch_jobs.run(until_stopped, interrupted(tmp_path / "began", where), **where):
                pass
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted(path: Path, where: dict):
    """Tasks that run until they are stopped; Ctrl-C comes after the first was taken."""
    os.kill(os.getpid(), signal.SIGINT)
    yield path


def test_a_killed_process_of_this_machine_is_said_so(tmp_path) -> None:
    with pytest.raises(ODEvalError, match=r"a worker process was killed, .*set num_workers to a lower number"):
        list(batch_jobs.run(killed_once, [tmp_path / "a", tmp_path / "b"], num_processes=2))


def test_a_task_of_a_killed_worker_of_ray_runs_again(tmp_path, ray_cluster) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    assert dict(batch_jobs.run(killed_once, paths, ray="auto")).keys() == {0, 1, 2}
    assert all(path.exists() for path in paths)


def test_a_task_that_kills_each_worker_of_ray_is_given_up(ray_cluster) -> None:
    with pytest.raises(
        ODEvalError, match="Ray gave up a task after 3 repetitions at most, as happens when memory runs out: "
    ):
        list(batch_jobs.run(always_killed, [0], ray="auto"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"^Ray cannot be reached with ray=127\.0\.0\.1:1: .*Connection refused\.$"),
        ("ray://127.0.0.1:1", "Connection refused"),
        ("nonsense", "Ray cannot be reached with ray=nonsense: Invalid address format"),
        ("localhost:99999", "Ray cannot be reached with ray=localhost:99999: "),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_said_so_at_once(monkeypatch, address, message) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # whatever other tests have started
    with pytest.raises(ODEvalError, match=message):
        list(batch_jobs.run(squared, [1], ray=address))


def test_a_cluster_that_does_not_run_is_said_so_and_how_to_start_one(monkeypatch) -> None:
    ray = pytest.importorskip("ray")

    def init(*_: object, **__: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")  # as Ray says it

    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # whatever other tests have started
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        ODEvalError, match=r"ray=auto: no cluster runs on this machine; start one with 'ray start --head'"
    ):
        list(batch_jobs.run(squared, [1], ray="auto"))


def test_ray_that_is_not_installed_is_said_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ODEvalError, match=r'ray=auto needs Ray; install it with: pip install "od_eval\[ray\]"'):
        list(batch_jobs.run(squared, [1], ray="auto"))


def test_a_task_on_ray_takes_the_processors_and_the_gpu_it_is_to_use(ray_cluster) -> None:
    shares = [share for _, share in batch_jobs.run(its_share, range(4), ray="auto", num_threads=2, with_gpu=True)]
    assert {share[:3] for share in shares} == {("0", "2", "2")}
    others = [share for _, share in batch_jobs.run(its_share, range(4), ray="auto")]
    assert {share[1:3] for share in others} == {(None, None)}
    # TensorFlow keeps the number of threads that it begins with.
    assert {share[3] for share in shares}.isdisjoint(share[3] for share in others)
    with pytest.raises(ODEvalError, match="takes 9 processors, and no machine of the Ray cluster has more than 2;"):
        list(batch_jobs.run(its_share, range(4), ray="auto", num_threads=9))
