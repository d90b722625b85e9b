"""When checkpoints are saved, of any Keras model."""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest
import tensorflow as tf

from od_eval.callbacks.save_checkpoints import SaveCheckpoints


class Saved:
    def __init__(self, model):
        self._model = model
        self.steps = []

    def save(self):
        self.steps.append(int(self._model.optimizer.iterations))


def fit(model, callback, steps):
    x = np.zeros((steps, 1), np.float32)
    model.fit(x, x, batch_size=1, verbose=0, callbacks=[callback])


@pytest.fixture
def model():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", loss="mse", run_eagerly=True)
    return model


def test_before_the_first_step_every_so_many_and_the_last(model):
    saved = Saved(model)
    callback = SaveCheckpoints(saved, every_n=3, last_step=7)
    fit(model, callback, 7)
    assert saved.steps == [0, 3, 6, 7]
    assert callback.saved_step == 7


def test_a_training_that_goes_on_does_not_save_what_is_saved(model):
    model.optimizer.iterations.assign(4)
    saved = Saved(model)
    callback = SaveCheckpoints(saved, every_n=3, last_step=100)
    fit(model, callback, 3)
    assert saved.steps == [6]
    callback.save()
    callback.save()
    assert saved.steps == [6, 7], "asked twice, saved once"


def test_a_checkpoint_manager_of_tensorflow_saves_any_model(model, tmp_path):
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=2)
    fit(model, SaveCheckpoints(manager, every_n=2, last_step=5), 5)
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["ckpt-3.index", "ckpt-4.index"]
