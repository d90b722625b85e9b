"""The Detector as a Keras model: its logs, what it trains, what it refuses. Its losses: test_training_parity.py."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from od_eval import Detector, ODEvalError, Pipeline
from od_eval.odapi.checkpoints import Checkpoints
from od_eval.odapi.execution import NonFiniteLossError


@pytest.fixture(scope="module")
def pipeline(ssd_config, config_overrides):
    return Pipeline.load(ssd_config, [*config_overrides, "train_config.gradient_clipping_by_norm=1.0"])


@pytest.fixture(scope="module")
def detector(pipeline):
    detector = Detector(pipeline)
    detector.compile()
    return detector


@pytest.fixture(scope="module")
def batches(pipeline):
    """Eight batches, the same for everyone."""
    return list(itertools.islice(pipeline.train_dataset(), 8))


@pytest.fixture(scope="module")
def initial_weights(detector):
    return [variable.numpy() for variable in detector.model.variables]


@pytest.fixture
def start(detector, initial_weights):
    """The detector as it was before any step."""
    for variable, value in zip(detector.model.variables, initial_weights, strict=True):
        variable.assign(value)
    for variable in detector.optimizer.variables():
        variable.assign(tf.zeros_like(variable))
    detector.step.assign(0)
    detector._steps_per_execution.assign(1)
    return detector


class Recorder(tf.keras.callbacks.Callback):
    """Keeps the logs of every execution and epoch."""

    def __init__(self):
        super().__init__()
        self.batches, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))


def fit(detector, batches, *, steps_per_execution=1, epochs=1):
    dataset = tf.data.Dataset.from_generator(
        lambda: itertools.cycle(batches),
        output_signature=tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), batches[0]),
    )
    detector._steps_per_execution.assign(steps_per_execution)
    recorder = Recorder()
    detector.fit(dataset, steps_per_epoch=len(batches) // epochs, epochs=epochs, callbacks=[recorder], verbose=0)
    return recorder


def test_total_is_the_sum_of_its_categories_and_nothing_in_logs_is_missing(start, batches):
    (logs,) = fit(start, batches[:1]).batches
    parts = ("classification_loss", "localization_loss", "regularization_loss")
    assert logs["total_loss"] == pytest.approx(sum(logs[part] for part in parts), rel=1e-6)
    assert all(logs[part] > 0 for part in parts)
    assert logs["gradient_norm"] > 0


def test_logs_are_means_over_all_steps_of_an_execution_and_over_the_epoch(start, batches, initial_weights):
    singly = fit(start, batches).batches
    for variable, value in zip(start.model.variables, initial_weights, strict=True):
        variable.assign(value)
    for variable in start.optimizer.variables():
        variable.assign(tf.zeros_like(variable))
    start.step.assign(0)
    together = fit(start, batches, steps_per_execution=3)
    totals = [logs["total_loss"] for logs in singly]
    assert int(start.step) == 8
    assert [logs["total_loss"] for logs in together.batches] == pytest.approx(
        [np.mean(totals[:3]), np.mean(totals[3:6]), np.mean(totals[6:])], rel=1e-4
    )
    assert together.epochs[0]["total_loss"] == pytest.approx(np.mean(totals), rel=1e-4)


def test_a_loss_that_is_not_finite_stops_with_its_exact_step_and_values(start, batches):
    def broken(batch):
        features, labels = batch
        return {**features, "image": features["image"] * float("nan")}, labels

    with pytest.raises(
        NonFiniteLossError, match=r"not finite at step 6 \(.*total_loss nan.*learning_rate 0\.0"
    ) as error:
        fit(start, [*batches[:5], broken(batches[5]), *batches[6:]], steps_per_execution=4)
    assert error.value.step == 6
    assert error.value.values["learning_rate"] == pytest.approx(float(start.optimizer.learning_rate), rel=0.5)


def test_validation_losses_change_no_weight_and_do_not_depend_on_training_mode(start, pipeline):
    before = [variable.numpy() for variable in start.model.variables]
    first = start.evaluate(pipeline.eval_dataset(), return_dict=True, verbose=0)
    assert first == start.evaluate(pipeline.eval_dataset(), return_dict=True, verbose=0)
    assert first["total_loss"] > 0
    for variable, value in zip(start.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_frozen_variables_stay_as_they_are(start, batches, initial_weights):
    start._train_config.freeze_variables.append(".*BoxPredictor")
    start.make_train_function(force=True)
    try:
        fit(start, batches[:2])
    finally:
        del start._train_config.freeze_variables[:]
        start.make_train_function(force=True)
    moved = {
        variable.name
        for variable, value in zip(start.model.variables, initial_weights, strict=True)
        if not np.array_equal(variable.numpy(), value)
    }
    assert any("Conv1" in name for name in moved)
    assert not any("BoxPredictor" in name and ("kernel" in name or "bias" in name) for name in moved)


def test_a_pattern_that_freezes_nothing_is_refused(pipeline, start, batches):
    start._train_config.freeze_variables.append("no_such_layer")
    try:
        with pytest.raises(ODEvalError, match="'no_such_layer' matches no trainable variable"):
            start._variables_to_train()
    finally:
        del start._train_config.freeze_variables[:]


def test_a_model_that_the_object_detection_api_cannot_build_is_named(ssd_config, config_overrides):
    pipeline = Pipeline.load(ssd_config, [*config_overrides, "model.ssd.box_coder={}"])
    with pytest.raises(ODEvalError, match=r"ssd_mobilenet_v2_96x96\.config: .*cannot run this: Empty box coder"):
        Detector(pipeline)


def test_the_moving_average_that_a_config_asks_for_is_kept_and_comes_back_with_a_checkpoint(
    ssd_config, config_overrides, batches, tmp_path
):
    pipeline = Pipeline.load(ssd_config, [*config_overrides, "train_config.optimizer.use_moving_average=true"])
    detector = Detector(pipeline)
    detector.compile()
    fit(detector, batches[:3])
    weights = [variable.numpy() for variable in detector.model.trainable_variables]
    averages = [average.numpy() for average in detector.optimizer._average_weights]
    assert any(not np.array_equal(*pair) for pair in zip(weights, averages, strict=True))

    saved = Checkpoints(detector, str(tmp_path)).save()
    again = Detector(pipeline)
    again.compile()
    assert Checkpoints(again, str(tmp_path)).restore_newest() == saved
    for average, restored in zip(averages, again.optimizer._average_weights, strict=True):
        np.testing.assert_array_equal(average, restored.numpy())
    for before, after in zip(
        detector.optimizer._optimizer.variables(), again.optimizer._optimizer.variables(), strict=True
    ):
        np.testing.assert_array_equal(before.numpy(), after.numpy())
