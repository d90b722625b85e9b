"""What the numbers of a semantic segmentation hide: a large background, rare classes, classes that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import is_early, percent
from od_eval.text import some

# What people take for a good pixel accuracy.
_HIGH_ACCURACY = 0.9
# IoU below which a class is mostly wrong: of its pixels and those taken for it, more than half.
_LOW_IOU = 0.5
# Of the pixels. In a batch of a few images, such a class has hardly a part in the loss.
_RARE = 0.01
# IoU differs between classes for many reasons; half of what the others have is where it is no longer one of them.
_FAR_BELOW = 0.5
# Below, no class is good, and the model has to learn first.
_WORTH_A_WORD = 0.2


@diagnosis
def pixel_accuracy_misleads(evidence: Evidence) -> Iterator[Finding]:
    """The pixel accuracy is high because one class covers most of the images, while the others are mostly wrong."""
    segmentation, classes = _newest(evidence)
    if len(classes) < 2 or is_early(evidence) or segmentation["pixel_accuracy"] < _HIGH_ACCURACY:
        return
    largest = max(classes, key=lambda name: classes[name]["num_groundtruth_pixels"])
    share = _share(segmentation, classes[largest])
    others = float(np.mean([metrics["IoU"] for name, metrics in classes.items() if name != largest]))
    if others >= _LOW_IOU:
        return
    yield Finding(
        "pixel_accuracy_misleads",
        "note",
        "",
        f"the pixel accuracy is {segmentation['pixel_accuracy']:.3f}, and the mean IoU of the classes other than"
        f" {some([repr(largest)])} {others:.3f}",
        "judge the training by IoU (metric='val_IoU' of BestCheckpoint, monitor='val_IoU' of EarlyStopping)",
        cause=f"since {percent(share)} of the pixels are of that class, which alone gives an accuracy of {share:.3f}",
        evidence={
            "pixel_accuracy": segmentation["pixel_accuracy"],
            "largest_class": largest,
            "share": share,
            "IoU_of_others": others,
        },
        impact=_LOW_IOU - others,
    )


@diagnosis
def rare_classes_missed(evidence: Evidence) -> Iterator[Finding]:
    """Classes of few pixels have an IoU far below that of the others: the loss hardly sees them."""
    segmentation, classes = _newest(evidence)
    if is_early(evidence):
        return
    shares = {name: _share(segmentation, metrics) for name, metrics in classes.items()}
    iou = {name: metrics["IoU"] for name, metrics in classes.items()}
    frequent = [iou[name] for name in classes if shares[name] >= _RARE]
    usual = float(np.mean(frequent)) if frequent else 0.0
    rare = sorted(
        (name for name in classes if shares[name] < _RARE and iou[name] < _FAR_BELOW * usual),
        key=lambda name: shares[name],
    )
    if not rare or usual < _WORTH_A_WORD:
        return
    # Median frequency balancing (Eigen & Fergus, ICCV 2015).
    weights = {name: float(np.median(list(shares.values()))) / shares[name] for name in rare}
    listed = some((f"{name!r} ({shares[name]:.2%} of the pixels, IoU {iou[name]:.2f})" for name in rare), 5)
    yield Finding(
        "rare_classes_missed",
        "warning",
        "",
        f"{listed} {'is' if len(rare) == 1 else 'are'} far below the others (IoU {usual:.2f} on average)",
        "train with od_eval.FocalLoss or DiceCrossEntropyLoss, or with class_weights (by median frequency"
        f" {some((f'{name!r} {weights[name]:.3g}' for name in rare), 5)}), or show more images with them",
        cause="so probably the loss, which counts pixels, hardly sees them",
        evidence={"shares": {name: shares[name] for name in rare}, "IoU_of_others": usual, "class_weights": weights},
        sureness="possible",
        impact=sum(usual - iou[name] for name in rare) / len(classes),
    )


@diagnosis
def absent_classes(evidence: Evidence) -> Iterator[Finding]:
    """Classes without a pixel in the evaluation set are in no mean."""
    segmentation, _ = _newest(evidence)
    absent = segmentation.get("absent_classes")
    if not absent:
        return
    yield Finding(
        "absent_classes",
        "note",
        "",
        f"no pixel of the evaluation set is of {'the class' if len(absent) == 1 else f'{len(absent)} classes:'}"
        f" {some(map(repr, absent), 5)}",
        "add images with them to the evaluation set, or leave them out of the categories",
        cause="so nothing is known of them, and IoU and the other means are of the rest",
        evidence={"absent_classes": absent},
    )


def _newest(evidence: Evidence) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
    """The section of the newest evaluation, and its classes that have pixels; both empty if nothing is segmented."""
    segmentation = evidence.newest.segmentation if evidence.newest is not None else {}
    classes = segmentation.get("per_category", {})
    return segmentation, {name: metrics for name, metrics in classes.items() if metrics["num_groundtruth_pixels"]}


def _share(segmentation: Mapping[str, Any], metrics: Mapping[str, Any]) -> float:
    return float(metrics["num_groundtruth_pixels"] / segmentation["num_pixels"])
