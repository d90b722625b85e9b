"""A `pipeline.config` of the Object Detection API: read, overridden, checked, written back."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from object_detection.protos import input_reader_pb2, pipeline_pb2
from object_detection.utils import config_util

from od_eval.errors import ODEvalError
from od_eval.files import write_whole
from od_eval.odapi import datasets
from od_eval.odapi.datasets import glob, input_files
from od_eval.odapi.explained import explained
from od_eval.odapi.label_map import read_label_map
from od_eval.odapi.supported import check_supported
from od_eval.odapi.text_proto import did_you_mean, parse_text_proto, read_text

PLACEHOLDER = "PATH_TO_BE_CONFIGURED"
_FIELD_PATH = re.compile(r"\s*([A-Za-z_]\w*(?:\[\d+\])?(?:\.[A-Za-z_]\w*(?:\[\d+\])?)*)\s*=(.*)", re.DOTALL)


class Pipeline:
    """A pipeline.config as it will be run, and the input pipelines it describes.

        pipeline = Pipeline.load("pipeline.config", overrides=["train_config.batch_size=4"])
        detector = Detector(pipeline)

    Attributes:
      config: the `TrainEvalPipelineConfig` proto, overrides applied and relative paths resolved.
      source: the file it was read from, for messages.
    """

    def __init__(self, config: pipeline_pb2.TrainEvalPipelineConfig, source: str = "pipeline.config"):
        self.config = config
        self.source = source
        if config.model.WhichOneof("model") is None:
            raise ODEvalError(
                f"{source}: `model` names no meta-architecture; add `model {{ ssd {{ … }} }}` or another."
            )
        check_supported(config, source)

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: str | Sequence[str] = ()) -> Pipeline:
        """Reads a pipeline.config.

        A relative path in it is looked for in the working directory first and in the folder of the config second;
        where something is found there, `config` holds the absolute path.

        Args:
          path: the file, local or on any filesystem that `tf.io.gfile` knows.
          overrides: applied in order. Each is a field path with a value (`train_config.batch_size=4`,
            `eval_input_reader[1].name=night`, `train_config.data_augmentation_options=[]`) or text proto to be merged
            (`train_config { batch_size: 4 }`, where repeated fields are appended to). A message without a value is
            taken out (`graph_rewriter=`).

        Returns:
          The pipeline.

        Raises:
          ODEvalError: the file cannot be read or parsed (with file and line), an override does not fit, or the config
            asks for what the Object Detection API has in TF1 only.
        """
        path = os.fspath(path)
        config = pipeline_pb2.TrainEvalPipelineConfig()
        parse_text_proto(read_text(path, "pipeline config"), config, path)
        for override in [overrides] if isinstance(overrides, str) else overrides:
            _apply_override(config, override)
        _resolve_paths(config, os.path.dirname(os.path.abspath(path)) if "://" not in path else os.path.dirname(path))
        config_util.update_fine_tune_checkpoint_type(config.train_config)
        return cls(config, path)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the config as run to `<directory>/pipeline.config`, whole or not at all.

        Where that is the file it was read from, the file stays as its owner wrote it.
        """
        path = os.path.join(directory, "pipeline.config")
        if os.path.realpath(path) != os.path.realpath(self.source):
            write_whole(path, self.text())

    def text(self) -> str:
        """The config as run, as a pipeline.config has it."""
        return text_format.MessageToString(self.config)

    @property
    def meta_architecture(self) -> str:
        """`ssd`, `faster_rcnn`, `center_net`, …"""
        return self.config.model.WhichOneof("model")

    @property
    def num_classes(self) -> int:
        return config_util.get_number_of_classes(self.config.model)

    def train_dataset(self) -> tf.data.Dataset:
        """The Object Detection API's training input: shuffled, augmented, batched, without end.

        Inside the scope of a `tf.distribute` strategy it is distributed as the Object Detection API does: files over
        workers, `train_config.batch_size` over replicas.

        Returns:
          A dataset of `(features, labels)`, the dicts of tensors described in `object_detection.inputs.train_input`;
          `features["image"]` is float32 `[batch, height, width, 3]`, preprocessed.

        Raises:
          ODEvalError: an input path, the label map or a placeholder has to be put right.
        """
        reader = self.config.train_input_reader
        self.check_input("train_input_reader", reader)
        workers = datasets.num_workers(tf.distribute.get_strategy())
        if len(input_files(reader)) < workers:
            # The Object Detection API gives each worker its own files; one without any would wait for ever.
            raise ODEvalError(
                f"{self.source}: train_input_reader has {len(input_files(reader))} record files for {workers} workers;"
                " write the dataset in at least as many shards as there are workers."
            )
        with explained(f"{self.source}: input of training"):
            return datasets.train_dataset(self.config)

    def eval_dataset(self, which: int | str = 0) -> tf.data.Dataset:
        """The Object Detection API's evaluation input, one pass.

        Args:
          which: index or `name` of an `eval_input_reader`.

        Returns:
          A dataset of `(features, labels)`, as described in `object_detection.inputs.eval_input`, in batches of
          `eval_config.batch_size` images of one size: where images are not all of the size of the model's input, and at
          the end, a batch may be smaller. Nothing is left out, neither images nor, beyond `max_number_of_boxes`,
          objects. The order is always the same.

        Raises:
          ODEvalError: there is no such reader, or its input has to be put right.
        """
        index = self._eval_reader_index(which)
        reader = self.config.eval_input_reader[index]
        self.check_input(f"eval_input_reader[{index}]", reader)
        with explained(f"{self.source}: input of evaluation"):
            return datasets.eval_dataset(self.config, reader)

    def train_sample_dataset(self, sample_1_of_n: int) -> tf.data.Dataset:
        """A sample of the training images as `eval_dataset` gives evaluation images: one pass, without augmentation.

        Args:
          sample_1_of_n: takes one of so many images.
        """
        self.check_input("train_input_reader", self.config.train_input_reader)
        reader = input_reader_pb2.InputReader()
        reader.CopyFrom(self.config.train_input_reader)
        reader.sample_1_of_n_examples = sample_1_of_n
        with explained(f"{self.source}: input of evaluation on training data"):
            return datasets.eval_dataset(self.config, reader)

    def _eval_reader_index(self, which: int | str) -> int:
        readers = self.config.eval_input_reader
        if isinstance(which, int) and 0 <= which < len(readers):
            return which
        for index, reader in enumerate(readers):
            if reader.name == which:
                return index
        known = ", ".join(f"{index} ('{reader.name}')" for index, reader in enumerate(readers)) or "none"
        raise ODEvalError(f"{self.source} has no eval_input_reader {which!r}; it has: {known}.")

    def check_model(self) -> None:
        """Finds a file missing that the model itself needs: CenterNet's label map of keypoints.

        Raises:
          ODEvalError: naming the field and what to do.
        """
        path = self.config.model.center_net.keypoint_label_map_path
        if path:
            where = "model.center_net.keypoint_label_map_path"
            _reject_placeholder(self.source, where, path)
            read_text(path, f"{self.source}: {where}: label map")

    def check_input(self, field: str, reader: input_reader_pb2.InputReader) -> None:
        """Finds what would stop an input reader: placeholders, files that match nothing or are empty, a bad label map.

        Args:
          field: how messages call the reader, e.g. `train_input_reader`.
          reader: the reader's proto.

        Raises:
          ODEvalError: naming the field and what to do.
        """
        for where, pattern in zip(*_input_paths(field, reader), strict=True):
            _reject_placeholder(self.source, where, pattern)
            if not glob(pattern):
                raise ODEvalError(
                    f"{self.source}: {where} '{pattern}' matches no file (looked in {os.getcwd()} and in"
                    f" {os.path.dirname(os.path.abspath(self.source))}); correct it there or with"
                    f" --set {where}=PATH."
                )
        if not reader.HasField("tf_record_input_reader") or not reader.tf_record_input_reader.input_path:
            raise ODEvalError(
                f"{self.source}: {field} names no records; set {field}.tf_record_input_reader.input_path."
            )
        where = f"{field}.label_map_path"
        _reject_placeholder(self.source, where, reader.label_map_path)
        if reader.label_map_path:
            last = max(
                read_label_map(reader.label_map_path, f"{self.source}: {where}: label map"), key=lambda one: one.id
            )
            if last.id > self.num_classes:
                raise ODEvalError(
                    f"label map {reader.label_map_path}: '{last.name}' has id {last.id}, but num_classes of the model"
                    f" is {self.num_classes}; set num_classes to {last.id} or take the class out."
                )
        files = input_files(reader)
        if all(tf.io.gfile.stat(file).length == 0 for file in files):
            # The Object Detection API would read them over and over, for ever.
            raise ODEvalError(f"{self.source}: the record files of {field} are empty ({files[0]}); make them again.")


