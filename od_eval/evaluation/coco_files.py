"""Reads ground truth and detections from COCO JSON files, and detections from tables, to evaluate without the model.

    groundtruth = read_groundtruth("instances_val.json")
    evaluator = Evaluator(groundtruth.categories, box_format="xywh")
    evaluator.update(read_detections("detections.json", groundtruth))
    evaluator.evaluate()

The numbers are the same as pycocotools' for these files.
"""

from __future__ import annotations

import array
import dataclasses
import functools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval import files
from od_eval.coco_ids import find_id, groups_only, is_number, read_id
from od_eval.errors import ODEvalError
from od_eval.evaluation import masks as coco_masks
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth, RowsByImage, images_of, of_images
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.detection_rows import DetectionRows
from od_eval.evaluation.detection_tables import DetectionTable, is_table
from od_eval.evaluation.plain_json import read_plain_detections
from od_eval.text import named, short, some

# Boxes that reach further than this part of their image are outside it, as detectors reach a little over the edge; if
# more than this part of all boxes are, they are not what they say.
_MOST_OVER_THE_EDGE, _MANY_BOXES = 1.02, 0.1
# A larger table is not held in memory, so its rows must stand together by image.
MOST_ROWS_IN_MEMORY = 10_000_000
_IMAGES_AT_A_TIME = 10_000
_LARGEST_SIDE = 2**31 - 1  # of an image; what counts pixels has 32 bits


class LeftOut:
    """What is in COCO files and takes no part in an evaluation, as in pycocotools: counted, with its first case.

    Args:
      strict: whether leaving an entry out is an error.
    """

    def __init__(self, strict: bool = False):
        self._strict = strict
        self._cases: dict[str, tuple[int, str]] = {}
        self._kinds_left_out: set[str] = set()

    def add(self, what: str, first: str, number: int = 1) -> None:
        """Counts an entry, or several.

        Args:
          what: its kind, in the plural: "detections of images that the ground truth does not have".
          first: the entry, if it is the first of its kind; of several, the first.
          number: how many.

        Raises:
          ODEvalError: that is an error.
        """
        if self._strict:
            raise ODEvalError(f"{first}.")
        self._kinds_left_out.add(what)
        self.note(what, first, number)

    def note(self, what: str, first: str, number: int = 1) -> None:
        """Counts what is never an error."""
        earlier_number, earlier = self._cases.get(what, (0, first))
        self._cases[what] = (earlier_number + number, earlier)

    def merge(self, other: LeftOut) -> None:
        """Adds what another one has, which was not strict, of data that come after those of this one.

        Raises:
          ODEvalError: there is something, and that is an error.
        """
        for number, what, first in other.cases():
            (self.add if what in other._kinds_left_out else self.note)(what, first, number)

    def to_json(self) -> list[tuple[int, str, str, bool]]:
        """What it has, as JSON has it; `from_json` takes it back."""
        return [(number, what, first, what in self._kinds_left_out) for number, what, first in self.cases()]

    @classmethod
    def from_json(cls, cases: Sequence[Sequence[Any]]) -> LeftOut:
        """One that has what `to_json` told, and is not strict."""
        left_out = cls()
        for number, what, first, is_left_out in cases:
            (left_out.add if is_left_out else left_out.note)(what, first, number)
        return left_out

    def cases(self) -> list[tuple[int, str, str]]:
        """Number, kind and first case of each kind."""
        return [(number, what, first) for what, (number, first) in self._cases.items()]


@dataclasses.dataclass(frozen=True)
class CocoGroundTruth:
    """The contents of a COCO ground truth file.

    Attributes:
      path: the file.
      categories: id -> name.
      images: id -> height and width; 0 and 0 if the file does not give them and masks are not read.
      objects: the objects of each image in `images`; boxes are xmin, ymin, width, height. Areas are those of the file,
        or NaN.
      masks: whether masks were read.
      file_names: id -> name of the image file, or the id if the file does not give a name.
    """

    path: str
    categories: dict[int, str]
    images: dict[ImageId, coco_masks.Size]
    objects: GroundTruth
    masks: bool
    file_names: dict[ImageId, str]

    @functools.cached_property
    def ids(self) -> list[ImageId]:
        """The ids of `images`, in their order."""
        return list(self.images)


