"""What the page "Detections" is given, by the server of TensorBoard's plugin and in a report.

    index({"eval": "runs/a/eval"})
    objects("runs/a/eval", 1000, "bbox")

It is read from the files of the run. The page receives JSON, JPEG, and the object table as columns that a browser uses
as they are: see `objects`.
"""

from __future__ import annotations

import functools
import io
import json
import os
import struct
import zipfile
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation.object_columns import MATCH_COLUMNS
from od_eval.evaluation.object_table import ERROR_KINDS, IouType
from od_eval.runs import analysis_files, image_archive, metrics_files
from od_eval.runs.object_files import FILE_NAMES, read_rows

# Of a list of evaluations: name -> section and metric.
_LISTED_METRICS = {
    "AP": ("bbox", "AP"),
    "AP50": ("bbox", "AP50"),
    "segm_AP": ("segm", "AP"),
    "segm_AP50": ("segm", "AP50"),
}


def index(runs: Mapping[str, str]) -> dict[str, Any]:
    """The runs that have evaluations, by name, and what there is of each evaluation, by step.

    Args:
      runs: name -> folder. Those without evaluations are left out, and so is a file that is damaged.

    Returns:
      {"runs": [{"name": "eval", "evaluations": [{"step": 1000, "iou_types": ["bbox"], "has_objects": true,
      "metrics": {"AP": 0.5, "AP50": 0.7}}]}]}
    """
    listed = []
    for name in sorted(runs):
        steps = metrics_files.step_paths(runs[name])
        evaluations = [entry for step, path in steps.items() if (entry := _entry(runs[name], step, path)) is not None]
        if evaluations:
            listed.append({"name": name, "evaluations": evaluations})
    return {"runs": listed}


def evaluation(run_dir: str, step: int) -> dict[str, Any]:
    """The contents of the metrics file of a step.

    Raises:
      ODEvalError: there is none, or it is damaged.
    """
    path = metrics_files.step_paths(run_dir).get(step)
    if path is None:
        raise ODEvalError(f"there is no evaluation of step {step} in '{run_dir}'.")
    return _sections(path)


def objects(run_dir: str, step: int, iou_type: IouType, with_pictures: Container[int] | None = None) -> bytes:
    """The object table of a step, by boxes (`bbox`) or masks (`segm`), for `parseTable` in static/table.js.

    Args:
      run_dir: the folder of the run.
      step: the step of the evaluation.
      iou_type: `bbox` or `segm`.
      with_pictures: the indices of the images of which the page has a picture; by default those that the run keeps.

    Returns:
      A 32-bit length, little endian as all numbers; a header of that length, JSON in UTF-8; and columns, each of which
      begins at a multiple of 8. The header:

      * `iou_type`.
      * `categories`: [{"id": 1, "name": "cat"}], and `images`: [{"id": "a.jpg", "width": 640, "height": 480,
        "has_picture": true}]; ids of images are texts, a size of 0 is not known. Rows have an index in these.
      * `detections`, `objects`: {"rows": 10, "columns": {"image": {"dtype": "uint32", "offset": 0, "length": 10}}};
        `offset` counts bytes after the header, `length` values.

      Columns of both, as in `od_eval.evaluation.object_columns`: `image`, `category`, `x`, `y`, `width`, `height`,
      `area`; `match` `[rows, 10]`, the row of the partner among the other kind at IoU 0.50 to 0.95, -1 for none; `iou`,
      `iou_row`, `iou_other`, `iou_other_row`; `error`, an index in `ERROR_KINDS`. Of detections also `score` and
      `uncounted`, of objects `ignored`, `crowd` and `difficult`.

    Raises:
      ODEvalError: there is no such table, or it is damaged.
    """
    rows, about = read_rows(_objects_path(run_dir, step, iou_type))
    if with_pictures is None:
        with_pictures = _kept_images(run_dir, about["images"])
    categories = [{"id": int(id), "name": name} for id, name in about["categories"].items()]
    images = [
        {"id": str(id), "width": width, "height": height, "has_picture": index in with_pictures}
        for index, (id, height, width) in enumerate(about["images"])
    ]
    num_detections = int((rows["kind"] == "detection").sum())
    detections, groundtruth = rows.iloc[:num_detections], rows.iloc[num_detections:]
    of_detections = {
        **_columns_of_both(detections, num_detections),
        "score": detections["score"].to_numpy(np.float64),
        "uncounted": detections["ignored"].to_numpy(np.uint8),
    }
    of_objects = {
        **_columns_of_both(groundtruth, 0),
        **{name: groundtruth[name].to_numpy(np.uint8) for name in ("ignored", "crowd", "difficult")},
    }
    data = _Data()
    header = {
        "iou_type": about["iou_type"],
        "categories": categories,
        "images": images,
        "detections": {"rows": num_detections, "columns": data.append(of_detections)},
        "objects": {"rows": len(groundtruth), "columns": data.append(of_objects)},
    }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(4 + len(encoded)) % 8)
    return b"".join((struct.pack("<I", len(encoded)), encoded, *data.parts))


def image(run_dir: str, step: int, index: int) -> bytes | None:
    """An image as JPEG; None if the run does not keep it.

    Args:
      run_dir, step: as for `objects`.
      index: its index in `images` of the object tables of that step.

    Raises:
      ODEvalError: there is no table of that step, or it is damaged; or the image cannot be read.
    """
    ids = _image_ids(run_dir, step)
    pictures = _pictures(run_dir)
    if pictures is None or not 0 <= index < len(ids):
        return None
    name = image_archive.member_name(ids[index])
    try:
        return pictures.read(name) if name in pictures.NameToInfo else None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ODEvalError(f"'{name}' of the images of '{run_dir}' cannot be read: {files.reason(error)}.") from error


