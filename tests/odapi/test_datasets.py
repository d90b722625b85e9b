"""Training input that follows the seed, evaluation input that is kept, and the record that made an input fail."""

import os
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from od_eval import Pipeline
from od_eval.odapi import kept_in_memory
from od_eval.odapi.records import find_broken_record


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


def images_of(batches):
    return [features["image"].numpy() for features, _ in batches]


def test_batches_are_read_once_and_kept(ssd_config, config_overrides):
    dataset = Counted(Pipeline.load(ssd_config, config_overrides).eval_dataset())
    kept = kept_in_memory.KeptInMemory(dataset)
    next(iter(kept))  # an evaluation that was interrupted leaves nothing behind that stands for all
    passes = [images_of(kept) for _ in range(3)]
    assert dataset.passes == 2
    assert len(passes[0]) > 1
    np.testing.assert_equal(passes[1:], [images_of(dataset)] * 2)


def test_batches_that_take_too_much_memory_are_read_each_time(ssd_config, config_overrides, monkeypatch):
    dataset = Counted(Pipeline.load(ssd_config, config_overrides).eval_dataset())
    images = images_of(dataset)
    monkeypatch.setattr(kept_in_memory, "KEPT_BYTES", sum(image.nbytes for image in images))  # there are labels, too
    kept = kept_in_memory.KeptInMemory(dataset)
    np.testing.assert_equal([images_of(kept) for _ in range(2)], [images] * 2)
    assert dataset.passes == 3


def test_an_error_that_is_kept_keeps_no_batches(ssd_config, config_overrides):
    def broken():
        for batch in Pipeline.load(ssd_config, config_overrides).eval_dataset():
            yielded.append(weakref.ref(batch[0]["image"]))
            yield batch
            del batch
        raise ValueError("a broken record")

    yielded = []
    with pytest.raises(ValueError, match="a broken record") as kept:
        for _ in kept_in_memory.KeptInMemory(broken()):
            pass
    assert kept.traceback
    assert [reference() for reference in yielded[:-1]] == [None] * (len(yielded) - 1)
    assert len(yielded) > 1


class Counted:
    """A dataset that counts how often somebody begins to read it."""

    def __init__(self, dataset):
        self._dataset = dataset
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return iter(self._dataset)


def find(*files):
    from object_detection.protos import input_reader_pb2

    reader = input_reader_pb2.InputReader()
    reader.tf_record_input_reader.input_path.extend(files)
    return find_broken_record(reader)


def example(encoded, name="a.jpg"):
    features = {}
    for key, value in (("image/encoded", encoded), ("image/filename", name.encode())):
        if value is not None:
            features[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


WHOLE = example(tf.io.encode_jpeg(tf.zeros([8, 8, 3], tf.uint8)).numpy())


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def test_nothing_is_found_in_whole_files(tmp_path):
    assert find(write(tmp_path / "a", [WHOLE] * 3), write(tmp_path / "b", [WHOLE])) is None


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (example(b"not a picture", "cat.jpg"), "holds an image that does not decode, 'cat.jpg'"),
        (example(None), "has no feature 'image/encoded'"),
        (b"\xff\xff\xff", "is not a tf.train.Example"),
    ],
    ids=["image", "feature", "example"],
)
def test_the_record_at_fault_is_named_with_its_file_and_its_fault(tmp_path, record, fault):
    good = write(tmp_path / "a", [WHOLE])
    bad = write(tmp_path / "b", [WHOLE, WHOLE, record, WHOLE])
    assert find(good, bad).startswith(f"record 2 of '{bad}' {fault}")


def test_a_truncated_and_a_corrupt_file_are_named_with_the_record_they_break_at(tmp_path):
    path = tmp_path / "a"
    file = write(path, [WHOLE] * 4)
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    assert find(file) == f"'{file}' is truncated or corrupt at record 3"
    path.write_bytes(b"\x00" + data[1:])
    assert find(file) == f"'{file}' is truncated or corrupt at record 0"
