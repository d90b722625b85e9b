"""A Keras model that wraps the Object Detection API's detection model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf
from object_detection import eval_util, model_lib, model_lib_v2
from object_detection.builders import model_builder
from object_detection.core.standard_fields import DetectionResultFields, InputDataFields
from object_detection.utils import ops

from od_eval import cluster
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, EvaluationBatch
from od_eval.evaluation.means import RunningMeans
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.unique_names import UniqueNames
from od_eval.findings.config_facts import ConfigFacts
from od_eval.odapi import datasets, model_inputs, optimizers, records
from od_eval.odapi.config_facts import config_facts
from od_eval.odapi.eval_batches import (
    batch_size_of,
    detections_of,
    evaluation_batch,
    has_masks,
    parts_of,
    to_be_sent,
    without_padding,
)
from od_eval.odapi.execution import check_finite, logs_of, make_execution
from od_eval.odapi.explained import explained, explained_op_error
from od_eval.odapi.further_metrics import FurtherEvaluator
from od_eval.odapi.graphs import Graphs, specs_of_batches
from od_eval.odapi.input_images import write_input_images
from od_eval.odapi.keras_modes import learning_phase, precision
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.shards import own_number

Tensors = Mapping[str, tf.Tensor]


class Detector(tf.keras.Model):
    """Trains a model of the Object Detection API with `fit`.

    The model is built by the Object Detection API's `model_builder` from `pipeline.config.model`; all its
    meta-architectures for TF2 are supported. `compile()` takes the optimizer from `train_config`, `fit` takes
    `pipeline.train_dataset()`. A training step computes the same as the Object Detection API's own loop: the same
    losses divided by the number of replicas, regularization, gradient clipping and moving averages.

    `logs` of a training batch hold the losses, each the mean over the steps since the last such logs (over the steps of
    one execution, with `steps_per_execution`): `total_loss`, `classification_loss`, `localization_loss`,
    `regularization_loss` and, if the model has others, `other_loss`; each native component under its own name
    (`Loss/BoxClassifierLoss/mask_loss`); and `gradient_norm`, before clipping (with several replicas, the mean of the
    norms of their own gradients). `logs` of an epoch, and of `evaluate`, hold the means over the epoch.

    Under a `tf.distribute` strategy, create and compile the detector and create the dataset inside the strategy's
    scope.

    Attributes:
      model: the Object Detection API's `DetectionModel`, with its variables built.
      step: int64 variable, the number of training steps done; learning rate schedules follow it.
      batch_size: images per training batch, over all replicas.
      on_batches: called after every execution, before its losses are checked, with its first step (counted from 1) and,
        for each of its steps, the ids of the records in the batch of this worker (`odapi.record_ids`); None by default.

    Args:
      pipeline: the config. `model` defines what is built, `train_config` how it is trained.
      summary_every_n: every n steps, and at the first, the images of a batch and the model's own summaries are written
        to the default `tf.summary` writer (`LossLogger` sets it during `fit`). 0: never.

    Raises:
      ODEvalError: the Object Detection API cannot build the model of the config.

        pipeline = od_eval.Pipeline.load("pipeline.config")
        detector = od_eval.Detector(pipeline)
        detector.compile()
        detector.fit(pipeline.train_dataset(), steps_per_epoch=1000, callbacks=[od_eval.LossLogger("runs/a")])
    """

    train_function: Callable[[Iterator[Any]], dict[str, float]] | None  # Keras's attribute, created when first needed
    test_function: Callable[[Iterator[Any]], dict[str, float]] | None

    def __init__(self, pipeline: Pipeline, summary_every_n: int = 0):
        super().__init__(name="detector", dtype="float32")
        pipeline.check_model()
        self._source = pipeline.source
        self._config = pipeline.config
        self._train_config = pipeline.config.train_config
        self._summary_every_n = summary_every_n
        self.batch_size = self._train_config.batch_size
        self.step = tf.Variable(
            0,
            trainable=False,
            dtype=tf.int64,
            name="global_step",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        with precision(self._train_config.use_bfloat16), explained(self._source):
            self.model = model_builder.build(pipeline.config.model, is_training=True, add_summaries=summary_every_n > 0)
            self._build_variables(pipeline)
        self._regularizes = _has_weighted_regularizer(self.model)
        self._evaluation = pipeline.evaluation
        self._images_vary = model_inputs.images_vary(pipeline.config)
        self._graphs = Graphs()
        self._means = RunningMeans()
        self._has_warned = False
        self.on_batches: Callable[[int, Sequence[npt.NDArray[Any]]], None] | None = None

    def _build_variables(self, pipeline: Pipeline) -> None:
        """Traces one prediction, so that all variables exist before anything is restored."""

        def predict(features: Tensors) -> None:
            # DeepMAC predicts masks for ground truth boxes, and only then creates the variables for that.
            self.model.provide_groundtruth(
                groundtruth_boxes_list=[tf.constant([[0.0, 0.0, 1.0, 1.0]])],
                groundtruth_classes_list=[tf.one_hot([0], pipeline.num_classes)],
            )
            self.call(features, training=False)  # within a Keras call, variable names would start with detector/

        tf.function(predict, autograph=False).get_concrete_function(model_inputs.feature_specs(pipeline.config))

    @property
    def steps_done(self) -> int:
        """The value of `step`."""
        return int(self.step.numpy())

    @functools.cached_property
    def num_train_images(self) -> int | None:
        """The number of images in the files of `train_input_reader`; None if unknown, see `records.count`."""
        return records.count(self._config.train_input_reader)

    @functools.cached_property
    def config_facts(self) -> ConfigFacts:
        """What diagnoses know of the config."""
        return config_facts(Pipeline(self._config, self._source, check=False))

    def compile(self, optimizer: tf.keras.optimizers.legacy.Optimizer | None = None, **kwargs: Any) -> None:
        """Prepares the detector for `fit`.

        Args:
          optimizer: by default the one of `train_config.optimizer`, with its schedule and its moving average.
          **kwargs: arguments of `tf.keras.Model.compile`, for example `steps_per_execution`.
        """
        if optimizer is None:
            with self.distribute_strategy.scope(), explained("train_config.optimizer"):
                optimizer = optimizers.build_optimizer(self._train_config, self.model, self.step)
        super().compile(optimizer=optimizer, **kwargs)
        with self.distribute_strategy.scope():
            optimizers.create_slots(self.optimizer, self._variables_to_train())

    def checkpoint(self) -> tf.train.Checkpoint:
        """The checkpoint of a compiled detector, in the layout of the Object Detection API's own programs."""
        return tf.train.Checkpoint(step=self.step, model=self.model, optimizer=self.optimizer)

    def call(self, features: Tensors, training: bool = False) -> dict[str, Any]:
        """The raw predictions of the Object Detection API's `DetectionModel.predict`.

        Ground truth must have been provided to `model` if `training` is true.

        Args:
          features: `image` float32 `[batch, height, width, 3]`, preprocessed, and `true_image_shape` int32
            `[batch, 3]`, as in the datasets of `Pipeline`.
          training: whether batch normalization, dropout and sampling behave as in training.

        Returns:
          The prediction dict of the meta-architecture, in float32.
        """
        self.model._is_training = training
        attention = getattr(self.model, "_context_feature_extract_fn", None)
        if attention is not None:  # Context R-CNN's attention stores the mode it was built for
            attention._is_training = training
            attention._max_num_proposals = self.model.max_num_proposals
        predictions = self.model.predict(
            features[InputDataFields.image],
            features[InputDataFields.true_image_shape],
            **self.model.get_side_inputs(features),
        )
        return ops.bfloat16_to_float32_nested(predictions)

    # ---- A step ---------------------------------------------------------------------------------------------------

    def compute_losses(self, features: Tensors, labels: Tensors, training: bool) -> dict[str, tf.Tensor]:
        """The losses of one batch under their native names, as in `object_detection.model_lib_v2`.

        Args:
          features: as in `call`.
          labels: ground truth of a batch, as in the datasets of `Pipeline`.
          training: as in `call`.

        Returns:
          Scalars: the components, `Loss/regularization_loss` if the model has any, and `Loss/total_loss`.
        """
        labels = model_lib.unstack_batch(labels, unpad_groundtruth_tensors=self._train_config.unpad_groundtruth_tensors)
        losses, _ = self._losses_and_predictions(features, labels, training)
        return losses

    def _losses_and_predictions(
        self, features: Tensors, groundtruth: Mapping[str, list[tf.Tensor]], training: bool, with_losses: bool = True
    ) -> tuple[dict[str, tf.Tensor], dict[str, Any]]:
        # The value, because the model would track the variable as one of its weights.
        model_lib.provide_groundtruth(self.model, groundtruth, training_step=self.step.read_value())
        with learning_phase(training):
            predictions = self(features, training=training)
            if not with_losses:
                return {}, predictions
            losses = dict(self.model.loss(predictions, features[InputDataFields.true_image_shape]))
        regularization = self.model.regularization_losses() if self._train_config.add_regularization_loss else []
        if regularization and self._regularizes:
            losses["Loss/regularization_loss"] = tf.add_n(ops.bfloat16_to_float32_nested(regularization))
        elif regularization:  # weight 0, as in most Faster R-CNN configs: would take 4% of a step
            losses["Loss/regularization_loss"] = tf.constant(0.0)
        losses["Loss/total_loss"] = tf.add_n(list(losses.values()))
        return losses, predictions

    def train_step(self, data: tuple[Tensors, Tensors]) -> dict[str, tf.Tensor]:
        """One optimizer step on one replica's share of a batch.

        Returns:
          This replica's share of the losses (their sum over replicas is the loss of the batch), of the gradient's norm
          and of the learning rate, as scalars.
        """
        features, labels = data
        num_replicas = self.distribute_strategy.num_replicas_in_sync
        if self._summary_every_n:
            write_input_images(features[InputDataFields.image], self.step)
        learning_rate = optimizers.learning_rate_of(self.optimizer)
        with tf.GradientTape() as tape:
            losses = self.compute_losses(features, labels, training=True)
            losses = {name: loss / num_replicas for name, loss in losses.items()}
        variables = self._variables_to_train()
        gradients = tape.gradient(losses["Loss/total_loss"], variables)
        gradient_norm = tf.linalg.global_norm(gradients)
        if self._train_config.gradient_clipping_by_norm > 0:
            gradients, _ = tf.clip_by_global_norm(
                gradients, self._train_config.gradient_clipping_by_norm, use_norm=gradient_norm
            )
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.step.assign_add(1)
        return {**losses, "gradient_norm": gradient_norm, "learning_rate": learning_rate / num_replicas}

    def test_step(self, data: tuple[Tensors, Tensors]) -> dict[str, tf.Tensor]:
        """The losses of one batch in evaluation."""
        features, labels = data
        with explained(self._source):
            losses, _ = self._losses_and_predictions(features, without_padding(labels), training=False)
        return losses

    def _variables_to_train(self) -> list[tf.Variable]:
        return optimizers.variables_to_train(self.model.trainable_variables, self._train_config)

    # ---- Detection ------------------------------------------------------------------------------------------------

    def detect(self, images: npt.ArrayLike, **side_inputs: npt.ArrayLike) -> Detections:
        """Detects objects in images.

        Tracing takes a while for the first images of each batch size; images of other heights and widths do not need
        another trace.

        Args:
          images: uint8 `[batch, height, width, 3]`, RGB; of any size, which is the same for all.
          **side_inputs: further inputs of the model: for Context R-CNN `context_features` float32 `[batch, n, length]`
            and `valid_context_size` int32 `[batch]`.

        Returns:
          For each image, by descending score, the first `num` rows of: boxes `yxyx` in pixels of the image, scores,
          classes as ids of the label map and, if the model predicts them, masks of the image's size, 0 or 1.

        Raises:
          ODEvalError: images have another shape or dtype, or a side input is missing or unknown to the model.
        """
        inputs, specs = model_inputs.detection_inputs(images, side_inputs, self.side_input_specs)
        outputs = self._graphs.run(self._detections, (specs,), inputs)
        return detections_of({name: value.numpy() for name, value in outputs.items()})

    @property
    def side_input_specs(self) -> dict[str, tf.TensorSpec]:
        """Further inputs of the model (Context R-CNN: its context): name -> shape and dtype, for one image."""
        return model_inputs.side_input_specs(self._config)

    def _detections(self, inputs: Tensors) -> dict[str, tf.Tensor]:
        """As in `object_detection.exporter_lib_v2`, with boxes in pixels and masks of the image's size."""

        def preprocess(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, true_shape = self.model.preprocess(tf.cast(image, tf.float32)[tf.newaxis])
            return image[0], true_shape[0]

        images = inputs[InputDataFields.image]
        preprocessed, true_shapes = tf.map_fn(preprocess, images, fn_output_signature=(tf.float32, tf.int32))
        features = {**inputs, InputDataFields.image: preprocessed, InputDataFields.true_image_shape: true_shapes}
        # DeepMAC would predict masks for boxes provided earlier. A dict that was cleared could not be checkpointed.
        self.model._groundtruth_lists = {}
        with explained(self._source), learning_phase(False):
            detections = self.model.postprocess(self(features, training=False), true_shapes)
            return eval_util.result_dict_for_batched_example(
                images,
                tf.range(tf.shape(images)[0]),
                detections,
                class_agnostic=DetectionResultFields.detection_classes not in detections,
                scale_to_absolute=True,
            )

    # ---- Evaluation -----------------------------------------------------------------------------------------------

    @property
    def evaluation_options(self) -> EvaluationOptions:
        """The options requested by `eval_config`; computed once per detector.

        Raises:
          ODEvalError: the config requests something that the model or the data cannot provide.
        """
        return self._evaluation.options

    def evaluate_batches(self, dataset: Iterable[Any]) -> Generator[EvaluationBatch, None, None]:
        """Losses and detections on a dataset, with its ground truth.

        Tracing takes a while, but happens once per detector: for batches of `eval_config.batch_size`, and for single
        images if there are any left over. All replicas of this process share the batches.

        With several workers, all must iterate to the end: each evaluates every n-th batch, and the chief alone is given
        any, those of all workers in the order of the dataset.

        Args:
          dataset: as returned by `Pipeline.eval_dataset`.

        Yields:
          One batch at a time. Boxes are `yxyx` in pixels of the original images. Detections are restricted to the
          categories of `evaluation_options`. There are masks if the model predicts them and the records have them,
          whether or not `eval_config` asks for them.

        Raises:
          ODEvalError: a record cannot be read, memory does not suffice, the model cannot run, or workers have read
            other images than there are.
        """
        strategy = self.distribute_strategy
        worker, num_workers = cluster.worker(strategy), cluster.num_workers(strategy)
        names = UniqueNames()
        totals: dict[int, int] = {}
        num_images = 0
        own = self._evaluated(datasets.share_of(dataset, worker, num_workers), is_shared=num_workers > 1)
        with (
            cluster.averaged(strategy, self.model.variables),
            contextlib.closing(cluster.in_turn(strategy, own)) as of_all_workers,
        ):
            for evaluated in of_all_workers:
                if isinstance(evaluated, _Total):
                    totals[evaluated.worker] = evaluated.num_images
                    continue
                num_images += len(evaluated.image_ids)
                evaluated.image_ids = [names.unique(str(image_id)) for image_id in evaluated.image_ids]
                yield evaluated
        if len(totals) > 1:
            self._check_totals(
                [totals[worker] for worker in range(num_workers)], num_images, has_shares=hasattr(dataset, "share")
            )
        if names.repeated and not self._has_warned:
            self._has_warned = True
            print(
                f"warning: {names.repeated} evaluation images share their image/source_id with another one, like"
                f" '{names.example}'; each is evaluated as a separate image.",
                file=sys.stderr,
            )

    def _evaluated(self, batches: Iterable[Any], is_shared: bool) -> Iterator[EvaluationBatch | _Total]:
        """The batches of this worker, ready to be sent if there are others; at the end the number of its images."""
        eval_config, options = self._config.eval_config, self.evaluation_options
        needs_outputs = is_shared and self.further_evaluator() is not None
        num_images = 0
        try:
            for part, outputs in self._on_replicas(self._losses_and_detections, self._parts_of_all(batches)):
                losses, eval_dict = outputs
                logs = logs_of({name: float(loss) for name, loss in losses.items()})
                with_masks = dataclasses.replace(options, masks=has_masks(eval_dict))
                evaluated = evaluation_batch(part[0], eval_dict, logs, eval_config, with_masks)
                num_images += len(evaluated.image_ids)
                if is_shared:
                    so_far = num_images * cluster.num_workers(self.distribute_strategy)
                    evaluated = to_be_sent(evaluated, so_far, needs_outputs)
                yield evaluated
        except tf.errors.OpError as error:
            readers = [*self._config.eval_input_reader, self._config.train_input_reader]
            raise explained_op_error(error, readers, "eval_config.batch_size", eval_config.batch_size) from error
        yield _Total(cluster.worker(self.distribute_strategy), num_images)

    def _check_totals(self, totals: Sequence[int], num_merged: int, has_shares: bool) -> None:
        """Raises an error if workers have read other images than one alone would have, or some were not merged."""
        block = datasets.block_size(self._config)
        expected = [own_number(sum(totals), block, worker, len(totals)) for worker in range(len(totals))]
        if num_merged != sum(totals) or (has_shares and expected != list(totals)):
            listed = ", ".join(f"worker {worker} {total}" for worker, total in enumerate(totals))
            raise ODEvalError(
                f"{num_merged} images were merged, and the workers have read {listed}, where they should have read"
                f" {', '.join(map(str, expected))}: their evaluation files differ, or change; give all machines the"
                " same files."
            )

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """A context with the weights set to their moving averages, if `eval_config.use_moving_averages`; then restored.

        Raises:
          ODEvalError: there are no averages, because the detector is not compiled.
        """
        with cluster.averaged(self.distribute_strategy, self.model.variables):
            if not self._config.eval_config.use_moving_averages:
                yield
                return
            if self.optimizer is None:
                raise ODEvalError(
                    "eval_config.use_moving_averages is true, and the averages belong to the optimizer: compile() the"
                    " detector, and restore a checkpoint, before evaluating it."
                )
            with optimizers.averaged_weights(self.optimizer):
                yield

    def further_evaluator(self) -> FurtherEvaluator | None:
        """Computes the metrics of `eval_config.metrics_set` that an `od_eval.evaluation.Evaluator` does not have."""
        evaluator = FurtherEvaluator(self._config.eval_config, self._evaluation.label_map)
        return None if evaluator.is_empty else evaluator

    def _parts_of(self, batch: tuple[Any, Any]) -> Iterator[tuple[Tensors, Tensors]]:
        return parts_of(batch, self.distribute_strategy, self._config.eval_config.batch_size)

    def _parts_of_all(self, batches: Iterable[Any]) -> Iterator[tuple[Tensors, Tensors]]:
        for batch in batches:
            yield from self._parts_of(batch)

    def _traced_for_batch(self, step: Callable, features: Tensors, labels: Tensors) -> Any:
        """Runs a function in a graph that fits all batches of this size, for any image size and number of objects."""
        specs = specs_of_batches(features, labels, self._images_vary)
        return self._graphs.run(step, specs, features, labels)

    def _on_replicas(
        self, step: Callable, parts: Iterator[tuple[Tensors, Tensors]]
    ) -> Iterator[tuple[tuple[Tensors, Tensors], Any]]:
        """Each part with the results of a step, which runs on all replicas of this process at the same time."""
        strategy = self.distribute_strategy
        num_replicas = strategy.num_replicas_in_sync // cluster.num_workers(strategy)
        mirrored = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
        if num_replicas == 1 or not isinstance(strategy, mirrored):
            for part in parts:
                yield part, self._traced_for_batch(step, *part)
            return

        def on_replicas(*flat: Tensors) -> list[Any]:
            def on_replica() -> Any:
                number = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
                replica = int(number) % num_replicas
                return step(*flat[2 * replica : 2 * replica + 2])

            outputs = strategy.run(on_replica)
            of_replicas = map(strategy.experimental_local_results, tf.nest.flatten(outputs))
            return [tf.nest.pack_sequence_as(outputs, one) for one in zip(*of_replicas, strict=True)]

        for _, of_size in itertools.groupby(parts, key=lambda part: batch_size_of(part[0])):
            while group := list(itertools.islice(of_size, num_replicas)):
                filled = [*group, *group[-1:] * (num_replicas - len(group))]
                specs = [
                    spec
                    for features, labels in filled
                    for spec in specs_of_batches(features, labels, self._images_vary)
                ]
                flat = [tensors for pair in filled for tensors in pair]
                yield from zip(group, self._graphs.run(on_replicas, tuple(specs), *flat), strict=False)

    def _validation_losses(self, features: Tensors, labels: Tensors) -> dict[str, tf.Tensor]:
        return self.test_step((features, labels))

    def _losses_and_detections(
        self, features: Tensors, labels: Tensors
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """As in `object_detection.model_lib_v2.eager_eval_loop`."""
        eval_config = self._config.eval_config
        with explained(self._source):
            losses, predictions = self._losses_and_predictions(
                features,
                without_padding(labels),
                training=False,
                with_losses=not (eval_config.use_dummy_loss_in_eval or eval_config.ignore_groundtruth),
            )
            detections = self.model.postprocess(predictions, features[InputDataFields.true_image_shape])
            # Ground truth boxes are relative to the padded image. The Object Detection API uses the size of the
            # original image for that, which lacks the padding of `pad_to_multiple`.
            features = {**features, InputDataFields.original_image: features[InputDataFields.image]}
            eval_dict, _ = model_lib_v2.prepare_eval_dict(dict(detections), dict(labels), features)
        del eval_dict[InputDataFields.original_image]
        return losses, eval_dict

    # ---- Keras's loops: several steps in one call ------------------------------------------------------------------

    def make_train_function(self, force: bool = False) -> Callable[[Iterator[Any]], dict[str, float]]:
        """Overrides Keras's method: `logs` are means over all steps of an execution, not the values of the last."""
        if self.train_function is None or force:

            def step(data: Any) -> dict[str, tf.Tensor]:
                with explained(self._source):
                    return self.train_step(data)

            def should_summarize() -> tf.Tensor:
                return tf.logical_or(tf.equal(self.step, 0), tf.equal((self.step + 1) % self._summary_every_n, 0))

            execute = make_execution(
                step, self.distribute_strategy, should_summarize if self._summary_every_n else False
            )

            def train_function(iterator: Iterator[Any]) -> dict[str, float]:
                names, values, record_ids = execute(iterator, self._steps_per_execution.read_value())
                if self.on_batches is not None:
                    self.on_batches(self.steps_done - len(values) + 1, record_ids)
                check_finite(names, values, self.steps_done)
                logs = logs_of(dict(zip(names, values.mean(axis=0).tolist(), strict=True)))
                self._means.add(logs, weight=len(values))
                return logs

            self.train_function = train_function
        return self.train_function

    def make_test_function(self, force: bool = False) -> Callable[[Iterator[Any]], dict[str, float]]:
        """Overrides Keras's method: `logs` are means over images, because the last batch may be smaller."""
        if self.test_function is None or force:
            if cluster.num_workers(self.distribute_strategy) > 1:
                raise ODEvalError(
                    "Keras's validation_data are for a single process; with several workers, leave them out:"
                    " DetectionEvaluation evaluates on all of them, losses included."
                )

            def test_function(iterator: Iterator[Any]) -> dict[str, float]:
                execution = RunningMeans()
                for _ in range(int(self._steps_per_execution.numpy())):
                    try:
                        batch = next(iterator)
                    except (StopIteration, tf.errors.OutOfRangeError):
                        if execution.weight == 0:
                            raise
                        break
                    for features, labels in self._parts_of(batch):
                        losses = self._traced_for_batch(self._validation_losses, features, labels)
                        logs = logs_of({name: float(loss) for name, loss in losses.items()})
                        execution.add(logs, weight=batch_size_of(features))
                self._means.merge(execution)
                return execution.result()

            self.test_function = test_function
        return self.test_function

    # `metrics` stays empty: Keras uses it for the means of the epoch, which are computed here.

    def get_metrics_result(self) -> dict[str, float]:
        """The means since the start of the epoch or evaluation; Keras builds its logs from them."""
        return self._means.result()

    def reset_metrics(self) -> None:
        """Called by Keras at the start of an epoch or evaluation."""
        self._means = RunningMeans()


@dataclasses.dataclass(frozen=True)
class _Total:
    """What comes after the last batch of a worker."""

    worker: int
    num_images: int


def _has_weighted_regularizer(model: tf.Module) -> bool:
    """Whether any regularizer of a model's layers has a weight other than 0."""
    regularizers = [
        value
        for module in model.submodules
        for value in vars(module).values()
        if isinstance(value, tf.keras.regularizers.Regularizer)
    ]
    return any(any(regularizer.get_config().values()) for regularizer in regularizers)
