"""Makes the batch of a training step again, and says which of its records is to blame for a loss that is wrong.

replayed = replay("runs/a", step=812)
print(replayed.finding)
for image in replayed.images:
    print(image.record, image.losses)
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.findings.finding import Finding
from od_eval.odapi.checkpoints import (
    Checkpoints,
    DamagedCheckpoint,
    existing_checkpoint,
    find_checkpoints,
    load_fine_tune_checkpoint,
    raise_if_damaged,
    step_of,
)
from od_eval.odapi.detector import Detector
from od_eval.odapi.explained import explained_op_error
from od_eval.odapi.image_losses import GRADIENT, TOTAL, Image, ImageLosses, images_of, is_finite, training_images, worst
from od_eval.odapi.object_values import ObjectValues, objects_of, odd_values
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.record_contents import BrokenRecord, Classes, parse
from od_eval.odapi.record_ids import Record, find_records, ids_in
from od_eval.odapi.record_scan import classes_of
from od_eval.text import named
from od_eval.training.batch_record import Batch, RecordedBatches
from od_eval.training.train import make_reproducible

# Weights that a bad record has broken show it in the loss of the next step, or of some later one.
_STEPS_BEFORE = 5
# Augmentation may cut the object away that is to blame: if it is there in half of the crops, 3% miss it.
_REPETITIONS = 5
# Images of other steps that say what is usual; the 90th percentile of as many is from the 80th to the 97th (95%).
_OTHER_IMAGES = 32
# Times the 90th percentile of other images. If losses are log-normal and as wide as e, that is 3.6 standard deviations
# above their median: one in 6,000 images. An object whose loss is that large alone makes a spike in a batch of 8.
_STANDS_OUT = 10.0
# As in the configs of EfficientDet in the model zoo.
_CLIPPING = "10.0"
# Each takes as many further losses as it has objects.
_MOST_WITH_OBJECTS = 10
# An exact batch needs all batches before it, since the process began: half a minute with images of 640 x 640 pixels.
_MOST_IMAGES_TO_SKIP = 10_000


@dataclasses.dataclass(frozen=True)
class ReplayedImage:
    """An image of a batch.

    Attributes:
      step: of the batch.
      record: where its record is: `record 3 of 'train.record'`.
      name: of the image file, as the record has it; may be empty.
      losses: `classification_loss`, `localization_loss`, …, their sum `total_loss`, and `gradient_norm`: of this image
        alone, without regularization; of several augmentations the worst.
      stands_out: whether one of them is not finite, or the total or the gradient far above those of other images.
      odd: values of the record that can break a loss, as clauses: `'image/object/weight' of object 2 is nan`.
      objects: their values; empty but for the worst image and those that stand out.
      object_losses: the total loss if only this object counts, for each of `objects`, without augmentation; NaN also
        where it is dropped, or unknown.
    """

    step: int
    record: str
    name: str
    losses: Mapping[str, float]
    stands_out: bool
    odd: Sequence[str]
    objects: Sequence[ObjectValues] = ()
    object_losses: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Replay:
    """The batch of a step, and what is usual.

    Attributes:
      model_dir: of the training.
      step: that was asked for.
      steps: that were looked at, the latest first: also those before, if no image of the step stood out.
      checkpoint: that the weights are from; empty for those at the start of training.
      checkpoint_step: its step.
      is_exact: whether the images of the step are the same to the pixel; else the records were augmented anew.
      images: of `steps`, those that stand out first, then by their loss.
      usual: the median and the 90th percentile of `total_loss` and `gradient_norm` of other training images.
      num_others: the number of these images.
      num_others_broken: how many of them have a loss or a gradient that is not finite.
      num_missing: the number of records of the step that are in the files no more.
      clips_gradients: whether the training does.
    """

    model_dir: str
    step: int
    steps: Sequence[int]
    checkpoint: str
    checkpoint_step: int
    is_exact: bool
    images: Sequence[ReplayedImage]
    usual: Mapping[str, Usual]
    num_others: int
    num_others_broken: int
    num_missing: int
    clips_gradients: bool

    @property
    def finding(self) -> Finding:
        """Which record is to blame, or that none is."""
        if self.num_others_broken > self.num_others / 2:
            return _all_to_blame(self)
        return _to_blame(self) if self.images[0].stands_out else _none_to_blame(self)


@dataclasses.dataclass(frozen=True)
class Usual:
    """The values of several images, but for those that are not finite; NaN if there are none."""

    median: float
    p90: float


def replay(
    model_dir: str, step: int, *, checkpoint: str | None = None, say: Callable[[str], object] = lambda _: None
) -> Replay:
    """Makes the batch of a step again, and computes losses and gradients of each of its images alone.

    The records are those that the training has recorded. If it had a seed, and began no more than some thousand images
    before, the batch is made exactly: everything random in this process is seeded for that. Otherwise the records are
    augmented anew, several times, and the worst counts. If no image stands out, the steps before are looked at: a loss
    that is not finite is often due to the gradient of an earlier step.

    Args:
      model_dir: of a training by `train`.
      step: counted from 1.
      checkpoint: the weights; by default the newest checkpoint before the step, or the oldest one after it.
      say: prints what is being done.

    Raises:
      ODEvalError: the batch is not recorded, its records are gone, or the config or a checkpoint cannot be read.
    """
    recorded = RecordedBatches(model_dir)
    asked_for = recorded.batch(step)
    pipeline = Pipeline.load(os.path.join(model_dir, "pipeline.config"))
    path, path_step = _checkpoint_for(model_dir, step, checkpoint)
    exact = _exact_images(pipeline, asked_for)  # first, as in the training: random seeds depend on what is built before
    batches = [recorded.batch(one) for one in range(step, step - _STEPS_BEFORE - 1, -1) if recorded.has(one)]
    say("Looking for the records of the batch in the files …")
    reader = pipeline.config.train_input_reader
    classes = classes_of(reader, pipeline.num_classes)
    found, others = find_records(reader, {int(one) for batch in batches for one in batch.ids}, _OTHER_IMAGES)
    num_missing = sum(int(one) not in found for one in asked_for.ids)
    if num_missing == len(asked_for.ids):
        raise ODEvalError(
            f"none of the {num_missing} records of step {step} is in the files of train_input_reader; they were written"
            " anew since."
        )
    say(f"Building the model with the weights of {path or 'the start of training'} …")
    repetitions = _REPETITIONS if pipeline.config.train_config.data_augmentation_options else 1
    losses = ImageLosses(_detector(pipeline, model_dir, path), pipeline.config)
    records = {batch.step: {int(one): found[int(one)] for one in batch.ids if int(one) in found} for batch in batches}
    images: list[tuple[ReplayedImage, Record]] = []
    steps = []
    with _errors_explained(pipeline), files.temporary_folder() as folder:
        to_make = [list(of_step.values()) for of_step in records.values()][exact is not None :]
        repeated = [one for of_step in to_make for one in of_step for _ in range(repetitions)]
        serialized = [one.serialized for one in (*others, *repeated)]
        made = training_images(pipeline.config, serialized, folder, augment=True)
        say(f"Computing the losses of {len(others)} other images, to see what is usual …")
        of_others: list[Mapping[str, float]] = [losses.of(next(made)) for _ in others]
        for number, of_step in records.items():
            say(f"Computing the losses of the {len(of_step)} images of step {number} …")
            values: list[Mapping[str, float]]
            if number == step and exact is not None:
                values = [losses.of(exact[one]) for one in of_step]
            else:
                values = [worst([losses.of(next(made)) for _ in range(repetitions)]) for _ in of_step]
            for index, (record, one) in enumerate(zip(of_step.values(), values, strict=True)):
                rest = [*of_others, *values[:index], *values[index + 1 :]]
                images.append((_replayed(number, record, one, _stands_out(one, rest), classes), record))
            steps.append(number)
            if any(image.stands_out for image, _ in images):
                break
        images.sort(key=lambda item: _how_bad(item[0]), reverse=True)
        num_shown = max(1, min(_MOST_WITH_OBJECTS, sum(image.stands_out for image, _ in images)))
        plain = training_images(
            pipeline.config, [record.serialized for _, record in images[:num_shown]], folder, augment=False
        )
        shown = [
            _with_objects(image, record, classes, losses.of_objects(one))
            for (image, record), one in zip(images[:num_shown], plain, strict=True)
        ]
    reference = of_others or [image.losses for image, _ in images]
    return Replay(
        model_dir,
        step,
        steps,
        path,
        path_step,
        exact is not None or repetitions == 1,
        [*shown, *(image for image, _ in images[num_shown:])],
        {name: _usual([one[name] for one in reference]) for name in (TOTAL, GRADIENT)},
        len(of_others),
        sum(not is_finite(one) for one in of_others),
        num_missing,
        pipeline.config.train_config.gradient_clipping_by_norm > 0,
    )


def _replayed(
    step: int, record: Record, losses: Mapping[str, float], stands_out: bool, classes: Classes
) -> ReplayedImage:
    try:
        example = parse(record.serialized)
    except BrokenRecord as error:  # or a sequence example
        return ReplayedImage(step, str(record), "", losses, stands_out, [f"the record {error}"])
    name = b"".join(example.features.feature["image/filename"].bytes_list.value[:1]).decode("utf-8", "replace")
    return ReplayedImage(step, str(record), name, losses, stands_out, odd_values(example, classes))


def _with_objects(image: ReplayedImage, record: Record, classes: Classes, losses: Iterable[float]) -> ReplayedImage:
    """The image with its objects, and the losses of those that are not dropped."""
    try:
        objects = objects_of(parse(record.serialized), classes)
    except BrokenRecord:
        return image
    of_kept = iter(losses)
    of_objects = [math.nan if one.is_dropped else next(of_kept, math.nan) for one in objects]
    return dataclasses.replace(image, objects=objects, object_losses=of_objects)


def _exact_images(pipeline: Pipeline, batch: Batch) -> dict[int, Image] | None:
    """Id of a record -> its image, as it was in the training; None if they cannot be made, or only in a long time."""
    if batch.seed is None or batch.num_workers > 1:
        return None
    num_before = batch.step - batch.steps_done - 1
    if num_before * len(batch.ids) > _MOST_IMAGES_TO_SKIP:
        return None
    make_reproducible(batch.seed)
    for made in pipeline.train_dataset().skip(num_before).take(1):
        if np.array_equal(ids_in(made), batch.ids):  # else the data have changed, or the number of replicas
            return dict(zip(batch.ids.tolist(), images_of(made), strict=True))
    return None


@contextlib.contextmanager
def _errors_explained(pipeline: Pipeline) -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        config = pipeline.config
        raise explained_op_error(
            error, [config.train_input_reader], "train_config.batch_size", config.train_config.batch_size
        ) from error


def _checkpoint_for(model_dir: str, step: int, given: str | None) -> tuple[str, int]:
    """A checkpoint that is whole, and its step; an empty path if there is none."""
    if given is not None:
        path = existing_checkpoint(given, "checkpoint", "name one of this training")
        return path, step_of(path) or 0
    found = [(number, path) for path in find_checkpoints(model_dir) if (number := step_of(path)) is not None]
    before = sorted((one for one in found if one[0] < step), reverse=True)
    for number, path in [*before, *sorted(one for one in found if one[0] >= step)]:
        try:
            raise_if_damaged(path)
        except DamagedCheckpoint:
            continue
        return path, number
    return "", 0


def _detector(pipeline: Pipeline, model_dir: str, checkpoint: str) -> Detector:
    detector = Detector(pipeline)
    detector.compile()
    if checkpoint:
        Checkpoints(detector, model_dir).restore(checkpoint)
    else:
        load_fine_tune_checkpoint(detector, pipeline.config.train_config)
    return detector


# ---- What stands out ------------------------------------------------------------------------------------------------


def _usual(values: Sequence[float]) -> Usual:
    finite = [value for value in values if math.isfinite(value)]
    return Usual(float(np.median(finite)), float(np.percentile(finite, 90))) if finite else Usual(math.nan, math.nan)


def _stands_out(losses: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> bool:
    if not is_finite(losses):
        return True
    return any(losses[name] > _STANDS_OUT * _usual([one[name] for one in others]).p90 > 0 for name in (TOTAL, GRADIENT))


def _how_bad(image: ReplayedImage) -> tuple[bool, bool, bool, float]:
    finite = is_finite(image.losses)
    return image.stands_out, not finite, bool(image.odd), image.losses[TOTAL] if finite else 0.0


# ---- What it says ---------------------------------------------------------------------------------------------------


def _to_blame(replayed: Replay) -> Finding:
    image, *others = replayed.images
    others = [one for one in others if one.stands_out]
    name = f" ({named(image.name)})" if image.name else ""
    evidence = {"step": image.step, **image.losses, "checkpoint_step": replayed.checkpoint_step}
    field = "train_input_reader.tf_record_input_reader.input_path"
    also = f" ({len(others)} more images stand out)" if others else ""
    records = [image.record, *(one.record for one in others)]
    if not is_finite(image.losses):
        what = next(key for key, value in image.losses.items() if not math.isfinite(value))
        is_known = bool(image.odd)
        return Finding(
            "record_breaks_loss",
            "error",
            f"{image.record}{name}",
            f"its {what} in the batch of step {image.step} is {image.losses[what]}, {_with_weights(replayed)}{also}",
            "correct the record or remove it",
            cause=_cause(image),
            field=field,
            evidence=evidence,
            sureness="certain" if is_known else "likely",
            images=records,
        )
    what = max((TOTAL, GRADIENT), key=lambda key: image.losses[key] / (replayed.usual[key].p90 or math.inf))
    usual = replayed.usual[what]
    return Finding(
        "record_stands_out",
        "warning",
        f"{image.record}{name}",
        f"its {what} in the batch of step {image.step} is {image.losses[what]:.4g}, {_with_weights(replayed)}, where"
        f" that of {replayed.num_others} other images is {usual.median:.4g} (median) and for 9 of 10 below"
        f" {usual.p90:.4g}{also}",
        "look at its objects, and correct the record or remove it",
        cause=_cause(image),
        field=field,
        evidence={**evidence, "median": usual.median, "p90": usual.p90, "images": replayed.num_others},
        sureness="likely" if image.odd else "possible",
        images=records,
    )


def _all_to_blame(replayed: Replay) -> Finding:
    return Finding(
        "weights_are_broken",
        "error",
        "",
        f"{replayed.num_others_broken} of {replayed.num_others} other training images have a loss or gradient that is"
        f" not finite, too, {_with_weights(replayed)}",
        "replay with checkpoint=PATH of an earlier one",
        cause="so no record of this batch is to blame, but the weights or the config",
        evidence={"checkpoint_step": replayed.checkpoint_step, "images": replayed.num_others},
        sureness="likely",
    )


def _none_to_blame(replayed: Replay) -> Finding:
    steps = replayed.steps
    which = f"steps {steps[-1]} to {steps[0]}" if len(steps) > 1 else f"step {steps[0]}"
    largest, usual = replayed.images[0].losses[TOTAL], replayed.usual[TOTAL]
    clips = replayed.clips_gradients
    return Finding(
        "no_record_to_blame",
        "note",
        "",
        f"none of the {len(replayed.images)} images of {which} stands out: the largest total_loss is {largest:.4g}, and"
        f" the median of {replayed.num_others} other images {usual.median:.4g}, {_with_weights(replayed)}",
        "lower the learning rate or lengthen its warm-up" + ("" if clips else ", or clip gradients"),
        cause="so a loss that grew or broke there is due to the weights, which training moved too far",
        field=None if clips else "train_config.gradient_clipping_by_norm",
        evidence={"total_loss": largest, "median": usual.median, "images": len(replayed.images)},
        sureness="likely" if replayed.is_exact else "possible",
        settings=() if clips else (f"train_config.gradient_clipping_by_norm={_CLIPPING}",),
    )


def _cause(image: ReplayedImage) -> str:
    """From the record itself, or else from the objects alone; empty if neither shows it."""
    if image.odd:
        return f"as {image.odd[0]}"
    known = [(value, index) for index, value in enumerate(image.object_losses) if not image.objects[index].is_dropped]
    broken = [index for value, index in known if not math.isfinite(value)]
    if broken:
        return f"which object {broken[0]} ({image.objects[broken[0]].category}) alone has as well"
    if len(known) > 1:
        value, index = max(known)
        if value > image.losses[TOTAL] / 2:
            return f"of which object {index} ({image.objects[index].category}) alone has {value:.4g}"
    return ""


def _with_weights(replayed: Replay) -> str:
    if not replayed.checkpoint:
        return "with the weights at the start of training"
    return f"with the weights of {os.path.basename(replayed.checkpoint)} (step {replayed.checkpoint_step})"
