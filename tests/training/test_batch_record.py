"""Which records were in a batch: written, read, cut off, continued."""

import uuid

import numpy as np
import pytest

from od_eval import ODEvalError
from od_eval.training import batch_record
from od_eval.training.batch_record import BatchRecord, RecordedBatches


def ids(*values):
    return np.array(values, np.int32)


def record(model_dir, batches, first_step=1, worker=0, steps_done=0, seed=None):
    """Writes batches of consecutive steps."""
    writer = BatchRecord(str(model_dir), worker=worker, steps_done=steps_done, seed=seed)
    writer.add(first_step, batches)
    writer.write()


def read(model_dir, *steps):
    recorded = RecordedBatches(str(model_dir))
    return [recorded.batch(step).ids.tolist() for step in steps]


def written_files(model_dir):
    return sorted((model_dir / "train" / "batches").iterdir())


def test_the_batch_of_each_step_is_read_as_it_was_written_also_if_they_differ_in_size(tmp_path):
    record(tmp_path, [ids(1, 2), ids(3, 4), ids(5), ids(6, 2**31 - 1)], seed=4)
    assert read(tmp_path, 1, 2, 3, 4) == [[1, 2], [3, 4], [5], [6, 2**31 - 1]]
    batch = RecordedBatches(str(tmp_path)).batch(3)
    assert (batch.step, batch.steps_done, batch.seed, batch.num_workers) == (3, 0, 4, 1)


def test_of_a_step_that_was_trained_again_the_newest_batch_counts_and_older_steps_stay(tmp_path):
    record(tmp_path, [ids(1), ids(2), ids(3)])
    record(tmp_path, [ids(20)], first_step=2, steps_done=1)
    assert read(tmp_path, 1, 2, 3) == [[1], [20], [3]]
    assert RecordedBatches(str(tmp_path)).batch(2).steps_done == 1


def test_the_batch_of_a_step_is_that_of_all_workers(tmp_path):
    record(tmp_path, [ids(3)], worker=1)
    record(tmp_path, [ids(1, 2)], worker=0)
    batch = RecordedBatches(str(tmp_path)).batch(1)
    assert (batch.ids.tolist(), batch.num_workers) == ([1, 2, 3], 2)


@pytest.mark.parametrize("left", [1, 39, 40, 44])
def test_what_a_killed_process_has_written_half_is_left_out_and_the_next_one_goes_on(tmp_path, left):
    record(tmp_path, [ids(1), ids(2)])
    (path,) = written_files(tmp_path)
    whole = path.stat().st_size
    writer = BatchRecord(str(tmp_path), worker=0, steps_done=2, seed=None)
    writer.add(3, [ids(3, 4)])
    writer.write()
    second = written_files(tmp_path)[1]
    path.write_bytes(path.read_bytes() + second.read_bytes()[:left])
    second.unlink()
    assert path.stat().st_size == whole + left
    record(tmp_path, [ids(5, 6)], first_step=3, steps_done=2)
    assert read(tmp_path, 1, 2, 3) == [[1], [2], [5, 6]]


def test_a_block_that_was_overwritten_is_left_out(tmp_path):
    record(tmp_path, [ids(1)])
    (path,) = written_files(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ODEvalError, match="has no recorded batches"):
        RecordedBatches(str(tmp_path))


def test_files_have_a_size_and_only_the_newest_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_record, "_BYTES_OF_FILE", 1000)
    monkeypatch.setattr(batch_record, "_MOST_FILES", 3)
    writer = BatchRecord(str(tmp_path), worker=0, steps_done=0, seed=None)
    for step in range(1, 41):
        writer.add(step, [np.full(50, step, np.int32)])  # 240 bytes
        writer.write()
    assert [path.name for path in written_files(tmp_path)] == [f"worker-0-{n:06d}.ids" for n in (8, 9, 10)]
    assert all(path.stat().st_size <= 1000 for path in written_files(tmp_path))
    assert read(tmp_path, 29, 40) == [[29] * 50, [40] * 50]
    with pytest.raises(ODEvalError, match=r"step 28 is not recorded .* recorded are steps 29 to 40\."):
        read(tmp_path, 28)


def test_steps_are_written_every_few_seconds(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(batch_record.time, "monotonic", lambda: now[0])
    writer = BatchRecord(str(tmp_path), worker=0, steps_done=0, seed=None)
    writer.add(1, [ids(1)])
    assert not (tmp_path / "train").exists()
    now[0] += batch_record._SECONDS_BETWEEN_WRITES + 0.1
    writer.add(2, [ids(2)])
    assert read(tmp_path, 1, 2) == [[1], [2]]


def test_batches_without_ids_are_not_recorded(tmp_path):
    record(tmp_path, [ids(), ids()])
    assert not (tmp_path / "train").exists()


def test_a_disk_that_cannot_be_written_is_said_once_and_training_goes_on(tmp_path, capsys):
    (tmp_path / "train").write_text("a file, where a folder has to be")
    writer = BatchRecord(str(tmp_path), worker=0, steps_done=0, seed=None)
    for step in (1, 2):
        writer.add(step, [ids(1)])
        writer.write()
    assert capsys.readouterr().err.count("cannot be recorded any more") == 1


def test_the_recorded_steps_are_listed_with_their_gaps(tmp_path):
    record(tmp_path, [ids(1), ids(1)])
    record(tmp_path, [ids(1), ids(1)], first_step=5, steps_done=4)
    with pytest.raises(ODEvalError, match=r"steps 1 to 2, 5 to 6\."):
        read(tmp_path, 3)


def test_a_remote_folder_is_written_and_read_as_well():
    model_dir = f"ram://{uuid.uuid4().hex}/run"
    writer = BatchRecord(model_dir, worker=0, steps_done=0, seed=None)
    for step in (1, 2):
        writer.add(step, [ids(step)])
        writer.write()
    assert read(model_dir, 1, 2) == [[1], [2]]
