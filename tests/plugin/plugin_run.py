"""A run with evaluations, tables of objects and pictures, in which names and ids are hostile."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import AnalysisOptions, EvaluationOptions
from od_eval.runs.evaluation_run import write_analysis, write_evaluation
from od_eval.runs.image_archive import ImageArchive

STEPS = (100, 200)
SIZE = 64
CATEGORIES = {
    1: "<img src=x onerror=alert(1)>",
    3: "</script><script>alert(2)</script><!--",
    7: "\u202ecat\x1b[2J\u2066",
    8: "a \"quoted\" & 'named' category",
}
IMAGES = ["../../../etc/passwd", "</title><b>.jpg", "\u202egpj.exe\n", "%2e%2e/x?y=1#z", "", "plain.jpg", "7", "8"]
# Of the last ones, the run keeps no picture.
NUM_PICTURES = 6


def write_run(run_dir: Path, masks: bool = False) -> None:
    """Writes the files of evaluations of `STEPS`."""
    options = EvaluationOptions(CATEGORIES, masks=masks)
    archive = ImageArchive(str(run_dir))
    for index, id in enumerate(IMAGES[:NUM_PICTURES]):
        archive.add(id, np.full((SIZE, SIZE, 3), 20 * index, np.uint8))
    for step in STEPS:
        evaluator = Evaluator(CATEGORIES, masks=masks, analysis=AnalysisOptions())
        evaluator.update(batch(step, masks))
        result = evaluator.evaluate(step=step)
        assert evaluator.analysis is not None
        write_analysis("eval", str(run_dir), step, evaluator.analysis, [], archive)
        write_evaluation(str(run_dir), result, options)


def batch(seed: int, masks: bool) -> EvaluationBatch:
    """Objects, and detections of which some are right, some of another class, some of nothing."""
    random = np.random.default_rng(seed)
    num_images, num_objects, num_detections = len(IMAGES), 4, 9
    corners = random.integers(0, SIZE // 2, (num_images, num_objects, 2))
    boxes = np.concatenate((corners, corners + random.integers(8, SIZE // 2, corners.shape)), -1).astype(float)
    found = random.integers(0, num_objects, (num_images, num_detections))
    detected = np.take_along_axis(boxes, found[..., np.newaxis], 1) + random.normal(
        0, 2, (num_images, num_detections, 4)
    )
    detected = np.concatenate((np.minimum(detected[..., :2], detected[..., 2:]), detected[..., 2:]), -1).clip(0, SIZE)
    classes = np.array([*CATEGORIES])[random.integers(0, len(CATEGORIES), (num_images, num_objects))]
    guessed = np.where(
        random.random(found.shape) < 0.7,
        np.take_along_axis(classes, found, 1),
        random.choice([*CATEGORIES], found.shape),
    )
    return EvaluationBatch(
        image_ids=IMAGES,
        image_sizes=[[SIZE, SIZE]] * num_images,
        detections=Detections(detected, random.random(found.shape), guessed, masks=_masks(detected) if masks else None),
        groundtruth=GroundTruth(
            boxes,
            classes,
            masks=_masks(boxes) if masks else None,
            is_crowd=random.random(classes.shape) < 0.1,
            difficult=random.random(classes.shape) < 0.1,
        ),
    )


def _masks(boxes: np.ndarray) -> np.ndarray:
    """The boxes, filled."""
    at = np.arange(SIZE)
    (ymin, xmin, ymax, xmax) = np.moveaxis(boxes[..., np.newaxis], -2, 0)
    rows, columns = ((low <= at) & (at < high) for low, high in ((ymin, ymax), (xmin, xmax)))
    return (rows[..., np.newaxis] & columns[..., np.newaxis, :]).astype(np.uint8)
