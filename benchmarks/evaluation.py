#!/usr/bin/env python3
"""od_eval's metrics against pycocotools and faster-coco-eval, without a model: seconds, memory, and how both grow.

    python benchmarks/evaluation.py             # COCO val2017's scale: 5,000 images, 80 categories, 100 detections each
    python benchmarks/evaluation.py --growth    # how od_eval grows with images, categories, detections and masks

What is timed is what an evaluation does with detections that are in memory, batch by batch as a model gives them: for
od_eval everything that is written of it (the twelve numbers of all categories and of each, counts, all files, the
summaries for TensorBoard); for the others `loadRes`, `evaluate`, `accumulate` and `summarize`.

Objects and detections are made up, with a seed: sizes about as in COCO, classes of which some are common and many rare,
scores that tell right from wrong as a trained detector's do, boxes that miss by a little or a lot. Each measurement is
made in a process of its own. faster-coco-eval: `pip install faster-coco-eval`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

BATCH_SIZE = 8
HEIGHT, WIDTH = 480, 640
OBJECTS = 7.3  # an image of COCO val2017
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--categories", type=int, default=80)
    parser.add_argument("--detections", type=int, default=100, help="in each image")
    parser.add_argument("--masks", action="store_true")
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(WORKERS[args.worker](args)))
    elif args.growth:
        print_growth()
    else:
        print_comparison(args)


def print_comparison(args: argparse.Namespace) -> None:
    if args.masks:
        sys.exit("the comparison is of boxes; leave out --masks")
    flags = [f"--images={args.images}", f"--categories={args.categories}", f"--detections={args.detections}"]
    measured: dict[str, list[dict]] = {name: [] for name in WORKERS}
    for _ in range(ROUNDS):
        for name, results in measured.items():
            results.append(run(name, flags))
            print(f"  {name}: {results[-1]}", file=sys.stderr, flush=True)
    if len({round(result["AP"], 12) for results in measured.values() for result in results}) > 1:
        sys.exit(f"the programs do not agree: {measured}")
    print("| | seconds | peak memory, MB | seconds: od_eval over it | memory: od_eval over it |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, results in measured.items():
        cells = [name]
        for figure, digits in (("seconds", 2), ("megabytes", 0)):
            values = [result[figure] for result in results]
            cells.append(f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})")
        for figure in ("seconds", "megabytes"):
            ratio = statistics.median(
                ours[figure] / theirs[figure] for ours, theirs in zip(measured["od_eval"], results, strict=True)
            )
            cells.append(f"1/{1 / ratio:.3g}")
        print(f"| {' | '.join(cells)} |")


def print_growth() -> None:
    print("| images | categories | detections an image | masks | seconds | µs a detection | memory, MB |")
    print("| ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    rows = [(images, 80, 100, False) for images in (100, 1_000, 5_000, 10_000, 50_000, 100_000)]
    rows += [(5_000, categories, 100, False) for categories in (1, 10, 365, 1_203)]
    rows += [(5_000, 80, detections, False) for detections in (300, 1_000)]
    rows += [(images, 80, 100, True) for images in (100, 1_000)]
    for images, categories, detections, masks in rows:
        flags = [f"--images={images}", f"--categories={categories}", f"--detections={detections}"]
        flags += ["--masks"] if masks else []
        result = run("od_eval", flags)
        each = 1e6 * result["seconds"] / (images * detections)
        print(
            f"| {images:,} | {categories:,} | {detections:,} | {'yes' if masks else 'no'} | {result['seconds']:.2f}"
            f" | {each:.2f} | {result['megabytes']:.0f} |",
            flush=True,
        )


def run(name: str, flags: list[str]) -> dict[str, float]:
    """What a worker measures, in a process of its own."""
    command = [sys.executable, __file__, f"--worker={name}", *flags]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


# ---- Made-up data ---------------------------------------------------------------------------------------------------


def made_batches(args: argparse.Namespace) -> Iterator[dict[str, np.ndarray | list]]:
    """Batches of images: groundtruth and detections, boxes as ymin, xmin, ymax, xmax in pixels, padded."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, args.categories + 1)  # some classes are common and many rare
    frequency /= frequency.sum()
    for first in range(0, args.images, BATCH_SIZE):
        size = min(BATCH_SIZE, args.images - first)
        num = rng.poisson(OBJECTS, size)
        most = max(int(num.max()), 1)
        boxes = made_boxes(rng, (size, most))
        classes = rng.choice(args.categories, (size, most), p=frequency) + 1
        # Every other detection is about an object, and the better its box the higher its score.
        shape = (size, args.detections)
        about = rng.integers(0, np.maximum(num, 1)[:, np.newaxis], shape)
        is_about_object = (rng.random(shape) < 0.5) & (num[:, np.newaxis] > 0)
        sides = np.tile(np.take_along_axis(boxes[..., 2:] - boxes[..., :2], about[..., np.newaxis], 1), 2)
        miss = rng.gamma(1.5, 0.07, (*shape, 1))
        near = np.take_along_axis(boxes, about[..., np.newaxis], 1) + sides * miss * rng.uniform(-1, 1, (*shape, 4))
        near = np.sort(near.reshape(*shape, 2, 2), axis=2).reshape(*shape, 4)
        found = np.where(is_about_object[..., np.newaxis], near, made_boxes(rng, shape))
        right_class = rng.random(shape) < 0.9
        yield {
            "image_ids": list(range(first + 1, first + size + 1)),
            "groundtruth_boxes": boxes.astype(np.float32),
            "groundtruth_classes": classes,
            "groundtruth_crowd": rng.random((size, most)) < 0.01,
            "num_groundtruth": num,
            "boxes": found.astype(np.float32),
            "classes": np.where(
                is_about_object & right_class,
                np.take_along_axis(classes, about, 1),
                rng.choice(args.categories, shape, p=frequency) + 1,
            ),
            "scores": np.where(
                is_about_object, np.exp(-4 * miss[..., 0]) * rng.beta(5, 2, shape), rng.beta(1, 8, shape)
            ).astype(np.float32),
        }


