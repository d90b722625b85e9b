"""SIGTERM and Ctrl-C during a `fit` of any Keras model."""

import os
import signal

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest
import tensorflow as tf

from od_eval.callbacks.stop_signals import Interrupted, StopSignals


def fit(signals, kill_at, steps=5, epochs=2):
    """Trains, and sends a signal in the middle of these steps; returns the steps done."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", loss="mse", run_eagerly=True)

    class Kill(tf.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            for number in kill_at.get(int(model.optimizer.iterations) + 1, ()):
                os.kill(os.getpid(), number)

    x = np.zeros((steps, 1), np.float32)
    try:
        model.fit(x, x, batch_size=1, epochs=epochs, verbose=0, callbacks=[Kill(), signals.callback()])
    finally:
        fit.steps = int(model.optimizer.iterations)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_step_under_way_is_finished(number, status, capsys):
    with StopSignals() as signals, pytest.raises(Interrupted) as raised:
        fit(signals, {3: [number]})
    assert (raised.value.exit_status, raised.value.at_once, fit.steps) == (status, False, 3)
    assert capsys.readouterr().err == "Stopping after the steps under way …\n"


def test_before_the_first_step_has_ended_and_for_the_second_time_all_stops_at_once():
    with StopSignals() as signals, pytest.raises(Interrupted) as raised:
        fit(signals, {1: [signal.SIGTERM]})
    assert (raised.value.at_once, fit.steps) == (True, 0)
    with StopSignals() as signals, pytest.raises(Interrupted) as raised:
        fit(signals, {3: [signal.SIGTERM, signal.SIGTERM]})
    assert (raised.value.at_once, fit.steps) == (True, 2)


def test_an_evaluation_is_interrupted_between_its_batches():
    seen = []

    def evaluate(batches):
        for batch in batches:
            seen.append(batch)
            if batch == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    with StopSignals() as signals:
        signals.can_finish = True
        with pytest.raises(Interrupted):
            evaluate(signals.interruptible(range(5)))
    assert seen == [0, 1]


def test_afterwards_signals_do_what_they_did_before():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
