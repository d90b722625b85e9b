"""Surveys the records of an input reader: what their images and objects are like, without any model."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from object_detection.protos import input_reader_pb2
from PIL import Image

from od_eval import files
from od_eval.findings.finding import Finding
from od_eval.findings.image_measures import ImageMeasures, UnreadableImage, box_iou, in_threads, measure_image
from od_eval.findings.survey import Progress, Survey, SurveyedObject, SurveyTables, reported
from od_eval.odapi.record_contents import TEXT, BrokenRecord, Classes, Loss, losses, name_of_image, parse, values_of
from od_eval.odapi.record_scan import LostObjects, classes_of
from od_eval.odapi.records import count, input_files, serialized_records

# Their mean length tells about how many records there are in files that would take long to count.
_RECORDS_TO_ESTIMATE_BY = 100
_MOST_NAMED = 20
_OBJECT = "image/object/"
_CORNERS = ("ymin", "xmin", "ymax", "xmax")
_NO_MEASURES = ImageMeasures()


class _Unread(NamedTuple):
    """A record as it stands in its file, or why a file could not be read on."""

    where: str
    serialized: bytes = b""
    decode: bool = False
    fault_of_file: str = ""


@dataclasses.dataclass(frozen=True)
class _Read:
    """What a record holds, or its fault: a clause that begins with a verb."""

    filename: str = ""
    measures: ImageMeasures = _NO_MEASURES
    objects: Sequence[SurveyedObject] = ()
    texts: Sequence[bytes] = ()
    losses: Sequence[Loss | None] = ()
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class _Classes:
    """How classes are told, and the ids of those that there are; what the model makes of objects is only counted."""

    told_by: Classes
    known: frozenset[int]
    has_model: bool


def survey_records(
    reader: input_reader_pb2.InputReader,
    name: str,
    categories: Mapping[int, str],
    *,
    num_classes: int | None = None,
    max_examples: int | None = None,
    num_images_to_decode: int = 2000,
    progress: Progress | None = None,
) -> Survey:
    """Surveys the TFRecord files of an input reader: all records, whatever it samples of them.

    The headers of all images are read. Of a random sample, the same whenever the data are the same, pixels and masks
    are decoded. Threads do it, not processes, each of which would first have to import TensorFlow for some seconds.

    Args:
      reader: its files, and its label map, by which it tells classes: by their text, if there is a label map and the
        record has texts, otherwise by their label.
      name: of the reader, in messages: `train_input_reader`.
      categories: id -> name, as in `Survey`.
      num_classes: of the model that is to be trained, if there is one: the objects that training loses of the records
        are counted, too.
      max_examples: read no more records than so many, the first ones.
      num_images_to_decode: about so many images are decoded; all, if there are no more.
      progress: called about twice a second with the number of records so far, and of all, None if that is unknown.

    Returns:
      The survey. Broken records are in `faults` only, as findings of kind `broken_record` that name the first one.
      With `num_classes`, `faults` has the findings of `record_scan.LostObjects` as well.
      Sequence examples are not surveyed, of which `faults` tells, too.

    Raises:
      ODEvalError: the label map cannot be read, or files cannot be looked up.
    """
    tables = SurveyTables()
    if reader.input_type == input_reader_pb2.InputType.Value("TF_SEQUENCE_EXAMPLE"):
        return Survey(name, categories, tables.images(), tables.objects(), False, (_not_surveyed(name),))
    paths = input_files(reader)
    counted = count(reader)
    total = None if counted is None else counted * max(reader.sample_1_of_n_examples, 1)
    expected = _estimated_number(paths) if total is None else total
    if max_examples is not None:
        total, expected = total and min(total, max_examples), min(expected, max_examples)
    unread = _unread(paths, num_images_to_decode / max(expected, 1))

    told_by = classes_of(reader, num_classes or 0)
    classes = _Classes(told_by, frozenset(categories), num_classes is not None)
    lost = LostObjects(name, told_by)
    broken: list[tuple[str, str]] = []  # where, and the fault
    unreadable: list[tuple[str, str]] = []
    num_records = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd metadata and big images; errors are still raised
        results = in_threads(functools.partial(_read, classes=classes), itertools.islice(unread, max_examples))
        for one, record in reported(results, progress, total):
            if one.fault_of_file:
                unreadable.append((one.where, one.fault_of_file))
                continue
            num_records += 1
            if record.fault:
                broken.append((one.where, record.fault))
            else:
                tables.add(one.where, record.filename, record.measures, record.objects)
                lost.add(one.where, record.losses, record.texts)
    is_complete = lost.is_complete = not unreadable and next(unread, None) is None
    faults = [
        *_faults(broken, f"{num_records} records", "record", name),
        *_faults(unreadable, f"{len(paths)} files", "file", name),
        *lost.findings(),
    ]
    return Survey(name, categories, tables.images(), tables.objects(), is_complete, faults)


def _estimated_number(paths: Sequence[str]) -> int:
    """About how many records are in files, by the length of the first ones; 0 if they cannot be read."""
    try:
        total = sum(map(files.size, paths))
        records = itertools.chain.from_iterable(map(serialized_records, paths))
        lengths = [len(record) + 16 for record in itertools.islice(records, _RECORDS_TO_ESTIMATE_BY)]
    except (OSError, EOFError):
        return 0  # whoever reads the records says what is wrong with them
    return round(total * len(lengths) / sum(lengths)) if lengths else 0


def _unread(paths: Sequence[str], share_to_decode: float) -> Iterator[_Unread]:
    """The records of files, and in the place of those that cannot be read, why that is."""
    chance = random.Random(0)
    for path in paths:
        number = 0
        try:
            for serialized in serialized_records(path):
                yield _Unread(f"record {number} of '{path}'", serialized, chance.random() < share_to_decode)
                number += 1
        except EOFError:
            yield _Unread(f"'{path}'", fault_of_file=f"is truncated or corrupt at record {number}")
        except OSError as error:
            yield _Unread(f"'{path}'", fault_of_file=f"cannot be read ({files.reason(error)})")


def _read(one: _Unread, classes: _Classes) -> tuple[_Unread, _Read]:
    """A record, without the bytes of it, and what it holds."""
    here = one._replace(serialized=b"")
    if one.fault_of_file:
        return here, _Read()
    try:
        example = parse(one.serialized)
        features = example.features.feature
        lost = tuple(losses(example, classes.told_by)) if classes.has_model else ()
        objects = _objects(features, classes, one.decode)
        measures = _measures(features, one.decode)
    except BrokenRecord as error:
        return here, _Read(fault=str(error))
    filename = b"".join(values_of(features, "image/filename")[:1]).decode("utf-8", "replace")
    return here, _Read(filename, measures, objects, tuple(values_of(features, TEXT)), lost)


def _measures(features: Mapping[str, Any], decode: bool) -> ImageMeasures:
    """The measures of the image in a record.

    Raises:
      BrokenRecord: neither Pillow nor TensorFlow decodes it.
    """
    encoded = features["image/encoded"].bytes_list.value[0]
    try:
        return measure_image(encoded, decode=decode)
    except UnreadableImage:
        pass  # Pillow refuses some images that TensorFlow decodes
    try:
        height, width = tf.io.decode_image(encoded, expand_animations=False).shape[:2]
    except tf.errors.OpError as error:
        image = name_of_image(features)
        raise BrokenRecord(f"holds an image that does not decode, {image} ({files.reason(error)})") from error
    return ImageMeasures(width, height)


def _objects(features: Mapping[str, Any], classes: _Classes, with_masks: bool) -> list[SurveyedObject]:
    """The objects of a record, but for those with a coordinate that is not finite, which training drops.

    Raises:
      BrokenRecord: they have no label that the reader could use, or a weight that breaks the loss.
    """
    corners = [values_of(features, f"{_OBJECT}bbox/{corner}") for corner in _CORNERS]
    boxes: list[tuple[float, float, float, float]] = list(zip(*corners, strict=True))
    if not boxes:
        return []
    ids = classes.told_by.ids
    texts = values_of(features, TEXT) if ids is not None else ()
    labels: Sequence[int] = values_of(features, f"{_OBJECT}class/label")
    if texts:
        assert ids is not None
        labels = [ids.get(text.decode("utf-8", "replace"), 0) for text in texts]
    elif not labels:
        raise BrokenRecord(f"has no '{_OBJECT}class/label', which the input reader needs, as it has no label_map_path")
    for index, weight in enumerate(values_of(features, f"{_OBJECT}weight")):
        if not math.isfinite(weight):  # training reads it, and its loss is NaN from then on
            raise BrokenRecord(f"has a weight that is not a finite number (object {index}: {weight})")
    nothing = (0,) * len(boxes)
    crowd = values_of(features, f"{_OBJECT}is_crowd") or nothing
    difficult = values_of(features, f"{_OBJECT}difficult") or nothing
    ious = _mask_ious(features, boxes) if with_masks else (math.nan,) * len(boxes)
    return [
        SurveyedObject(label if label in classes.known else 0, *box, bool(is_crowd), bool(is_difficult), iou)
        for label, box, is_crowd, is_difficult, iou in zip(labels, boxes, crowd, difficult, ious, strict=True)
        if all(map(math.isfinite, box))
    ]


def _mask_ious(features: Mapping[str, Any], boxes: Sequence[Sequence[float]]) -> list[float]:
    """The IoU of each box with the box around its mask; NaN for those without a mask that could be read."""
    around = _boxes_around_masks(features)
    weights = features[f"{_OBJECT}mask/weight"].float_list.value or (1.0,) * len(boxes)
    if len(around) != len(boxes) or len(weights) != len(boxes):
        return [math.nan] * len(boxes)
    return [  # a weight of 0 is for objects without a mask, in whose place there is an empty one
        math.nan if mask is None or weight == 0 else box_iou(box, mask)
        for box, mask, weight in zip(boxes, around, weights, strict=True)
    ]


def _boxes_around_masks(features: Mapping[str, Any]) -> list[tuple[float, ...] | None]:
    """ymin, xmin, ymax, xmax around each mask, as parts of the image; zeros around an empty one, None if unreadable."""
    masks = features[f"{_OBJECT}mask"]
    if masks.bytes_list.value:
        return [_box_around_png(png) for png in masks.bytes_list.value]
    size = [*features["image/height"].int64_list.value, *features["image/width"].int64_list.value]
    values = np.array(masks.float_list.value, np.float32)
    if len(size) != 2 or math.prod(size) <= 0 or len(values) % math.prod(size):
        return []
    return [_box_around(Image.fromarray(mask > 0)) for mask in values.reshape(-1, *size)]


def _box_around_png(png: bytes) -> tuple[float, ...] | None:
    try:
        mask = Image.open(io.BytesIO(png), formats=["PNG"])
        return _box_around(mask if mask.mode in ("1", "L") or mask.mode.startswith("I") else mask.convert("L"))
    except Exception:  # decoders raise almost anything for broken files
        return None


def _box_around(mask: Image.Image) -> tuple[float, ...]:
    left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
    return top / mask.height, left / mask.width, bottom / mask.height, right / mask.width


def _faults(faults: Sequence[tuple[str, str]], of: str, what: str, name: str) -> Iterator[Finding]:
    """A finding for broken records, or for files, if there are any; of one in the words of `record_scan`."""
    if not faults:
        return
    one = len(faults) == 1
    first = " ".join(faults[0])
    several = "create the files again" + (" or remove the records" if what == "record" else "")
    yield Finding(
        "broken_record",
        "error",
        "" if one else name,
        first if one else f"{len(faults)} of {of} cannot be used (first: {first})",
        "create the file again or remove the record" if one else several,
        field=f"{name}.tf_record_input_reader.input_path",
        evidence={f"broken_{what}s": len(faults), "of": of},
        images=[where for where, _ in faults[:_MOST_NAMED]],
    )


def _not_surveyed(name: str) -> Finding:
    return Finding(
        "sequence_examples_not_surveyed",
        "note",
        name,
        "the records are sequence examples",
        "look at them in another way",
        cause="whose images and objects are not checked",
        field=f"{name}.input_type",
    )
