"""Videos, which OpenCV reads and writes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

from od_eval import files
from od_eval.data.images import ImageUnusable
from od_eval.deployed.model import Image
from od_eval.errors import ODEvalError

_USUAL_FRAME_RATE = 25.0
_HIGHEST_FRAME_RATE = 1000.0  # more is no rate, but the unit of the file's clock


class Video:
    """A video file.

    Args:
      path: the file.
      folder: on this computer, for a copy of a file on another, as OpenCV reads no others.

    Attributes:
      frame_rate: frames in a second.
      num_frames: as the file tells, which may be an estimate; 0 if it does not tell.
      num_read: of the frames, those that have been read or passed over.

    Raises:
      ImageUnusable: it is no video that OpenCV can read.
      ODEvalError: OpenCV is not installed.
    """

    def __init__(self, path: str, folder: str):
        self._opencv = _opencv()
        try:
            self._capture = self._opencv.VideoCapture(files.on_this_machine(path, folder))
        except OSError as error:
            raise ImageUnusable("video unreadable", f"{path}: it cannot be copied: {files.reason(error)}") from error
        if not self._capture.isOpened():
            raise ImageUnusable("video unreadable", f"{path}: OpenCV can read no video in it")
        rate = self._capture.get(self._opencv.CAP_PROP_FPS)
        self.frame_rate = rate if 0 < rate <= _HIGHEST_FRAME_RATE else _USUAL_FRAME_RATE
        number = self._capture.get(self._opencv.CAP_PROP_FRAME_COUNT)
        self.num_frames = int(number) if 0 < number < math.inf else 0
        self.num_read = 0

    def frames(self, every_n: int) -> Iterator[tuple[int, Image]]:
        """The first frame and every n-th after it, once: its number, from 0, and uint8 `[height, width, 3]`, RGB.

        They are upright, as the file says, and end where it can be read no further.
        """
        try:
            while self._capture.grab():
                if self.num_read % every_n == 0:
                    is_read, pixels = self._capture.retrieve()
                    if not is_read:
                        return
                    yield self.num_read, self._opencv.cvtColor(pixels, self._opencv.COLOR_BGR2RGB)
                self.num_read += 1
        finally:
            self._capture.release()


class VideoWriter:
    """Writes a video in MPEG-4.

    Args:
      path: the file, `….mp4`, on this computer; its folder is there.
      frame_rate: frames in a second.
      size: height and width of all of its frames.

    Raises:
      ODEvalError: it cannot be written.
    """

    def __init__(self, path: str, frame_rate: float, size: tuple[int, int]):
        self._path = path
        self._num_frames = 0
        self._opencv = _opencv()
        codec = self._opencv.VideoWriter.fourcc(*"mp4v")
        self._writer = self._opencv.VideoWriter(path, codec, frame_rate, size[::-1])
        if not self._writer.isOpened():
            raise _not_written(size)
        self._size = size

    def write(self, image: Image) -> None:
        """Adds a frame, uint8 `[height, width, 3]`, RGB."""
        self._writer.write(self._opencv.cvtColor(image, self._opencv.COLOR_RGB2BGR))
        self._num_frames += 1

    def close(self) -> None:
        """Writes what is left; without it the file cannot be played.

        Raises:
          ODEvalError: frames are missing in the file, as OpenCV does not tell when it cannot write.
        """
        self._writer.release()
        try:
            num_written = Video(self._path, os.path.dirname(self._path)).num_frames
        except ImageUnusable:
            num_written = 0
        if num_written < self._num_frames:
            raise _not_written(self._size)


def _not_written(size: tuple[int, int]) -> ODEvalError:
    return ODEvalError(
        f"OpenCV cannot write a video of {size[1]}×{size[0]} pixels; see whether the disk is full, or set"
        " pictures=false."
    )


def _opencv() -> Any:
    # What is wrong with a file is said in a sentence, and not by the libraries below, too.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise ODEvalError(
            f"videos need OpenCV, which cannot be imported ({error}); run pip install opencv-python-headless."
        ) from error
    return cv2
