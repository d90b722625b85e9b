"""BestCheckpoint: which checkpoint it keeps, over restarts too, and that what best.json names is there."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest
import tensorflow as tf

import od_eval
from od_eval.errors import ODEvalError

NAN = float("nan")


@pytest.fixture
def keras() -> Any:
    """tf_keras, which `tf.keras` is in this process; tests/callbacks/test_keras3_backends.py has Keras 3."""
    return importlib.import_module("tf_keras")


def make_model(keras: Any, step: int = 0) -> Any:
    """Each step adds 1 to the bias."""
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, prediction: y - prediction, run_eagerly=True)  # no tracing
    model.build((None, 1))
    model.optimizer.iterations.assign(step)
    return model


def train(keras: Any, model: Any, best: Any, *evaluations: dict[str, float]) -> None:
    """Epochs of two steps, each with what an evaluation at its end puts into the logs."""
    evaluate = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(evaluations[epoch]))
    x = np.zeros((2, 1), np.float32)
    model.fit(x, x, batch_size=1, epochs=len(evaluations), verbose=0, callbacks=[evaluate, best])


def of_ap(*values: float) -> list[dict[str, float]]:
    return [{"val_AP": value} for value in values]


def kept(model_dir: Path) -> tuple[int, str, float] | None:
    """Step, metric and value of the best checkpoint; that all of it fits together is checked."""
    folder = model_dir / "best"
    if not (folder / "best.json").exists():
        return None
    best = json.loads((folder / "best.json").read_text())
    name = f"ckpt-{best['step']}"
    assert best["checkpoint"] == name
    assert tf.train.latest_checkpoint(folder) == str(folder / name)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("best.json", "checkpoint", f"{name}.data-00000-of-00001", f"{name}.index")
    ]
    assert tf.train.load_checkpoint(str(folder / name))
    return best["step"], best["metric"], best["value"]


# ---- Which is the best ----------------------------------------------------------------------------------------------


def test_the_checkpoint_with_the_highest_ap_is_kept_and_holds_the_weights_of_its_step(tmp_path, keras):
    model = make_model(keras)
    train(keras, model, od_eval.BestCheckpoint(tmp_path), *of_ap(0.25, 0.75, 0.5))
    assert kept(tmp_path) == (4, "val_AP", 0.75)
    assert float(model.layers[0].bias.numpy()[0]) == 6.0
    restored = make_model(keras)
    checkpoint = tf.train.Checkpoint(model=restored, optimizer=restored.optimizer)
    checkpoint.restore(tf.train.latest_checkpoint(tmp_path / "best"))
    assert float(restored.layers[0].bias.numpy()[0]) == 4.0
    assert int(restored.optimizer.iterations) == 4


def test_a_model_that_has_a_checkpoint_of_its_own_is_saved_as_that(tmp_path, keras):
    model = make_model(keras)
    model.checkpoint = lambda: tf.train.Checkpoint(mine=model.layers[0].bias)
    train(keras, model, od_eval.BestCheckpoint(tmp_path), *of_ap(0.25))
    names = [name for name, _ in tf.train.list_variables(tf.train.latest_checkpoint(tmp_path / "best"))]
    assert "mine/.ATTRIBUTES/VARIABLE_VALUE" in names
    assert not [name for name in names if name.startswith("model")]


@pytest.mark.parametrize(
    ("arguments", "evaluations", "expected"),
    [
        ({}, [{"val_segm_AP": 0.25, "val_AP": 0.5}, {"val_segm_AP": 0.5, "val_AP": 0.25}], (4, "val_segm_AP", 0.5)),
        (
            {"metric": "val_AP"},
            [{"val_segm_AP": 0.25, "val_AP": 0.5}, {"val_segm_AP": 0.5, "val_AP": 0.25}],
            (2, "val_AP", 0.5),
        ),
        (
            {"metric": "val_total_loss"},
            [{"val_total_loss": 3.0}, {"val_total_loss": 1.0}, {"val_total_loss": 2.0}],
            (4, "val_total_loss", 1.0),
        ),
        ({"metric": "val_error", "mode": "min"}, [{"val_error": 3.0}, {"val_error": 1.0}], (4, "val_error", 1.0)),
        ({"metric": "val_my_loss", "mode": "max"}, [{"val_my_loss": 3}, {"val_my_loss": 1}], (2, "val_my_loss", 3)),
        ({}, of_ap(0.5, 0.5), (2, "val_AP", 0.5)),
        ({}, of_ap(NAN, 0.25, NAN, float("inf")), (4, "val_AP", 0.25)),
        ({"metric": "val_total_loss"}, [{"val_total_loss": NAN}, {"val_total_loss": -float("inf")}], None),
        ({}, [{"val_AP": 0.25}, {}, {"val_AP": 0.5}], (6, "val_AP", 0.5)),
        ({}, of_ap(0.0), (2, "val_AP", 0.0)),
        (
            {"needs_certainty": True},
            [{"val_AP": 0.5, "val_AP_certain": 0.5}, {"val_AP": 0.6, "val_AP_certain": 0.5}],
            (2, "val_AP_certain", 0.5),
        ),
        (
            {"needs_certainty": True},
            [{"val_AP": 0.5, "val_AP_certain": 0.5}, {"val_AP": 0.8, "val_AP_certain": 0.8}],
            (4, "val_AP_certain", 0.8),
        ),
    ],
)  # fmt: skip
def test_metric_and_mode_decide(tmp_path, keras, arguments, evaluations, expected):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path, **arguments), *evaluations)
    assert kept(tmp_path) == expected


def test_an_evaluation_in_the_middle_of_an_epoch_counts_with_the_weights_it_was_made_with(tmp_path, keras):
    options = od_eval.EvaluationOptions({1: "cat"}, num_pictures=0)

    def detect(model, image):
        box = [[[1.0, 1.0, 9.0, 9.0]]]
        found = [1 if int(model.optimizer.iterations) == 3 else 0]
        return od_eval.EvaluationBatch(
            [image], [[20, 20]], od_eval.Detections(box, [[0.5]], [[1]], num=found), od_eval.GroundTruth(box, [[1]])
        )

    evaluation = od_eval.DetectionEvaluation([1], tmp_path, detect=detect, options=options, every_n_steps=3)
    x = np.zeros((8, 1), np.float32)
    best = od_eval.BestCheckpoint(tmp_path)
    make_model(keras).fit(x, x, batch_size=1, verbose=0, callbacks=[evaluation, best])
    assert kept(tmp_path) == (3, "val_AP", pytest.approx(1.0))
    bias = tf.train.load_variable(
        tf.train.latest_checkpoint(tmp_path / "best"), "model/layer_with_weights-0/bias/.ATTRIBUTES/VARIABLE_VALUE"
    )
    assert bias == [3.0]


def test_one_that_never_saw_its_metric_says_so(tmp_path, keras):
    with pytest.warns(UserWarning, match="never saw val_AP50 in the logs, and saved nothing"):
        train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path, "val_AP50"), *of_ap(0.5))
    assert not (tmp_path / "best").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), {}, *of_ap(0.5))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"model_dir": ""}, "model_dir is empty"), ({"mode": "auto"}, "not 'auto'")]
)
def test_wrong_arguments_are_refused_when_the_callback_is_made(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        od_eval.BestCheckpoint(**{"model_dir": tmp_path, **arguments})


# ---- Over restarts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "expected"), [(0.5, (4, "val_AP", 0.75)), (0.875, (8, "val_AP", 0.875))])
def test_what_was_the_best_before_a_restart_has_to_be_beaten(tmp_path, keras, value, expected):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.25, 0.75, 0.5))
    train(keras, make_model(keras, step=6), od_eval.BestCheckpoint(tmp_path), *of_ap(value))
    assert kept(tmp_path) == expected


def test_a_checkpoint_that_another_callback_restores_when_training_begins_is_heeded(tmp_path, keras):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    model, x = make_model(keras), np.zeros((2, 1), np.float32)
    restore = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: model.optimizer.iterations.assign(2),
        on_epoch_end=lambda epoch, logs: logs.update(val_AP=0.5),
    )
    model.fit(x, x, batch_size=1, verbose=0, callbacks=[restore, od_eval.BestCheckpoint(tmp_path)])
    assert kept(tmp_path) == (2, "val_AP", 0.75)


@pytest.mark.parametrize("same", [True, False])
def test_several_fits_in_a_row_are_one_training(tmp_path, keras, same):
    model, best = make_model(keras), od_eval.BestCheckpoint(tmp_path)
    for values in ((0.25, 0.5), (0.75,), (0.625,)):
        train(keras, model, best, *of_ap(*values))
        best = best if same else od_eval.BestCheckpoint(tmp_path)
    assert kept(tmp_path) == (6, "val_AP", 0.75)


def test_another_metric_than_before_begins_its_own_comparison(tmp_path, keras):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    best = od_eval.BestCheckpoint(tmp_path, "val_total_loss")
    train(keras, make_model(keras, step=2), best, {"val_total_loss": 5.0}, {"val_total_loss": 6.0})
    assert kept(tmp_path) == (4, "val_total_loss", 5.0)


def test_a_training_that_begins_at_step_0_begins_anew_and_what_was_kept_stays_beside_it(tmp_path, keras, capsys):
    for number, value in enumerate((0.75, 0.5, 0.25), start=1):
        train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(value))
        assert kept(tmp_path) == (2, "val_AP", value)
        said = f"of step 2, is now in {tmp_path}/best-replaced-{number - 1}.\n" if number > 1 else ""
        assert capsys.readouterr().err.endswith(said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "best-replaced-1", "best-replaced-2"]
    assert json.loads((tmp_path / "best-replaced-1" / "best.json").read_text())["value"] == 0.75
    assert tf.train.latest_checkpoint(tmp_path / "best-replaced-1")


# ---- What goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"metric": "val_AP"}',
        "\udcff",
        '{"metric": "a", "mode": "", "value": "x", "step": 1, "checkpoint": ""}',
    ],
)
def test_a_folder_with_a_damaged_best_json_is_set_aside_and_the_training_goes_on(tmp_path, keras, capsys, text):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    (tmp_path / "best" / "best.json").write_text(text, errors="surrogateescape")
    train(keras, make_model(keras, step=2), od_eval.BestCheckpoint(tmp_path), *of_ap(0.5))
    assert kept(tmp_path) == (4, "val_AP", 0.5)
    told = capsys.readouterr().err
    assert f"warning: '{tmp_path}/best/best.json' is damaged" in told
    assert f"it was renamed to '{tmp_path}/best.damaged-1'" in told
    assert (tmp_path / "best.damaged-1" / "ckpt-2.index").exists()


def test_a_best_checkpoint_that_is_damaged_is_set_aside(tmp_path, keras, capsys):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    data = tmp_path / "best" / "ckpt-2.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    train(keras, make_model(keras, step=2), od_eval.BestCheckpoint(tmp_path), *of_ap(0.5))
    assert kept(tmp_path) == (4, "val_AP", 0.5)
    assert f"warning: the best checkpoint '{tmp_path}/best/ckpt-2' is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("state", ['model_checkpoint_path: "ckpt-1"\n', "", None])
def test_a_kill_after_best_json_leaves_the_rest_to_the_next_process(tmp_path, keras, state):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    folder = tmp_path / "best"
    for file in folder.glob("ckpt-2.*"):
        shutil.copy(file, str(file).replace("ckpt-2.", "ckpt-1."))
    (folder / "checkpoint").unlink() if state is None else (folder / "checkpoint").write_text(state)
    train(keras, make_model(keras, step=2), od_eval.BestCheckpoint(tmp_path), *of_ap(0.5))
    assert kept(tmp_path) == (2, "val_AP", 0.75)


def test_a_best_checkpoint_that_somebody_deleted_need_not_be_beaten(tmp_path, keras, capsys):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    for file in (tmp_path / "best").glob("ckpt-2.*"):
        file.unlink()
    train(keras, make_model(keras, step=2), od_eval.BestCheckpoint(tmp_path), *of_ap(0.5))
    assert "best.json' names ckpt-2, which is gone" in capsys.readouterr().err
    assert kept(tmp_path) == (4, "val_AP", 0.5)


def test_a_folder_that_somebody_deleted_during_a_training_is_made_again(tmp_path, keras):
    model, best = make_model(keras), od_eval.BestCheckpoint(tmp_path)
    train(keras, model, best, *of_ap(0.5))
    shutil.rmtree(tmp_path / "best")
    train(keras, model, best, *of_ap(0.25))
    assert kept(tmp_path) == (4, "val_AP", 0.25)


def test_what_a_killed_process_left_half_written_goes_with_the_next_one(tmp_path, keras):
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.5))
    (tmp_path / "best" / "ckpt-3_temp").mkdir()
    (tmp_path / "best" / "ckpt-3_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / "best" / "ckpt-3.data-00000-of-00001").write_bytes(b"whole, but without an index")
    train(keras, make_model(keras, step=2), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    assert kept(tmp_path) == (4, "val_AP", 0.75)


@pytest.mark.parametrize("step", [4, 2])
def test_where_the_disk_is_full_the_older_one_stays_and_it_is_said(tmp_path, keras, monkeypatch, step):
    """From step 2 the next checkpoint is of step 4, as is the one that is there."""
    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.25, 0.5))

    def write(self, path):
        Path(f"{path}_temp").mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, "no space left\non device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", write)
    with pytest.raises(ODEvalError, match=rf"ckpt-{step + 2}' could not be written: no space left; make room"):
        train(keras, make_model(keras, step=step), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    assert kept(tmp_path) == (4, "val_AP", 0.5)


@pytest.mark.parametrize("interrupted", ["best.json", "checkpoint"])
def test_one_that_is_interrupted_never_leaves_a_best_json_that_names_what_is_not_there(
    tmp_path, keras, monkeypatch, interrupted
):
    from od_eval import files

    train(keras, make_model(keras), od_eval.BestCheckpoint(tmp_path), *of_ap(0.5))
    write_whole = files.write_whole

    def interrupt(path, contents):
        if os.path.basename(path) == interrupted:
            raise KeyboardInterrupt
        write_whole(path, contents)

    monkeypatch.setattr(files, "write_whole", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(keras, make_model(keras, step=2), od_eval.BestCheckpoint(tmp_path), *of_ap(0.75))
    monkeypatch.undo()
    best = json.loads((tmp_path / "best" / "best.json").read_text())
    assert tf.train.load_checkpoint(str(tmp_path / "best" / best["checkpoint"]))
    train(keras, make_model(keras, step=4), od_eval.BestCheckpoint(tmp_path), *of_ap(0.875))
    assert kept(tmp_path) == (6, "val_AP", 0.875)
