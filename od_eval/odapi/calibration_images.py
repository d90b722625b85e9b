"""Images by which the ranges of a quantized model are measured: of each category of the training set its share.

images = choose_calibration_images(pipeline, 100)
for image in images.decoded(): …
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from object_detection.protos import input_reader_pb2

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.label_map import read_label_map
from od_eval.odapi.eval_config import category_names
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.record_contents import TEXT, BrokenRecord, Classes, name_of_image, parse, values_of
from od_eval.odapi.record_scan import classes_of
from od_eval.odapi.records import input_files, serialized_records
from od_eval.text import some

_LABEL = "image/object/class/label"


@dataclasses.dataclass(frozen=True)
class CalibrationImages:
    """Images of records, as they are encoded there.

    Attributes:
      encoded: JPEG or PNG, in the order of their records.
      reader: the input reader they come from, in messages: `train_input_reader`.
      num_showing: name of a category -> how many of the images show it, for all categories of the label map.
      absent: the names of the categories of which no record has an object.
      num_unusable: records that cannot be read or whose image does not decode, and files that end too early.
      first_unusable: where the first of these is, and what is wrong with it; empty if there is none.
    """

    encoded: Sequence[bytes]
    reader: str
    num_showing: Mapping[str, int]
    absent: Sequence[str]
    num_unusable: int
    first_unusable: str

    def decoded(self) -> Iterator[tf.Tensor]:
        """uint8 `[height, width, 3]` each, RGB."""
        return map(_decoded, self.encoded)

    def sentences(self) -> list[str]:
        """What the images are, what is missing, and what could not be used."""
        shown = [f"{name} in {number}" for name, number in self.num_showing.items() if number]
        plural = "" if len(self.encoded) == 1 else "s"
        sentences = [
            f"Calibration with {len(self.encoded)} image{plural} of {self.reader}: {some(shown) or 'no object'}."
        ]
        left_out = [name for name, number in self.num_showing.items() if not number and name not in self.absent]
        if self.absent:
            sentences.append(f"No calibration image shows {some(self.absent)}, of which {self.reader} has no object.")
        if left_out:
            number = len(self.encoded)
            sentences.append(
                f"No calibration image shows {some(left_out)}, as there are only {number} of them; take more."
            )
        if self.num_unusable:
            sentences.append(f"Not used for calibration: {self.num_unusable} (first: {self.first_unusable}).")
        return sentences


def choose_calibration_images(pipeline: Pipeline, num_images: int) -> CalibrationImages:
    """Chooses images of the training set; of the evaluation set, if the files of the training set are not there.

    All records are read for their labels. Category by category, in turn, the next image that shows it is taken, in an
    order that is random but always the same. Images without objects only fill up.

    Args:
      pipeline: its input readers, label maps and number of classes.
      num_images: how many; fewer, if there are no more.

    Raises:
      ODEvalError: there are no record files, or none of their records can be used, or the label map cannot be read.
    """
    name, reader = _reader_with_files(pipeline)
    classes = classes_of(reader, pipeline.num_classes)
    categories = (
        category_names(read_label_map(reader.label_map_path))
        if reader.label_map_path
        else {number: str(number) for number in range(1, pipeline.num_classes + 1)}
    )
    unusable: list[str] = []
    places: list[tuple[str, int]] = []
    shown: list[frozenset[int]] = []
    for path in input_files(reader):
        for number, serialized in _records_of(path, unusable):
            try:
                shown.append(frozenset(_shown_categories(parse(serialized), classes) & categories.keys()))
                places.append((path, number))
            except BrokenRecord as error:
                unusable.append(f"record {number} of '{path}' {error}")
    chosen = {places[index]: shown[index] for index in _spread(shown, list(categories), num_images)}
    encoded: list[bytes] = []
    num_showing: Counter[int] = Counter()
    for path in dict.fromkeys(path for path, _ in chosen):
        for number, serialized in _records_of(path, []):
            if (path, number) in chosen:
                try:
                    encoded.append(_image_of(serialized))
                    num_showing.update(chosen[path, number])
                except BrokenRecord as error:
                    unusable.append(f"record {number} of '{path}' {error}")
    if not encoded:
        first = f" (first: {unusable[0]})" if unusable else ""
        raise ODEvalError(
            f"{name}.tf_record_input_reader.input_path has no image to calibrate int8 with{first}; create the records"
            " again, or choose a quantization without calibration: dynamic or float16."
        )
    in_records = frozenset().union(*shown)
    return CalibrationImages(
        encoded,
        name,
        {category_name: num_showing[category] for category, category_name in categories.items()},
        [category_name for category, category_name in categories.items() if category not in in_records],
        len(unusable),
        unusable[0] if unusable else "",
    )


def _reader_with_files(pipeline: Pipeline) -> tuple[str, input_reader_pb2.InputReader]:
    """The training input reader or, if its files are not there, the first one for evaluation that has files."""
    config = pipeline.config
    evaluation = [(f"eval_input_reader[{number}]", reader) for number, reader in enumerate(config.eval_input_reader)]
    readers = [("train_input_reader", config.train_input_reader), *evaluation]
    for name, reader in readers:
        if input_files(reader):
            if name != "train_input_reader":
                print(f"The files of train_input_reader are not there; {name} is used for calibration.", flush=True)
            return name, reader
    patterns = some(config.train_input_reader.tf_record_input_reader.input_path) or "nothing"
    raise ODEvalError(
        f"{pipeline.source}: int8 is calibrated with images of train_input_reader, and there are no files"
        f" {patterns}, and none of an eval_input_reader either; correct"
        " train_input_reader.tf_record_input_reader.input_path, or choose dynamic or float16, which need no images."
    )


def _records_of(path: str, unusable: list[str]) -> Iterator[tuple[int, bytes]]:
    """(number, record) of those that can be read; why not all can is added to `unusable`."""
    number = 0
    try:
        for serialized in serialized_records(path):
            yield number, serialized
            number += 1
    except EOFError:
        unusable.append(f"'{path}' is truncated or corrupt at record {number}")
    except OSError as error:
        unusable.append(f"'{path}' cannot be read ({files.reason(error)})")


def _shown_categories(example: Any, classes: Classes) -> set[int]:
    features = example.features.feature
    texts = values_of(features, TEXT) if classes.ids is not None else ()
    if not texts:
        return set(values_of(features, _LABEL))
    assert classes.ids is not None
    return {classes.ids.get(text.decode("utf-8", "replace"), 0) for text in texts}


def _spread(shown: Sequence[frozenset[int]], categories: Sequence[int], num_images: int) -> list[int]:
    """Indices of images, so that each category has its share.

    Args:
      shown: the categories that each image shows.
      categories: those that take turns.
      num_images: how many indices, if there are so many images.
    """
    order = list(range(len(shown)))
    random.Random(0).shuffle(order)  # neighbours in a file are often alike
    queues = {category: deque[int]() for category in categories}
    for index in order:
        for category in shown[index]:
            queues[category].append(index)
    chosen: dict[int, None] = {}
    while any(queues.values()) and len(chosen) < num_images:
        for queue in queues.values():
            while queue and queue[0] in chosen:
                queue.popleft()
            if queue:
                chosen[queue.popleft()] = None
    return list(chosen | dict.fromkeys(order))[:num_images]


def _image_of(serialized: bytes) -> bytes:
    """The encoded image of a record that `parse` could read.

    Raises:
      BrokenRecord: it does not decode.
    """
    features = parse(serialized).features.feature
    encoded = features["image/encoded"].bytes_list.value[0]
    try:
        _decoded(encoded)
    except tf.errors.OpError as error:
        name = name_of_image(features)
        raise BrokenRecord(f"holds an image that does not decode, {name} ({files.reason(error)})") from error
    return encoded


def _decoded(encoded: bytes) -> tf.Tensor:
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)
