"""LossLogger: what it writes, compared with losses that are known step by step.

The models here report the losses that their data holds, so every point of every curve can be computed by hand. Run as a
program with a folder as argument (`TF_USE_LEGACY_KERAS=0`), this module trains a Keras 3 model into it.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
sys.path.append(str(Path(__file__).parents[1]))  # for read_events, where pytest has not seen to it

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2

import od_eval
import read_events
from od_eval import losses as loss_names

keras = tf.keras

LOSSES = np.random.default_rng(0).gamma(2.0, size=64).astype(np.float32)

SSD = ("Loss/classification_loss", "Loss/localization_loss", "Loss/regularization_loss")
MASK_RCNN = (
    "Loss/RPNLoss/objectness_loss",
    "Loss/RPNLoss/localization_loss",
    "Loss/BoxClassifierLoss/classification_loss",
    "Loss/BoxClassifierLoss/localization_loss",
    "Loss/BoxClassifierLoss/mask_loss",
    "Loss/regularization_loss",
)


def metric_model(steps_per_execution: int = 1, **options: Any) -> Any:
    """Reports what Keras does by itself: `loss`, a metric. The loss of an example is its label."""
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    options = {"optimizer": "sgd", "metrics": ["mae"], **options}
    model.compile(loss=lambda y, prediction: y + 0 * prediction, steps_per_execution=steps_per_execution, **options)
    return model


class RawModel(keras.Model):
    """Reports the loss of its batch from `train_step`, like a Detector; the losses are the columns of its input."""

    def __init__(self, names: tuple[str, ...]):
        super().__init__()
        self.names = names
        self.weight = keras.layers.Dense(1)

    def call(self, inputs):
        return self.weight(inputs)

    def report(self, data):
        return {name: data[0, column] for column, name in enumerate(self.names)}

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self(data))
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return self.report(data)

    def test_step(self, data):
        return self.report(data)


def raw_model(names: tuple[str, ...] = SSD, steps_per_execution: int = 1, optimizer: Any = "sgd") -> RawModel:
    model = RawModel(names)
    model.build((1, len(names)))
    model.compile(optimizer=optimizer, steps_per_execution=steps_per_execution)
    return model


def rows(names: tuple[str, ...], steps: int) -> np.ndarray:
    return np.random.default_rng(1).gamma(1.0, size=(steps, len(names))).astype(np.float32)


def dataset(values: np.ndarray) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(values).batch(1)


def fit(model: Any, logger: Any, losses: np.ndarray = LOSSES, batch_size: int = 1, **options: Any) -> None:
    x = np.zeros((len(losses), 1), np.float32)
    options = {"verbose": 0, "shuffle": False, "callbacks": [logger], **options}
    model.fit(x, losses[:, None], batch_size=batch_size, **options)


def curves(run: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value of the scalars of a run, in which there must be nothing else but the layout of charts."""
    scalars = read_events.curves(run, ascending=True)
    shown = set(read_events.shown_tensors(run)) - {"custom_scalars__config__"}
    assert shown == set(scalars), "there is more than scalars"
    return scalars


def window_means(losses: np.ndarray, points: list[int], first_step: int = 0) -> dict[int, float]:
    """The mean over the steps before each point, where step s has the loss losses[s - 1]."""
    starts = [first_step, *points[:-1]]
    values = losses.astype(np.float64)
    return {end: pytest.approx(values[start:end].mean(), rel=1e-4) for start, end in zip(starts, points, strict=True)}


# ---- Each point is the mean of the steps since the one before -------------------------------------------------------


@pytest.mark.parametrize(
    ("steps_per_execution", "points"),
    [(1, [3, 6, 9, 12, 15, 18, 20]), (4, [4, 8, 10, 14, 18, 20])],  # 10 steps an epoch
)
def test_a_metric_is_written_as_mean_of_the_steps_of_its_window_over_epochs_and_executions(
    tmp_path, steps_per_execution, points
):
    model = metric_model(steps_per_execution)
    fit(model, od_eval.LossLogger(tmp_path, log_every_n_steps=3), LOSSES[:10], epochs=2)
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(np.tile(LOSSES[:10], 2), points)


