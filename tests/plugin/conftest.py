"""A run for all tests of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugin_run import write_run


@pytest.fixture(scope="session")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of trainings: `shapes/a`, with the runs `eval` and `eval/night`, and `b`, which has no evaluation."""
    folder = tmp_path_factory.mktemp("plugin") / "logdir"
    write_run(folder / "shapes" / "a" / "eval")
    write_run(folder / "shapes" / "a" / "eval" / "night", masks=True)
    (folder / "b" / "train").mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def run_dir(logdir: Path) -> str:
    """The first of its runs."""
    return str(logdir / "shapes" / "a" / "eval")
