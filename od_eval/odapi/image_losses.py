"""The losses of single training images: which one of a batch has the loss, or the gradient, that is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf
from object_detection.core.standard_fields import InputDataFields
from object_detection.protos import pipeline_pb2

from od_eval import losses as loss_names
from od_eval.odapi import datasets, model_inputs, optimizers
from od_eval.odapi.detector import Detector
from od_eval.odapi.graphs import Graphs, specs_of_batches

Tensors = Mapping[str, tf.Tensor]
Image = tuple[Tensors, Tensors]  # features and labels of a batch of one

TOTAL = loss_names.TOTAL
GRADIENT = "gradient_norm"
_OF_NO_IMAGE = ("Loss/regularization_loss", "Loss/total_loss")


def training_images(
    config: pipeline_pb2.TrainEvalPipelineConfig, serialized: Sequence[bytes], folder: str, *, augment: bool
) -> Iterator[Image]:
    """What the training input makes of records: decoded, augmented, resized; made when they are asked for.

    Args:
      config: whose training it is.
      serialized: the records.
      folder: for a temporary file, which is needed until the last image.
      augment: whether they are augmented.

    Yields:
      The image of each record.
    """
    alone = pipeline_pb2.TrainEvalPipelineConfig()
    alone.CopyFrom(config)
    alone.train_config.batch_size = 1
    if not augment:
        del alone.train_config.data_augmentation_options[:]
    reader = alone.train_input_reader
    reader.shuffle = False
    reader.num_readers = reader.sample_1_of_n_examples = 1
    reader.ClearField("num_epochs")
    reader.ClearField("sample_from_datasets_weights")
    path = f"{folder}/{'augmented' if augment else 'plain'}"
    with tf.io.TFRecordWriter(path) as writer:
        for record in serialized:
            writer.write(record)
    reader.tf_record_input_reader.input_path[:] = [path]
    yield from datasets.train_dataset(alone).take(len(serialized))


def images_of(batch: Image) -> list[Image]:
    """The images of a batch of the training input."""
    features, labels = batch

    def part(tensors: Tensors, index: int) -> Tensors:
        return {name: value[index : index + 1] for name, value in tensors.items()}

    return [(part(features, index), part(labels, index)) for index in range(len(features[InputDataFields.image]))]


class ImageLosses:
    """Computes losses and gradients of single images, as a training step does for a batch.

    Layers are in training mode as in the step, so that batch normalization normalizes each image by itself, unless the
    config freezes it. Moving averages of the detector change; its weights do not.

    Args:
      detector: whose weights they are computed with.
      config: of the training.
    """

    def __init__(self, detector: Detector, config: pipeline_pb2.TrainEvalPipelineConfig):
        self._detector = detector
        self._train_config = config.train_config
        self._images_vary = model_inputs.images_vary(config)
        self._graphs = Graphs()

    def of(self, image: Image) -> dict[str, float]:
        """The losses of an image.

        Returns:
          The losses by category, without the regularization, which is not of the image: `classification_loss`,
          `localization_loss`, `other_loss` where the model has it, and their sum, `total_loss`; and `gradient_norm`, of
          that sum.
        """
        features, labels = image
        specs = specs_of_batches(features, labels, self._images_vary)
        values = self._graphs.run(self._losses, specs, features, labels)
        return {name: float(value) for name, value in values.items()}

    def of_objects(self, image: Image) -> list[float]:
        """The total loss if, of the image's objects, only one counts; for each of them.

        What the others cover then counts neither as object nor as background.
        """
        features, labels = image
        weights = labels[InputDataFields.groundtruth_weights]
        losses = []
        for index in range(int(labels[InputDataFields.num_groundtruth_boxes][0])):
            is_other = tf.range(tf.shape(weights)[1])[tf.newaxis] != index
            alone = {**labels, InputDataFields.groundtruth_weights: tf.where(is_other, 0.0, weights)}
            losses.append(self.of((features, alone))[TOTAL])
        return losses

    def _losses(self, features: Tensors, labels: Tensors) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            native = self._detector.compute_losses(features, labels, training=True)
            native = {name: loss for name, loss in native.items() if name not in _OF_NO_IMAGE}
            total = tf.add_n(list(native.values()))
        variables = optimizers.variables_to_train(self._detector.model.trainable_variables, self._train_config)
        categories = {
            name: loss
            for name, loss in loss_names.categorize(native).items()
            if name not in (loss_names.TOTAL, loss_names.REGULARIZATION)
        }
        gradients = tape.gradient(total, variables)
        return {**categories, TOTAL: total, GRADIENT: tf.linalg.global_norm(gradients)}


def worst(losses: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Of the losses of several repetitions the first that are not finite, or else those with the largest total."""
    return max(losses, key=lambda one: one[TOTAL] if is_finite(one) else math.inf)


def is_finite(losses: Mapping[str, float]) -> bool:
    """Whether all losses, and the norm of the gradient, are finite."""
    return all(map(math.isfinite, losses.values()))
