#!/usr/bin/env python3
"""How the speed of training depends on the size of images and batches, and what of it the input pipeline takes.

    od-eval convert --images=../shared/data/raccoon/images --annotations=../shared/data/raccoon/annotations \
        --output_dir=/tmp/raccoon --validation_fraction=0.2
    python benchmarks/training.py --data_dir=/tmp/raccoon

An SSD MobileNet v2 makes training steps on the photographs with its losses logged and, in turn, on one batch of them
that is in memory with nothing logged; each size in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import od_eval

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "pipeline_configs" / "ssd_mobilenet_v2_raccoon_224x224.config"
SIZES = [(128, 8), (224, 8), (320, 8), (512, 8), (224, 1), (224, 2), (224, 16), (224, 32)]  # of images, of batches
IMAGES = 80  # at least so many in a turn, on each side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=pathlib.Path, required=True, help="what od-eval convert wrote")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.data_dir, *args.worker)))
        return
    print("| image | batch | steps/s | images/s | over the step alone | peak memory, MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for size, batch_size in SIZES:
        command = [sys.executable, __file__, f"--data_dir={args.data_dir}", "--worker", str(size), str(batch_size)]
        finished = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True
        )
        measured = json.loads(finished.stdout.splitlines()[-1])
        speed = statistics.median(measured["training"])
        ratios = [one / other for one, other in zip(measured["training"], measured["step alone"], strict=True)]
        print(
            f"| {size} | {batch_size} | {speed:.3g} | {speed * batch_size:.3g} | {statistics.median(ratios):.2f}"
            f" ({min(ratios):.2f}–{max(ratios):.2f}) | {measured['megabytes']:.0f} |",
            flush=True,
        )


def measure(data_dir: pathlib.Path, size: int, batch_size: int) -> dict[str, list[float] | float]:
    """What `steps_in_turn` gives, and the peak memory of the process."""
    overrides = [
        f"model.ssd.image_resizer.fixed_shape_resizer.height={size}",
        f"model.ssd.image_resizer.fixed_shape_resizer.width={size}",
        f"train_config.batch_size={batch_size}",
        f"train_input_reader.tf_record_input_reader.input_path={data_dir}/train-?????-of-?????",
        f"train_input_reader.label_map_path={data_dir}/label_map.pbtxt",
    ]
    speeds = steps_in_turn(od_eval.Pipeline.load(CONFIG, overrides), turns=3, steps=max(10, IMAGES // batch_size))
    return {**speeds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def steps_in_turn(pipeline: od_eval.Pipeline, turns: int, steps: int) -> dict[str, list[float]]:
    """Steps a second of each turn: of `training` with input and logging, and of the `step alone`, on a batch in memory.

    They take turns in one process, because the machine's speed drifts by more than the difference.
    """
    import tensorflow as tf

    from od_eval.odapi.datasets import without_autotuning

    detector = od_eval.Detector(pipeline)
    detector.compile()
    train = detector.make_train_function()  # what `fit` calls for each step
    photographs = pipeline.train_dataset()
    memory = iter(without_autotuning(tf.data.Dataset.from_tensors(next(iter(photographs))).repeat()))
    photographs = iter(photographs)
    for iterator in (photographs, memory):
        train(iterator)  # traces
    speeds: dict[str, list[float]] = {"training": [], "step alone": []}
    with tempfile.TemporaryDirectory() as log_dir:
        callbacks = tf.keras.callbacks.CallbackList(
            [od_eval.LossLogger(log_dir, log_every_n_steps=10)], model=detector, steps=None
        )
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)
        for turn in range(turns):
            started = time.perf_counter()
            for step in range(turn * steps, (turn + 1) * steps):
                callbacks.on_train_batch_begin(step)
                callbacks.on_train_batch_end(step, train(photographs))
            speeds["training"].append(steps / (time.perf_counter() - started))
            started = time.perf_counter()
            for _ in range(steps):
                train(memory)
            speeds["step alone"].append(steps / (time.perf_counter() - started))
        callbacks.on_train_end()
    return speeds


if __name__ == "__main__":
    main()
