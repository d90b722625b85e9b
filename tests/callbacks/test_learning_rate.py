"""Learning rates beyond the protos: their values, on every kind of optimizer, over restarts."""

import math
import os
from types import SimpleNamespace

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest
import tensorflow as tf

from od_eval import EvaluationResult, LossLogger, ODEvalError, load_history
from od_eval.callbacks.learning_rate import (
    LearningRate,
    RangeTest,
    ReduceOnPlateau,
    cyclical,
    one_cycle,
    suggested_rate,
)

RATE = 0.01


def legacy_sgd_of_the_odapi(step):
    """As optimizer_builder makes it: the rate is a function without arguments."""
    return tf.keras.optimizers.legacy.SGD(lambda: RATE * 0.5 ** (tf.cast(step, tf.float32) // 2), momentum=0.9)


def legacy_adam_with_a_schedule(_):
    return tf.keras.optimizers.legacy.Adam(tf.keras.optimizers.schedules.ExponentialDecay(RATE, 2, 0.5, staircase=True))


OPTIMIZERS = {
    "a function, as in the OD API": legacy_sgd_of_the_odapi,
    "a schedule": legacy_adam_with_a_schedule,
    "a number": lambda _: tf.keras.optimizers.legacy.SGD(RATE),
    "a tensor, as in the OD API": lambda _: tf.keras.optimizers.legacy.SGD(tf.constant(RATE)),
    "a number, new optimizer": lambda _: tf.keras.optimizers.SGD(RATE),
}


class Evaluation:
    """What callbacks see of a `DetectionEvaluation`: AP by step in its files."""

    def __init__(self, **ap_of_steps):
        self.results = [
            EvaluationResult(num_images=1, bbox={"AP": ap}, step=int(step.lstrip("s")))
            for step, ap in ap_of_steps.items()
        ]
        self.failures = []

    def recorded(self):
        return self.results

    def logs(self, result):
        return {"val_AP": result.bbox["AP"]}


def model_with(optimizer):
    step = tf.Variable(0, dtype=tf.int64)
    made = OPTIMIZERS[optimizer](step)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    model.compile(optimizer=made, loss="mse")
    return model


def weight(model):
    return float(model.get_weights()[0][0, 0])


def rates_in(folder):
    history = load_history(folder)
    return history[(history.run == "train") & (history.tag == "learning_rate")].value.tolist()


def ones(num_steps):
    return tf.data.Dataset.from_tensors(([[1.0]], [[2.0]])).repeat(num_steps)


def test_a_cycle_rises_and_falls_in_straight_lines():
    rate = cyclical(0.1, 0.5, 8)
    np.testing.assert_allclose([rate(step) for step in range(0, 17, 2)], [0.1, 0.3, 0.5, 0.3] * 2 + [0.1])


def test_one_cycle_warms_up_for_a_third_and_ends_at_almost_nothing():
    rate = one_cycle(0.5, 100)
    rates = [rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.5 / 25)
    assert int(np.argmax(rates)) == 30
    assert max(rates) == 0.5
    assert rates[-1] == pytest.approx(0.5 / 25 * 1e-4)
    assert rate(150) == rates[-1]  # trained for longer than it was made for
    assert np.all(np.diff(rates[:31]) > 0)
    assert np.all(np.diff(rates[30:]) < 0)


def test_one_cycle_equals_pytorchs_formula():
    """OneCycleLR(max_lr, total_steps, pct_start=0.3, div_factor=25, final_div_factor=1e4): its phases, by hand."""
    high, steps = 0.4, 11

    def annealed(start, end, part):
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    rate = one_cycle(high, steps - 1)
    for step in range(steps):
        if step <= 3:
            expected = annealed(high / 25, high, step / 3)
        else:
            expected = annealed(high, high / 25 / 1e4, (step - 3) / (10 - 3))
        assert rate(step) == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_step_is_made_with_the_rate_and_the_curve_shows_it(optimizer, tmp_path):
    model = model_with(optimizer)
    wanted = [0.1, 0.2, 0.05, 0.3]
    # plain gradient descent on (w - 2)^2 with these rates, where the optimizer is one
    w = weight(model)
    for rate in wanted:
        w -= rate * 2 * (w - 2)
    callbacks = [LearningRate(lambda step: wanted[step]), LossLogger(tmp_path, log_every_n_steps=1)]
    model.fit(ones(4), epochs=1, verbose=0, callbacks=callbacks)
    np.testing.assert_allclose(rates_in(tmp_path), wanted, rtol=1e-6)
    if optimizer not in ("a schedule", "a function, as in the OD API"):  # Adam, momentum
        assert weight(model) == pytest.approx(w, rel=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_plateau_multiplies_the_optimizers_own_schedule(optimizer, tmp_path):
    model = model_with(optimizer)
    evaluation = Evaluation()

    class Evaluates(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_AP"] = [0.5, 0.5, 0.4, 0.6][epoch]

    said = []
    reduce = ReduceOnPlateau([evaluation], monitor="val_AP", factor=0.1, patience=2, say=said.append)
    logger = LossLogger(tmp_path, log_every_n_steps=1)
    own = [RATE] * 4
    model.fit(ones(4), epochs=4, steps_per_epoch=1, verbose=0, callbacks=[logger, Evaluates(), reduce])
    if optimizer == "a schedule":  # logged after the step, so the rate of the next one
        own = [RATE, RATE * 0.5, RATE * 0.5, RATE * 0.25]
    elif optimizer == "a function, as in the OD API":  # nobody counts the step of this test up
        own = [RATE] * 4
    np.testing.assert_allclose(rates_in(tmp_path), np.multiply(own, [1, 1, 1, 0.1]), rtol=1e-5)
    assert said == [
        "val_AP has not improved for 2 evaluations: the learning rate is now 0.1 times that of the schedule."
    ]


def test_a_restart_has_the_factor_that_the_recorded_evaluations_led_to(tmp_path):
    evaluation = Evaluation(s1=0.5, s2=0.4, s3=0.4, s4=0.6, s5=0.1, s6=0.2)

    def factor_at(step):
        model = model_with("a number, new optimizer")
        model.optimizer.iterations.assign(step)
        callback = ReduceOnPlateau([evaluation], monitor="val_AP", factor=0.5, patience=2)
        callback.set_model(model)
        callback.on_train_begin()
        return float(model.optimizer.learning_rate.numpy()) / RATE

    assert [factor_at(step) for step in (0, 2, 3, 5, 6)] == pytest.approx([1, 1, 0.5, 0.5, 0.25])


def test_a_loss_that_rises_is_a_plateau_and_one_that_falls_is_not():
    def factor(losses):
        evaluation = Evaluation()
        evaluation.logs = lambda result: {"val_total_loss": result.losses["total_loss"]}
        evaluation.results = [
            EvaluationResult(num_images=1, losses={"total_loss": loss}, step=step)
            for step, loss in enumerate(losses, start=1)
        ]
        model = model_with("a number, new optimizer")
        model.optimizer.iterations.assign(len(losses))
        callback = ReduceOnPlateau([evaluation], monitor="val_total_loss", factor=0.5, patience=1)
        callback.set_model(model)
        callback.on_train_begin()
        return float(model.optimizer.learning_rate.numpy()) / RATE

    assert factor([3.0, 2.0, 1.0]) == pytest.approx(1)
    assert factor([3.0, 3.5]) == pytest.approx(0.5)


def test_a_metric_that_does_not_exist_is_an_error_and_a_failed_evaluation_is_not():
    evaluation = Evaluation()
    callback = ReduceOnPlateau([evaluation], monitor="val_APP")
    model = model_with("a number, new optimizer")
    callback.set_model(model)
    callback.on_train_begin()
    with pytest.raises(ODEvalError, match=r"'val_APP'.*val_AP"):
        callback.on_epoch_end(0, {"val_AP": 0.1})
    evaluation.failures.append((0, ODEvalError("a record")))
    callback.on_epoch_end(0, {})


def test_an_optimizer_with_a_schedule_of_its_own_that_keras_protects_is_an_error():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(1,))])
    model.compile(tf.keras.optimizers.SGD(tf.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)), loss="mse")
    with pytest.raises(ODEvalError, match="schedule of its own"):
        model.fit(ones(1), verbose=0, callbacks=[LearningRate(lambda step: 0.1)])


