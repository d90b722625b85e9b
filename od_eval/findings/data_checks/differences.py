"""Checks of two datasets for what differs more than chance explains: images and objects unlike those trained on.

Each statistic is tested by a permutation of images between the two datasets, as objects of one image are not
independent of each other. How much it differs is measured on one scale from 0 to 1: for numbers by the distance of
Kolmogorov and Smirnov, for categories by the total variation distance. Both say which share of images or objects is
elsewhere, and so how large a difference is, which a p-value of many images does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.data_checks import pair_check
from od_eval.findings.data_checks.common import has_labels, percent
from od_eval.findings.finding import Finding
from od_eval.findings.survey import Survey
from od_eval.findings.survey_statistics import (
    box_sides,
    has_input_size,
    input_sizes,
    objects_per_image,
    ratios,
    single_objects,
)
from od_eval.text import named

# The distances of two normal distributions whose means are 0.5 and 0.8 standard deviations apart, which J. Cohen
# ("Statistical Power Analysis for the Behavioral Sciences", 1988) calls a medium and a large effect: 2Φ(d/2) - 1.
MEDIUM, LARGE = 0.197, 0.311
# What is no difference: rounded when an image is resized, changed by encoding it anew, or by another annotator.
SAME_RATIO, SAME_PART = 0.05, 0.02
# Of the error of the first kind, for all statistics of a pair of datasets together (S. Holm, 1979).
ALPHA = 0.01
# The lowest p-value, 1 in 2,000, is below ALPHA by the number of statistics.
PERMUTATIONS = 1999
# Of each dataset; of that many any difference above MEDIUM is significant: that of p = 0.0005 is 0.09.
_MOST_IMAGES = 1000
_MOST_BINS = 64  # numbers at which distribution functions are compared: their distance is exact but for 1/64
_AT_ONCE = 200  # permutations
_SEED = 0
# An augmentation that begins so -> what those are called that do the same, among others.
_CONTAINED_IN = {"random_crop": "crop", "random_pad": "pad", "random_adjust": "distort_color"}

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.float32]


class Values(NamedTuple):
    """The values of a statistic: the rows of their images, int64 `[n]`, and the values, float64 `[n]`."""

    image: Ints
    value: Floats


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A property of images or objects in which datasets can differ.

    Attributes:
      name: for evidence and kind: `image_resolution`.
      called: in a sentence, in the singular.
      values: of a survey.
      unit: of the values, after a number.
      kind: `number`; `ratio`: above 0, and compared by its logarithm; `part`: 0 to 1; `category`: an id; `yes`: 1 or 0.
      things: what has a value: `images` or `objects`.
      needs_labels: whether it is none of images without labels.
      remedy: what to do.
      augmentations: of `data_augmentation_options`, what makes training data more like those with lower values, and
        like those with higher ones.
    """

    name: str
    called: str
    values: Callable[[Survey, ConfigFacts | None], Values]
    unit: str = ""
    kind: str = "number"
    things: str = "objects"
    needs_labels: bool = True
    remedy: str = "train on images like these, or evaluate on images like those that are trained on"
    augmentations: tuple[str, str] = ("", "")


class Difference(NamedTuple):
    """How two datasets differ in a statistic.

    Attributes:
      effect: 0 to 1, see above.
      p_value: that the same images, divided by chance, differ as much; 1 if the effect is not medium.
    """

    effect: float
    p_value: float


class _Test(NamedTuple):
    statistic: Statistic
    trained: Values
    other: Values
    difference: Difference


