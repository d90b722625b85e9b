"""Masks as COCO's run-length encodings (RLE): from arrays, polygons, and other RLEs.

A mask is stored as its *counts*, the compressed bytes of an RLE; its size is that of its image. `hotcoco.mask` is used
because it checks its input: `pycocotools.mask` reads past the end of an RLE that is too short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import mask as _mask

from od_eval.coco_ids import is_number
from od_eval.text import short

Size = tuple[int, int]


def from_array(mask: npt.NDArray[Any]) -> bytes:
    """The counts of a mask `[height, width]`; nonzero pixels belong to the object."""
    return _mask.encode(mask if mask.dtype == bool else mask != 0)["counts"]


def from_rle(rle: Any, size: Size) -> bytes:
    """The counts of any RLE, compressed (bytes or str) or not (a list of ints).

    Pixels after its last run do not belong to the object.

    Args:
      rle: `{"size": [height, width], "counts": …}`.
      size: height and width of the image.

    Raises:
      ValueError: it is not an RLE, or has another size; the message says what is wrong.
    """
    if isinstance(rle, dict) and isinstance(rle.get("size"), Sequence) and list(rle["size"]) != list(size):
        raise ValueError(f"its size is {short(list(rle['size']))}, not {list(size)}")
    try:
        # The union with an empty mask of the image's size validates the RLE and adds the last run if it is missing.
        return _mask.merge([rle, {"size": size, "counts": [size[0] * size[1]]}])["counts"]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(str(error)) from error


def from_polygons(polygons: Sequence[Sequence[float]], size: Size) -> bytes:
    """The counts of the union of polygons `[x1, y1, x2, y2, …]` in pixels, rasterized as in pycocotools.

    Polygons with fewer than three points enclose nothing and are skipped.

    Raises:
      ValueError: a polygon is not such a list, or none is left; the message says which.
    """
    for number, polygon in enumerate(polygons):
        if not isinstance(polygon, Sequence) or not all(type(value) in (int, float) for value in polygon):
            raise ValueError(f"polygon {number} is not a list of numbers")
        if len(polygon) % 2 or not all(map(is_number, polygon)):
            raise ValueError(f"polygon {number} is not a list of alternating x and y")
    polygons = [polygon for polygon in polygons if len(polygon) >= 6]
    if not polygons:
        raise ValueError("it has no polygon of three points or more")
    return _mask.merge(_mask.frPyObjects(polygons, *size))["counts"]


def as_rle(counts: bytes, size: Size) -> dict[str, Any]:
    """The COCO RLE of a mask, with counts as bytes.

    Its size is the tuple that is given, and not a list of its own: of a million masks, Python's garbage collector then
    has nothing to look at.
    """
    return {"size": size, "counts": counts}


def areas(rles: Sequence[Any]) -> npt.NDArray[np.float64]:
    """The number of pixels of each mask, float64 `[n]`."""
    return np.asarray(_mask.area(list(rles)), np.float64).reshape(-1)


def box(counts: bytes, size: Size) -> list[float]:
    """The bounding box of a mask: xmin, ymin, width, height."""
    return _mask.to_bbox(as_rle(counts, size)).tolist()
