"""A kill or a full disk at any write of a training with evaluation costs nothing that the next start does not mend.

After each the same command is given again, and everything that is left is compared with an undisturbed training.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from od_eval.runs.lock import locked
from read_events import curves

REPOSITORY = Path(__file__).parents[2]
FAULTS = ("kill", "full", "error")
NUMBERS = itertools.count()
NOT_OF_THE_MODEL = {"_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE"}
OF_TIME = {"steps_per_sec", "images_per_sec"}  # tags that differ: the first step of a process is not timed


class Trainings:
    """Trainings by faulty_training.py, one after the other."""

    def __init__(self, process: subprocess.Popen[str], folder: Path):
        self._process = process
        self._folder = folder

    def train(self, name: str, fault: str | None = None, at: int = 0, **more: int) -> tuple[int, str]:
        """Starts a training, or the same again; returns its exit status and what it printed."""
        model_dir = self._folder / name
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"model_dir": str(model_dir), "fault": fault, "at": at, **more}) + "\n")
        self._process.stdin.flush()
        status = json.loads(self._process.stdout.readline())["status"]
        return status, Path(f"{model_dir}.output").read_text()

    def told(self, name: str) -> dict[str, Any]:
        return json.loads(Path(f"{self._folder / name}.told").read_text())

    def left(self, name: str) -> dict[str, Any]:
        """All that a training has left, apart from times and the path of its folder."""
        model_dir = self._folder / name
        found: dict[str, Any] = {}
        for path in sorted(model_dir.rglob("*")):
            relative = str(path.relative_to(model_dir))
            if path.is_file() and not re.search(r"tfevents|replaced-at|\.data-", relative):
                found[relative] = path.read_bytes().replace(str(model_dir).encode(), b"")
                if path.suffix == ".index" or path.name == "checkpoint":  # the data are read below, times differ
                    found[relative] = b""
                if path.name == "objects_over_time.parquet":  # its metadata have times of files
                    found[relative] = pd.read_parquet(path).to_csv().encode()
        for run in ("train", "eval"):
            for tag, points in curves(model_dir / run).items():
                if tag not in OF_TIME:
                    found[f"{run} {tag}"] = points
        for folder in (model_dir, model_dir / "best"):
            newest = tf.train.latest_checkpoint(folder)
            values = tf.train.load_checkpoint(newest)
            for key in values.get_variable_to_shape_map().keys() - NOT_OF_THE_MODEL:
                found[f"{key} in {folder.name}"] = np.asarray(values.get_tensor(key)).tolist()
        return {name.replace(model_dir.name, "run"): value for name, value in found.items()}


@pytest.fixture(scope="module")
def trainings(ssd_config, config_overrides, tmp_path_factory) -> Iterator[Trainings]:
    command = [sys.executable, str(Path(__file__).with_name("faulty_training.py")), str(ssd_config), *config_overrides]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Trainings(process, tmp_path_factory.mktemp("faults"))
        process.kill()


@pytest.fixture(scope="module")
def undisturbed(trainings) -> tuple[list[str], dict[str, Any]]:
    """The writes of an undisturbed training, and what it leaves."""
    status, output = trainings.train("undisturbed")
    assert status == 0, output
    return trainings.told("undisturbed")["writes"], trainings.left("undisturbed")


def is_of_training(key: str) -> bool:
    """Whether something that is left does not depend on evaluations."""
    return key.startswith("train ") or key.endswith(" in run") or key == "pipeline.config"


def check(trainings: Trainings, undisturbed: tuple[list[str], dict[str, Any]], fault: str, at: int) -> None:
    writes, expected = undisturbed
    name = f"{fault}-{at}-{next(NUMBERS)}"  # of this test, as another one may have tried the same
    status, output = trainings.train(name, fault, at)
    assert status == (-9 if fault == "kill" else 0), f"{writes[at]}: {output}"
    assert "Traceback" not in output
    # Metrics do not depend on the analyses of errors: those that cannot be written are lost, which is said.
    not_analysed = {int(step) for step in re.findall(r"the analyses at step (\d+) could not be written", output)}
    missed = set()
    if fault != "kill":
        error = trainings.told(name)["error"]
        missed = {int(step) for step in re.findall(r"the evaluation at step (\d+) failed", output)}
        assert error or missed or "warning: " in output or trainings.left(name) == expected, (
            f"{writes[at]} in silence: {output}"
        )
    status, output = trainings.train(name)
    assert status == 0, f"{writes[at]}: {output}"
    assert trainings.told(name)["error"] is None, f"{writes[at]}: {trainings.told(name)['error']}"
    left = trainings.left(name)
    if missed:  # that was said: the evaluations of other steps are there, and all of the training
        in_files = {int(path[-8:]) for path in (key.removesuffix(".json") for key in left) if "metrics/step-" in path}
        in_table = {int(line.split(b",")[0]) for line in left.get("eval/metrics.csv", b"").splitlines()[1:]}
        assert in_files == in_table >= {2, 4, 6} - missed
        left, expected = ({key: one[key] for key in one if is_of_training(key)} for one in (left, expected))
    if not_analysed:  # those of other steps are there
        analysed = tuple(f"eval/analysis/step-{step:08d}/" for step in {2, 4, 6} - not_analysed)
        left, expected = (
            {key: one[key] for key in one if not key.startswith("eval/analysis/") or key.startswith(analysed)}
            for one in (left, expected)
        )
    differing = {key: (left.get(key), expected.get(key)) for key in {*left, *expected}}
    differing = {key: values for key, values in differing.items() if values[0] != values[1]}
    assert not differing, f"{writes[at]}: {differing}"


def test_a_fault_at_some_writes_is_mended_by_the_next_start(trainings, undisturbed):
    writes, _ = undisturbed
    points = [(fault, at) for at in range(len(writes)) for fault in FAULTS]
    for fault, at in points[:: len(points) // 20]:
        check(trainings, undisturbed, fault, at)


@pytest.mark.slow
def test_a_fault_at_any_write_is_mended_by_the_next_start(trainings, undisturbed):
    writes, _ = undisturbed
    for at in range(len(writes)):
        for fault in FAULTS:
            check(trainings, undisturbed, fault, at)


def test_a_second_training_in_the_same_folder_is_refused(trainings, tmp_path):
    folder = tmp_path / "run"
    with locked(str(folder)):
        status, output = trainings.train(str(folder))
    assert status == 0, output
    assert (
        f"model_dir '{folder}' is in use by a training (process {os.getpid()} on "
        in trainings.told(str(folder))["error"]
    )
    assert not list(folder.iterdir()), "and has written nothing"


@pytest.mark.slow
def test_a_training_of_3000_steps_takes_no_more_memory_files_and_threads_than_one_of_300(trainings):
    status, output = trainings.train("soak", steps=3000, every=50)
    assert status == 0, output
    resources = trainings.told("soak")["resources"]
    assert len(resources) == 60
    print(*(f"step {50 * index}: {one}" for index, one in enumerate(resources, 1) if index % 6 == 0), sep="\n")
    # Medians: what an analysis allocates for a moment makes a single reading uncertain by 25 MB. The two are 40
    # evaluations apart: a third of a megabyte lost in each would be noticed.
    early, late = (
        statistics.median(megabytes for megabytes, _, _ in part) for part in (resources[6:20], resources[-14:])
    )
    assert late < early + 15, "megabytes"
    for column in (1, 2):
        assert len({one[column] for one in resources[6:]}) == 1, "open files, threads"
