"""What the records of a dataset hold, found out before the training: ids, classes, numbers of objects."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from official.common import dataset_fn
from official.core import input_reader
from PIL import Image

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.evaluation import masks as coco_masks
from od_eval.text import short

# As `tf_example_decoder._generate_source_id`: so few values that of 5,000 images some have the same.
_HASHES = 2**22 - 1
_NUMBER = re.compile(r"\s*-?\d{1,18}\s*")
ImageId = int | str


@dataclasses.dataclass
class RecordSurvey:
    """What was found in records.

    Attributes:
      num_images: their number.
      most_objects: the largest number of objects of an image.
      class_names: class -> its name; an empty string where records have none.
      first_name: the first `image/source_id` that is a name, which Model Garden cannot read; then it has to make
        numbers. None if all are numbers.
      num_repeated: how many images have an id that another before them has. The first is `first_repeated`.
      masks: with masks, the id of an image -> the COCO RLE of each object's mask. Model Garden hands on masks that are
        cut to their boxes.
      ids: for images by Model Garden's id and number of objects: their own ids, which are unique.
    """

    num_images: int = 0
    most_objects: int = 0
    class_names: dict[int, str] = dataclasses.field(default_factory=dict)
    first_name: str | None = None
    num_repeated: int = 0
    first_repeated: ImageId | None = None
    masks: dict[ImageId, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    ids: dict[tuple[int, int], list[ImageId]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Record:
    source_id: str
    name: str
    hash: int
    num_objects: int
    masks: list[dict[str, Any]]


def survey(data: Any, field: str, most_records: int | None = None, with_masks: bool = False) -> RecordSurvey | None:
    """Reads the records of a dataset once, without decoding their images.

    Args:
      data: a dataset of the config, `params.task.validation_data` for example.
      field: where it stands in the config, for messages.
      most_records: how many records are read, the first ones; None for all.
      with_masks: whether to read the masks of objects.

    Returns:
      None if the data is not in files of `tf.train.Example`s.

    Raises:
      ODEvalError: there is no file, or a record cannot be read.
    """
    if getattr(data, "tfds_name", "") or not data.input_path:
        return None
    found = RecordSurvey()
    examples = itertools.islice(_examples(data, field), most_records)
    records = [_add(example, found, field, with_masks) for example in examples]
    if not records:
        raise ODEvalError(f"{field}.input_path '{data.input_path}' has no records; name files that have some.")
    makes_ids = found.first_name is not None or decoder(data).regenerate_source_id
    taken: set[ImageId] = set()
    for record in records:
        has_number = bool(_NUMBER.fullmatch(record.source_id))
        own_id: ImageId = int(record.source_id) if has_number else record.source_id or record.name
        if own_id in taken:
            found.num_repeated += 1
            found.first_repeated = own_id if found.first_repeated is None else found.first_repeated
            own_id = next(name for n in itertools.count(2) if (name := f"{own_id} ({n})") not in taken)
        taken.add(own_id)
        found.masks[own_id] = record.masks
        garden_id = record.hash if makes_ids or not record.source_id else int(record.source_id)
        found.ids.setdefault((garden_id, record.num_objects), []).append(own_id)
    return found


def decoder(data: Any) -> Any:
    """The config of the decoder that a dataset uses, in which it has `regenerate_source_id`."""
    return data.decoder.get()


def _examples(data: Any, field: str) -> Iterator[tf.train.Example]:
    paths = data.input_path.as_dict().values() if hasattr(data.input_path, "as_dict") else [data.input_path]
    try:
        for path in itertools.chain.from_iterable(map(input_reader.match_files, paths)):
            for number, record in enumerate(dataset_fn.pick_dataset_fn(data.file_type)(path).as_numpy_iterator()):
                try:
                    yield tf.train.Example.FromString(record)
                except ValueError as error:  # protobuf's DecodeError
                    raise ODEvalError(f"record {number} of '{path}' is no tf.train.Example: {error}.") from error
    except (tf.errors.OpError, OSError) as error:
        raise ODEvalError(f"{field}.input_path '{data.input_path}' cannot be read: {files.reason(error)}.") from error
    except ValueError as error:  # of `match_files`
        raise ODEvalError(f"{field}.input_path: {error}") from error


def mask_rle(png: bytes) -> dict[str, Any]:
    """The COCO RLE of a mask in a record; nonzero pixels belong to the object, whether they are 1 or 255."""
    mask = np.asarray(Image.open(io.BytesIO(png)).convert("L")) > 0
    return coco_masks.as_rle(coco_masks.from_array(mask), mask.shape)


def _add(example: tf.train.Example, found: RecordSurvey, field: str, with_masks: bool) -> _Record:
    """Counts a record, and keeps of it what its ids are made from."""
    features = example.features.feature
    labels = features["image/object/class/label"].int64_list.value
    names = features["image/object/class/text"].bytes_list.value
    for index, label in enumerate(labels):
        name = names[index].decode("utf-8", "replace") if index < len(names) else ""
        found.class_names[label] = found.class_names.get(label) or name
    num_objects = len(features["image/object/bbox/xmin"].float_list.value)
    found.num_images += 1
    found.most_objects = max(found.most_objects, num_objects)
    source_id = _text(features["image/source_id"])
    if source_id and not _NUMBER.fullmatch(source_id) and found.first_name is None:
        found.first_name = source_id
    encoded = features["image/encoded"].bytes_list.value
    hashed = int(tf.strings.to_hash_bucket_fast(encoded[0] if encoded else b"", _HASHES))
    name = _text(features["image/filename"]) or f"image {found.num_images}"
    return _Record(source_id, name, hashed, num_objects, _masks(features, name, field) if with_masks else [])


def _masks(features: Any, name: str, field: str) -> list[dict[str, Any]]:
    pngs = features["image/object/mask"].bytes_list.value
    num_objects = len(features["image/object/bbox/xmin"].float_list.value)
    if len(pngs) != num_objects:
        raise ODEvalError(
            f"{short(name)} of {field} has {num_objects} objects and {len(pngs)} masks; give each its mask, as PNG in"
            " image/object/mask."
        )
    try:
        return [mask_rle(png) for png in pngs]
    except OSError as error:  # Pillow's UnidentifiedImageError
        raise ODEvalError(f"{short(name)} of {field} has a mask that is no PNG: {error}") from error


def _text(feature: Any) -> str:
    values = feature.bytes_list.value
    return values[0].decode("utf-8", "replace") if values else ""
