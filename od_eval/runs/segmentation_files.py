"""The files of an evaluation of semantic segmentation, beside those of other analyses: analysis/step-00001000/.

    segmentation_images.csv       a row an image, the worst first
    segmentation_confusion.csv    pixels by actual class (rows) and predicted class (columns)
    segmentation_labels.zip       of the pictures in images.zip: 000000.groundtruth.png, 000000.prediction.png

A label image has one channel, as large as its picture: indices of classes in ascending order of their ids, 255 where
the label is ignored; of more than 255 classes it has 16 bits, and 65535 there.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import zipfile
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation.columns import ImageId, Size
from od_eval.evaluation.segmentation.images import SegmentedImages
from od_eval.figures import segmentation_colors
from od_eval.runs import analysis_files
from od_eval.runs.image_archive import member_name
from od_eval.text import csv_text

IMAGES = "segmentation_images.csv"
CONFUSION = "segmentation_confusion.csv"
LABELS = "segmentation_labels.zip"
# The parts of the names in the archive, and what they show.
_SIDES = ("groundtruth", "prediction")

LabelImage = npt.NDArray[Any]  # uint8 or uint16 [height, width]


# ---- Reading --------------------------------------------------------------------------------------------------------


def has_segmentation(run_dir: str, step: int) -> bool:
    """Whether a run has the files of an evaluation of semantic segmentation at a step."""
    return files.exists(os.path.join(analysis_files.of_step(run_dir, step), IMAGES))


def read_images(run_dir: str, step: int) -> list[dict[str, Any]]:
    """The images of an evaluation, the worst first.

    Returns:
      For each image `image_id`, as text; `pixels`, the number of those with a label; `wrong`, how many of these are of
      another class; `pixel_accuracy` and `IoU`, the mean over the classes in the image, None without pixels;
      `worst_class`, the name of the one with the most wrong pixels, None if none is wrong; `picture`, its name in the
      run's images.zip, and `index`, for `read_labels`, None where it has no picture.

    Raises:
      ODEvalError: the file is missing or damaged.
    """
    with _damage_as_sentence(run_dir, step, IMAGES) as path:
        return [
            {
                "image_id": _text(row["image_id"]),
                "pixels": int(row["pixels"]),
                "wrong": int(row["wrong"]),
                "pixel_accuracy": float(row["pixel_accuracy"]) if row["pixel_accuracy"] else None,
                "IoU": float(row["IoU"]) if row["IoU"] else None,
                "worst_class": _text(row["worst_class"]) or None,
                "picture": row["picture"] or None,
                "index": int(row["index"]) if row["index"] else None,
            }
            for row in csv.DictReader(io.StringIO(files.read_text(path)))
        ]


def read_confusion(run_dir: str, step: int) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The names of the classes, and how many pixels of each (rows) are predicted as each (columns).

    Raises:
      ODEvalError: the file is missing or damaged.
    """
    with _damage_as_sentence(run_dir, step, CONFUSION) as path:
        header, *rows = csv.reader(io.StringIO(files.read_text(path)))
        names = [_text(name) for name in header[1:]]
        counts = np.array([[int(number) for number in row[1:]] for row in rows], np.int64)
        return names, counts.reshape(len(names), len(names))


def read_labels(run_dir: str, step: int, index: int) -> tuple[LabelImage, LabelImage]:
    """The label images of a picture: ground truth and prediction, uint8 or uint16 `[height, width]`.

    Args:
      run_dir, step: the run and the step.
      index: as `read_images` has it.

    Raises:
      ODEvalError: the file is missing or damaged, or has no such image.
    """
    groundtruth, prediction = (_decoded(png) for png in read_label_files(run_dir, step, index))
    return groundtruth, prediction


def read_label_files(run_dir: str, step: int, index: int) -> tuple[bytes, bytes]:
    """As `read_labels`, the contents of the two PNG files.

    Raises:
      ODEvalError: the file is missing or damaged, or has no such image.
    """
    with _damage_as_sentence(run_dir, step, LABELS) as path:
        archive = _open_labels(path, files.modified(path))
        groundtruth, prediction = (archive.read(_label_name(index, side)) for side in _SIDES)
        return groundtruth, prediction


# Opened once for all images; of another time of modification it is another file.
@functools.lru_cache(maxsize=4)
def _open_labels(path: str, modified: float) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(files.read_bytes(path)))


def ignored(num_classes: int) -> int:
    """What stands in a label image where the label is ignored."""
    return 255 if num_classes <= 255 else 65535


def class_names(categories: Mapping[int, str]) -> list[str]:
    """The names of the classes in ascending order of their ids."""
    return [categories[id] for id in sorted(categories)]


def class_colors(num_classes: int) -> list[str]:
    """The color of each class in every picture, `#rrggbb`, in ascending order of their ids."""
    return ["#{:02x}{:02x}{:02x}".format(*color) for color in segmentation_colors.class_colors(num_classes).tolist()]


