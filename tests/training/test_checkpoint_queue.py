"""Checkpoints that another process writes, kept until they are evaluated."""

import shutil
import time
from pathlib import Path

from od_eval.training.checkpoint_queue import CheckpointQueue


def test_a_checkpoint_that_waits_is_kept_when_its_training_deletes_it(tmp_path):
    def save(number):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / f"ckpt-{number}.data-00000-of-00001").write_text(f"data {number}")
        (tmp_path / "run" / f"ckpt-{number}.index").write_text(f"index {number}")

    def take(queue):
        original, kept = queue.take(timeout=20)
        assert Path(f"{kept}.data-00000-of-00001").read_text() == f"data {original.rpartition('-')[2]}"
        return original, kept

    run, kept_dir = str(tmp_path / "run"), str(tmp_path / "kept")
    with CheckpointQueue(run, kept_dir) as queue:
        assert queue.take(timeout=0) is None
        save(9)
        first, kept = take(queue)
        save(10)
        save(11)
        deadline = time.monotonic() + 20
        while not Path(kept_dir, "ckpt-11.index").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        shutil.rmtree(run)
        queue.done(kept)
        second, kept = take(queue)
        queue.done(kept)
    with CheckpointQueue(run, kept_dir) as queue:  # started again
        third, kept = take(queue)
        queue.done(kept)
        assert queue.take(timeout=0) is None
    assert [first, second, third] == [f"{run}/ckpt-{number}" for number in (9, 10, 11)]
    assert not Path(kept_dir).exists()