# ---- Overrides ------------------------------------------------------------------------------------------------------


def _apply_override(config: Message, override: str) -> None:
    match = _FIELD_PATH.fullmatch(override)
    if match is None:
        parse_text_proto(override, config, f"override '{override}'")
        return
    *parents, last = match[1].split(".")
    message = config
    for part in parents:
        message = _descend(message, part, override)
    _assign(message, last, match[2].strip(), override)


def _field(message: Message, part: str, override: str) -> tuple[FieldDescriptor, int | None]:
    name, _, index = part.partition("[")
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise ODEvalError(
            f"override '{override}': {message.DESCRIPTOR.name} has no field '{name}'"
            f"{did_you_mean(name, message.DESCRIPTOR)}."
        )
    if index and not field.is_repeated:
        raise ODEvalError(f"override '{override}': '{name}' is not repeated; leave out the index.")
    return field, int(index.rstrip("]")) if index else None


def _descend(message: Message, part: str, override: str) -> Message:
    field, index = _field(message, part, override)
    if field.message_type is None:
        raise ODEvalError(f"override '{override}': '{field.name}' is a value and has no fields.")
    if not field.is_repeated:
        return getattr(message, field.name)
    return _element(getattr(message, field.name), field, index, override)


def _element(elements: Any, field: FieldDescriptor, index: int | None, override: str) -> Any:
    """An element of a repeated message field; without an index the only one, which is made where there is none."""
    if index is None:
        if len(elements) > 1:
            raise ODEvalError(
                f"override '{override}': there are {len(elements)} of '{field.name}';"
                f" say which, {field.name}[0] to {field.name}[{len(elements) - 1}]."
            )
        index = 0
    if index == len(elements):
        return elements.add()
    if index > len(elements):
        raise ODEvalError(f"override '{override}': there are only {len(elements)} of '{field.name}'.")
    return elements[index]


