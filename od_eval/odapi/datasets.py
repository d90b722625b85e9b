"""The Object Detection API's own input pipelines as `tf.data` datasets, and which record is to blame when one fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from object_detection import inputs
from object_detection.protos import input_reader_pb2, pipeline_pb2

from od_eval.errors import ODEvalError
from od_eval.odapi.text_proto import first_line


def train_dataset(config: pipeline_pb2.TrainEvalPipelineConfig) -> tf.data.Dataset:
    """See `Pipeline.train_dataset`."""

    def build(input_context: tf.distribute.InputContext | None) -> tf.data.Dataset:
        return _input(
            inputs.train_input,
            train_config=config.train_config,
            train_input_config=config.train_input_reader,
            model_config=config.model,
            input_context=input_context,
        ).repeat()

    if tf.distribute.has_strategy():
        return tf.distribute.get_strategy().distribute_datasets_from_function(build)
    return build(None)


def eval_dataset(config: pipeline_pb2.TrainEvalPipelineConfig, reader: input_reader_pb2.InputReader) -> tf.data.Dataset:
    """See `Pipeline.eval_dataset`."""
    once = input_reader_pb2.InputReader()
    once.CopyFrom(reader)
    once.num_epochs = 1  # as the Object Detection API does, whose default is without end
    return _input(inputs.eval_input, eval_config=config.eval_config, eval_input_config=once, model_config=config.model)


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """How many processes train together under a strategy."""
    return getattr(strategy.extended, "_num_workers", 1)


def _input(build: Callable[..., tf.data.Dataset], **kwargs: Any) -> tf.data.Dataset:
    """Builds an input pipeline without AutoGraph, if that can be.

    AutoGraph takes 20 s to convert the functions of an input pipeline, and few need it: of the augmentations,
    `random_square_crop_by_scale` does.
    """
    try:
        return tf.autograph.experimental.do_not_convert(build)(**kwargs)
    except tf.errors.OperatorNotAllowedInGraphError:
        return build(**kwargs)


def input_files(reader: input_reader_pb2.InputReader) -> list[str]:
    """The record files an input reader reads, in the order of its patterns."""
    return [file for pattern in reader.tf_record_input_reader.input_path for file in sorted(glob(pattern))]


def glob(pattern: str) -> list[str]:
    """Files that match a pattern, on any filesystem `tf.io.gfile` knows; none where its folder cannot be read."""
    try:
        return tf.io.gfile.glob(pattern)
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError):
        return []
    except (tf.errors.OpError, OSError) as error:
        raise ODEvalError(f"'{pattern}' cannot be looked up: {first_line(error)}") from error


def find_broken_record(reader: input_reader_pb2.InputReader) -> str | None:
    """Reads record files until something in them cannot be used; for saying why an input pipeline failed.

    Args:
      reader: of TFRecord files. The examples in them are looked at; sequence examples are not.

    Returns:
      A clause that names file, record (the first is 0) and fault, or None where all is well.
    """
    has_examples = reader.input_type != input_reader_pb2.InputType.Value("TF_SEQUENCE_EXAMPLE")
    for file in input_files(reader):
        whole = 0
        try:
            for record in tf.data.TFRecordDataset(file):
                fault = _fault_of_example(record.numpy()) if has_examples else None
                if fault:
                    return f"record {whole} of '{file}' {fault}"
                whole += 1
        except tf.errors.DataLossError:
            return f"'{file}' is truncated or corrupt at record {whole}"
        except tf.errors.OpError as error:
            return f"'{file}' cannot be read ({error.message.strip()})"
    return None


def _fault_of_example(serialized: bytes) -> str | None:
    example = tf.train.Example()
    try:
        example.ParseFromString(serialized)
    except Exception as error:  # protobuf's DecodeError has no stable home
        return f"is not a tf.train.Example ({error})"
    features = example.features.feature
    if "image/encoded" not in features:
        return "has no feature 'image/encoded'"
    try:
        tf.io.decode_image(features["image/encoded"].bytes_list.value[0], expand_animations=False)
    except (tf.errors.OpError, IndexError) as error:
        name = b"".join(features["image/filename"].bytes_list.value[:1]).decode("utf-8", "replace")
        reason = getattr(error, "message", "it is empty").strip().splitlines()[0]
        return f"holds an image that does not decode, {name!r} ({reason})"
    return None
