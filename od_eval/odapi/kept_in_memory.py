"""Batches of an evaluation that are decoded once and then stay in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

KEPT_BYTES = 500_000_000  # of one dataset in memory; some 300 images of 320 pixels, with the originals


class KeptInMemory:
    """Batches that are read once and then kept in memory, if they take no more than `KEPT_BYTES`; else read each time.

    Reading and decoding is a quarter of the work of an evaluation of a small model.

    Args:
      dataset: gives the same batches in each pass, as `eval_dataset` does.
    """

    def __init__(self, dataset: Iterable[Any]):
        self._dataset = dataset
        self._kept: list[Any] | None = None  # known after the first whole pass
        self._fits = True

    def __iter__(self) -> Iterator[Any]:
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
                batches.clear()  # an error from the dataset that somebody keeps refers to this frame
