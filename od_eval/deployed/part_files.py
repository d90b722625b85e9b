"""The file of what was found in a part of a labeled set: NumPy's arrays and JSON, nothing that could run code."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from od_eval import files
from od_eval.deployed.measurements import DetectedImage
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, GroundTruth
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.masks import as_rle

Objects = TypeVar("Objects", Detections, GroundTruth)
Arrays = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass
class AboutPart:
    """What is known of a part before its detections are looked at.

    Attributes:
      ids: of its images, as the data have them.
      sizes: height and width of each.
      num_detections: of all of them.
      left_out: what could not be evaluated.
      peak_memory: of the process that ran the model; None if nothing tells it.
    """

    ids: list[ImageId]
    sizes: list[tuple[int, int]]
    num_detections: int
    left_out: LeftOut
    peak_memory: float | None


def contents(images: Sequence[DetectedImage], left_out: LeftOut, peak_memory: float | None) -> bytes:
    """The contents of a file.

    Args:
      images: what was found; masks are RLEs. Pixels are not kept.
      left_out: what could not be evaluated.
      peak_memory: as in `AboutPart`.
    """
    facts = {
        "ids": [image.id for image in images],
        "sizes": [image.size for image in images],
        "num_detections": sum(len(image.detections.classes[0]) for image in images),
        "left_out": left_out.to_json(),
        "peak_memory": peak_memory,
    }
    arrays: dict[str, Any] = {
        "about": _of_json(facts),
        "milliseconds": np.array([image.milliseconds for image in images]),
        **_columns("detections", [image.detections for image in images]),
        **_columns("objects", [image.objects for image in images]),
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def about(path: str) -> AboutPart:
    """What is known of the part that a file is of.

    Raises:
      ODEvalError: it cannot be read.
    """
    return _about(_load(path))


def images_of(path: str) -> Iterator[DetectedImage]:
    """What was found in the images of a file, without pixels; raises as `about`."""
    arrays = _load(path)
    part = _about(arrays)
    detections = _objects(Detections, "detections", arrays, part.sizes)
    objects = _objects(GroundTruth, "objects", arrays, part.sizes)
    rows = zip(part.ids, part.sizes, objects, detections, arrays["milliseconds"].tolist(), strict=True)
    for id, size, of_image, found, milliseconds in rows:
        yield DetectedImage(id, size, of_image, found, milliseconds)


def _about(arrays: Arrays) -> AboutPart:
    read = _json_of(arrays["about"])
    return AboutPart(
        read["ids"],
        list(map(tuple, read["sizes"])),
        read["num_detections"],
        LeftOut.from_json(read["left_out"]),
        read["peak_memory"],
    )


def _columns(name: str, batches: Sequence[Any]) -> Arrays:
    """The objects of images as arrays: of all images behind each other, and how many each has."""
    if not batches:
        return {}
    arrays = {f"{name}/num": np.array([len(batch.classes[0]) for batch in batches])}
    for field in dataclasses.fields(batches[0]):
        columns = [getattr(batch, field.name) for batch in batches]
        if any(column is None for column in columns):
            continue
        if field.name == "masks":
            rles = [[mask["counts"].decode("ascii") for mask in masks[0]] for masks in columns]
            arrays[f"{name}/masks"] = _of_json(rles)
        else:
            arrays[f"{name}/{field.name}"] = np.concatenate([np.asarray(column[0]) for column in columns])
    return arrays


def _objects(kind: type[Objects], name: str, arrays: Arrays, sizes: Sequence[tuple[int, int]]) -> Iterator[Objects]:
    """What `_columns` was given: the objects of each image as a batch of one."""
    if not sizes:
        return
    numbers = arrays[f"{name}/num"]
    starts = np.cumsum(numbers) - numbers
    own = [field.name for field in dataclasses.fields(kind) if f"{name}/{field.name}" in arrays]
    columns = {column: arrays[f"{name}/{column}"] for column in own if column not in ("masks", "num")}
    masks = _json_of(arrays[f"{name}/masks"]) if "masks" in own else None
    for index, (start, number) in enumerate(zip(starts, numbers, strict=True)):
        of_image: dict[str, Any] = {column: [rows[start : start + number]] for column, rows in columns.items()}
        if masks is not None:
            of_image["masks"] = [[as_rle(counts.encode("ascii"), sizes[index]) for counts in masks[index]]]
        yield kind(**of_image)


def _load(path: str) -> Arrays:
    with files.errors_as_sentences(f"'{path}' cannot be read"):
        contents = files.read_bytes(path)
    try:
        return dict(np.load(io.BytesIO(contents), allow_pickle=False))
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ODEvalError(f"'{path}' is damaged ({error}); remove it, so that its images are read again.") from error


def _of_json(value: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _json_of(array: npt.NDArray[np.uint8]) -> Any:
    return json.loads(array.tobytes())
