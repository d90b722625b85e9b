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


def test_an_evaluation_reads_the_same_images_in_the_same_order_every_time(
    ssd_config, config_overrides, shapes, tmp_path
):
    records = list(tf.data.TFRecordDataset(tf.io.gfile.glob(f"{shapes}/train-*")).take(12).as_numpy_iterator())
    ids = [tf.train.Example.FromString(one).features.feature["image/source_id"].bytes_list.value[0] for one in records]
    for shard in (2, 0, 3, 1):  # written in another order than they are read
        with tf.io.TFRecordWriter(str(tmp_path / f"day-{shard}.record")) as writer:
            for record in records[3 * shard : 3 * shard + 3]:
                writer.write(record)
    path = f"eval_input_reader.tf_record_input_reader.input_path={tmp_path}/day-?.record"
    readers = [path, "eval_input_reader.num_readers=4", "eval_input_reader.shuffle=true"]
    for sampling, expected in ((1, ids), (5, [ids[0], ids[5], ids[10]])):
        sample = f"eval_input_reader.sample_1_of_n_examples={sampling}"
        pipeline = Pipeline.load(ssd_config, [*config_overrides, *readers, sample])
        dataset = pipeline.eval_dataset().map(lambda features, _: features["source_id"]).repeat(100)
        assert [image_id for batch in dataset.as_numpy_iterator() for image_id in batch] == expected * 100


def test_an_evaluation_reads_files_of_weighted_patterns_one_after_the_other(ssd_config, config_overrides, shapes):
    first, second = sorted(tf.io.gfile.glob(f"{shapes}/train-*") + tf.io.gfile.glob(f"{shapes}/validation-*"))[:2]
    reader = "eval_input_reader.tf_record_input_reader.input_path"
    orders = []
    for weights in ("[1.0, 3.0]", "[0.0, 3.0]"):
        override = f"eval_input_reader.sample_from_datasets_weights={weights}"
        pipeline = Pipeline.load(ssd_config, [*config_overrides, f"{reader}=['{first}', '{second}']", override])
        orders.append([str(features["source_id"].numpy()) for features, _ in pipeline.eval_dataset()])
    assert len(orders[0]) == 20
    assert orders[1] == orders[0][16:]
