"""Batches of an evaluation that are decoded once and then kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from od_eval.odapi.datasets import share_of

KEPT_BYTES = 500_000_000  # per dataset; about 300 images of 320 pixels, with the originals


class KeptInMemory:
    """Batches that are read once and then kept in memory, if they take at most `KEPT_BYTES`; otherwise read each time.

    Reading and decoding take a quarter of the time of evaluating a small model.

    Args:
      dataset: yields the same batches in each pass, as `eval_dataset` does.
      wrapped: is given the batches of each pass, and returns those to yield.
    """

    def __init__(
        self, dataset: Iterable[Any], wrapped: Callable[[Iterable[Any]], Iterable[Any]] = lambda batches: batches
    ):
        self._dataset = dataset
        self._wrapped = wrapped
        self._kept: list[Any] | None = None  # set after the first complete pass
        self._fits = True
        self._share: KeptInMemory | None = None

    def share(self, worker: int, num_workers: int) -> KeptInMemory:
        """The batches of one worker, which are kept alone; see `datasets.share_of`."""
        if self._share is None:
            self._share = KeptInMemory(share_of(self._dataset, worker, num_workers), self._wrapped)
        return self._share

    def __iter__(self) -> Iterator[Any]:
        return iter(self._wrapped(self._batches()))

    def _batches(self) -> Iterator[Any]:
        if self._kept is not None:
            yield from self._kept
            return
        batches: list[Any] = []
        num_bytes = 0
        try:
            for batch in self._dataset:
                if self._fits:
                    batches.append(batch)
                    num_bytes += sum(
                        tensor.shape.num_elements() * tensor.dtype.size for tensor in tf.nest.flatten(batch)
                    )
                    if num_bytes > KEPT_BYTES:
                        self._fits = False
                        batches.clear()
                yield batch
            if self._fits:
                self._kept = batches
        finally:
            if self._kept is None:
                batches.clear()  # a stored exception from the dataset would keep this frame alive