def test_a_window_may_be_longer_than_an_epoch(tmp_path):
    fit(metric_model(), od_eval.LossLogger(tmp_path, log_every_n_steps=8), LOSSES[:3], epochs=6, validation_data=None)
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(np.tile(LOSSES[:3], 6), [8, 16, 18])


def test_a_smaller_last_batch_of_an_epoch_does_not_disturb_the_next_point(tmp_path):
    # 10 examples by 4: batches of 4, 4 and 2.
    fit(metric_model(), od_eval.LossLogger(tmp_path, log_every_n_steps=1), LOSSES[:10], batch_size=4, epochs=2)
    of_steps = np.array([LOSSES[0:4].mean(), LOSSES[4:8].mean(), LOSSES[8:10].mean()])
    expected = window_means(np.tile(of_steps, 2), [1, 2, 3, 4, 5, 6])
    assert curves(tmp_path / "train")["Loss/total_loss"] == expected


def test_validation_between_epochs_does_not_disturb_the_means_of_training(tmp_path):
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=7)
    validation = (np.zeros((5, 1)), LOSSES[30:35, None])
    fit(metric_model(), logger, LOSSES[:10], epochs=3, validation_data=validation, validation_batch_size=2)
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(np.tile(LOSSES[:10], 3), [7, 14, 21, 28, 30])


def test_an_evaluation_that_another_callback_makes_does_not_disturb_the_means_of_training(tmp_path):
    evaluate = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.evaluate(np.zeros((4, 1)), LOSSES[40:44, None], verbose=0)
    )
    model = metric_model()
    fit(model, None, LOSSES[:10], epochs=2, callbacks=[evaluate, od_eval.LossLogger(tmp_path, log_every_n_steps=4)])
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(np.tile(LOSSES[:10], 2), [4, 8, 12, 16, 20])


@pytest.mark.parametrize("validate", [False, True])
def test_a_dataset_of_unknown_length_is_averaged_like_any_other(tmp_path, validate):
    values = tf.data.Dataset.from_tensor_slices((np.zeros((10, 1), np.float32), LOSSES[:10, None])).batch(1)
    validation = (np.zeros((2, 1)), LOSSES[:2, None]) if validate else None
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=4)
    metric_model().fit(
        values.filter(lambda x, y: True), validation_data=validation, epochs=1, verbose=0, callbacks=[logger]
    )
    points = curves(tmp_path / "train")["Loss/total_loss"]
    # Keras finds the end by trying one more step, and its optimizer counts that one too: the last point is at 10 or 11.
    assert dict(zip((4, 8, 10), points.values(), strict=True)) == window_means(LOSSES, [4, 8, 10])


def test_the_loss_of_a_batch_is_averaged_over_the_window(tmp_path):
    values = rows(SSD, 10)
    raw_model().fit(dataset(values), verbose=0, callbacks=[od_eval.LossLogger(tmp_path, log_every_n_steps=4)])
    written = curves(tmp_path / "train")
    for column, name in enumerate(SSD):
        assert written[name] == window_means(values[:, column], [4, 8, 10])


def test_a_loss_of_a_batch_is_known_as_one_when_it_has_the_name_of_a_metric(tmp_path):
    class ReportsItsBatch(RawModel):
        def train_step(self, data):
            self.mean_loss.update_state(data[0, 0])
            return super().train_step(data)

    model = ReportsItsBatch(("loss",))
    model.mean_loss = keras.metrics.Mean(name="loss")
    model.build((1, 1))
    model.compile(optimizer="sgd")
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=4)
    model.fit(dataset(LOSSES[:10, None]), epochs=2, verbose=0, callbacks=[logger])
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(np.tile(LOSSES[:10], 2), [4, 8, 12, 16, 20])


