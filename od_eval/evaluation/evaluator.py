"""Computes the COCO metrics from batches of detections and ground truth.

    evaluator = Evaluator({1: "cat", 2: "dog"})
    evaluator.update(
        EvaluationBatch(
            image_ids=["a.jpg"],
            image_sizes=[[480, 640]],
            detections=Detections(boxes=[[[10, 20, 110, 220]]], scores=[[0.9]], classes=[[1]]),
            groundtruth=GroundTruth(boxes=[[[12, 20, 110, 210]]], classes=[[1]]),
        )
    )
    evaluator.evaluate().bbox["AP"]

The numbers are the same as pycocotools'. For each detection, only a few numbers and the run-length encoding of its mask
are kept: memory grows with the number of detections, not with the pixels of the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation import coco_json
from od_eval.evaluation import masks as coco_masks
from od_eval.evaluation.analysis import Analysis, ExtraMetrics, analyse
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.coco_metrics import BACKENDS, coco_metrics, precision_and_recall
from od_eval.evaluation.columns import Columns, ImageId, RowFormat, Size, image_id, read_detections, read_groundtruth
from od_eval.evaluation.object_table import IouType, ObjectTable, object_table
from od_eval.evaluation.objects import Objects
from od_eval.evaluation.options import BOX_FORMATS, AnalysisOptions, check_categories
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.categories import over_categories
from od_eval.evaluation.sections.coco import Metrics

# Categories are independent of each other. Evaluating all at once, 5 million detections take 2.7 GB instead of 0.95.
ROWS_AT_A_TIME = 500_000


class Evaluator:
    """Takes batches of detections and ground truth and computes the COCO metrics over all of them.

    COCO counts the 100 detections with the highest scores per class and image. All detections are kept, for the files.

    A detection with a negative width or height, which an odd or diverged model may produce, counts as in pycocotools:
    it matches nothing. If one of the two is negative, so is its area; it then belongs to no evaluated size range and
    does not lower precision. If both are negative, it is a false positive.

    The order of images does not matter. COCO ranks detections of equal score by image, and here images are sorted by
    id: ints by value, then strings by code point, as in pycocotools.
    """

    def __init__(
        self,
        categories: Mapping[int, str],
        *,
        box_format: str = "yxyx",
        masks: bool = False,
        super_categories: Mapping[str, Sequence[str]] | None = None,
        backend: str = "hotcoco",
        analysis: AnalysisOptions | None = AnalysisOptions(),  # noqa: B008 (frozen)
        extra_metrics: ExtraMetrics | None = None,
    ) -> None:
        """
        Args:
          categories: id -> name, of every class.
          box_format: what the four numbers of a box are, one of `od_eval.evaluation.options.BOX_FORMATS`.
          masks: whether to evaluate masks as well as boxes.
          super_categories: name -> names of the categories over which its metrics are averaged.
          backend: `hotcoco`, or `pycocotools`, which takes about a hundred times as long and gives the same numbers.
          analysis: how errors are analysed; None for not at all.
          extra_metrics: metrics of one's own, see `od_eval.evaluation.analysis.analyse`.

        Attributes:
          analysis: the analyses of the last `evaluate`; None before, or if there are none.

        Raises:
          ValueError: the box format or backend is unknown.
          ODEvalError: there are no categories, two have the same name, or a super category has an unknown member.
        """
        if box_format not in BOX_FORMATS:
            raise ValueError(f"box_format is '{box_format}', which is not one of {', '.join(BOX_FORMATS)}.")
        if backend not in BACKENDS:
            raise ValueError(f"backend is '{backend}', which is not one of {', '.join(BACKENDS)}.")
        categories = {int(id): str(categories[id]) for id in sorted(categories)}
        self._format = RowFormat(categories, box_format, masks)
        self._super_categories = {name: tuple(members) for name, members in (super_categories or {}).items()}
        check_categories(categories, self._super_categories)
        self._backend = backend
        self._analysis_options = analysis
        self._extra_metrics = extra_metrics
        self.analysis: Analysis | None = None
        # Rows refer to images by their index in `_sizes`.
        self._sizes: dict[ImageId, Size] = {}
        self._groundtruth: list[Columns] = []
        self._detections: list[Columns] = []

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch of images; if it raises, nothing is added.

        Args:
          batch: ids, sizes, detections and ground truth are used. A batch without detections (None, not an empty list)
            is skipped.

        Raises:
          ODEvalError: the batch is invalid; the message names the image and the row.
        """
        if batch.detections is None:
            return
        if batch.groundtruth is None:
            raise ODEvalError("a batch has detections and no ground truth; give both or neither.")
        images = self._images(batch)
        if images:
            groundtruth = read_groundtruth(batch.groundtruth, images, self._format)
            detections = read_detections(batch.detections, images, self._format)
            self._add(images, [groundtruth], [detections])

    def merge(self, other: Evaluator) -> None:
        """Adds the images of another evaluator, as if they had been given to this one; the other is not changed.

        Raises:
          ODEvalError: the two differ in categories, box format or in whether they have masks, or share an image.
        """
        for name in ("categories", "box_format", "masks"):
            own_value, other_value = getattr(self._format, name), getattr(other._format, name)
            if own_value != other_value:
                raise ODEvalError(
                    f"evaluators of different {name} cannot be merged: {own_value} and {other_value}; create both"
                    " with the same."
                )
        self._check_new(other._sizes)
        self._add(other._sizes, other._groundtruth, other._detections)

    def evaluate(
        self,
        *,
        losses: Mapping[str, float] | None = None,
        other: Mapping[str, float] | None = None,
        step: int | None = None,
        checkpoint: str | None = None,
    ) -> EvaluationResult:
        """The metrics of all images so far. More images may be added afterwards.

        Args:
          losses, other, step, checkpoint: further contents of the result, see `EvaluationResult`.

        Raises:
          ODEvalError: there are no images.
        """
        groundtruth, detections = self._columns(self._groundtruth), self._columns(self._detections)
        num_groundtruth = self._per_category(groundtruth["category"][~groundtruth["crowd"]])
        num_detections = self._per_category(detections["category"])
        bbox, category_bbox = self._coco_metrics("bbox", groundtruth, detections)
        segm, category_segm = (
            self._coco_metrics("segm", groundtruth, detections) if self._format.masks else (None, None)
        )
        per_category: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(self._format.categories.values()):
            per_category[name] = {
                **category_bbox[index],
                "num_groundtruth": num_groundtruth[index],
                "num_detections": num_detections[index],
            }
            if category_segm is not None:
                per_category[name]["segm"] = category_segm[index]
        if self._analysis_options is not None:
            self.analysis = analyse(self.object_tables, self._analysis_options, self._extra_metrics)
        further = {"losses": losses or {}, "other": other or {}, "step": step, "checkpoint": checkpoint}
        return self._result(len(self._sizes), bbox, segm, per_category, further)

    def _result(
        self,
        num_images: int,
        bbox: Metrics,
        segm: Metrics | None,
        per_category: dict[str, dict[str, Any]],
        further: Mapping[str, Any],
    ) -> EvaluationResult:
        """These metrics with those of super categories, what was analysed, and `further` contents."""
        return EvaluationResult(
            num_images=num_images,
            bbox=bbox,
            segm=segm,
            per_category=per_category,
            per_super_category={
                name: over_categories([per_category[member] for member in members])
                for name, members in self._super_categories.items()
            },
            **further,
            **(self.analysis.sections if self.analysis else {}),
        )

    def object_tables(self) -> dict[IouType, ObjectTable]:
        """The object table of boxes, `bbox`, and if masks are evaluated that of masks, `segm`, of all images so far.

        Raises:
          ODEvalError: there are no images.
        """
        groundtruth, detections = self._columns(self._groundtruth), self._columns(self._detections)
        images = self._ordered_images()
        sizes = list(images.values())
        iou_types: tuple[IouType, ...] = ("bbox", "segm") if self._format.masks else ("bbox",)
        return {
            iou_type: object_table(
                iou_type,
                self._format.categories,
                images,
                _objects(iou_type, groundtruth, sizes),
                _objects(iou_type, detections, sizes),
            )
            for iou_type in iou_types
        }

    def groundtruth_json(self) -> dict[str, Any]:
        """The ground truth in COCO format, for `json.dump`; see `coco_json.groundtruth_json`.

        Raises:
          ODEvalError: there are no images.
        """
        return coco_json.groundtruth_json(
            self._ordered_images(), self._format.categories, self._columns(self._groundtruth)
        )

    def detections_json(self) -> list[dict[str, Any]]:
        """The detections in COCO's results format, for `json.dump`; see `coco_json.detections_json`.

        Raises:
          ODEvalError: there are no images.
        """
        return coco_json.detections_json(
            self._ordered_images(), self._format.categories, self._columns(self._detections)
        )

    def _images(self, batch: EvaluationBatch) -> dict[ImageId, Size]:
        """Id -> height and width of the images of a batch."""
        ids = [image_id(id) for id in batch.image_ids]
        if not ids:
            return {}
        sizes = np.asarray(batch.image_sizes)
        if sizes.shape != (len(ids), 2):
            raise ODEvalError(
                f"image_sizes of a batch of {len(ids)} images (the first is {ids[0]!r}) must be of shape"
                f" [{len(ids)}, 2], not {list(sizes.shape)}."
            )
        min_side = 1 if self._format.masks or self._format.box_format.startswith("rel_") else 0
        wrong = np.flatnonzero(~(np.isfinite(sizes) & (sizes >= min_side)).all(axis=1))
        if wrong.size:
            id, size = ids[wrong[0]], sizes[wrong[0]].tolist()
            raise ODEvalError(f"image {id!r} has height and width {size}; give its size in pixels.")
        images = dict(zip(ids, map(tuple, sizes.astype(int).tolist()), strict=True))
        if len(images) < len(ids):
            repeated = next(id for index, id in enumerate(ids) if id in ids[:index])
            raise ODEvalError(f"image {repeated!r} appears twice in a batch; give every image an id of its own.")
        self._check_new(images)
        return images

    def _check_new(self, ids: Iterable[ImageId]) -> None:
        for id in ids:
            if id in self._sizes:
                raise ODEvalError(
                    f"image {id!r} has already been evaluated; give every image an id of its own, and see whether the"
                    " evaluation set contains an image twice or repeats."
                )

    def _add(self, images: Mapping[ImageId, Size], groundtruth: list[Columns], detections: list[Columns]) -> None:
        first = len(self._sizes)
        self._groundtruth += [{**columns, "image": columns["image"] + first} for columns in groundtruth]
        self._detections += [{**columns, "image": columns["image"] + first} for columns in detections]
        self._sizes.update(images)

    def _ordered_images(self) -> dict[ImageId, Size]:
        """Id -> size, in COCO's ranking order."""
        return dict(sorted(self._sizes.items(), key=lambda image: (isinstance(image[0], str), image[0])))

    def _columns(self, chunks: list[Columns]) -> Columns:
        """The rows of all batches in the order of `_ordered_images`; `image` is the index in this order."""
        if not self._sizes:
            raise ODEvalError("there are no images to evaluate; see whether the evaluation set is empty.")
        columns = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        order = {id: index for index, id in enumerate(self._ordered_images())}
        columns["image"] = np.array([order[id] for id in self._sizes])[columns["image"]]
        rows = np.argsort(columns["image"], kind="stable")
        return {name: column[rows] for name, column in columns.items()}

    def _coco_metrics(
        self, iou_type: IouType, groundtruth: Columns, detections: Columns
    ) -> tuple[Metrics, list[Metrics]]:
        """The twelve metrics over all categories, and of each category."""
        sizes = list(self._ordered_images().values())
        parts = [
            precision_and_recall(
                iou_type,
                sizes,
                len(part),
                _objects(iou_type, rows_of_categories(groundtruth, part), sizes),
                _objects(iou_type, rows_of_categories(detections, part), sizes),
                self._backend,
            )
            for part in self._parts(detections)
        ]
        return self._metrics(*(np.concatenate(arrays, axis=-3) for arrays in zip(*parts, strict=True)))

    def _metrics(
        self, precision: npt.NDArray[np.float64], recall: npt.NDArray[np.float64]
    ) -> tuple[Metrics, list[Metrics]]:
        """The twelve metrics over all categories, and of each, from the arrays of `precision_and_recall`."""
        of_categories = [
            coco_metrics(precision[:, :, index : index + 1], recall[:, index : index + 1])
            for index in range(len(self._format.categories))
        ]
        return coco_metrics(precision, recall), of_categories

    def _parts(self, detections: Columns) -> Iterator[range]:
        """Splits the categories into ranges of at most `ROWS_AT_A_TIME` detections, with at least one category each."""
        first, num_rows = 0, 0
        for index, num in enumerate(self._per_category(detections["category"])):
            if index > first and num_rows + num > ROWS_AT_A_TIME:
                yield range(first, index)
                first, num_rows = index, 0
            num_rows += num
        yield range(first, len(self._format.categories))

    def _per_category(self, categories: npt.NDArray[Any]) -> list[int]:
        """The number of rows of each category."""
        return np.bincount(categories, minlength=len(self._format.categories)).tolist()


def rows_of_categories(columns: Columns, categories: range) -> Columns:
    """The rows of some categories; `category` is the index in this range."""
    category = columns["category"]
    rows = np.flatnonzero((category >= categories.start) & (category < categories.stop))
    columns = {name: column[rows] for name, column in columns.items()}
    columns["category"] -= categories.start
    return columns


def _objects(iou_type: IouType, columns: Columns, sizes: Sequence[Size]) -> Objects:
    image, box = columns["image"], columns["box"].astype(np.float64)
    masks = mask_area = None
    if iou_type == "segm":
        masks = list(map(coco_masks.as_rle, columns["mask"], [sizes[index] for index in image]))
        mask_area = coco_masks.areas(masks)
    default_area = box[:, 2] * box[:, 3] if mask_area is None else mask_area
    return Objects(
        image=image,
        category=columns["category"].astype(np.int64),
        box=box,
        area=np.where(np.isnan(columns["area"]), default_area, columns["area"]),
        score=columns["score"].astype(np.float64) if "score" in columns else None,
        crowd=columns.get("crowd"),
        difficult=columns.get("difficult"),
        masks=masks,
        mask_area=mask_area,
    )
