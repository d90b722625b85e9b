"""Checks of the images of a dataset: what is empty, repeated, of another kind, or of a size the model does not suit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.data_checks import data_check
from od_eval.findings.data_checks.common import counted, has_labels, image_ids, is_for_training, percent, verb
from od_eval.findings.finding import Finding
from od_eval.findings.similar_images import MOST_DIFFERENT_BITS, hashes_of, similar_to_another
from od_eval.findings.survey import Survey
from od_eval.findings.survey_statistics import objects_per_image, ratios
from od_eval.text import named

# From here on most of a batch teaches what is no object, which a few images would.
MANY_BACKGROUND = 0.5
# With fewer images it may be chance that none is empty; published guides want up to a tenth, and of 100 that is 10.
LEAST_IMAGES = 100

MANY_COPIES = 0.01  # more than slips in by mistake
# Of images with a neighbour: as in videos, not in collections of photographs.
SEQUENCE_SHARE = 0.2

_COLOR = {"RGB", "YCbCr", "LAB", "HSV"}
_GRAY = {"L", "1", "La", "LA"}
_ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
_OF_MORE_THAN_8_BITS = ("I", "F")  # `I;16` and others, too
SOME_GRAY = 0.01  # fewer are usual in collections of photographs

# 95th to 5th percentile of the square root of the area. Pyramids of feature maps span a factor of 16 (P3 to P7): a
# quarter of it is taken by images that are resized differently.
STRONGLY_DIFFERENT = 4.0

UPSCALED = 2.0  # each pixel becomes four
MAJORITY = 0.5

# 4:3 in a square is stretched by 1.3 and 16:9 by 1.8, as most models are trained and work well.
STRETCHED = 2.0
SOME_STRETCHED = 0.05


@data_check
def images_without_objects(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Too many images to train on that show nothing."""
    if not is_for_training(survey) or not len(survey.objects):
        return
    empty = objects_per_image(survey) == 0
    share = float(empty.mean())
    if share > MANY_BACKGROUND:
        yield Finding(
            "images_without_objects",
            "warning",
            survey.name,
            f"{counted(survey, int(empty.sum()), len(empty), 'images')} have no objects",
            "if objects are missing there, annotate them; else leave most of these images out",
            cause="and where objects are not annotated, the model learns to overlook them",
            sureness="possible",
            evidence={"images": int(empty.sum()), "of": len(empty)},
            images=image_ids(survey, np.flatnonzero(empty)),
            impact=share,
        )