def test_a_loss_that_is_not_finite_is_written_as_it_is(tmp_path):
    values = rows(SSD, 4)
    values[2, 0] = np.nan
    raw_model().fit(dataset(values), verbose=0, callbacks=[od_eval.LossLogger(tmp_path, log_every_n_steps=1)])
    written = curves(tmp_path / "train")
    assert [np.isnan(value) for value in written["Loss/classification_loss"].values()] == [False, False, True, False]
    assert [np.isnan(value) for value in written["Loss/total_loss"].values()] == [False, False, True, False]


# ---- Names ----------------------------------------------------------------------------------------------------------


def test_categories_and_native_parts_are_written_and_the_total_is_their_sum(tmp_path):
    values = rows(MASK_RCNN, 6)
    raw_model(MASK_RCNN).fit(dataset(values), verbose=0, callbacks=[od_eval.LossLogger(tmp_path, log_every_n_steps=2)])
    written = curves(tmp_path / "train")
    for column, name in enumerate(MASK_RCNN):
        assert written[name] == window_means(values[:, column], [2, 4, 6])
    assert written["Loss/classification_loss"] == window_means(values[:, 0] + values[:, 2], [2, 4, 6])
    assert written["Loss/localization_loss"] == window_means(values[:, 1] + values[:, 3], [2, 4, 6])
    assert written["Loss/other_loss"] == written["Loss/BoxClassifierLoss/mask_loss"]
    for step in (2, 4, 6):
        parts = [written[f"Loss/{name}"][step] for name in loss_names.CATEGORIES if name != "total_loss"]
        assert written["Loss/total_loss"][step] == pytest.approx(sum(parts), rel=1e-6)


def test_categories_that_a_detector_reports_beside_its_parts_are_taken_as_they_are(tmp_path):
    names = ("total_loss", "classification_loss", "Loss/RPNLoss/objectness_loss", "gradient_norm")
    values = rows(names, 4)
    raw_model(names).fit(dataset(values), verbose=0, callbacks=[od_eval.LossLogger(tmp_path, log_every_n_steps=2)])
    written = curves(tmp_path / "train")
    tags = ("Loss/total_loss", "Loss/classification_loss", "Loss/RPNLoss/objectness_loss", "gradient_norm")
    for column, tag in enumerate(tags):
        assert written[tag] == window_means(values[:, column], [2, 4])


def test_a_users_mapping_makes_a_loss_of_any_entry_and_others_are_left_alone(tmp_path):
    names = ("loss", "kl", "accuracy")
    values = rows(names, 4)
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=4, losses={"kl": "regularization_loss"})
    raw_model(names).fit(dataset(values), verbose=0, callbacks=[logger])
    written = curves(tmp_path / "train")
    assert written["Loss/regularization_loss"] == written["Loss/kl"] == window_means(values[:, 1], [4])
    assert set(written) == {
        *("Loss/total_loss", "Loss/regularization_loss", "Loss/kl"),
        *("learning_rate", "steps_per_sec"),
    }


def test_a_model_without_any_loss_is_told_so(tmp_path):
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=2)
    with pytest.warns(UserWarning, match=r"no loss in what the model reports \(objective\)"):
        raw_model(("objective",)).fit(dataset(rows(("objective",), 3)), verbose=0, callbacks=[logger])


def test_validation_losses_go_to_the_eval_run_under_the_same_tags(tmp_path):
    train, validation = rows(MASK_RCNN, 4), rows(MASK_RCNN, 1)
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=3)
    raw_model(MASK_RCNN).fit(
        dataset(train), validation_data=dataset(validation), epochs=2, verbose=0, callbacks=[logger]
    )
    written = curves(tmp_path / "eval")
    loss_tags = {tag for tag in curves(tmp_path / "train") if tag.startswith("Loss/")}
    assert set(written) == loss_tags
    assert written["Loss/total_loss"] == dict.fromkeys((4, 8), pytest.approx(validation.sum(), rel=1e-6))
    assert written["Loss/RPNLoss/objectness_loss"] == dict.fromkeys((4, 8), pytest.approx(validation[0, 0]))


