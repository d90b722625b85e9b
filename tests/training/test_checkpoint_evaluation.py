"""An evaluator of checkpoints beside a training, with the tiny model of faulty_training.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from faulty_training import TinyDetector

import od_eval
from od_eval.odapi.pipeline import Pipeline
from od_eval.runs import best
from od_eval.training import checkpoint_evaluation
from read_events import curves


@pytest.fixture
def evaluate(ssd_config, config_overrides, tmp_path, monkeypatch):
    """Evaluates the checkpoints of steps 2, 4 and 6, of which that of step 4 is the best."""
    monkeypatch.setattr(checkpoint_evaluation, "Detector", TinyDetector)
    monkeypatch.setattr(Pipeline, "eval_dataset", lambda self, index=0: [{}])
    detector = TinyDetector(Pipeline.load(ssd_config, config_overrides))
    detector.compile()
    manager = tf.train.CheckpointManager(detector.checkpoint(), str(tmp_path / "checkpoints"), 7)
    for step in (2, 4, 6):
        detector.step.assign(step)
        detector.model.layers[0].bias.assign([float(step)])
        manager.save()

    def evaluate() -> Path:
        checkpoint_evaluation.evaluate_checkpoints(
            ssd_config,
            str(tmp_path / "run"),
            str(tmp_path / "checkpoints"),
            overrides=config_overrides,
            num_train_steps=6,
            timeout=5,
        )
        return tmp_path / "run"

    return evaluate


def steps(run: Path) -> list[int]:
    evaluations = od_eval.load_metrics(str(run), every=True)
    assert isinstance(evaluations, list)
    return [one["step"] for one in evaluations]


def test_one_that_was_killed_before_it_kept_the_best_keeps_it_at_the_next_start(evaluate, tmp_path):
    run = evaluate()
    kept = json.loads((run / "best" / "best.json").read_text())
    assert kept["step"] == 4
    shutil.rmtree(run / "best")
    (run / "best").mkdir()
    for file in (tmp_path / "checkpoints").glob("ckpt-3.*"):
        shutil.copy(file, run / "best" / file.name.replace("ckpt-3", "ckpt-6"))
    best.write_best(str(run / "best"), kept | {"step": 6, "value": kept["value"] / 2, "checkpoint": "ckpt-6"})
    before = (run / "eval" / "metrics.csv").read_bytes()
    evaluate()
    assert json.loads((run / "best" / "best.json").read_text()) == kept
    restored = tf.train.load_checkpoint(tf.train.latest_checkpoint(run / "best"))
    assert restored.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE") == 4
    assert (run / "eval" / "metrics.csv").read_bytes() == before, "nothing is evaluated twice"
    assert steps(run) == list(curves(run / "eval")["DetectionBoxes_Precision/mAP"]) == [2, 4, 6]


def test_checkpoints_are_diagnosed_too(evaluate, tmp_path):
    for one in od_eval.load_metrics(str(evaluate()), every=True):
        assert "small_evaluation_set" in {finding["kind"] for finding in one["findings"]}


def test_a_checkpoint_given_twice_has_one_point(evaluate, ssd_config, config_overrides, tmp_path):
    run = evaluate()
    for _ in range(2):
        checkpoint_evaluation.evaluate_checkpoints(
            ssd_config, str(run), str(tmp_path / "checkpoints" / "ckpt-2"), overrides=config_overrides
        )
    assert steps(run) == sorted(curves(run / "eval")["DetectionBoxes_Precision/mAP"]) == [2, 4, 6]
    assert json.loads((run / "best" / "best.json").read_text())["step"] == 4


@pytest.mark.parametrize("number", [2, 3])
def test_a_truncated_checkpoint_is_passed_over(evaluate, tmp_path, capsys, number):
    data = tmp_path / "checkpoints" / f"ckpt-{number}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-10])
    run = evaluate()
    assert steps(run) == [step for step in (2, 4, 6) if step != 2 * number]
    assert f"warning: checkpoint '{tmp_path}/checkpoints/ckpt-{number}' is damaged" in capsys.readouterr().err