@data_check
def no_background_images(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Every image to train on has objects."""
    if not is_for_training(survey) or len(survey.images) < LEAST_IMAGES or not len(survey.objects):
        return
    if (objects_per_image(survey) > 0).all():
        yield Finding(
            "no_background_images",
            "note",
            survey.name,
            f"all {len(survey.images)} images{'' if survey.is_complete else ' that were read'} have objects",
            "if the model is to see images without objects where it is used, add some (up to a tenth)",
            cause="so that the model is never shown what an image without any looks like",
            sureness="possible",
            evidence={"images": len(survey.images)},
        )


@data_check
def images_of_more_than_8_bits(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Images of 16 bits and more, of which training sees 8."""
    deep = survey.images["mode"].astype(str).str.startswith(_OF_MORE_THAN_8_BITS)
    if deep.any():
        modes = survey.images["mode"][deep].value_counts()
        yield Finding(
            "images_of_more_than_8_bits",
            "warning",
            survey.name,
            f"{counted(survey, int(deep.sum()), len(deep), 'images')} {verb(int(deep.sum()), 'has', 'have')} more than"
            f" 8 bits for a value (mode {named(str(modes.index[0]))})",
            "convert them to 8 bits with the range of values that matters",
            cause="of which only the upper 8 are read, so that images of 10 or 12 bits in 16 become almost black",
            evidence={"images": int(deep.sum()), "of": len(deep)},
            images=image_ids(survey, np.flatnonzero(deep)),
            impact=float(deep.mean()),
        )


@data_check
def mixed_image_modes(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Gray images among images in color."""
    modes = survey.images["mode"].astype(str)
    known = modes != ""
    gray, color = modes.isin(_GRAY), modes.isin(_COLOR)
    if known.any() and min(gray.sum(), color.sum()) >= max(1, SOME_GRAY * known.sum()):
        fewer, kind = (gray, "gray") if gray.sum() <= color.sum() else (color, "in color")
        yield Finding(
            "mixed_image_modes",
            "note",
            survey.name,
            f"{counted(survey, int(fewer.sum()), int(known.sum()), 'images')} {verb(int(fewer.sum()), 'is', 'are')}"
            f" {kind}, and the others are not",
            "if both are seen where the model is used, add random_rgb_to_gray to"
            " train_config.data_augmentation_options; else convert them",
            cause="and a model may tell categories by it",
            sureness="possible",
            evidence={"gray": int(gray.sum()), "color": int(color.sum())},
            settings=("train_config { data_augmentation_options { random_rgb_to_gray {} } }",)
            if facts and is_for_training(survey) and "random_rgb_to_gray" not in facts.augmentations
            else (),
            images=image_ids(survey, np.flatnonzero(fewer)),
        )


@data_check
def unusual_image_modes(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Images with transparency, or for printing: decoders differ in what they make of them."""
    modes = survey.images["mode"].astype(str)
    unusual = modes.isin(_ALPHA) | (modes == "CMYK")
    if unusual.any():
        counts = modes[unusual].value_counts()
        described = ", ".join(f"{count} {named(mode)}" for mode, count in counts.items())
        yield Finding(
            "unusual_image_modes",
            "note",
            survey.name,
            f"{counted(survey, int(unusual.sum()), len(modes), 'images')} {verb(int(unusual.sum()), 'has', 'have')}"
            f" transparency or the colors of printing ({described})",
            "convert them to RGB",
            cause="and decoders differ in the colors that they make of them: transparent pixels show what is hidden",
            evidence={str(mode): int(count) for mode, count in counts.items()},
            images=image_ids(survey, np.flatnonzero(unusual)),
        )


@data_check
def same_image_several_times(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Image files that are in a dataset more than once; those without labels are only looked at."""
    if not has_labels(survey):
        return
    digests = survey.images["digest"].astype(str)
    copy = digests.duplicated() & (digests != "")
    if copy.any():
        share = float(copy.mean())
        yield Finding(
            "same_image_several_times",
            "warning" if share >= MANY_COPIES else "note",
            survey.name,
            f"{counted(survey, int(copy.sum()), len(copy), 'images')} {verb(int(copy.sum()), 'is', 'are')} the same"
            " file as an earlier one",
            "leave the copies out, or merge their objects if each has a part of them",
            cause="so that they count several times, and where each copy has other objects, those of the others are"
            " background to it",
            evidence={"images": int(copy.sum()), "of": len(copy)},
            images=image_ids(survey, np.flatnonzero(copy)),
            impact=share,
        )


@data_check
def similar_images(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Many images that look like another one of the dataset, but are other files."""
    images = survey.images
    digests = images["digest"].astype(str)
    images = images[~(digests.duplicated() & (digests != ""))]
    rows, hashes = hashes_of(images)
    alike = similar_to_another(hashes)
    if len(hashes) < LEAST_IMAGES or alike.mean() < SEQUENCE_SHARE:
        return
    of_survey = np.flatnonzero(survey.images.index.isin(images.index))[rows]
    yield Finding(
        "similar_images",
        "note",
        survey.name,
        f"{int(alike.sum())} of {len(hashes)} images that were decoded ({percent(float(alike.mean()))}) look like"
        f" another one (perceptual hashes differ in at most {MOST_DIFFERENT_BITS} of 64 bits)",
        "keep some of each scene, and split the data by video or place, not by image",
        cause="as neighboring frames of a video do, so there are fewer different images than files",
        sureness="likely",
        evidence={"images": int(alike.sum()), "of": len(hashes)},
        images=image_ids(survey, of_survey[alike]),
    )


@data_check
def image_sizes_differ_strongly(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Images of very different resolution."""
    images = survey.images[(survey.images["width"] > 0) & (survey.images["height"] > 0)]
    if not len(images):
        return
    side = np.sqrt(images["width"].to_numpy(np.float64) * images["height"].to_numpy(np.float64))
    low, high = np.percentile(side, [5, 95])
    if high >= STRONGLY_DIFFERENT * low:
        smallest, largest = images.iloc[int(side.argmin())], images.iloc[int(side.argmax())]
        yield Finding(
            "image_sizes_differ_strongly",
            "note",
            survey.name,
            f"the {len(images)} images have from {smallest['width']}x{smallest['height']} to"
            f" {largest['width']}x{largest['height']} pixels, and even without the 5% at each end their sides differ by"
            f" a factor of {high / low:.1f}",
            "if objects are equally large in pixels of the images, cut the large ones into tiles of the size of the"
            " small ones",
            cause="so that after resizing the same object may be as many times larger in one than in another",
            sureness="possible",
            evidence={"factor": float(high / low), "images": len(images)},
            images=[str(smallest["id"]), str(largest["id"])],
        )


@data_check
def images_smaller_than_the_input(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Images that are enlarged a lot for the model."""
    images = survey.images[(survey.images["width"] > 0) & (survey.images["height"] > 0)]
    if facts is None or not len(images):
        return
    if facts.resize_range:
        shortest, longest = facts.resize_range
        sides = images[["width", "height"]]
        factor = np.minimum(shortest / sides.min(axis=1), longest / sides.max(axis=1))
    elif facts.input_height and facts.input_width:
        factor = np.minimum(facts.input_height / images["height"], facts.input_width / images["width"])
    else:
        return
    small = factor >= UPSCALED
    if small.mean() <= MAJORITY:
        return
    yield Finding(
        "images_smaller_than_the_input",
        "note",
        survey.name,
        f"{counted(survey, int(small.sum()), len(images), 'images')} are enlarged {UPSCALED:g} times or more for the"
        f" model's input (half of the images by {float(factor.median()):.1f} or more)",
        "take images of a higher resolution if there are any; else a smaller input is faster, and costs little unless"
        " objects are small",
        cause="which takes time and adds no detail",
        field=facts.fields.get("input_height"),
        evidence={"images": int(small.sum()), "of": len(images), "median_factor": float(factor.median())},
        images=image_ids(survey, np.flatnonzero(survey.images.index.isin(images.index[small]))),
    )


@data_check
def stretched_images(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Images that are distorted by a resizer of fixed shape."""
    if facts is None or facts.resize_range or not (facts.input_height and facts.input_width):
        return
    ratio = ratios(survey.images["width"], survey.images["height"])
    ratio = ratio[np.isfinite(ratio)]
    stretch = ratio / (facts.input_width / facts.input_height)
    stretched = np.maximum(stretch, 1 / stretch) >= STRETCHED
    if not len(ratio) or stretched.mean() < SOME_STRETCHED:
        return
    share = float(stretched.mean())
    field = facts.fields.get("input_height", "")
    resizer, _, _ = field.partition(".fixed_shape_resizer")
    longest = max(facts.input_height, facts.input_width)
    shape = f"min_dimension: {longest} max_dimension: {longest} pad_to_max_dimension: true"
    known = np.flatnonzero(((survey.images["width"] > 0) & (survey.images["height"] > 0)).to_numpy(bool))
    yield Finding(
        "stretched_images",
        "warning" if share >= MAJORITY else "note",
        survey.name,
        f"{counted(survey, int(stretched.sum()), len(ratio), 'images')} are stretched {STRETCHED:g} times or more by"
        f" resizing them to {facts.input_width}x{facts.input_height}",
        "use a keep_aspect_ratio_resizer with pad_to_max_dimension, an input of the shape of the images, or tiles",
        cause="which costs detail along the longer side and makes other anchors necessary",
        field=resizer or None,
        evidence={"images": int(stretched.sum()), "of": len(ratio), "median_aspect_ratio": float(np.median(ratio))},
        settings=(f"{resizer}={{keep_aspect_ratio_resizer {{{shape}}}}}",)
        if field.endswith(".fixed_shape_resizer.height")
        else (),
        images=image_ids(survey, known[stretched]),
        impact=share,
    )


@data_check
def no_objects(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """A dataset with labels in which nothing is labelled."""
    if has_labels(survey) and len(survey.images) and not len(survey.objects):
        yield Finding(
            "no_objects",
            "error",
            survey.name,
            f"none of the {len(survey.images)} images{'' if survey.is_complete else ' that were read'} has an object",
            "check that the annotations were converted with the images",
            cause="so there is nothing to train on or to find",
            evidence={"images": len(survey.images)},
            impact=1.0,
        )