# ---- What stands beside the losses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.5),
        lambda: keras.optimizers.legacy.SGD(0.5),
        lambda: keras.optimizers.legacy.SGD(lambda: 0.5),
    ],
)
def test_a_learning_rate_that_is_constant_or_a_function_is_written(tmp_path, optimizer):
    model = raw_model(optimizer=optimizer())
    model.fit(dataset(rows(SSD, 4)), verbose=0, callbacks=[od_eval.LossLogger(tmp_path, log_every_n_steps=2)])
    assert curves(tmp_path / "train")["learning_rate"] == {2: 0.5, 4: 0.5}


@pytest.mark.parametrize(("module", "lag"), [("optimizers", 1), ("optimizers.legacy", 0)])
def test_a_learning_rate_schedule_is_written_step_by_step(tmp_path, module, lag):
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, decay_steps=8, end_learning_rate=0.0)
    sgd = (keras.optimizers if module == "optimizers" else keras.optimizers.legacy).SGD(schedule)
    raw_model(optimizer=sgd).fit(
        dataset(rows(SSD, 6)), verbose=0, callbacks=[od_eval.LossLogger(tmp_path, log_every_n_steps=2)]
    )
    # tf_keras's newer optimizers report the rate of the step just made, the others that of the step to come.
    expected = {step: pytest.approx(1.0 - (step - lag) / 8) for step in (2, 4, 6)}
    assert curves(tmp_path / "train")["learning_rate"] == expected


def test_the_learning_rate_inside_a_moving_average_is_written(tmp_path):
    ema_optimizer = pytest.importorskip("official.modeling.optimization.ema_optimizer")
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, decay_steps=8, end_learning_rate=0.0)
    optimizer = ema_optimizer.ExponentialMovingAverage(keras.optimizers.legacy.SGD(schedule))
    model = raw_model(optimizer=optimizer)
    optimizer.shadow_copy(model)
    model.fit(dataset(rows(SSD, 4)), verbose=0, callbacks=[od_eval.LossLogger(tmp_path, log_every_n_steps=2)])
    assert curves(tmp_path / "train")["learning_rate"] == {2: pytest.approx(0.75), 4: pytest.approx(0.5)}


def test_an_epoch_is_a_pass_over_the_images_where_their_number_is_known(tmp_path):
    model = metric_model()
    model.batch_size, model.num_train_images = 2, 8
    fit(model, od_eval.LossLogger(tmp_path / "known", log_every_n_steps=2), LOSSES[:6])
    assert dict(read_events.shown_scalars(tmp_path / "known" / "train")["Epoch"]) == {2: 0.5, 4: 1.0, 6: 1.5}
    fit(metric_model(), od_eval.LossLogger(tmp_path / "not", log_every_n_steps=2, batch_size=2), LOSSES[:6])
    assert "Epoch" not in read_events.shown_scalars(tmp_path / "not" / "train")


def test_custom_scalars_have_a_chart_for_what_is_written_and_no_other(tmp_path):
    fit(metric_model(), od_eval.LossLogger(tmp_path, log_every_n_steps=2, batch_size=2), LOSSES[:6])
    ((_, layout),) = read_events.shown_tensors(tmp_path / "train")["custom_scalars__config__"][-1:]
    charts = {chart.title for group in layout_pb2.Layout.FromString(layout.item()).category for chart in group.chart}
    assert charts == {"Total loss", "Learning rate", "Steps per second", "Images per second"}


