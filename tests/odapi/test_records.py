"""The record files of an input reader, and the record that made an input fail."""

import pytest
import tensorflow as tf

from od_eval.odapi.records import count, find_broken_record


def reader_of(*files, **fields):
    from object_detection.protos import input_reader_pb2

    reader = input_reader_pb2.InputReader(**fields)
    reader.tf_record_input_reader.input_path.extend(files)
    return reader


def find(*files):
    return find_broken_record(reader_of(*files))


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


def test_records_are_counted_over_files_where_that_is_cheap(tmp_path, monkeypatch):
    paths = [write(tmp_path / "a-0", [b"", b"x" * 70_000, b"y"]), write(tmp_path / "a-1", []), str(tmp_path / "a-[0]")]
    assert count(reader_of(*paths[:2])) == 3
    assert count(reader_of(f"{tmp_path}/a-?")) == 3
    assert count(reader_of(*paths[:2], sample_1_of_n_examples=2)) == 2  # the first and the third
    assert count(reader_of(f"file://{paths[0]}")) is None
    assert count(reader_of(*paths[:2], sample_from_datasets_weights=[1, 2])) is None
    assert count(reader_of(str(tmp_path / "none"))) is None
    monkeypatch.setattr("od_eval.odapi.records._MOST_BYTES_TO_COUNT", 60_000)
    assert count(reader_of(*paths[:2])) is None
