"""Why an exported model may find less than its checkpoint: each cause a function, that speaks only with evidence.

Most causes are tried on the detections of the checkpoint: what AP would they lose if they were treated as the exported
model treats its own? A cause is told if it explains at least a quarter of what is lost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from od_eval.deployed.quantized_layers import LayerDifference
from od_eval.evaluation import matching
from od_eval.evaluation.analyses.what_if import matched_anew, of_rows, with_confidence, with_stricter_nms
from od_eval.evaluation.matching import Floats
from od_eval.evaluation.object_table import ObjectTable, precision_recall_scores
from od_eval.findings.finding import Finding
from od_eval.odapi.as_trained import Suppression
from od_eval.text import named, some

# A cause that explains less of what is lost is not worth looking at first.
_SHARE = 0.25
# More of the detections have a score that others have, too.
_MANY_TIED = 0.5
# More of the images have the largest score that there is, and so many times more than with the checkpoint.
_MANY_SATURATED, _MORE_OFTEN = 0.1, 2
# Ranges of layers are measured well by as many images; it is the default.
_ENOUGH_CALIBRATION_IMAGES = 100
_MOST_LAYERS = 5


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """How a model was exported, and how its checkpoint was trained.

    Attributes:
      description: the contents of the model.json of the export.
      trained_suppression, exported_suppression: None without any.
      trained_resizer, exported_resizer: the image resizers, as text.
    """

    description: Mapping[str, Any]
    trained_suppression: Suppression | None
    exported_suppression: Suppression | None
    trained_resizer: str
    exported_resizer: str


@dataclasses.dataclass(frozen=True)
class Loss:
    """An exported model that has lost AP, and what is known of it.

    Attributes:
      path: of the exported model.
      checkpoint, exported: the object tables, of the same images.
      lost: AP of the checkpoint − AP of the exported model.
      settings: of the export.
      layers: of a model in int8: how far its layers are from float32, the farthest first; else none.
    """

    path: str
    checkpoint: ObjectTable
    exported: ObjectTable
    lost: float
    settings: ExportSettings
    layers: Sequence[LayerDifference] = ()

    def explains(self, loss: float) -> bool:
        """Whether a cause that loses so much AP is worth telling."""
        return loss > 0 and loss >= _SHARE * self.lost

    def without(self, changed: ObjectTable) -> float:
        """The AP that the checkpoint loses if its detections are changed."""
        return average_precision(self.checkpoint) - average_precision(changed)

    @property
    def is_quantized(self) -> bool:
        return self.settings.description["quantization"] in ("dynamic", "int8", "full_int8")


def average_precision(table: ObjectTable) -> float:
    """COCO's AP; 0 if it is not defined."""
    precision = precision_recall_scores(table)[0]
    return float(precision[precision > -1].mean()) if (precision > -1).any() else 0.0


def causes(loss: Loss) -> list[Finding]:
    """What may be the cause, the most costly first; nothing if nothing of this is."""
    found = [
        finding
        for find in (
            _max_detections,
            _suppression_over_all_classes,
            _suppression_threshold,
            _score_threshold,
            _resizer,
            _saturated_scores,
            _tied_scores,
            _calibration,
        )
        for finding in find(loss)
    ]
    found.sort(key=lambda one: -one.impact)
    return [*found, *_layers(loss)]


def unknown_cause(path: str) -> Finding:
    """What is told of an exported model if nothing is found."""
    return Finding(
        kind="cause_of_loss_unknown",
        severity="note",
        where=path,
        symptom="neither the number of detections, nor suppression, thresholds, image size, tied or saturated scores"
        " explain a quarter of what is lost",
        remedy="look at the images that changed most",
    )


def _told(loss: Loss, lost: float, *, evidence: Mapping[str, Any], **said: Any) -> Iterator[Finding]:
    """The finding of a cause that loses so much AP; none if it explains too little.

    Args:
      loss: what is to be explained.
      lost: the AP that the cause loses.
      evidence, **said: of the finding.
    """
    if loss.explains(lost):
        yield Finding(
            severity="warning",
            where=loss.path,
            evidence={**evidence, "AP_lost": lost},
            impact=min(lost, 1.0),
            **said,
        )


