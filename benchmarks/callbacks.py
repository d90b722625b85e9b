#!/usr/bin/env python3
"""What od_eval's callbacks add to a step of Keras's `fit`, and how large their event files become.

    python benchmarks/callbacks.py
    python benchmarks/callbacks.py --event_files --images_dir=../shared/data/raccoon/images

The first trains a small Keras model with and without the callbacks, in turn, and prints the difference a step. The
second writes the curves of a training of many steps with an evaluation every 1,000, pictures of photographs included,
and prints the sizes of the event files. Minutes each.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import tempfile
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
from PIL import Image

import od_eval
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.odapi.datasets import without_autotuning

STEP_SECONDS = 0.020  # about what a step takes on a GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2000, help="of a round")
    parser.add_argument("--event_files", action="store_true", help="measure event files")
    parser.add_argument("--images_dir", type=pathlib.Path, help="photographs for the pictures in event files")
    args = parser.parse_args()
    if args.event_files:
        if not args.images_dir:
            parser.error("--event_files needs --images_dir")
        measure_event_files(args.images_dir)
    else:
        measure_seconds_of_a_step(args.rounds, args.steps)


def measure_seconds_of_a_step(rounds: int, steps: int) -> None:
    """An epoch with the callbacks and one without, in turn."""
    model = small_model()
    dataset = endless_zeros()
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as log_dir:
        callbacks = [
            od_eval.LossLogger(log_dir, log_every_n_steps=10),
            # Not due within these steps; an evaluation takes what it takes.
            od_eval.DetectionEvaluation((), log_dir, detect=lambda *_: None, options=options(), every_n_steps=10**9),
        ]
        model.fit(dataset, epochs=1, steps_per_epoch=100, verbose=0, callbacks=callbacks)
        for _ in range(rounds):
            for name, used in (("without", []), ("with", callbacks)):
                started = time.perf_counter()
                model.fit(dataset, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=used)
                seconds[name].append((time.perf_counter() - started) / steps)
    added = [1e6 * (one - other) for one, other in zip(seconds["with"], seconds["without"], strict=True)]
    print("| | median | least | most |\n| --- | ---: | ---: | ---: |")
    for name, values in seconds.items():
        values = [1e6 * value for value in values]
        print(f"| step {name}, µs | {statistics.median(values):.0f} | {min(values):.0f} | {max(values):.0f} |")
    print(f"| added, µs (goal: under 100) | {statistics.median(added):.0f} | {min(added):.0f} | {max(added):.0f} |")
    share = statistics.median(added) / (1e6 * STEP_SECONDS)
    print(f"| of a step of {1000 * STEP_SECONDS:.0f} ms (goal: under 1%) | {share:.2%} | | |")


def measure_event_files(images_dir: pathlib.Path) -> None:
    """Trainings of a small model; each step is one of Keras's, each point and picture as large as in a real run."""
    photographs = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(images_dir.iterdir())[:10]]
    print("| steps | evaluations | train, MB | eval, MB |\n| ---: | ---: | ---: | ---: |")
    for steps in (1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory() as log_dir:
            model = small_model(losses=3)
            detect = dict(detect=lambda _, images: detected(images), options=options())
            callbacks = [
                od_eval.LossLogger(log_dir, log_every_n_steps=10),
                od_eval.DetectionEvaluation([photographs], log_dir, **detect, every_n_steps=1000),
            ]
            model.fit(endless_zeros(), epochs=1, steps_per_epoch=steps, verbose=0, callbacks=callbacks)
            sizes = [
                sum(path.stat().st_size for path in pathlib.Path(log_dir, run).glob("*tfevents*")) / 1e6
                for run in ("train", "eval")
            ]
            print(f"| {steps:,} | {steps // 1000} | {sizes[0]:.1f} | {sizes[1]:.1f} |", flush=True)


def endless_zeros() -> tf.data.Dataset:
    zeros = tf.data.Dataset.from_tensors((np.zeros((1, 4), np.float32), np.zeros((1, 1), np.float32)))
    return without_autotuning(zeros.repeat())


def small_model(losses: int = 1) -> tf.keras.Model:
    """A dense layer that reports as many losses as a detector."""

    class Model(tf.keras.Sequential):
        def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
            reported = super().train_step(data)
            return {**reported, **{f"Loss/part_{place}_loss": reported["loss"] for place in range(losses)}}

    model = Model([tf.keras.layers.Dense(1, input_shape=(4,))])
    model.compile(optimizer="sgd", loss="mse")
    return model


def options() -> od_eval.EvaluationOptions:
    return od_eval.EvaluationOptions({number: f"class {number}" for number in range(1, 31)})


def detected(images: list[np.ndarray]) -> EvaluationBatch:
    """Some boxes in each photograph."""
    boxes = [np.outer((0.1, 0.3), np.tile(image.shape[:2], 2)) * (1, 1, 3, 3) for image in images]
    classes = [[1, 2]] * len(images)
    return EvaluationBatch(
        image_ids=[f"{number}.jpg" for number in range(len(images))],
        image_sizes=[image.shape[:2] for image in images],
        detections=Detections(boxes, [[0.9, 0.6]] * len(images), classes),
        groundtruth=GroundTruth(boxes, classes),
        images=images,
        losses={"total_loss": 1.0, "classification_loss": 0.5, "localization_loss": 0.5},
    )


if __name__ == "__main__":
    main()
