"""Latency, size and memory of a model: the section `deployment` of an evaluation."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from od_eval.deployed.model import DeployedModel, Image
from od_eval.evaluation.batch import Detections, EvaluationBatch

# The first calls allocate memory, and TensorFlow traces in them.
_WARM_UP_CALLS = 3


class Measurements:
    """A `BatchEvaluator` that measures a model while it detects, and gives the section `deployment`.

    Latency is the time from an image in memory to its detections: resizing, normalisation, the model with its
    post-processing, boxes in pixels; one image at a time, on this machine.

    Args:
      model: the model.
    """

    def __init__(self, model: DeployedModel):
        self._model = model
        self._milliseconds: list[float] = []

    def detect(self, image: Image) -> Detections:
        """As the model's `detect` for one image, timed; before the first it warms up, which is not counted."""
        if not self._milliseconds:
            for _ in range(_WARM_UP_CALLS):
                self._model.detect([image])
        started = time.perf_counter()
        detections = self._model.detect([image])
        self._milliseconds.append(1000 * (time.perf_counter() - started))
        return detections

    def update(self, batch: EvaluationBatch) -> None:
        pass

    def merge(self, other: Measurements) -> None:
        self._milliseconds += other._milliseconds

    def evaluate(self) -> dict[str, Any]:
        median, percentile_95 = np.percentile(self._milliseconds or [np.nan], [50, 95]).tolist()
        return {
            "deployment": {
                "model": self._model.path,
                "format": self._model.format,
                "quantization": self._model.quantization,
                "runtime": self._model.runtime,
                "num_threads": self._model.num_threads,
                "latency_ms": {"median": median, "percentile_95": percentile_95, "num_images": len(self._milliseconds)},
                "file_size": self._model.file_size,
                "peak_memory_mb": peak_memory(),
            }
        }


def peak_memory() -> float | None:
    """The most memory that this process has had so far, resident, in 10⁶ bytes; None where nothing tells it (Windows).

    It has Python, the runtime and its libraries, the model, the images and what is kept for the metrics.
    """
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 1e6


def measurement_lines(deployment: dict[str, Any]) -> list[str]:
    """The section `deployment` in sentences."""
    threads = deployment["num_threads"]
    latency = deployment["latency_ms"]
    lines = [
        f"Run by {deployment['runtime']} on"
        f" {f'{threads} threads' if threads else 'as many threads as it chooses'}"
        f"{', without a delegate' if deployment['format'] == 'tflite' else ''};"
        f" {deployment['file_size']:,} bytes of files",
        f"Latency on this machine: median {latency['median']:.1f} ms, 95% within {latency['percentile_95']:.1f} ms,"
        f" from an image in memory to its detections, one at a time, warm; {latency['num_images']} images",
    ]
    if deployment["peak_memory_mb"] is not None:
        lines.append(
            f"Peak memory of this process: {deployment['peak_memory_mb']:.0f} MB, with Python, the libraries, the"
            " images and the evaluation"
        )
    return lines