def _max_detections(loss: Loss) -> Iterator[Finding]:
    most = loss.settings.description["max_detections"]
    if most is None:
        return
    table = loss.checkpoint
    rank = matching.rank_in_cell(table.detections.image)
    first = of_rows(table, np.arange(len(table.groundtruth)), np.flatnonzero(rank < most))
    lost = loss.without(first)
    objects = np.bincount(table.groundtruth.image[~table.ignored], minlength=len(table.images))
    more = np.flatnonzero(objects > most)
    crowded = f"{len(more)} of {len(objects)} images have more objects" if len(more) else "no image has more objects"
    ids = list(table.images)
    yield from _told(
        loss,
        lost,
        kind="too_few_detections",
        symptom=f"it returns at most {most} detections per image, and {crowded}",
        cause=f"with as few of them the checkpoint loses {lost:.3f} AP, in which also those of low scores count",
        remedy=f"export with --max_detections={max(100, int(objects.max(initial=0)))}",
        evidence={
            "max_detections": most,
            "images_with_more": len(more),
            "most_objects": int(objects.max(initial=0)),
        },
        images=[ids[index] for index in more[np.argsort(-objects[more], kind="stable")][:10]],
    )


def _suppression_over_all_classes(loss: Loss) -> Iterator[Finding]:
    suppression = loss.settings.exported_suppression
    if loss.settings.description["regular_nms"] or suppression is None:
        return
    lost = loss.without(with_stricter_nms(loss.checkpoint, suppression.iou_threshold, across_categories=True))
    yield from _told(
        loss,
        lost,
        kind="suppression_over_all_classes",
        symptom="its non-maximum suppression is the fast one over all classes, and the checkpoint's is per class",
        cause=f"with the fast one, which keeps one class where several overlap, that loses {lost:.3f} AP",
        remedy="export with --ssd_use_regular_nms",
        evidence={"regular_nms": False},
        sureness="likely",
    )


def _suppression_threshold(loss: Loss) -> Iterator[Finding]:
    of_trained, of_exported = loss.settings.trained_suppression, loss.settings.exported_suppression
    if of_trained is None or of_exported is None or of_trained.iou_threshold == of_exported.iou_threshold:
        return
    trained, exported = of_trained.iou_threshold, of_exported.iou_threshold
    if exported < trained:
        lost = loss.without(with_stricter_nms(loss.checkpoint, exported))
    else:
        gained = average_precision(with_stricter_nms(loss.exported, trained))
        lost = gained - average_precision(loss.exported)
    yield from _told(
        loss,
        lost,
        kind="other_suppression_threshold",
        symptom=f"it suppresses detections that overlap by more than {exported:.2g}, and the checkpoint by more"
        f" than {trained:.2g}",
        cause=f"which costs {lost:.3f} AP",
        remedy="export without changing iou_threshold",
        evidence={"iou_threshold": exported, "iou_threshold_trained": trained},
    )


def _score_threshold(loss: Loss) -> Iterator[Finding]:
    of_trained, of_exported = loss.settings.trained_suppression, loss.settings.exported_suppression
    if of_trained is None or of_exported is None or of_exported.score_threshold <= of_trained.score_threshold:
        return
    trained, exported = of_trained.score_threshold, of_exported.score_threshold
    lost = loss.without(with_confidence(loss.checkpoint, exported))
    num = int((loss.checkpoint.score < exported).sum())
    yield from _told(
        loss,
        lost,
        kind="score_threshold",
        symptom=f"it drops detections with scores below {exported:.3g}, {num} of the checkpoint's"
        f" {len(loss.checkpoint.detections)}",
        cause=f"without which the checkpoint loses {lost:.3f} AP",
        remedy="export without changing score_threshold, and leave out detections where they are used",
        evidence={"score_threshold": exported, "score_threshold_trained": trained},
    )


def _resizer(loss: Loss) -> Iterator[Finding]:
    if loss.settings.trained_resizer != loss.settings.exported_resizer:
        yield Finding(
            kind="other_image_size",
            severity="warning",
            where=loss.path,
            symptom=f"its images are resized by {named(loss.settings.exported_resizer)}, and those of the checkpoint by"
            f" {named(loss.settings.trained_resizer)}",
            cause="so it sees objects in other sizes and shapes than those that it was trained with",
            remedy="train with the image resizer of the export",
            evidence={"exported": loss.settings.exported_resizer, "trained": loss.settings.trained_resizer},
            sureness="possible",
        )