def test_images_per_second_are_steps_per_second_times_the_batch_size(tmp_path):
    fit(metric_model(), od_eval.LossLogger(tmp_path / "given", log_every_n_steps=2, batch_size=3), LOSSES[:6])
    model = raw_model()
    model.batch_size = 5
    model.fit(dataset(rows(SSD, 6)), verbose=0, callbacks=[od_eval.LossLogger(tmp_path / "own", log_every_n_steps=2)])
    for run, batch_size in (("given", 3), ("own", 5)):
        written = curves(tmp_path / run / "train")
        assert list(written["steps_per_sec"]) == [2, 4, 6]
        for step, images_per_sec in written["images_per_sec"].items():
            assert images_per_sec == pytest.approx(batch_size * written["steps_per_sec"][step], rel=1e-6)


def test_time_before_the_first_step_is_done_and_time_of_validation_do_not_count_as_training(tmp_path, monkeypatch):
    from od_eval.callbacks import loss_logger

    now = [0.0]
    monkeypatch.setattr(loss_logger.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    clock = keras.callbacks.LambdaCallback(  # stands before the logger: hears of each batch's end first
        on_batch_end=lambda batch, logs: wait(1000.0 if now[0] == 0 else 0.5),
        on_epoch_begin=lambda epoch, logs: wait(0.0 if epoch == 0 else 300.0),
    )
    validation = keras.callbacks.LambdaCallback()
    validation.on_test_end = lambda logs=None: wait(500.0)
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=4)
    data = dataset(rows(SSD, 6))
    raw_model().fit(data, validation_data=data, epochs=2, verbose=0, callbacks=[clock, validation, logger])
    assert curves(tmp_path / "train")["steps_per_sec"] == {4: 2.0, 8: 2.0, 12: 2.0}


# ---- Resuming -------------------------------------------------------------------------------------------------------


def test_another_fit_continues_the_curve(tmp_path):
    model, logger = metric_model(), od_eval.LossLogger(tmp_path, log_every_n_steps=4)
    fit(model, logger, LOSSES[:10])
    fit(model, logger, LOSSES[10:20])
    fit(model, od_eval.LossLogger(tmp_path, log_every_n_steps=4), LOSSES[20:30])
    points = [4, 8, 10, 12, 16, 20, 24, 28, 30]
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(LOSSES, points)
    assert len(list((tmp_path / "train").iterdir())) == 1, "one event file: nothing had to be dropped or opened again"


def test_a_training_resumed_from_an_older_checkpoint_replaces_the_steps_it_repeats(tmp_path):
    fit(metric_model(), od_eval.LossLogger(tmp_path, log_every_n_steps=2), LOSSES[:9], epochs=2)
    model = metric_model()  # as in a new process, with the checkpoint of step 8
    model.optimizer.iterations.assign(8)
    fit(model, od_eval.LossLogger(tmp_path, log_every_n_steps=2), LOSSES[30:36])
    expected = np.concatenate([LOSSES[:8], LOSSES[30:36]])
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(expected, [2, 4, 6, 8, 10, 12, 14])


def test_validation_of_steps_that_are_repeated_is_replaced(tmp_path):
    validation = (np.zeros((2, 1)), LOSSES[:2, None])
    fit(metric_model(), od_eval.LossLogger(tmp_path), LOSSES[:4], epochs=3, validation_data=validation)
    model = metric_model()
    model.optimizer.iterations.assign(4)
    fit(model, od_eval.LossLogger(tmp_path), LOSSES[:5], validation_data=validation)
    assert list(curves(tmp_path / "eval")["Loss/total_loss"]) == [4, 9]


def test_a_checkpoint_that_another_callback_restores_when_training_begins_is_heeded(tmp_path):
    fit(metric_model(), od_eval.LossLogger(tmp_path, log_every_n_steps=2), LOSSES[:6])
    model = metric_model()
    restore = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: model.optimizer.iterations.assign(4))
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=2)
    fit(model, None, LOSSES[6:10], callbacks=[logger, restore])
    expected = np.concatenate([LOSSES[:4], LOSSES[6:10]])
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(expected, [2, 4, 6, 8])


