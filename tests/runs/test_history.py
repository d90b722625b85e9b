"""The curves of a training, read back from its event files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from od_eval.errors import ODEvalError
from od_eval.runs.history import load_history
from od_eval.tensorboard import event_files, writers


def curves(history: pd.DataFrame) -> dict[tuple[str, str], list[tuple[int, float]]]:
    return {
        key: list(zip(group["step"], group["value"], strict=True)) for key, group in history.groupby(["run", "tag"])
    }


def test_all_runs_under_model_dir_are_read(tmp_path):
    for run in ("train", "eval", "eval/night", "eval_train"):
        for step in (20, 3):
            writers.write_scalars(str(tmp_path / run), step, {"Loss/total_loss": step / 4, "AP": 0.5})
    history = load_history(tmp_path)
    assert list(history.columns) == ["run", "tag", "step", "value", "time"]
    assert curves(history) == {
        (run, tag): [(3, 0.75 if tag != "AP" else 0.5), (20, 5.0 if tag != "AP" else 0.5)]
        for run in ("train", "eval", "eval/night", "eval_train")
        for tag in ("AP", "Loss/total_loss")
    }
    keys = history[["run", "tag", "step"]]
    assert keys.equals(keys.sort_values(["run", "tag", "step"], ignore_index=True))
    assert (history["step"].dtype, history["value"].dtype) == (np.int64, np.float64)


def test_times_are_those_of_logging_in_utc(tmp_path):
    before = pd.Timestamp.now("UTC")
    writers.write_scalars(str(tmp_path / "train"), 1, {"loss": 0.5})
    (time,) = load_history(tmp_path)["time"]
    assert before - pd.Timedelta(1, "ms") <= time <= pd.Timestamp.now("UTC")


def test_event_files_of_the_object_detection_api_are_read_too(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path / "train"))
    with writer.as_default():
        for step in (100, 200):
            tf.summary.scalar("Loss/total_loss", step / 400, step=step)
            tf.summary.image("train_input_images", np.zeros((1, 8, 8, 3), np.uint8), step=step)
            tf.summary.text("text", "no number", step=step)
    writer.close()
    assert curves(load_history(tmp_path)) == {("train", "Loss/total_loss"): [(100, 0.25), (200, 0.5)]}


def test_event_files_of_tensorflow_1_are_read_too(tmp_path):
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(tmp_path))
        writer.add_summary(tf.compat.v1.Summary(value=[{"tag": "loss", "simple_value": 0.5}]), 7)
        writer.close()
    assert curves(load_history(tmp_path)) == {(".", "loss"): [(7, 0.5)]}


def test_of_several_values_of_a_step_the_newest_counts(tmp_path):
    # Two programs, as where a training was started again; names do not say which is newer.
    for name, wall_time, value in (("z", 100.0, 0.75), ("a", 200.0, 0.25)):
        with tf.io.TFRecordWriter(str(tmp_path / f"events.out.tfevents.{name}")) as records:
            summary = tf.compat.v1.Summary(value=[{"tag": "loss", "simple_value": value}])
            records.write(tf.compat.v1.Event(wall_time=wall_time, step=7, summary=summary).SerializeToString())
    history = load_history(tmp_path)
    assert curves(history) == {(".", "loss"): [(7, 0.25)]}
    assert history["time"][0] == pd.Timestamp(200, unit="s", tz="UTC")


def test_what_a_resumed_training_took_back_is_not_read(tmp_path):
    run_dir = str(tmp_path / "train")
    for step in (1, 2, 3):
        writers.write_scalars(run_dir, step, {"loss": float(step)})
    writers.resume(run_dir, 1)
    writers.write_scalars(run_dir, 4, {"loss": 4.0})
    assert curves(load_history(tmp_path)) == {("train", "loss"): [(1, 1.0), (4, 4.0)]}


def test_a_last_record_that_is_cut_off_is_left_out(tmp_path):
    run = tf.summary.create_file_writer(str(tmp_path))
    with run.as_default():
        for step in (1, 2, 3):
            tf.summary.scalar("loss", 0.5, step=step)
    run.close()
    (path,) = event_files.event_files(str(tmp_path))
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:-5])
    assert curves(load_history(str(tmp_path) + "/")) == {(".", "loss"): [(1, 0.5), (2, 0.5)]}


def test_a_loss_that_is_not_a_number_stays_one(tmp_path):
    writers.write_scalars(str(tmp_path), 1, {"loss": float("nan")})
    assert np.isnan(load_history(tmp_path)["value"][0])


def test_where_there_are_no_curves_the_message_says_what_to_do(tmp_path):
    with pytest.raises(ODEvalError, match=r"no folder '.*missing'; give the model_dir"):
        load_history(tmp_path / "missing")
    with pytest.raises(ODEvalError, match=r"no curves .*; give the model_dir of a training run, or wait"):
        load_history(tmp_path)
