"""`od-eval train --experiment=…` as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_experiments import RETINANET, overrides

REPOSITORY = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(REPOSITORY / "scripts" / "model_main_tf2.py")]


def run(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, env=environment, timeout=580, cwd=folder
    )


@pytest.mark.parametrize(
    ("flag", "remedy"),
    [
        ("--num_train_steps=3", "say --params_override=trainer.train_steps=…"),
        ("--seed=3", "leave it out"),
    ],
)
def test_flags_of_a_pipeline_config_are_refused_with_the_remedy(tmp_path, flag, remedy):
    ended = run(tmp_path, "--experiment=retinanet", "--model_dir=runs", flag)
    assert ended.returncode == 2
    assert f"{flag.partition('=')[0]} is for a pipeline.config, and this is an experiment; {remedy}" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_its_flags_without_an_experiment_are_refused(tmp_path):
    ended = run(tmp_path, "--pipeline_config_path=a.config", "--model_dir=runs", "--params_override=a=1")
    assert ended.returncode == 2
    assert "--config_file and --params_override are for an --experiment" in ended.stderr


def test_what_is_wrong_is_one_sentence(tmp_path):
    ended = run(tmp_path, "--experiment=retinanet_resnet", "--model_dir=runs")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: there is no experiment 'retinanet_resnet' in Model Garden; near to it are")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_experiment_is_trained_and_evaluated(shapes, tmp_path):
    text = overrides(RETINANET, shapes, steps=2, every_n=2)
    ended = run(tmp_path, "--experiment=retinanet_resnetfpn_coco", f"--params_override={text}", "--model_dir=runs")
    assert ended.returncode == 0, ended.stderr
    assert "eval at step 2: AP " in ended.stdout
    assert "Trained 2 steps" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "runs" / "best" / "best.json").exists()
