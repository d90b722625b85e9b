"""Reads the usual CSV of boxes: filename,width,height,class,xmin,ymin,xmax,ymax."""

from __future__ import annotations

import csv
from pathlib import Path

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

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_REQUIRED = ("filename", "class", *_EDGES)


def read_csv(path: Path, images: ImageFolder) -> Annotations:
    """Reads one CSV file: a box a row, in pixels.

    Args:
      path: the file, comma-separated, in UTF-8. Its first line names the columns, in any order: filename, class, xmin,
        ymin, xmax, ymax, and if known the size of the image as annotated, width and height. Others are not looked at.
        A row without class and box stands for an image without objects.
      images: where the image files are.

    Returns:
      The annotations, with ids from 1 for the class names in alphabetical order.

    Raises:
      ODEvalError: the file cannot be read, or a column is missing.
    """
    by_name: dict[str, AnnotatedImage | None] = {}  # None: no such file
    remarks: list[Remark] = []
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, skipinitialspace=True)
            columns = [column.strip().lower() for column in next(rows, [])]
            missing = [column for column in _REQUIRED if column not in columns]
            if missing:
                raise ODEvalError(
                    f"annotation file '{path}', line 1: no column {', '.join(missing)}; found {', '.join(columns)!r}."
                )
            for values in rows:
                line, first_line = rows.line_num, line + 1
                where = f"{path}: line {first_line}"
                if not any(value.strip() for value in values):
                    continue
                row = dict(zip(columns, (value.strip() for value in values), strict=False))
                if len(values) < len(columns) or not row["filename"]:
                    remarks.append(Remark("row incomplete", where, ",".join(values), "object"))
                    continue
                name = row["filename"]
                size = size_or_none(row.get("width"), row.get("height"))
                if name not in by_name:
                    by_name[name] = _new_image(name, size, where, images, remarks)
                image = by_name[name]
                if image is None or not any(row[column] for column in ("class", *_EDGES)):
                    continue
                if size != image.size:
                    detail = f"{name}: {size}, but {image.size} in {image.where}"
                    remarks.append(Remark("row with another width and height", where, detail, "object"))
                    continue
                left, top, right, bottom = (number(row[edge]) for edge in _EDGES)
                image.objects.append(AnnotatedObject(row["class"], (left, top, right, bottom), where))
    except OSError as error:
        raise ODEvalError(f"annotation file '{path}' cannot be read: {error.strerror}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ODEvalError(f"annotation file '{path}', after line {line}, is not CSV in UTF-8: {error}.") from error
    found = [image for image in by_name.values() if image is not None]
    return Annotations(found, categories_of(found), remarks=remarks)


def _new_image(
    name: str, size: tuple[int, int] | None, where: str, images: ImageFolder, remarks: list[Remark]
) -> AnnotatedImage | None:
    try:
        filename = images.find(name)
    except ImageNotFound as error:
        remarks.append(Remark("image file missing", where, str(error), "image"))
        return None
    return AnnotatedImage(images.path(filename), filename, name, filename, size, [], where)