def _saturated_scores(loss: Loss) -> Iterator[Finding]:
    of_exported, of_checkpoint = map(_share_of_largest, (loss.exported, loss.checkpoint))
    if of_exported < _MANY_SATURATED or of_exported <= _MORE_OFTEN * of_checkpoint:
        return
    largest = float(loss.exported.score.max())
    lost = loss.without(_with_scores(loss.checkpoint, np.minimum(loss.checkpoint.score, largest)))
    yield from _told(
        loss,
        lost,
        kind="saturated_scores",
        symptom=f"in {of_exported:.0%} of the images the best score is the largest that it gives, {largest:.3f}; in"
        f" {of_checkpoint:.0%} with the checkpoint",
        cause=f"as its scores saturate; with its scores cut off there, the checkpoint loses {lost:.3f} AP",
        remedy=_other_quantization(loss),
        evidence={"share": of_exported, "share_of_checkpoint": of_checkpoint, "largest": largest},
        sureness="likely",
    )


def _share_of_largest(table: ObjectTable) -> float:
    """The share of the images with detections whose best score is the largest of all."""
    score = table.score[matching.rank_in_cell(table.detections.image) == 0]
    return float(np.mean(score == score.max())) if len(score) else 0.0


def _tied_scores(loss: Loss) -> Iterator[Finding]:
    of_exported, of_checkpoint = map(_share_of_tied, (loss.exported, loss.checkpoint))
    if of_exported < _MANY_TIED or of_exported <= of_checkpoint:
        return
    levels = np.unique(loss.exported.score)
    lost = loss.without(_with_scores(loss.checkpoint, _nearest(levels, loss.checkpoint.score)))
    yield from _told(
        loss,
        lost,
        kind="tied_scores",
        symptom=f"{of_exported:.0%} of its detections have a score that others have as well; it has {len(levels)}"
        f" different scores, the checkpoint {len(np.unique(loss.checkpoint.score))}",
        cause=f"so their order is lost; with its scores rounded to these, the checkpoint loses {lost:.3f} AP",
        remedy=_other_quantization(loss),
        evidence={
            "share": of_exported,
            "share_of_checkpoint": of_checkpoint,
            "different_scores": len(levels),
        },
        sureness="likely",
    )


def _share_of_tied(table: ObjectTable) -> float:
    _, nums = np.unique(table.score, return_counts=True)
    return float(nums[nums > 1].sum() / nums.sum()) if len(nums) else 0.0


def _nearest(levels: Floats, values: Floats) -> Floats:
    """For each value the nearest of some ascending levels."""
    between = (levels[1:] + levels[:-1]) / 2
    return levels[np.searchsorted(between, values)]


def _with_scores(table: ObjectTable, score: Floats) -> ObjectTable:
    return matched_anew(dataclasses.replace(table, detections=dataclasses.replace(table.detections, score=score)))


def _other_quantization(loss: Loss) -> str:
    return (
        "export with --quantize=float16 or --quantize=dynamic" if loss.is_quantized else "look at its post-processing"
    )


def _calibration(loss: Loss) -> Iterator[Finding]:
    calibration = loss.settings.description.get("calibration")
    if not calibration:
        return
    num, showing = calibration["num_images"], calibration["num_showing"]
    present = loss.checkpoint.num_groundtruth > 0
    names = [name for name, is_there in zip(loss.checkpoint.categories.values(), present, strict=True) if is_there]
    unseen = [name for name in names if not showing.get(name)]
    if num >= _ENOUGH_CALIBRATION_IMAGES and not unseen:
        return
    without = f", and none shows {some(unseen)}" if unseen else ""
    yield Finding(
        kind="calibration",
        severity="warning",
        where=loss.path,
        symptom=f"it was calibrated with {num} image{'' if num == 1 else 's'}{without}",
        cause="so the ranges of its layers may be too narrow for others",
        remedy=f"export with --num_calibration_images={max(2 * num, _ENOUGH_CALIBRATION_IMAGES)}",
        evidence={"num_images": num, "categories_without": len(unseen)},
        sureness="possible",
    )


def _layers(loss: Loss) -> Iterator[Finding]:
    worst = loss.layers[:_MOST_LAYERS]
    if worst:
        told = "; ".join(f"{short_layer(one.layer)} ({one.operator}) by {one.difference:.1%}" for one in worst)
        yield Finding(
            kind="quantized_layers",
            severity="note",
            where=loss.path,
            symptom=f"these of its {len(loss.layers)} layers in int8 differ most from float32, in parts of the standard"
            f" deviation of their output: {told}",
            remedy=_other_quantization(loss),
            evidence={one.layer: one.difference for one in worst},
        )


def short_layer(name: str) -> str:
    """The end of the name of a layer, which tells it apart: `…/conv2d_1/activation_0/Relu6`."""
    parts = named(name).split("/")
    return "/".join(["…", *parts[-3:]] if len(parts) > 4 else parts)
