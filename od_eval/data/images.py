"""Image files: found by the name an annotation gives them, and read as the Object Detection API can decode them."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from od_eval.errors import ODEvalError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# What Pillow may take a file for, whatever its name says: no format that runs another program (EPS) or opens other
# files.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
_ORIENTATION = 0x0112  # the EXIF tag
# Its values but 1, and what makes the image upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # those that swap width and height


class ImageNotFound(Exception):
    """No file, or more than one, goes by the name."""


class ImageUnusable(Exception):
    """The image cannot be converted. `reason` is the kind, the message says what exactly."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class ImageFolder:
    """The image files below a folder, found by the names that annotations give them.

    Names come from other people's computers: with backslashes, absolute, in another case, without the folder the file
    is in. A file outside the folder is never looked at.

    Args:
      folder: where to look, subfolders included.

    Raises:
      ODEvalError: there is no such folder, or no image in it.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise ODEvalError(f"image folder '{folder}' does not exist; --images names the folder of the image files.")
        self._folder = folder
        self._files: set[str] = set()
        self._by_key: dict[str, list[str]] = defaultdict(list)
        walked: set[str] = set()  # a link may lead back up
        for root, folders, names in os.walk(folder, followlinks=True):
            if os.path.realpath(root) in walked:
                folders.clear()
                continue
            walked.add(os.path.realpath(root))
            for name in names:
                if name.lower().endswith(EXTENSIONS):
                    path = (Path(root) / name).relative_to(folder)
                    self._files.add(path.as_posix())
                    keys = {path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem}
                    for key in {key.casefold() for key in keys}:
                        self._by_key[key].append(path.as_posix())
        if not self._files:
            raise ODEvalError(
                f"image folder '{folder}' has no image in it ({', '.join(EXTENSIONS)}); --images names another one."
            )

    def __len__(self) -> int:
        return len(self._files)

    def path(self, filename: str) -> Path:
        """The file that `find` returned the name of."""
        return self._folder / filename

    def find(self, name: str) -> str:
        """The file that an annotation calls `name`.

        Args:
          name: a path relative to the folder or absolute on any computer, or a file name with or without its extension.

        Returns:
          The file's path inside the folder, with forward slashes.

        Raises:
          ImageNotFound: there is none, or several go by the name.
        """
        parts = [part for part in re.split(r"[/\\]", name.strip()) if part not in ("", ".", "..")]
        # The whole name first, then without the folders it begins with; by its letters first, then in any case.
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            if tail in self._files:
                return tail
            files = self._by_key.get(tail.casefold(), [])
            if len(files) > 1:
                raise ImageNotFound(f"'{name}' may be any of {', '.join(sorted(files)[:3])}")
            if files:
                return files[0]
        raise ImageNotFound(f"no '{name}' in {self._folder}")


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image as it goes into a record.

    Attributes:
      encoded: the bytes of a JPEG or PNG file.
      format: "jpeg" or "png".
      width, height: in pixels, as TensorFlow decodes it.
      scale: (x, y): what annotated coordinates are multiplied with to be pixels of this image.
      changes: (what was done, detail) for each thing that was done to the image or its coordinates.
    """

    encoded: bytes
    format: str
    width: int
    height: int
    scale: tuple[float, float]
    changes: list[tuple[str, str]]


def read_image(path: Path, annotated_size: tuple[int, int] | None) -> EncodedImage:
    """Reads an image file and makes of it what the Object Detection API decodes.

    JPEG and PNG files are taken byte for byte; TensorFlow decodes every kind of them except CMYK reliably. Anything
    else is encoded anew: JPEG of quality 95 where the file was compressed with loss, PNG where it was not.

    TensorFlow decodes pixels as they are stored, annotation tools show them turned as EXIF says. Where EXIF turns an
    image, the annotated size tells which of the two was annotated; where it does not tell, it was the turned one, as
    with all of today's tools. Then the pixels are turned.

    Args:
      path: the file.
      annotated_size: (width, height) that the annotation gives; None where it gives none. An image of the same shape
        but another size was resized after it was annotated, or before.

    Returns:
      The image.

    Raises:
      ImageUnusable: missing, not an image, broken, or of another shape than annotated.
    """
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata and big images; errors are errors all the same
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            stored_as = "JPEG" if image.format == "MPO" else image.format  # MPO: a JPEG with others behind it
            image.load()  # to the last byte: a truncated file shows itself here
            orientation = image.getexif().get(_ORIENTATION, 1)
    except FileNotFoundError as error:
        raise ImageUnusable("image file missing", str(path)) from error
    except Exception as error:  # the decoders of broken files raise nearly anything; it is reported, not hidden
        raise ImageUnusable("image unreadable", f"{path}: {str(error) or type(error).__name__}") from error

    changes = []
    turned, reference = _match_size(path, image.size, orientation, annotated_size)
    mode = image.mode
    if turned:
        image = image.transpose(_TURNS[orientation])
        changes.append(("image turned upright as its EXIF orientation says", f"{path}: orientation {orientation}"))
    if reference != image.size:
        changes.append(
            (
                "image of another size than annotated, boxes scaled",
                f"{path}: {_x(image.size)}, annotated {_x(reference)}",
            )
        )
    lossy = stored_as in ("JPEG", "WEBP")
    if stored_as not in ("JPEG", "PNG") or mode == "CMYK":
        changes.append((f"{stored_as} ({mode}) encoded as {'JPEG' if lossy else 'PNG'}", str(path)))
    if turned or stored_as not in ("JPEG", "PNG") or mode == "CMYK":
        content = _encode(_as_rgb(image, path), lossy)
        stored_as = "JPEG" if lossy else "PNG"
    width, height = image.size
    scale = (width / reference[0], height / reference[1])
    return EncodedImage(content, stored_as.lower(), width, height, scale, changes)


def encode_jpeg(image: Image.Image, quality: int = 95) -> bytes:
    """An RGB image as the bytes of a JPEG file."""
    output = io.BytesIO()
    image.save(output, "JPEG", quality=quality)
    return output.getvalue()


def encode_mask(mask: np.ndarray) -> bytes:
    """A mask (bool [height, width]) as the bytes of a PNG file with one bit a pixel."""
    output = io.BytesIO()
    Image.fromarray(mask).save(output, "PNG")
    return output.getvalue()


def _match_size(
    path: Path, stored: tuple[int, int], orientation: int, annotated: tuple[int, int] | None
) -> tuple[bool, tuple[int, int]]:
    """(whether to turn the image as EXIF says, the size that the annotated coordinates refer to)."""
    upright = stored[::-1] if orientation in _SIDEWAYS else stored
    candidates = [(False, stored)]
    if orientation in _TURNS:
        candidates.insert(0, (True, upright))
    if annotated is None:
        return candidates[0]
    for turned, size in candidates:
        if size == annotated:
            return turned, size
    for turned, (width, height) in candidates:
        # The same shape, but for a pixel by which the smaller of the two sizes was rounded.
        if abs(annotated[0] * height - annotated[1] * width) <= max(*annotated, width, height):
            return turned, annotated
    raise ImageUnusable(
        "image of another shape than annotated", f"{path}: {_x(stored)} pixels, annotated {_x(annotated)}"
    )


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageUnusable("image unreadable", f"{path}: pixels of 32 bits, whose range is not known")
    image = image.convert("RGB")
    image.info = {}  # nothing that tells a viewer to turn it again
    return image


def _encode(image: Image.Image, lossy: bool) -> bytes:
    if lossy:
        return encode_jpeg(image)
    output = io.BytesIO()
    image.save(output, "PNG")
    return output.getvalue()
