"""Image files: finds them by their names in annotations, and reads them for the Object Detection API."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import unicodedata
import urllib.parse
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.text import some

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# The formats that Pillow may detect, whatever the file name: none that runs another program (EPS) or opens other files.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
# Pillow takes a larger image for an attack; so no mask of one can be true.
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**28)


class ImageNotFound(Exception):
    """No file has this name, or several may be meant. `reason` is which, the message has the details."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class ImageUnusable(Exception):
    """The image cannot be converted. `reason` is the kind of problem, the message has the details."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class ImageFolder:
    """The image files below a folder, found by their names in annotations.

    Names come from other computers: with backslashes, absolute, in another case, with accents as letters of their own
    (macOS) or in one, with `%20` for a space, without the folder of the file. No name leads to a file outside the
    folder.

    Args:
      folder: the folder to search, including subfolders; on any file system.

    Attributes:
      folder: the same, as a string.

    Raises:
      ODEvalError: the folder does not exist, cannot be read, or contains no image.
    """

    def __init__(self, folder: files.Path):
        self.folder = os.fspath(folder)
        try:
            if not files.is_folder(self.folder):
                what = "is no folder" if files.exists(self.folder) else "does not exist"
                raise ODEvalError(f"image folder '{self.folder}' {what}; set images to the folder of the image files.")
            names = files.dataset_files_below(self.folder)
        except OSError as error:
            raise ODEvalError(f"image folder '{self.folder}' cannot be read: {files.reason(error)}.") from error
        # A file without an ending may be an image: it is found if an annotation names it, but is not counted as one.
        without_ending = [name for name in names if not PurePosixPath(name).suffix]
        filenames = [name for name in names if name.lower().endswith(EXTENSIONS)]
        if not filenames + without_ending:
            raise ODEvalError(
                f"image folder '{self.folder}' has no image in it ({', '.join(EXTENSIONS)}); set images to the folder"
                " of the image files."
            )
        self._filenames = frozenset(filenames)
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for filename in filenames + without_ending:
            path = PurePosixPath(filename)
            keys = {filename, path.with_suffix("").as_posix(), path.name, path.stem}
            for key in set(map(_key, keys)):
                self._by_key[key].append(filename)

    def __len__(self) -> int:
        return len(self._filenames)

    def path(self, filename: str) -> str:
        """The path of a file, from its name as returned by `find`."""
        return os.path.join(self.folder, filename)

    def find(self, name: str) -> str:
        """Finds the file that an annotation calls `name`.

        Args:
          name: a path relative to the folder or absolute on any computer, or a file name with or without its extension.

        Returns:
          The file's path relative to the folder, with forward slashes.

        Raises:
          ImageNotFound: there is no such file, or the name is ambiguous.
        """
        try:
            return self._find(name)
        except ImageNotFound:
            unquoted = urllib.parse.unquote(name)
            if unquoted == name:
                raise
        return self._find(unquoted)

    def _find(self, name: str) -> str:
        parts = [part for part in re.split(r"[/\\]", name.strip()) if part not in ("", ".", "..")]
        # First the whole name, then without its leading folders; each first exactly as written, then ignoring case.
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            if tail in self._filenames:
                return tail
            filenames = self._by_key.get(_key(tail), [])
            if len(filenames) > 1:
                detail = f"'{name}' may be any of {some(sorted(filenames), 3)}"
                raise ImageNotFound("image file ambiguous", detail)
            if filenames:
                return filenames[0]
        raise ImageNotFound("image file missing", f"no '{name}' in {self.folder}")


def _key(name: str) -> str:
    """The same for names that people take for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image as written to a record.

    Attributes:
      encoded: the bytes of a JPEG or PNG file.
      format: "jpeg" or "png".
      width, height: in pixels, as TensorFlow decodes it.
      annotated_size: (width, height) that the annotated coordinates refer to.
      changes: (change, detail) for each change to the image or its coordinates.
    """

    encoded: bytes
    format: str
    width: int
    height: int
    annotated_size: tuple[int, int]
    changes: Sequence[tuple[str, str]] = ()

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y): the factors from annotated coordinates to pixels of this image."""
        return self.width / self.annotated_size[0], self.height / self.annotated_size[1]

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """uint8 `[height, width, 3]`, RGB."""
        return np.array(_as_rgb(Image.open(io.BytesIO(self.encoded)), "an image"))


