"""The callbacks with models of Keras 3, on the backend of this process: TensorFlow, or with `scripts/test.sh
--backend=jax` another. What they write is compared with a training computed by hand in NumPy, the same for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import keras
import numpy as np
import pytest
import tensorflow as tf

import od_eval
import read_events
from od_eval.callbacks.base import Callback
from od_eval.errors import ODEvalError

BACKEND = keras.config.backend()
OPTIONS = od_eval.EvaluationOptions({1: "cat"}, num_pictures=0)
RATE = 0.05


def rows(num: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 3)).astype(np.float32)
    return x, {"cls": rng.normal(size=(num, 1)).astype(np.float32), "box": x @ np.ones((3, 2), np.float32)}


def two_heads() -> keras.Model:
    inputs = keras.Input((3,))
    heads = {
        name: keras.layers.Dense(units, use_bias=False, kernel_initializer="zeros", name=name)(inputs)
        for name, units in {"cls": 1, "box": 2}.items()
    }
    model = keras.Model(inputs, heads)
    model.compile(optimizer=keras.optimizers.SGD(RATE), loss={"cls": "mse", "box": "mse"})
    return model


def trained_by_hand(
    x: np.ndarray, y: dict[str, np.ndarray], batch: int, epochs: int
) -> tuple[list[dict[str, float]], dict[str, np.ndarray]]:
    """The losses of each step before its update, and the weights at the end."""
    weights = {name: np.zeros((3, of_head.shape[1])) for name, of_head in y.items()}
    losses = []
    for start in [*range(0, len(x), batch)] * epochs:
        of_step = {}
        for name, weight in weights.items():
            part, wanted = x[start : start + batch], y[name][start : start + batch]
            error = part @ weight - wanted
            of_step[f"{name}_loss"] = float((error**2).mean())
            weights[name] = weight - RATE * 2 * part.T @ error / error.size
        losses.append(of_step)
    return losses, weights


def losses_by_hand(x: np.ndarray, y: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> dict[str, float]:
    parts = {f"{name}_loss": float(((x @ weight - y[name]) ** 2).mean()) for name, weight in weights.items()}
    return with_categories(parts)


def with_categories(parts: dict[str, float]) -> dict[str, float]:
    return {
        **parts,
        "total_loss": sum(parts.values()),
        "classification_loss": parts["cls_loss"],
        "localization_loss": parts["box_loss"],
    }


def detect_nothing(model: Any, image: int) -> od_eval.EvaluationBatch:
    box = [[[1.0, 1.0, 9.0, 9.0]]]
    found = od_eval.Detections(box, [[0.5]], [[1]], num=[1])
    return od_eval.EvaluationBatch([image], [[20, 20]], found, od_eval.GroundTruth(box, [[1]]))


def counting_model() -> keras.Model:
    """Each step adds 1 to the bias."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, prediction: y - prediction)
    return model


def fit(model: keras.Model, steps: int, *callbacks: Any, epochs: int = 1) -> None:
    x = np.zeros((steps, 1), np.float32)
    model.fit(x, x, batch_size=1, epochs=epochs, verbose=0, callbacks=[*callbacks])


def bias(model: keras.Model) -> float:
    return float(keras.ops.convert_to_numpy(model.layers[-1].bias)[0])


# ---- Losses ---------------------------------------------------------------------------------------------------------


def test_curves_are_those_of_a_training_by_hand_on_every_backend(tmp_path):
    (x, y), (validation_x, validation_y) = rows(24, 0), rows(8, 1)
    two_heads().fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=(validation_x, validation_y),
        callbacks=[
            od_eval.LossLogger(tmp_path, log_every_n_steps=4, batch_size=4),
            od_eval.DetectionEvaluation([1], tmp_path, detect=detect_nothing, options=OPTIONS, diagnose=False),
        ],
    )
    of_steps, weights = trained_by_hand(x, y, 4, epochs=2)
    curves = read_events.curves(tmp_path / "train", ascending=True)
    losses = {tag.removeprefix("Loss/"): curve for tag, curve in curves.items() if tag.startswith("Loss/")}
    assert curves.keys() - {f"Loss/{name}" for name in losses} == {"learning_rate", "steps_per_sec", "images_per_sec"}
    assert curves["learning_rate"] == {4: pytest.approx(RATE), 8: pytest.approx(RATE), 12: pytest.approx(RATE)}
    windows = [
        {name: np.mean([step[name] for step in of_steps[start : start + 4]]) for name in of_steps[0]}
        for start in (0, 4, 8)
    ]
    expected = [with_categories(window) for window in windows]
    assert losses == {
        name: {4 * index: pytest.approx(window[name], abs=1e-4) for index, window in enumerate(expected, 1)}
        for name in expected[0]
    }

    evaluated = read_events.curves(tmp_path / "eval")
    at_the_end = losses_by_hand(validation_x, validation_y, weights)
    for name, value in at_the_end.items():
        assert evaluated[f"Loss/{name}"][12] == pytest.approx(value, abs=1e-4)
    assert "Loss/other_loss" not in {*curves, *evaluated}
    assert evaluated["DetectionBoxes_Precision/mAP"] == {6: pytest.approx(1.0), 12: pytest.approx(1.0)}


