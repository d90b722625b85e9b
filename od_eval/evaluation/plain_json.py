"""Reads files of detections in COCO's format that have nothing out of the ordinary, fast and in little memory.

It is for entries of an image and a category of the ground truth, a box of four finite numbers and a finite score. At
anything else it gives up, and `coco_files` reads the file entry by entry, and knows what to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from od_eval import files
from od_eval.coco_ids import LARGEST
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.detection_rows import DetectionRows, arrow_ids

_BLOCK = 1 << 24  # bytes that are read and parsed at a time
_SPACE = b" \t\n\r"  # of JSON


class _NotPlain(ValueError):
    pass


def read_plain_detections(
    path: files.Path, images: Mapping[ImageId, Any], categories: Collection[int]
) -> DetectionRows | None:
    """Reads a list of plain detections.

    Args:
      path: the JSON file, on any file system.
      images, categories: the ids of the ground truth.

    Returns:
      All detections, in the order of the file; None if it cannot be read or if any is not plain.
    """
    image_ids = arrow_ids(images)
    if image_ids is None:
        return None
    try:
        category_ids = pa.array(list(categories), pa.int64())
        with files.open_read(path) as file:
            parts = [_rows(entries, separator, image_ids, category_ids) for entries, separator in _blocks(file)]
    except (pa.ArrowException, _NotPlain, OverflowError, UnicodeDecodeError, OSError):
        return None
    return DetectionRows.concatenated(parts)


def _blocks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The text of some entries at a time, without the brackets of the list, and what stands between two of them."""
    held = file.read(_BLOCK).lstrip(_SPACE)
    if not held.startswith(b"["):
        raise _NotPlain
    held = held[1:].lstrip(_SPACE)
    between = re.search(rb"\}[ \t\n\r]*,[ \t\n\r]*\{", held)
    separator = between[0] if between else b"},{"
    while more := file.read(_BLOCK):
        # A cut inside of a string or of a nested list leaves two halves that cannot be parsed.
        end = held.rfind(separator)
        if end >= 0:
            yield held[: end + 1], separator
            held = held[end + len(separator) - 1 :]
        held += more
    held = held.rstrip(_SPACE)
    if not held.endswith(b"]"):
        raise _NotPlain
    if held != b"]":
        yield held[:-1], separator


def _rows(entries: bytes, separator: bytes, image_ids: pa.Array, category_ids: pa.Array) -> DetectionRows:
    entries.decode()  # Arrow does not look into strings that nobody asks for
    schema = pa.schema(
        [
            ("image_id", image_ids.type),
            ("category_id", pa.int64()),
            ("bbox", pa.list_(pa.float64())),
            ("score", pa.float64()),
        ]
    )
    table = arrow_json.read_json(
        pa.BufferReader(entries.replace(separator, b"}\n{")),
        read_options=arrow_json.ReadOptions(block_size=1 << 22),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore", newlines_in_values=b"\n" in entries
        ),
    ).combine_chunks()
    # Arrow would also read entries without a comma between them.
    if table.num_rows != entries.count(separator) + 1 or any(column.null_count for column in table.columns):
        raise _NotPlain
    boxes = table["bbox"].combine_chunks()
    box = boxes.flatten()
    if box.null_count or not pc.all(pc.equal(pc.list_value_length(boxes), 4)).as_py():
        raise _NotPlain
    rows = DetectionRows(
        image=_indices(table["image_id"], image_ids),
        category=table["category_id"].to_numpy(),
        box=box.to_numpy().reshape(-1, 4),
        score=table["score"].to_numpy(),
    )
    _indices(table["category_id"], category_ids)
    if not (np.all(np.abs(rows.box) <= LARGEST) and np.all(np.abs(rows.score) <= LARGEST)):  # false for NaN, too
        raise _NotPlain
    return rows


def _indices(ids: pa.ChunkedArray, known: pa.Array) -> npt.NDArray[np.int64]:
    indices = pc.index_in(ids, value_set=known)
    if indices.null_count:
        raise _NotPlain
    return indices.to_numpy().astype(np.int64)
