"""Computes the COCO metrics of detections batch by batch, without keeping these, and analyses some of their images."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from typing import Any

import hotcoco
import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation.analysis import analyse
from od_eval.evaluation.batch import EvaluationBatch, of_images
from od_eval.evaluation.columns import Columns, ImageId, Size, image_id, read_detections, read_groundtruth
from od_eval.evaluation.evaluator import Evaluator, rows_of_categories
from od_eval.evaluation.loop import coco_evaluator
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult

# Detections. Of 10 million, with so many analysed, an evaluation takes 2.9 GB (benchmarks/detection_files.py).
MOST_ANALYSED = 2_000_000
# Categories are independent of each other. hotcoco copies the matches before it counts them, so this is done with those
# of a part of the categories at a time: of 100 million detections, the copies of all take 5 GB.
_GROUPS = 8


def analysed_share(num_detections: int) -> float:
    """The share of the images to analyse, so that these have about `MOST_ANALYSED` detections at most.

    It is 1, 1/2, 1/4, …: evaluations of nearly as many detections analyse the same images.
    """
    return 2.0 ** -max(math.ceil(math.log2(max(num_detections, 1) / MOST_ANALYSED)), 0)


def evaluator_for(
    options: EvaluationOptions,
    images: Mapping[ImageId, tuple[int, int]],
    num_detections: int,
    backend: str = "hotcoco",
) -> Evaluator:
    """A `StreamedEvaluator`, if there are more detections of boxes than are analysed, or else an `Evaluator`.

    Args:
      options: what to evaluate.
      images: as for `StreamedEvaluator`.
      num_detections: of all images.
      backend: as for `Evaluator`; with another than hotcoco, none are too many.
    """
    if num_detections > MOST_ANALYSED and not options.masks and backend == "hotcoco":
        return StreamedEvaluator(options, images, analysed_share(num_detections))
    return coco_evaluator(options, backend=backend)


def analysed_part(batch: EvaluationBatch, share: float) -> EvaluationBatch | None:
    """The images of a batch that are analysed, chosen by a hash of their ids; None if there are none."""
    if share >= 1:
        return batch
    chosen = [index for index, id in enumerate(batch.image_ids) if _hash(image_id(id)) < share]
    return of_images(batch, chosen) if chosen else None


class StreamedEvaluator(Evaluator):
    """An `Evaluator` of boxes that matches each batch at once and keeps the matches, not the detections.

    The COCO metrics are those of an `Evaluator`, over all images. The analyses, which need every detection, are made of
    some images, which a hash of their ids chooses: the same in every evaluation of about as many detections.
    """

    def __init__(
        self, options: EvaluationOptions, images: Mapping[ImageId, tuple[int, int]], analysed_share: float
    ) -> None:
        """
        Args:
          options: what to evaluate; boxes only.
          images: id -> height and width of all images, of which batches have some.
          analysed_share: the share of the images that is analysed, see `analysed_share`.

        Attributes:
          num_analysed: the number of images that are analysed, so far.
        """
        if options.masks:
            raise ValueError("options.masks is True; a StreamedEvaluator evaluates boxes only.")
        super().__init__(
            options.categories,
            box_format=options.box_format,
            super_categories=options.super_categories,
            analysis=options.analysis,
        )
        self._share = analysed_share
        ordered = sorted(images, key=lambda id: (isinstance(id, str), id))
        self._ranks = {id: rank for rank, id in enumerate(ordered, 1)}  # by which COCO ranks equal scores
        num_categories = len(self._format.categories)
        num_groups = min(_GROUPS, num_categories)
        bounds = [num_categories * group // num_groups for group in range(num_groups + 1)]
        self._groups = [(range(first, end), _streaming(end - first)) for first, end in itertools.pairwise(bounds)]
        self._num_objects = np.zeros(num_categories, int)
        self._num_detections = np.zeros(num_categories, int)
        self._evaluated: set[ImageId] = set()

    @property
    def num_analysed(self) -> int:
        return len(self._sizes)

    def update(self, batch: EvaluationBatch) -> None:
        """As in `Evaluator`; areas of detections are those of their boxes."""
        if batch.detections is None or batch.groundtruth is None:
            super().update(batch)
            return
        images = self._images(batch)
        if not images:
            return
        if again := self._evaluated.intersection(images):
            raise ODEvalError(f"image {min(again, key=str)!r} has already been evaluated; it stands in two batches.")
        groundtruth = read_groundtruth(batch.groundtruth, images, self._format)
        detections = read_detections(batch.detections, images, self._format)
        self._match(images, groundtruth, detections)
        self._evaluated.update(images)
        num_categories = len(self._format.categories)
        self._num_objects += np.bincount(groundtruth["category"][~groundtruth["crowd"]], minlength=num_categories)
        self._num_detections += np.bincount(detections["category"], minlength=num_categories)
        part = None if self._analysis_options is None else analysed_part(batch, self._share)
        if part is not None:
            super().update(part)

    def merge(self, other: Evaluator) -> None:
        raise NotImplementedError("a StreamedEvaluator is for one process")

    def evaluate(
        self,
        *,
        losses: Mapping[str, float] | None = None,
        other: Mapping[str, float] | None = None,
        step: int | None = None,
        checkpoint: str | None = None,
    ) -> EvaluationResult:
        """As in `Evaluator`, once: no images can be added afterwards."""
        if not self._groups:
            raise RuntimeError("evaluate() of a StreamedEvaluator was called before; it can be called once.")
        precision, recall = self._precision_and_recall()
        bbox, of_categories = self._metrics(precision, recall)
        per_category: dict[str, dict[str, Any]] = {
            name: {
                **of_categories[index],
                "num_groundtruth": int(self._num_objects[index]),
                "num_detections": int(self._num_detections[index]),
            }
            for index, name in enumerate(self._format.categories.values())
        }
        if self._analysis_options is not None and self._sizes:
            self.analysis = analyse(self.object_tables, self._analysis_options, self._extra_metrics)
        further = {"losses": losses or {}, "other": other or {}, "step": step, "checkpoint": checkpoint}
        return self._result(len(self._evaluated), bbox, None, per_category, further)

    def _match(self, images: Mapping[ImageId, Size], groundtruth: Columns, detections: Columns) -> None:
        """Matches the rows of some images, which keep their order, as it decides between equal scores."""
        ranks = np.array([self._ranks[id] for id in images])
        image_dicts = [
            {"id": rank, "height": height, "width": width}
            for rank, (height, width) in zip(ranks.tolist(), images.values(), strict=True)
        ]
        for part, streaming in self._groups:
            objects, found = rows_of_categories(groundtruth, part), rows_of_categories(detections, part)
            columns: dict[str, Any] = {
                "id": range(1, len(objects["image"]) + 1),
                "image_id": ranks[objects["image"]].tolist(),
                "category_id": (objects["category"] + 1).tolist(),
                "bbox": objects["box"].astype(np.float64).tolist(),
                "area": objects["area"].tolist(),
                "iscrowd": objects["crowd"].astype(int).tolist(),
            }
            box = found["box"].astype(np.float64)
            rows: list[Any] = [ranks[found["image"]], box, found["score"], found["category"] + 1]
            streaming.update(
                image_dicts,
                [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
                np.column_stack(rows),
            )

    def _precision_and_recall(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """As `coco_metrics.precision_and_recall`, of all categories; the matches are gone afterwards."""
        parts = []
        while self._groups:
            evaluation = self._groups.pop(0)[1].finalize()
            evaluation.accumulate()
            assert evaluation.eval is not None
            parts.append((evaluation.eval["precision"], evaluation.eval["recall"]))
        precision, recall = (np.concatenate(arrays, axis=-3) for arrays in zip(*parts, strict=True))
        return precision, recall


def _streaming(num_categories: int) -> hotcoco.StreamingEval:
    return hotcoco.StreamingEval([{"id": id, "name": str(id)} for id in range(1, num_categories + 1)])


def _hash(id: ImageId) -> float:
    """From 0 to 1, and the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(id).encode(), digest_size=8).digest(), "big") / 2**64
