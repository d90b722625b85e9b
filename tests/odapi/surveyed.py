"""Surveys made by hand for tests of what is concluded from them."""

from __future__ import annotations

import pandas as pd

from od_eval.findings.survey import Survey


def survey(objects, num_images=None, *, categories=("cat",), size=(480, 640), name="train_input_reader", complete=True):
    """A survey of images of one size.

    Args:
      objects: (row of an image, category, ymin, xmin, ymax, xmax) of each object.
      num_images: of all images; None: as many as the objects name.
      categories: names of the ids 1, 2, ….
      size: height and width of all images.
      name: of the survey.
      complete: whether it has all images.
    """
    num_images = num_images or max((row for row, *_ in objects), default=-1) + 1
    images = pd.DataFrame(
        {"id": [f"record {row}" for row in range(num_images)], "name": "", "width": size[1], "height": size[0]}
    )
    table = pd.DataFrame(objects, columns=["image", "category", "ymin", "xmin", "ymax", "xmax"])
    table = table.astype({"image": int, "category": int}).assign(crowd=False, difficult=False, mask_iou=float("nan"))
    return Survey(name, dict(enumerate(categories, 1)), images, table, is_complete=complete)


def in_every_image(number, num_images, *, category=1, box=(0.2, 0.2, 0.6, 0.6)):
    """So many objects in each image, all with the same box."""
    return [(row, category, *box) for row in range(num_images) for _ in range(number)]
