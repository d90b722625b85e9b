"""Checks of the categories of a dataset, and of those that training and evaluation data do not share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.data_checks import data_check, pair_check
from od_eval.findings.data_checks.common import has_labels, image_ids, is_for_training, verb
from od_eval.findings.finding import Finding
from od_eval.findings.survey import Survey
from od_eval.findings.survey_statistics import objects_per_image, per_category, single_objects
from od_eval.text import named, quoted

_MOST_NAMES = 10

# LVIS calls categories in up to 10 images rare and in more than 100 frequent (Gupta et al. 2019, section 3): on rare
# ones its baselines reach less than half of the AP of frequent ones.
RARE_IMAGES, FREQUENT_IMAGES = 10, 100
# The ratios at which Buda et al. ("A systematic study of the class imbalance problem", 2018) see an effect, and a
# strong one.
IMBALANCE, STRONG_IMBALANCE = 20, 100

# Of images with one of two categories those with both.
ALWAYS_TOGETHER = 0.95
# With 20 images, and others without, chance does not do it: two sets of 20 of 25 are the same once in 53,130 times.
TOGETHER_IMAGES, TOGETHER_MOST = 20, 0.8
_MOST_CATEGORIES = 2000  # the table of pairs of more would need more than 32 MB


@data_check
def categories_without_objects(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Categories that the model has, but the training data have not."""
    if not is_for_training(survey) or not len(survey.objects):
        return
    table = per_category(survey)
    unused = table[table["objects"] == 0]
    if len(unused):
        them, are = verb(len(unused), "it", "them"), verb(len(unused), "it is", "they are")
        yield Finding(
            "categories_without_objects",
            "warning" if survey.is_complete else "note",
            survey.name,
            f"{_of_all(len(unused), len(table))} {verb(len(unused), 'has', 'have')} no object in"
            f" {_images(survey)} ({_names(unused['name'])})",
            f"remove {them} from the label map (and reduce num_classes) if {are} not needed; else add images, or"
            " correct names that are spelled in two ways",
            cause=f"so that the model cannot learn {them}" if survey.is_complete else "so far",
            sureness="certain" if survey.is_complete else "possible",
            field=facts.fields.get("num_classes") if facts else None,
            evidence={"categories": unused["name"].tolist(), "of": len(table)},
            impact=len(unused) / len(table),
        )


