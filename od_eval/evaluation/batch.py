"""Detections and ground truth of a batch of images, in the form an `Evaluator` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from od_eval.evaluation.masks import as_rle, from_array

# One entry per image. Arrays padded to a common number of rows are accepted if `num` is given, and so is anything that
# NumPy can convert to arrays, such as tensors.
PerImage = npt.NDArray[Any] | Sequence[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class RowsByImage(Sequence[npt.NDArray[Any]]):
    """A column of `Detections` or `GroundTruth`: an array for each image, which is made when it is asked for.

    Attributes:
      rows: `[n, …]`, the rows of all images, one image after another.
      bounds: int64 `[images + 1]`: those of image i are from `bounds[i]` on and end before `bounds[i + 1]`.
    """

    rows: npt.NDArray[Any]
    bounds: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        index = range(len(self))[index]
        return self.rows[self.bounds[index] : self.bounds[index + 1]]


@dataclasses.dataclass
class Detections:
    """A model's detections.

    Attributes:
      boxes: float `[batch, n, 4]`, or a sequence of `[n, 4]`, in the box format of the evaluation.
      scores: float `[batch, n]`, or a sequence of `[n]`; any order.
      classes: int `[batch, n]`, or a sequence of `[n]`: category ids.
      masks: for each image `[n, height, width]` of the image's size (nonzero pixels belong to the object; of arrays
        padded to the largest image of the batch, the upper left part counts) or a list of n COCO RLEs.
      area: float `[batch, n]`, or a sequence of `[n]`, in pixels of the image: decides whether an unmatched detection
        counts as small, medium or large. By default, and where it is NaN, the area of the box for boxes and the area of
        the mask for masks, as in the Object Detection API.
      num: int `[batch]`, the number of valid rows in each image; by default all.
    """

    boxes: PerImage
    scores: PerImage
    classes: PerImage
    masks: Sequence[Any] | None = None
    area: PerImage | None = None
    num: PerImage | None = None


@dataclasses.dataclass
class GroundTruth:
    """The ground truth objects.

    Attributes:
      boxes, classes, masks, num: as in `Detections`.
      is_crowd: bool `[batch, n]`, or a sequence of `[n]`: a region of many objects, which any number of detections may
        match. By default False for all.
      difficult: bool, of the same shape. The COCO protocol does not know this flag: these objects count like others in
        its metrics. In the analyses of errors nobody has to find them, and who matches one is neither right nor wrong.
      area: float, of the same shape, in pixels of the image: decides which objects are small, medium and large, for
        boxes and for masks. By default, and where it is NaN, the area of the box.
    """

    boxes: PerImage
    classes: PerImage
    masks: Sequence[Any] | None = None
    is_crowd: PerImage | None = None
    difficult: PerImage | None = None
    area: PerImage | None = None
    num: PerImage | None = None


@dataclasses.dataclass
class EvaluationBatch:
    """A batch of images of an evaluation set: detections, ground truth, and any further outputs of the model.

    Attributes:
      image_ids: one int or str per image, unique within an evaluation.
      image_sizes: int `[batch, 2]`: height and width in pixels, the size that absolute boxes refer to.
      detections: the model's detections.
      groundtruth: the objects in the images; None if they are unknown and the detections are only to be looked at.
      losses: the losses of the batch by name, each averaged over its images.
      images: uint8 `[height, width, 3]` each, of any size, for pictures of detections; may hold only the first images.
      keypoints: for pictures, float `[batch, n, keypoints, 2]` of detections: y and x relative to the image.
      outputs: for the model's own evaluators (`Evaluable.further_evaluator`).
    """

    image_ids: Sequence[int | str]
    image_sizes: npt.ArrayLike
    detections: Detections
    groundtruth: GroundTruth | None
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    images: Sequence[npt.NDArray[Any]] = ()
    keypoints: PerImage | None = None
    outputs: Any = None


Objects = TypeVar("Objects", Detections, GroundTruth)


def rows_of(objects: Objects, rows: Sequence[npt.NDArray[Any]]) -> Objects:
    """The objects of a batch in the given rows of each image (indices below its `num`)."""
    columns = {field.name: getattr(objects, field.name) for field in dataclasses.fields(objects) if field.name != "num"}
    kept: dict[str, Any] = {name: column_rows(column, rows) for name, column in columns.items()}
    return type(objects)(**kept)


def of_image(objects: Objects, index: int) -> Objects:
    """The objects of one image of a batch, as a batch of size 1."""
    columns = {field.name: getattr(objects, field.name) for field in dataclasses.fields(objects)}
    of_one: dict[str, Any] = {name: None if column is None else [column[index]] for name, column in columns.items()}
    return type(objects)(**of_one)


def images_of(objects: Objects, indices: Sequence[int]) -> Objects:
    """The objects of some images of a batch."""
    columns = {field.name: getattr(objects, field.name) for field in dataclasses.fields(objects)}
    kept: dict[str, Any] = {
        name: None if column is None else [column[index] for index in indices] for name, column in columns.items()
    }
    return type(objects)(**kept)


def of_images(batch: EvaluationBatch, indices: Sequence[int]) -> EvaluationBatch:
    """Some images of a batch: their ids, sizes, detections and ground truth."""
    return EvaluationBatch(
        image_ids=[batch.image_ids[index] for index in indices],
        image_sizes=np.asarray(batch.image_sizes)[list(indices)],
        detections=images_of(batch.detections, indices),
        groundtruth=None if batch.groundtruth is None else images_of(batch.groundtruth, indices),
    )


def with_rles(objects: Objects, sizes: npt.ArrayLike) -> Objects:
    """The objects of a batch with masks as COCO RLEs, which take a thousandth of the memory.

    Args:
      objects: the objects.
      sizes: int `[batch, 2]`: height and width of the images; the arrays may be padded to a larger one.
    """
    if objects.masks is None or any(masks is None for masks in objects.masks):
        return dataclasses.replace(objects, masks=None)
    masks = []
    for of_one, (height, width) in zip(objects.masks, np.asarray(sizes).tolist(), strict=True):
        size = (height, width)
        masks.append(
            [
                mask if isinstance(mask, dict) else as_rle(from_array(np.asarray(mask)[:height, :width]), size)
                for mask in of_one
            ]
        )
    return dataclasses.replace(objects, masks=masks)


def num_rows(objects: Detections | GroundTruth) -> list[int]:
    """The number of valid rows in each image."""
    if objects.num is None:
        return [len(rows) for rows in objects.classes]
    return [int(num) for num in np.asarray(objects.num)]


def column_rows(column: Any, rows: Sequence[npt.NDArray[Any]]) -> Any:
    """The given rows of each image of one column; None if there is no such column."""
    if column is None:
        return None
    return [
        [values[row] for row in kept] if isinstance(values, list) else np.asarray(values)[kept]
        for values, kept in zip(column, rows, strict=True)
    ]
