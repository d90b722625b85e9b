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
from collections.abc import Container, Mapping, Sequence, Set
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.label_suspects import Kind
from od_eval.evaluation.object_columns import MATCH_COLUMNS
from od_eval.evaluation.object_table import ERROR_KINDS, IouType
from od_eval.runs import analysis_files, image_archive, metrics_files, segmentation_files
from od_eval.runs.comparison import compare
from od_eval.runs.object_files import FILE_NAMES, read_about, read_rows
from od_eval.runs.object_history import load_object_history

# More than a person looks through.
MAX_SUSPECTS = 1000
# Those of all evaluations have to be missed in so many: `over_time.persistent_suspects`.
_ENOUGH_EVALUATIONS = 3
# Of a list of evaluations: name -> section and metric.
_LISTED_METRICS = {
    "AP": ("bbox", "AP"),
    "AP50": ("bbox", "AP50"),
    "segm_AP": ("segm", "AP"),
    "segm_AP50": ("segm", "AP50"),
    "IoU": ("segmentation", "IoU"),
    "pixel_accuracy": ("segmentation", "pixel_accuracy"),
}


def index(runs: Mapping[str, str]) -> dict[str, Any]:
    """The runs that have evaluations, by name, and what there is of each evaluation, by step.

    Args:
      runs: name -> folder. Those without evaluations are left out, and so is a file that is damaged.

    Returns:
      {"runs": [{"name": "eval", "evaluations": [{"step": 1000, "iou_types": ["bbox"], "has_objects": true,
      "has_segmentation": false, "has_pixels": false, "metrics": {"AP": 0.5, "AP50": 0.7}}]}]}. The two of
      semantic segmentation say whether there are its metrics, and its files.
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


def objects(
    run_dir: str,
    step: int,
    iou_type: IouType,
    with_pictures: Container[int] | None = None,
    image_id: str | None = None,
) -> bytes:
    """The object table of a step, by boxes (`bbox`) or masks (`segm`), for `parseTable` in static/table.js.

    Args:
      run_dir: the folder of the run.
      step: the step of the evaluation.
      iou_type: `bbox` or `segm`.
      with_pictures: the indices of the images of which the page has a picture; by default those that the run keeps.
      image_id: the id of the only image that the table is to have; it has none if there is no such image.

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
      `uncounted`, of objects `ignored`, `crowd` and `difficult`. Where masks are matched, `mask` has the compressed
      counts of their RLEs, as bytes, one behind the other, each of the size of its image, and `mask_begin` `[rows + 1]`
      where each begins; of images without a picture it has none.

    Raises:
      ODEvalError: there is no such table, or it is damaged.
    """
    path = _objects_path(run_dir, step, iou_type)
    rows, about = read_rows(path, with_masks=iou_type == "segm", image_id=image_id)
    if with_pictures is None:
        with_pictures = _kept_images(run_dir, about["images"])
    if image_id is not None:
        indices = [index for index, (id, *_) in enumerate(about["images"]) if str(id) == image_id][:1]
        rows["image"] = 0
        with_pictures = {0} if any(index in with_pictures for index in indices) else set()
        about["images"] = [about["images"][index] for index in indices]
    categories = [{"id": int(id), "name": name} for id, name in about["categories"].items()]
    images = [
        {"id": str(id), "width": width, "height": height, "has_picture": index in with_pictures}
        for index, (id, height, width) in enumerate(about["images"])
    ]
    num_detections = int((rows["kind"] == "detection").sum())
    detections, groundtruth = rows.iloc[:num_detections], rows.iloc[num_detections:]
    of_detections = {
        **_columns_of_both(detections, groundtruth),
        "score": detections["score"].to_numpy(np.float64),
        "uncounted": detections["ignored"].to_numpy(np.uint8),
    }
    of_objects = {
        **_columns_of_both(groundtruth, detections),
        **{name: groundtruth[name].to_numpy(np.uint8) for name in ("ignored", "crowd", "difficult")},
    }
    if iou_type == "segm":
        has_picture = [image["has_picture"] for image in images]
        of_detections |= _masks(detections, has_picture)
        of_objects |= _masks(groundtruth, has_picture)
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
    return picture(run_dir, image_archive.member_name(ids[index])) if 0 <= index < len(ids) else None


def picture(run_dir: str, name: str) -> bytes | None:
    """A picture of a run's archive of images as JPEG, by its name there; None if it has none of that name.

    Raises:
      ODEvalError: it cannot be read.
    """
    pictures = _pictures(run_dir)
    try:
        return pictures.read(name) if pictures is not None and name in pictures.NameToInfo else None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ODEvalError(f"'{name}' of the images of '{run_dir}' cannot be read: {files.reason(error)}.") from error


def suspects(run_dir: str, step: int, iou_type: IouType) -> dict[str, Any]:
    """Labels that are probably wrong, most suspicious first, of `od_eval.evaluation.analyses.label_suspects`.

    Many evaluations judge better than one: the suspects of the kinds "missing" and "extra" are those of all evaluations
    of the run, if it has enough of them and their file is of these images and labels. The other kinds, and else all,
    are those of the step.

    Args:
      run_dir, step, iou_type: as for `objects`.

    Returns:
      * `images`, `categories` and `annotations` in COCO's format, as `suspects_json` describes them there; `images` are
        those that have suspects, `annotations` the first `MAX_SUSPECTS`.
      * `image_indices`: of each of `images` its index in the object table of the step.
      * `num_found`: how many suspects there are.
      * `num_evaluations`: how many evaluations "missing" and "extra" rest on.

    Raises:
      ODEvalError: there are no files of suspects, or one is damaged.
    """
    path = os.path.join(
        analysis_files.of_step(run_dir, step), analysis_files.file_name("label_suspects", iou_type, "json")
    )
    if not files.exists(path):
        raise ODEvalError(f"there is no '{path}': the analysis of its labels failed, or the file was removed.")
    content = _coco(path)
    found, num_evaluations = content["annotations"], 1
    of_all = os.path.join(run_dir, analysis_files.FOLDER, analysis_files.file_name("label_suspects", "bbox", "json"))
    if iou_type == "bbox" and files.exists(of_all):
        steps = _history(run_dir, iou_type).attrs["steps"]
        if len(steps) >= _ENOUGH_EVALUATIONS and _fingerprint(run_dir, step) == _fingerprint(run_dir, steps[-1]):
            others = [one for one in found if one["attributes"]["suspect"] not in ("missing", "extra")]
            found, num_evaluations = [*_coco(of_all)["annotations"], *others], len(steps)
            found.sort(key=lambda annotation: -annotation["attributes"]["suspicion"])
    shown = [{**annotation, "id": index} for index, annotation in enumerate(found[:MAX_SUSPECTS], 1)]
    ids = {annotation["image_id"] for annotation in shown}
    indices = [index for index, image in enumerate(content["images"]) if image["id"] in ids]
    return {
        "images": [content["images"][index] for index in indices],
        "categories": content["categories"],
        "annotations": shown,
        "image_indices": indices,
        "num_found": len(found),
        "num_evaluations": num_evaluations,
    }


def comparison(run_dir_a: str, step_a: int, run_dir_b: str, step_b: int, iou_type: IouType) -> dict[str, Any]:
    """The metrics of two evaluations, and whether chance explains their differences. It takes seconds for large sets.

    Args:
      run_dir_a, step_a: the folder of the run and the step of A.
      run_dir_b, step_b: the same of B.
      iou_type: `bbox` or `segm`.

    Returns:
      What `od_eval.evaluation.analyses.comparison.Comparison.to_dict` gives, of the images and categories that both
      have with the same objects.

    Raises:
      ODEvalError: a table of objects is not there or damaged, or the two have nothing in common.
    """
    stamps = []
    for run_dir, step in ((run_dir_a, step_a), (run_dir_b, step_b)):
        path = _objects_path(run_dir, step, iou_type)
        if not files.exists(path):
            raise ODEvalError(f"there is no table of objects of step {step} in '{run_dir}'.")
        stamps.append((run_dir, step, files.modified(path)))
    compared: dict[str, Any] = _compared(*stamps)[iou_type]
    return compared


def history(run_dir: str, iou_type: IouType) -> dict[str, Any]:
    """What became of each object through the evaluations of a run.

    Args:
      run_dir: the folder of the run.
      iou_type: `bbox` or `segm`.

    Returns:
      * `steps` of the evaluations; `num_evaluation_sets`, `num_not_in_all`: see
        `od_eval.evaluation.analyses.over_time.objects_over_time`.
      * `images`: [{"id": "a.jpg"}], and `categories`: [{"name": "cat"}], to which the objects refer by index.
      * `objects`: columns, by image: `image`, `category`, `x`, `y`, `width`, `height` in pixels, and `status`: as
        there, or `always`, of objects that are found in all evaluations in which they are.

    Raises:
      ODEvalError: the run has no table of objects, or one is damaged.
    """
    rows = _history(run_dir, iou_type)
    image, ids = pd.factorize(rows["image_id"])
    category, names = pd.factorize(rows["category"].astype(str))
    always = (rows["status"] == "learnt") & (rows["num_found"] == rows["num_steps"])
    in_order = np.argsort(image, kind="stable")
    columns = {
        "image": image,
        "category": category,
        **{name: rows[name].to_numpy().round(2) for name in ("x", "y", "width", "height")},
        "status": np.where(always, "always", rows["status"].astype(str)),
    }
    return {
        **rows.attrs,
        "images": [{"id": str(id)} for id in ids],
        "categories": [{"name": name} for name in names],
        "objects": {name: column[in_order].tolist() for name, column in columns.items()},
    }


def _history(run_dir: str, iou_type: IouType) -> pd.DataFrame:
    """The history of a run, read again only when there is something new, so that its warnings are said once."""
    paths = (_objects_path(run_dir, step, iou_type) for step in analysis_files.steps(run_dir))
    return _read_history(run_dir, iou_type, tuple((path, files.modified(path)) for path in paths if files.exists(path)))


# That of a large evaluation set has 10 MB.
@functools.lru_cache(maxsize=4)
def _read_history(run_dir: str, iou_type: IouType, tables: tuple[tuple[str, float], ...]) -> pd.DataFrame:
    """As `load_object_history`.

    Args:
      run_dir, iou_type: as for `objects`.
      tables: the object tables of the run, and when each was written.
    """
    model_dir, run = os.path.split(run_dir.rstrip("/"))
    return load_object_history(model_dir, run, masks=iou_type == "segm")


def _coco(path: str) -> dict[str, Any]:
    """A file of suspects, with what the page needs of it.

    Raises:
      ODEvalError: it is damaged.
    """
    try:
        content = files.read_json(path)
        json.dumps(content, allow_nan=False)  # a browser does not read NaN
        known = [{one["id"] for one in content[name]} for name in ("images", "categories")]
        for annotation in content["annotations"]:
            attributes = annotation["attributes"]
            ids = annotation["image_id"], annotation["category_id"]
            is_known = all(id in there for id, there in zip(ids, known, strict=True))
            if not is_known or attributes["suspect"] not in get_args(Kind) or not 0 <= attributes["suspicion"] <= 1:
                raise ValueError(annotation)
        return content
    except (KeyError, TypeError, ValueError) as error:
        raise ODEvalError(
            f"'{path}' is damaged: it is not a file of label suspects ({type(error).__name__}); evaluate the checkpoint"
            " again, or delete it."
        ) from error


def _fingerprint(run_dir: str, step: int) -> str:
    """Of the evaluation set of a step."""
    return evaluation(run_dir, step)["dataset"]["fingerprint"]


# Of two files that have not changed, nothing else comes out.
@functools.lru_cache(maxsize=64)
def _compared(a: tuple[str, int, float], b: tuple[str, int, float]) -> dict[str, Any]:
    """Two evaluations, compared: `RunComparison.to_dict`.

    Args:
      a, b: the folder of a run, a step, and when its table of objects was written.
    """
    # A slash before the @, so that no folder `eval@1000` is meant that may be there, too.
    of_a, of_b = (os.path.join(run_dir, f"@{step}") for run_dir, step, _ in (a, b))
    return compare(of_a, of_b).to_dict()


def _entry(run_dir: str, step: int, path: str) -> dict[str, Any] | None:
    try:
        kinds, metrics = _metrics(path, files.modified(path))
    except (ODEvalError, OSError):
        return None
    iou_types = [iou_type for iou_type in FILE_NAMES if iou_type in kinds]
    has_segmentation = "segmentation" in kinds
    return {
        "step": step,
        "iou_types": iou_types,
        "has_objects": bool(iou_types) and files.exists(_objects_path(run_dir, step, iou_types[0])),
        "has_segmentation": has_segmentation,
        "has_pixels": has_segmentation and segmentation_files.has_segmentation(run_dir, step),
        "metrics": dict(metrics),
    }


# A training has hundreds of evaluations, and the page lists them again and again.
@functools.lru_cache(maxsize=10_000)
def _metrics(path: str, modified: float) -> tuple[Set[str], tuple[tuple[str, float | None], ...]]:
    """Which of the sections with listed metrics a metrics file has, and these metrics: name, value."""
    sections = _sections(path)
    kinds = {section for section, _ in _LISTED_METRICS.values() if isinstance(sections.get(section), dict)}
    metrics = tuple(
        (name, sections[section].get(metric)) for name, (section, metric) in _LISTED_METRICS.items() if section in kinds
    )
    return frozenset(kinds), metrics


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
    return tuple(id for id, *_ in read_about(path)["images"])


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


def _columns_of_both(rows: pd.DataFrame, partners: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """The columns that detections and objects have.

    Args:
      rows, partners: of the one kind and of the other, with their places in the file as the index.
    """
    first_partner = int(partners.index[0]) if len(partners) else 0
    rows_of_partners = {
        "match": rows[[*MATCH_COLUMNS]].to_numpy(np.int32),
        **{name: rows[name].to_numpy(np.int32) for name in ("iou_row", "iou_other_row")},
    }
    category = rows["category"].cat
    return {
        "image": rows["image"].to_numpy(np.uint32),
        "category": category.codes.to_numpy(np.uint16 if len(category.categories) <= 1 << 16 else np.uint32),
        **{name: rows[name].to_numpy(np.float32) for name in ("x", "y", "width", "height", "iou", "iou_other")},
        "area": rows["area"].to_numpy(np.float64),
        **{name: np.where(row < 0, -1, row - first_partner).astype(np.int32) for name, row in rows_of_partners.items()},
        "error": _error_kinds(rows["error"]),
    }


def _masks(rows: pd.DataFrame, has_picture: Sequence[bool]) -> dict[str, npt.NDArray[Any]]:
    """The masks of rows, in images that have a picture.

    Args:
      rows: of the one kind.
      has_picture: of each image.
    """
    counts = [
        b"" if mask is None or not has_picture[image] else mask
        for mask, image in zip(rows["mask"], rows["image"].tolist(), strict=True)
    ]
    return {
        "mask": np.frombuffer(b"".join(counts), np.uint8),
        "mask_begin": np.cumsum([0, *map(len, counts)]).astype(np.uint32),
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
