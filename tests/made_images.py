"""Made-up images with detections and ground truth for tests of evaluation, and what pycocotools makes of them."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.sections.coco import COCO_METRICS

CATEGORIES = {3: "cat", 1: "dog", 18: "bird", 90: "never there"}


def pycocotools_metrics(groundtruth: dict, detections: list, iou_type: str, category: int | None = None) -> dict:
    """The twelve numbers as pycocotools itself computes them from COCO's JSON, through JSON text."""
    return pycocotools_summary(*loaded_by_pycocotools(groundtruth, detections, iou_type), iou_type, category)


def loaded_by_pycocotools(groundtruth: dict, detections: list, iou_type: str) -> tuple[COCO, COCO]:
    """Ground truth and detections as pycocotools loads them from COCO's JSON, through JSON text."""
    groundtruth, detections = json.loads(json.dumps([groundtruth, detections], allow_nan=False))
    if iou_type == "segm":  # or it takes the area of boxes for masks
        for detection in detections:
            del detection["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        coco_groundtruth = COCO()
        coco_groundtruth.dataset = groundtruth
        coco_groundtruth.createIndex()
        return coco_groundtruth, coco_groundtruth.loadRes(detections) if detections else COCO()


def pycocotools_arrays(
    evaluator: Evaluator, iou_type: str, ranges: dict | None = None, protocol: type[COCOeval] = COCOeval, **params: Any
) -> dict[str, np.ndarray]:
    """Precision, recall and scores of pycocotools, with 100 detections an image.

    Args:
      evaluator: whose ground truth and detections are evaluated.
      iou_type: `bbox` or `segm`.
      ranges: name -> lowest and highest area, for arrays `[..., ranges]`; by default of all sizes, without this axis.
      protocol: the class that evaluates.
      **params: to be set, such as `useCats`.
    """
    loaded = loaded_by_pycocotools(evaluator.groundtruth_json(), evaluator.detections_json(), iou_type)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = protocol(*loaded, iou_type)
        if ranges is not None:
            params |= {"areaRng": [list(bounds) for bounds in ranges.values()], "areaRngLbl": list(ranges)}
        for name, value in params.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
    arrays = {name: evaluation.eval[name][..., -1] for name in ("precision", "recall", "scores")}
    return arrays if ranges is not None else {name: array[..., 0] for name, array in arrays.items()}


def pycocotools_summary(
    groundtruth: COCO, detections: COCO, iou_type: str, category: int | None = None
) -> dict[str, float]:
    """The twelve numbers of pycocotools, of all categories or of one, by their names; -1 where not defined."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(groundtruth, detections, iou_type)
        if category is not None:
            evaluation.params.catIds = [category]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(COCO_METRICS, evaluation.stats.tolist(), strict=True))


def assert_same(metrics: dict, reference: dict) -> None:
    got = {name: -1.0 if value is None else value for name, value in metrics.items()}
    assert got == pytest.approx(reference, abs=1e-9, rel=0)


def random_boxes(random: np.random.Generator, n: int, size: int) -> np.ndarray:
    """float32 [n, 4], yxyx, small, medium and large ones."""
    begin = random.uniform(0, size * 0.7, (n, 2))
    extent = size * random.choice([0.05, 0.2, 0.8], (n, 1)) * random.uniform(0.5, 1.2, (n, 2))
    return np.concatenate((begin, np.minimum(begin + extent, size)), axis=1).astype(np.float32)


def mask_of(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """What of the box is inside an ellipse."""
    y, x = np.mgrid[:height, :width] + 0.5
    center, radius = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 0.1)
    return ((y - center[0]) / radius[0]) ** 2 + ((x - center[1]) / radius[1]) ** 2 <= 1


def random_images(seed: int, num: int = 14, size: int = 128, masks: bool = False) -> list[EvaluationBatch]:
    """One batch an image: some without objects, some without detections, some with a crowd and nothing else."""
    random = np.random.default_rng(seed)
    images = []
    for number in range(num):
        height, width = size, size + 16
        num_objects = 0 if number % 7 == 1 else 1 if number % 7 == 4 else random.integers(1, 9)
        boxes = random_boxes(random, num_objects, size)
        classes = random.choice([1, 3, 18], num_objects)
        crowd = random.random(num_objects) < (1.0 if number % 7 == 4 else 0.15)
        found = random_boxes(random, 12, size)
        found_classes = random.choice([*CATEGORIES], 12)
        found[:num_objects] = boxes + random.normal(0, 3, boxes.shape)
        found_classes[:num_objects] = classes
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])
        keep = 0 if number % 7 == 2 else 12
        scores = random.integers(1, 20, 12).astype(np.float32) / 20  # many ties
        images.append(
            EvaluationBatch(
                image_ids=[1000 - 7 * number],
                image_sizes=[[height, width]],
                detections=Detections(
                    [found[:keep]],
                    [scores[:keep]],
                    [found_classes[:keep]],
                    [np.stack([mask_of(box, height, width) for box in found])[:keep]] if masks else None,
                ),
                groundtruth=GroundTruth(
                    [boxes],
                    [classes],
                    [np.array([mask_of(box, height, width) for box in boxes])] if masks else None,
                    is_crowd=[crowd],
                ),
            )
        )
    return images


def evaluated(batches: list[EvaluationBatch], categories=CATEGORIES, **options) -> Evaluator:
    evaluator = Evaluator(categories, **options)
    for batch in batches:
        evaluator.update(batch)
    return evaluator


def one_image(**changes) -> EvaluationBatch:
    """One image "a" with two objects and two detections; `boxes`, … are of detections, `gt_boxes`, … of objects."""
    fields = {
        "boxes": [[[10.0, 10, 50, 50], [60, 60, 90, 90]]],
        "scores": [[0.9, 0.8]],
        "classes": [[1, 3]],
        "gt_boxes": [[[10.0, 10, 50, 50], [60, 60, 90, 90]]],
        "gt_classes": [[1, 3]],
        "image_ids": ["a"],
        "image_sizes": [[100, 120]],
        **changes,
    }
    groundtruth = {name[3:]: fields.pop(name) for name in list(fields) if name.startswith("gt_")}
    images = {name: fields.pop(name) for name in ("image_ids", "image_sizes")}
    return EvaluationBatch(**images, detections=Detections(**fields), groundtruth=GroundTruth(**groundtruth))
