"""The images of record files with their objects, as they were annotated: for models that see whole images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from object_detection.core.standard_fields import InputDataFields
from object_detection.protos import input_reader_pb2

from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import GroundTruth
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.labeled_image import LabeledImage
from od_eval.label_map import read_label_map
from od_eval.odapi.datasets import decoded_dataset, files_in_order
from od_eval.odapi.explained import explained, explained_op_error
from od_eval.odapi.records import glob
from od_eval.text import named


def record_reader(path: str, label_map: str, masks: bool) -> input_reader_pb2.InputReader:
    """The input reader of record files.

    Args:
      path: a file, or a pattern of files.
      label_map: the path of the label map.
      masks: whether masks are read, which are PNG in the records.

    Raises:
      ODEvalError: no file matches, or the label map cannot be read.
    """
    read_label_map(label_map)
    if not glob(path):
        raise ODEvalError(f"no record file matches '{named(path)}'; correct the path.")
    reader = input_reader_pb2.InputReader(label_map_path=label_map)
    reader.tf_record_input_reader.input_path.append(path)
    if masks:
        reader.load_instance_masks = True
        reader.mask_type = input_reader_pb2.PNG_MASKS
    return reader


def labeled_images(
    reader: input_reader_pb2.InputReader, categories: Collection[int], left_out: LeftOut
) -> Iterator[LabeledImage]:
    """The images of an input reader, in the order in which an evaluation in training reads them.

    Args:
      reader: the reader; with `load_instance_masks` the objects have masks.
      categories: the ids of the classes that are evaluated.
      left_out: is given the objects of other classes, and those whose box is no number.

    Yields:
      The images; their ids are those of the records, which may repeat them.

    Raises:
      ODEvalError: a record cannot be read.
    """
    try:
        with explained("input of evaluation"):
            dataset = decoded_dataset(reader)
        for tensors in dataset:
            # Only what is needed becomes arrays.
            taken = {name: tensors[name].numpy() for name in _FIELDS if name in tensors}
            id = taken[InputDataFields.source_id].decode("utf-8", "replace")
            yield LabeledImage(
                id,
                taken[InputDataFields.image],
                taken[InputDataFields.image].shape[:2],
                _objects(id, taken, categories, left_out),
            )
    except tf.errors.OpError as error:
        raise explained_op_error(error, [reader], "eval_config.batch_size", 1) from error


def readers_of_files(reader: input_reader_pb2.InputReader) -> list[tuple[str, input_reader_pb2.InputReader]]:
    """The record files of an input reader in the order in which they are evaluated, each with a reader of it alone.

    Raises:
      ODEvalError: what is read of a file depends on the others, or a name has the characters of a pattern.
    """
    if reader.sample_1_of_n_examples > 1:
        raise ODEvalError(
            f"the input reader takes one of {reader.sample_1_of_n_examples} images (sample_1_of_n_examples), counted"
            " over all record files, which several machines cannot do; leave it out."
        )
    readers = []
    for path in files_in_order(reader):
        if glob(path) != [path]:
            raise ODEvalError(
                f"the name of a record file of '{named(path)}' has characters of a pattern; rename it, to read files on"
                " several machines."
            )
        of_file = input_reader_pb2.InputReader()
        of_file.CopyFrom(reader)
        of_file.ClearField("sample_from_datasets_weights")
        of_file.tf_record_input_reader.input_path[:] = [path]
        readers.append((path, of_file))
    return readers


_COLUMNS = {
    "boxes": InputDataFields.groundtruth_boxes,
    "classes": InputDataFields.groundtruth_classes,
    "masks": InputDataFields.groundtruth_instance_masks,
    "is_crowd": InputDataFields.groundtruth_is_crowd,
    "difficult": InputDataFields.groundtruth_difficult,
}
_FIELDS = (InputDataFields.source_id, InputDataFields.image, *_COLUMNS.values())


def _objects(id: str, arrays: Mapping[str, Any], categories: Collection[int], left_out: LeftOut) -> GroundTruth:
    columns: dict[str, npt.NDArray[Any]] = {name: arrays[field] for name, field in _COLUMNS.items() if field in arrays}
    num = len(columns["boxes"])
    # Whatever a record does not have for its objects (is_crowd, difficult, …) is False.
    columns = {name: values if len(values) == num else np.zeros(num, bool) for name, values in columns.items()}
    is_known = np.isin(columns["classes"], list(categories))
    is_number = np.isfinite(columns["boxes"]).all(axis=1)
    for index in np.flatnonzero(~is_known):
        known = columns["classes"][index]
        told = "not in the label map" if known < 0 else f"{known}, which is not in the label map"
        left_out.add("objects of other classes", f"image '{named(id)}', object {index}: its class is {told}")
    for index in np.flatnonzero(is_known & ~is_number):
        left_out.add("objects whose box is no number", f"image '{named(id)}', object {index}: its box is no number")
    kept = {name: values[is_known & is_number] for name, values in columns.items()}
    sides = np.tile(arrays[InputDataFields.image].shape[:2], 2).astype(np.float32)
    kept["boxes"] = kept["boxes"] * sides
    return GroundTruth(**{name: [values] for name, values in kept.items()})
