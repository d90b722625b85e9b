#!/usr/bin/env python3
"""How many images a second an exported SavedModel takes in batches, against its signature for one image.

    python benchmarks/saved_model.py                  # SSD MobileNet v2, images of 320×320
    python benchmarks/saved_model.py --size=640

Images are noise, with a seed, in memory; weights are untrained. All ways take turns in each round, so that what
else the machine does slows all of them.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CONFIG = ROOT / "pipeline_configs" / "ssd_mobilenet_v2_raccoon_224x224.config"
BATCH_SIZES = (1, 8, 32)
ROUNDS = 5
IMAGES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=320)
    args = parser.parse_args()
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (IMAGES, args.size, args.size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        saved = tf.saved_model.load(exported(folder, args.size))
    # Name -> signature and size of a batch.
    ways = {"serving_default": ("serving_default", 1)}
    ways |= {f"detect_batch of {size}": ("detect_batch", size) for size in BATCH_SIZES}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, (signature, size) in ways.items():
            started = time.perf_counter()
            for start in range(0, IMAGES, size):
                saved.signatures[signature](input_tensor=tf.constant(images[start : start + size]))
            if number:  # the first round warms up
                rates[way].append(IMAGES / (time.perf_counter() - started))
    print(f"Images a second, {args.size}×{args.size}, {os.cpu_count()} CPUs; median (range) of {ROUNDS} rounds, ratio:")
    for way, values in rates.items():
        ratio = statistics.median(ours / one for ours, one in zip(values, rates["serving_default"], strict=True))
        print(f"  {way}: {statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f}), {ratio:.2f}")


def exported(folder: str, size: int) -> str:
    """The folder of a new SavedModel."""
    from od_eval import Detector, Pipeline
    from od_eval.odapi.export import export

    pipeline = Pipeline.load(CONFIG, [f"model.ssd.image_resizer.fixed_shape_resizer={{height: {size} width: {size}}}"])
    pipeline.save(folder)
    detector = Detector(pipeline)
    detector.compile()
    detector.checkpoint().write(f"{folder}/ckpt-0")
    export(f"{folder}/pipeline.config", f"{folder}/ckpt-0", f"{folder}/exported")
    return f"{folder}/exported/saved_model"


if __name__ == "__main__":
    main()