def test_a_training_from_scratch_in_a_used_folder_begins_an_empty_run(tmp_path):
    for losses in (LOSSES[:9], LOSSES[9:14]):
        fit(metric_model(), od_eval.LossLogger(tmp_path, log_every_n_steps=2), losses)
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(LOSSES[9:14], [2, 4, 5])
    assert [path for path in (tmp_path / "train").iterdir() if "replaced-at-step-00000000" in path.name]


def test_a_run_that_it_does_not_write_is_left_to_whoever_writes_it(tmp_path):
    """An evaluator that was started before its training holds its event file open."""
    (tmp_path / "eval").mkdir()
    evaluator = tf.summary.create_file_writer(str(tmp_path / "eval"))
    for at in (4, 8):
        with evaluator.as_default():
            tf.summary.scalar("AP", 0.5, at)
        evaluator.flush()
        fit(metric_model(), od_eval.LossLogger(tmp_path, 1))
    assert curves(tmp_path / "eval") == {"AP": {4: 0.5, 8: 0.5}}


def test_a_killed_process_is_continued_without_gaps_or_doubled_steps(tmp_path):
    """The process kills itself (SIGKILL) at step 17, five steps after its last checkpoint."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loss_logger import *
model, checkpoints = metric_model(), []
def at_batch(batch, logs):
    step = int(model.optimizer.iterations)
    if step == 12:
        model.save_weights({str(tmp_path / "ckpt")!r})
    if step == 17:
        os.kill(os.getpid(), signal.SIGKILL)
kill = keras.callbacks.LambdaCallback(on_batch_end=at_batch)
fit(model, None, LOSSES[:24], callbacks=[od_eval.LossLogger({str(tmp_path)!r}, log_every_n_steps=4), kill])
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert list(curves(tmp_path / "train")["Loss/total_loss"]) == [4, 8, 12, 16]
    model = metric_model()
    model.build((None, 1))
    model.optimizer.build(model.trainable_variables)
    model.load_weights(tmp_path / "ckpt")
    fit(model, od_eval.LossLogger(tmp_path, log_every_n_steps=4), LOSSES[12:24])
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(LOSSES, [4, 8, 12, 16, 20, 24])


# ---- Summaries of the model's own -----------------------------------------------------------------------------------


class SummaryModel(RawModel):
    def train_step(self, data):
        reported = super().train_step(data)
        tf.summary.scalar("mine", data[0, 0], step=tf.cast(self.optimizer.iterations, tf.int64))
        return reported

    def test_step(self, data):
        tf.summary.scalar("mine", data[0, 0], step=tf.cast(self.optimizer.iterations, tf.int64))
        return super().test_step(data)


def summary_model() -> SummaryModel:
    model = SummaryModel(SSD)
    model.build((1, 3))
    model.compile(optimizer="sgd")
    return model


def test_summaries_in_train_step_go_to_the_same_event_file_in_every_fit(tmp_path):
    model, values = summary_model(), rows(SSD, 4)
    for _ in range(2):  # the second runs what the first has traced, with another logger
        logger = od_eval.LossLogger(tmp_path, log_every_n_steps=2)
        model.fit(dataset(values), verbose=0, shuffle=False, callbacks=[logger])
        assert not tf.summary.should_record_summaries(), "after fit, TensorFlow has no default writer"
    (_,) = (tmp_path / "train").iterdir()
    written = curves(tmp_path / "train")
    assert list(written["mine"].values()) == pytest.approx(np.tile(values[:, 0], 2))
    assert list(written["Loss/total_loss"]) == [2, 4, 6, 8]


def test_summaries_in_test_step_go_to_the_eval_run(tmp_path):
    values = rows(SSD, 3)
    logger = od_eval.LossLogger(tmp_path)
    summary_model().fit(dataset(values), validation_data=dataset(values[:1]), epochs=2, verbose=0, callbacks=[logger])
    assert curves(tmp_path / "eval")["mine"] == dict.fromkeys((3, 6), pytest.approx(values[0, 0]))
    assert list(curves(tmp_path / "train")["mine"]) == [1, 2, 3, 4, 5, 6]


def test_summaries_in_train_step_survive_going_back_to_an_older_checkpoint(tmp_path):
    model, values = summary_model(), rows(SSD, 4)
    logger = od_eval.LossLogger(tmp_path, log_every_n_steps=2)
    for restored in (0, 2):
        model.optimizer.iterations.assign(restored)
        model.fit(dataset(values), verbose=0, callbacks=[logger])
    assert list(curves(tmp_path / "train")["mine"]) == [1, 2, 3, 4, 5, 6]


def test_a_fit_that_fails_leaves_nothing_behind_that_disturbs_the_next(tmp_path):
    def fail(batch, logs):
        raise KeyboardInterrupt

    model, logger = metric_model(), od_eval.LossLogger(tmp_path, log_every_n_steps=1)
    with pytest.raises(KeyboardInterrupt):
        fit(model, None, LOSSES[:4], callbacks=[logger, keras.callbacks.LambdaCallback(on_batch_end=fail)])
    fit(model, logger, LOSSES[1:4])
    assert curves(tmp_path / "train")["Loss/total_loss"] == window_means(LOSSES[:4], [1, 2, 3, 4])
    assert not tf.summary.should_record_summaries()


# ---- Arguments, strategies, other Kerases ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_dir": ""}, "log_dir is empty"),
        ({"log_every_n_steps": 0}, "log_every_n_steps must be a whole number of 1 or more, not 0"),
        ({"log_every_n_steps": None}, "log_every_n_steps must be"),
        ({"batch_size": 2.5}, "batch_size must be"),
        ({"losses": {"my_loss": "boxes"}}, "'boxes', given for the loss 'my_loss'"),
    ],
)
def test_wrong_arguments_are_refused_when_the_callback_is_made(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        od_eval.LossLogger(**{"log_dir": tmp_path, **arguments})


def test_it_is_a_callback_of_tf_keras_and_can_be_copied_and_subclassed(tmp_path):
    class Mine(od_eval.LossLogger):
        pass

    for logger in (od_eval.LossLogger(tmp_path), copy.copy(od_eval.LossLogger(tmp_path)), Mine(tmp_path)):
        assert isinstance(logger, od_eval.LossLogger)
        assert isinstance(logger, tf.keras.callbacks.Callback)
    assert isinstance(Mine(tmp_path), Mine)


def test_importing_it_imports_no_tensorflow():
    code = "import sys; from od_eval import LossLogger; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_replicas_write_one_curve(tmp_path):
    """In a process of its own, because virtual devices must be made before TensorFlow runs."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loss_logger import *
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = metric_model(steps_per_execution=2)
fit(model, od_eval.LossLogger({str(tmp_path)!r}, log_every_n_steps=3), LOSSES[:20], batch_size=2, epochs=2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    of_steps = np.tile(LOSSES[:20].reshape(10, 2).mean(axis=1), 2)
    written = curves(tmp_path / "train")["Loss/total_loss"]
    assert written == window_means(of_steps, [4, 6, 10, 12, 16, 18, 20])


def test_a_worker_that_is_not_the_chief_writes_nothing(tmp_path):
    class Extended:
        should_save_summary = False

    class Strategy:
        extended = Extended()

    class Worker:
        distribute_strategy = Strategy()
        optimizer = None

    logger = od_eval.LossLogger(tmp_path)
    logger.set_model(Worker())
    logger.on_train_begin()
    logger.on_epoch_begin(0)
    logger.on_train_batch_begin(0)
    logger.on_train_batch_end(0, {"loss": 1.0})
    logger.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0})
    logger.on_train_end()
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_that_does_not_count_is_told(tmp_path):
    class OtherOptimizer(RawModel):
        def train_step(self, data):
            return self.report(data)

    model = OtherOptimizer(SSD)
    model.compile()
    with pytest.warns(UserWarning, match="iterations did not change"):
        model.fit(dataset(rows(SSD, 3)), verbose=0, callbacks=[od_eval.LossLogger(tmp_path)])