def _assign(message: Message, part: str, value: str, override: str) -> None:
    field, index = _field(message, part, override)
    if index is not None:
        elements = getattr(message, field.name)
        if field.message_type is None:
            # Through a message that holds only this field, so that text proto's own rules read the value.
            parsed = _parsed(message, field, value, override)
            if index > len(elements) or len(parsed) != 1:
                raise ODEvalError(f"override '{override}': '{field.name}' has {len(elements)} values.")
            elements[index : index + 1] = parsed
        else:
            element = _element(elements, field, index, override)
            element.Clear()
            text = value[1:-1] if value[:1] == "{" and value[-1:] == "}" else value
            parse_text_proto(text, element, f"override '{override}'")
        return
    if field.message_type is not None and not value:
        message.ClearField(field.name)
        return
    parsed = _parsed(message, field, value, override)
    message.ClearField(field.name)
    if field.is_repeated:
        getattr(message, field.name).extend(parsed)
    elif field.message_type is not None:
        getattr(message, field.name).SetInParent()
        getattr(message, field.name).CopyFrom(parsed)
    else:
        setattr(message, field.name, parsed)


def _parsed(message: Message, field: FieldDescriptor, value: str, override: str) -> Any:
    """The value of a field as text proto reads it; text for a string field needs no quotes."""
    quoted = value[:1] in ("'", '"') or (field.is_repeated and value[:1] == "[")
    if field.type == FieldDescriptor.TYPE_STRING and not quoted:
        return [value] if field.is_repeated else value
    holder = type(message)()
    parse_text_proto(f"{field.name}: {value}", holder, f"override '{override}'")
    return getattr(holder, field.name)


# ---- Paths ----------------------------------------------------------------------------------------------------------


def _resolve_paths(config: pipeline_pb2.TrainEvalPipelineConfig, folder: str) -> None:
    for reader in [config.train_input_reader, *config.eval_input_reader]:
        if reader.label_map_path:
            reader.label_map_path = _resolved(reader.label_map_path, folder)
        if reader.HasField("tf_record_input_reader"):
            paths = reader.tf_record_input_reader.input_path
            paths[:] = [_resolved(path, folder) for path in paths]
    if config.train_config.fine_tune_checkpoint:
        config.train_config.fine_tune_checkpoint = _resolved(config.train_config.fine_tune_checkpoint, folder, "*")
    if config.model.center_net.keypoint_label_map_path:
        center_net = config.model.center_net
        center_net.keypoint_label_map_path = _resolved(center_net.keypoint_label_map_path, folder)


def _resolved(path: str, folder: str, suffix: str = "") -> str:
    if os.path.isabs(path) or "://" in path:
        return path
    for candidate in (os.path.abspath(path), os.path.join(folder, path)):
        if glob(candidate + suffix):
            return candidate
    return path


def _input_paths(field: str, reader: input_reader_pb2.InputReader) -> tuple[list[str], list[str]]:
    patterns = list(reader.tf_record_input_reader.input_path)
    name = f"{field}.tf_record_input_reader.input_path"
    return [name if len(patterns) == 1 else f"{name}[{index}]" for index in range(len(patterns))], patterns


def _reject_placeholder(source: str, where: str, value: str) -> None:
    if PLACEHOLDER in value:
        raise ODEvalError(f"{source}: {where} is still '{value}'; write the path there or pass --set {where}=PATH.")