def test_losses_of_keras_are_those_of_an_evaluation_that_has_none(tmp_path):
    (x, y), validation = rows(8, 0), rows(8, 1)
    logs = keras.callbacks.History()
    evaluation = od_eval.DetectionEvaluation([1], tmp_path, detect=detect_nothing, options=OPTIONS, diagnose=False)
    best = od_eval.BestCheckpoint(tmp_path, "val_total_loss")
    two_heads().fit(
        x, y, batch_size=4, verbose=0, shuffle=False, validation_data=validation, callbacks=[evaluation, best, logs]
    )
    _, weights = trained_by_hand(x, y, 4, epochs=1)
    expected = {name: pytest.approx(value, abs=1e-4) for name, value in losses_by_hand(*validation, weights).items()}
    assert od_eval.load_metrics(tmp_path)["losses"] == expected
    assert logs.history["val_total_loss"] == [expected["total_loss"]]
    assert json.loads((tmp_path / "best" / "best.json").read_text())["value"] == expected["total_loss"]
    assert not evaluation.evaluate(step=3).losses  # Keras's were of the weights before


def test_an_evaluation_between_steps_and_one_of_other_images_have_no_losses_of_keras(tmp_path):
    (x, y), validation = rows(8, 0), rows(8, 1)
    options = {"detect": detect_nothing, "options": OPTIONS, "diagnose": False}
    two_heads().fit(
        x,
        y,
        batch_size=4,
        verbose=0,
        validation_data=validation,
        callbacks=[
            od_eval.DetectionEvaluation([1], tmp_path / "steps", every_n_steps=2, **options),
            od_eval.DetectionEvaluation([1], tmp_path / "night", run="eval/night", prefix="val_night_", **options),
        ],
    )
    assert not od_eval.load_metrics(tmp_path / "steps")["losses"]
    assert not od_eval.load_metrics(tmp_path / "night", run="eval/night")["losses"]


