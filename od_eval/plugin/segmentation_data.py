"""What the page "Detections" is given of semantic segmentation, by the server and in a report.

    segmentation("runs/a/eval", 1000)
    labels("runs/a/eval", 1000, 0)

It is read from the files that `runs/segmentation_files.py` writes; metrics are in the metrics file, as others are.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.plugin import page_data
from od_eval.runs import analysis_files, segmentation_files

# In the labels of an image.
IGNORED = 0xFFFF


def segmentation(run_dir: str, step: int, with_pictures: Container[int] | None = None) -> dict[str, Any]:
    """The classes, confusions and images of an evaluation of semantic segmentation.

    Args:
      run_dir: the folder of the run.
      step: the step of the evaluation.
      with_pictures: the indices of the images of which the page has a picture; by default those that the run keeps.

    Returns:
      * `classes`: [{"name": "cat", "color": "#e69f00"}]; what is called a class below is an index in these.
      * `confusion`: pixels by actual (rows) and predicted class (columns).
      * `images`: [{"id": "a.jpg", "pixels": 9, "wrong": 1, "pixel_accuracy": 0.9, "IoU": 0.8, "worst_class": 1,
        "has_picture": true, "confusions": [[0, 0, 8], [1, 0, 1]]}], as `segmentation_files.read_images` describes them,
        in an order that is the same at each step. `confusions` are actual class, predicted class and number of pixels,
        in the picture, which is smaller than the image; null for an image without a picture.

    Raises:
      ODEvalError: there is no such evaluation, or a file is damaged.
    """
    names, confusion = segmentation_files.read_confusion(run_dir, step)
    classes = {name: index for index, name in enumerate(names)}
    # In CSV files, control characters are escaped.
    in_metrics = [*(page_data.evaluation(run_dir, step).get("segmentation") or {}).get("per_category", ())]
    rows = _rows(run_dir, step)
    confusions = _confusions(run_dir, step, len(names))
    images = [
        {
            "id": row["image_id"],
            **{name: row[name] for name in ("pixels", "wrong", "pixel_accuracy", "IoU")},
            "worst_class": classes.get(row["worst_class"]),
            "has_picture": index in with_pictures if with_pictures is not None else row["index"] in confusions,
            "confusions": confusions.get(row["index"]),
        }
        for index, row in enumerate(rows)
    ]
    if len(in_metrics) != len(names):
        raise ODEvalError(f"the files of step {step} in '{run_dir}' are of different classes; evaluate it again.")
    colors = segmentation_files.class_colors(len(names))
    return {
        "classes": [{"name": name, "color": color} for name, color in zip(in_metrics, colors, strict=True)],
        "confusion": confusion.tolist(),
        "images": images,
    }


def image(run_dir: str, step: int, index: int) -> bytes | None:
    """The picture of an image as JPEG; None if the run does not keep it.

    Args:
      run_dir, step: as for `segmentation`.
      index: its index in `images` there.

    Raises:
      ODEvalError: there is no such evaluation, or a file is damaged.
    """
    rows = _rows(run_dir, step)
    if not 0 <= index < len(rows) or rows[index]["picture"] is None:
        return None
    return page_data.picture(run_dir, rows[index]["picture"])


def labels(run_dir: str, step: int, index: int) -> bytes | None:
    """What the pixels of the picture of an image are, for `parseLabels` in static/segmentation.js.

    Args:
      run_dir, step, index: as for `image`.

    Returns:
      Height and width as uint32, and the classes of ground truth and of prediction, each uint16 `[height, width]`,
      `IGNORED` where a pixel does not count; little endian. None if the run keeps no picture of it.

    Raises:
      ODEvalError: there is no such evaluation, or a file is damaged.
    """
    rows = _rows(run_dir, step)
    if not 0 <= index < len(rows) or rows[index]["index"] is None:
        return None
    both = [_with_ignored(one) for one in segmentation_files.read_labels(run_dir, step, rows[index]["index"])]
    return b"".join((struct.pack("<II", *both[0].shape), *(one.astype("<u2").tobytes() for one in both)))


def worst_images(segmentation: Mapping[str, Any]) -> list[int]:
    """The indices of the images of a `segmentation` that have a picture, by the part of their pixels that is wrong."""
    images = segmentation["images"]
    with_picture = [index for index, image in enumerate(images) if image["has_picture"]]
    return sorted(with_picture, key=lambda index: -images[index]["wrong"] / max(images[index]["pixels"], 1))


def _rows(run_dir: str, step: int) -> list[dict[str, Any]]:
    """The images in the order of the pictures, which does not depend on the step; those without one by their ids."""
    path = os.path.join(analysis_files.of_step(run_dir, step), segmentation_files.IMAGES)
    return _read_rows(run_dir, step, files.modified(path) if files.exists(path) else 0)


# Asked for each picture of a gallery.
@functools.lru_cache(maxsize=4)
def _read_rows(run_dir: str, step: int, modified: float) -> list[dict[str, Any]]:
    rows = segmentation_files.read_images(run_dir, step)
    return sorted(rows, key=lambda row: (row["index"] is None, row["index"] or 0, row["image_id"]))


def _confusions(run_dir: str, step: int, num_classes: int) -> Mapping[int, list[list[int]]]:
    """Index of a picture -> its `confusions`."""
    path = os.path.join(analysis_files.of_step(run_dir, step), segmentation_files.LABELS)
    return _count_confusions(run_dir, step, num_classes, files.modified(path)) if files.exists(path) else {}


# All pictures of a step are read: 2,000 take seconds.
@functools.lru_cache(maxsize=4)
def _count_confusions(run_dir: str, step: int, num_classes: int, modified: float) -> Mapping[int, list[list[int]]]:
    found = {}
    for index in (row["index"] for row in _rows(run_dir, step) if row["index"] is not None):
        groundtruth, prediction = segmentation_files.read_labels(run_dir, step, index)
        counts = groundtruth != segmentation_files.ignored(num_classes)
        numbers = np.bincount(groundtruth[counts].astype(np.int64) * num_classes + prediction[counts])
        cells = np.flatnonzero(numbers)
        found[index] = np.stack((*np.divmod(cells, num_classes), numbers[cells]), -1).tolist()
    return found


def _with_ignored(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Labels as the page has them, whatever their own value for ignored pixels is."""
    return np.where(labels == np.iinfo(labels.dtype).max, np.uint16(IGNORED), labels)
