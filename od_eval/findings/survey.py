"""What the images and objects of a dataset are like: two tables, that checks of data are made of.

Whoever reads data makes a `Survey` of it: `od_eval.odapi.record_survey` of TFRecords,
`od_eval.data.annotation_survey` of annotations that are not converted yet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pandas as pd


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
        * `mode`: `RGB`, `L` (gray), `RGBA`, `P`, `CMYK`, `I;16`, …, as Pillow calls it; empty where not looked at.
        * `digest`: of the bytes of the image file; two images of the same digest are the same file. May be empty.
        * `perceptual_hash`: 16 hexadecimal digits; of images that look alike, also resized and encoded anew, few of the
          64 bits differ. Empty where the image was not decoded.
        * `brightness`, `contrast`, `saturation`: mean and standard deviation of the luma, and mean saturation, 0 to 1;
          NaN where the image was not decoded.

      objects: a row for each object, by image; columns:

        * `image`: the row of its image in `images`.
        * `category`: its id. 0 where it is none of `categories`: such objects are counted elsewhere.
        * `ymin`, `xmin`, `ymax`, `xmax`: its box as parts of the image, 0 to 1, as the data have it.
        * `crowd`, `difficult`: bool.
        * `mask_iou`: the IoU of its box with the box around its mask; NaN where there is no mask, or none was decoded.

      is_complete: whether all of the dataset was read, or only its beginning.
    """

    name: str
    categories: Mapping[int, str]
    images: pd.DataFrame
    objects: pd.DataFrame
    is_complete: bool = True
