"""Computes the COCO metrics of detections batch by batch, without keeping these, and analyses some of their images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import hotcoco
import numpy as np

from od_eval.errors import ODEvalError
from od_eval.evaluation.analysis import analyse
from od_eval.evaluation.batch import EvaluationBatch, of_images
from od_eval.evaluation.coco_metrics import coco_metrics
from od_eval.evaluation.columns import ImageId, read_detections, read_groundtruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult

# Detections. Of 10 million, with so many analysed, an evaluation takes 3.3 GB (benchmarks/detection_files.py).
MOST_ANALYSED = 2_000_000


class StreamedEvaluator(Evaluator):
    """An `Evaluator` of boxes that matches each batch at once and keeps the matches, not the detections.

    The COCO metrics are those of an `Evaluator`, over all images. The analyses, which need every detection, are made of
    some images, which a hash of their ids chooses: the same in every evaluation.
    """

    def __init__(
        self, options: EvaluationOptions, images: Mapping[ImageId, tuple[int, int]], analysed_share: float
    ) -> None:
        """
        Args:
          options: what to evaluate; boxes only.
          images: id -> height and width of all images, of which batches have some.
          analysed_share: the share of the images that is analysed.

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
        self._options = options
        self._share = analysed_share
        ordered = sorted(images, key=lambda id: (isinstance(id, str), id))
        self._ranks = {id: rank for rank, id in enumerate(ordered, 1)}  # by which COCO ranks equal scores
        self._streaming = hotcoco.StreamingEval(
            [{"id": index, "name": str(index)} for index in range(1, len(self._format.categories) + 1)]
        )
        self._num_objects = np.zeros(len(self._format.categories), int)
        self._num_detections = np.zeros(len(self._format.categories), int)
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
        ranks = np.array([self._ranks[id] for id in images])
        columns: dict[str, Any] = {
            "id": range(1, len(groundtruth["image"]) + 1),
            "image_id": ranks[groundtruth["image"]].tolist(),
            "category_id": (groundtruth["category"] + 1).tolist(),
            "bbox": groundtruth["box"].astype(np.float64).tolist(),
            "area": groundtruth["area"].tolist(),
            "iscrowd": groundtruth["crowd"].astype(int).tolist(),
        }
        box = detections["box"].astype(np.float64)
        rows: list[Any] = [ranks[detections["image"]], box, detections["score"], detections["category"] + 1]
        self._streaming.update(
            [
                {"id": rank, "height": height, "width": width}
                for rank, (height, width) in zip(ranks.tolist(), images.values(), strict=True)
            ],
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
            np.column_stack(rows),
        )
        self._evaluated.update(images)
        num_categories = len(self._format.categories)
        self._num_objects += np.bincount(groundtruth["category"][~groundtruth["crowd"]], minlength=num_categories)
        self._num_detections += np.bincount(detections["category"], minlength=num_categories)
        chosen = [index for index, id in enumerate(images) if _hash(id) < self._share]
        if chosen and self._analysis_options is not None:
            super().update(of_images(batch, chosen))

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
        evaluation = self._streaming.finalize()
        evaluation.accumulate()
        assert evaluation.eval is not None
        precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
        per_category: dict[str, dict[str, Any]] = {
            name: {
                **coco_metrics(precision[:, :, index : index + 1], recall[:, index : index + 1]),
                "num_groundtruth": int(self._num_objects[index]),
                "num_detections": int(self._num_detections[index]),
            }
            for index, name in enumerate(self._format.categories.values())
        }
        if self._analysis_options is not None and self._sizes:
            self.analysis = analyse(self.object_tables, self._analysis_options, self._extra_metrics)
        further = {"losses": losses or {}, "other": other or {}, "step": step, "checkpoint": checkpoint}
        return self._result(len(self._evaluated), coco_metrics(precision, recall), None, per_category, further)


def _hash(id: ImageId) -> float:
    """From 0 to 1, and the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(id).encode(), digest_size=8).digest(), "big") / 2**64