def read_groundtruth(path: files.Path, masks: bool = False, left_out: LeftOut | None = None) -> CocoGroundTruth:
    """Reads a COCO ground truth file.

    From annotations, `image_id`, `category_id`, `bbox`, and if present `area`, `iscrowd`, `ignore` and `difficult` are
    read; with `masks` also `segmentation`: polygons, or an RLE, compressed or not. Annotation ids are not read. Objects
    with `ignore` or `difficult` are difficult ones, which COCO's metrics do not heed and the analyses of errors do.

    Args:
      path: the JSON file, on any file system.
      masks: whether to read masks.
      left_out: is given the annotations of images and categories that the file does not list, and the categories that
        only group others; without it, such an annotation is an error.

    Raises:
      ODEvalError: the file cannot be read, is not COCO ground truth, or has an invalid entry; the message names the
        entry.
    """
    path = os.fspath(path)
    content = files.read_json(path)
    if isinstance(content, list):
        raise ODEvalError(
            f"'{path}' holds a list, as files of detections do; as ground truth, give a file with 'images',"
            " 'annotations' and 'categories'."
        )
    for key in ("images", "categories", "annotations"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            hint = (
                ", as a file of test images has none; nothing can be evaluated with it" if key == "annotations" else ""
            )
            raise ODEvalError(f"'{path}' is not COCO's ground truth: it has no list '{key}'{hint}.")
    left_out = left_out or LeftOut(strict=True)
    categories = _read_categories(path, content["categories"], content["annotations"], left_out)
    images = _read_images(path, content["images"], masks)
    rows = _Rows(
        images, categories, masks, ("boxes", "classes", "is_crowd", "difficult", "area"), "annotations", left_out
    )
    for where, entry in _entries(path, "annotations", content["annotations"]):
        rows.add_annotation(where, entry)
    names = (entry.get("file_name") for entry in content["images"])
    file_names = {id: str(name or id) for id, name in zip(images, names, strict=True)}
    return CocoGroundTruth(path, categories, images, GroundTruth(**rows.by_image()), masks, file_names)


def read_detections(path: files.Path, groundtruth: CocoGroundTruth, left_out: LeftOut | None = None) -> EvaluationBatch:
    """Reads a file in COCO's results format, a list of detections, or a table of them; combined with the ground truth.

    From detections, `image_id`, `category_id`, `score`, and `bbox` or `segmentation` are read, and both if masks are
    evaluated. Without `bbox` the bounding box of the mask is used. Tables, which have boxes only, are described in
    `detection_tables`.

    As in pycocotools, the area of a detection is that of its box, or of its mask if it has no `bbox`, whether boxes or
    masks are evaluated. (The evaluation during training uses the box area for boxes and the mask area for masks, as the
    Object Detection API does; to do so here, leave `bbox` out of files with masks.)

    Args:
      path: a JSON file, or a table: a .parquet, .arrow or .feather file, a folder of these or a pattern; on any file
        system.
      groundtruth: from `read_groundtruth`.
      left_out: is given the detections of images and categories that the ground truth does not have; without it, such a
        detection is an error.

    Returns:
      All images of the ground truth, for an Evaluator of its categories with the box format `xywh`.

    Raises:
      ODEvalError: the file cannot be read, is not a list of detections, or has an invalid entry; the message names the
        entry.
    """
    path, left_out = os.fspath(path), left_out or LeftOut(strict=True)
    if is_table(path):
        return _batch(groundtruth, _table(path, groundtruth).read(left_out))
    plain = None if groundtruth.masks else read_plain_detections(path, groundtruth.images, groundtruth.categories)
    if plain is not None:
        return _batch(groundtruth, plain)
    content = files.read_json(path)
    if not isinstance(content, list):
        raise ODEvalError(
            f"'{path}' does not hold a list of detections"
            + (", but ground truth" if isinstance(content, dict) and "annotations" in content else "")
            + '; COCO\'s format is [{"image_id": …, "category_id": …, "bbox": [x, y, width, height], "score": …}, …].'
        )
    columns = ("boxes", "classes", "scores", "area")
    rows = _Rows(groundtruth.images, groundtruth.categories, groundtruth.masks, columns, "detections", left_out)
    for where, entry in _entries(path, "", content):
        rows.add_detection(where, entry)
    return EvaluationBatch(
        image_ids=list(groundtruth.images),
        image_sizes=list(groundtruth.images.values()),
        detections=Detections(**rows.by_image()),
        groundtruth=groundtruth.objects,
    )


def stream_detections(
    path: files.Path, groundtruth: CocoGroundTruth, left_out: LeftOut | None = None
) -> tuple[int, Iterator[EvaluationBatch]]:
    """As `read_detections`, with few images in a batch, and of a large table with few of its rows in memory.

    Returns:
      The number of detections, with those left out if it is a table; and batches, with each image of the ground truth
      once.

    Raises:
      ODEvalError: as `read_detections`, also while batches are read; and if the rows of an image do not stand
        together in a table of more than `MOST_ROWS_IN_MEMORY`.
    """
    left_out = left_out or LeftOut(strict=True)
    table = _table(os.fspath(path), groundtruth) if is_table(path) else None
    if table is not None and table.num_rows > MOST_ROWS_IN_MEMORY:
        return table.num_rows, _streamed(groundtruth, table, left_out)
    batch = _batch(groundtruth, table.read(left_out)) if table else read_detections(path, groundtruth, left_out)
    assert batch.detections is not None
    num = sum(map(len, batch.detections.scores))
    return num, _parts_of(batch)


def _table(path: str, groundtruth: CocoGroundTruth) -> DetectionTable:
    if groundtruth.masks:
        raise ODEvalError(
            f"'{path}' is a table of detections, which has boxes only; give detections with masks as JSON, or do not"
            " evaluate masks."
        )
    return DetectionTable(path, groundtruth.images, groundtruth.categories)


def _streamed(groundtruth: CocoGroundTruth, table: DetectionTable, left_out: LeftOut) -> Iterator[EvaluationBatch]:
    is_left = np.ones(len(groundtruth.images), bool)
    for rows in table.by_images(left_out):
        images = np.unique(rows.image)
        is_left[images] = False
        yield _batch(groundtruth, rows, images)
    images = np.flatnonzero(is_left)
    for first in range(0, len(images), _IMAGES_AT_A_TIME):
        yield _batch(groundtruth, DetectionRows.concatenated([]), images[first : first + _IMAGES_AT_A_TIME])


def _batch(
    groundtruth: CocoGroundTruth, rows: DetectionRows, images: npt.NDArray[np.int64] | None = None
) -> EvaluationBatch:
    """The detections and objects of some images, by their indices in ascending order; by default of all."""
    everything = np.arange(len(groundtruth.images))
    images = everything if images is None else images
    ids = [groundtruth.ids[index] for index in images]
    return EvaluationBatch(
        image_ids=ids,
        image_sizes=[groundtruth.images[id] for id in ids],
        detections=rows.by_image(images),
        groundtruth=groundtruth.objects if images is everything else images_of(groundtruth.objects, images.tolist()),
    )


def _parts_of(batch: EvaluationBatch) -> Iterator[EvaluationBatch]:
    for first in range(0, len(batch.image_ids), _IMAGES_AT_A_TIME):
        yield of_images(batch, range(first, min(first + _IMAGES_AT_A_TIME, len(batch.image_ids))))


def has_masks(path: files.Path) -> bool:
    """Whether a JSON file contains a segmentation that is not empty; the rest of it is not parsed. Tables have none."""
    if is_table(path):
        return False
    try:
        return re.search(rb'"segmentation"\s*:\s*(\{|\[\s*[^\s\]])', files.read_bytes(path)) is not None
    except OSError:
        return False  # reading it again reports what is wrong


class BoxPlausibility:
    """Whether boxes of detections can be x, y, width, height in pixels of their images."""

    def __init__(self) -> None:
        self._num_boxes = self._num_outside = self._num_corners = 0
        self._largest = 0.0

    def update(self, batch: EvaluationBatch) -> None:
        """Counts the boxes of a batch from `read_detections` or `stream_detections`, of images with a size."""
        assert batch.detections is not None
        boxes = [np.reshape(rows, (-1, 4)) for rows in batch.detections.boxes]
        sizes = np.asarray(batch.image_sizes)
        is_known = np.repeat((sizes > 0).all(axis=1), list(map(len, boxes)))
        limits = _MOST_OVER_THE_EDGE * np.repeat(sizes, list(map(len, boxes)), axis=0)[is_known]
        box = np.concatenate(boxes)[is_known]
        x, y, width, height = box.T
        max_y, max_x = limits.T
        self._num_boxes += len(box)
        self._largest = max(self._largest, box.max(initial=0))
        self._num_outside += np.count_nonzero((x + width > max_x) | (y + height > max_y))
        is_corners = (x < width) & (y < height) & (width <= max_x) & (height <= max_y)
        self._num_corners += np.count_nonzero(is_corners)

    def problem(self) -> str | None:
        """A clause about what is seen and what it looks like; None if the boxes can be what they say."""
        num_boxes, num_outside = self._num_boxes, self._num_outside
        if num_boxes and self._largest <= 1:
            return (
                f"all {num_boxes} boxes of detections are below 1: they look like parts of the image; bbox is in pixels"
            )
        if num_outside > _MANY_BOXES * num_boxes:
            corners = ": they look like left, top, right, bottom" if self._num_corners == num_boxes else ""
            return f"{num_outside} of {num_boxes} boxes of detections reach over the edge of their images{corners};" + (
                " bbox is left, top, width, height in pixels"
            )
        return None


class _Rows:
    """Columns of `GroundTruth` or `Detections`, filled one entry at a time."""

    def __init__(
        self,
        images: Mapping[ImageId, coco_masks.Size],
        categories: Mapping[int, str],
        masks: bool,
        columns: Sequence[str],
        what: str,
        left_out: LeftOut,
    ) -> None:
        self._what = what
        self._left_out = left_out
        self._images = images
        self._categories = categories
        self._masks = masks
        self._indices = {id: index for index, id in enumerate(images)}
        # Columns of numbers take a tenth of the memory of a list for each image.
        self._image = array.array("q")
        self._columns: dict[str, list[Any]] = {name: [] for name in ((*columns, "masks") if masks else columns)}

    def add_annotation(self, where: str, entry: dict[str, Any]) -> None:
        begun = self._begin(where, entry)
        if begun is None:
            return
        image, row = begun
        row["boxes"] = _box(where, entry)
        if row["boxes"][2] < 0 or row["boxes"][3] < 0:
            raise ODEvalError(
                f"{where}: bbox {short(entry['bbox'])} has a negative width or height; it is x, y, width, height."
            )
        row["area"] = math.nan if entry.get("area") is None else _number(where, entry, "area")
        if row["area"] < 0:
            raise ODEvalError(f"{where}: area is {short(entry['area'])}; it cannot be negative.")
        flags = {name: entry.get(name) for name in ("iscrowd", "ignore", "difficult")}
        for name, flag in flags.items():
            if flag not in (None, 0, 1):
                raise ODEvalError(f"{where}: {name} is {short(flag)}; it must be 0 or 1.")
        row["is_crowd"] = bool(flags["iscrowd"])
        # Files of crowds often say both, and a crowd is not counted as difficult.
        row["difficult"] = bool(flags["ignore"] or flags["difficult"]) and not row["is_crowd"]
        if self._masks:
            row["masks"] = self._mask(where, entry, image)
        self._append(image, row)

    def add_detection(self, where: str, entry: dict[str, Any]) -> None:
        begun = self._begin(where, entry)
        if begun is None:
            return
        image, row = begun
        row["scores"] = _number(where, entry, "score")
        row["area"] = math.nan
        mask = None
        if entry.get("bbox"):  # some programs write [] for no box
            row["boxes"] = _box(where, entry)
            row["area"] = row["boxes"][2] * row["boxes"][3]
        elif entry.get("segmentation"):
            mask = self._mask(where, entry, image)
            row["boxes"] = coco_masks.box(mask["counts"], self._images[image])
            row["area"] = float(coco_masks.areas([mask])[0])
        else:
            raise ODEvalError(f"{where}: neither 'bbox' nor 'segmentation' is in {short(entry)}.")
        if self._masks:
            row["masks"] = self._mask(where, entry, image) if mask is None else mask
        self._append(image, row)

    def by_image(self) -> dict[str, RowsByImage]:
        """Column name -> rows of each image. It can be called once."""
        image = np.array(self._image, np.int64)
        order = np.argsort(image, kind="stable")
        bounds = np.searchsorted(image[order], np.arange(len(self._images) + 1))
        by_image = {}
        for name in list(self._columns):
            rows = self._columns.pop(name)
            column = np.empty(len(rows), object) if name == "masks" else np.array(rows)
            if name == "masks":
                column[:] = rows
            by_image[name] = RowsByImage(column.reshape(-1, 4)[order] if name == "boxes" else column[order], bounds)
        return by_image

    def _begin(self, where: str, entry: dict[str, Any]) -> tuple[ImageId, dict[str, Any]] | None:
        """The image of an entry, and the first columns of its row; None if the entry is left out."""
        image, category = _id(where, entry, "image_id"), _id(where, entry, "category_id")
        for key, id, known, one, many in (
            ("image_id", image, self._images, "an image", "images"),
            ("category_id", category, self._categories, "a category", "categories"),
        ):
            if id in known:
                continue
            listed = f" ({some(known)})" if key == "category_id" else ""
            problem = f"{where}: {key} {short(id)} is not {one} of the ground truth{listed}"
            if find_id(id, known) is not None:  # the same number in quotes, which pycocotools takes for another id
                raise ODEvalError(f"{problem}; as a number it is.")
            self._left_out.add(f"{self._what} of {many} that the ground truth does not have", problem)
            return None
        return image, {"classes": category}

    def _append(self, image: ImageId, row: dict[str, Any]) -> None:
        self._image.append(self._indices[image])
        for name, value in row.items():
            self._columns[name].append(value)

    def _mask(self, where: str, entry: dict[str, Any], image: ImageId) -> dict[str, Any]:
        segmentation, size = entry.get("segmentation"), self._images[image]
        if not segmentation:
            raise ODEvalError(
                f"{where}: there is no 'segmentation'; give it for every object, or do not evaluate masks."
            )
        if not all(size):
            raise ODEvalError(
                f"{where}: the ground truth has no height and width for image {short(image)}, which masks need."
            )
        try:
            if isinstance(segmentation, list):
                return coco_masks.as_rle(coco_masks.from_polygons(segmentation, size), size)
            return coco_masks.as_rle(coco_masks.from_rle(segmentation, size), size)
        except ValueError as error:
            raise ODEvalError(f"{where}: segmentation is neither polygons nor an RLE of its image: {error}.") from error


def _entries(path: str, name: str, entries: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each entry of a list with a description of its position: `'val.json', annotations[3] (id 7)`."""
    for index, entry in enumerate(entries):
        where = f"'{path}', {name}[{index}]" if name else f"'{path}', entry {index}"
        if not isinstance(entry, dict):
            raise ODEvalError(f"{where}: {short(entry)} is not an object.")
        yield (f"{where} (id {short(entry['id'])})" if "id" in entry else where), entry


def _read_categories(path: str, entries: list[Any], annotations: list[Any], left_out: LeftOut) -> dict[int, str]:
    ids = [read_id(one.get("category_id")) for one in annotations if isinstance(one, dict)]
    used = {id for id in ids if id is not None}
    groups = groups_only([one for one in entries if isinstance(one, dict) and "id" in one], used)
    categories: dict[int, str] = {}
    for where, entry in _entries(path, "categories", entries):
        if any(entry is group for group in groups):
            left_out.note("categories that only group others", f"{where}: {short(entry.get('name'))}")
            continue
        id, name = _id(where, entry, "id"), entry.get("name")
        if not isinstance(id, int):
            raise ODEvalError(f"{where}: the id of a category must be a whole number.")
        if not isinstance(name, str) or not name.strip():
            raise ODEvalError(f"{where}: it has no 'name'.")
        if id in categories or name in categories.values():
            raise ODEvalError(f"{where}: another category has the same id or the same name '{named(name)}'.")
        categories[id] = name
    if not categories:
        raise ODEvalError(f"'{path}': there are no categories in it.")
    return categories


def _read_images(path: str, entries: list[Any], masks: bool) -> dict[ImageId, coco_masks.Size]:
    images: dict[ImageId, coco_masks.Size] = {}
    for where, entry in _entries(path, "images", entries):
        id = _id(where, entry, "id")
        if id in images:
            raise ODEvalError(f"{where}: another image has the same id.")
        if not masks and entry.get("height") is None and entry.get("width") is None:
            images[id] = (0, 0)
            continue
        height, width = _number(where, entry, "height"), _number(where, entry, "width")
        if min(height, width) < (1 if masks else 0):
            raise ODEvalError(f"{where}: height is {height:g} and width is {width:g}; masks need the size in pixels.")
        if max(height, width) > _LARGEST_SIDE:
            raise ODEvalError(f"{where}: height is {height:g} and width is {width:g}; no image is that large.")
        images[id] = (int(height), int(width))
    if not images:
        raise ODEvalError(f"'{path}': there are no images in it.")
    return images


def _id(where: str, entry: dict[str, Any], key: str) -> ImageId:
    id = entry.get(key)
    if isinstance(id, float) and id.is_integer():
        return int(id)  # written by programs that keep ids in a float array
    if not isinstance(id, int | str) or isinstance(id, bool):
        problem = f"it is {short(id)}" if key in entry else f"it is missing in {short(entry)}"
        raise ODEvalError(f"{where}: '{key}' must be a whole number or a string; {problem}.")
    return id


def _number(where: str, entry: dict[str, Any], key: str) -> float:
    value = entry.get(key)
    if not is_number(value):
        problem = f"it is {short(value)}" if key in entry else f"it is missing in {short(entry)}"
        raise ODEvalError(f"{where}: '{key}' must be a finite number; {problem}.")
    return float(value)


def _box(where: str, entry: dict[str, Any]) -> list[float]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        problem = f"it is {short(box)}" if "bbox" in entry else f"it is missing in {short(entry)}"
        raise ODEvalError(f"{where}: 'bbox' must be four finite numbers, x, y, width and height; {problem}.")
    return [float(value) for value in box]
