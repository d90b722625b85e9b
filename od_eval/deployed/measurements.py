"""Latency, size and memory of a model: the section `deployment` of an evaluation."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from od_eval.deployed.model import DeployedModel, Image, scaled
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.labeled_image import LabeledImage

# The first calls allocate memory, and TensorFlow traces in them.
_WARM_UP_CALLS = 3


@dataclasses.dataclass
class DetectedImage:
    """An image with its objects, and what a model has found in it.

    Attributes:
      id, size, objects: as in `LabeledImage`.
      detections: of the model, a batch of one image, in pixels of `size`; classes are ids of the model's label map.
      milliseconds: how long the model took.
      pixels: uint8 `[height, width, 3]`, RGB; None if they are not at hand.
    """

    id: ImageId
    size: tuple[int, int]
    objects: GroundTruth
    detections: Detections
    milliseconds: float
    pixels: Image | None = None


class TimedModel:
    """Measures a model while it detects.

    Latency is the time from an image in memory to its detections: resizing, normalisation, the model with its
    post-processing, boxes in pixels; one image at a time, on this machine.

    Args:
      model: the model.
    """

    def __init__(self, model: DeployedModel):
        self._model = model
        self._is_warm = False

    def detect(self, labeled: LabeledImage) -> DetectedImage:
        """Detects the objects of an image; before the first it warms up, which is not counted."""
        image = labeled.image
        if not self._is_warm:
            for _ in range(_WARM_UP_CALLS):
                self._model.detect([image])
            self._is_warm = True
        started = time.perf_counter()
        detections = self._model.detect([image])
        milliseconds = 1000 * (time.perf_counter() - started)
        detections = scaled(detections, image.shape[:2], labeled.size)
        return DetectedImage(labeled.id, labeled.size, labeled.objects, detections, milliseconds, image)


class Measurements:
    """A `BatchEvaluator` that gives the section `deployment`; it is told the latencies.

    Args:
      model: the model.
      memory: returns the most memory that the process of the model has had, as `peak_memory`.
    """

    def __init__(self, model: DeployedModel, memory: Callable[[], float | None]):
        self._model = model
        self._memory = memory
        self._milliseconds: list[float] = []

    def add(self, milliseconds: float) -> None:
        """Adds the latency of an image."""
        self._milliseconds.append(milliseconds)

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
                "peak_memory_mb": self._memory(),
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


def measurement_lines(deployment: dict[str, Any], *, is_on_cluster: bool = False) -> list[str]:
    """The section `deployment` in sentences.

    Args:
      deployment: the section.
      is_on_cluster: whether it was measured in the processes of a cluster, several at the same time.
    """
    threads = deployment["num_threads"]
    on_threads = f"{threads} thread{'s' if threads > 1 else ''}" if threads else "as many threads as it chooses"
    where = "in the processes of the cluster" if is_on_cluster else "on this machine"
    whose = "a process of the cluster" if is_on_cluster else "this process"
    latency = deployment["latency_ms"]
    lines = [
        f"Run by {deployment['runtime']} on {on_threads}"
        f"{', without a delegate' if deployment['format'] == 'tflite' else ''};"
        f" {deployment['file_size']:,} bytes of files",
        f"Latency {where}: median {latency['median']:.1f} ms, 95% within {latency['percentile_95']:.1f} ms,"
        f" from an image in memory to its detections, one at a time, warm; {latency['num_images']} images",
    ]
    if deployment["peak_memory_mb"] is not None:
        lines.append(
            f"Peak memory of {whose}: {deployment['peak_memory_mb']:.0f} MB, with Python, the libraries, the"
            f" images{'' if is_on_cluster else ' and the evaluation'}"
        )
    return lines
