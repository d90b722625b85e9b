"""images.zip: the images of a run's evaluation set, small, for people to look at.

It is filled while the first evaluation runs, and read to draw the images in which something is wrong.
"""

from __future__ import annotations

import io
import os
import sys
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from od_eval import files
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.segmentation.batch import SegmentationBatch
from od_eval.figures.pictures import file_name

FILE_NAME = "images.zip"
# About 40 MB.
MOST_IMAGES = 2000
LONG_SIDE = 320
_QUALITY = 85
# Two pictures whose levels of gray, from 0 to 255, differ by no more on average are of the same image: JPEG alters
# them.
_SAME_LEVELS = 4


class ImageArchive:
    """A `BatchEvaluator` that only collects images, as JPEG, and returns no section.

    Images that are in the archive already are not encoded again. An archive of another evaluation set is replaced: one
    of other ids, or, which is said, one whose picture of the first image shows another (ids may be numbers, and the
    order not the same each time).

    Args:
      run_dir: the folder of the run.
      before: the archive of the last evaluation, or the file is read.
      most: the number of images to keep: the first ones.
    """

    def __init__(self, run_dir: str, before: ImageArchive | None = None, most: int = MOST_IMAGES):
        self._path = os.path.join(run_dir, FILE_NAME)
        self._most = most
        self._seen: dict[str, bytes | None] = {}  # None: as in the archive
        self._num_left_out = 0
        self._error: Exception | None = None
        self._archived: dict[str, bytes] = self._read_archive() if before is None else before._archived

    def update(self, batch: EvaluationBatch | SegmentationBatch) -> None:
        if self._error is not None:
            return
        try:
            for image_id, image in zip(batch.image_ids, batch.images, strict=False):  # it may have the first ones only
                self.add(image_id, image)
            if len(self._seen) == self._most:  # other workers do not even send what has no room
                self._num_left_out += len(batch.image_ids) - len(batch.images)
        except Exception as error:  # an evaluation does not fail for its pictures; `write` raises it
            self._error = error

    def add(self, image_id: ImageId, image: npt.NDArray[Any]) -> None:
        """Adds an image, uint8 `[height, width, 3]`."""
        name = member_name(image_id)
        if name in self._seen:
            return
        if len(self._seen) == self._most:
            self._num_left_out += 1
        elif name in self._archived and (self._seen or self._shows(name, np.asarray(image))):
            self._seen[name] = None
        else:
            self._seen[name] = _jpeg(np.asarray(image))

    def merge(self, other: ImageArchive) -> None:
        self._error = self._error or other._error
        self._num_left_out += other._num_left_out
        for name, contents in other._seen.items():
            if len(self._seen) < self._most:
                self._seen.setdefault(name, contents)
            elif name not in self._seen:
                self._num_left_out += 1

    def evaluate(self) -> dict[str, Any]:
        return {}

    def write(self) -> int:
        """Writes the archive if it has changed; returns the number of images that had no room.

        Raises:
          Exception: whatever was wrong with an image; the file cannot be written.
        """
        if self._error is not None:
            raise self._error
        if self._seen and self._seen.keys() != self._archived.keys():
            images = {name: self._archived[name] if jpeg is None else jpeg for name, jpeg in self._seen.items()}
            contents = io.BytesIO()
            with zipfile.ZipFile(contents, "w", zipfile.ZIP_STORED) as archive:
                archive.comment = b"The first images" if self._num_left_out else b"All images"
                for name, jpeg in images.items():
                    archive.writestr(zipfile.ZipInfo(name), jpeg)
            files.write_whole(self._path, contents.getvalue())
            self._archived = images
        return self._num_left_out

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, int | str) and member_name(image_id) in self._archived

    def image(self, image_id: ImageId) -> npt.NDArray[np.uint8]:
        """An image of the archive as it was last written, uint8 `[height, width, 3]`.

        Raises:
          KeyError: it is not there.
        """
        return np.asarray(Image.open(io.BytesIO(self._archived[member_name(image_id)])).convert("RGB"))

    def names(self) -> list[str]:
        """The names of the images in the archive as it was last written, in its order."""
        return list(self._archived)

    def size(self, image_id: ImageId) -> tuple[int, int] | None:
        """Height and width of an image of this evaluation; None if it has no room in the archive."""
        name = member_name(image_id)
        if name not in self._seen:
            return None
        jpeg = self._seen[name] or self._archived[name]
        width, height = Image.open(io.BytesIO(jpeg)).size  # which reads the header only
        return height, width

    def _shows(self, name: str, image: npt.NDArray[Any]) -> bool:
        """Whether the archive has this picture of an image; if it has another, it is given up."""
        given, archived = (
            np.asarray(one.convert("L").resize((16, 16)), np.float32)
            for one in (_image(image), Image.open(io.BytesIO(self._archived[name])))
        )
        if abs(given - archived).mean() <= _SAME_LEVELS:
            return True
        self._archived = {}
        print(
            f"note: the image {name.removesuffix('.jpg')} is not what it was; '{self._path}' is written anew. Pictures"
            " of earlier steps may show other images: do not shuffle the evaluation set, or give each image an id that"
            " stays its own.",
            file=sys.stderr,
            flush=True,
        )
        return False

    def _read_archive(self) -> dict[str, bytes]:
        if not files.exists(self._path):
            return {}
        try:
            with zipfile.ZipFile(io.BytesIO(files.read_bytes(self._path))) as archive:
                return {info.filename: archive.read(info) for info in archive.infolist()[: self._most]}
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            print(
                f"warning: '{self._path}' is damaged ({files.reason(error)}); the next evaluation writes it anew.",
                file=sys.stderr,
                flush=True,
            )
            return {}


def member_name(image_id: ImageId) -> str:
    """The name of an image in the archive, safe on any file system."""
    return file_name(image_id, ".jpg")


def _image(pixels: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _jpeg(image: npt.NDArray[Any]) -> bytes:
    small = _image(image).convert("RGB")
    small.thumbnail((LONG_SIDE, LONG_SIDE))
    contents = io.BytesIO()
    small.save(contents, "JPEG", quality=_QUALITY)
    return contents.getvalue()