@pair_check
def differences(first: Survey, second: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Statistics in which a dataset differs from the training data, most different first."""
    labels = all(has_labels(survey) and len(survey.objects) for survey in (first, second))
    tests: list[_Test] = []
    for statistic in STATISTICS:
        if labels or not statistic.needs_labels:
            trained, other = (_known(statistic.values(survey, facts), statistic) for survey in (first, second))
            if len(trained.value) and len(other.value):
                tests.append(_Test(statistic, trained, other, _difference(statistic, trained, other)))
    # Holm: the lowest p-value counts as many times as there are tests, the next one once less.
    tests.sort(key=lambda test: test.difference.p_value)
    num_significant = next(
        (rank for rank, test in enumerate(tests) if test.difference.p_value * (len(tests) - rank) > ALPHA), len(tests)
    )
    # Of the same effect, those that come first in `STATISTICS`.
    for test in sorted(
        tests[:num_significant], key=lambda test: (-test.difference.effect, STATISTICS.index(test.statistic))
    ):
        yield _finding(first, second, facts, test)


def difference(first: Values, second: Values, *, is_category: bool = False, tolerance: float = 0.0) -> Difference:
    """How much two samples differ, and whether chance explains it.

    Args:
      first, second: values, all finite, at least one each. Up to 1,000 images of each are taken, drawn by chance.
      is_category: whether values are ids, and not numbers.
      tolerance: by how much numbers may differ without being different.
    """
    rng = np.random.default_rng(_SEED)
    first, second = _sample(first, rng), _sample(second, rng)
    pooled = np.concatenate([first.value, second.value])
    count, distance = (_of_categories, _total_variation) if is_category else (_of_numbers, _kolmogorov_smirnov)
    counts = np.concatenate([count(one, pooled, tolerance) for one in (first, second)])
    in_first = np.arange(len(counts)) < len(np.unique(first.image))
    observed = float(distance(in_first[None], counts)[0])
    if observed < MEDIUM:
        return Difference(observed, 1.0)
    as_large = 0
    for start in range(0, PERMUTATIONS, _AT_ONCE):
        groups = np.tile(in_first, (min(_AT_ONCE, PERMUTATIONS - start), 1))
        distances = distance(rng.permuted(groups, axis=1), counts)
        as_large += int((distances >= observed - 1e-6).sum())
    return Difference(observed, (as_large + 1) / (PERMUTATIONS + 1))


def _difference(statistic: Statistic, trained: Values, other: Values) -> Difference:
    if statistic.kind == "ratio":
        trained, other = (Values(one.image, np.log(one.value)) for one in (trained, other))
    tolerance = {"ratio": SAME_RATIO, "part": SAME_PART}.get(statistic.kind, 0.0)
    return difference(trained, other, is_category=statistic.kind == "category", tolerance=tolerance)


def _known(values: Values, statistic: Statistic) -> Values:
    known = np.isfinite(values.value) & ((values.value > 0) | (statistic.kind != "ratio"))
    return Values(values.image[known], values.value[known])


def _sample(values: Values, rng: np.random.Generator) -> Values:
    images = np.unique(values.image)
    if len(images) <= _MOST_IMAGES:
        return values
    chosen = np.isin(values.image, rng.choice(images, _MOST_IMAGES, replace=False))
    return Values(values.image[chosen], values.value[chosen])


def _of_categories(values: Values, pooled: Floats, tolerance: float) -> Counts:
    """How many values of each image are each of the ids among `pooled`, `[images, ids]`."""
    ids = np.unique(pooled)
    images, row = np.unique(values.image, return_inverse=True)
    flat = row * len(ids) + np.searchsorted(ids, values.value)
    return np.bincount(flat, minlength=len(images) * len(ids)).reshape(len(images), len(ids)).astype(np.float32)


def _of_numbers(values: Values, pooled: Floats, tolerance: float) -> Counts:
    """How many values of each image are at most a number, and at most so much above, for n numbers: `[images, 2 * n]`.

    The numbers are those among `pooled`, or its quantiles. The last one is the highest, so its column has all values.
    """
    numbers = np.unique(pooled)
    if len(numbers) > _MOST_BINS:
        numbers = np.unique(np.quantile(pooled, np.linspace(0, 1, _MOST_BINS), method="inverted_cdf"))
    images, row = np.unique(values.image, return_inverse=True)
    halves = []
    for edges in (numbers, numbers + tolerance):
        at = np.searchsorted(edges, values.value, "left")  # the first edge that it is at most
        flat = row * (len(edges) + 1) + at
        counts = np.bincount(flat, minlength=len(images) * (len(edges) + 1)).reshape(len(images), len(edges) + 1)
        halves.append(np.cumsum(counts[:, :-1], axis=1))
    return np.concatenate(halves, axis=1).astype(np.float32)


def _total_variation(in_first: npt.NDArray[np.bool_], counts: Counts) -> Floats:
    """Half the sum of the differences of shares, for each division of images into two groups, float64 `[divisions]`."""
    of_first, of_second = _of_groups(in_first, counts)
    shares = [group / group.sum(axis=1, keepdims=True) for group in (of_first, of_second)]
    return np.asarray(np.abs(shares[0] - shares[1]).sum(axis=1) / 2, np.float64)


def _kolmogorov_smirnov(in_first: npt.NDArray[np.bool_], counts: Counts) -> Floats:
    """The largest difference of the distribution functions, one of them moved by the tolerance; `[divisions]`."""
    of_first, of_second = _of_groups(in_first, counts)
    middle = counts.shape[1] // 2
    shares = [group / group[:, middle - 1 : middle] for group in (of_first, of_second)]
    lower = shares[0][:, :middle] - shares[1][:, middle:]
    higher = shares[1][:, :middle] - shares[0][:, middle:]
    return np.asarray(np.maximum(lower, higher).max(axis=1).clip(min=0), np.float64)


def _of_groups(in_first: npt.NDArray[np.bool_], counts: Counts) -> tuple[Floats, Floats]:
    of_first = (in_first.astype(np.float32) @ counts).astype(np.float64)
    return of_first, counts.sum(axis=0, dtype=np.float64) - of_first


def _finding(first: Survey, second: Survey, facts: ConfigFacts | None, test: _Test) -> Finding:
    statistic, trained, other, result = test
    evidence: dict[str, Any] = {"effect": result.effect, "p_value": result.p_value}
    sizes = f"{len(other.value)} {statistic.things} here and {len(trained.value)} there"
    chance = "p < 0.001" if result.p_value < 0.001 else f"p = {result.p_value:.3f}"
    if statistic.kind == "yes":
        symptom = (
            f"{percent(float(other.value.mean()))} of the images {statistic.called}, and"
            f" {percent(float(trained.value.mean()))} in {first.name} ({sizes}, {chance})"
        )
        evidence |= {"shares": [float(trained.value.mean()), float(other.value.mean())]}
    elif statistic.kind == "category":
        symptom, shares = _categories(first, trained, other)
        symptom += f" ({sizes}; in all a difference of {percent(result.effect)}, {chance})"
        evidence |= shares
    else:
        quartiles = [[float(at) for at in np.percentile(one.value, [25, 50, 75])] for one in (trained, other)]
        was, now = (
            f"{_shown(median)}{statistic.unit} (half of them between {_shown(low)} and {_shown(high)})"
            for low, median, high in quartiles
        )
        symptom = (
            f"the {statistic.called} differs from that of {first.name}: the median is {now} instead of {was}; {sizes},"
            f" Kolmogorov–Smirnov distance {result.effect:.2f}, {chance}"
        )
        evidence |= {"quartiles": quartiles}
    augmentation = statistic.augmentations[int(np.median(other.value) > np.median(trained.value))]
    settings: tuple[str, ...] = ()
    remedy = statistic.remedy
    if facts is not None and augmentation and not _has(facts, augmentation):
        settings = (f"train_config {{ data_augmentation_options {{ {augmentation} {{}} }} }}",)
        remedy += f", or add {augmentation} to train_config.data_augmentation_options"
    return Finding(
        f"different_{statistic.name}",
        "warning" if result.effect >= LARGE else "note",
        second.name,
        symptom,
        remedy,
        cause="more than chance explains, so that a model sees here what it was hardly trained on",
        field="train_config.data_augmentation_options" if settings else None,
        evidence=evidence,
        settings=settings,
        impact=result.effect,
    )


def _has(facts: ConfigFacts, augmentation: str) -> bool:
    others = next((part for name, part in _CONTAINED_IN.items() if augmentation.startswith(name)), augmentation)
    return any(augmentation == name or others in name for name in facts.augmentations)


def _categories(first: Survey, trained: Values, other: Values) -> tuple[str, dict[str, Any]]:
    ids = np.unique(np.concatenate([trained.value, other.value]))
    was, now = ((one.value[:, None] == ids).mean(axis=0) for one in (trained, other))
    most = int(np.abs(now - was).argmax())
    name = first.categories.get(int(ids[most]), f"category {int(ids[most])}")
    symptom = (
        f"the shares of the categories differ from those of {first.name}, most for '{named(name)}':"
        f" {percent(float(now[most]))} instead of {percent(float(was[most]))}"
    )
    return symptom, {"category": name, "shares": [float(was[most]), float(now[most])]}


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _of_images(values: npt.ArrayLike) -> Values:
    numbers = np.asarray(values, np.float64)
    return Values(np.arange(len(numbers)), numbers)


def _resolution(survey: Survey, facts: ConfigFacts | None) -> Values:
    size = input_sizes(survey.images, None)
    return _of_images(np.sqrt(size["width"] * size["height"]))


def _image_aspect_ratio(survey: Survey, facts: ConfigFacts | None) -> Values:
    return _of_images(ratios(survey.images["width"], survey.images["height"]))


def _measure(column: str) -> Callable[[Survey, ConfigFacts | None], Values]:
    return lambda survey, facts: _of_images(survey.images[column])


def _objects_per_image(survey: Survey, facts: ConfigFacts | None) -> Values:
    return _of_images(objects_per_image(survey))


def _without_objects(survey: Survey, facts: ConfigFacts | None) -> Values:
    return _of_images(objects_per_image(survey) == 0)


def _category(survey: Survey, facts: ConfigFacts | None) -> Values:
    objects = single_objects(survey)
    objects = objects[objects["category"].isin(list(survey.categories))]
    return Values(objects["image"].to_numpy(np.int64), objects["category"].to_numpy(np.float64))


def _of_boxes(values: Callable[[Any, Any], Any]) -> Callable[[Survey, ConfigFacts | None], Values]:
    """A statistic of objects and the sides of their boxes at the input size, or as parts of the image if unknown."""

    def statistic(survey: Survey, facts: ConfigFacts | None) -> Values:
        objects = single_objects(survey)
        sides = box_sides(objects, input_sizes(survey.images, facts)).clip(lower=0)
        if not has_input_size(facts):
            own = input_sizes(survey.images, None)
            own_sides = np.sqrt(own["width"] * own["height"]).to_numpy(np.float64)
            sides = sides.div(own_sides[objects["image"].to_numpy(np.int64)], axis=0)
        return Values(objects["image"].to_numpy(np.int64), np.asarray(values(objects, sides), np.float64))

    return statistic


# The first ones first where two differ by the same.
STATISTICS = (
    Statistic(
        "image_resolution",
        "resolution of the images (square root of width times height)",
        _resolution,
        " pixels",
        things="images",
        needs_labels=False,
        kind="ratio",
    ),
    Statistic(
        "image_aspect_ratio",
        "aspect ratio of the images (width to height)",
        _image_aspect_ratio,
        things="images",
        needs_labels=False,
        kind="ratio",
    ),
    Statistic("categories", "category", _category, kind="category"),
    Statistic("objects_per_image", "number of objects in an image", _objects_per_image, things="images"),
    Statistic("images_without_objects", "have no objects", _without_objects, kind="yes", things="images"),
    Statistic(
        "box_size",
        "size of boxes (square root of the area)",
        _of_boxes(lambda objects, sides: np.sqrt(sides["height"] * sides["width"])),
        # A smaller object is one in a larger image, as resizing comes afterwards.
        augmentations=("random_pad_image", "random_crop_image"),
        kind="ratio",
    ),
    Statistic(
        "box_aspect_ratio",
        "aspect ratio of boxes (width to height)",
        _of_boxes(lambda objects, sides: ratios(sides["width"], sides["height"])),
        kind="ratio",
    ),
    Statistic(
        "box_x",
        "horizontal position of objects (0 left, 1 right)",
        _of_boxes(lambda objects, sides: (objects["xmin"] + objects["xmax"]) / 2),
        augmentations=("random_crop_image", "random_crop_image"),
        kind="part",
    ),
    Statistic(
        "box_y",
        "vertical position of objects (0 top, 1 bottom)",
        _of_boxes(lambda objects, sides: (objects["ymin"] + objects["ymax"]) / 2),
        augmentations=("random_crop_image", "random_crop_image"),
        kind="part",
    ),
    Statistic(
        "brightness",
        "brightness of the images (0 to 1)",
        _measure("brightness"),
        things="images",
        needs_labels=False,
        augmentations=("random_adjust_brightness", "random_adjust_brightness"),
        kind="part",
    ),
    Statistic(
        "contrast",
        "contrast of the images (standard deviation of the luma)",
        _measure("contrast"),
        things="images",
        needs_labels=False,
        augmentations=("random_adjust_contrast", "random_adjust_contrast"),
        kind="part",
    ),
    Statistic(
        "saturation",
        "saturation of the images (0 to 1)",
        _measure("saturation"),
        things="images",
        needs_labels=False,
        augmentations=("random_adjust_saturation", "random_adjust_saturation"),
        kind="part",
    ),
)
