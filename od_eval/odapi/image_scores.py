"""How sure a trained model is of images, whether or not they have labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from object_detection.protos import input_reader_pb2

from od_eval.odapi.checkpoints import Checkpoints
from od_eval.odapi.detector import Detector
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.record_contents import BrokenRecord, parse
from od_eval.odapi.records import input_files, serialized_records


class ImageScores(NamedTuple):
    """Of n images, in their order.

    Attributes:
      best: float64 `[n]`, the highest score; 0 without any detection.
      num_used: int64 `[n]`, the number of detections whose score is at least the confidence.
    """

    best: npt.NDArray[np.float64]
    num_used: npt.NDArray[np.int64]


def trained_detector(pipeline: Pipeline, checkpoint: str) -> Detector:
    """The detector of a config with the weights of a checkpoint of its training.

    Raises:
      ODEvalError: the model cannot be built, or the checkpoint is damaged or of another model.
    """
    detector = Detector(pipeline)
    detector.compile()
    Checkpoints(detector, "").restore(checkpoint)
    return detector


def image_scores(detector: Detector, images: Iterable[bytes], confidence: float) -> ImageScores:
    """The scores of a detector, with the weights it is evaluated with, in images one by one.

    Args:
      detector: a compiled one.
      images: JPEG or PNG files; what TensorFlow cannot decode is passed over.
      confidence: from which detections are counted.

    Raises:
      ODEvalError: the model needs more than an image.
    """
    best, num_used = [], []
    with detector.evaluation_weights():
        for encoded in images:
            try:
                image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            except tf.errors.OpError:
                continue
            detections = detector.detect(image.numpy()[np.newaxis])
            assert detections.num is not None
            scores = np.asarray(detections.scores[0], np.float64)[: int(detections.num[0])]
            best.append(scores.max(initial=0.0))
            num_used.append(int((scores >= confidence).sum()))
    return ImageScores(np.array(best, np.float64), np.array(num_used, np.int64))


def sampled_images(reader: input_reader_pb2.InputReader, positions: Iterable[int]) -> Iterator[bytes]:
    """The encoded images of records at these positions in the files of a reader together; broken ones are left out."""
    wanted = set(positions)
    last, position = max(wanted, default=-1), 0
    for path in input_files(reader):
        try:
            for serialized in serialized_records(path):
                if position > last:
                    return
                if position in wanted:
                    with contextlib.suppress(BrokenRecord):
                        yield parse(serialized).features.feature["image/encoded"].bytes_list.value[0]
                position += 1
        except (OSError, EOFError):
            continue