def made_boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Boxes whose areas are distributed as in COCO."""
    side = np.exp(rng.normal(3.75, 1.05, shape))
    ratio = np.exp(rng.normal(0, 0.4, shape))
    height, width = np.clip(side * ratio, 4, HEIGHT), np.clip(side / ratio, 4, WIDTH)
    top, left = rng.random(shape) * (HEIGHT - height), rng.random(shape) * (WIDTH - width)
    return np.stack([top, left, top + height, left + width], axis=-1)


def made_masks(boxes: np.ndarray) -> np.ndarray:
    """For each box the ellipse in it: bool `[n, height, width]`."""
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[:] = ((2 * y - top - bottom) / (bottom - top)) ** 2 + ((2 * x - left - right) / (right - left)) ** 2 <= 1
    return masks


def od_eval_batches(args: argparse.Namespace) -> Iterator[Any]:
    """The made batches as `EvaluationBatch`es."""
    from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth

    for made in made_batches(args):
        num = made["num_groundtruth"]
        masks = [None, None]
        if args.masks:
            masks = [
                [made_masks(rows[:count]) for rows, count in zip(made[name], counts, strict=True)]
                for name, counts in (("boxes", [args.detections] * len(num)), ("groundtruth_boxes", num))
            ]
        yield EvaluationBatch(
            image_ids=made["image_ids"],
            image_sizes=[[HEIGHT, WIDTH]] * len(num),
            detections=Detections(made["boxes"], made["scores"], made["classes"], masks=masks[0]),
            groundtruth=GroundTruth(
                *(made["groundtruth_boxes"], made["groundtruth_classes"]),
                masks=masks[1],
                is_crowd=made["groundtruth_crowd"],
                num=num,
            ),
        )


# ---- What runs in processes of their own ----------------------------------------------------------------------------


def with_od_eval(args: argparse.Namespace) -> dict[str, float]:
    """Batch by batch, as they are made; to make them is not counted."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from od_eval.evaluation.evaluator import Evaluator
    from od_eval.evaluation.options import EvaluationOptions
    from od_eval.runs.evaluation_run import write_evaluation

    options = EvaluationOptions({number: f"class {number}" for number in range(1, args.categories + 1)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The analyses of errors are timed by benchmarks/analyses.py.
    evaluator = Evaluator(options.categories, masks=args.masks, analysis=None)
    seconds = 0.0
    for batch in od_eval_batches(args):
        started = time.perf_counter()
        evaluator.update(batch)
        seconds += time.perf_counter() - started
    with tempfile.TemporaryDirectory() as run_dir:
        started = time.perf_counter()
        result = evaluator.evaluate(step=1)
        write_evaluation(run_dir, result, options)
        seconds += time.perf_counter() - started
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    return {"seconds": seconds, "megabytes": megabytes, "AP": result.bbox["AP"]}


def with_cocoeval(args: argparse.Namespace, COCO: type, COCOeval: type) -> dict[str, float]:
    """With an implementation of pycocotools' interface; what becomes dicts before the clock runs is not counted."""
    images, annotations, rows = [], [], []
    for made in made_batches(args):
        for index, (image_id, num) in enumerate(zip(made["image_ids"], made["num_groundtruth"], strict=True)):
            images.append({"id": image_id, "height": HEIGHT, "width": WIDTH})
            columns = (
                xywh(made["groundtruth_boxes"][index, :num]),
                made["groundtruth_classes"][index, :num].tolist(),
                made["groundtruth_crowd"][index, :num].tolist(),
            )
            for box, category, crowd in zip(*columns, strict=True):
                annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category}
                annotations.append(
                    {**annotation, "bbox": box.tolist(), "area": float(box[2] * box[3]), "iscrowd": int(crowd)}
                )
            found = (xywh(made["boxes"][index]), made["scores"][index], made["classes"][index])
            rows.append(np.column_stack((np.full(args.detections, image_id), *found)).astype(np.float64))
    detections = np.concatenate(rows)
    groundtruth = COCO()
    categories = [{"id": number, "name": str(number)} for number in range(1, args.categories + 1)]
    groundtruth.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.redirect_stdout(io.StringIO()):
        started = time.perf_counter()
        groundtruth.createIndex()
        evaluation = COCOeval(groundtruth, groundtruth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        seconds = time.perf_counter() - started
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    return {"seconds": seconds, "megabytes": megabytes, "AP": float(evaluation.stats[0])}


def xywh(boxes: np.ndarray) -> np.ndarray:
    """In float32, as od_eval and the Object Detection API subtract them."""
    boxes = boxes[:, [1, 0, 3, 2]]
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


def with_pycocotools(args: argparse.Namespace) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return with_cocoeval(args, COCO, COCOeval)


def with_faster_coco_eval(args: argparse.Namespace) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    return with_cocoeval(args, COCO, COCOeval_faster)


WORKERS = {"od_eval": with_od_eval, "pycocotools": with_pycocotools, "faster-coco-eval": with_faster_coco_eval}


if __name__ == "__main__":
    main()
