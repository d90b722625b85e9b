#!/usr/bin/env python3
"""The analyses of errors against hotcoco's own: seconds, memory, and how both grow.

    python benchmarks/analyses.py                     # 5,000 images, 90 categories, 500,000 detections: boxes
    python benchmarks/analyses.py --masks --images=500
    python benchmarks/analyses.py --growth            # from 1,000 to 100,000 images

The data are those of benchmarks/evaluation.py. Of od_eval it is timed what an evaluation adds to its metrics: the
object table, all analyses, their files, and plots with pictures of errors. Of hotcoco: all that it has of it, which is
less: TIDE's errors, confusion matrix, calibration, F scores and image diagnostics, after `evaluate` and `accumulate`,
and a bootstrap of as many resamples (`hotcoco.compare`, of an evaluation with itself). Each measurement is made in a
process of its own, one after the other, and repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from evaluation import HEIGHT, WIDTH, od_eval_batches

from od_eval.evaluation.analyses.intervals import NUM_RESAMPLES

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--categories", type=int, default=90)
    parser.add_argument("--detections", type=int, default=100, help="in each image")
    parser.add_argument("--masks", action="store_true")
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(WORKERS[args.worker](args)))
    elif args.growth:
        print("| images | object table | analyses | files | plots, pictures | memory, MB |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for images in (1_000, 5_000, 20_000, 100_000):
            result = run("od_eval", [f"--images={images}", f"--categories={args.categories}"])
            cells = [f"{result[name]:.2f} s" for name in ("table", "analyses", "files", "pictures")]
            print(f"| {images:,} | {' | '.join(cells)} | {result['megabytes']:.0f} |", flush=True)
    else:
        print_comparison(args)


def print_comparison(args: argparse.Namespace) -> None:
    flags = [f"--images={args.images}", f"--categories={args.categories}", f"--detections={args.detections}"]
    flags += ["--masks"] if args.masks else []
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in WORKERS}
    for _ in range(ROUNDS):
        for name, results in measured.items():
            results.append(run(name, flags))
            print(f"  {name}: {results[-1]}", file=sys.stderr, flush=True)
    for name, results in measured.items():
        for figure in results[0]:
            values = [result[figure] for result in results]
            print(f"{name}, {figure}: {statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})")
    ratios = [
        (ours["table"] + ours["analyses"]) / theirs["seconds"]
        for ours, theirs in zip(measured["od_eval"], measured["hotcoco"], strict=True)
    ]
    print(f"object table and analyses of od_eval ÷ analyses of hotcoco: {statistics.median(ratios):.2f}")


def run(name: str, flags: list[str]) -> dict[str, float]:
    """What a worker measures, in a process of its own."""
    command = [sys.executable, __file__, f"--worker={name}", *flags]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def made_evaluator(args: argparse.Namespace) -> Any:
    """An Evaluator that has been given all batches."""
    from od_eval.evaluation.evaluator import Evaluator

    categories = {number: f"class {number}" for number in range(1, args.categories + 1)}
    evaluator = Evaluator(categories, masks=args.masks, analysis=None)
    for batch in od_eval_batches(args):
        evaluator.update(batch)
    return evaluator


def with_od_eval(args: argparse.Namespace) -> dict[str, float]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow  # noqa: F401 (a training has imported it)

    from od_eval.evaluation.analysis import analyse
    from od_eval.evaluation.options import AnalysisOptions
    from od_eval.runs.evaluation_run import draw_error_examples, draw_plots, write_analysis
    from od_eval.runs.image_archive import ImageArchive

    evaluator = made_evaluator(args)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}

    def timed(name: str, function: Any, *arguments: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments)
        seconds[name] = time.perf_counter() - started
        return result

    tables = timed("table", evaluator.object_tables)
    analysis = timed("analyses", analyse, lambda: tables, AnalysisOptions())
    with tempfile.TemporaryDirectory() as run_dir:
        archive = ImageArchive(run_dir)
        for image_id in list(tables["bbox"].images)[:100]:
            archive.add(image_id, np.random.default_rng(0).integers(0, 256, (HEIGHT // 2, WIDTH // 2, 3), np.uint8))
        timed("files", write_analysis, "eval", run_dir, 1, analysis, [1])

        def draw() -> None:
            draw_plots("eval", run_dir, 1, analysis)
            draw_error_examples("eval", run_dir, 1, analysis, archive)

        timed("pictures", draw)
    return {**seconds, "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3}


def with_hotcoco(args: argparse.Namespace) -> dict[str, float]:
    import hotcoco

    evaluator = made_evaluator(args)
    groundtruth, detections = evaluator.groundtruth_json(), evaluator.detections_json()
    iou_type = "segm" if args.masks else "bbox"
    loaded = hotcoco.COCO(groundtruth)
    evaluation = hotcoco.COCOeval(loaded, loaded.load_res(detections), iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    evaluation.tide_errors()
    evaluation.confusion_matrix()
    evaluation.calibration()
    evaluation.f_scores()
    evaluation.image_diagnostics()
    without_bootstrap = time.perf_counter() - started
    hotcoco.compare(evaluation, evaluation, n_bootstrap=NUM_RESAMPLES)
    seconds = time.perf_counter() - started
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    return {"without bootstrap": without_bootstrap, "seconds": seconds, "megabytes": megabytes}


WORKERS = {"od_eval": with_od_eval, "hotcoco": with_hotcoco}

if __name__ == "__main__":
    main()