@pytest.fixture(scope="module")
def keras_3_runs(tmp_path_factory):
    """What main() below wrote and found in a process where `tf.keras` is Keras 3."""
    folder = tmp_path_factory.mktemp("keras_3")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "0"}
    done = subprocess.run([sys.executable, __file__, folder], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_in_a_process_with_keras_3_it_is_a_callback_of_keras_3(keras_3_runs):
    assert keras_3_runs[1] == {"keras": "3", "is_callback": True, "default_writer_after_fit": False}


@pytest.mark.parametrize(
    ("steps_per_execution", "points"), [(1, [3, 6, 9, 12, 15, 18, 20]), (4, [4, 8, 10, 14, 18, 20])]
)
def test_keras_3_metrics_are_written_as_means_of_their_window(keras_3_runs, steps_per_execution, points):
    run = keras_3_runs[0] / f"metric-{steps_per_execution}"
    written = curves(run / "train")
    assert written["Loss/total_loss"] == window_means(np.tile(LOSSES[:10], 2), points)
    assert set(written) == {"Loss/total_loss", "learning_rate", "steps_per_sec"}
    assert written["learning_rate"] == {step: pytest.approx(1.0 - step / 40) for step in points}
    assert curves(run / "eval")["Loss/total_loss"] == dict.fromkeys((10, 20), pytest.approx(LOSSES[:2].mean()))


def test_keras_3_losses_of_a_batch_and_summaries_of_its_own_are_written(keras_3_runs):
    values = rows(SSD, 4)
    written = curves(keras_3_runs[0] / "raw" / "train")
    assert written["Loss/total_loss"] == window_means(np.tile(values.sum(axis=1), 2), [3, 4, 6, 8])
    assert list(written["mine"].values()) == pytest.approx(np.tile(values[:, 0], 2))


@pytest.mark.parametrize("run", ["tf_keras-in-keras_3", "keras_3-in-tf_keras"])
def test_it_works_in_the_keras_that_tf_keras_is_not(keras_3_runs, tmp_path, run):
    if run == "tf_keras-in-keras_3":
        folder = keras_3_runs[0] / run
    else:
        folder = tmp_path
        fit_the_other_keras("keras", folder)
    assert curves(folder / "train")["Loss/total_loss"] == window_means(LOSSES, [3, 6, 9, 10])


def fit_the_other_keras(name: str, folder: Path) -> None:
    other = __import__(name)
    model = other.Sequential([other.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(optimizer="sgd", loss=lambda y, prediction: y + 0 * prediction)
    fit(model, od_eval.LossLogger(folder, log_every_n_steps=3), LOSSES[:10])


def main(folder: Path) -> None:
    """Trains with Keras 3 into `folder`, and prints what only that process can know."""
    for steps_per_execution in (1, 4):
        schedule = keras.optimizers.schedules.PolynomialDecay(1.0, decay_steps=40, end_learning_rate=0.0)
        logger = od_eval.LossLogger(folder / f"metric-{steps_per_execution}", log_every_n_steps=3)
        model = metric_model(steps_per_execution, optimizer=keras.optimizers.SGD(schedule))
        fit(model, logger, LOSSES[:10], epochs=2, validation_data=(np.zeros((2, 1)), LOSSES[:2, None]))
    model = summary_model()
    for _ in range(2):
        model.fit(dataset(rows(SSD, 4)), verbose=0, callbacks=[od_eval.LossLogger(folder / "raw", log_every_n_steps=3)])
    fit_the_other_keras("tf_keras", folder / "tf_keras-in-keras_3")
    found = {
        "keras": keras.__version__[0],
        "is_callback": isinstance(logger, keras.callbacks.Callback),
        "default_writer_after_fit": bool(tf.summary.should_record_summaries()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
