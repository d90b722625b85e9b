"""The COCO protocol on arrays: matches objects and detections, and computes the twelve metrics.

The matching is done by a backend: `hotcoco`, or `pycocotools`, the reference implementation, which is about a hundred
times slower. Both return the same arrays of precision and recall, from which one function computes the metrics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from typing import Any, Literal

import hotcoco
import numpy as np
import numpy.typing as npt

from od_eval.evaluation.objects import Objects
from od_eval.evaluation.sections.coco import COCO_METRICS, Metrics

BACKENDS = ("hotcoco", "pycocotools")

# Indices in the arrays: of the IoU thresholds 0.50, 0.55, …, 0.95; of the area ranges; of the maximum numbers of
# detections per image (1, 10, 100).
_IOU_50, _IOU_75 = 0, 5
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_MAX_1, _MAX_10, _MAX_100 = range(3)


def precision_and_recall(
    iou_type: Literal["bbox", "segm"],
    sizes: Sequence[tuple[int, int]],
    num_categories: int,
    groundtruth: Objects,
    detections: Objects,
    backend: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Matches detections with ground truth.

    Args:
      iou_type: whether boxes or masks are matched.
      sizes: height and width of each image.
      num_categories: the number of categories.
      groundtruth, detections: of all images.
      backend: one of `BACKENDS`.

    Returns:
      COCO's precision `[iou, recall, category, area, max detections]` and recall `[iou, category, area, max
      detections]`; -1 if there is no ground truth.
    """
    # Only images that have objects or detections: there may be few if these are only some of the categories.
    used, rows = np.unique(np.concatenate((groundtruth.image, detections.image)), return_inverse=True)
    groundtruth = dataclasses.replace(groundtruth, image=rows[: len(groundtruth.image)])
    detections = dataclasses.replace(detections, image=rows[len(groundtruth.image) :])
    images = [
        {"id": row, "height": sizes[index][0], "width": sizes[index][1]} for row, index in enumerate(used.tolist(), 1)
    ]
    categories = [{"id": row, "name": str(row)} for row in range(1, num_categories + 1)]
    evaluate = _evaluate_hotcoco if backend == "hotcoco" else _evaluate_pycocotools
    arrays = evaluate(iou_type, images, categories, groundtruth, detections)
    return arrays["precision"], arrays["recall"]


def coco_metrics(precision: npt.NDArray[np.float64], recall: npt.NDArray[np.float64]) -> Metrics:
    """The twelve metrics, as pycocotools' `summarize` computes them.

    Args:
      precision, recall: as returned by `precision_and_recall`, for all categories or some.

    Returns:
      The metrics by the names in `COCO_METRICS`; None if there is no ground truth.
    """
    arrays = (
        precision[..., _ALL, _MAX_100],
        precision[_IOU_50, ..., _ALL, _MAX_100],
        precision[_IOU_75, ..., _ALL, _MAX_100],
        precision[..., _SMALL, _MAX_100],
        precision[..., _MEDIUM, _MAX_100],
        precision[..., _LARGE, _MAX_100],
        recall[..., _ALL, _MAX_1],
        recall[..., _ALL, _MAX_10],
        recall[..., _ALL, _MAX_100],
        recall[..., _SMALL, _MAX_100],
        recall[..., _MEDIUM, _MAX_100],
        recall[..., _LARGE, _MAX_100],
    )
    return {
        name: float(np.mean(defined)) if (defined := array[array > -1]).size else None
        for name, array in zip(COCO_METRICS, arrays, strict=True)
    }


def _evaluate_hotcoco(
    iou_type: Literal["bbox", "segm"],
    images: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    groundtruth: Objects,
    detections: Objects,
) -> dict[str, Any]:
    coco_groundtruth = hotcoco.COCO.from_arrays(
        images,
        categories,
        groundtruth.image + 1,
        groundtruth.category + 1,
        groundtruth.box,
        area=groundtruth.area,
        iscrowd=groundtruth.crowd,
        segmentation=groundtruth.masks,
    )
    columns: list[Any] = [detections.image + 1, detections.box, detections.score, detections.category + 1]
    rows = np.column_stack(columns)
    coco_detections = coco_groundtruth.load_res(rows, segmentation=detections.masks)
    if not np.array_equal(detections.area, detections.box[:, 2] * detections.box[:, 3]):
        coco_detections.update_anns(ids=np.arange(1, len(rows) + 1), area=detections.area)
    evaluation = hotcoco.COCOeval(coco_groundtruth, coco_detections, iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval is not None
    return evaluation.eval


def _evaluate_pycocotools(
    iou_type: Literal["bbox", "segm"],
    images: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    groundtruth: Objects,
    detections: Objects,
) -> dict[str, Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def dataset(objects: Objects) -> COCO:
        columns: dict[str, Sequence[Any]] = {
            "id": range(1, len(objects.image) + 1),
            "image_id": (objects.image + 1).tolist(),
            "category_id": (objects.category + 1).tolist(),
            "bbox": objects.box.tolist(),
            "area": objects.area.tolist(),
        }
        if objects.score is not None:
            columns["score"] = objects.score.tolist()
        columns["iscrowd"] = [0] * len(objects.image) if objects.crowd is None else objects.crowd.astype(int).tolist()
        if objects.masks is not None:
            columns["segmentation"] = objects.masks
        coco = COCO()
        annotations = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(dataset(groundtruth), dataset(detections), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
    arrays: dict[str, Any] = evaluation.eval
    return arrays
