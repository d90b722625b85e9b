"""Checks of the numbers of a config against its data: classes, steps, batches, and boxes of an image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from od_eval.findings.finding import Finding
from od_eval.findings.survey import Survey
from od_eval.odapi.config_checks import SurveyedData, runs_at
from od_eval.odapi.config_checks.learning_rate import steps_within
from od_eval.text import quoted

# The shortest schedule of the model zoo is 13.5 epochs of COCO, Detectron's is 12. Fewer than a third of that are only
# enough where a model knows the data already.
_FEWEST_EPOCHS = 4.0
_USUAL_FEWEST_EPOCHS = 12
# The longest of the model zoo is 325 epochs of COCO. With three times as many, a model has seen all it can see.
_MOST_EPOCHS = 1000.0
_USUAL_EPOCHS = 300
_FEWEST_STEPS = 2_000  # that weights take to change as much as fine-tuning wants, of however few images
_USUAL_WARMUP = 0.1
# He et al. 2019 (arXiv:1811.08883), section 4.5: from scratch, 10,000 images of COCO give the AP of a pre-trained model
# with three times its steps, and 1,000 images a third of it.
_FEWEST_IMAGES_FROM_SCRATCH = 10_000
# A share of objects from which AP may be lower by as much as differs between good models.
_LOST_OBJECTS = 0.01
# A recall of 0.5 among 100 images with an object each is known to 10 points (95%, binomial); one of 10 objects of a
# category is a tenth of its recall.
_FEWEST_EVALUATED_IMAGES = 100
_FEWEST_EVALUATED_OBJECTS = 10
_COUNTED_BY_COCO = 100  # detections of an image and a category


@runs_at("data")
def classes(data: SurveyedData) -> Iterator[Finding]:
    """The model has no more classes than the label map. That it has fewer is an error of another stage."""
    last = max(data.train.categories, default=0)
    if last and data.facts.num_classes > last:
        yield Finding(
            "more_classes_than_categories",
            "warning",
            data.source,
            f"{data.facts.fields['num_classes']} is {data.facts.num_classes}, and the highest id of the label map is"
            f" {last}",
            f"set it to {last}",
            cause=f"so that {data.facts.num_classes - last} outputs learn nothing but to be silent",
            field=data.facts.fields["num_classes"],
            evidence={"num_classes": data.facts.num_classes, "highest_id": last},
            settings=data.facts.setting(num_classes=last),
        )


@runs_at("data")
def boxes_kept_in_training(data: SurveyedData) -> Iterator[Finding]:
    """`max_number_of_boxes` is not below what images have."""
    counts, most = _boxes_of_images(data.train.objects), data.facts.max_number_of_boxes
    above = counts[counts > most]
    if above.empty:
        return
    lost = int((above - most).sum())
    share = lost / int(counts.sum())
    yield Finding(
        "boxes_cut_in_training",
        "warning",
        data.train.name,
        f"{len(above)} of {len(data.train.images)} images have more than {most} boxes, the most {int(above.max())}",
        f"raise {data.facts.fields['max_number_of_boxes']} to {int(above.max())}",
        cause=f"so that {lost} boxes ({share:.1%}) are left out of training and learned as background",
        field=data.facts.fields["max_number_of_boxes"],
        evidence={"images": len(above), "boxes_lost": lost, "most_boxes": int(above.max())},
        settings=data.facts.setting(max_number_of_boxes=int(above.max())),
        images=_images(data.train, above),
        impact=share,
    )


@runs_at("data")
def batch_over_dataset(data: SurveyedData) -> Iterator[Finding]:
    """A batch is not larger than the dataset."""
    images = len(data.train.images)
    if data.train.is_complete and 0 < images < data.facts.batch_size:
        yield Finding(
            "batch_larger_than_dataset",
            "warning",
            data.train.name,
            f"there are {images} images, and {data.facts.fields['batch_size']} is {data.facts.batch_size}",
            "make the batch smaller, or use more data",
            cause="so that every batch has images more than once",
            field=data.facts.fields["batch_size"],
            evidence={"images": images, "batch_size": data.facts.batch_size},
            settings=data.facts.setting(batch_size=max(1, images // 2)),
        )


@runs_at("data")
def epochs(data: SurveyedData) -> Iterator[Finding]:
    """Images are seen often enough, and not without end."""
    facts, images = data.facts, len(data.train.images)
    if not data.train.is_complete or not images or not facts.num_steps or not facts.batch_size:
        return
    number = facts.num_steps * facts.batch_size / images
    shown = f"{number:.0f}" if number >= 100 else f"{number:.2g}"
    seen = f"{facts.num_steps} steps of {facts.batch_size} images are {shown} epochs of {images} images"
    most_steps = max(_FEWEST_STEPS, math.ceil(_USUAL_EPOCHS * images / facts.batch_size))
    evidence = {"epochs": round(number, 3), "images": images}
    field = facts.fields["num_steps"]
    if number < _FEWEST_EPOCHS:
        steps = math.ceil(_USUAL_FEWEST_EPOCHS * images / facts.batch_size)
        never_seen = number < 1
        yield Finding(
            "few_epochs",
            "warning",
            data.train.name,
            seen,
            f"raise {field} to about {steps}"
            + ("" if never_seen else " unless the checkpoint knows such data already"),
            cause=f"so that {1 - number:.0%} of the images are never seen"
            if never_seen
            else f"and the shortest trainings of the model zoo and of Detectron are {_USUAL_FEWEST_EPOCHS}",
            field=field,
            evidence=evidence,
            sureness="certain" if never_seen else "possible",
            settings=_with_schedule(data, steps),
        )
    elif number > _MOST_EPOCHS and facts.num_steps > 2 * most_steps:
        yield Finding(
            "many_epochs",
            "warning",
            data.train.name,
            seen,
            f"lower {field} to about {most_steps}, or stop when the evaluation gets no better",
            cause="so that the images may be learned by heart, and most of the time is spent for nothing",
            field=field,
            evidence=evidence,
            sureness="possible",
            settings=_with_schedule(data, most_steps),
        )


def _with_schedule(data: SurveyedData, num_steps: int) -> tuple[str, ...]:
    """What to pass to `--set` for a number of steps, with a decay that ends with it and a warm-up that fits in it."""
    facts = data.facts
    values = {"num_steps": num_steps}
    if facts.schedule == "cosine decay":
        values["decay_steps"] = num_steps
        if facts.warmup_steps > _USUAL_WARMUP * num_steps:
            values["warmup_steps"] = max(1, round(_USUAL_WARMUP * num_steps))
    return (*facts.setting(**values), *steps_within(data.config, facts, num_steps))


@runs_at("data")
def few_images_from_scratch(data: SurveyedData) -> Iterator[Finding]:
    """Few images are learned with a checkpoint to begin with."""
    images = len(data.train.images)
    if data.train.is_complete and 0 < images < _FEWEST_IMAGES_FROM_SCRATCH and not data.facts.fine_tune_checkpoint:
        yield Finding(
            "few_images_from_scratch",
            "warning",
            data.train.name,
            f"there are {images} images, and no {data.facts.fields['fine_tune_checkpoint']}",
            "begin with a model of the zoo, for example --zoo=ssd_mobilenet_v2_fpnlite_320x320",
            cause="so that all has to be learned from them, for which 10,000 are few",
            field=data.facts.fields["fine_tune_checkpoint"],
            evidence={"images": images},
            sureness="likely",
        )


@runs_at("data")
def detections_of_crowded_images(data: SurveyedData) -> Iterator[Finding]:
    """There are as many detections as there are objects to find."""
    facts, total = data.facts, data.facts.max_total_detections
    if not total:
        return
    per_class = facts.max_detections_per_class or total
    for survey in data.evaluation:
        objects = survey.objects[~survey.objects["crowd"].astype(bool) & (survey.objects["category"] > 0)]
        by_category = objects.groupby(["image", "category"]).size()
        if by_category.empty:
            continue
        there = by_category.groupby("image").sum()
        found = np.minimum(by_category.clip(upper=per_class).groupby("image").sum(), total)
        above = (there - found)[there > found]
        lost = int(above.sum())
        if not lost:
            continue
        needed = {"max_total_detections": max(int(there.max()), total)}
        if "max_detections_per_class" in facts.fields:
            needed["max_detections_per_class"] = max(int(by_category.max()), per_class)
        share = lost / len(objects)
        yield Finding(
            "objects_beyond_detections",
            "warning" if share >= _LOST_OBJECTS else "note",
            survey.name,
            f"{len(above)} of {len(survey.images)} images have more objects than there are detections ({total} of an"
            f" image{f', {per_class} of a class' if facts.max_detections_per_class else ''})",
            f"raise {' and '.join(facts.fields[name] for name in needed)}",
            cause=f"so that {lost} of {len(objects)} objects ({share:.1%}) cannot be found"
            + (
                f" (of a category, COCO's AP counts {_COUNTED_BY_COCO} detections of an image in any case)"
                if by_category.max() > _COUNTED_BY_COCO
                else ""
            ),
            field=facts.fields["max_total_detections"],
            evidence={"images": len(above), "objects_lost": lost, "objects": len(objects), **needed},
            settings=(*facts.setting(**needed), *_proposals(data, int(there.max()))),
            images=_images(survey, above),
            impact=share,
        )


def _proposals(data: SurveyedData, objects: int) -> tuple[str, ...]:
    """For Faster R-CNN, whose detections come from proposals, several of which are for one object."""
    if data.facts.meta_architecture != "faster_rcnn":
        return ()
    wanted = 3 * objects  # as many as the model zoo has for its 100 detections
    if data.config.model.faster_rcnn.first_stage_max_proposals >= wanted:
        return ()
    return (f"model.faster_rcnn.first_stage_max_proposals={wanted}",)


@runs_at("data")
def small_evaluation_set(data: SurveyedData) -> Iterator[Finding]:
    """An evaluation has enough images and objects for its metrics to say something."""
    for survey in data.evaluation:
        images = len(survey.images)
        if not survey.is_complete or not images:
            continue
        objects = survey.objects.loc[~survey.objects["crowd"].astype(bool), "category"].value_counts()
        few = [
            name for number, name in survey.categories.items() if 0 < objects.get(number, 0) < _FEWEST_EVALUATED_OBJECTS
        ]
        if images < _FEWEST_EVALUATED_IMAGES:
            yield Finding(
                "few_images_to_evaluate",
                "note",
                survey.name,
                f"there are {images} images to evaluate",
                f"use {_FEWEST_EVALUATED_IMAGES} or more to compare models",
                cause="so that differences of AP of some points are chance",
                evidence={"images": images},
            )
        elif few:
            yield Finding(
                "few_objects_to_evaluate",
                "note",
                survey.name,
                f"{len(few)} of {len(survey.categories)} categories have fewer than {_FEWEST_EVALUATED_OBJECTS} objects"
                f" to evaluate: {quoted(itertools.islice(few, 5))}{', …' if len(few) > 5 else ''}",
                "add images with them, or do not rely on their AP",
                cause="so that one object is a tenth of their recall or more",
                evidence={"categories": few},
            )


def _boxes_of_images(objects: pd.DataFrame) -> pd.Series:
    return objects.groupby("image").size()


def _images(survey: Survey, numbers: pd.Series) -> tuple[str, ...]:
    """The ids of the images with the highest numbers."""
    worst = numbers.sort_values(ascending=False, kind="stable").index[:5]
    return tuple(str(survey.images["id"].iloc[row]) for row in worst)
