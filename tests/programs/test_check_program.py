"""`od-eval check` as a user runs it, through scripts/check_pipeline.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from od_eval.tensorboard import tags
from read_events import shown_images, shown_tensors

REPOSITORY = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(REPOSITORY / "scripts" / "check_pipeline.py")]


def run(folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, cwd=folder)


@pytest.fixture(scope="module")
def arguments(ssd_config, config_overrides) -> list[str]:
    """The arguments for a config that can be trained."""
    return [f"--pipeline_config_path={ssd_config}", *(f"--set={override}" for override in config_overrides)]


def test_a_config_is_checked_as_text_and_as_json_and_tensorboard_has_the_last_check(arguments, tmp_path) -> None:
    text = run(tmp_path, *arguments, "--log_dir=runs")
    assert (text.returncode, text.stderr) == (0, "Loading TensorFlow …\n")
    assert ": " in text.stdout.splitlines()[0]
    assert "images                                      16                     4" in text.stdout
    assert "tensorboard --logdir" in text.stdout
    wrong = run(tmp_path, *arguments, "--log_dir=runs", "--json", "--set=train_config.batch_size=0")
    report = json.loads(wrong.stdout)
    assert report["statistics"]["train_input_reader"]["images"] == 16
    assert (
        [one["severity"] for one in report["findings"]].count("error") == report["num_errors"] == wrong.returncode == 1
    )
    shown = [*shown_images(tmp_path / "runs" / "check").values(), *shown_tensors(tmp_path / "runs" / "check").values()]
    assert {len(points) for points in shown} == {1}
    assert tags.FINDINGS in shown_tensors(tmp_path / "runs" / "check")


def test_annotations_are_checked_without_tensorflow_and_warnings_count_only_if_strict(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "there.png")
    lines = ["filename,class,xmin,ymin,xmax,ymax", "there.png,cat,10,10,60,60", "missing.png,cat,1,1,9,9"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    result = run(tmp_path, "--annotations=boxes.csv", "--json")
    assert result.stderr == ""
    report = json.loads(result.stdout)
    assert any("missing.png" in finding["sentence"] for finding in report["findings"])
    assert report["num_warnings"] > 0 == report["num_errors"]
    assert result.returncode == 0
    (tmp_path / "boxes.csv").rename(tmp_path / "boxes.txt")
    (tmp_path / "label_map.pbtxt").write_text("item { id: 5 name: 'cat' }")
    strict = run(tmp_path, "--annotations=boxes.txt", "--format=csv", "--label_map=label_map.pbtxt", "--strict")
    assert strict.returncode == 1
    assert strict.stdout.startswith("boxes.txt: ")
    unknown = run(tmp_path, "--annotations=boxes.txt")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "cannot be inferred from its name; set format to coco, voc or csv" in unknown.stderr


def test_wrong_flags_and_a_config_that_cannot_be_read_are_a_sentence(tmp_path) -> None:
    nothing = run(tmp_path)
    assert nothing.returncode == 2
    assert "--annotations to say what to check" in nothing.stderr
    alone = run(tmp_path, "--pipeline_config_path=b", "--model_dir=runs")
    assert alone.stderr.endswith(
        "error: --model_dir=runs is for the scores of a model in deployment_images; give a config and"
        " --deployment_images=PATH with it, or leave it out.\n"
    )
    both = run(tmp_path, "--annotations=a.csv", "--pipeline_config_path=b")
    assert (both.returncode, both.stdout) == (1, "")
    assert both.stderr.endswith(
        "error: give either a config, --pipeline_config_path=PATH or --zoo=NAME, or --annotations=PATH.\n"
    )
