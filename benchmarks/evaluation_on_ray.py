#!/usr/bin/env python3
"""How many images a second `od-eval evaluate --model` evaluates: in one process, and on a Ray cluster of this machine.

    python benchmarks/evaluation_on_ray.py --model=runs/a/best --record='data/val-*' --label_map=data/label_map.pbtxt

Rounds go through all ways in turn, each in a process of its own: importing TensorFlow and loading the model, once in
each worker, is in the figures, starting a cluster is not. There should be several record files for each worker.

    python benchmarks/evaluation_on_ray.py … --merged=200

Afterwards, how long one process takes to evaluate what was found, as if there were 200 times the images.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "record", "label_map"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--merged", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    data = (args.model, args.record, args.label_map)
    ways = {"one process, 1 thread": ("here", 1), "one process, 2 threads": ("here", 2)}
    ways |= {f"Ray, {number} processors": ("ray", number) for number in (1, 2)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    num_images = 0
    for _ in range(args.rounds):
        for way, (where, number) in ways.items():
            found = timed(EVALUATE, *data, where, number)
            num_images = int(found[0])
            seconds[way].append(found[1])
    first = next(iter(seconds.values()))
    print(f"{num_images} images; images a second, and times {next(iter(ways))} in the same round, of {args.rounds}:")
    for way, values in seconds.items():
        ratios = [one / value for one, value in zip(first, values, strict=True)]
        print(
            f"  {way}: {num_images / statistics.median(values):.1f}, × {statistics.median(ratios):.2f}"
            f" ({min(ratios):.2f}–{max(ratios):.2f})"
        )
    if args.merged:
        images, detections, read, evaluated, memory = timed(MERGE, *data, args.merged)
        print(
            f"  {images:.0f} images, {detections:.0f} detections: {read:.1f} s to read about them, {evaluated:.1f} s"
            f" to evaluate them, without pictures; {memory:.1f} GB at most"
        )


def timed(program: str, *arguments: object) -> list[float]:
    """The numbers that a program prints in its last line, run in a new process."""
    command = [sys.executable, "-c", BEGIN + program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, input=folder)
    return [float(number) for number in process.stdout.strip().rpartition("\n")[2].split()]


# What is timed. Arguments are the model, the record files and the label map; standard input has a folder for files.
BEGIN = """
import glob, resource, sys, time
import od_eval
from od_eval.deployed import part_files
from od_eval.deployed.evaluating import evaluate_model, options_for
from od_eval.deployed.labeled_set import of_records
from od_eval.deployed.parts import DetectedParts, detect_in_parts
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.streamed_evaluator import evaluator_for

path, record, label_map, folder = *sys.argv[1:4], sys.stdin.read()

def connect(number):
    import ray
    ray.init("local", num_cpus=number, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

def detected_on_ray(model, labeled, left_out):
    return detect_in_parts(model, labeled, left_out, ray="auto", folder=folder)
"""
# Further arguments: "here" or "ray", and a number of threads, or of processors of one thread each.
EVALUATE = """
where, number = sys.argv[4], int(sys.argv[5])
if where == "ray":
    connect(number)
began = time.monotonic()
model = od_eval.load_model(path, num_threads=1 if where == "ray" else number)
left_out = LeftOut()
labeled = of_records(record, label_map, False, left_out)
detected = detected_on_ray(model, labeled, left_out) if where == "ray" else None
result = evaluate_model(model, labeled, left_out, detected=detected)
print(result.num_images, time.monotonic() - began)
"""
# A further argument: how many times the images are taken.
MERGE = """
connect(2)
model = od_eval.load_model(path, num_threads=1)
left_out = LeftOut()
labeled = of_records(record, label_map, False, left_out)
detected_on_ray(model, labeled, left_out)
times = int(sys.argv[4])
began = time.monotonic()
paths = sorted(glob.glob(f"{folder}/*/*.npz")) * times
detected = DetectedParts(list(labeled.parts()) * times, paths, 0)
for path in paths:
    detected.add(part_files.about(path), left_out)
read = time.monotonic() - began
began = time.monotonic()
options = options_for(model, labeled)
evaluator = evaluator_for(options, detected.sizes, detected.num_detections)
result = evaluate_model(model, labeled, left_out, detected=detected, options=options, evaluators=[evaluator])
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(result.num_images, detected.num_detections, read, time.monotonic() - began, memory)
"""


if __name__ == "__main__":
    main()
