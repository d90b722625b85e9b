"""Reads the arrays of a batch, checks every row, and joins the rows of all images into columns.

Invalid input is reported here, with a message that names the image and the row.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation import masks as coco_masks
from od_eval.evaluation.batch import Detections, GroundTruth, PerImage, RowsByImage
from od_eval.text import short, some

ImageId = int | str
Size = coco_masks.Size  # height and width
Columns = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class RowFormat:
    """The format of rows.

    Attributes:
      categories: id -> name, with ascending ids.
      box_format: one of `od_eval.evaluation.options.BOX_FORMATS`.
      masks: whether masks are read.
    """

    categories: Mapping[int, str]
    box_format: str
    masks: bool


def read_groundtruth(groundtruth: GroundTruth, images: Mapping[ImageId, Size], row_format: RowFormat) -> Columns:
    """Reads the ground truth of a batch into columns.

    Args:
      groundtruth: the ground truth of these images.
      images: the size of each image, in the order of the batch.
      row_format: the format of rows.

    Returns:
      `image`: int32 `[n]`, the index of the row's image in `images`; `category`: int32 `[n]`, the index of its category
      in `categories`; `box`: `[n, 4]`, xmin, ymin, width, height in pixels, in the float type of the input; `area`:
      float64 `[n]`; `crowd` and `difficult`: bool `[n]`; `mask`: the counts of RLEs, if masks are read.

    Raises:
      ODEvalError: the arrays do not fit together, or a row is invalid.
    """
    reader = _Reader("ground truth object", groundtruth, images, row_format)
    columns = reader.common_columns()
    width, height = columns["box"][:, 2], columns["box"][:, 3]
    reader.check(
        (width >= 0) & (height >= 0),
        lambda index: (
            f"has the box {reader.given_box(index)}, which ends before it begins; the box format is"
            f" {row_format.box_format}"
        ),
    )
    columns["area"] = np.where(np.isnan(columns["area"]), reader.box_areas(), columns["area"])
    columns["crowd"] = reader.flags("is_crowd", groundtruth.is_crowd)
    columns["difficult"] = reader.flags("difficult", groundtruth.difficult)
    return columns


def read_detections(detections: Detections, images: Mapping[ImageId, Size], row_format: RowFormat) -> Columns:
    """Reads the detections of a batch into columns.

    Args and Raises: as for `read_groundtruth`.

    Returns:
      `image`, `category`, `box` and `mask` as in `read_groundtruth`; `score`, in the float type of the input; `area`:
      float64 `[n]`, NaN if it was not given.
    """
    reader = _Reader("detection", detections, images, row_format)
    columns = reader.common_columns()
    columns["score"] = _as_float(reader.column("scores", detections.scores))
    reader.check(
        np.isfinite(columns["score"]),
        lambda index: f"has the score {columns['score'][index]}; it must be finite, see whether training has diverged",
    )
    return columns


def image_id(id: Any) -> ImageId:
    """The id of an image as an int or str of Python.

    Raises:
      ODEvalError: it is neither.
    """
    if isinstance(id, str):
        return str(id)
    try:
        return operator.index(id)
    except TypeError:
        raise ODEvalError(f"the image id {id!r} is neither an int nor a str; make it one.") from None


class _Reader:
    """The part that detections and ground truth share.

    Rows are numbered over all images; `check` maps such a number back to the image and the row in it.
    """

    def __init__(
        self, kind: str, objects: Detections | GroundTruth, images: Mapping[ImageId, Size], row_format: RowFormat
    ) -> None:
        self._kind = kind
        self._objects = objects
        self._ids = list(images)
        self._sizes = list(images.values())
        self._format = row_format
        num = None if objects.num is None else np.asarray(objects.num)
        if num is not None and num.shape != (len(self._ids),):
            raise ODEvalError(
                f"num of {kind}s of a batch of {len(self._ids)} images must be of shape [{len(self._ids)}], not"
                f" {list(num.shape)}."
            )
        boxes = self._per_image("boxes", objects.boxes)
        # Per image, including rows beyond `num`. Anything without a length is not a list of boxes; `_rows` reports it.
        self._given = [len(rows) if hasattr(rows, "__len__") else 0 for rows in boxes]
        nums: list[int] = self._given if num is None else num.tolist()
        for index, (rows, given) in enumerate(zip(nums, self._given, strict=True)):
            if not (0 <= rows <= given and rows == int(rows)):  # the Object Detection API's counts are floats
                self._fail(index, f"num says {rows} {kind}s where there are {given} boxes")
        self._num = [int(rows) for rows in nums]
        self._first = np.cumsum([0, *self._num])
        self._boxes = _as_float(self._rows("boxes", boxes, (4,)))
        sizes = np.repeat(np.array(self._sizes), self._num, axis=0)
        self._xywh = _to_xywh(self._boxes, row_format.box_format, sizes)

    def common_columns(self) -> Columns:
        """The columns `image`, `category`, `box`, `area` (NaN if not given) and `mask`."""
        objects = self._objects
        box = self._xywh
        self.check(
            np.isfinite(box).all(axis=1),
            lambda index: (
                f"has the box {self.given_box(index)}; the numbers must be finite, see whether training has diverged"
            ),
        )
        classes = self.column("classes", objects.classes)
        category_ids = np.array(list(self._format.categories))
        category = np.searchsorted(category_ids, classes).clip(max=len(category_ids) - 1)
        self.check(
            category_ids[category] == classes,
            lambda index: (
                f"is of class {classes[index]}, which is not one of the categories"
                f" ({some(self._format.categories)}); see whether the label map has all classes"
            ),
        )
        if objects.area is None:
            area = np.full(len(box), np.nan)
        else:
            area = self.column("area", objects.area).astype(np.float64)
            self.check(
                np.isnan(area) | ((area >= 0) & np.isfinite(area)),
                lambda index: f"has the area {area[index]}; an area is 0 or more, or NaN if it is unknown",
            )
        columns = {
            "image": np.repeat(np.arange(len(self._ids), dtype=np.int32), self._num),
            "category": category.astype(np.int32),
            "box": box,
            "area": area,
        }
        if self._format.masks:
            columns["mask"] = self._masks()
        return columns

    def box_areas(self) -> npt.NDArray[np.float64]:
        """The areas of boxes, computed in the dtype of the boxes, as in the Object Detection API."""
        return (self._xywh[:, 2] * self._xywh[:, 3]).astype(np.float64)

    def column(self, name: str, values: PerImage) -> npt.NDArray[Any]:
        """One value for each valid row."""
        return self._rows(name, self._per_image(name, values), ())

    def flags(self, name: str, values: PerImage | None) -> npt.NDArray[np.bool_]:
        """One bool for each valid row; all False if there are no values."""
        return np.zeros(sum(self._num), bool) if values is None else self.column(name, values).astype(bool)

    def check(self, right: npt.NDArray[np.bool_], message: Callable[[int], str]) -> None:
        """Raises an ODEvalError for the first row that is not valid; `message` maps the row's index to the text."""
        if not right.all():
            index = int(np.argmin(right))
            image = self._image_of(index)
            self._fail(image, f"{self._kind} {index - self._first[image]} {message(index)}")

    def given_box(self, index: int) -> list[float]:
        """The box of a row as it was given."""
        return self._boxes[index].tolist()

    def _masks(self) -> npt.NDArray[Any]:
        padded = tuple(np.max(self._sizes, axis=0).tolist())
        counts = []
        given = [None] * len(self._ids) if self._objects.masks is None else self._objects.masks
        for index, masks in enumerate(self._per_image("masks", given)):
            if not self._num[index]:
                continue
            if masks is None:
                self._fail(index, f"its {self._kind}s have no masks; give masks, or do not evaluate them")
            self._check_length(index, "masks", len(masks))
            for row in range(self._num[index]):
                try:
                    counts.append(_mask_counts(masks[row], self._sizes[index], padded))
                except ValueError as error:
                    self._fail(index, f"the mask of {self._kind} {row} is wrong: {error}", error)
        column = np.empty(len(counts), object)
        column[:] = counts
        return column

    def _rows(self, name: str, values: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The valid rows of all images, concatenated; each row has the given shape."""
        is_padded = isinstance(values, np.ndarray) and values.ndim == 2 + len(shape) and values.shape[2:] == shape
        if is_padded and {values.shape[1]} == {*self._given}:
            return values[np.arange(values.shape[1]) < np.array(self._num)[:, np.newaxis]]
        is_column = isinstance(values, RowsByImage) and values.rows.shape[1:] == shape
        if is_column and np.diff(values.bounds).tolist() == self._num:
            return values.rows[values.bounds[0] : values.bounds[-1]]
        columns = []
        for index, column in enumerate(values):
            column = np.asarray(column)
            if column.shape == (0,):  # an empty list
                column = column.reshape(0, *shape)
            if column.ndim != 1 + len(shape) or column.shape[1:] != shape:
                wanted = ", ".join(["n", *map(str, shape)])
                self._fail(index, f"{name} of {self._kind}s must be of shape [{wanted}], not {list(column.shape)}")
            self._check_length(index, name, len(column))
            columns.append(column[: self._num[index]])
        # Arrays without rows must not affect the dtype: an empty list becomes float64.
        return np.concatenate([column for column in columns if len(column)] or columns)

    def _per_image(self, name: str, values: PerImage) -> Any:
        """Checks that `values` has one entry per image."""
        if hasattr(values, "__array__"):
            values = np.asarray(values)
        if len(values) != len(self._ids):
            raise ODEvalError(
                f"a batch of {len(self._ids)} images (the first is {short(self._ids[0])}) has {name} of {self._kind}s"
                f" for {len(values)}; give one entry per image."
            )
        return values

    def _check_length(self, index: int, name: str, length: int) -> None:
        if length not in (self._given[index], self._num[index]):
            self._fail(index, f"there are {self._given[index]} boxes but {length} {name} of {self._kind}s")

    def _image_of(self, index: int) -> int:
        return int(np.searchsorted(self._first, index, side="right")) - 1

    def _fail(self, image: int, message: str, cause: Exception | None = None) -> NoReturn:
        raise ODEvalError(f"image {short(self._ids[image])}: {message}.") from cause


def _as_float(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """float32 and float64 are kept; any other dtype becomes float64."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _to_xywh(boxes: npt.NDArray[Any], box_format: str, sizes: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Converts boxes `[n, 4]` in images of size `[n, 2]` (height, width) to xmin, ymin, width, height in pixels.

    They keep their dtype. The Object Detection API also subtracts float32 corners in float32, so these boxes are equal
    to its boxes to the last bit.
    """
    order = box_format.removeprefix("rel_")
    with np.errstate(invalid="ignore", over="ignore"):
        if box_format.startswith("rel_"):
            sides = [0, 1, 0, 1] if order == "yxyx" else [1, 0, 1, 0]
            boxes = boxes * sizes[:, sides].astype(boxes.dtype)
        if order == "yxyx":
            boxes = boxes[:, [1, 0, 3, 2]]
        if order != "xywh":
            boxes = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    return boxes


def _mask_counts(mask: Any, size: Size, padded: Size) -> bytes:
    """The counts of one mask: an array of the image's size or of the padded size, or an RLE."""
    if isinstance(mask, Mapping):
        return coco_masks.from_rle(dict(mask), size)
    mask = np.asarray(mask)
    if mask.shape not in (size, padded):
        raise ValueError(f"its shape is {list(mask.shape)}, and the image has height and width {list(size)}")
    return coco_masks.from_array(mask[: size[0], : size[1]])
