"""Training input that follows the seed, and datasets that end when they end."""

import os

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from od_eval import Pipeline


def first_images(pipeline, seed):
    """Of the training input, built anew."""
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    try:
        return [features["image"].numpy() for features, _ in pipeline.train_dataset().take(4)]
    finally:
        disable_op_determinism()


def test_shuffling_and_augmentation_follow_the_seed(ssd_config, config_overrides):
    augmentations = "train_config.data_augmentation_options=[{random_horizontal_flip {}}, {ssd_random_crop {}}]"
    pipeline = Pipeline.load(ssd_config, [*config_overrides, augmentations])
    np.testing.assert_equal(first_images(pipeline, seed=1), first_images(pipeline, seed=1))
    assert not np.array_equal(first_images(pipeline, seed=1), first_images(pipeline, seed=2))
    pipeline.config.train_input_reader.shuffle = False  # so that it is the augmentation that differs
    np.testing.assert_equal(first_images(pipeline, seed=1), first_images(pipeline, seed=1))
    assert not np.array_equal(first_images(pipeline, seed=1), first_images(pipeline, seed=2))


def test_no_dataset_is_autotuned_as_a_pass_would_end_up_to_a_minute_late(ssd_config, config_overrides):
    pipeline = Pipeline.load(ssd_config, config_overrides)
    for dataset in (pipeline.train_dataset(), pipeline.eval_dataset(), pipeline.train_sample_dataset(2)):
        autotune = dataset.options().autotune
        assert (autotune.enabled, autotune.initial_parallelism) == (False, os.cpu_count())
