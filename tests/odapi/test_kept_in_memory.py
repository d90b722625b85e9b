"""Evaluation input that is kept in memory after it was read once."""

import weakref

import numpy as np
import pytest

from od_eval import Pipeline
from od_eval.odapi import kept_in_memory


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
