"""Checks of the objects of a dataset: boxes that no model can learn, and annotations that contradict each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.data_checks import data_check
from od_eval.findings.data_checks.common import counted, image_ids, percent, verb
from od_eval.findings.finding import Finding
from od_eval.findings.survey import Survey
from od_eval.findings.survey_statistics import (
    box_sides,
    has_input_size,
    input_sizes,
    per_category,
    ratios,
    single_objects,
)
from od_eval.text import quoted

# The stride of the finest feature map of usual detectors (P3 of feature pyramids; Lin et al. 2017 and RetinaNet): a box
# with a shorter side is less than one cell of it.
TINY_SIDE = 8
# That share of the recall rests on objects of less than a cell: a quarter bounds what can be reached, a twentieth is
# about what AP varies by between two trainings.
MANY_TINY, SOME_TINY = 0.25, 0.05
# Of a category: more than half of its objects, if there are enough that it is not a few odd ones.
TINY_IN_CATEGORY, LEAST_OBJECTS = 0.5, 10
# A larger input costs its square in time and memory; beyond three times the side, tiles are cheaper.
LARGEST_FACTOR = 3.0
# Feature maps down to a stride of 64 divide it without a rest.
INPUT_MULTIPLE = 64

# Two annotators, or two boxes around neighbours, hardly ever agree to 95%; copies do.
SAME_BOX_IOU = 0.95
# A duplicate is an object that non-maximum suppression never lets through: this share of the recall is lost.
MANY_DUPLICATES = 0.01

# The box around a mask has an IoU of 1 with its box but for rounding. Below 0.5 they would not even match in AP50.
LEAST_MASK_IOU = 0.5
MANY_MASKS = 0.01

# In pixels: a box that ends at the border, or at the last pixel before it.
BORDER = 1.0
# Everyday photographs have up to a quarter of their objects cut; more come from crops, tiles and close-ups.
MANY_CUT = 0.4

WHOLE_IMAGE = 0.99  # of its area
# A tenth are close-ups; from half on, the boxes say no more than labels of whole images.
SOME_WHOLE, MOST_WHOLE = 0.1, 0.5

# Long side to short side. Nothing that is usual in a category with a median below 4 is five times as long.
IMPROBABLE_RATIO, USUAL_RATIO = 20.0, 4.0


@data_check
def empty_boxes(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Boxes without area: training takes them as objects."""
    objects = single_objects(survey)
    # Written so that a coordinate that is no number counts, too.
    empty = objects[~((objects["ymax"] > objects["ymin"]) & (objects["xmax"] > objects["xmin"]))]
    if len(empty):
        yield Finding(
            "empty_boxes",
            "warning",
            survey.name,
            f"{counted(survey, len(empty), len(objects))} {verb(len(empty), 'has a box', 'have boxes')} without area",
            "correct or remove them in the annotations",
            cause="whose size the model would have to predict as the logarithm of 0, so that the loss jumps",
            evidence={"objects": len(empty), "of": len(objects)},
            images=image_ids(survey, empty["image"]),
            impact=len(empty) / len(objects),
        )


