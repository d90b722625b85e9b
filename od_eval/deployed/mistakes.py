"""Two mistakes in the use of a model that its detections give away: classes one off, input normalised twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from od_eval.deployed.model import DeployedModel, scaled, with_ids
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.findings.finding import Finding, findings_section

# The first images of an evaluation are enough to see them.
_IMAGES_FOR_CLASSES = 500
_IMAGES_FOR_NORMALIZATION = 50
# AP50 of a detector that finds something, and of one that finds nothing.
_FINDS_SOMETHING = 0.1
_FINDS_NOTHING = 0.05
# So much of the better AP50 the others have at most.
_MUCH_LESS = 0.5


class Mistakes:
    """A `BatchEvaluator` that gives the findings `class_off_by_one` and `double_normalisation`.

    Its batches are of one image; `images` has its pixels, at least of the first ones, and `outputs` the model's own
    detections.

    Args:
      model: the model.
      categories: of the objects, id -> name.
      ids: id of the model's label map -> id of these categories.
    """

    def __init__(self, model: DeployedModel, categories: Mapping[int, str], ids: Mapping[int, int]):
        self._model = model
        self._categories = categories
        self._ids = ids
        self._batches: list[EvaluationBatch] = []  # without pixels
        self._images: list[Any] = []  # the pixels of the first

    def update(self, batch: EvaluationBatch) -> None:
        if len(self._batches) == _IMAGES_FOR_CLASSES:
            return
        objects = batch.groundtruth
        if objects is None or not len(objects.classes[0]):
            return
        if len(self._images) < _IMAGES_FOR_NORMALIZATION:
            self._images += batch.images
        found: Detections = batch.outputs
        self._batches.append(
            EvaluationBatch(
                batch.image_ids,
                batch.image_sizes,
                Detections(found.boxes, found.scores, found.classes),
                GroundTruth(objects.boxes, objects.classes, is_crowd=objects.is_crowd, area=objects.area),
            )
        )

    def merge(self, other: Mistakes) -> None:
        self._images += other._images[: _IMAGES_FOR_NORMALIZATION - len(self._images)]
        self._batches += other._batches[: _IMAGES_FOR_CLASSES - len(self._batches)]

    def evaluate(self) -> dict[str, Any]:
        found = [finding for finding in (self._class_off_by_one(), self._double_normalization()) if finding]
        return {"findings": findings_section(found)}

    def _class_off_by_one(self) -> Finding | None:
        ap50 = {shift: self._ap50(self._batches, shift) for shift in (0, 1, -1)}
        best = max(ap50, key=lambda shift: ap50[shift])
        others = max(value for shift, value in ap50.items() if shift != best)
        if best == 0 or ap50[best] < _FINDS_SOMETHING or others > _MUCH_LESS * ap50[best]:
            return None
        return Finding(
            kind="class_off_by_one",
            severity="error",
            where=self._model.path,
            symptom=(
                f"AP50 is {ap50[0]:.3f}, and {ap50[best]:.3f} if {best:+d} is added to each class, on"
                f" {len(self._batches)} images"
            ),
            cause=f"so its classes are taken for ids of the label map that are one too {'low' if best > 0 else 'high'}",
            remedy=f"add {best:+d} to class_offset in model.json, or give the label map that it was trained with",
            evidence={"AP50": ap50[0], "AP50_shifted": ap50[best], "shift": best, "num_images": len(self._batches)},
            sureness="likely",
            impact=ap50[best] - ap50[0],
        )

    def _double_normalization(self) -> Finding | None:
        other = self._model.without_normalization()
        batches = self._batches[: len(self._images)]
        if other is None or not batches:
            return None
        told = self._ap50(batches)
        if told > _FINDS_NOTHING:
            return None
        again = [
            EvaluationBatch(
                batch.image_ids,
                batch.image_sizes,
                scaled(other.detect([image]), image.shape[:2], np.asarray(batch.image_sizes)[0]),
                batch.groundtruth,
            )
            for image, batch in zip(self._images, batches, strict=True)
        ]
        without = self._ap50(again)
        if without < _FINDS_SOMETHING or told > _MUCH_LESS * without:
            return None
        return Finding(
            kind="double_normalisation",
            severity="error",
            where=self._model.path,
            symptom=f"AP50 is {told:.3f}, and {without:.3f} if it is given pixel values, on {len(batches)} images",
            cause="so the model normalises its input itself, and it was normalised before as well",
            remedy="set input.mean and input.std in model.json to null, and give pixel values from 0 to 255",
            evidence={"AP50": told, "AP50_of_pixel_values": without, "num_images": len(batches)},
            sureness="likely",
            impact=without - told,
        )

    def _ap50(self, batches: Sequence[EvaluationBatch], shift: int = 0) -> float:
        """AP50 with `shift` added to the model's classes; 0 if it is not defined."""
        evaluator = Evaluator(self._categories, analysis=None)
        for batch in batches:
            found = with_ids(batch.detections, self._ids, shift)
            evaluator.update(EvaluationBatch(batch.image_ids, batch.image_sizes, found, batch.groundtruth))
        metrics = evaluator.evaluate().bbox
        return float((metrics or {}).get("AP50") or 0.0)