@data_check
def rare_categories(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Categories that few images to train on show."""
    if not is_for_training(survey) or not survey.is_complete:
        return
    table = per_category(survey)
    rare = table[(table["images"] > 0) & (table["images"] <= RARE_IMAGES)].sort_values("images", kind="stable")
    if len(rare):
        them = verb(len(rare), "it", "them")
        shown = ", ".join(f"'{named(str(row.name))}' in {row.images}" for row in rare[:_MOST_NAMES].itertuples())
        yield Finding(
            "rare_categories",
            "warning",
            survey.name,
            f"{_of_all(len(rare), len(table))} {verb(len(rare), 'is', 'are')} in {RARE_IMAGES} images or fewer"
            f" ({shown}{', …' if len(rare) > _MOST_NAMES else ''})",
            f"add images of {them} ({FREQUENT_IMAGES} make a difference)"
            + (f", or merge {them} with a similar category" if len(table) > 1 else ""),
            cause="from which a model hardly learns to recognize others",
            evidence={str(row.name): int(row.images) for row in rare.itertuples()},
            impact=len(rare) / len(table),
        )


@data_check
def imbalanced_categories(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Categories that are much more frequent than others."""
    if not is_for_training(survey):
        return
    table = per_category(survey)
    table = table[table["objects"] > 0]
    if len(table) < 2:
        return
    most, least = table.loc[table["objects"].idxmax()], table.loc[table["objects"].idxmin()]
    ratio = most["objects"] / least["objects"]
    if ratio >= IMBALANCE:
        is_strong = ratio >= STRONG_IMBALANCE and least["images"] < FREQUENT_IMAGES and survey.is_complete
        yield Finding(
            "imbalanced_categories",
            "warning" if is_strong else "note",
            survey.name,
            f"'{named(most['name'])}' has {ratio:.0f} times as many objects as '{named(least['name'])}'"
            f" ({most['objects']} and {least['objects']})",
            f"add images with '{named(least['name'])}', or repeat those there are, as a separate record file with a"
            " weight in train_input_reader.sample_from_datasets_weights",
            cause="and what is seldom seen is learned late and found less often",
            sureness="likely",
            field="train_input_reader.sample_from_datasets_weights" if facts else None,
            evidence={"ratio": float(ratio), "most": str(most["name"]), "least": str(least["name"])},
        )


@data_check
def categories_always_together(survey: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Pairs of categories that are in the same images."""
    if not is_for_training(survey) or len(survey.categories) > _MOST_CATEGORIES:
        return
    objects = single_objects(survey)
    ids = np.array(sorted(survey.categories), np.int64)
    objects = objects[objects["category"].isin(ids)]
    pairs = np.unique(objects[["image", "category"]].to_numpy(np.int64), axis=0)
    if not len(pairs):
        return
    together = np.zeros((len(ids), len(ids)), np.int64)
    columns = np.searchsorted(ids, pairs[:, 1])
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    for of_image in np.split(columns, starts[1:]):
        together[of_image[:, None], of_image] += 1
    images = together.diagonal()
    either = images[:, None] + images - together
    with_objects = int((objects_per_image(survey) > 0).sum())
    found = np.triu(
        (together >= ALWAYS_TOGETHER * either)
        & (together >= TOGETHER_IMAGES)
        & (either <= TOGETHER_MOST * with_objects),
        1,
    )
    pairs_found = [
        (survey.categories[int(ids[first])], survey.categories[int(ids[second])])
        for first, second in np.argwhere(found)
    ]
    if pairs_found:
        first, second = np.argwhere(found)[0]
        more = f", and {len(pairs_found) - 1} more such pairs" if len(pairs_found) > 2 else ""
        more = ", and another such pair" if len(pairs_found) == 2 else more
        yield Finding(
            "categories_always_together",
            "note",
            survey.name,
            f"'{named(pairs_found[0][0])}' and '{named(pairs_found[0][1])}' are in the same {together[first, second]}"
            f" images of {either[first, second]} with one of them{more}",
            "add images with only one of them, or make them one category",
            cause="so that a model may take one as the sign of the other",
            sureness="possible",
            evidence={"pairs": [list(pair) for pair in pairs_found[:_MOST_NAMES]]},
        )


@pair_check
def categories_missing_in_training(first: Survey, second: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Categories of the evaluation data that are not trained."""
    if not _have_labels(first, second):
        return
    train, other = per_category(first), per_category(second)
    missing = other[(other["objects"] > 0) & (train["objects"].reindex(other.index, fill_value=0) == 0)]
    if len(missing):
        objects = single_objects(second)
        yield Finding(
            "categories_missing_in_training",
            "error" if first.is_complete else "warning",
            second.name,
            f"{len(missing)} of {int((other['objects'] > 0).sum())} categories with objects"
            f" {verb(len(missing), 'has', 'have')} none in {_images(first)} of {first.name}"
            f" ({_names(missing['name'])})",
            "add them to the training data, leave them out of the evaluation, or give both the same names and ids",
            cause="so that a model cannot find them, and each counts as an AP of 0 in the average",
            sureness="certain" if first.is_complete else "possible",
            evidence={str(row.name): int(row.objects) for row in missing.itertuples()},
            images=image_ids(second, objects["image"][objects["category"].isin(missing.index)]),
            impact=len(missing) / max(1, int((other["objects"] > 0).sum())),
        )


@pair_check
def categories_rare_in_training(first: Survey, second: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Categories that more images evaluate than train, and few train."""
    if not _have_labels(first, second) or not first.is_complete:
        return
    train, other = per_category(first), per_category(second)
    images = train["images"].reindex(other.index, fill_value=0)
    rare = other.assign(train=images)[(images > 0) & (images <= RARE_IMAGES) & (other["images"] > images)]
    if len(rare):
        shown = ", ".join(
            f"'{named(str(row.name))}' {row.images} and {row.train}" for row in rare[:_MOST_NAMES].itertuples()
        )
        yield Finding(
            "categories_rare_in_training",
            "warning",
            second.name,
            f"{len(rare)} of {len(other)} categories {verb(len(rare), 'is', 'are')} in more images here than in"
            f" {first.name}, where {verb(len(rare), 'it is', 'they are')} in {RARE_IMAGES} or fewer ({shown})",
            "split the data again, so that each category is mostly in the training data",
            cause="so that most of what there is of them is not trained on",
            evidence={str(row.name): [int(row.images), int(row.train)] for row in rare.itertuples()},
            impact=len(rare) / len(other),
        )


@pair_check
def categories_not_evaluated(first: Survey, second: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Categories that are trained, but not evaluated."""
    if not _have_labels(first, second) or not second.is_complete:
        return
    train, other = per_category(first), per_category(second)
    missing = train[(train["objects"] > 0) & (other["objects"].reindex(train.index, fill_value=0) == 0)]
    if len(missing):
        yield Finding(
            "categories_not_evaluated",
            "note",
            second.name,
            f"{len(missing)} of {int((train['objects'] > 0).sum())} categories of {first.name}"
            f" {verb(len(missing), 'has', 'have')} no object here ({_names(missing['name'])})",
            "add images that show them",
            cause="so that nothing will be known of how well they are found",
            evidence={"categories": missing["name"].tolist()},
        )


def _have_labels(first: Survey, second: Survey) -> bool:
    return has_labels(first) and has_labels(second) and bool(len(first.objects)) and bool(len(second.objects))


def _names(names: Iterable[str]) -> str:
    names = list(names)
    return quoted(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")


def _of_all(number: int, of: int) -> str:
    return "the only category" if of == 1 else f"{number} of {of} categories"


def _images(survey: Survey) -> str:
    return f"{len(survey.images)} images{'' if survey.is_complete else ' that were read'}"
