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
from collections.abc import Sequence

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
from PIL import Image

import od_eval
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.odapi.datasets import without_autotuning

GOAL = 100  # µs; of the 20 ms that a step may take on a GPU, half a percent


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
    """An epoch without the callbacks and some with them, in turn."""
    model = small_model()
    dataset = endless_zeros()
    seconds: dict[int | None, list[float]] = {}
    with tempfile.TemporaryDirectory() as log_dir:
        callbacks: dict[int | None, list[tf.keras.callbacks.Callback]] = {None: []}
        for every_n in (10, 100):  # the defaults of od-eval train, which wants an early first point, and of LossLogger
            run = os.path.join(log_dir, str(every_n))
            # Not due within these steps; an evaluation takes what it takes.
            evaluation = {"detect": lambda *_: None, "options": options(), "every_n_steps": 10**9}
            callbacks[every_n] = [
                od_eval.LossLogger(run, log_every_n_steps=every_n),
                od_eval.DetectionEvaluation((), run, **evaluation),
            ]
        for round_ in range(-1, rounds):
            for every_n, used in callbacks.items():
                started = time.perf_counter()
                model.fit(dataset, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=used)
                if round_ >= 0:  # the first traces
                    seconds.setdefault(every_n, []).append(1e6 * (time.perf_counter() - started) / steps)
    print("| µs | median | least | most |\n| --- | ---: | ---: | ---: |")
    print_row("a step without callbacks", seconds[None])
    for every_n in (10, 100):
        added = [one - other for one, other in zip(seconds[every_n], seconds[None], strict=True)]
        print_row(f"added (goal: under {GOAL}), a point every {every_n} steps", added)


def print_row(name: str, values: Sequence[float]) -> None:
    print(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} | {max(values):.0f} |")


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
