"""Many independent tasks: in this process, in processes of this machine, or on a Ray cluster.

    for index, result in batch_jobs.run(convert_shard, shards, ray="auto"):
        print(f"shard {index}: {result.num_images} images")

Only here is Ray imported (the extra `od_eval[ray]`). Its workers import this package, and open what tasks name under
the same paths: both must be there on every machine of the cluster.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import multiprocessing
import multiprocessing.synchronize
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from od_eval import start_notices
from od_eval.errors import ODEvalError
from od_eval.signals import DeferredSignals

Task = TypeVar("Task")
Result = TypeVar("Result")

_RETRIES = 3  # of a task whose worker or machine is lost
_TASKS_PER_PROCESSOR = 2  # one that runs and one that waits for it; so many results are held at most
_SECONDS_BETWEEN_LOOKS = 0.2  # for Ctrl-C
_SECONDS_TO_CONNECT = 10
_THREADS_OF_TENSORFLOW = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def run(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    ray: str | None = None,
    num_processes: int = 1,
    num_threads: int | None = None,
    with_gpu: bool = False,
) -> Generator[tuple[int, Result], None, None]:
    """Calls a function for each task.

    A task on Ray is run again, up to three times, if its worker or machine is lost: what it did before must do no harm.
    Ctrl-C, SIGTERM, an error and closing the iterator stop all tasks; a long one calls `stop_if_asked` now and then.

    Args:
      function: a function of a module. It may keep in its module what later tasks of the same process need too.
      tasks: what it is called with, taken one by one as they are needed; pickled, as results are, for other processes.
      ray: None for no cluster; "auto" for the one that runs on this machine; "local" for one that is started and ended
        here; else its address, "HOST:PORT" or "ray://HOST:PORT". If this process is connected to Ray already, as in a
        notebook, that cluster is used.
      num_processes: without Ray, the number of processes on this machine; 1 means this process.
      num_threads: on Ray, the number of processors that a task takes, which is that of TensorFlow's threads there;
        None: one, and as many threads as TensorFlow chooses.
      with_gpu: on Ray, whether a task takes a GPU, if the cluster has any.

    Yields:
      The index of a task and its result, in the order in which they end.

    Raises:
      ODEvalError: `function` raised it; Ray is not installed or cannot be reached; a process was killed, on Ray again
        and again.
    """
    if ray is None and num_processes == 1:
        yield from _run_here(function, tasks)
        return
    engine: _Engine = _Processes(num_processes) if ray is None else _Ray(ray, num_threads, with_gpu)
    waiting = enumerate(tasks)
    running: dict[Any, int] = {}
    with DeferredSignals() as signals:
        try:
            while True:
                free = max(0, engine.num_processors() * _TASKS_PER_PROCESSOR - len(running))
                for index, task in itertools.islice(waiting, free):
                    running[engine.submit(function, task)] = index
                if not running:
                    return
                for handle in engine.wait(running):
                    yield running.pop(handle), engine.result(handle)
                signals.raise_if_received()
        finally:
            engine.close(running)


def stop_if_asked() -> None:
    """Raises an exception, which ends the task that calls this, if `run` was told to stop."""
    _stop_if_asked()


def not_shared(path: str, but: str) -> ODEvalError:
    """The error of a file or folder that this process does not see.

    Args:
      path: the file or folder.
      but: where it should be seen, as a clause: "where a worker runs".
    """
    return ODEvalError(
        f"'{path}' is not there on machine '{socket.gethostname()}', {but}; all machines must see the same files under"
        " the same paths, as on a network file system or gs://."
    )


def _nobody_asks() -> None:
    """On Ray, which ends the worker of a task that is to stop; and outside of `run`."""


_stop_if_asked: Callable[[], None] = _nobody_asks


def _run_here(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Generator[tuple[int, Result], None, None]:
    global _stop_if_asked
    with DeferredSignals() as signals:
        before, _stop_if_asked = _stop_if_asked, signals.raise_if_received
        try:
            for index, task in enumerate(tasks):
                yield index, function(task)
                signals.raise_if_received()
        finally:
            _stop_if_asked = before


class _Engine(Protocol):
    """What runs tasks; a handle stands for one of them."""

    def num_processors(self) -> int:
        """The number of tasks that can run at the same time."""

    def submit(self, function: Callable[[Any], Any], task: Any) -> Any:
        """Begins a task; returns its handle."""

    def wait(self, handles: Collection[Any]) -> Collection[Any]:
        """The handles of tasks that have ended; returns after a moment even if none has."""

    def result(self, handle: Any) -> Any:
        """The result of a task that has ended."""

    def close(self, handles: Collection[Any]) -> None:
        """Stops these tasks, and then the engine."""


class _Processes:
    """Processes of this machine, which end whenever this process ends."""

    def __init__(self, number: int):
        # Not forked: the caller's process may have threads, TensorFlow's for example.
        context = multiprocessing.get_context("spawn")
        self._number = number
        self._stop = context.Event()
        self._pool = concurrent.futures.ProcessPoolExecutor(number, context, _start_worker, (self._stop,))

    def num_processors(self) -> int:
        return self._number

    def submit(self, function: Callable[[Any], Any], task: Any) -> Any:
        try:
            return self._pool.submit(function, task)
        except concurrent.futures.process.BrokenProcessPool as error:
            raise self._killed() from error

    def wait(self, handles: Collection[Any]) -> Collection[Any]:
        first = concurrent.futures.FIRST_COMPLETED
        return concurrent.futures.wait(handles, _SECONDS_BETWEEN_LOOKS, first).done

    def result(self, handle: Any) -> Any:
        try:
            return handle.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise self._killed() from error

    def close(self, handles: Collection[Any]) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _killed(self) -> ODEvalError:
        return ODEvalError(
            "a worker process was killed, as happens when memory runs out; set num_workers to a lower number."
        )


def _start_worker(stop: multiprocessing.synchronize.Event) -> None:
    global _stop_if_asked

    def stop_if_asked() -> None:
        if stop.is_set():
            raise concurrent.futures.CancelledError

    _stop_if_asked = stop_if_asked
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    start_notices.hide()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the parent was killed; otherwise this process would wait for tasks forever


class _Ray:
    """A Ray cluster.

    Args:
      address, num_threads, with_gpu: as for `run`.

    Raises:
      ODEvalError: Ray is not installed, the cluster cannot be reached, or no machine has so many processors.
    """

    def __init__(self, address: str, num_threads: int | None, with_gpu: bool):
        try:
            import ray
        except ImportError as error:
            raise ODEvalError(f'ray={address} needs Ray; install it with: pip install "od_eval[ray]"') from error
        self._ray = ray
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            self._connect(address)
        self._takes = {"CPU": num_threads or 1}
        if with_gpu and ray.cluster_resources().get("GPU"):
            self._takes["GPU"] = 1
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fitting = [one for one in there if one.get("GPU", 0) >= self._takes.get("GPU", 0)]
        most = max((one.get("CPU", 0) for one in fitting), default=0)
        if 0 < most < self._takes["CPU"]:
            if self._is_ours:
                ray.shutdown()
            raise ODEvalError(
                f"a task takes {num_threads} processors, and no machine of the Ray cluster"
                f"{' with a GPU' if 'GPU' in self._takes else ''} has more than {most:.0f}; set num_threads to a lower"
                " number."
            )
        # Of another number of threads in processes of their own, where TensorFlow has not begun with any yet.
        variables = {name: str(num_threads) for name in _THREADS_OF_TENSORFLOW if num_threads is not None}
        self._remote = ray.remote(_call).options(
            num_cpus=self._takes["CPU"],
            num_gpus=self._takes.get("GPU"),
            max_retries=_RETRIES,
            runtime_env={"env_vars": variables} if variables else None,
        )
        self._environment = {
            name: value for name, value in os.environ.items() if name.startswith("TF_") and name not in variables
        }

    def _connect(self, address: str) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM)
        hint = ""
        try:
            # Ray would try for two minutes, and then end this process.
            if host_and_port := re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+)\]?:(\d{1,5})", address):
                host, port = host_and_port.groups()
                socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()
                hint = "; a cluster that asks for a token needs RAY_AUTH_MODE=token in the environment"
            self._ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (OSError, OverflowError, ValueError, RuntimeError) as error:
            if address == "auto":
                reason = "no cluster runs on this machine; start one with 'ray start --head', or set ray to an address"
            else:
                reason = str(error).partition("\n")[0].rstrip(".") + hint
            raise ODEvalError(f"Ray cannot be reached with ray={address}: {reason}.") from error
        finally:
            if in_main_thread:  # where Ray has put a handler of its own
                signal.signal(signal.SIGTERM, handler)

    def num_processors(self) -> int:
        there = self._ray.cluster_resources()  # of the machines that it has by now
        return max(1, min(int(there.get(name, 1) // number) for name, number in self._takes.items()))

    def submit(self, function: Callable[[Any], Any], task: Any) -> Any:
        return self._remote.remote(function, task, self._environment)

    def wait(self, handles: Collection[Any]) -> Collection[Any]:
        return self._ray.wait(list(handles), timeout=_SECONDS_BETWEEN_LOOKS)[0]

    def result(self, handle: Any) -> Any:
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ODEvalError | OSError):
                raise error.cause from None
            if isinstance(error.cause, self._ray.exceptions.RayError):  # it could not even be called
                reason = str(error.cause).strip().partition("\n")[0]
                raise ODEvalError(
                    f"a worker of Ray cannot begin: {reason}; every machine of the cluster needs od_eval[ray]."
                ) from error
            raise
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise ODEvalError(
                f"Ray gave up a task after {_RETRIES} repetitions at most, as happens when memory runs out: {reason}."
            ) from error

    def close(self, handles: Collection[Any]) -> None:
        for handle in handles:
            self._ray.cancel(handle, force=True)
        if self._is_ours:
            self._ray.shutdown()


def _call(function: Callable[[Any], Any], task: Any, environment: Mapping[str, str]) -> Any:
    """A task on Ray, in a process that knows nothing of the environment of the program."""
    os.environ.update(environment)
    return function(task)
