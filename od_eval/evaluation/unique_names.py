"""Names of images, each of which stands for one image of an evaluation."""

from __future__ import annotations

import collections

from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.columns import ImageId
from od_eval.text import named


class UniqueNames:
    """Distinguishes images with the same name: `a.jpg`, `a.jpg (2)`, …

    Attributes:
      repeated: the number of images with the name of another image.
      example: such a name.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self.example = ""
        self._times: collections.Counter[str] = collections.Counter()

    def unique_id(self, id: ImageId) -> ImageId:
        """`unique` of an id that may be a number, which COCO's files do not repeat."""
        return self.unique(id) if isinstance(id, str) else id

    def tell(self, left_out: LeftOut) -> None:
        """Says how many images have a new name, if any."""
        if self.repeated:
            what = "image ids were changed, as another image has the same image/source_id"
            left_out.note(what, f"'{named(self.example)}'", self.repeated)

    def unique(self, name: str) -> str:
        """The name, or a new one if it was used before."""
        self._times[name] += 1
        if self._times[name] == 1:
            return name
        self.repeated += 1
        self.example = name
        return self.unique(f"{name} ({self._times[name]})")
