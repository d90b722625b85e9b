"""The Object Detection API's own input pipelines as `tf.data` datasets."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from object_detection import inputs
from object_detection.builders import dataset_builder, image_resizer_builder, model_builder
from object_detection.core.standard_fields import InputDataFields
from object_detection.protos import input_reader_pb2, model_pb2, pipeline_pb2
from object_detection.utils import config_util

from od_eval.odapi import shards
from od_eval.odapi.record_ids import as_source_ids
from od_eval.odapi.records import glob

# Labels with one value per image; the others have one value per box.
LABELS_OF_IMAGES = {
    InputDataFields.num_groundtruth_boxes,
    InputDataFields.groundtruth_image_classes,
    InputDataFields.groundtruth_labeled_classes,
    InputDataFields.groundtruth_not_exhaustive_classes,
    InputDataFields.groundtruth_verified_neg_classes,
}
PREFETCHED_BATCHES = 2  # as in the Object Detection API's training


def train_dataset(config: pipeline_pb2.TrainEvalPipelineConfig) -> tf.data.Dataset:
    """See `Pipeline.train_dataset`."""

    def build(input_context: tf.distribute.InputContext | None) -> tf.data.Dataset:
        with_ids = as_source_ids() if has_record_ids(config) else contextlib.nullcontext()
        with with_ids, shards.training_files(input_context):
            examples = _input(
                inputs.train_input,
                train_config=config.train_config,
                train_input_config=config.train_input_reader,
                model_config=config.model,
                input_context=input_context,
            )
        return without_autotuning(examples.repeat())

    if tf.distribute.has_strategy():
        return tf.distribute.get_strategy().distribute_datasets_from_function(build)
    return build(None)


def has_record_ids(config: pipeline_pb2.TrainEvalPipelineConfig) -> bool:
    """Whether the training input tells its records, see `record_ids`: not if the config asks for the source ids."""
    return not config.train_input_reader.include_source_id


def eval_dataset(config: pipeline_pb2.TrainEvalPipelineConfig, reader: input_reader_pb2.InputReader) -> tf.data.Dataset:
    """See `Pipeline.eval_dataset`. Its attribute `share` makes the part of one worker, see `share_of`."""
    dataset = _eval_batches(config, reader, 0, 1)
    dataset.share = functools.partial(_eval_batches, config, reader)
    return dataset


def _eval_batches(
    config: pipeline_pb2.TrainEvalPipelineConfig,
    reader: input_reader_pb2.InputReader,
    worker: int,
    num_workers: int,
) -> tf.data.Dataset:
    """The batches of one worker: whole ones, which are the same as if one worker had all."""
    once = _read_once(reader)
    once.ClearField("sample_1_of_n_examples")
    block = block_size(config)
    is_sequence = reader.input_type == input_reader_pb2.InputType.Value("TF_SEQUENCE_EXAMPLE")
    # Of a sequence, a record has many images: it is decoded by every worker.
    of_records = (block, 0, 1) if is_sequence else (block, worker, num_workers)
    with shards.evaluated_records(reader.sample_1_of_n_examples, *of_records):
        examples = _input(_eval_examples, config=config, reader=once)
    if is_sequence:
        examples = shards.own_blocks(examples, block, worker, num_workers)
    return without_autotuning(_batched(examples, config.eval_config.batch_size))


def block_size(config: pipeline_pb2.TrainEvalPipelineConfig) -> int:
    """The number of successive images of an evaluation that one worker takes at a time, so that batches stay whole."""
    batch_size = config.eval_config.batch_size
    height, width = config_util.get_spatial_image_size(config_util.get_image_resizer_config(_evaluated_model(config)))
    has_one_size = all(side not in (None, -1) for side in (height, width))
    return batch_size if has_one_size or batch_size == 1 else _window_size(batch_size)


def share_of(batches: Iterable[Any], worker: int, num_workers: int) -> Iterable[Any]:
    """The batches of one worker of several.

    Args:
      batches: if they have a method `share`, as those of `Pipeline.eval_dataset`, others are not even decoded.
      worker, num_workers: of the cluster.
    """
    if num_workers == 1:
        return batches
    if hasattr(batches, "share"):
        return batches.share(worker, num_workers)
    return _EveryNth(batches, worker, num_workers)


class _EveryNth(Iterable[Any]):
    def __init__(self, batches: Iterable[Any], first: int, n: int):
        self._batches, self._first, self._n = batches, first, n

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self._batches, self._first, None, self._n)


def decoded_dataset(reader: input_reader_pb2.InputReader) -> tf.data.Dataset:
    """The images of an input reader as its records have them, one pass in the order of `Pipeline.eval_dataset`.

    Returns:
      A dataset of dicts of tensors by `InputDataFields`, as the Object Detection API decodes a record.
    """
    return without_autotuning(_input(dataset_builder.build, input_reader_config=_read_once(reader), batch_size=None))


def _read_once(reader: input_reader_pb2.InputReader) -> input_reader_pb2.InputReader:
    once = input_reader_pb2.InputReader()
    once.CopyFrom(reader)
    once.num_epochs = 1  # as in the Object Detection API, whose default is to repeat forever
    # Always the same images in the same order: of several readers one may be ahead of another, and weights are drawn.
    once.shuffle = False
    once.num_readers = 1
    once.ClearField("sample_from_datasets_weights")
    once.tf_record_input_reader.input_path[:] = files_in_order(reader)
    return once


def files_in_order(reader: input_reader_pb2.InputReader) -> list[str]:
    """The files of each pattern, sorted, but of patterns of weight 0; a pattern, where a name would be one itself."""
    patterns = reader.tf_record_input_reader.input_path
    weights = reader.sample_from_datasets_weights or [1.0] * len(patterns)
    found: list[str] = []
    for pattern, weight in zip(patterns, weights, strict=True):
        names = glob(pattern)
        if weight > 0:
            found += names if all(glob(name) == [name] for name in names) else [pattern]
    return found


def _eval_examples(
    config: pipeline_pb2.TrainEvalPipelineConfig, reader: input_reader_pb2.InputReader
) -> tf.data.Dataset:
    """Like `object_detection.inputs.eval_input`, image by image, with all ground truth.

    That function batches by itself, which is impossible with images of different sizes, drops the last images that do
    not fill a batch, and truncates ground truth after `max_number_of_boxes`.
    """
    eval_config = config.eval_config
    model_config = _evaluated_model(config)
    resizer = config_util.get_image_resizer_config(model_config)
    num_classes = config_util.get_number_of_classes(model_config)
    to_model_input = functools.partial(
        inputs.transform_input_data,
        model_preprocess_fn=model_builder.build(model_config, is_training=False).preprocess,
        image_resizer_fn=image_resizer_builder.build(resizer),
        num_classes=num_classes,
        retain_original_image=eval_config.retain_original_images,
        retain_original_image_additional_channels=eval_config.retain_original_image_additional_channels,
        keypoint_type_weight=reader.keypoint_type_weight or None,
        image_classes_field_map_empty_to_ones=eval_config.image_classes_field_map_empty_to_ones,
    )

    def transform(tensors: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        tensors = dict(to_model_input(tensors))
        num_boxes = tensors.pop(InputDataFields.num_groundtruth_boxes)
        tensors = inputs.pad_input_data_to_static_shapes(
            tensors,
            max_num_boxes=None,
            num_classes=num_classes,
            spatial_image_shape=config_util.get_spatial_image_size(resizer),
            max_num_context_features=config_util.get_max_num_context_features(model_config),
            context_feature_length=config_util.get_context_feature_length(model_config),
        )
        tensors[InputDataFields.num_groundtruth_boxes] = num_boxes
        labels = {
            # Missing labels of boxes (is_crowd, difficult, …) are 0.
            name: value if name in LABELS_OF_IMAGES else _padded_to(value, num_boxes)
            for name, value in inputs._get_labels_dict(tensors).items()
        }
        return inputs._get_features_dict(tensors, include_source_id=True), labels

    return dataset_builder.build(
        reader,
        batch_size=None,
        transform_input_data_fn=transform,
        reduce_to_frame_fn=inputs.get_reduce_to_frame_fn(reader, is_training=False),
    )


def _evaluated_model(config: pipeline_pb2.TrainEvalPipelineConfig) -> model_pb2.DetectionModel:
    """The config of the model, which `force_no_resize` changes."""
    model = model_pb2.DetectionModel()
    model.CopyFrom(config.model)
    if config.eval_config.force_no_resize:
        getattr(model, model.WhichOneof("model")).image_resizer.identity_resizer.SetInParent()
    return model


def _padded_to(values: tf.Tensor, num: tf.Tensor) -> tf.Tensor:
    missing = tf.maximum(num - tf.shape(values)[0], 0)
    return tf.concat([values, tf.zeros([missing, *tf.unstack(tf.shape(values)[1:])], values.dtype)], axis=0)


def _batched(examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches of images of one size: padding an image to the size of another would change the model's output.

    Ground truth is padded; its number of boxes is in the labels. No image is left out.
    """
    if batch_size == 1:
        return examples.padded_batch(1, drop_remainder=True).prefetch(PREFETCHED_BATCHES)
    features, _ = examples.element_spec
    if features[InputDataFields.image].shape.is_fully_defined():
        return examples.padded_batch(batch_size).prefetch(PREFETCHED_BATCHES)

    def size(features: Mapping[str, tf.Tensor], labels: Mapping[str, tf.Tensor]) -> tf.Tensor:
        shape = tf.shape(features[InputDataFields.image], tf.int64)
        return shape[0] * 2**32 + shape[1]

    def by_size(*windows: Any) -> tf.data.Dataset:
        return tf.data.Dataset.zip(windows).group_by_window(
            size, lambda _, group: group.padded_batch(batch_size), window_size=batch_size
        )

    return examples.window(_window_size(batch_size)).flat_map(by_size).prefetch(PREFETCHED_BATCHES)


def _window_size(batch_size: int) -> int:
    """The number of images among which those of one size are looked for: they are in memory as they wait."""
    return 16 * batch_size


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without autotuning, so that a pass over it ends when its last element is read.

    TensorFlow tunes a pipeline in a thread that sleeps for 10 ms, 20 ms, 40 ms, … up to a minute, and releasing the
    dataset waits for that thread. The thread is woken up then, but just before it can see why, and often goes back to
    sleep (`CancellationManager::StartCancel` in TensorFlow 2.20 calls back before it is cancelled). The only value to
    tune, how many records are decoded in parallel, is set to the number of CPUs.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.autotune.initial_parallelism = os.cpu_count()
    return dataset.with_options(options)


def _input(build: Callable[..., tf.data.Dataset], **kwargs: Any) -> tf.data.Dataset:
    """Builds an input pipeline without AutoGraph, if possible.

    AutoGraph takes 20 s to convert the functions of an input pipeline, and few need it: among the augmentations, only
    `random_square_crop_by_scale`.
    """
    try:
        return tf.autograph.experimental.do_not_convert(build)(**kwargs)
    except tf.errors.OperatorNotAllowedInGraphError:
        return build(**kwargs)
