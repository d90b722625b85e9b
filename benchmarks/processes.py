"""Commands that run at the same time, paused and measured; and trainings that take turns.

    runs, turns = train_in_turn({"a": (command_a, "runs/a"), "b": (command_b, "runs/b")}, num_turns=6, seconds=15)
    runs["a"].cpu_seconds(since, until)

Points of time are those of `time.time()`, durations are seconds.
"""

from __future__ import annotations

import glob
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
import psutil

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 1.0


class Processes:
    """Commands that run at the same time.

    Attributes:
      started: when, as `time.time()`.
      seconds: until all have ended.
      peak_megabytes: the most memory that they had together at any time, what they share counted once.
      lines: what they printed, with the time.
    """

    def __init__(self, commands: Sequence[Sequence[str]]):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.started = time.time()
        self.peak_megabytes = 0.0
        self.seconds = 0.0
        self.lines: list[tuple[float, str]] = []
        self._pauses: list[list[float]] = []  # when they began and, where it is over, when they ended
        self._cpu: list[tuple[float, float]] = []  # when, as `time.time()`, and the seconds until then
        self._processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for command in commands
        ]
        self._threads = [threading.Thread(target=self._watch)]
        self._threads += [threading.Thread(target=self._read, args=(process,)) for process in self._processes]
        for thread in self._threads:
            thread.start()

    def are_running(self) -> bool:
        return any(process.poll() is None for process in self._processes)

    def wait(self) -> None:
        """Until all have ended."""
        self._join()
        if any(process.returncode for process in self._processes):
            for process in self._processes:
                print(" ".join(process.args), file=sys.stderr)
            sys.exit("".join(line for _, line in self.lines[-30:]) + "a process that was to be measured has failed")

    def stop(self) -> None:
        """Asks all to end, and waits until they have."""
        for process in self._processes:
            process.terminate()
        self._join()

    def kill(self) -> None:
        """Ends all at once, paused ones, too."""
        for process in self._processes:
            process.kill()
        self._join()

    def pause(self) -> None:
        self._pauses.append([time.time()])
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
        self._pauses[-1].append(time.time())

    def seconds_run(self, when: float) -> float:
        """How long they had run, without pauses, at a point of time as `time.time()`."""
        return when - self.started - sum(max(0.0, min(when, until) - since) for since, until in self._pauses)

    def cpu_seconds(self, since: float, until: float) -> float:
        """How long cores were at work, between two points of time as `time.time()`."""
        before, after = np.interp([since, until], *zip(*self._cpu, strict=True))
        return after - before

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()
        self.seconds = time.time() - self.started

    def _read(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            self.lines.append((time.time(), line))
        process.wait()

    def _watch(self) -> None:
        watched = [psutil.Process(process.pid) for process in self._processes]
        while self.are_running():
            memory = cpu = 0
            complete = True
            for process in watched:
                try:
                    for one in (process, *process.children(recursive=True)):
                        memory += one.memory_full_info().pss
                        cpu += sum(one.cpu_times()[:2])  # of the user and the system
                except psutil.Error:  # it has just ended
                    complete = False
            self.peak_megabytes = max(self.peak_megabytes, memory / 1e6)
            if complete:
                self._cpu.append((time.time(), cpu))
            time.sleep(SAMPLE_SECONDS)


def train_in_turn(
    sides: dict[str, tuple[list[str], str]], num_turns: int, seconds: float
) -> tuple[dict[str, Processes], dict[str, list[tuple[float, float]]]]:
    """Starts one program after the other, each alone up to its first point, and then lets them train in turns.

    Args:
      sides: side -> its command and model_dir.
      num_turns: of each side.
      seconds: of a turn.

    Returns:
      side -> its processes, which have ended; side -> when its turns began and ended, in seconds that it had run.
    """
    runs: dict[str, Processes] = {}
    turns: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}

    def wait_for_a_point_after(step: int, side: str) -> None:
        while max(logged_steps(sides[side][1]), default=0) <= step:
            if not runs[side].are_running():
                runs[side].wait()
            time.sleep(SAMPLE_SECONDS)

    try:
        for side, (command, _) in sides.items():
            runs[side] = Processes([command])
            wait_for_a_point_after(0, side)
            runs[side].pause()
        for turn in range(num_turns):
            for side in list(sides) if turn % 2 == 0 else reversed(sides):
                run = runs[side]
                run.resume()
                since = run.seconds_run(time.time())
                time.sleep(seconds)
                turns[side].append((since, run.seconds_run(time.time())))
                run.pause()
        for side, run in runs.items():
            run.resume()
            wait_for_a_point_after(max(logged_steps(sides[side][1])), side)  # its last turn lies between two points
            run.stop()
    except BaseException:  # Ctrl-C, too: nobody else would end a program that is stopped
        for run in runs.values():
            run.kill()
        raise
    return runs, turns


def logged_steps(model_dir: str) -> dict[int, float]:
    """Step -> when its total loss was written, as `time.time()`, in order."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    points = {
        event.step: event.wall_time
        for path in glob.glob(os.path.join(model_dir, "train", "events.out.tfevents.*"))
        for event in EventFileLoader(path).Load()
        for value in event.summary.value
        if value.tag == "Loss/total_loss"
    }
    return dict(sorted(points.items()))
