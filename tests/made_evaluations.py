"""Made-up detectors: what a detector of a given quality finds in made-up images, and faults planted into labels.

evidence_of(simulate(Detector(quality=0.8), images=300), faults=[wrong_labels(0.05)])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.object_columns import as_pandas
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.evidence import Evidence

WIDTH, HEIGHT = 640, 480


@dataclasses.dataclass(frozen=True)
class Detector:
    """What a simulated detector is like.

    quality: 0 to 1: of finding objects, placing boxes and scoring them; what follows is by default as good.
    found: part of the objects that it finds at all; of those of 16 pixels and less `found_small` times as many.
    wrong_class, duplicates: parts of what it finds. background: false detections per image.
    background_scores: the two parameters of their beta distribution.
    iou: the mean IoU of the boxes of what it finds.
    """

    quality: float = 0.8
    found: float | None = None
    found_small: float = 0.6
    wrong_class: float | None = None
    duplicates: float = 0.02
    background: float | None = None
    background_scores: tuple[float, float] | None = None
    iou: float | None = None

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """Part found, part of a wrong class, background per image, mean IoU of what is found."""
        bad = 1 - self.quality
        return (
            1 - 0.6 * bad if self.found is None else self.found,
            0.25 * bad if self.wrong_class is None else self.wrong_class,
            6 * bad if self.background is None else self.background,
            0.92 - 0.2 * bad if self.iou is None else self.iou,
        )


@dataclasses.dataclass
class Made:
    """Images with objects and detections: columns `image`, `category` (from 0), `box` (x, y, w, h) and `score`."""

    num_images: int
    num_categories: int
    objects: dict[str, np.ndarray]
    detections: dict[str, np.ndarray]


Fault = Callable[[Made, np.random.Generator], None]


def simulate(
    detector: Detector,
    *,
    images: int = 200,
    categories: int = 5,
    per_image: float = 4,
    sides: tuple[float, float] = (24, 260),
    shares: list[float] | None = None,
    seed: int = 0,
) -> Made:
    """Objects, and what a detector makes of them.

    Args:
      detector: what it is like.
      images, categories: how many. per_image: the mean number of objects of an image.
      sides: of objects, in pixels, the least and the largest; logarithms are uniform.
      shares: of the categories among the objects; by default equal.
      seed: of all chances.
    """
    random = np.random.default_rng(seed)
    found, wrong_class, background, mean_iou = detector.shares
    image = np.repeat(np.arange(images), random.poisson(per_image, images))
    num = len(image)
    category = random.choice(categories, num, p=shares)
    side = np.exp(random.uniform(np.log(sides[0]), np.log(sides[1]), num))
    box = _boxes(side, random)

    # How easy an object is decides whether it is found, how well it is placed, and its score.
    ease = random.beta(2, 2, num)
    small = np.clip((np.log(96) - np.log(side)) / np.log(6), 0, 1)
    chance = np.clip(found * (1 - small * (1 - detector.found_small)) + (ease - 0.5) * 0.3, 0, 1)
    is_found = random.random(num) < chance
    rows = np.flatnonzero(is_found)
    spread = 8.0
    iou = random.beta(mean_iou * spread, (1 - mean_iou) * spread, len(rows))
    sharp = 2 + 6 * detector.quality
    score = random.beta(sharp * (0.55 + 0.4 * ease[rows]) * 0.9, sharp * (0.35 - 0.25 * ease[rows]) + 0.3)
    named = category[rows].copy()
    wrong = (random.random(len(rows)) < wrong_class) & (categories > 1)
    named[wrong] = (named[wrong] + random.integers(1, max(categories, 2), wrong.sum())) % categories
    score[wrong] *= random.uniform(0.2, 0.8, wrong.sum())
    boxes = _moved(box[rows], iou, random)
    parts = [(image[rows], named, boxes, score)]
    # What is called wrongly is mostly called rightly as well, with less confidence.
    again = np.flatnonzero(wrong & (random.random(len(rows)) < 0.7))
    parts.append((image[rows][again], category[rows][again], boxes[again], score[again] * random.uniform(0.4, 1.1)))
    twice = np.flatnonzero(random.random(len(rows)) < detector.duplicates)
    parts.append(
        (
            image[rows][twice],
            named[twice],
            _moved(boxes[twice], np.full(len(twice), 0.65), random),
            score[twice] * random.uniform(0.4, 1, len(twice)),
        )
    )
    where = np.repeat(np.arange(images), random.poisson(background, images))
    parts.append(
        (
            where,
            random.integers(0, categories, len(where)),
            _boxes(np.exp(random.uniform(np.log(24), np.log(200), len(where))), random),
            random.beta(*(detector.background_scores or (1.0, 2 + 3 * detector.quality)), len(where)),
        )
    )
    noise = np.repeat(np.arange(images), 10)  # what every detector returns at scores that nobody uses
    parts.append(
        (
            noise,
            random.integers(0, categories, len(noise)),
            _boxes(np.exp(random.uniform(np.log(16), np.log(300), len(noise))), random),
            random.uniform(0, 0.05, len(noise)),
        )
    )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    detections = dict(zip(("image", "category", "box", "score"), columns, strict=True))
    return Made(images, categories, {"image": image, "category": category, "box": box}, detections)


def wrong_labels(share: float) -> Fault:
    """Objects get another category by chance."""

    def fault(made: Made, random: np.random.Generator) -> None:
        category = made.objects["category"]
        wrong = random.random(len(category)) < share
        step = random.integers(1, made.num_categories, wrong.sum())
        category[wrong] = (category[wrong] + step) % made.num_categories

    return fault


def missing_labels(share: float) -> Fault:
    """Objects lose their label by chance."""

    def fault(made: Made, random: np.random.Generator) -> None:
        kept = random.random(len(made.objects["image"])) >= share
        made.objects = {name: column[kept] for name, column in made.objects.items()}

    return fault


def renamed(names: Mapping[int, int]) -> Fault:
    """Labels of a category become those of another."""

    def fault(made: Made, _: np.random.Generator) -> None:
        category = made.objects["category"]
        made.objects["category"] = np.array([names.get(one, one) for one in category.tolist()], int)

    return fault


def evidence_of(made: Made, *faults: Fault, names: Mapping[int, str] | None = None, **fields: Any) -> Evidence:
    """What an evaluation of these detections shows, with faults planted into the labels.

    Args:
      made: it is changed.
      *faults: in this order.
      names: of the categories by id, which is their number from 0, plus 1; by default `one`, `two`, ….
      **fields: others of `Evidence`.
    """
    random = np.random.default_rng(99)
    for fault in faults:
        fault(made, random)
    evaluator = Evaluator(names or {number + 1: _NAMES[number] for number in range(made.num_categories)})
    evaluator.update(_batch(made))
    result = evaluator.evaluate(step=fields.pop("step", 1000))
    return Evidence(
        evaluations=fields.pop("evaluations", (result,)),
        load_objects=lambda: as_pandas(evaluator.analysis.tables["bbox"]),
        **fields,
    )


def facts(**changes: Any) -> ConfigFacts:
    """Facts of an SSD of 320 × 320 pixels."""
    nms = "model.ssd.post_processing.batch_non_max_suppression"
    return ConfigFacts(
        **{
            "source": "pipeline.config",
            "architecture": "ssd_mobilenet_v2_fpn_keras",
            "meta_architecture": "ssd",
            "input_height": 320,
            "input_width": 320,
            "num_classes": 5,
            "batch_size": 8,
            "num_steps": 10000,
            "schedule": "cosine decay",
            "learning_rate": 0.02,
            "warmup_steps": 500,
            "decay_steps": 10000,
            "gradient_clipping": 0.0,
            "augmentations": ("random_horizontal_flip",),
            "fine_tune_checkpoint": "ckpt-0",
            "fine_tune_checkpoint_type": "detection",
            "freeze_variables": (),
            "dropout": False,
            "l2_weight": 4e-5,
            "max_detections_per_class": 100,
            "max_total_detections": 100,
            "score_threshold": 1e-8,
            "nms_iou_threshold": 0.6,
            "localization_weight": 1.0,
            "classification_weight": 1.0,
            "max_number_of_boxes": 100,
            "fields": {
                "input_height": "model.ssd.image_resizer.fixed_shape_resizer.height",
                "input_width": "model.ssd.image_resizer.fixed_shape_resizer.width",
                "num_steps": "train_config.num_steps",
                "max_detections_per_class": f"{nms}.max_detections_per_class",
                "max_total_detections": f"{nms}.max_total_detections",
                "score_threshold": f"{nms}.score_threshold",
                "nms_iou_threshold": f"{nms}.iou_threshold",
                "localization_weight": "model.ssd.loss.localization_weight",
            },
            **changes,
        }
    )


_NAMES = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]


def _batch(made: Made) -> EvaluationBatch:
    def per_image(columns: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
        order = np.argsort(columns["image"], kind="stable")
        bounds = np.searchsorted(columns["image"][order], np.arange(1, made.num_images))
        return np.split(columns[name][order], bounds)

    def boxes(columns: dict[str, np.ndarray]) -> list[np.ndarray]:
        corners = [
            np.concatenate((box[:, 1::-1], box[:, 1::-1] + box[:, :1:-1]), axis=1) for box in per_image(columns, "box")
        ]
        return [each.astype(np.float32) for each in corners]

    return EvaluationBatch(
        image_ids=list(range(made.num_images)),
        image_sizes=[[HEIGHT, WIDTH]] * made.num_images,
        detections=Detections(
            boxes(made.detections),
            [score.astype(np.float32) for score in per_image(made.detections, "score")],
            [category + 1 for category in per_image(made.detections, "category")],
        ),
        groundtruth=GroundTruth(
            boxes(made.objects), [category + 1 for category in per_image(made.objects, "category")]
        ),
    )


def _boxes(side: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """float `[n, 4]`: x, y, width and height of boxes with areas `side`², inside of the image."""
    ratio = np.exp(random.uniform(-0.5, 0.5, len(side)))
    size = np.stack((side * ratio, side / ratio), axis=1)
    room = np.array([WIDTH, HEIGHT]) - size
    return np.concatenate((random.random(size.shape) * np.maximum(room, 0), size), axis=1)


def _moved(box: np.ndarray, iou: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The boxes, moved along x or y so far that they have this IoU with what they were."""
    shift = (1 - iou) / (1 + iou) * random.choice([-1, 1], len(box))
    along = random.integers(0, 2, len(box))
    moved = box.copy()
    rows = np.arange(len(box))
    moved[rows, along] += shift * box[rows, 2 + along]
    return moved


def table(evidence: Evidence) -> pd.DataFrame:
    objects = evidence.objects
    assert objects is not None
    return objects
