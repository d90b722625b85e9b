"""What the images and objects of a dataset are like: two tables, that checks of data are made of.

Whoever reads data makes a `Survey` of it: `od_eval.odapi.record_survey` of TFRecords,
`od_eval.data.annotation_survey` of annotations that are not converted yet.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import pandas as pd

from od_eval.findings.finding import Finding
from od_eval.findings.image_measures import ImageMeasures

Progress = Callable[[int, "int | None"], None]  # called with the images so far, and of all; None if that is unknown
_SECONDS_BETWEEN_REPORTS = 0.5
_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class Survey:
    """A dataset, or a sample of it.

    Attributes:
      name: what it is in messages: `train_input_reader`, `eval_input_reader[0]`, `annotations`, `deployment_images`.
      categories: id -> name, of the label map or of the annotations; also categories without objects.
      images: a row for each image, in the order in which they were read; columns:

        * `id`: text that finds the image: `record 3 of 'train.record'`, or the path of a file.
        * `name`: the name of its file, as the data give it; may be empty.
        * `width`, `height`: pixels; 0 where unknown.
          Of the file itself, as it is decoded, where that can be told, not what is written beside it.
        * `mode`: `RGB`, `L` (gray), `RGBA`, `P`, `CMYK`, `I;16`, …, as Pillow calls it; empty where not looked at.
        * `digest`: of the bytes of the image file; two images of the same digest are the same file. May be empty.
        * `perceptual_hash`: 16 hexadecimal digits; of images that look alike, also resized and encoded anew, few of the
          64 bits differ. Empty where the image was not decoded.
        * `brightness`, `contrast`, `saturation`: mean and standard deviation of the luma, and mean saturation, 0 to 1,
          of the image reduced to 64×64, so that they do not depend on resolution; NaN where it was not decoded.

      objects: a row for each object, by image, but for those with a coordinate that is no finite number; columns:

        * `image`: the row of its image in `images`.
        * `category`: its id. 0 where it is none of `categories`: such objects are counted elsewhere.
        * `ymin`, `xmin`, `ymax`, `xmax`: its box as parts of the image, 0 to 1, as the data have it: it may extend
          beyond the image, or have no area. Its corners are in order.
        * `crowd`, `difficult`: bool.
        * `mask_iou`: the IoU of its box with the box around its mask; NaN where there is no mask, or none was decoded.

      is_complete: whether all of the dataset was read, or only its beginning.
      faults: what could not be read, and so is in neither table.
    """

    name: str
    categories: Mapping[int, str]
    images: pd.DataFrame
    objects: pd.DataFrame
    is_complete: bool = True
    faults: Sequence[Finding] = ()


class SurveyedObject(NamedTuple):
    """A row of `Survey.objects`, but for `image`."""

    category: int
    ymin: float
    xmin: float
    ymax: float
    xmax: float
    crowd: bool
    difficult: bool
    mask_iou: float


class SurveyTables:
    """Collects the two tables of a survey, image by image."""

    def __init__(self) -> None:
        self._images: list[tuple[object, ...]] = []
        self._image_of_object: list[int] = []
        self._objects: list[SurveyedObject] = []

    def add(self, id: str, name: str, measures: ImageMeasures, objects: Sequence[SurveyedObject]) -> None:
        """Adds an image and its objects."""
        self._image_of_object += [len(self._images)] * len(objects)
        self._images.append((id, name, *measures))
        self._objects += objects

    def images(self) -> pd.DataFrame:
        """The table of images so far."""
        table = pd.DataFrame(self._images, columns=["id", "name", *ImageMeasures._fields])
        texts = dict.fromkeys(("id", "name", "mode", "digest", "perceptual_hash"), "object")
        numbers = dict.fromkeys(("brightness", "contrast", "saturation"), "float64")
        return table.astype({**texts, "width": "int64", "height": "int64", **numbers})

    def objects(self) -> pd.DataFrame:
        """The table of objects so far."""
        table = pd.DataFrame(self._objects, columns=SurveyedObject._fields)
        table.insert(0, "image", self._image_of_object)
        numbers = dict.fromkeys(("ymin", "xmin", "ymax", "xmax", "mask_iou"), "float64")
        return table.astype({"image": "int64", "category": "int64", **numbers, "crowd": "bool", "difficult": "bool"})


def reported(items: Iterable[_Item], progress: Progress | None, total: int | None) -> Iterator[_Item]:
    """The items; about twice a second, and at the end, `progress` is told how many there were."""
    done, last = 0, time.monotonic()
    for item in items:
        yield item
        done += 1
        if progress is not None and time.monotonic() - last > _SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            progress(done, total)
    if progress is not None:
        progress(done, total)
