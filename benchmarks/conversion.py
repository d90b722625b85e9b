#!/usr/bin/env python3
"""How many images a second `od-eval convert` converts: in one process, in several, and on a Ray cluster.

    python benchmarks/conversion.py                   # 20,000 images of 640 × 480 pixels
    python benchmarks/conversion.py --images=100000

Rounds go through all ways in turn, each in a process of its own: importing TensorFlow, once in each worker, is in the
figures, starting a cluster is not. Images are drawn noise, with a seed.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_dataset(folder, args.images)
        for _ in range(ROUNDS):
            for number in (1, 2):
                seconds.setdefault(f"{number} processes", []).append(convert(folder, "num_workers", number))
            for number in (1, 2):
                seconds.setdefault(f"Ray, {number} processors", []).append(convert(folder, "ray", number))
    one = seconds["1 processes"]
    print(f"{args.images} images; images a second, and times one process in the same round, of {ROUNDS} rounds:")
    for what, values in seconds.items():
        ratios = [first / value for first, value in zip(one, values, strict=True)]
        print(
            f"  {what}: {args.images / statistics.median(values):.0f}, × {statistics.median(ratios):.2f}"
            f" ({min(ratios):.2f}–{max(ratios):.2f})"
        )


def write_dataset(folder: pathlib.Path, number: int) -> None:
    """Image files, of which many are links to the same, and a CSV file with a box in each."""
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for index in range(64):
        noise = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        noise.resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    for index in range(number):
        os.link(folder / f"{index % 64}.jpg", folder / "photos" / f"{index:07}.jpg")
        rows.append(f"{index:07}.jpg,cat,10,20,{100 + index % 500},200")
    (folder / "boxes.csv").write_text("\n".join(rows))


# What is timed, in a new process: arguments are the folder, "num_workers" or "ray", and the number of processors.
CONVERT = """
import sys, time
from od_eval.data.conversion import convert_dataset

folder, where, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
if where == "ray":
    import ray
    ray.init("local", num_cpus=number, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
began = time.monotonic()
options = {"ray": "auto"} if where == "ray" else {"num_workers": number}
convert_dataset(f"{folder}/boxes.csv", f"{folder}/records", images_dir=f"{folder}/photos", overwrite=True, **options)
print(time.monotonic() - began)
"""


def convert(folder: pathlib.Path, where: str, number: int) -> float:
    """Seconds of a conversion."""
    command = [sys.executable, "-c", CONVERT, str(folder), where, str(number)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


if __name__ == "__main__":
    main()
