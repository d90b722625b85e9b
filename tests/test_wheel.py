"""The wheel, as a user installs it: nothing of the repository is beside it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from od_eval import load_metrics

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """`od-eval` in an environment that has the wheel, and otherwise sees the packages of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(REPOSITORY / "od_eval", source / "od_eval", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", source], check=True)
    (wheel,) = folder.glob("od_eval-*.whl")

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, f"--python={python}", "install", "--no-deps", wheel], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Only the folder: the link to this repository that an editable installation leaves there is not followed.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv" / "bin" / "od-eval"


def run(program: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_its_quickstart_draws_trains_and_says_what_to_look_at_and_does_nothing_twice(program, tmp_path):
    sizes = ("--num_train=8", "--num_validation=4", "--num_train_steps=10")
    first = run(program, tmp_path, "quickstart", *sizes)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert "Drawing 8 + 4 images into quickstart/shapes …" in lines
    assert lines[-3] == f"Look at the results: {program.parent}/tensorboard --logdir {tmp_path}/quickstart/run"
    assert lines[-2].endswith("#timeseries")
    assert lines[-1].endswith("#images")
    metrics = load_metrics(tmp_path / "quickstart" / "run")
    assert (metrics["step"], metrics["num_images"]) == (10, 4)
    written = sorted((tmp_path / "quickstart" / "shapes").iterdir())

    again = run(program, tmp_path, "quickstart", *sizes)
    assert again.returncode == 0, again.stderr
    assert "Nothing to train" in again.stdout
    assert "Drawing" not in again.stdout
    assert sorted((tmp_path / "quickstart" / "shapes").iterdir()) == written


def test_each_of_its_programs_has_help(program, tmp_path):
    from od_eval.cli import PROGRAMS

    for name in PROGRAMS:
        result = run(program, tmp_path, name, "--help")
        assert (result.returncode, result.stderr) == (0, "")
        assert f"od-eval {name}" in result.stdout or "scripts/" in result.stdout
