"""Restricts a model's batches to what an evaluation needs: fewer categories, no masks."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import numpy as np

from od_eval.evaluation.batch import EvaluationBatch, column_rows, num_rows, rows_of
from od_eval.evaluation.options import EvaluationOptions


def restricted(
    batches: Iterable[EvaluationBatch], asked: EvaluationOptions, own: EvaluationOptions, name: str
) -> Generator[EvaluationBatch, None, None]:
    """Removes from a model's batches what is in its own options but not in those of the evaluation.

    A class that is in neither is left to the evaluators, which reject it. The removed objects are counted and reported
    in a warning after the last batch.

    Args:
      batches: the model's batches.
      asked: the options of the evaluation.
      own: the options of the model.
      name: the name of the data, for the warning.
    """
    left_out = sorted(own.categories.keys() - asked.categories.keys())
    num_objects: Counter[int] = Counter()
    for batch in batches:
        has_masks = batch.detections is not None and batch.detections.masks is not None
        drops_masks = has_masks and not asked.masks
        yield _without(batch, left_out, drops_masks, num_objects) if left_out or drops_masks else batch
    if num_objects:
        names = ", ".join(f"'{own.categories[id]}' ({num})" for id, num in sorted(num_objects.items()))
        warnings.warn(
            f"{name}: {sum(num_objects.values())} ground truth objects of categories that are not in the"
            f" evaluation's options, and all detections of these categories, are left out: {names}.",
            stacklevel=3,
        )


def _without(batch: EvaluationBatch, classes: Sequence[int], masks: bool, num_objects: Counter[int]) -> EvaluationBatch:
    """A batch without the objects of some classes, which are counted, and without masks."""
    keypoints, groundtruth = batch.keypoints, batch.groundtruth
    detections, kept = _without_classes(batch.detections, classes)
    if kept is not None:
        keypoints = column_rows(keypoints, kept)
    if groundtruth is not None:
        for values, num in zip(groundtruth.classes, num_rows(groundtruth), strict=True):
            num_objects.update(int(id) for id in np.asarray(values)[:num] if id in classes)
        groundtruth, _ = _without_classes(groundtruth, classes)
    for objects in (detections, groundtruth) if masks else ():
        if objects is not None:
            objects.masks = None
    return dataclasses.replace(batch, detections=detections, groundtruth=groundtruth, keypoints=keypoints)


def _without_classes(objects: Any, classes: Sequence[int]) -> tuple[Any, list[Any] | None]:
    """A copy of the objects without those of some classes, and the rows that were kept."""
    if objects is None or not classes:
        return objects if objects is None else dataclasses.replace(objects), None
    kept = [
        np.flatnonzero(~np.isin(np.asarray(values)[:num], classes))
        for values, num in zip(objects.classes, num_rows(objects), strict=True)
    ]
    return rows_of(objects, kept), kept
