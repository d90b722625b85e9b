"""Image files: found by the name an annotation gives them, and read as the Object Detection API can decode them."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import ExifTags, Image, ImageOps

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.text import some

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# What Pillow may take a file for, whatever its name says: no format that runs another program (EPS) or opens other
# files.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")


class ImageNotFound(Exception):
    """No file has the name, or several may be meant."""


class ImageUnusable(Exception):
    """The image cannot be converted. `reason` is the kind, the message says what exactly."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class ImageFolder:
    """The image files below a folder, found by the names that annotations give them.

    Names come from other people's computers: with backslashes, absolute, in another case, without the folder that the
    file is in. No name leads to a file outside of the folder.

    Args:
      folder: where to look, subfolders included; on any filesystem.

    Raises:
      ODEvalError: there is no such folder, it cannot be read, or there is no image in it.
    """

    def __init__(self, folder: files.Path):
        self._folder = os.fspath(folder)
        try:
            # Of a remote folder that cannot be reached, is_folder says only that there is none; exists says why.
            if not (files.exists(self._folder) and files.is_folder(self._folder)):
                raise ODEvalError(
                    f"image folder '{self._folder}' does not exist; set images to the folder of the image files."
                )
            filenames = [name for name in files.files_below(self._folder) if name.lower().endswith(EXTENSIONS)]
        except OSError as error:
            raise ODEvalError(f"image folder '{self._folder}' cannot be read: {files.reason(error)}.") from error
        if not filenames:
            raise ODEvalError(
                f"image folder '{self._folder}' has no image in it ({', '.join(EXTENSIONS)}); set images to the folder"
                " of the image files."
            )
        self._filenames = frozenset(filenames)
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for filename in filenames:
            path = PurePosixPath(filename)
            keys = {filename, path.with_suffix("").as_posix(), path.name, path.stem}
            for key in {key.casefold() for key in keys}:
                self._by_key[key].append(filename)

    def __len__(self) -> int:
        return len(self._filenames)

    def path(self, filename: str) -> str:
        """Where the file is whose name `find` returned."""
        return os.path.join(self._folder, filename)

    def find(self, name: str) -> str:
        """The file that an annotation calls `name`.

        Args:
          name: a path relative to the folder or absolute on any computer, or a file name with or without its extension.

        Returns:
          The file's path inside the folder, with forward slashes.

        Raises:
          ImageNotFound: there is none, or several may be meant.
        """
        parts = [part for part in re.split(r"[/\\]", name.strip()) if part not in ("", ".", "..")]
        # The whole name first, then without the folders at its beginning; exactly as written first, then in any case.
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            if tail in self._filenames:
                return tail
            filenames = self._by_key.get(tail.casefold(), [])
            if len(filenames) > 1:
                raise ImageNotFound(f"'{name}' may be any of {some(sorted(filenames), 3)}")
            if filenames:
                return filenames[0]
        raise ImageNotFound(f"no '{name}' in {self._folder}")


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image as it goes into a record.

    Attributes:
      encoded: the bytes of a JPEG or PNG file.
      format: "jpeg" or "png".
      width, height: in pixels, as TensorFlow decodes it.
      annotated_size: (width, height) that the annotated coordinates refer to.
      changes: (what was done, detail) for each thing that was done to the image or its coordinates.
    """

    encoded: bytes
    format: str
    width: int
    height: int
    annotated_size: tuple[int, int]
    changes: Sequence[tuple[str, str]] = ()

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y): what turns annotated coordinates into pixels of this image, by multiplication."""
        return self.width / self.annotated_size[0], self.height / self.annotated_size[1]


def read_image(path: files.Path, annotated_size: tuple[int, int] | None) -> EncodedImage:
    """Reads an image file and makes of it one that the Object Detection API decodes.

    JPEG and PNG files are taken byte for byte; TensorFlow decodes all kinds of them reliably, except CMYK. Anything
    else is encoded anew: as a JPEG of quality 95 where the file was compressed with loss, as a PNG where it was not.

    TensorFlow decodes pixels as they are stored, annotation tools show them turned as EXIF says. Where EXIF turns an
    image, the annotated size tells which of the two was annotated; where it does not tell, it was the turned one, as
    all of today's tools show. If it was the turned one, the pixels are turned.

    Args:
      path: the file, on any filesystem.
      annotated_size: (width, height) that the annotation gives; None where it gives none. An image of the same shape
        but another size was resized after it was annotated, or before.

    Returns:
      The image.

    Raises:
      ImageUnusable: missing, not an image, broken, or of another shape than annotated.
    """
    path = os.fspath(path)
    try:
        content = files.read_bytes(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata and big images; errors are errors all the same
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            stored_as = "JPEG" if image.format == "MPO" else image.format  # MPO: a JPEG with others behind it
            image.load()  # to the last byte: a truncated file shows itself here
            orientation = image.getexif().get(ExifTags.Base.Orientation)
            upright = ImageOps.exif_transpose(image) if orientation in range(2, 9) else image
    except FileNotFoundError as error:
        raise ImageUnusable("image file missing", path) from error
    except Exception as error:  # the decoders of broken files raise nearly anything; it is reported, not hidden
        raise ImageUnusable("image unreadable", f"{path}: {str(error) or type(error).__name__}") from error

    changes = []
    annotated = next((shown for shown in (upright, image) if _same_shape(shown.size, annotated_size)), None)
    if annotated is None:
        assert annotated_size is not None  # any shape is that of an image whose size nobody has annotated
        raise ImageUnusable(
            "image of another shape than annotated",
            f"{path}: {_x(image.size)} pixels, annotated {_x(annotated_size)}",
        )
    annotated_size = annotated_size or annotated.size
    if annotated is not image:
        changes.append(("image turned upright as its EXIF orientation says", f"{path}: orientation {orientation}"))
    if annotated.size != annotated_size:
        detail = f"{path}: {_x(annotated.size)}, annotated {_x(annotated_size)}"
        changes.append(("image of another size than annotated, boxes scaled", detail))
    file_format = "JPEG" if stored_as in ("JPEG", "WEBP") else "PNG"
    if stored_as != file_format or image.mode == "CMYK":
        changes.append((f"{stored_as} ({image.mode}) encoded as {file_format}", path))
        content = _encode(_as_rgb(annotated, path), file_format)
    elif annotated is not image:
        content = _encode(_as_rgb(annotated, path), file_format)
    return EncodedImage(content, file_format.lower(), *annotated.size, annotated_size, changes)


def encode_jpeg(image: Image.Image) -> bytes:
    """An RGB image as the bytes of a JPEG file."""
    return _encode(image, "JPEG")


def encode_mask(mask: np.ndarray) -> bytes:
    """A mask (bool [height, width]) as the bytes of a PNG file with one bit a pixel."""
    return _encode(Image.fromarray(mask), "PNG")


def _encode(image: Image.Image, file_format: str) -> bytes:
    output = io.BytesIO()
    image.save(output, file_format, quality=95)  # for a PNG, the quality is ignored
    return output.getvalue()


def _same_shape(size: tuple[int, int], annotated: tuple[int, int] | None) -> bool:
    """Whether the sides have the same ratio, except for the pixel by which the smaller size may have been rounded."""
    if annotated is None:
        return True
    return abs(annotated[0] * size[1] - annotated[1] * size[0]) <= max(*annotated, *size)


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _as_rgb(image: Image.Image, path: str) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageUnusable("image unreadable", f"{path}: pixels of 32 bits, whose range is not known")
    image = image.convert("RGB")
    image.info = {}  # nothing that tells a viewer to turn it again
    return image
