"""Event files and writers: one writer a run, and runs that are resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from od_eval.tensorboard import event_files, writers
from read_events import events, shown_scalars


def write(run: Path, steps: range) -> Path:
    """Writes an event file as another process would have, with the step as its value."""
    before = set(event_files.event_files(str(run)))
    writer = tf.summary.create_file_writer(str(run))
    with writer.as_default():
        for step in steps:
            tf.summary.scalar("value", step, step=step)
    writer.close()
    return Path((set(event_files.event_files(str(run))) - before).pop())


def steps_in(event_file: Path) -> list[int]:
    return [event.step for event in events(event_file) if event.HasField("summary")]


def shown_steps(run: Path) -> list[int]:
    """What TensorBoard reads from the folder."""
    return [step for step, _ in shown_scalars(run).get("value", [])]


def test_later_events_are_dropped_and_the_original_is_kept_where_tensorboard_does_not_read_it(tmp_path):
    event_file = write(tmp_path, range(1, 10))
    content = event_file.read_bytes()
    assert event_files.drop_events_after(str(event_file), 6)
    assert steps_in(event_file) == shown_steps(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert events(event_file)[0].file_version == "brain.Event:2"
    (kept,) = [path for path in tmp_path.iterdir() if path != event_file]
    assert "tfevents" not in kept.name
    assert kept.read_bytes() == content


def test_a_file_without_later_events_is_not_touched(tmp_path):
    event_file = write(tmp_path, range(1, 7))
    before = event_file.stat()
    assert not event_files.drop_events_after(str(event_file), 6)
    assert event_file.stat() == before
    assert list(tmp_path.iterdir()) == [event_file]


@pytest.mark.parametrize("cut", [1, 20])
def test_a_last_record_cut_off_by_a_kill_is_dropped(tmp_path, cut):
    event_file = write(tmp_path, range(1, 10))
    event_file.write_bytes(event_file.read_bytes()[:-cut])
    event_files.drop_events_after(str(event_file), 7)
    assert steps_in(event_file) == [1, 2, 3, 4, 5, 6, 7]
    # Every record is whole: TensorFlow's own reader, which fails at one that is not, comes to the end.
    assert sum(1 for _ in tf.data.TFRecordDataset(str(event_file))) == 8


def test_an_empty_event_file_is_left_alone(tmp_path):
    event_file = tmp_path / "events.out.tfevents.1.host"
    event_file.touch()
    assert not event_files.drop_events_after(str(event_file), 0)


def test_events_are_dropped_on_other_filesystems_too():
    run = "ram://od_eval/run"
    writer = tf.summary.create_file_writer(run)
    with writer.as_default():
        for step in range(1, 10):
            tf.summary.scalar("value", step, step=step)
    writer.close()
    (event_file,) = event_files.event_files(run)
    assert event_files.drop_events_after(event_file, 4)
    assert max(event.step for event in events(event_file)) == 4


def test_a_resumed_run_has_the_events_of_all_earlier_files_up_to_its_step(tmp_path):
    write(tmp_path, range(1, 5))
    write(tmp_path, range(5, 9))
    writers.resume(str(tmp_path), 6)
    for step in (7, 8):
        writers.write_scalars(str(tmp_path), step, {"value": 0.0})
    assert sorted(shown_steps(tmp_path)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_run_that_starts_from_scratch_is_empty_and_what_was_there_is_kept(tmp_path, caplog):
    event_file = write(tmp_path, range(0, 5))
    content = event_file.read_bytes()
    writers.resume(str(tmp_path), 0)
    assert shown_steps(tmp_path) == []
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == content
    assert f"to {tmp_path} is no longer shown in TensorBoard" in caplog.text


def test_a_run_that_is_not_there_can_be_resumed(tmp_path):
    assert not writers.resume(str(tmp_path / "new"), 5)
    assert not (tmp_path / "new").exists()


def test_whoever_writes_to_a_run_gets_the_same_writer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert writers.writer("run") is writers.writer(str(tmp_path / "run"))
    assert len(event_files.event_files("run")) == 1


def test_what_this_process_wrote_before_it_starts_training_stays(tmp_path):
    run = str(tmp_path)
    write(tmp_path, range(0, 5))
    writers.write_scalars(run, 0, {"value": 0.0})
    assert not writers.resume(run, 0)
    writers.write_scalars(run, 1, {"value": 1.0})
    assert shown_steps(tmp_path) == [0, 1]


def test_a_process_that_goes_back_drops_its_own_later_events(tmp_path):
    run = str(tmp_path)
    for step in range(1, 6):
        writers.write_scalars(run, step, {"value": step})
    assert writers.resume(run, 3)
    writers.write_scalars(run, 4, {"value": 4.0})
    assert sorted(shown_steps(tmp_path)) == [1, 2, 3, 4]


def test_a_run_whose_folder_was_deleted_is_written_again(tmp_path):
    run = tmp_path / "run"
    writers.write_scalars(str(run), 1, {"value": 1.0})
    for path in run.iterdir():
        path.unlink()
    run.rmdir()
    assert writers.resume(str(run), 0)
    writers.write_scalars(str(run), 1, {"value": 1.0})
    assert shown_steps(run) == [1]
