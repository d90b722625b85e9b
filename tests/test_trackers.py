"""Experiment trackers: a callback of MLflow after those of od_eval, as docs/trackers.md shows it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
import tensorflow as tf

import od_eval


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch):
    """An MLflow experiment in a folder."""
    # Its file store says that it gets no new features; a database would bring SQLAlchemy into this environment.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield mlflow.set_experiment("shapes")
    mlflow.set_tracking_uri(None)


def detect(model: tf.keras.Model, batch: np.ndarray) -> od_eval.EvaluationBatch:
    """Finds the one object of each image: from the second step on where it is, before elsewhere."""
    found = int(model.optimizer.iterations) > 1
    boxes = np.array([[[8.0, 8.0, 40.0, 40.0]]] * len(batch))
    return od_eval.EvaluationBatch(
        image_ids=batch.tolist(),
        image_sizes=[(64, 64)] * len(batch),
        detections=od_eval.Detections(boxes if found else boxes + 20, [[0.5]] * len(batch), [[1]] * len(batch)),
        groundtruth=od_eval.GroundTruth(boxes, [[1]] * len(batch)),
        losses={"total_loss": 2.0 - found},
    )


def test_mlflow_gets_the_losses_and_metrics_of_every_epoch(experiment, tmp_path):
    from mlflow.tensorflow import MlflowCallback

    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    options = od_eval.EvaluationOptions({1: "square"}, num_pictures=0)
    evaluation = od_eval.DetectionEvaluation([np.arange(2)], tmp_path / "run", detect=detect, options=options)
    with mlflow.start_run() as run:
        # Behind the evaluation, whose numbers it finds in Keras's logs.
        callbacks = [od_eval.LossLogger(tmp_path / "run"), evaluation, MlflowCallback()]
        x = np.ones((1, 1))
        model.fit(x, x, batch_size=1, epochs=2, callbacks=callbacks, verbose=0)

    client = mlflow.MlflowClient()
    history = {
        key: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, key)]
        for key in ("val_AP", "val_AP50", "val_total_loss")
    }
    assert history["val_total_loss"] == [(0, 2.0), (1, 1.0)]
    assert history["val_AP"] == [(0, 0.0), (1, pytest.approx(1.0))]
    assert history["val_AP50"] == [(0, 0.0), (1, pytest.approx(1.0))]
    assert [step for step, _ in history["val_AP"]] == [0, 1]
    assert "loss" in client.get_run(run.info.run_id).data.metrics
