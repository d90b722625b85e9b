"""The lines that tell where a training is, of any Keras model."""

from __future__ import annotations

import importlib
import os
import re
from types import SimpleNamespace

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest

from od_eval.callbacks import progress
from od_eval.callbacks.progress import Progress


def model_at(step, batch_size=4):
    return SimpleNamespace(steps_done=step, batch_size=batch_size)


def train(callback, steps, logs, now, seconds_a_step=1.0):
    callback.on_epoch_begin(0)
    for step in steps:
        now[0] += seconds_a_step
        callback.model.steps_done = step
        callback.on_train_batch_end(step, logs(step))
    callback.on_epoch_end(0)


@pytest.fixture
def now(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    return clock


def test_the_first_the_last_and_one_every_few_seconds_with_means_in_between(now):
    lines: list[str] = []
    callback = Progress(25, lines.append)
    callback.set_model(model_at(0))
    train(callback, range(1, 26), lambda step: {"total_loss": float(step), "val_total_loss": 99.0}, now)
    assert [re.match(r"step +(\d+)/25", line)[1] for line in lines] == ["1", "11", "21", "25"]
    assert lines[0] == "step  1/25  total_loss 1", "no speed before a step was timed"
    assert lines[1] == "step 11/25  total_loss 6.5  1 steps/s  4 images/s  0:00:14 left"
    assert callback.total_losses == [1.0, 6.5, 16.5, 23.5]


def test_time_between_epochs_is_no_training(now):
    lines: list[str] = []
    callback = Progress(4, lines.append)
    callback.set_model(model_at(0))
    train(callback, (1, 2), lambda step: {"loss": 1.0}, now)
    now[0] += 1000  # an evaluation
    train(callback, (3, 4), lambda step: {"loss": 1.0}, now)
    assert "1 steps/s" in lines[-1]


def test_a_model_that_says_nothing_of_itself_is_shown_as_far_as_it_can_be(now):
    lines: list[str] = []
    callback = Progress(2, lines.append)
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(iterations=0)))
    for step in (1, 2):
        now[0] += 1
        callback.model.optimizer.iterations = step
        callback.on_train_batch_end(step, {"accuracy": 0.5})
    assert lines == ["step 1/2", "step 2/2  1 steps/s  0:00:00 left"]
    assert callback.total_losses == []


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_it_looks_on_at_a_fit_of_either_keras(keras):
    keras = importlib.import_module(keras)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss="mse", run_eagerly=True)
    lines: list[str] = []
    x = np.zeros((3, 1), np.float32)
    model.fit(x, x, batch_size=1, verbose=0, callbacks=[Progress(3, lines.append)])
    assert lines[0] == "step 1/3  total_loss 0"
    assert lines[-1].startswith("step 3/3  total_loss 0  ")