@data_check
def boxes_below_one_pixel(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Boxes that are thinner than a pixel of their own image: mistakes of annotating or converting."""
    objects = single_objects(survey)
    side = box_sides(objects, input_sizes(survey.images, None)).min(axis=1, skipna=False)
    thin = objects[(side > 0) & (side < 1)]
    if len(thin):
        share = len(thin) / len(objects)
        yield Finding(
            "boxes_below_one_pixel",
            "warning" if share >= MANY_DUPLICATES else "note",
            survey.name,
            f"{counted(survey, len(thin), len(objects))} {verb(len(thin), 'is', 'are')} less than a pixel of the image"
            " wide or high",
            "correct or remove them in the annotations",
            cause="as clicks and mistakes of a conversion are",
            evidence={"objects": len(thin), "of": len(objects)},
            images=image_ids(survey, thin["image"]),
            impact=share,
        )


@data_check
def tiny_boxes(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Objects of which the model sees only a few pixels."""
    if facts is None or not has_input_size(facts):
        return
    objects = single_objects(survey)
    side = box_sides(objects, input_sizes(survey.images, facts)).min(axis=1)
    known = side > 0
    objects, side = objects[known], side[known]
    if not len(objects):
        return
    is_tiny = side < TINY_SIDE
    share = float(is_tiny.mean())
    categories = _with_many(survey, objects, is_tiny)
    if share < SOME_TINY and not categories:
        return
    factor = TINY_SIDE / max(float(side.quantile(SOME_TINY)), 1e-9)
    settings, remedy = _larger_input(facts, factor)
    of_categories = f" (of {quoted(categories[:5])} more than half)" if categories else ""
    yield Finding(
        "tiny_boxes",
        "warning" if share >= MANY_TINY else "note",
        survey.name,
        f"{counted(survey, int(is_tiny.sum()), len(objects))}{of_categories} are less than {TINY_SIDE} pixels wide or"
        f" high at the model's input size ({_input_size(facts)})",
        remedy,
        cause="which is less than one cell of the finest feature map of most models",
        field=facts.fields.get("input_height"),
        evidence={
            "objects": int(is_tiny.sum()),
            "of": len(objects),
            "categories": categories,
            "quartiles_of_the_shorter_side": [round(float(side.quantile(at)), 1) for at in (0.25, 0.5, 0.75)],
        },
        settings=settings,
        images=image_ids(survey, objects["image"][is_tiny]),
        impact=share,
    )


def _with_many(survey: Survey, objects: pd.DataFrame, is_tiny: pd.Series[Any]) -> list[str]:
    of_category = is_tiny.groupby(objects["category"]).agg(["mean", "size"])
    many = of_category[(of_category["mean"] > TINY_IN_CATEGORY) & (of_category["size"] >= LEAST_OBJECTS)]
    ids = many.sort_values("mean", ascending=False, kind="stable").index
    return [survey.categories[category] for category in ids if category in survey.categories]


def _input_size(facts: ConfigFacts) -> str:
    if facts.resize_range:
        shortest, longest = facts.resize_range
        return f"shorter side {shortest}, longer side at most {longest}"
    return f"{facts.input_width}x{facts.input_height}"


def _larger_input(facts: ConfigFacts, factor: float) -> tuple[tuple[str, ...], str]:
    height, width = facts.resize_range or (facts.input_height or 0, facts.input_width or 0)
    tiles = "cut the images into overlapping tiles, for training and for detecting"
    if not 1 < factor <= LARGEST_FACTOR:
        return (), tiles
    larger = {
        "input_height": math.ceil(height * factor / INPUT_MULTIPLE) * INPUT_MULTIPLE,
        "input_width": math.ceil(width * factor / INPUT_MULTIPLE) * INPUT_MULTIPLE,
    }
    settings = facts.setting(**larger)
    if not settings:
        return (), f"choose a model with a larger input, or {tiles}"
    return settings, (
        f"make the input {larger['input_height'] / height:.3g} times as large, so that {percent(SOME_TINY)} of the"
        f" objects or fewer are so small, or {tiles}"
    )


@data_check
def duplicate_objects(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Objects that are annotated more than once with the same category."""
    objects = _with_area(single_objects(survey))
    first, second = same_boxes(objects)
    category = objects["category"].to_numpy(np.int64)
    copies = np.unique(second[category[first] == category[second]])
    if len(copies):
        share = len(copies) / len(objects)
        yield Finding(
            "duplicate_objects",
            "warning" if share >= MANY_DUPLICATES else "note",
            survey.name,
            f"{counted(survey, len(copies), len(objects))} {verb(len(copies), 'repeats', 'repeat')} another object of"
            f" the same image and category (IoU {SAME_BOX_IOU} or more)",
            "remove the copies from the annotations",
            cause="and after non-maximum suppression a detector can find only one of them",
            evidence={"objects": len(copies), "of": len(objects)},
            images=image_ids(survey, objects["image"].iloc[copies]),
            impact=share,
        )


@data_check
def boxes_with_two_categories(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Boxes that are annotated with different categories."""
    objects = _with_area(single_objects(survey))
    first, second = same_boxes(objects)
    category = objects["category"].to_numpy(np.int64)
    differ = category[first] != category[second]
    both = np.unique(np.concatenate([first[differ], second[differ]]))
    if len(both):
        pairs = pd.Series(
            [tuple(sorted(pair)) for pair in zip(category[first[differ]], category[second[differ]], strict=True)]
        )
        most, times = next(iter(pairs.value_counts().items()))
        names = [survey.categories.get(int(one), f"category {one}") for one in most]
        share = len(both) / len(objects)
        yield Finding(
            "boxes_with_two_categories",
            "warning" if share >= MANY_DUPLICATES else "note",
            survey.name,
            f"{counted(survey, len(both), len(objects))} share their box with an object of another category (IoU"
            f" {SAME_BOX_IOU} or more), most often {quoted(names[:1])} with {quoted(names[1:])} ({times} times)",
            "keep the right one, unless an object can be both",
            cause="so that one of the two is probably wrong",
            sureness="likely",
            evidence={"objects": len(both), "of": len(objects), "categories": names, "times": int(times)},
            images=image_ids(survey, objects["image"].iloc[both]),
            impact=share,
        )


def _with_area(objects: pd.DataFrame) -> pd.DataFrame:
    return objects[(objects["ymax"] > objects["ymin"]) & (objects["xmax"] > objects["xmin"])]


def same_boxes(objects: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All pairs of objects of an image whose boxes are the same.

    Args:
      objects: of a survey, with area.

    Returns:
      The positions of both, int64 `[pairs]`, the earlier first.
    """
    image = objects["image"].to_numpy(np.int64)
    box = objects[["ymin", "xmin", "ymax", "xmax"]].to_numpy(np.float64)
    order = np.lexsort((box[:, 1], image))
    image, box = image[order], box[order]
    # Boxes of this IoU overlap along x in so much of each of them that their left sides are no further apart.
    reach = (1 - SAME_BOX_IOU) * (box[:, 3] - box[:, 1])
    found = []
    left = np.arange(len(order))
    for step in range(1, len(order)):
        left = left[left + step < len(order)]
        right = left + step
        near = (image[left] == image[right]) & (box[right, 1] - box[left, 1] <= reach[left] + 1e-12)
        left = left[near]  # further to the right there is none, either
        if not len(left):
            break
        right = left + step
        same = _iou(box[left], box[right]) >= SAME_BOX_IOU
        found.append(np.sort(np.stack([order[left[same]], order[right[same]]]), axis=0))
    pairs = np.concatenate(found, axis=1) if found else np.zeros((2, 0), np.int64)
    return pairs[0].astype(np.int64), pairs[1].astype(np.int64)


def _iou(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    intersection = np.clip(sides, 0, None).prod(axis=1)
    areas = (first[:, 2:] - first[:, :2]).prod(axis=1) + (second[:, 2:] - second[:, :2]).prod(axis=1)
    return np.asarray(intersection / (areas - intersection), np.float64)


@data_check
def masks_that_do_not_match_boxes(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Objects whose mask is somewhere else than their box."""
    objects = single_objects(survey)
    objects = objects[objects["mask_iou"].notna()]
    wrong = objects[objects["mask_iou"] < LEAST_MASK_IOU].sort_values("mask_iou", kind="stable")
    if len(wrong):
        share = len(wrong) / len(objects)
        yield Finding(
            "masks_that_do_not_match_boxes",
            "warning" if share >= MANY_MASKS else "note",
            survey.name,
            f"{counted(survey, len(wrong), len(objects), 'objects with masks')} {verb(len(wrong), 'has', 'have')} an"
            f" IoU below {LEAST_MASK_IOU} between the box and the box around the mask",
            "look at these images: masks in another order than boxes, of another size than the image, or reflected",
            cause="so one of the two is wrong",
            evidence={"objects": len(wrong), "of": len(objects), "lowest_iou": float(wrong["mask_iou"].iloc[0])},
            images=image_ids(survey, wrong["image"]),
            impact=share,
        )


@data_check
def objects_cut_at_the_border(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Objects whose box ends at the border of the image, if there are many."""
    objects = _with_area(single_objects(survey))
    cut = _at_border(survey, objects)
    if _surely_above(int(cut.sum()), len(objects), MANY_CUT):
        yield Finding(
            "objects_cut_at_the_border",
            "note",
            survey.name,
            f"{counted(survey, int(cut.sum()), len(objects))} end at the border of the image",
            "if the images are tiles or crops, let them overlap by the size of an object, and leave out objects of"
            " which little is left",
            cause="as objects do that are only partly in the image",
            sureness="likely",
            evidence={"objects": int(cut.sum()), "of": len(objects)},
            images=image_ids(survey, objects["image"][cut]),
        )


def _at_border(survey: Survey, objects: pd.DataFrame) -> npt.NDArray[np.bool_]:
    rows = objects["image"].to_numpy(np.int64)
    # 0.002 where the size is unknown: a pixel of an image of 500.
    margins = {
        side: np.where(size > 0, BORDER / np.maximum(size, 1), 0.002)[rows]
        for side in ("height", "width")
        for size in [survey.images[side].to_numpy(np.float64)]
    }
    return np.asarray(
        (objects["ymin"] < margins["height"])
        | (objects["xmin"] < margins["width"])
        | (objects["ymax"] > 1 - margins["height"])
        | (objects["xmax"] > 1 - margins["width"]),
        np.bool_,
    )


def _surely_above(count: int, total: int, share: float) -> bool:
    """Whether a share is above a bound by more than three standard errors, so that it is not above it by chance."""
    return total > 0 and count / total > share + 3 * math.sqrt(share * (1 - share) / total)


@data_check
def boxes_of_the_whole_image(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Boxes that hold all of the image, if there are many."""
    objects = single_objects(survey)
    area = (objects["ymax"] - objects["ymin"]).clip(upper=1) * (objects["xmax"] - objects["xmin"]).clip(upper=1)
    whole = area >= WHOLE_IMAGE
    if not _surely_above(int(whole.sum()), len(objects), SOME_WHOLE):
        return
    share = float(whole.mean())
    yield Finding(
        "boxes_of_the_whole_image",
        "warning" if share >= MOST_WHOLE else "note",
        survey.name,
        f"the boxes of {counted(survey, int(whole.sum()), len(objects))} are the whole image",
        "draw boxes around the objects, or take images that show them in their surroundings",
        cause="as if they came from labels of images, and a model learns from them to detect the image",
        sureness="likely",
        evidence={"objects": int(whole.sum()), "of": len(objects)},
        images=image_ids(survey, objects["image"][whole]),
        impact=share,
    )


@data_check
def improbable_aspect_ratios(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Boxes that are very long in categories whose boxes are not."""
    objects = _with_area(single_objects(survey))
    # What a border cuts off may well be thin.
    objects = objects[~_at_border(survey, objects)]
    sides = box_sides(objects, input_sizes(survey.images, None))
    ratio = pd.Series(ratios(sides["width"], sides["height"]), index=objects.index)
    ratio = pd.Series(np.maximum(ratio, 1 / ratio), index=objects.index)
    by_category = ratio.groupby(objects["category"])
    is_odd = (
        (ratio >= IMPROBABLE_RATIO)
        & (by_category.transform("median") <= USUAL_RATIO)
        & (by_category.transform("count") >= LEAST_OBJECTS)
    )
    odd = objects.assign(ratio=ratio)[is_odd].sort_values("ratio", ascending=False, kind="stable")
    if len(odd):
        names = per_category(survey)["name"].reindex(odd["category"].unique()).dropna()
        yield Finding(
            "improbable_aspect_ratios",
            "note",
            survey.name,
            f"{counted(survey, len(odd), len(objects), 'objects away from the border')}, of"
            f" {quoted(names[:5])}, {verb(len(odd), 'has a box', 'have boxes')} {IMPROBABLE_RATIO:g} times as long as"
            f" wide or more (up to {odd['ratio'].iloc[0]:.0f}), while half of the boxes of the same category are at"
            f" most {USUAL_RATIO:g} times",
            "look at them, and correct those that are wrong",
            cause="as happens when a corner is dragged by mistake",
            sureness="possible",
            evidence={"objects": len(odd), "of": len(objects), "largest_ratio": float(odd["ratio"].iloc[0])},
            images=image_ids(survey, odd["image"]),
            impact=len(odd) / len(objects),
        )
