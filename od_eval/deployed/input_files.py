"""The files to detect objects in that paths mean: images, folders of them, and videos."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence

from od_eval import files
from od_eval.data.images import EXTENSIONS
from od_eval.errors import ODEvalError

VIDEO_EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


@dataclasses.dataclass(frozen=True)
class InputFile:
    """An image or a video.

    Attributes:
      path: absolute.
      name: its path below the folder that all inputs are in, with forward slashes; no other input has it.
    """

    path: str
    name: str

    @property
    def is_video(self) -> bool:
        return self.path.lower().endswith(VIDEO_EXTENSIONS)


def find_input_files(paths: Sequence[str]) -> list[InputFile]:
    """The images and videos that paths mean, each once.

    Args:
      paths: of images, whatever their ending, of videos, and of folders, in which and below which images are looked
        for; hidden ones are passed over.

    Raises:
      ODEvalError: a path does not exist or cannot be read, or a folder has no image in it.
    """
    found: dict[str, None] = {}  # in order
    folders = []
    for path in paths:
        with files.errors_as_sentences(f"'{path}' cannot be read"):
            absolute = files.absolute(path).rstrip("/")
            if files.is_folder(path):
                names = [name for name in files.dataset_files_below(path) if name.lower().endswith(EXTENSIONS)]
                if not names:
                    raise ODEvalError(
                        f"folder '{path}' has no image in it ({', '.join(EXTENSIONS)}); give images, folders of"
                        " images, or videos."
                    )
                folders.append(absolute)
                found.update(dict.fromkeys(f"{absolute}/{name}" for name in names))
            elif files.exists(path):
                folders.append(os.path.dirname(absolute))
                found[absolute] = None
            else:
                raise ODEvalError(f"'{path}' does not exist; give images, folders of images, or videos.")
    levels = zip(*(folder.split("/") for folder in folders), strict=False)
    num_shared = sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, levels))
    return [InputFile(path, _name(path.split("/")[num_shared:])) for path in found]


def _name(parts: Sequence[str]) -> str:
    """A relative path that does not lead upwards, whatever stands in a remote one."""
    return "/".join(part for part in parts if part not in ("", ".", ".."))
