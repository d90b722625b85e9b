"""A `pipeline.config` of the Object Detection API: read, overridden, checked, written back."""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf
from google.protobuf import text_format
from object_detection.protos import input_reader_pb2, pipeline_pb2
from object_detection.utils import config_util

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.findings.finding import raise_first_error
from od_eval.odapi import config_checks, datasets
from od_eval.odapi.explained import explained
from od_eval.odapi.overrides import apply_override
from od_eval.odapi.records import glob
from od_eval.odapi.text_proto import parse_text_proto, read_text


class Pipeline:
    """A pipeline.config as it will be run, and the input pipelines it describes.

        pipeline = Pipeline.load("pipeline.config", overrides=["train_config.batch_size=4"])
        detector = Detector(pipeline)

    Args:
      config: the proto, with absolute paths.
      source: the file it was read from, for messages.
      check: whether to raise the first error that the config alone shows. Without, `config_checks.check_pipeline` lists
        all there are.

    Attributes:
      config: the `TrainEvalPipelineConfig` proto, overrides applied and relative paths resolved.
      source: the file it was read from, for messages.

    Raises:
      ODEvalError: the config asks for what the Object Detection API does not have, or has in TF1 only.
    """

    def __init__(
        self, config: pipeline_pb2.TrainEvalPipelineConfig, source: str = "pipeline.config", *, check: bool = True
    ):
        self.config = config
        self.source = source
        if check:
            raise_first_error(config_checks.findings("load", config, source))

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: str | Sequence[str] = (), *, check: bool = True) -> Pipeline:
        """Reads a pipeline.config.

        A relative path in it is looked for in the working directory first and in the folder of the config second;
        where something is found there, `config` holds the absolute path.

        Args:
          path: the file, local or on any filesystem that TensorFlow knows.
          overrides: applied in order. Each is a field path with a value (`train_config.batch_size=4`,
            `eval_input_reader[1].name=night`, `train_config.data_augmentation_options=[]`) or text proto to be merged
            (`train_config { batch_size: 4 }`, where repeated fields are appended to). A message without a value is
            taken out (`graph_rewriter=`).
          check: as for the constructor.

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
            apply_override(config, override)
        _resolve_paths(config, os.path.dirname(files.absolute(path)))
        config_util.update_fine_tune_checkpoint_type(config.train_config)
        return cls(config, path, check=check)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the config as run to `<directory>/pipeline.config`, whole or not at all.

        Where that is the file it was read from, the file stays as its owner wrote it.
        """
        path = os.path.join(directory, "pipeline.config")
        if _real(path) != _real(self.source):
            files.write_whole(path, self.text())

    def text(self) -> str:
        """The config as run, as a pipeline.config has it."""
        return text_format.MessageToString(self.config)

    @property
    def meta_architecture(self) -> str:
        """`ssd`, `faster_rcnn`, `center_net`, …"""
        return self.config.model.WhichOneof("model")

    @property
    def num_classes(self) -> int:
        """How many classes the model has, without the background."""
        return config_util.get_number_of_classes(self.config.model)

    # ---- Input ------------------------------------------------------------------------------------------------------

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
        self.check_input("train_input_reader", self.config.train_input_reader)
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

    # ---- Checks -----------------------------------------------------------------------------------------------------

    def check_model(self) -> None:
        """Finds a file missing that the model itself needs: CenterNet's label map of keypoints.

        Raises:
          ODEvalError: naming the field and what to do.
        """
        raise_first_error(config_checks.findings("model", self.config, self.source))

    def check_input(self, field: str, reader: input_reader_pb2.InputReader) -> None:
        """Finds what would stop an input reader: placeholders, files that match nothing or are empty, a bad label map.

        Args:
          field: how messages call the reader, e.g. `train_input_reader`.
          reader: the reader's proto.

        Raises:
          ODEvalError: naming the field and what to do.
        """
        raise_first_error(
            config_checks.findings("input", config_checks.Reader(self.config, self.source, field, reader))
        )


# ---- Paths ----------------------------------------------------------------------------------------------------------


def _real(path: str | os.PathLike[str]) -> str:
    """One name for a file that a local path may lead to over links."""
    return files.absolute(path) if files.is_remote(path) else os.path.realpath(path)


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
    if os.path.isabs(path) or files.is_remote(path):
        return path
    for candidate in (os.path.abspath(path), os.path.join(folder, path)):
        if glob(candidate + suffix):
            return candidate
    return path
