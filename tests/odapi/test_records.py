"""The record files of an input reader, and the record that made an input fail."""

import pytest
import tensorflow as tf

from od_eval.odapi.records import find_broken_record


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