class LossInside(keras.Model):
    """Computes its loss itself, without a loss in `compile`, like D-FINE."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        return keras.ops.mean(keras.ops.square(y_pred - y))


def test_a_model_with_its_losses_inside_compute_loss_has_its_total_and_nothing_else(tmp_path):
    model = LossInside()
    model.compile(optimizer="sgd")
    x = np.ones((8, 1), np.float32)
    model.fit(x, x, batch_size=2, verbose=0, validation_data=(x, x), callbacks=[od_eval.LossLogger(tmp_path)])
    for run in ("train", "eval"):
        assert [tag for tag in read_events.curves(tmp_path / run) if tag.startswith("Loss/")] == ["Loss/total_loss"]


# ---- Evaluations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "expected"), [({"every_n_steps": 3}, [3.0, 6.0, 9.0]), ({"every_n_epochs": 1}, [5.0, 10.0])]
)
def test_an_evaluation_has_the_weights_of_its_step_and_does_not_disturb_the_training(tmp_path, every, expected):
    seen = []

    def detect(model, image):
        predicted = float(model.predict_on_batch(np.zeros((1, 1), np.float32))[0, 0])
        seen.append((int(model.optimizer.iterations), bias(model), predicted))
        return detect_nothing(model, image)

    model = counting_model()
    evaluation = od_eval.DetectionEvaluation(
        [1], tmp_path, detect=detect, options=OPTIONS, on_error="raise", diagnose=False, **every
    )
    fit(model, 5, od_eval.LossLogger(tmp_path, log_every_n_steps=1), evaluation, epochs=2)
    assert seen == [(step, step, step) for step in expected]
    assert [result.step for result in evaluation.results] == expected
    assert bias(model) == 10.0
    losses = read_events.curves(tmp_path / "train")["Loss/total_loss"]
    assert losses == {step: pytest.approx(1.0 - step) for step in range(1, 11)}


# ---- The best checkpoint --------------------------------------------------------------------------------------------


class OfAP(keras.callbacks.Callback):
    """Reports an AP at the end of each epoch."""

    def __init__(self, *values: float):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_AP"] = self.values[epoch]


def kept(model_dir: Path) -> dict[str, Any]:
    return json.loads((model_dir / "best" / "best.json").read_text())


@pytest.mark.parametrize(("weights_only", "ending"), [(True, ".weights.h5"), (False, ".keras")])
def test_the_best_weights_are_kept_and_keras_loads_them(tmp_path, weights_only, ending):
    model = counting_model() if weights_only else two_heads()
    best = od_eval.BestCheckpoint(tmp_path, save_weights_only=weights_only)
    if weights_only:
        fit(model, 2, OfAP(0.25, 0.75, 0.5), best, epochs=3)
    else:
        model.fit(*rows(2, 0), batch_size=1, epochs=3, verbose=0, callbacks=[OfAP(0.25, 0.75, 0.5), best])
    expected = {"metric": "val_AP", "mode": "max", "value": 0.75, "step": 4, "checkpoint": f"ckpt-4{ending}"}
    assert kept(tmp_path) == expected
    assert {path.name for path in (tmp_path / "best").iterdir()} == {"best.json", f"ckpt-4{ending}"}
    path = tmp_path / "best" / f"ckpt-4{ending}"
    if weights_only:
        restored = counting_model()
        restored.optimizer.build(restored.trainable_variables)
        restored.load_weights(path)
        assert bias(restored) == 4.0
    else:
        restored = keras.models.load_model(path)
    assert int(restored.optimizer.iterations) == 4


def test_after_a_restart_the_best_has_to_be_beaten(tmp_path):
    fit(counting_model(), 2, OfAP(0.75), od_eval.BestCheckpoint(tmp_path))
    for value, expected in ((0.5, 2), (0.875, 4)):
        model = counting_model()
        model.optimizer.iterations.assign(2)
        fit(model, 2, OfAP(value), od_eval.BestCheckpoint(tmp_path))
        assert kept(tmp_path)["step"] == expected
        assert (tmp_path / "best" / f"ckpt-{expected}.weights.h5").exists()


def test_a_damaged_file_is_set_aside(tmp_path, capsys):
    fit(counting_model(), 2, OfAP(0.75), od_eval.BestCheckpoint(tmp_path))
    file = tmp_path / "best" / "ckpt-2.weights.h5"
    file.write_bytes(file.read_bytes()[:-100])
    model = counting_model()
    model.optimizer.iterations.assign(2)
    fit(model, 2, OfAP(0.5), od_eval.BestCheckpoint(tmp_path))
    assert kept(tmp_path)["step"] == 4
    assert f"warning: the best checkpoint '{tmp_path}/best/ckpt-2.weights.h5' is damaged" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    model = counting_model()
    fit(model, 2, OfAP(0.5), od_eval.BestCheckpoint(tmp_path))

    def save_weights(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_weights", save_weights)
    with pytest.raises(ODEvalError, match=r"ckpt-4.weights.h5' could not be written: No space left on device"):
        fit(model, 2, OfAP(0.75), od_eval.BestCheckpoint(tmp_path))
    assert kept(tmp_path)["step"] == 2
    assert (tmp_path / "best" / "ckpt-2.weights.h5").exists()


# ---- The process ----------------------------------------------------------------------------------------------------


def test_import_star_leaves_out_what_needs_tf_keras():
    code = (
        "import keras\nfrom od_eval import *\nLossLogger, DetectionEvaluation, BestCheckpoint, evaluate\n"
        "assert 'Detector' not in globals() and 'Pipeline' not in globals()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_model_inside_of_torchs_distributed_data_parallel_is_the_model():
    class DistributedDataParallel:
        module = two_heads()

    callback = Callback()
    callback.set_model(DistributedDataParallel())
    assert callback.model is DistributedDataParallel.module


def test_tensorflow_leaves_gpus_to_another_backend(monkeypatch):
    hidden = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *arguments: hidden.append(arguments))

    class Mine(Callback):
        pass

    Mine()
    is_beside_another = BACKEND != "tensorflow" and issubclass(tf.keras.callbacks.Callback, keras.callbacks.Callback)
    assert hidden == ([([], "GPU")] if is_beside_another else [])
