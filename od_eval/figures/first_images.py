"""The first images of an evaluation, kept while it runs and drawn after its numbers have been saved.

first_images = FirstImages(10)
evaluate(model, batches, [*default_evaluators(model, options), first_images])
for image_id, picture in first_images.pictures(options):
    …
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.options import EvaluationOptions
from od_eval.figures.pictures import pictures_of


class FirstImages:
    """A `BatchEvaluator` that only collects images and returns no section.

    Args:
      number: the number of images to keep, from batches that have pixels.
    """

    def __init__(self, number: int):
        self._number = number
        self._batches: list[EvaluationBatch] = []

    def update(self, batch: EvaluationBatch) -> None:
        missing = self._number - sum(len(kept.images) for kept in self._batches)
        if missing > 0 and len(batch.images):
            self._batches.append(dataclasses.replace(batch, images=batch.images[:missing], outputs=None))

    def merge(self, other: FirstImages) -> None:
        for batch in other._batches:
            self.update(batch)

    def evaluate(self) -> dict[str, Any]:
        return {}

    def pictures(self, options: EvaluationOptions) -> Iterator[tuple[int | str, npt.NDArray[Any]]]:
        """Draws the images one by one; yields and raises as `pictures_of` does."""
        for batch in self._batches:
            yield from pictures_of(batch, options)
