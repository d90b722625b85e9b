"""A `pipeline.config` of the Object Detection API: read, overridden, checked, written back."""

from __future__ import annotations

import functools
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
from od_eval.odapi.eval_config import RequestedEvaluation
from od_eval.odapi.explained import explained
from od_eval.odapi.overrides import apply_override
from od_eval.odapi.records import glob
from od_eval.odapi.zoo import fetch
from od_eval.text import named, short
from od_eval.text_proto import parse_text_proto, read_text


class Pipeline:
    """The effective pipeline.config, and the input pipelines it describes.

        pipeline = Pipeline.load("pipeline.config", overrides=["train_config.batch_size=4"])
        detector = Detector(pipeline)

    Args:
      config: the proto, with absolute paths.
      source: the file it was read from, for messages.
      check: whether to raise the first error in the config itself. Otherwise, `config_checks.check_pipeline` lists all
        errors.

    Attributes:
      config: the `TrainEvalPipelineConfig` proto, with overrides applied and relative paths resolved.
      source: the file it was read from, for messages.
      zoo_remark: one sentence about what `load(zoo=…)` took from the model zoo; empty without it.

    Raises:
      ODEvalError: the config requests something that the Object Detection API does not have, or only has in TF1.
    """

    def __init__(
        self, config: pipeline_pb2.TrainEvalPipelineConfig, source: str = "pipeline.config", *, check: bool = True
    ):
        self.config = config
        self.source = source
        self.zoo_remark = ""
        if check:
            raise_first_error(config_checks.findings("load", config, source))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        overrides: str | Sequence[str] = (),
        *,
        zoo: str | None = None,
        check: bool = True,
    ) -> Pipeline:
        """Reads a pipeline.config.

        A relative path in it is looked up first in the working directory and then in the folder of the config; if it is
        found, `config` holds the absolute path.

        Args:
          path: the file, local or on any file system that TensorFlow supports. It may be left out if `zoo` is given.
          overrides: applied in order. Each is a field path with a value (`train_config.batch_size=4`,
            `eval_input_reader[1].name=night`, `train_config.data_augmentation_options=[]`) or a text proto to be merged
            (`train_config { batch_size: 4 }`, which appends to repeated fields). A message without a value is removed
            (`graph_rewriter=`).
          zoo: the name of a model of the TF2 model zoo, e.g. `ssd_mobilenet_v2_fpnlite_320x320`, which is downloaded
            unless it is in the cache. Its checkpoint becomes `fine_tune_checkpoint`, and the highest id of
            `train_input_reader`'s label map `num_classes`; without a path, its pipeline.config is read. Overrides win.
          check: as for the constructor.

        Returns:
          The pipeline.

        Raises:
          ODEvalError: the file cannot be read or parsed (with file and line), an override does not fit, the config
            requests something that the Object Detection API only has in TF1, or the model of the zoo is unknown or
            cannot be downloaded.
        """
        model = fetch(zoo) if zoo else None
        if path is None:
            if model is None or not files.exists(model.config):
                where = f"{model.name} of the model zoo has no pipeline.config" if model else "there is no config"
                raise ODEvalError(f"{where}; pass the path of one, pipeline_config_path=PATH.")
            path = model.config
        path = os.fspath(path)
        config = pipeline_pb2.TrainEvalPipelineConfig()
        parse_text_proto(read_text(path, "pipeline config"), config, path)
        num_classes = model.enter(config) if model else 0
        for override in [overrides] if isinstance(overrides, str) else overrides:
            apply_override(config, override)
        _resolve_paths(config, os.path.dirname(files.absolute(path)))
        config_util.update_fine_tune_checkpoint_type(config.train_config)
        remark = model.fit_num_classes(config, num_classes) if model else ""
        pipeline = cls(config, path, check=check)
        pipeline.zoo_remark = remark
        return pipeline

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the effective config to `<directory>/pipeline.config`, completely or not at all.

        If that is the file it was read from, the file is not changed.
        """
        path = os.path.join(directory, "pipeline.config")
        if _real(path) != _real(self.source):
            files.write_whole(path, self.text())

    def text(self) -> str:
        """The effective config in the format of a pipeline.config."""
        return text_format.MessageToString(self.config)

    @property
    def meta_architecture(self) -> str:
        """`ssd`, `faster_rcnn`, `center_net`, …"""
        return self.config.model.WhichOneof("model")

    @property
    def num_classes(self) -> int:
        """The number of classes of the model, without the background."""
        return config_util.get_number_of_classes(self.config.model)

    @functools.cached_property
    def evaluation(self) -> RequestedEvaluation:
        """The evaluation that the config asks for. Whoever evaluates asks here, so that its label map is read once."""
        return RequestedEvaluation(self.config, self.source)

    # ---- Input ------------------------------------------------------------------------------------------------------

    def train_dataset(self) -> tf.data.Dataset:
        """The Object Detection API's training input: shuffled, augmented, batched, infinite.

        Inside the scope of a `tf.distribute` strategy it is distributed as in the Object Detection API: files over
        workers, `train_config.batch_size` over replicas.

        Returns:
          A dataset of `(features, labels)`, the dicts of tensors described in `object_detection.inputs.train_input`;
          `features["image"]` is float32 `[batch, height, width, 3]`, preprocessed.

        Raises:
          ODEvalError: an input path, the label map or a placeholder has to be fixed.
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
          `eval_config.batch_size` images of one size: if images do not all have the size of the model's input, and at
          the end, a batch may be smaller. Nothing is left out, neither images nor objects beyond `max_number_of_boxes`.
          The order is always the same.

        Raises:
          ODEvalError: there is no such reader, or its input has to be fixed.
        """
        index = self._eval_reader_index(which)
        reader = self.config.eval_input_reader[index]
        self.check_input(f"eval_input_reader[{index}]", reader)
        with explained(f"{self.source}: input of evaluation"):
            return datasets.eval_dataset(self.config, reader)

    def train_sample_dataset(self, sample_1_of_n: int) -> tf.data.Dataset:
        """A sample of the training images in the form of `eval_dataset`: one pass, without augmentation.

        Args:
          sample_1_of_n: takes one in n images.
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
        known = ", ".join(f"{index} ('{named(reader.name)}')" for index, reader in enumerate(readers)) or "none"
        raise ODEvalError(f"{self.source} has no eval_input_reader {short(which)}; it has: {known}.")

    # ---- Checks -----------------------------------------------------------------------------------------------------

    def check_model(self) -> None:
        """Checks for files that the model itself needs: CenterNet's label map of keypoints.

        Raises:
          ODEvalError: a file is missing; the message names the field and what to do.
        """
        raise_first_error(config_checks.findings("model", self.config, self.source))

    def check_input(self, field: str, reader: input_reader_pb2.InputReader) -> None:
        """Checks for errors of an input reader: placeholders, files that match nothing or are empty, a bad label map.

        The files of the model are checked, too: it is built for its preprocessing, which is part of the input.

        Args:
          field: the name of the reader in messages, e.g. `train_input_reader`.
          reader: the reader's proto.

        Raises:
          ODEvalError: the first error; the message names the field and what to do.
        """
        raise_first_error(
            config_checks.findings("input", config_checks.Reader(self.config, self.source, field, reader))
        )
        self.check_model()


# ---- Paths ----------------------------------------------------------------------------------------------------------


def _real(path: str | os.PathLike[str]) -> str:
    """The path without symbolic links, so that equal files have equal paths."""
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
