"""A run with evaluations of semantic segmentation, in which names and ids are hostile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from od_eval.evaluation.segmentation.batch import SegmentationBatch
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
from od_eval.evaluation.segmentation.options import SegmentationOptions
from od_eval.runs.evaluation_run import write_evaluation, write_segmentation
from od_eval.runs.image_archive import ImageArchive
from od_eval.runs.segmentation_files import LabelArchive

STEPS = (100, 200)
HEIGHT, WIDTH = 48, 64
IGNORE_LABEL = 255
# Of the last one there is no pixel.
CATEGORIES = {
    0: "background",
    2: "<img src=x onerror=alert(1)>",
    3: "</script><script>alert(2)</script><!--",
    7: "\u202ecat\x1b[2J\u2066",
    9: "=never there",
}
IMAGES = ["../../../etc/passwd", "</title><b>.jpg", "\u202egpj.exe\n", "%2e%2e/x?y=1#z", "plain.jpg", "7", "8"]
# Of the last one, the run keeps no picture.
NUM_PICTURES = 6


def write_segmentation_run(run_dir: Path, steps: tuple[int, ...] = STEPS) -> dict[int, SegmentationEvaluator]:
    """Writes the files of evaluations, and returns their evaluators by step; the later, the better."""
    options = SegmentationOptions(CATEGORIES, IGNORE_LABEL)
    evaluators = {}
    for step in steps:
        batch = made_batch(share_right=1 - 40 / step)
        archive, labels = ImageArchive(str(run_dir), most=NUM_PICTURES), LabelArchive(CATEGORIES)
        archive.update(batch)
        for id, truth, scores in zip(batch.image_ids, batch.labels, batch.scores, strict=True):
            labels.add(id, (HEIGHT, WIDTH), truth, scores.argmax(-1))
        evaluators[step] = SegmentationEvaluator(CATEGORIES, IGNORE_LABEL)
        evaluators[step].update(labels=batch.labels, scores=batch.scores, image_ids=batch.image_ids)
        write_segmentation("eval", str(run_dir), step, evaluators[step], options, [], archive, labels)
        write_evaluation(str(run_dir), evaluators[step].evaluate(step=step), options)
    return evaluators


def made_batch(share_right: float) -> SegmentationBatch:
    """Rectangles of each class but the last on a background, with a border that is ignored.

    Args:
      share_right: which part of the pixels is predicted right, at least; the others are in one corner of each image.
    """
    random = np.random.default_rng(0)
    ids = np.array([*CATEGORIES])
    truth = np.zeros((len(IMAGES), HEIGHT, WIDTH), np.int64)  # indices of classes
    for image in truth:
        for index in range(1, len(ids) - 1):
            top, left = random.integers(2, HEIGHT - 16), random.integers(2, WIDTH - 20)
            image[top : top + 14, left : left + 18] = index
    predicted = truth.copy()
    for number, image in enumerate(predicted):
        height = round(HEIGHT * (1 - share_right) * (1 + number) / len(IMAGES))
        image[:height] = (image[:height] + 1) % (len(ids) - 1)
    labels = ids[truth]
    labels[:, :, :2] = IGNORE_LABEL
    return SegmentationBatch(IMAGES, labels, _scores(predicted, len(ids)), images=_pictures(truth))


def _scores(predicted: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.float32]:
    others = 0.4 / (num_classes - 1)
    return np.where(predicted[..., np.newaxis] == np.arange(num_classes), 0.6, others).astype(np.float32)


def _pictures(truth: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    shade = np.linspace(60, 160, WIDTH)[:, np.newaxis]
    return (shade + 20 * truth[..., np.newaxis] + np.arange(3)).astype(np.uint8)