def read_image(path: files.Path, annotated_size: tuple[int, int] | None) -> EncodedImage:
    """Reads an image file and converts it, if necessary, to one that the Object Detection API can decode.

    JPEG and PNG files are kept byte for byte; TensorFlow decodes all of them reliably, except CMYK. Anything else is
    re-encoded: as a JPEG of quality 95 if the file had lossy compression, otherwise as a PNG.

    TensorFlow decodes pixels as they are stored, while annotation tools apply the EXIF rotation. If an image has an
    EXIF rotation, the annotated size tells which of the two was annotated; if it does not, the rotated image is
    assumed, because that is what current tools show. If the rotated image was annotated, the pixels are rotated.

    Args:
      path: the file, on any file system.
      annotated_size: (width, height) given by the annotation, or None. An image of the same shape but another size was
        resized before or after it was annotated.

    Returns:
      The image.

    Raises:
      ImageUnusable: the file is missing, not an image or broken, or its shape differs from the annotated one.
    """
    path = os.fspath(path)
    content, image, upright = _load(path)
    stored_as = "JPEG" if image.format == "MPO" else image.format  # MPO: a JPEG followed by others
    changes = []
    annotated = next((shown for shown in (upright, image) if _same_shape(shown.size, annotated_size)), None)
    if annotated is None:
        assert annotated_size is not None  # without an annotated size, any shape matches
        raise ImageUnusable(
            "image of another shape than annotated",
            f"{path}: {_x(image.size)} pixels, annotated {_x(annotated_size)}",
        )
    annotated_size = annotated_size or annotated.size
    if annotated is not image:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
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


def read_pixels(path: files.Path) -> npt.NDArray[np.uint8]:
    """Reads the pixels of an image file, turned upright as its EXIF orientation says: `[height, width, 3]`, RGB.

    Raises:
      ImageUnusable: the file is missing, not an image or broken.
    """
    path = os.fspath(path)
    _, _, upright = _load(path)
    return np.array(_as_rgb(upright, path))


def _load(path: str) -> tuple[bytes, Image.Image, Image.Image]:
    """The contents of a file, its image as it is stored, and the same upright, which is the same object if it is."""
    try:
        content = files.read_bytes(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata and big images; errors are still raised
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            image.load()  # reads to the last byte, which detects truncated files
            orientation = image.getexif().get(ExifTags.Base.Orientation)
            upright = ImageOps.exif_transpose(image) if orientation in range(2, 9) else image
    except FileNotFoundError as error:
        raise ImageUnusable("image file missing", path) from error
    except UnidentifiedImageError as error:
        raise ImageUnusable("image unreadable", f"{path}: no image in a format that is read here") from error
    except Exception as error:  # decoders raise almost anything for broken files; it is reported, not hidden
        raise ImageUnusable("image unreadable", f"{path}: {str(error) or type(error).__name__}") from error
    return content, image, upright


def encode_jpeg(image: Image.Image) -> bytes:
    """An RGB image as the bytes of a JPEG file."""
    return _encode(image, "JPEG")


def encode_mask(mask: np.ndarray) -> bytes:
    """A mask (bool [height, width]) as the bytes of a PNG file with one bit per pixel."""
    return _encode(Image.fromarray(mask), "PNG")


def _encode(image: Image.Image, file_format: str) -> bytes:
    output = io.BytesIO()
    image.save(output, file_format, quality=95)  # for a PNG, the quality is ignored
    return output.getvalue()


def _same_shape(size: tuple[int, int], annotated: tuple[int, int] | None) -> bool:
    """Whether both have the same aspect ratio, allowing for one pixel of rounding in the smaller one."""
    if annotated is None:
        return True
    return abs(annotated[0] * size[1] - annotated[1] * size[0]) <= max(*annotated, *size)


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _as_rgb(image: Image.Image, path: str) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageUnusable("image unreadable", f"{path}: 32-bit pixels of unknown range")
    image = image.convert("RGB")
    image.info = {}  # so that no viewer rotates it again
    return image