def test_a_fit_that_continues_keeps_the_traced_step():
    model = model_with("a function, as in the OD API")
    rates = []
    callback = LearningRate(lambda step: 0.1 * (step + 1))
    shown = tf.keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    for _ in range(2):
        model.fit(ones(2), verbose=0, callbacks=[callback, shown])
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)


def test_a_range_test_ends_when_the_loss_grows_and_suggests_less():
    """Gradient descent on (w - 2)^2 converges for rates below 1 and diverges above."""
    model = model_with("a function, as in the OD API")
    model.optimizer.momentum = 0.0
    model.set_weights([np.array([[-50.0]])])
    test = RangeTest(1e-4, 100.0, 200)
    noisy = tf.data.Dataset.from_tensor_slices(([[[1.0]], [[1.0]]], [[[1.0]], [[3.0]]])).repeat(100)
    model.fit(noisy, verbose=0, callbacks=[test])
    assert test.suggested is not None
    assert 100 < test.suggested.num_steps < 200
    assert test.suggested.rate <= test.suggested.lowest / 9
    assert test.suggested.fastest < test.suggested.lowest < 3
    assert str(test.suggested).endswith("as the highest rate.")


def test_a_loss_that_never_falls_and_a_test_of_few_steps_suggest_nothing():
    rates = np.geomspace(1e-6, 1, 100)
    assert suggested_rate(rates, np.linspace(1, 2, 100)) is None
    assert suggested_rate(rates[:19], np.linspace(2, 1, 19)) is None
    assert suggested_rate(rates, [math.nan] * 100) is None


def test_a_range_test_finds_where_a_made_curve_falls_fastest():
    log_rates = np.linspace(-6, 0, 300)
    losses = 2 - 1.5 / (1 + np.exp(-4 * (log_rates + 3))) + np.exp(6 * (log_rates + 1))
    losses += np.random.default_rng(0).normal(0, 0.02, 300)
    found = suggested_rate(10**log_rates, losses)
    assert -3.4 < math.log10(found.fastest) < -2.2  # smoothing lags behind
    assert -1.9 < math.log10(found.lowest) < -0.9
    assert found.rate == pytest.approx(found.lowest / 10)


def test_models_without_strategy_are_served_too():
    model = model_with("a function, as in the OD API")
    seen = SimpleNamespace(optimizer=model.optimizer, steps_done=3)
    callback = LearningRate(lambda step: step / 10)
    callback.set_model(seen)
    callback.on_train_begin()
    callback.on_train_batch_begin(0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.3)
