"""Which record files a worker trains on, and which records it evaluates."""

import types

import pytest
import tensorflow as tf

from od_eval import ODEvalError, Pipeline, cluster
from od_eval.odapi import datasets, shards


def write(path, number, length=10):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(number):
            writer.write(bytes([index % 256]) * length)


def reader_of(*patterns):
    reader = shards.input_reader_pb2.InputReader()
    reader.tf_record_input_reader.input_path[:] = map(str, patterns)
    return reader


def test_every_file_belongs_to_one_worker_and_all_have_nearly_the_same(tmp_path):
    for index, number in enumerate([50, 10, 10, 10, 10, 10]):
        write(tmp_path / f"a-{index}", number)
    found = shards.files_of_workers([f"{tmp_path}/a-*"], 2)
    assert [[name[-1] for name in share] for share in found] == [["0"], ["1", "2", "3", "4", "5"]]
    assert shards.uneven_shares(reader_of(tmp_path / "a-*"), 2) is None


def test_files_of_one_size_are_dealt_in_the_order_of_their_names(tmp_path):
    for index in range(5):
        write(tmp_path / f"a-{index}", 3)
    found = shards.files_of_workers([f"{tmp_path}/a-*"], 2)
    assert [[name[-1] for name in share] for share in found] == [["0", "2", "4"], ["1", "3"]]
    uneven = str(shards.uneven_shares(reader_of(tmp_path / "a-*"), 2))
    assert "of 5 record files, worker 1 has 2 with 6 images, and worker 0 3 with 9" in uneven
    assert "images of worker 1 come 1.5 times as often" in uneven
    assert "a multiple of 2 in number" in uneven


def test_empty_files_do_not_leave_a_worker_without_any(tmp_path):
    for index in range(4):
        write(tmp_path / f"a-{index}", 0)
    assert list(map(len, shards.files_of_workers([f"{tmp_path}/a-*"], 4))) == [1, 1, 1, 1]


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("total", [0, 1, 7, 8, 9, 25])
def test_blocks_are_dealt_in_turn(num_workers, block, total):
    dataset = tf.data.Dataset.range(total)
    parts = [
        list(shards.own_blocks(dataset, block, worker, num_workers).as_numpy_iterator())
        for worker in range(num_workers)
    ]
    assert sorted(one for part in parts for one in part) == list(range(total))
    for worker, part in enumerate(parts):
        assert all(one // block % num_workers == worker for one in part)
        assert shards.own_number(total, block, worker, num_workers) == len(part)


@pytest.fixture
def pipeline(ssd_config, config_overrides):
    return Pipeline.load(ssd_config, [*config_overrides, "eval_config.batch_size=2"])


@pytest.mark.parametrize("sample", [0, 2])
def test_workers_evaluate_the_batches_of_one_process_in_turn(pipeline, sample):
    pipeline.config.eval_input_reader[0].sample_1_of_n_examples = sample

    def images(batches):
        return [features["image"].numpy().tobytes() for features, _ in batches]

    dataset = pipeline.eval_dataset()
    whole = images(dataset)
    assert len(whole) == (1 if sample else 2)
    parts = [images(datasets.share_of(dataset, worker, 2)) for worker in (0, 1)]
    assert parts == [whole[0::2], whole[1::2]]
    # Of batches that cannot be had in part, all are decoded.
    assert images(datasets.share_of(list(dataset), 1, 2)) == whole[1::2]


def test_a_pass_over_the_training_data_of_all_workers_has_every_image_once(pipeline, shapes, tmp_path):
    (whole,) = shapes.glob("train-*")
    records = list(tf.data.TFRecordDataset(str(whole)).as_numpy_iterator())
    for index in range(4):
        with tf.io.TFRecordWriter(str(tmp_path / f"train-{index}")) as writer:
            for record in records[4 * index : 4 * index + 4]:
                writer.write(record)
    reader = pipeline.config.train_input_reader
    reader.tf_record_input_reader.input_path[:] = [f"{tmp_path}/train-[01]", f"{tmp_path}/train-[23]"]
    reader.num_epochs = 1

    def images_of_worker(worker, weights=()):
        reader.sample_from_datasets_weights[:] = weights
        context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=worker, num_replicas_in_sync=2)
        with shards.training_files(context):
            made = datasets.dataset_builder.build(reader, batch_size=2, input_context=context)
        return [batch["image"].numpy().tobytes() for batch in made]

    both = [images_of_worker(worker) for worker in (0, 1)]
    assert [len(images) for images in both] == [8, 8]
    assert len({*both[0], *both[1]}) == 16
    weighted = [images_of_worker(worker, (0.5, 0.5)) for worker in (0, 1)]  # each pattern by itself
    assert len({*weighted[0], *weighted[1]}) == 16


def test_a_worker_that_sees_other_files_is_told(pipeline, monkeypatch):
    strategy = types.SimpleNamespace(num_replicas_in_sync=2, extended=types.SimpleNamespace(_num_workers=2))

    def error_with(change):
        def gather(strategy, listings):
            other = {field: list(change(dict(files)).items()) for field, files in listings.items()}
            return [listings, other]

        monkeypatch.setattr(cluster, "gather", gather)
        with pytest.raises(ODEvalError) as error:
            shards.check_same_files(strategy, pipeline.config)
        return str(error.value)

    assert "train_input_reader: worker 1 sees other record files than worker 0: it lacks 'train-" in error_with(
        lambda files: {}
    )
    assert "it has 'b', too (1 files there, 2 here)" in error_with(lambda files: {**files, "b": 1})
    assert "bytes there and 7 here" in error_with(lambda files: dict.fromkeys(files, 7))
    monkeypatch.setattr(shards, "_sizes", lambda paths: [5] * len(paths))
    monkeypatch.setattr(shards.records, "input_files", lambda reader: ["x/a", "y/b"])
    assert "in another order, the first is 'b' here" in error_with(lambda files: dict(reversed(files.items())))
    monkeypatch.setattr(cluster, "gather", lambda strategy, listings: [listings, listings])
    shards.check_same_files(strategy, pipeline.config)
