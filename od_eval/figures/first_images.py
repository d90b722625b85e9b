"""The first images of an evaluation, kept while it runs and drawn after its numbers have been saved.

first_images = FirstImages(options)
evaluate(model, batches, [first_images], options=options)
for image_id, picture in first_images.pictures():
    …
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval.evaluation.batch import EvaluationBatch, num_rows, of_image, rows_of, with_rles
from od_eval.evaluation.options import EvaluationOptions
from od_eval.figures.pictures import pictures_of


class FirstImages:
    """A `BatchEvaluator` that only collects images and returns no section.

    It keeps only what is drawn: of each image the detections that are shown, and masks as RLEs.

    Args:
      options: of the evaluation: how pictures are drawn, and how many there are.
      number: the number of images to keep, from batches that have pixels; by default `options.num_pictures`.
    """

    def __init__(self, options: EvaluationOptions, number: int | None = None):
        self._options = options
        self._number = options.num_pictures if number is None else number
        self._images: list[EvaluationBatch] = []  # of one image each
        self._error: Exception | None = None

    def update(self, batch: EvaluationBatch) -> None:
        if self._error is not None:
            return
        try:
            for index in range(min(self._number - len(self._images), len(batch.images))):
                self._images.append(_drawn_part(batch, index, self._options))
        except Exception as error:  # an evaluation does not fail for its pictures; `pictures` raises it
            self._error = error

    def merge(self, other: FirstImages) -> None:
        self._error = self._error or other._error
        for image in other._images:
            self.update(image)

    def evaluate(self) -> dict[str, Any]:
        return {}

    def pictures(self) -> Iterator[tuple[int | str, npt.NDArray[Any]]]:
        """Draws the images one by one; yields and raises as `pictures_of` does.

        Raises:
          Exception: whatever was wrong with a batch.
        """
        if self._error is not None:
            raise self._error
        for image in self._images:
            yield from pictures_of(image, self._options)


def _drawn_part(batch: EvaluationBatch, index: int, options: EvaluationOptions) -> EvaluationBatch:
    """One image of a batch, as a batch, with no more than what is drawn of it."""
    height, width = (int(side) for side in np.asarray(batch.image_sizes)[index])
    detections, keypoints, groundtruth = batch.detections, batch.keypoints, batch.groundtruth
    if detections is not None:
        scores = np.asarray(detections.scores[index], np.float64)[: num_rows(detections)[index]]
        best_first = np.argsort(-scores, kind="stable")
        # If none is shown, the best one: the heading says its score.
        num_shown = max(np.count_nonzero(scores >= options.min_score), 1)
        rows = best_first[: min(num_shown, options.max_boxes)]
        detections = with_rles(rows_of(of_image(detections, index), [rows]), [(height, width)])
        keypoints = None if keypoints is None else [np.asarray(keypoints[index])[rows]]
    if groundtruth is not None:
        rows = np.arange(num_rows(groundtruth)[index])
        groundtruth = with_rles(rows_of(of_image(groundtruth, index), [rows]), [(height, width)])
    return EvaluationBatch(
        image_ids=[batch.image_ids[index]],
        image_sizes=[[height, width]],
        detections=detections,
        groundtruth=groundtruth,
        images=[batch.images[index]],
        keypoints=keypoints,
    )
