"""`od-eval diagnose` as a user runs it, through scripts/diagnose.py, on a run that has an obvious finding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from made_images import evaluated, random_images
from od_eval.runs import metrics_files

REPOSITORY = Path(__file__).parents[2]


def diagnose(*arguments: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(REPOSITORY / "scripts" / "diagnose.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


@pytest.fixture(scope="module")
def of_few_images(tmp_path_factory) -> Path:
    """A run that was evaluated on four images."""
    model_dir = tmp_path_factory.mktemp("run")
    result = evaluated(random_images(0, num=4)).evaluate()
    metrics_files.write(str(model_dir / "eval"), result)
    return model_dir


def test_what_was_found_is_printed_and_no_failure(of_few_images):
    done = diagnose(f"--model_dir={of_few_images}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{of_few_images}/eval: step 0; curves of 0 points, 1 evaluation\n")
    assert "of the 4 evaluated images have objects" in done.stdout


def test_json_has_the_same(of_few_images):
    done = diagnose(f"--model_dir={of_few_images}", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = {finding["kind"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["small_evaluation_set"]["evidence"]["num_images"] == 4


def test_a_folder_that_is_no_training_is_an_error_in_a_sentence(tmp_path):
    done = diagnose(f"--model_dir={tmp_path / 'nothing'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: there is no folder '{tmp_path / 'nothing'}'; give the model_dir of a training run.\n"
