"""Early stopping over several calls of `fit`, over restarts, after failures; with either Keras."""

import importlib
import os
from types import SimpleNamespace

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest

from od_eval import EvaluationResult, ODEvalError
from od_eval.callbacks.early_stopping import EarlyStopping


class Evaluation:
    """What early stopping sees of a `DetectionEvaluation`: AP by step in its files."""

    def __init__(self, prefix="val_", **ap_of_steps):
        self._prefix = prefix
        self._results = [
            EvaluationResult(num_images=1, bbox={"AP": ap}, step=int(step.lstrip("s")))
            for step, ap in ap_of_steps.items()
        ]
        self.failures = []

    def recorded(self):
        return self._results

    def logs(self, result):
        return {self._prefix + "AP": result.bbox["AP"]}


def early_stopping(*evaluations, step, patience=2):
    callback = EarlyStopping(evaluations, monitor="val_AP", mode="max", patience=patience)
    callback.set_model(SimpleNamespace(steps_done=step, stop_training=False))
    callback.on_train_begin()
    return callback


def test_it_stops_in_the_first_epoch_of_a_fit_too():
    callback = early_stopping(Evaluation(s100=0.5, s200=0.4), step=200)
    assert not callback.model.stop_training
    callback.on_epoch_end(0, {"val_AP": 0.3})
    assert callback.model.stop_training


def test_a_restart_remembers_the_evaluations_up_to_its_step_and_no_later_ones():
    evaluation = Evaluation(s100=0.5, s200=0.4, s300=0.3)
    assert early_stopping(evaluation, step=300).model.stop_training
    assert not early_stopping(evaluation, step=200).model.stop_training
    assert not early_stopping(evaluation, step=0).model.stop_training  # which begins anew


def test_an_evaluation_that_failed_decides_nothing_now_or_after_a_restart():
    evaluation, other = Evaluation(s100=0.5), Evaluation("val_train_", s100=0.6, s200=0.7)
    callback = early_stopping(evaluation, other, step=200, patience=1)
    assert not callback.model.stop_training
    callback.model.steps_done = 300
    evaluation.failures.append((300, ODEvalError("a record")))
    callback.on_epoch_end(0, {"val_train_AP": 0.8})
    assert not callback.model.stop_training
    callback.model.steps_done = 400
    callback.on_epoch_end(0, {"val_AP": 0.4})
    assert callback.model.stop_training


def test_a_metric_that_is_never_there_is_an_error():
    callback = early_stopping(Evaluation(), step=0)
    with pytest.raises(
        ODEvalError,
        match="the metric 'val_AP', which training depends on, is not among the evaluated metrics: val_train_AP",
    ):
        callback.on_epoch_end(0, {"total_loss": 1.0, "val_train_AP": 0.8})


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_it_stops_a_fit_of_either_keras(keras):
    keras = importlib.import_module(keras)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss="mse", run_eagerly=True)
    losses = iter([3.0, 2.0, 2.0, 2.0, 2.0])
    evaluate = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_total_loss=next(losses)))
    x = np.zeros((2, 1), np.float32)
    stop = EarlyStopping([], monitor="val_total_loss", patience=2)
    history = model.fit(x, x, epochs=5, verbose=0, callbacks=[evaluate, stop]).history
    assert history["val_total_loss"] == [3.0, 2.0, 2.0, 2.0], "a loss that falls is better, though nobody said so"


def test_importing_it_imports_no_tensorflow():
    import subprocess
    import sys

    code = "import sys, od_eval.callbacks.early_stopping; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
