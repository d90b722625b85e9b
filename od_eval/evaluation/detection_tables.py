"""Reads detections from Parquet and Arrow files, one row a detection.

    table = DetectionTable("detections/", groundtruth.images, groundtruth.categories)
    rows = table.read(left_out)

Columns: `image_id` and `category_id` as in COCO's results, `score`, and `x`, `y`, `width`, `height` in pixels, or
`bbox`, a list of these four. Other columns are not read. Parts of a table are files in one folder, or match a pattern.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from od_eval import files
from od_eval.coco_ids import LARGEST
from od_eval.errors import ODEvalError
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.detection_rows import DetectionRows, arrow_ids
from od_eval.text import short, some

SUFFIXES = (".parquet", ".arrow", ".feather")
_ROWS_AT_A_TIME = 1 << 20
_BOX = ("x", "y", "width", "height")
_COLUMNS = ("image_id", "category_id", "score", "bbox", *_BOX)
_ARROW_FILE = b"ARROW1"


class _LeftOut(Protocol):
    def add(self, what: str, first: str, number: int = 1) -> None: ...


def is_table(path: files.Path) -> bool:
    """Whether a path is that of a table: a file, a pattern for files or a folder."""
    return os.fspath(path).endswith(SUFFIXES) or files.is_folder(path)


def has_tables(path: files.Path) -> bool:
    """As `is_table`, but of folders only those with a part of a table."""
    if files.is_folder(path):
        return any(name.endswith(SUFFIXES) for name in files.names_in(path))
    return is_table(path)


class DetectionTable:
    """A table of detections, in one file or in parts.

    Args:
      path: a file that ends in .parquet, .arrow or .feather (Arrow's IPC format, as file or stream), a folder of such
        files, or a pattern for them; on any file system.
      images, categories: the ids of the ground truth.

    Attributes:
      num_rows: the number of rows of all parts.

    Raises:
      ODEvalError: there is no such file, a part cannot be read, or a column is missing or of a wrong type.
    """

    def __init__(self, path: files.Path, images: Mapping[ImageId, Any], categories: Collection[int]) -> None:
        self._ids = list(images)
        self._categories = list(categories)
        self._image_ids = arrow_ids(images)
        self._parts = _parts(os.fspath(path))
        if self._image_ids is None:
            raise ODEvalError(
                f"'{self._parts[0]}': the ground truth has image ids that are numbers and others that are text, which"
                " a column of a table cannot hold; give the detections as JSON."
            )
        self.num_rows = sum(self._count(part) for part in self._parts)

    def read(self, left_out: _LeftOut) -> DetectionRows:
        """All rows.

        Args:
          left_out: is given the rows of images and categories that the ground truth does not have.

        Raises:
          ODEvalError: a part cannot be read, or a row is invalid; the message names it.
        """
        return DetectionRows.concatenated([rows for rows, _ in self._rows(left_out)])

    def by_images(self, left_out: _LeftOut) -> Iterator[DetectionRows]:
        """The rows of some images at a time; few are held in memory.

        Args and Raises: as for `read`; also if the rows of an image do not stand together.
        """
        seen = np.zeros(len(self._ids), bool)
        held = DetectionRows.concatenated([])
        for rows, where in self._rows(left_out):
            # An image may go on in the next rows.
            held = DetectionRows.concatenated([held, rows])
            if not len(held):
                continue
            is_first = np.concatenate(([True], held.image[1:] != held.image[:-1]))
            begun = held.image[is_first]
            again = seen[begun] | (np.bincount(begun, minlength=len(seen))[begun] > 1)
            if again.any():
                id = self._ids[begun[np.argmax(again)]]
                raise ODEvalError(
                    f"{where}: image {short(id)} comes again after other images; in a table of {self.num_rows:,} rows"
                    " those of an image must stand together: sort it by image_id."
                )
            last = int(np.flatnonzero(is_first)[-1])
            seen[begun[:-1]] = True
            yield held[:last]
            held = held[last:]
        if len(held):
            yield held

    def _count(self, part: str) -> int:
        """The number of rows of a part, whose columns are checked."""
        with _opened(part) as (schema, num_rows, batches):
            self._check(part, schema)
            return sum(batch.num_rows for batch in batches) if num_rows is None else num_rows

    def _check(self, part: str, schema: pa.Schema) -> None:
        if "kind" in schema.names and "match_50" in schema.names:
            raise ODEvalError(
                f"'{part}' is the table of objects of an evaluation, not one of detections; od_eval.load_objects reads"
                " it."
            )
        boxes = ("bbox",) if "bbox" in schema.names else _BOX
        missing = [name for name in ("image_id", "category_id", "score", *boxes) if name not in schema.names]
        if missing:
            raise ODEvalError(
                f"'{part}' has no column '{missing[0]}'; a table of detections has image_id, category_id, score, and x,"
                f" y, width, height or bbox, and this one has {some(schema.names)}."
            )
        ids_are_text = self._image_ids is not None and pa.types.is_string(self._image_ids.type)
        wanted: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
            "image_id": (_is_text, "text, as those of the ground truth are")
            if ids_are_text
            else (pa.types.is_integer, "whole numbers, as those of the ground truth are"),
            "category_id": (pa.types.is_integer, "whole numbers"),
            "score": (_is_number, "numbers"),
            "bbox": (_is_list, "lists of four numbers"),
        }
        for name in ("image_id", "category_id", "score", *boxes):
            is_right, what = wanted.get(name, wanted["score"])
            if not is_right(schema.field(name).type):
                raise ODEvalError(
                    f"'{part}': column '{name}' is of type {schema.field(name).type}; it must hold {what}."
                )

    def _rows(self, left_out: _LeftOut) -> Iterator[tuple[DetectionRows, str]]:
        """The rows of the ground truth's images and categories, and where they stand."""
        for part in self._parts:
            first = 0
            with _opened(part) as (schema, _, batches):
                self._check(part, schema)
                for batch in batches:
                    if batch.num_rows:
                        where = f"'{part}', rows {first} to {first + batch.num_rows - 1}"
                        yield self._read_batch(part, first, batch, left_out), where
                    first += batch.num_rows

    def _read_batch(self, part: str, first: int, batch: pa.RecordBatch, left_out: _LeftOut) -> DetectionRows:
        names = ["image_id", "category_id", "score", *(["bbox"] if "bbox" in batch.schema.names else _BOX)]
        for name in names:
            nulls = batch.column(name)
            if nulls.null_count:
                row = int(np.argmax(nulls.is_null().to_numpy(zero_copy_only=False)))
                raise ODEvalError(f"'{part}', row {first + row}: {name} is null; every detection must have it.")
        images = self._indices(part, first, "image_id", batch, self._image_ids)
        categories = self._indices(part, first, "category_id", batch, pa.array(self._categories, pa.int64()))
        self._leave_out(part, first, batch, images < 0, (images >= 0) & (categories < 0), left_out)
        kept = np.flatnonzero((images >= 0) & (categories >= 0))
        score = _as_numpy(batch.column("score"))
        if "bbox" in names:
            box = _boxes(part, first, batch.column("bbox"))
        else:
            box = np.stack([_as_numpy(batch.column(name)) for name in _BOX], axis=1)
        for name, values in (("score", score[:, np.newaxis]), ("bbox" if "bbox" in names else ", ".join(_BOX), box)):
            wrong = ~(np.abs(values[kept]) <= LARGEST).all(axis=1)  # true for NaN, too
            if wrong.any():
                row = int(kept[np.argmax(wrong)])
                given = values[row].tolist()
                raise ODEvalError(
                    f"'{part}', row {first + row}: {name} must be finite; it is"
                    f" {short(given[0] if len(given) == 1 else given)}."
                )
        return DetectionRows(images, np.array(self._categories)[categories], box, score)[kept]

    def _indices(
        self, part: str, first: int, name: str, batch: pa.RecordBatch, known: pa.Array
    ) -> npt.NDArray[np.int64]:
        """The index of each id among those that are known; -1 if it is not."""
        ids = batch.column(name)
        if pa.types.is_dictionary(ids.type):
            ids = ids.dictionary_decode()
        try:
            ids = ids.cast(known.type)
        except pa.ArrowInvalid as error:  # beyond int64
            raise ODEvalError(f"'{part}', rows from {first} on: {name} cannot be read: {error}.") from error
        return pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy().astype(np.int64)

    def _leave_out(
        self,
        part: str,
        first: int,
        batch: pa.RecordBatch,
        no_image: npt.NDArray[np.bool_],
        no_category: npt.NDArray[np.bool_],
        left_out: _LeftOut,
    ) -> None:
        cases = []
        for rows, name, one, many in (
            (no_image, "image_id", "an image", "images"),
            (no_category, "category_id", "a category", "categories"),
        ):
            if rows.any():
                row = int(np.argmax(rows))
                listed = f" ({some(self._categories)})" if name == "category_id" else ""
                id = short(batch.column(name)[row].as_py())
                problem = f"'{part}', row {first + row}: {name} {id} is not {one} of the ground truth{listed}"
                cases.append((row, f"detections of {many} that the ground truth does not have", problem, rows.sum()))
        for _, what, problem, number in sorted(cases):
            left_out.add(what, problem, int(number))


def _boxes(part: str, first: int, column: pa.Array) -> npt.NDArray[np.float64]:
    wrong = pc.not_equal(pc.list_value_length(column), 4).to_numpy(zero_copy_only=False)
    values = column.flatten()
    if values.null_count:
        wrong |= np.array([None in box for box in column.to_pylist()])
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ODEvalError(
            f"'{part}', row {first + row}: bbox must be four numbers, x, y, width and height; it is"
            f" {short(column[row].as_py())}."
        )
    return _as_numpy(values).reshape(-1, 4)


def _as_numpy(values: pa.Array) -> npt.NDArray[np.float64]:
    return values.to_numpy(zero_copy_only=False).astype(np.float64)


def _is_text(type: pa.DataType) -> bool:
    type = type.value_type if pa.types.is_dictionary(type) else type
    return pa.types.is_string(type) or pa.types.is_large_string(type)


def _is_number(type: pa.DataType) -> bool:
    return pa.types.is_integer(type) or pa.types.is_floating(type)


def _is_list(type: pa.DataType) -> bool:
    is_list = pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    return is_list and _is_number(type.value_type)


def _parts(path: str) -> list[str]:
    if files.is_folder(path):
        parts = [f"{path.rstrip('/')}/{name}" for name in files.names_in(path) if name.endswith(SUFFIXES)]
    elif any(sign in path for sign in "*?[") and not files.exists(path):
        parts = files.glob(path)
    else:
        return [path]
    if not parts:
        raise ODEvalError(f"'{path}' has no table of detections: no file that ends in {', '.join(SUFFIXES)}.")
    return parts


@contextlib.contextmanager
def _opened(part: str) -> Iterator[tuple[pa.Schema, int | None, Iterator[pa.RecordBatch]]]:
    """The columns of a file, its number of rows if it says that, and its rows.

    Raises:
      ODEvalError: the file cannot be read.
    """
    kind = "Parquet" if part.endswith(".parquet") else "Arrow"
    try:
        with files.open_read(part) as opened:
            if kind == "Parquet":
                file = pq.ParquetFile(opened, pre_buffer=False)  # otherwise it holds all that was read
                columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
                yield file.schema_arrow, file.metadata.num_rows, file.iter_batches(_ROWS_AT_A_TIME, columns=columns)
                return
            is_file = opened.read(len(_ARROW_FILE)) == _ARROW_FILE  # otherwise a stream
            opened.seek(0)
            reader = pa.ipc.open_file(opened) if is_file else pa.ipc.open_stream(opened)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
            yield reader.schema, None, itertools.chain.from_iterable(map(_slices, batches))
    except (OSError, pa.ArrowException) as error:
        raise ODEvalError(
            f"'{part}' cannot be read as {kind}: {files.reason(error)}; see whether it is whole, and of that kind."
        ) from error


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (batch.slice(first, _ROWS_AT_A_TIME) for first in range(0, batch.num_rows, _ROWS_AT_A_TIME))