def _entry(run_dir: str, step: int, path: str) -> dict[str, Any] | None:
    try:
        iou_types, metrics = _metrics(path, files.modified(path))
    except (ODEvalError, OSError):
        return None
    has_objects = bool(iou_types) and files.exists(_objects_path(run_dir, step, iou_types[0]))
    return {"step": step, "iou_types": list(iou_types), "has_objects": has_objects, "metrics": dict(metrics)}


# A training has hundreds of evaluations, and the page lists them again and again.
@functools.lru_cache(maxsize=10_000)
def _metrics(path: str, modified: float) -> tuple[tuple[IouType, ...], tuple[tuple[str, float | None], ...]]:
    """The kinds of matches in a metrics file, and the listed ones: name, value."""
    sections = _sections(path)
    iou_types = tuple(iou_type for iou_type in FILE_NAMES if isinstance(sections.get(iou_type), dict))
    metrics = tuple(
        (name, sections[section].get(metric))
        for name, (section, metric) in _LISTED_METRICS.items()
        if section in iou_types
    )
    return iou_types, metrics


def _sections(path: str) -> dict[str, Any]:
    try:
        sections = files.read_json(path)
        json.dumps(sections, allow_nan=False)  # a browser does not read NaN
    except ValueError as error:
        raise ODEvalError(f"'{path}' is damaged: {error}; delete it or move it away.") from error
    if not isinstance(sections, dict):
        raise ODEvalError(f"'{path}' is damaged: it is not a JSON object; delete it or move it away.")
    return sections


def _objects_path(run_dir: str, step: int, iou_type: IouType) -> str:
    return os.path.join(analysis_files.of_step(run_dir, step), FILE_NAMES[iou_type])


def _image_ids(run_dir: str, step: int) -> tuple[int | str, ...]:
    """The ids of the images of a step, in their order in its object tables.

    Raises:
      ODEvalError: there is no table of that step, or it is damaged.
    """
    there = [path for iou_type in FILE_NAMES if files.exists(path := _objects_path(run_dir, step, iou_type))]
    if not there:
        raise ODEvalError(f"there is no table of objects of step {step} in '{run_dir}'.")
    return _ids_in(there[0], files.modified(there[0]))


@functools.lru_cache(maxsize=16)
def _ids_in(path: str, modified: float) -> tuple[int | str, ...]:
    _, about = read_rows(path)
    return tuple(id for id, *_ in about["images"])


def _kept_images(run_dir: str, images: Sequence[tuple[int | str, int, int]]) -> set[int]:
    archive = _pictures(run_dir)
    if archive is None:
        return set()
    return {index for index, (id, *_) in enumerate(images) if image_archive.member_name(id) in archive.NameToInfo}


def _pictures(run_dir: str) -> zipfile.ZipFile | None:
    """The archive of a run's images; None if there is none that can be read."""
    path = os.path.join(run_dir, image_archive.FILE_NAME)
    try:
        return _open_archive(path, files.modified(path)) if files.exists(path) else None
    except (OSError, zipfile.BadZipFile):
        return None


# Opened once for all pictures of a gallery; of another time of modification it is another file.
@functools.lru_cache(maxsize=4)
def _open_archive(path: str, modified: float) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(files.read_bytes(path)) if files.is_remote(path) else files.open_local(path))


def _columns_of_both(rows: pd.DataFrame, first_partner: int) -> dict[str, npt.NDArray[Any]]:
    """The columns that detections and objects have.

    Args:
      rows: of the one kind.
      first_partner: the row of the first of the other kind in the file.
    """
    partners = {
        "match": rows[[*MATCH_COLUMNS]].to_numpy(np.int32),
        **{name: rows[name].to_numpy(np.int32) for name in ("iou_row", "iou_other_row")},
    }
    category = rows["category"].cat
    return {
        "image": rows["image"].to_numpy(np.uint32),
        "category": category.codes.to_numpy(np.uint16 if len(category.categories) <= 1 << 16 else np.uint32),
        **{name: rows[name].to_numpy(np.float32) for name in ("x", "y", "width", "height", "iou", "iou_other")},
        "area": rows["area"].to_numpy(np.float64),
        **{name: np.where(row < 0, -1, row - first_partner).astype(np.int32) for name, row in partners.items()},
        "error": _error_kinds(rows["error"]),
    }


def _error_kinds(errors: pd.Series[Any]) -> npt.NDArray[np.uint8]:
    of_code = np.array([ERROR_KINDS.index(kind) for kind in errors.cat.categories], np.uint8)
    return of_code[errors.cat.codes.to_numpy()]


class _Data:
    """The columns of a table, one behind the other: `parts`, to be joined."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._length = 0

    def append(self, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, dict[str, int | str]]:
        """Appends columns, and returns where each is."""
        places: dict[str, dict[str, int | str]] = {}
        for name, column in columns.items():
            places[name] = {"dtype": column.dtype.name, "offset": self._length, "length": column.size}
            part = column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes()
            padding = b"\0" * (-len(part) % 8)
            self.parts += (part, padding)
            self._length += len(part) + len(padding)
        return places
