"""Files that are not on this machine, wherever a path can stand: TensorFlow's filesystem in memory is one such."""

import uuid
from types import SimpleNamespace

import pytest
import tensorflow as tf
from small_config import CONFIG, LABEL_MAP, error_of

from od_eval import Pipeline, files
from od_eval.label_map import Category, read_label_map
from od_eval.odapi.checkpoints import Checkpoints, check_fine_tune_checkpoint, existing_checkpoint
from od_eval.odapi.config_checks import check_pipeline
from od_eval.odapi.records import find_broken_record, glob, input_files


@pytest.fixture
def remote():
    """A folder elsewhere with a config and the files it names."""
    folder = f"ram://{uuid.uuid4().hex}/data"
    files.write_whole(f"{folder}/pipeline.config", CONFIG)
    files.write_whole(f"{folder}/label_map.pbtxt", LABEL_MAP)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "day.record"):
        with tf.io.TFRecordWriter(f"{folder}/{name}") as writer:
            writer.write(b"not an example")
    return folder


def load(folder, *overrides):
    return Pipeline.load(f"{folder}/pipeline.config", overrides)


def test_relative_paths_are_found_beside_a_config(remote):
    reader = load(remote).config.train_input_reader
    assert reader.label_map_path == f"{remote}/label_map.pbtxt"
    assert list(reader.tf_record_input_reader.input_path) == [f"{remote}/train-?????-of-00002"]
    assert input_files(reader) == [f"{remote}/train-0000{number}-of-00002" for number in (0, 1)]
    assert find_broken_record(reader).startswith(f"record 0 of '{remote}/train-00000-of-00002' is not a tf.train.Ex")


def test_the_config_as_run_is_written_to_a_model_dir_and_reads_back_the_same(remote):
    pipeline = load(remote, "train_config.batch_size=3")
    pipeline.save(f"{remote}/runs/a")
    assert load(f"{remote}/runs/a").config == pipeline.config
    pipeline.save(remote)  # where its owner's config is
    assert files.read_text(f"{remote}/pipeline.config") == CONFIG


def test_a_label_map_is_read(remote):
    assert read_label_map(f"{remote}/label_map.pbtxt")[0] == Category(1, "class 1")
    assert "'ram://nowhere/a' does not exist" in error_of(read_label_map, "ram://nowhere/a")
    assert "is a folder" in error_of(read_label_map, remote)


def test_what_is_wrong_is_found_and_named_without_mangling_the_path(remote):
    night = "eval_input_reader[1].tf_record_input_reader.input_path"
    path = "train_input_reader.tf_record_input_reader.input_path"
    assert list(check_pipeline(load(remote, f"{night}=day.record"))) == []
    message = error_of(load(remote, f"{path}={remote}/nothing-*").train_dataset)
    assert f"{path} '{remote}/nothing-*' matches no file (looked in " in message
    assert f" and in {remote}); correct" in message
    for name in ("train-00000-of-00002", "train-00001-of-00002"):
        files.write_whole(f"{remote}/{name}", b"")
    assert f"are empty ({remote}/train-00000-of-00002)" in error_of(load(remote).train_dataset)


def test_records_are_read(ssd_config, config_overrides, shapes, remote):
    for path in shapes.iterdir():
        if path.is_file():
            files.write_whole(f"{remote}/{path.name}", path.read_bytes())
    pipeline = Pipeline.load(ssd_config, [override.replace(str(shapes), remote) for override in config_overrides])
    assert sum(1 for _ in pipeline.eval_dataset()) == 4


def test_a_checkpoint_is_found_and_kept_apart_from_those_of_the_run(remote):
    saved = tf.train.Checkpoint(step=tf.Variable(1)).write(f"{remote}/runs/a/ckpt-3")
    assert existing_checkpoint(f"{saved}.index", "checkpoint", "correct it") == f"{remote}/runs/a/ckpt-3"
    assert existing_checkpoint(f"{remote}/runs/a", "checkpoint", "correct it") == saved, "without the file `checkpoint`"
    message = error_of(existing_checkpoint, f"{remote}/runs/a/ckpt-4", "checkpoint", "correct it")
    assert f"is missing (there is {remote}/runs/a/ckpt-3); correct it." in message
    pipeline = load(remote, f"train_config.fine_tune_checkpoint={saved}")
    check_fine_tune_checkpoint(pipeline.config.train_config, f"{remote}/runs/b")
    for model_dir in (f"{remote}/runs/a", f"{remote}/runs/a/"):
        assert "is in model_dir" in error_of(check_fine_tune_checkpoint, pipeline.config.train_config, model_dir)


def test_checkpoints_of_a_run_are_saved_and_the_newest_is_found(remote):
    model = tf.Module()
    model.weight = tf.Variable([1.0, 2.0])
    optimizer = tf.keras.optimizers.legacy.SGD()
    detector = SimpleNamespace(
        model=model,
        optimizer=optimizer,
        steps_done=0,
        distribute_strategy=tf.distribute.get_strategy(),
        checkpoint=lambda: tf.train.Checkpoint(step=tf.Variable(0), model=model, optimizer=optimizer),
    )
    checkpoints = Checkpoints(detector, f"{remote}/runs/a")
    assert checkpoints.newest() is None
    assert [checkpoints.save() for _ in range(2)] == [f"{remote}/runs/a/ckpt-{number}" for number in (1, 2)]
    # Restoring is not tried: the filesystem in memory takes the beginning of a name for a folder, and then TensorFlow
    # looks for ckpt-2 in there. A bucket does not.
    assert checkpoints.newest() == f"{remote}/runs/a/ckpt-2"


def test_a_filesystem_that_there_is_not_is_an_error_of_the_user():
    assert "'nosuch://a/b' cannot be looked up: " in error_of(glob, "nosuch://a/b")
    assert "checkpoint 'nosuch://a/b' cannot be looked up: " in error_of(existing_checkpoint, "nosuch://a/b", "it", "x")
    assert "label map 'nosuch://a/b' cannot be read: " in error_of(read_label_map, "nosuch://a/b")
