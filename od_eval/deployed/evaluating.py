"""Evaluates a deployed model on images with their objects, as a detector is evaluated in training.

left_out = LeftOut()
result = evaluate_model(load_model("model.tflite"), of_pipeline("pipeline.config", None, left_out), left_out)
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from od_eval.deployed.labeled_set import LabeledSet, checked_not_all_unreadable
from od_eval.deployed.measurements import DetectedImage, Measurements, TimedModel, peak_memory
from od_eval.deployed.mistakes import Mistakes
from od_eval.deployed.model import DeployedModel, with_ids
from od_eval.deployed.parts import DetectedParts
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.loop import BatchEvaluator, FoundInData, evaluate
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.findings.finding import Finding, findings_section
from od_eval.text import quoted


def evaluate_model(
    model: DeployedModel,
    labeled: LabeledSet,
    left_out: LeftOut,
    *,
    detected: DetectedParts | None = None,
    options: EvaluationOptions | None = None,
    evaluators: Sequence[BatchEvaluator] = (),
    step: int | None = None,
    name: str = "eval",
) -> EvaluationResult:
    """Runs a model over the images and computes metrics, its latency, size and memory. Nothing is written.

    Args:
      model: from `od_eval.load_model`.
      labeled: the images.
      left_out: that of the images; what it has becomes findings.
      detected: what the model has found in these images already; by default it is run here.
      options: what to evaluate, with the categories of the images and boxes `yxyx`; by default `options_for`.
      evaluators: as for `od_eval.evaluate`.
      step: the training step of the weights; by default what the model tells.
      name: the name of the data, for messages and the progress bar.

    Returns:
      As `od_eval.evaluate`, with the sections `deployment` and `findings`: what was left out or guessed, and mistakes
      in the use of the model (`od_eval.deployed.mistakes`).

    Raises:
      ODEvalError: the model knows none of the categories, an image cannot be read, or the model cannot be run.
    """
    options = options or options_for(model, labeled)
    ids, found = _ids(model, labeled)
    unknown: collections.Counter[int] = collections.Counter()
    images: Iterable[DetectedImage]
    if detected is None:
        images, memory = map(TimedModel(model).detect, labeled.images), peak_memory
    else:
        images, memory = detected.images(), lambda: detected.peak_memory
    measurements = Measurements(model, memory)

    def batch_of(_: None, image: DetectedImage) -> EvaluationBatch:
        measurements.add(image.milliseconds)
        unknown.update(one for one in np.asarray(image.detections.classes[0]).tolist() if one not in ids)
        return EvaluationBatch(
            image_ids=[image.id],
            image_sizes=[image.size],
            detections=with_ids(image.detections, ids),
            groundtruth=image.objects,
            images=[] if image.pixels is None else [image.pixels],
            outputs=image.detections,
        )

    def findings() -> list[Any]:
        return findings_section([*found, *_of_unknown_classes(unknown), *findings_of(left_out)])

    return evaluate(
        None,
        checked_not_all_unreadable(images, labeled.source, left_out),
        [*evaluators, measurements, Mistakes(model, labeled.categories, ids), FoundInData(findings)],
        detect=batch_of,
        options=options,
        step=model.step if step is None else step,
        checkpoint=model.path,
        name=name,
        num_images=labeled.num_images if detected is None else len(detected.sizes),
    )


def options_for(model: DeployedModel, labeled: LabeledSet, **others: Any) -> EvaluationOptions:
    """The options of an evaluation of this model on these images.

    Args:
      **others: attributes of `EvaluationOptions` other than categories, box format and masks.
    """
    return EvaluationOptions(labeled.categories, masks=model.predicts_masks and labeled.masks, **others)


def findings_of(left_out: LeftOut) -> list[Finding]:
    """What was left out of the data, as findings."""
    return [
        Finding(
            kind="entries_left_out",
            severity="warning",
            where="",
            symptom=f"left out: {number} {what}; the first: {first}",
            remedy="",
            evidence={"entries": number},
        )
        for number, what, first in left_out.cases()
    ]


def _ids(model: DeployedModel, labeled: LabeledSet) -> tuple[dict[int, int], list[Finding]]:
    """Id of the model's label map -> id of the images' categories; and what there is to say about it.

    Categories of the same name are the same. Where no name is the same, or the model tells no names, ids are.
    """
    found = [
        Finding("guessed_model", "note", model.path, "nothing tells what its inputs and outputs mean", "", guess)
        for guess in ([f"so it was taken that {'; '.join(model.guessed)}"] if model.guessed else ())
    ]
    by_name = {name: id for id, name in labeled.categories.items()}
    ids = {id: by_name[name] for id, name in model.categories.items() if name in by_name}
    if ids:
        missing = [name for name in by_name if name not in model.categories.values()]
        if missing:
            found.append(
                Finding(
                    kind="categories_unknown_to_model",
                    severity="warning",
                    where=model.path,
                    symptom=f"it does not know {quoted(missing[:5])}, {len(missing)} of {len(by_name)} categories",
                    cause="so their objects count as missed",
                    remedy="give the label map that it was trained with, if these are other names of its classes",
                    evidence={"categories": len(missing)},
                )
            )
        return ids, found
    same = {id: id for id in labeled.categories if id in model.categories or not model.categories}
    if not same:
        raise ODEvalError(
            f"'{model.path}' knows none of the categories of '{labeled.source}': it has"
            f" {quoted(list(model.categories.values())[:5])}, and there are {quoted(list(by_name)[:5])}; give the label"
            " map that it was trained with, or the images of its categories."
        )
    if model.categories:
        found.append(
            Finding(
                kind="categories_matched_by_id",
                severity="warning",
                where=model.path,
                symptom=(
                    f"its categories, {quoted(list(model.categories.values())[:5])}, have other names than those of the"
                    f" images, {quoted(list(by_name)[:5])}"
                ),
                cause="so those of the same id were taken for the same",
                remedy="give the label map that it was trained with, if they are not",
            )
        )
    return same, found


def _of_unknown_classes(unknown: Mapping[int, int]) -> list[Finding]:
    if not unknown:
        return []
    id, number = min(unknown.items())
    return [
        Finding(
            kind="detections_of_unknown_classes",
            severity="warning",
            where="",
            symptom=f"left out: {sum(unknown.values())} detections of classes that the images do not have; {number} of"
            f" them of class {id}",
            remedy="",
            evidence={"detections": sum(unknown.values())},
        )
    ]
