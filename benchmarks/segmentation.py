#!/usr/bin/env python3
"""SegmentationEvaluator against NumPy as mmsegmentation does it, and scikit-learn: time for an image, as a ratio.

    python benchmarks/segmentation.py           # 512 × 512 pixels, 20 classes

mmsegmentation's `IoUMetric` has three histograms of classes per image (intersection, prediction, ground truth) and no
scores; its part is an argmax of the scores and these. scikit-learn's `average_precision_score` sorts the scores of each
class. Times are of the processor in this thread, the least of several rounds: other programs disturb them little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
from sklearn.metrics import average_precision_score

from od_eval.evaluation.segmentation import pixel_counts
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
from od_eval.evaluation.segmentation.pixel_counts import PixelCounts

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=20)
    args = parser.parse_args()
    labels, scores = image(args.size, args.classes)
    actual, flat = labels.ravel(), scores.reshape(-1, args.classes)
    counts = PixelCounts.zeros(args.classes)

    def evaluate() -> None:
        evaluator.update(labels=labels[None], scores=scores[None])

    def like_mmsegmentation() -> None:
        predicted = scores.argmax(axis=-1).ravel()
        for of_pixels in (actual[actual == predicted], predicted, actual):
            np.histogram(of_pixels, bins=args.classes, range=(0, args.classes - 1))

    evaluator = SegmentationEvaluator(dict(enumerate(map(str, range(args.classes)))))
    rows: dict[str, float] = {
        "NumPy as in mmsegmentation (IoU)": least(like_mmsegmentation),
        "SegmentationEvaluator.update, all": least(evaluate),
        "  of which histograms for AP, AR": least(lambda: counts.add_scores(actual, flat)),
        "  of which borders of both maps": 2 * least(lambda: pixel_counts.near_border(labels.astype(np.int16))),
        "scikit-learn (AP)": least(
            lambda: [average_precision_score(actual == index, flat[:, index]) for index in range(args.classes)], 1
        ),
    }
    first = next(iter(rows.values()))
    for name, seconds in rows.items():
        print(f"{name:36} {1000 * seconds:8.1f} ms  × {seconds / first:5.1f}")
    section = evaluator.evaluate().segmentation
    exact = np.mean([average_precision_score(actual == index, flat[:, index]) for index in range(args.classes)])
    print(f"AP {section['AP']:.5f}, exact {exact:.5f}")


def image(size: int, classes: int) -> tuple[Any, Any]:
    """int64 labels in blocks and float32 probabilities, as of a model that is right for two pixels of three."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, classes, (size // 32, size // 32))
    labels = np.kron(blocks, np.ones((32, 32), np.int64))
    logits = rng.normal(0, 1, (*labels.shape, classes)) + 2.5 * (labels[..., None] == np.arange(classes))
    return labels, scipy.special.softmax(logits, axis=-1).astype(np.float32)


def least(function: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Seconds of this thread's processor time."""
    seconds = []
    for _ in range(rounds):
        started = time.thread_time()
        function()
        seconds.append(time.thread_time() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
