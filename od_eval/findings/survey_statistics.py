"""What a dataset is like in numbers: the images and objects of a survey, as plain data for a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.survey import Survey

# COCO's bounds between small, medium and large: https://cocodataset.org/#detection-eval
SMALL_SIDE, LARGE_SIDE = 32, 96  # pixels; of a square with the area of the box
HEAT_MAP_CELLS = 8  # on a side
_MOST_RESOLUTIONS = 5

Floats = npt.NDArray[np.float64]


def has_input_size(facts: ConfigFacts | None) -> bool:
    """Whether it is known how large images are for the model."""
    return facts is not None and bool(facts.resize_range or (facts.input_height and facts.input_width))


def input_sizes(images: pd.DataFrame, facts: ConfigFacts | None) -> pd.DataFrame:
    """The size that the content of each image has where the model sees it, without padding.

    Args:
      images: of a survey.
      facts: of the config; None if there is none.

    Returns:
      Columns `height` and `width`, float64, in pixels, with the index of `images`. The size of the image itself where
      no resizer is known; NaN where the image's size is unknown, and needed.
    """
    own = images[["height", "width"]].astype(np.float64)
    own = own.where((own > 0).all(axis=1))
    if facts is None:
        return own
    if facts.resize_range is not None:
        # As preprocessor.resize_to_range of the OD API does it.
        shortest, longest = facts.resize_range
        scale = np.minimum(shortest / own.min(axis=1), longest / own.max(axis=1))
        return own.mul(scale, axis=0)
    if facts.input_height and facts.input_width:
        return pd.DataFrame(
            {"height": float(facts.input_height), "width": float(facts.input_width)}, index=images.index
        )
    return own


def single_objects(survey: Survey) -> pd.DataFrame:
    """The objects of a survey, without crowds: their boxes hold several objects."""
    return survey.objects[~survey.objects["crowd"].astype(bool)]


def box_sides(objects: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """The sides of boxes in pixels of their images, or of what the model sees of them.

    Args:
      objects: of a survey, or some of them.
      sizes: `height` and `width` of the images, from `input_sizes`.

    Returns:
      Columns `height` and `width`, float64, with the index of `objects`. NaN where unknown; below 0 for reversed
      corners.
    """
    of_image = sizes[["height", "width"]].to_numpy(np.float64)[objects["image"].to_numpy(np.int64)]
    return pd.DataFrame(
        {
            "height": (objects["ymax"] - objects["ymin"]).to_numpy(np.float64) * of_image[:, 0],
            "width": (objects["xmax"] - objects["xmin"]).to_numpy(np.float64) * of_image[:, 1],
        },
        index=objects.index,
    )


def objects_per_image(survey: Survey) -> npt.NDArray[np.int64]:
    """The number of objects of each image, int64 `[images]`; crowds do not count."""
    return np.bincount(single_objects(survey)["image"].to_numpy(np.int64), minlength=len(survey.images))


def per_category(survey: Survey) -> pd.DataFrame:
    """How often each category is there, by ascending id.

    Returns:
      Columns `name`, `objects`, `images`; index: the id. Also of categories without objects.
    """
    objects = single_objects(survey)
    by_category = objects.groupby("category")["image"]
    ids = sorted(survey.categories)
    return pd.DataFrame(
        {
            "name": [survey.categories[category] for category in ids],
            "objects": by_category.size().reindex(ids, fill_value=0).astype(np.int64),
            "images": by_category.nunique().reindex(ids, fill_value=0).astype(np.int64),
        },
        index=pd.Index(ids, name="category", dtype=np.int64),
    )


def statistics(survey: Survey, facts: ConfigFacts | None) -> dict[str, Any]:
    """A dataset in numbers, as plain data that JSON allows.

    Args:
      survey: the dataset.
      facts: of the config, for the size at which the model sees boxes; without it they are as large as in the image.

    Returns:
      `name`, `is_complete`; `images`, `images_without_objects`, `objects`, `crowds`: numbers. Crowds count as no
      objects. `objects_per_image`, `box_sides` (square root of the area at the input size), `box_heights`, `box_widths`
      (pixels), `box_aspect_ratios` and `image_aspect_ratios` (width to height), `brightness`, `contrast`, `saturation`
      (0 to 1): `number` of values, `mean`, `min`, `quartiles` (three), `max`; None without values.
      `categories`: id -> `name`, `objects`, `images`. `size_shares`: `small`, `medium`, `large` -> share of the boxes
      by COCO's bounds, 32² and 96², at the input size; None without boxes. `positions`: centres of boxes in 8 rows of 8
      columns, from the top left. `resolutions`: `width`, `height`, `images` of the most common ones;
      `num_resolutions`. `modes`: mode -> images. `num_decoded`: images whose brightness is known.
    """
    objects = single_objects(survey)
    images = survey.images
    number_of_objects = objects_per_image(survey)
    sides = box_sides(objects, input_sizes(images, facts)).clip(lower=0)
    side = np.sqrt(sides["height"] * sides["width"]).to_numpy(np.float64)
    own = box_sides(objects, input_sizes(images, None))
    sizes = images[(images["width"] > 0) & (images["height"] > 0)]
    resolutions = sizes.groupby(["width", "height"]).size().sort_values(ascending=False, kind="stable")
    modes = images["mode"][images["mode"].astype(str) != ""]
    return {
        "name": survey.name,
        "is_complete": survey.is_complete,
        "images": len(images),
        "images_without_objects": int((number_of_objects == 0).sum()),
        "objects": len(objects),
        "crowds": len(survey.objects) - len(objects),
        "objects_per_image": _summary(number_of_objects.astype(np.float64)),
        "categories": {
            int(row.Index): {"name": str(row.name), "objects": int(row.objects), "images": int(row.images)}
            for row in per_category(survey).itertuples()
        },
        "box_sides": _summary(side),
        "box_heights": _summary(sides["height"].to_numpy(np.float64)),
        "box_widths": _summary(sides["width"].to_numpy(np.float64)),
        "size_shares": _size_shares(side),
        "box_aspect_ratios": _summary(ratios(own["width"], own["height"])),
        "positions": heat_map(objects).tolist(),
        "image_aspect_ratios": _summary(ratios(images["width"], images["height"])),
        "resolutions": [
            {"width": int(width), "height": int(height), "images": int(count)}
            for (width, height), count in resolutions[:_MOST_RESOLUTIONS].items()
        ],
        "num_resolutions": len(resolutions),
        "num_decoded": int(images["brightness"].notna().sum()),
        "brightness": _summary(images["brightness"].to_numpy(np.float64)),
        "contrast": _summary(images["contrast"].to_numpy(np.float64)),
        "saturation": _summary(images["saturation"].to_numpy(np.float64)),
        "modes": {str(mode): int(count) for mode, count in modes.value_counts().items()},
    }


def ratios(widths: pd.Series[Any], heights: pd.Series[Any]) -> Floats:
    """Width to height, float64; NaN where one of them is unknown or not above 0."""
    width, height = widths.to_numpy(np.float64), heights.to_numpy(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((width > 0) & (height > 0), width / height, np.nan)


def heat_map(objects: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The number of centres of boxes in each cell of images, int64 `[8, 8]`, from the top left."""
    centers = np.stack([(objects["ymin"] + objects["ymax"]) / 2, (objects["xmin"] + objects["xmax"]) / 2], axis=1)
    centers = centers[np.isfinite(centers).all(axis=1)]
    cells = np.clip((centers * HEAT_MAP_CELLS).astype(np.int64), 0, HEAT_MAP_CELLS - 1)
    counts = np.bincount(cells[:, 0] * HEAT_MAP_CELLS + cells[:, 1], minlength=HEAT_MAP_CELLS**2)
    return counts.reshape(HEAT_MAP_CELLS, HEAT_MAP_CELLS)


def _summary(values: Floats) -> Mapping[str, Any] | None:
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, first, median, third, high = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    return {
        "number": len(values),
        "mean": float(values.mean()),
        "min": low,
        "quartiles": [first, median, third],
        "max": high,
    }


def _size_shares(side: Floats) -> dict[str, float] | None:
    side = side[np.isfinite(side)]
    if not len(side):
        return None
    small, large = float((side < SMALL_SIDE).mean()), float((side > LARGE_SIDE).mean())
    medium = float(((side >= SMALL_SIDE) & (side <= LARGE_SIDE)).mean())
    return {"small": small, "medium": medium, "large": large}
