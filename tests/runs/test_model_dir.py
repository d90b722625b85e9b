"""A model_dir: whether it can be written to, which checkpoint is meant, and all of it on a remote filesystem."""

import uuid

import pytest
import tensorflow as tf

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation.result import EvaluationResult
from od_eval.runs import best, metrics_files, model_dir
from od_eval.runs.summary import summary_table


def result(step, ap):
    return EvaluationResult(num_images=4, step=step, bbox={"AP": ap}, losses={"total_loss": 1.0 / step})


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    return str(tmp_path / "run") if request.param == "local" else f"ram://{uuid.uuid4().hex}/run"


def test_one_that_can_be_written_to_is_left_as_it_was(folder):
    model_dir.check_model_dir(folder)
    assert files.names_in(folder) == []


def test_one_that_cannot_is_said_before_anything_else(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ODEvalError, match="cannot be written"):
        model_dir.check_model_dir(str(tmp_path / "file" / "run"))
    with pytest.raises(ODEvalError, match="TensorFlow takes for a pattern"):
        model_dir.check_model_dir(str(tmp_path / "lr[0.1]"))


def test_evaluations_are_written_read_and_set_aside(folder):
    run = f"{folder}/eval"
    for step, ap in ((100, 0.25), (200, 0.75), (300, 0.5)):
        metrics_files.write(run, result(step, ap))
    assert metrics_files.load_metrics(folder)["step"] == 300
    assert [one.step for one in metrics_files.read_all(run)] == [100, 200, 300]
    table = summary_table(folder, "eval")
    assert [line.split() for line in table.splitlines()][:2] == [
        ["first", "best", "last", "good", "by", "convention"],
        ["step", "100", "200", "300"],
    ]
    assert ["eval", "AP", "0.2500", "0.7500", "0.5000", "0.45–0.65"] in [line.split() for line in table.splitlines()]
    assert metrics_files.drop_after(run, 200) == 1
    assert metrics_files.load_metrics(folder)["step"] == 200
    assert files.names_in(f"{run}/metrics/replaced-at-step-00000200") == ["step-00000300.json"]
    with pytest.raises(ODEvalError, match=r"run 'night' .* runs with evaluations are 'eval'"):
        metrics_files.load_metrics(folder, "night")


def test_the_best_checkpoint_is_the_one_that_is_meant(folder):
    assert model_dir.best_or_newest(folder) == folder
    directory = best.directory_in(folder)
    files.make_folder(directory)
    for step in (100, 200):
        tf.train.Checkpoint(step=tf.Variable(step)).write(f"{directory}/ckpt-{step}")
    about = {"metric": "val_AP", "mode": "max", "value": 0.5, "step": 200, "checkpoint": "ckpt-200"}
    best.write_best(directory, about)
    assert best.read_best(directory) == about
    assert model_dir.best_or_newest(folder) == f"{directory}/ckpt-200"
    assert files.names_in(directory) == ["best.json", "checkpoint", "ckpt-200.data-00000-of-00001", "ckpt-200.index"]


def test_the_best_checkpoint_of_an_earlier_training_is_moved_away(tmp_path):
    # Not on `ram://`, which takes best-replaced-1 for a part of the folder best.
    directory = best.directory_in(str(tmp_path))
    about = {"metric": "val_AP", "mode": "max", "value": 0.5, "step": 200, "checkpoint": "ckpt-200"}
    for number in (1, 2):
        files.write_whole(f"{directory}/ckpt-200.index", "")
        best.write_best(directory, about)
        assert best.move_away(directory) == f"{directory}-replaced-{number}"
        assert best.read_best(directory) is None
        assert best.read_best(f"{directory}-replaced-{number}") == about


def test_the_table_has_good_values_for_metrics_with_a_convention_alone(folder):
    run = f"{folder}/eval"
    values = {"AP": 0.5, "AP50": 0.75, "AP75": 0.25}
    metrics_files.write(run, EvaluationResult(num_images=4, step=100, bbox=values, losses={"total_loss": 1.0}))
    assert summary_table(folder, "eval").splitlines() == [
        "                    first      best      last  good by convention",
        "step                  100       100       100",
        "eval total_loss    1.0000    1.0000    1.0000",
        "eval AP            0.5000    0.5000    0.5000  0.45–0.65",
        "eval AP50          0.7500    0.7500    0.7500  0.85–0.95",
        "eval AP75          0.2500    0.2500    0.2500",
    ]
    metrics_files.write(run, EvaluationResult(num_images=4, step=100, losses={"total_loss": 1.0}))
    assert summary_table(folder, "eval").splitlines() == [
        "                    first      last",
        "step                  100       100",
        "eval total_loss    1.0000    1.0000",
    ]


def test_a_run_without_evaluations_has_no_table(folder):
    assert summary_table(folder, "eval") == f"There is no evaluation in {folder}/eval."