@contextlib.contextmanager
def _damage_as_sentence(run_dir: str, step: int, name: str) -> Iterator[str]:
    """The path of a file; whatever is wrong with it becomes an `ODEvalError`."""
    path = os.path.join(analysis_files.of_step(run_dir, step), name)
    try:
        yield path
    except FileNotFoundError as error:
        raise ODEvalError(f"there is no '{path}'; evaluate the segmentation of this step again.") from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error, zipfile.BadZipFile) as error:
        raise ODEvalError(
            f"'{path}' is damaged ({files.reason(error)}); evaluate the segmentation of this step again."
        ) from error


def _text(cell: str) -> str:
    """A text as it was before it was made safe for spreadsheets."""
    return cell[1:] if cell[:1] == "'" and csv_text(cell[1:]) == cell else cell


def _decoded(png: bytes) -> LabelImage:
    image = Image.open(io.BytesIO(png))
    return np.asarray(image, np.uint8 if image.mode == "L" else np.uint16)


# ---- Writing --------------------------------------------------------------------------------------------------------


def images_csv(
    images: SegmentedImages, names: Sequence[str], pictures: Sequence[str], labels: Container[ImageId] = ()
) -> str:
    """The contents of segmentation_images.csv.

    Args:
      images: what became of each image.
      names: the names of all classes in ascending order of their ids.
      pictures: the names in the run's images.zip, in its order.
      labels: the ids of the images that have label images.
    """
    places = {picture: index for index, picture in enumerate(pictures)}
    order = images.worst_first().tolist()
    files_of = [member_name(images.ids[row]) for row in order]
    return analysis_files.table_csv(
        [
            ("image_id", [str(images.ids[row]) for row in order]),
            ("pixels", images.pixels[order]),
            ("wrong", images.wrong[order]),
            ("pixel_accuracy", images.pixel_accuracy[order]),
            ("IoU", images.iou[order]),
            ("worst_class", [names[index] if index >= 0 else None for index in images.worst_class[order].tolist()]),
            ("picture", [name if name in places else None for name in files_of]),
            (
                "index",
                [
                    places.get(name) if images.ids[row] in labels else None
                    for row, name in zip(order, files_of, strict=True)
                ],
            ),
        ]
    )


def confusion_csv(confusion: npt.NDArray[np.int64], names: Sequence[str]) -> str:
    """The contents of segmentation_confusion.csv.

    Args:
      confusion: int64 `[classes, classes]`: pixels by actual class (rows) and predicted class (columns).
      names: the names of the classes.
    """
    return analysis_files.table_csv([("actual", names), *zip(names, confusion.T, strict=True)])


class LabelArchive:
    """Label images of an evaluation, as large as its pictures.

    Args:
      categories: id -> name, of every class.
    """

    def __init__(self, categories: Mapping[int, str]):
        self._ids = np.array(sorted(categories))
        self._ignored = ignored(len(categories))
        self._images: dict[str, tuple[bytes, ...]] = {}  # name of the picture -> ground truth, prediction

    def add(
        self, image_id: ImageId, size: Size, labels: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]
    ) -> None:
        """Adds an image.

        Args:
          image_id: the image.
          size: height and width of its picture.
          labels: int `[height, width]`: ids of categories; any other number is ignored.
          prediction: int `[height, width]`: indices of classes in ascending order of their ids.
        """
        indices = np.minimum(np.searchsorted(self._ids, labels), len(self._ids) - 1)
        groundtruth = np.where(self._ids[indices] == labels, indices, self._ignored)
        self._images[member_name(image_id)] = tuple(self._png(image, size) for image in (groundtruth, prediction))

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, int | str) and member_name(image_id) in self._images

    def images(self, image_id: ImageId) -> tuple[LabelImage, LabelImage]:
        """Ground truth and prediction of an image, int `[height, width]`: indices of classes, -1 for ignored ones.

        Raises:
          KeyError: it has not been added.
        """
        groundtruth, prediction = (_decoded(png).astype(np.int32) for png in self._images[member_name(image_id)])
        return np.where(groundtruth == self._ignored, -1, groundtruth), prediction

    def _png(self, labels: npt.NDArray[np.integer], size: Size) -> bytes:
        small = Image.fromarray(labels.astype(np.uint8 if self._ignored == 255 else np.uint16))
        contents = io.BytesIO()
        small.resize((size[1], size[0]), Image.Resampling.NEAREST).save(contents, "PNG")
        return contents.getvalue()

    def contents(self, pictures: Sequence[str]) -> bytes:
        """The archive as a file.

        Args:
          pictures: the names in the run's images.zip, in its order.
        """
        contents = io.BytesIO()
        with zipfile.ZipFile(contents, "w", zipfile.ZIP_STORED) as archive:
            for index, picture in enumerate(pictures):
                for side, png in zip(_SIDES, self._images.get(picture, ()), strict=False):
                    archive.writestr(zipfile.ZipInfo(_label_name(index, side)), png)
        return contents.getvalue()


def _label_name(index: int, side: str) -> str:
    return f"{index:06d}.{side}.png"
