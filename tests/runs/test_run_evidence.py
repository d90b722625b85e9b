"""What the folder of a training tells of it, against what was written, also while it is written."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

import od_eval
from made_images import evaluated, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation.object_columns import as_pandas
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS
from od_eval.findings.evidence import Curve
from od_eval.runs import analysis_files, metrics_files, object_files
from od_eval.runs.run_evidence import EvidenceReader, read_evidence
from od_eval.tensorboard import writers


def points(curve: Curve) -> list[tuple[int, float]]:
    assert (curve.steps.dtype, curve.values.dtype) == (np.int64, np.float64)
    return list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))


def evaluation(step: int, ap: float = 0.5, **sections) -> EvaluationResult:
    return EvaluationResult(
        4, step=step, bbox=dict.fromkeys(COCO_METRICS, ap), losses={"total_loss": step / 4}, **sections
    )


def log(folder, steps, offset=0.0, **more) -> None:
    for step in steps:
        writers.write_scalars(str(folder / "train"), step, {"Loss/total_loss": step / 4 + offset, **more})


# ---- Curves ---------------------------------------------------------------------------------------------------------


def test_the_curves_are_those_that_load_history_reads(tmp_path):
    log(tmp_path, range(1, 40), learning_rate=0.25)
    evidence = read_evidence(tmp_path)
    history = od_eval.load_history(tmp_path)
    assert set(evidence.curves) == {"Loss/total_loss", "learning_rate"}
    for tag, curve in evidence.curves.items():
        rows = history[history.tag == tag]
        assert points(curve) == list(zip(rows.step, rows.value, strict=True))


def test_a_value_that_is_not_finite_is_nan(tmp_path):
    for step, value in enumerate((0.5, math.inf, -math.inf, math.nan, 0.25), start=1):
        writers.write_scalars(str(tmp_path / "train"), step, {"Loss/total_loss": value})
    values = read_evidence(tmp_path).curve("Loss/total_loss").values
    np.testing.assert_array_equal(values, [0.5, np.nan, np.nan, np.nan, 0.25])


def test_a_reader_reads_on_where_the_training_goes_on(tmp_path, monkeypatch):
    reader = EvidenceReader(tmp_path)
    assert reader.read().curves == {}, "nothing is there yet"
    log(tmp_path, [1, 2])
    assert points(reader.read().curve("Loss/total_loss")) == [(1, 0.25), (2, 0.5)]
    log(tmp_path, [3])
    assert points(reader.read().curve("Loss/total_loss")) == [(1, 0.25), (2, 0.5), (3, 0.75)]
    monkeypatch.setattr(
        "od_eval.runs.training_events.event_pb2.Event.FromString", lambda record: pytest.fail("read again")
    )
    assert points(reader.read().curve("Loss/total_loss")) == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_steps_that_are_trained_again_replace_those_before(tmp_path):
    reader = EvidenceReader(tmp_path)
    log(tmp_path, [1, 2, 3, 4])
    assert len(reader.read().curve("Loss/total_loss")) == 4
    writers.resume(str(tmp_path / "train"), 2)
    assert points(reader.read().curve("Loss/total_loss")) == [(1, 0.25), (2, 0.5)]
    log(tmp_path, [3], offset=100.0)
    expected = [(1, 0.25), (2, 0.5), (3, 100.75)]
    assert points(reader.read().curve("Loss/total_loss")) == expected
    assert points(read_evidence(tmp_path).curve("Loss/total_loss")) == expected


def test_half_a_record_is_read_when_it_is_whole(tmp_path):
    log(tmp_path, [1, 2])
    (path,) = (tmp_path / "train").glob("*tfevents*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    reader = EvidenceReader(tmp_path)
    assert points(reader.read().curve("Loss/total_loss")) == [(1, 0.25)]
    with path.open("ab") as file:
        file.write(whole[-7:])
    assert points(reader.read().curve("Loss/total_loss")) == [(1, 0.25), (2, 0.5)]


def test_the_summary_of_the_training_tells_its_last_step_unless_it_is_given(tmp_path):
    log(tmp_path, [1])
    assert read_evidence(tmp_path).last_step is None
    for last in (700, 900):
        writers.write_text(str(tmp_path / "train"), "summary", f"step            1 of {last}\nbest            -", 1)
    assert read_evidence(tmp_path).last_step == 900
    assert read_evidence(tmp_path, last_step=50).last_step == 50


# ---- Runs of the Object Detection API's own program -----------------------------------------------------------------


def test_evaluations_of_the_object_detection_api_are_read_of_its_events(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path / "eval"))
    with writer.as_default():
        for step in (100, 200):
            tf.summary.scalar("DetectionBoxes_Precision/mAP", step / 400, step=step)
            tf.summary.scalar("DetectionBoxes_Precision/mAP (small)", -1.0, step=step)
            tf.summary.scalar("Loss/RPNLoss/objectness_loss", 0.25, step=step)
            tf.summary.scalar("Loss/BoxClassifierLoss/classification_loss", 0.5, step=step)
            tf.summary.scalar("Loss/RPNLoss/localization_loss", 1.0, step=step)
            tf.summary.scalar("Loss/regularization_loss", 2.0, step=step)
            tf.summary.scalar("Loss/total_loss", 3.75, step=step)
            tf.summary.image("eval_side_by_side", np.zeros((1, 8, 8, 3), np.uint8), step=step)
    writer.close()
    evidence = read_evidence(tmp_path)
    assert points(evidence.metric("AP")) == [(100, 0.25), (200, 0.5)]
    assert points(evidence.metric("classification_loss")) == [(100, 0.75), (200, 0.75)]
    assert points(evidence.metric("localization_loss")) == [(100, 1.0), (200, 1.0)]
    assert points(evidence.metric("total_loss")) == [(100, 3.75), (200, 3.75)]
    newest = evidence.newest
    assert (newest.step, newest.num_images, newest.bbox["APs"], newest.bbox["AR100"]) == (200, 0, None, None)
    assert evidence.objects is None


def test_parts_of_losses_of_training_are_summed_where_their_sums_were_not_logged(tmp_path):
    parts = {"Loss/RPNLoss/objectness_loss": 0.25, "Loss/BoxClassifierLoss/classification_loss": 0.5}
    log(tmp_path, [1, 2], **parts)
    assert points(read_evidence(tmp_path).curve("Loss/classification_loss")) == [(1, 0.75), (2, 0.75)]


def test_sums_of_losses_that_were_logged_stay_as_they_are(tmp_path):
    parts = {"Loss/RPNLoss/objectness_loss": 0.25, "Loss/classification_loss": 0.125}
    log(tmp_path, [1], **parts)
    evidence = read_evidence(tmp_path)
    assert points(evidence.curve("Loss/classification_loss")) == [(1, 0.125)]
    assert "Loss/localization_loss" not in evidence.curves


# ---- Evaluations and objects ----------------------------------------------------------------------------------------


def test_evaluations_are_those_of_the_files_each_read_once_unless_written_anew(tmp_path, monkeypatch):
    run_dir = str(tmp_path / "eval")
    reader = EvidenceReader(tmp_path)
    for step in (10, 20):
        metrics_files.write(run_dir, evaluation(step))
        metrics_files.write(str(tmp_path / "eval_train"), evaluation(step, 0.75))
    evidence = reader.read()
    assert list(evidence.evaluations) == [evaluation(10), evaluation(20)]
    assert points(evidence.metric("AP", of_training_images=True)) == [(10, 0.75), (20, 0.75)]
    read = []
    read_step = metrics_files.read_step
    monkeypatch.setattr(metrics_files, "read_step", lambda *args: (read.append(args), read_step(*args))[1])
    metrics_files.write(run_dir, evaluation(20, 0.0625))
    metrics_files.write(run_dir, evaluation(30))
    assert list(reader.read().evaluations) == [evaluation(10), evaluation(20, 0.0625), evaluation(30)]
    assert read == [(run_dir, 20), (run_dir, 30)]
    metrics_files.drop_after(run_dir, 10)
    assert list(reader.read().evaluations) == [evaluation(10)]


def test_the_newest_evaluation_need_not_be_in_files_and_later_ones_are_left_out(tmp_path):
    for step in (10, 20, 30):
        metrics_files.write(str(tmp_path / "eval"), evaluation(step))
    evidence = EvidenceReader(tmp_path).read(newest=evaluation(20, 0.25), load_objects=lambda: "objects")
    assert list(evidence.evaluations) == [evaluation(10), evaluation(20, 0.25)]
    assert evidence.objects == "objects"


def test_another_run_has_its_own_evaluations(tmp_path):
    metrics_files.write(str(tmp_path / "eval"), evaluation(10))
    metrics_files.write(str(tmp_path / "eval" / "night"), evaluation(10, 0.125))
    assert points(read_evidence(tmp_path, "eval/night").metric("AP")) == [(10, 0.125)]


def test_objects_are_those_of_the_newest_evaluation_that_has_them(tmp_path):
    assert read_evidence(tmp_path).objects is None
    table = evaluated(random_images(0)).object_tables()["bbox"]
    name = object_files.FILE_NAMES["bbox"]
    analysis_files.write(str(tmp_path / "eval"), 10, {name: object_files.parquet(table)})
    analysis_files.write(str(tmp_path / "eval"), 20, {"counts.csv": ""})
    objects = read_evidence(tmp_path).objects
    expected = as_pandas(table)
    assert objects[list(expected)].equals(expected)


def test_a_damaged_file_of_metrics_is_named(tmp_path):
    metrics_files.write(str(tmp_path / "eval"), evaluation(10))
    (tmp_path / "eval" / "metrics" / "step-00000010.json").write_text("{")
    with pytest.raises(ODEvalError, match=r"step-00000010.json' is damaged"):
        read_evidence(tmp_path)


# ---- Training images ------------------------------------------------------------------------------------------------


def test_the_number_of_training_images_is_told_by_passes_over_them(tmp_path):
    config = type("Config", (), {"batch_size": 8})()
    log(tmp_path, [250], Epoch=250 * 8 / 1237)
    assert read_evidence(tmp_path, config=config).num_train_images == 1237
    assert read_evidence(tmp_path, config=config, num_train_images=5).num_train_images == 5
    assert read_evidence(tmp_path).num_train_images is None
