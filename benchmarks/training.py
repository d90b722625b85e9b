#!/usr/bin/env python3
"""How the speed of training depends on the size of images and batches, and what of it the input pipeline takes.

    od-eval convert --images=../shared/data/raccoon/images --annotations=../shared/data/raccoon/annotations \
        --output_dir=/tmp/raccoon --validation_fraction=0.2
    python benchmarks/training.py --data_dir=/tmp/raccoon

An SSD MobileNet v2 makes training steps on the photographs and, in turn, on one batch of them that is in memory; each
size in a process of its own.
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
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "pipeline_configs" / "ssd_mobilenet_v2_raccoon_224x224.config"
SIZES = [(128, 8), (224, 8), (320, 8), (512, 8), (224, 1), (224, 2), (224, 16), (224, 32)]  # of images, of batches
IMAGES = 80  # at least so many in a round, on each side
ROUNDS = 3


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
        speed = statistics.median(measured["photographs"])
        ratios = [one / other for one, other in zip(measured["photographs"], measured["memory"], strict=True)]
        print(
            f"| {size} | {batch_size} | {speed:.3g} | {speed * batch_size:.3g} | {statistics.median(ratios):.2f}"
            f" ({min(ratios):.2f}–{max(ratios):.2f}) | {measured['megabytes']:.0f} |",
            flush=True,
        )


def measure(data_dir: pathlib.Path, size: int, batch_size: int) -> dict[str, list[float] | float]:
    """Steps a second on photographs and on a batch in memory, by round, and the peak memory of the process."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import od_eval
    from od_eval.odapi.datasets import without_autotuning

    import tensorflow as tf  # isort: skip  (after od_eval, which chooses Keras 2)

    overrides = [
        f"model.ssd.image_resizer.fixed_shape_resizer.height={size}",
        f"model.ssd.image_resizer.fixed_shape_resizer.width={size}",
        f"train_config.batch_size={batch_size}",
        f"train_input_reader.tf_record_input_reader.input_path={data_dir}/train-?????-of-?????",
        f"train_input_reader.label_map_path={data_dir}/label_map.pbtxt",
    ]
    pipeline = od_eval.Pipeline.load(CONFIG, overrides)
    detector = od_eval.Detector(pipeline)
    detector.compile()
    photographs = pipeline.train_dataset()
    memory = without_autotuning(tf.data.Dataset.from_tensors(next(iter(photographs))).repeat())
    iterators = {"photographs": iter(photographs), "memory": iter(memory)}
    seconds: dict[str, list[float]] = {name: [] for name in iterators}
    train = detector.make_train_function()  # what `fit` calls for each step
    steps = max(10, IMAGES // batch_size)
    for round_ in range(-1, ROUNDS):
        for name, iterator in iterators.items():
            started = time.perf_counter()
            for _ in range(steps if round_ >= 0 else 2):
                train(iterator)
            if round_ >= 0:  # before, it traces
                seconds[name].append(time.perf_counter() - started)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {**{name: [steps / one for one in values] for name, values in seconds.items()}, "megabytes": megabytes}


if __name__ == "__main__":
    main()
