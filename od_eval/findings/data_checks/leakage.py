"""Checks of two datasets for images in common: a model is evaluated on what it has seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.data_checks import pair_check
from od_eval.findings.data_checks.common import MOST_IMAGES, has_labels, percent, verb
from od_eval.findings.finding import Finding, Severity
from od_eval.findings.similar_images import MOST_DIFFERENT_BITS, hashes_of, similar, similar_to_another
from od_eval.findings.survey import Survey
from od_eval.text import named

# If all objects of one image in a hundred are found instead of some, AP rises by up to 0.01: as much as what trainings
# are compared by.
TOO_MANY_IN_COMMON = 0.01
# By up to 0.05, AP rises more than models of neighboring sizes differ by; and a photograph or two are no leak of a set.
ERROR_SHARE, ERROR_IMAGES = 0.05, 3
# Where so many images of the training data look like another one of it, they are frames of videos. Copies of a few
# images into both sets leave the training data as it is.
SEQUENCE_SHARE = 0.2


@pair_check
def images_in_common(first: Survey, second: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """The same image files in both datasets, but not only them."""
    train, other = _digests(first), _digests(second)
    common = other[other.isin(train)]
    if not len(common) or (has_labels(second) and _are_the_same(first, second)):
        return
    row_of = pd.Series(train.index, index=train.to_numpy()).groupby(level=0).first()
    pairs = [(row_of[digest], row) for row, digest in common[:MOST_IMAGES].items()]
    in_train = int(train.isin(common).sum())
    yield _finding(
        "images_in_common",
        first,
        second,
        f"{_of(len(common), len(second.images), second)} {verb(len(common), 'is', 'are')} also in {first.name} (the"
        f" same files; {in_train} of {len(first.images)} there)",
        pairs,
        {"images": len(common), "of": len(second.images), "in_train": in_train},
        share=len(common) / len(second.images),
        severity="error" if len(common) >= max(ERROR_IMAGES, ERROR_SHARE * len(second.images)) else "warning",
    )


@pair_check
def same_files_for_training_and_evaluation(
    first: Survey, second: Survey, facts: ConfigFacts | None
) -> Iterator[Finding]:
    """The images that are evaluated are those that are trained on, and no others."""
    if has_labels(second) and _are_the_same(first, second):
        which = "" if first.is_complete and second.is_complete else " that were read"
        number = len(second.images)
        yield Finding(
            "same_files_for_training_and_evaluation",
            "warning",
            second.name,
            f"{f'all {number} images' if number > 1 else 'the only image'}{which} {verb(number, 'is', 'are')}"
            f" {verb(number, 'that', 'those')} of {first.name}",
            "evaluate on images that are not trained on, unless this is meant as a test of the training itself",
            cause="so that its AP says how well the images are remembered, and not how well others are detected",
            field=f"{second.name}.tf_record_input_reader.input_path",
            evidence={"images": number},
            impact=1.0,
        )


@pair_check
def similar_images_in_common(first: Survey, second: Survey, facts: ConfigFacts | None) -> Iterator[Finding]:
    """Images that look the same in both datasets, but are other files: resized, encoded anew, or the next frame."""
    known = set(_digests(first))
    rows, hashes = hashes_of(first.images)
    other_rows, other_hashes = hashes_of(second.images)
    if not len(hashes) or not len(other_hashes):
        return
    # The same files are named by `images_in_common`.
    is_other_file = ~second.images["digest"].iloc[other_rows].isin(known).to_numpy(bool)
    partner = np.where(is_other_file, similar(other_hashes, hashes), -1)
    found = np.flatnonzero(partner >= 0)
    if not len(found):
        return
    pairs = list(zip(rows[partner[found[:MOST_IMAGES]]], other_rows[found[:MOST_IMAGES]], strict=True))
    # A partner is only found where it was decoded, too.
    share = min(1.0, len(found) / len(other_hashes) * len(first.images) / len(hashes))
    decoded = (
        "" if len(hashes) == len(first.images) and len(other_hashes) == len(second.images) else " that were decoded"
    )
    evidence = {"images": len(found), "of": len(other_hashes), "compared_with": len(hashes), "estimated_share": share}
    looks = (
        f"{_of(len(found), len(other_hashes), second, decoded)} {verb(len(found), 'looks', 'look')} like one of the"
        f" {len(hashes)} of {first.name}{decoded} (perceptual hashes differ in at most {MOST_DIFFERENT_BITS} of 64"
        " bits)"
    )
    is_sequence = len(hashes) > 1 and similar_to_another(hashes).mean() >= SEQUENCE_SHARE
    if is_sequence and len(found) >= SEQUENCE_SHARE * len(other_hashes):
        yield _finding(
            "neighboring_frames_in_common",
            first,
            second,
            looks,
            pairs,
            evidence,
            share=share,
            severity="warning",
            cause="and so do images within the training data, as neighboring frames of a video do that was split image"
            " by image",
            remedy="split by video, place or day, so that all frames of a scene are in one of the sets",
        )
        return
    yield _finding(
        "similar_images_in_common",
        first,
        second,
        looks,
        pairs,
        evidence,
        share=share,
        severity="warning" if share >= TOO_MANY_IN_COMMON and len(found) > 1 else "note",
        cause="as an image does that was resized or encoded anew",
    )


def _finding(
    kind: str,
    first: Survey,
    second: Survey,
    symptom: str,
    pairs: list[tuple[Any, Any]],
    evidence: dict[str, Any],
    share: float,
    severity: Severity,
    cause: str = "",
    remedy: str = "",
) -> Finding:
    names = [[str(first.images["id"].iloc[one]), str(second.images["id"].iloc[two])] for one, two in pairs]
    # Images from where a model is to be used are not scored.
    scored = has_labels(second)
    consequence = "so that the score is too good" if scored else "so that they tell little about new images"
    return Finding(
        kind,
        severity if scored else "note",
        second.name,
        f"{symptom}, for example {named(names[0][1])} and {named(names[0][0])}",
        remedy or f"remove {verb(evidence['images'], 'it', 'them')} from one of the two",
        cause=f"{cause}, {consequence}" if cause else consequence,
        sureness="likely" if cause else "certain",
        evidence={**evidence, "pairs": names},
        images=[name for _, name in names],
        impact=share,
    )


def _are_the_same(first: Survey, second: Survey) -> bool:
    """Whether both datasets have the same image files, as far as all of them are known."""
    digests = [set(survey.images["digest"].astype(str)) for survey in (first, second)]
    return bool(digests[0]) and "" not in digests[0] and digests[0] == digests[1]


def _digests(survey: Survey) -> pd.Series[Any]:
    digests = survey.images["digest"].astype(str).reset_index(drop=True)
    return digests[digests != ""]


def _of(count: int, total: int, survey: Survey, which: str = "") -> str:
    which = which or ("" if survey.is_complete else " that were read")
    return f"{count} of {total} images{which} ({percent(count / total)})"
