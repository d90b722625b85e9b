#!/usr/bin/env python3
"""How long `od-eval evaluate` takes for large files of detections, and how much memory.

    python benchmarks/detection_files.py write /tmp/big --images=1000000                # 10^8 in detections.parquet
    python benchmarks/detection_files.py write /tmp/json --images=100000 --format=json  # 10^7 in detections.json
    python benchmarks/detection_files.py time /tmp/big                                  # seconds and memory of od-eval

Images, objects and detections are made up, with a seed: an object and 100 detections in each image, one of them near
the object; 80 categories.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CATEGORIES, DETECTIONS, SIDE = 80, 100, 640
IMAGES_AT_A_TIME = 10_000
PROGRAM = os.path.join(os.path.dirname(__file__), os.pardir, "scripts", "evaluate_detections.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("write", "time"))
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--format", choices=("parquet", "json"), default="parquet")
    args = parser.parse_args()
    if args.do == "write":
        write(args.folder, args.images, args.format)
    else:
        measure(args.folder)


def write(folder: str, num_images: int, form: str) -> None:
    os.makedirs(folder, exist_ok=True)
    random = np.random.default_rng(0)
    objects = np.concatenate((random.uniform(0, 400, (num_images, 2)), random.uniform(5, 200, (num_images, 2))), axis=1)
    objects = objects.round(2)
    category = random.integers(1, CATEGORIES + 1, num_images)
    groundtruth = {
        "images": [{"id": id, "width": SIDE, "height": SIDE} for id in range(num_images)],
        "categories": [{"id": id, "name": f"class {id}"} for id in range(1, CATEGORIES + 1)],
        "annotations": [
            {"id": id + 1, "image_id": id, "category_id": of, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for id, (of, box) in enumerate(zip(category.tolist(), objects.tolist(), strict=True))
        ],
    }
    with open(f"{folder}/groundtruth.json", "w") as file:
        json.dump(groundtruth, file)
    del groundtruth
    name = f"{folder}/detections.{form}"
    writer = None
    with open(name, "w") as file:
        for first in range(0, num_images, IMAGES_AT_A_TIME):
            images = np.arange(first, min(first + IMAGES_AT_A_TIME, num_images))
            num = len(images) * DETECTIONS
            box = np.concatenate((random.uniform(0, 400, (num, 2)), random.uniform(5, 200, (num, 2))), axis=1)
            found = random.integers(1, CATEGORIES + 1, num)
            box[::DETECTIONS] = objects[images] + random.normal(0, 4, (len(images), 4))
            box[:, 2:] = box[:, 2:].clip(1)
            found[::DETECTIONS] = category[images]
            score = random.beta(1, 6, num)
            score[::DETECTIONS] = random.beta(4, 3, len(images))
            image, score = np.repeat(images, DETECTIONS), score.round(4)
            if form == "json":
                rows = zip(image.tolist(), found.tolist(), box.round(2).tolist(), score.tolist(), strict=True)
                keys = ("image_id", "category_id", "bbox", "score")
                text = json.dumps([dict(zip(keys, row, strict=True)) for row in rows])[1:-1]
                file.write(("[" if not first else ", ") + text)
                continue
            columns = {"image_id": image, "category_id": found.astype(np.int16), "score": score.astype(np.float32)}
            columns |= dict(zip(("x", "y", "width", "height"), box.astype(np.float32).T, strict=True))
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(name, table.schema, compression="zstd")
            writer.write_table(table)
        if form == "json":
            file.write("]")
    if writer is not None:
        writer.close()
    print(f"{name}: {num_images * DETECTIONS:,} detections, {os.path.getsize(name) / 1e6:,.0f} MB")


def measure(folder: str) -> None:
    detections = next(name for name in sorted(os.listdir(folder)) if name.startswith("detections."))
    with tempfile.TemporaryDirectory() as runs:
        started = time.perf_counter()
        command = [sys.executable, PROGRAM, f"--groundtruth={folder}/groundtruth.json"]
        command += [f"--detections={folder}/{detections}", f"--model_dir={runs}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{detections}: {seconds:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU,"
        f" {used.ru_maxrss / 1e6:.1f} GB at most; load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
