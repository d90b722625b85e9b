"""Reads the usual CSV of boxes: filename,width,height,class,xmin,ymin,xmax,ymax."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter

from od_eval import files
from od_eval.data.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Remark,
    categories_of,
    number,
    size_or_none,
)
from od_eval.data.images import ImageFolder, ImageNotFound
from od_eval.errors import ODEvalError
from od_eval.text import short

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_REQUIRED = ("filename", "class", *_EDGES)


def read_csv(path: files.Path, images: ImageFolder) -> Annotations:
    """Reads one CSV file: one box per row, in pixels.

    Args:
      path: the file, on any file system, comma-separated, in UTF-8. Its first line names the columns, in any order:
        filename, class, xmin, ymin, xmax, ymax, and if known the size of the image as annotated, width and height.
        Other columns are ignored. A row without class and box stands for an image without objects.
      images: the folder of the image files.

    Returns:
      The annotations, with ids from 1 for the class names in alphabetical order.

    Raises:
      ODEvalError: the file cannot be read, or a column is missing.
    """
    path = os.fspath(path)
    try:
        text = files.read_text(path)
    except OSError as error:
        raise ODEvalError(f"annotation file '{path}' cannot be read: {files.reason(error)}.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start)
        raise _not_csv(path, line, error) from error
    annotated: dict[str, AnnotatedImage | None] = {}  # by the name in the file; None if the image file is missing
    remarks: list[Remark] = []
    lost: Counter[str] = Counter()
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    line = 1
    try:
        columns = _read_columns(path, next(rows, []))
        for values in rows:
            where = f"{path}: line {line + 1}"  # the first line of the row, which may have several
            line = rows.line_num
            if not any(value.strip() for value in values):
                continue
            row = dict(zip(columns, (value.strip() for value in values), strict=False))
            name = row.get("filename", "")
            is_complete = len(values) >= len(columns) and bool(name)
            if not is_complete:
                remarks.append(Remark("row incomplete", where, ",".join(values), "object"))
            if not name:
                continue
            size = size_or_none(row.get("width"), row.get("height"))
            if name not in annotated:
                annotated[name] = _new_image(name, size, where, images, remarks)
            image = annotated[name]
            if not is_complete:
                if image is not None:
                    image.num_unreadable += 1
                continue
            if not any(row[column] for column in ("class", *_EDGES)):
                continue
            if image is None:
                lost[row["class"]] += 1
                continue
            if size != image.size:
                detail = f"{name}: {size}, but {image.size} in {image.where}"
                remarks.append(Remark("row with another width and height", where, detail, "object"))
                image.num_unreadable += 1
                continue
            left, top, right, bottom = (number(row[edge]) for edge in _EDGES)
            image.objects.append(AnnotatedObject(row["class"], (left, top, right, bottom), where))
    except csv.Error as error:
        raise _not_csv(path, line, error) from error
    with_file = [image for image in annotated.values() if image is not None]
    return Annotations(with_file, categories_of(with_file), remarks=remarks, lost=lost)


def _read_columns(path: str, header: list[str]) -> list[str]:
    columns = [column.strip().lower() for column in header]
    missing = [column for column in _REQUIRED if column not in columns]
    if missing:
        raise ODEvalError(
            f"annotation file '{path}', line 1: no column {', '.join(missing)}; found {short(', '.join(columns), 200)}."
        )
    return columns


def _not_csv(path: str, line: int, error: Exception) -> ODEvalError:
    return ODEvalError(f"annotation file '{path}', after line {line}, is not CSV in UTF-8: {error}.")


def _new_image(
    name: str, size: tuple[int, int] | None, where: str, images: ImageFolder, remarks: list[Remark]
) -> AnnotatedImage | None:
    try:
        filename = images.find(name)
    except ImageNotFound as error:
        remarks.append(Remark(error.reason, where, str(error), "image"))
        return None
    return AnnotatedImage(images.path(filename), filename, name, filename, size, [], where)
