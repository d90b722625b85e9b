"""A Keras model around the Object Detection API's detection model."""

from __future__ import annotations

import collections
import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from object_detection import eval_util, model_lib, model_lib_v2
from object_detection.builders import model_builder, optimizer_builder
from object_detection.core.standard_fields import DetectionResultFields, InputDataFields
from object_detection.protos import pipeline_pb2
from object_detection.utils import config_util, ops
from tensorboard.plugins.image import metadata as image_metadata
from tf_keras.src import backend as keras_backend

from od_eval import losses as loss_names
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, EvaluationBatch
from od_eval.evaluation.options import EvaluationOptions
from od_eval.odapi import datasets, evaluation
from od_eval.odapi.explained import explained, explained_op_error
from od_eval.odapi.pipeline import Pipeline

Tensors = Mapping[str, tf.Tensor]


class NonFiniteLossError(ODEvalError):
    """A loss became infinite or NaN: the weights are lost.

    Attributes:
      step: the step it happened at, counted from 1.
      values: what that step computed: native loss names, `gradient_norm`, `learning_rate`.
    """

    def __init__(self, step: int, values: Mapping[str, float]):
        self.step = step
        self.values = dict(values)
        listed = ", ".join(f"{name.removeprefix('Loss/')} {value:.6g}" for name, value in values.items())
        super().__init__(
            f"the loss is not finite at step {step} ({listed}); lower the learning rate, lengthen its warm-up or set"
            " train_config.gradient_clipping_by_norm, and look for boxes without area in the data."
        )


class Detector(tf.keras.Model):
    """Trains a model of the Object Detection API with `fit`.

    The model is the one that the Object Detection API's `model_builder` makes of `pipeline.config.model`, for every
    meta-architecture it has on TF2. `compile()` takes the optimizer from `train_config`, `fit` takes
    `pipeline.train_dataset()`. A training step computes what the Object Detection API's own loop computes: the same
    losses, scaled by the number of replicas, regularization, gradient clipping and moving averages.

    `logs` of a training batch hold the losses, each the mean over the steps since the last such logs (over the steps
    of one execution, with `steps_per_execution`): `total_loss`, `classification_loss`, `localization_loss`,
    `regularization_loss` and, where there is something, `other_loss`; each native component under its own name
    (`Loss/BoxClassifierLoss/mask_loss`); and `gradient_norm`, before clipping (with several replicas, the mean of the
    norms of their own gradients). `logs` of an epoch, and of `evaluate`,
    hold the means over the epoch.

    Under a `tf.distribute` strategy, make the detector, compile it and make the dataset inside the strategy's scope.

    Attributes:
      model: the Object Detection API's `DetectionModel`, its variables built.
      step: int64 variable, the number of training steps done; learning rate schedules follow it.
      batch_size: images in a training batch, over all replicas.

    Args:
      pipeline: the config. `model` is what is built, `train_config` how it is trained.
      summary_every_n: every so many steps, and at the first, the images of a batch and what the model itself
        summarizes are written to the default `tf.summary` writer (`LossLogger` sets it during `fit`). 0: never.

    Raises:
      ODEvalError: the Object Detection API cannot build what the config describes.

        pipeline = od_eval.Pipeline.load("pipeline.config")
        detector = od_eval.Detector(pipeline)
        detector.compile()
        detector.fit(pipeline.train_dataset(), steps_per_epoch=1000, callbacks=[od_eval.LossLogger("runs/a")])
    """

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
        with _precision(self._train_config.use_bfloat16), explained(self._source):
            self.model = model_builder.build(pipeline.config.model, is_training=True, add_summaries=summary_every_n > 0)
            self._build_variables(pipeline)
        self._regularizes = _has_weighted_regularizer(self.model)
        self._means = _RunningMeans()
        self._graphs: dict[tuple, Callable] = {}
        self._has_warned = False
        size = config_util.get_spatial_image_size(config_util.get_image_resizer_config(pipeline.config.model))
        self._images_vary = size == [-1, -1] or pipeline.config.eval_config.force_no_resize

    @property
    def steps_done(self) -> int:
        """The value of `step`."""
        return int(self.step.numpy())

    def compile(self, optimizer: tf.keras.optimizers.legacy.Optimizer | None = None, **kwargs: Any) -> None:
        """Makes the detector ready for `fit`.

        Args:
          optimizer: by default the one of `train_config.optimizer`, with its schedule and its moving average.
          **kwargs: of `tf.keras.Model.compile`, for example `steps_per_execution`.
        """
        if optimizer is None:
            with self.distribute_strategy.scope(), explained("train_config.optimizer"):
                optimizer, _ = optimizer_builder.build(self._train_config.optimizer, global_step=self.step)
                if self._train_config.optimizer.use_moving_average:
                    optimizer.shadow_copy(self.model)
        super().compile(optimizer=optimizer, **kwargs)
        with self.distribute_strategy.scope():
            _create_slots(self.optimizer, self._variables_to_train())

    def checkpoint(self) -> tf.train.Checkpoint:
        """What is saved of a compiled detector, in the layout of the Object Detection API's own programs."""
        return tf.train.Checkpoint(step=self.step, model=self.model, optimizer=self.optimizer)

    def call(self, features: Tensors, training: bool = False) -> dict[str, Any]:
        """The raw predictions of the Object Detection API's `DetectionModel.predict`.

        Groundtruth must have been provided to `model` when `training` is true.

        Args:
          features: `image` float32 `[batch, height, width, 3]`, preprocessed, and `true_image_shape` int32
            `[batch, 3]`, as the datasets of `Pipeline` give them.
          training: whether batch normalization, dropout and sampling behave as in training.

        Returns:
          The prediction dict of the meta-architecture, in float32.
        """
        self.model._is_training = training
        attention = getattr(self.model, "_context_feature_extract_fn", None)
        if attention is not None:  # Context R-CNN's attention is made for one mode, and remembers what differs
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
          labels: groundtruth of a batch, as the datasets of `Pipeline` give it.
          training: as in `call`.

        Returns:
          Scalars: the components, `Loss/regularization_loss` where the model has any, and `Loss/total_loss`.
        """
        labels = model_lib.unstack_batch(labels, unpad_groundtruth_tensors=self._train_config.unpad_groundtruth_tensors)
        losses, _ = self._losses_and_predictions(features, labels, training)
        return losses

    def _losses_and_predictions(
        self, features: Tensors, groundtruth: Mapping[str, list[tf.Tensor]], training: bool, with_losses: bool = True
    ) -> tuple[dict[str, tf.Tensor], dict[str, Any]]:
        # The value: were it the variable, the model would take it for one of its weights.
        model_lib.provide_groundtruth(self.model, groundtruth, training_step=self.step.read_value())
        with _learning_phase(training):
            predictions = self(features, training=training)
            if not with_losses:
                return {}, predictions
            losses = dict(self.model.loss(predictions, features[InputDataFields.true_image_shape]))
        regularization = self.model.regularization_losses() if self._train_config.add_regularization_loss else []
        if regularization and self._regularizes:
            losses["Loss/regularization_loss"] = tf.add_n(ops.bfloat16_to_float32_nested(regularization))
        elif regularization:  # of weight 0, as in most Faster R-CNN configs: with its gradients 4% of a step
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
        self._summarize_images(features)
        learning_rate = self._learning_rate()
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
            losses, _ = self._losses_and_predictions(features, _unstacked(labels), training=False)
        return losses

    def _learning_rate(self) -> tf.Tensor:
        learning_rate = self.optimizer.learning_rate
        if isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
            learning_rate = learning_rate(self.optimizer.iterations)
        return tf.cast(learning_rate, tf.float32)

    def _variables_to_train(self) -> list[tf.Variable]:
        """All trainable ones, less what `freeze_variables` and `update_trainable_variables` leave out."""
        variables = self.model.trainable_variables
        only, frozen = self._train_config.update_trainable_variables, self._train_config.freeze_variables
        for pattern in [*only, *frozen]:
            if not any(re.match(pattern, variable.name) for variable in variables):
                raise ODEvalError(
                    f"train_config.freeze_variables or update_trainable_variables: '{pattern}' matches no trainable"
                    f" variable; their names look like '{variables[0].name}'."
                )
        return [
            variable
            for variable in variables
            if (not only or any(re.match(pattern, variable.name) for pattern in only))
            and not any(re.match(pattern, variable.name) for pattern in frozen)
        ]

    def _summarize_images(self, features: Tensors) -> None:
        """Under the Object Detection API's tag, but as JPEG, of which a fourth as many bytes go into the event file."""
        if not self._summary_every_n:
            return

        def as_summary() -> tf.Tensor:
            images = tf.image.convert_image_dtype(features[InputDataFields.image][:3], tf.uint8, saturate=True)
            images = images[..., : 3 if images.shape[-1] > 1 else 1]
            height, width = tf.unstack(tf.as_string(tf.shape(images)[1:3]))
            encode = functools.partial(tf.io.encode_jpeg, quality=90, chroma_downsampling=False)
            encoded = tf.map_fn(encode, images, fn_output_signature=tf.string)
            return tf.concat([[width, height], encoded], axis=0)

        metadata = image_metadata.create_summary_metadata(display_name="", description="")
        # The name scope of the loop would be a part of the tag.
        with tf.name_scope("/"):
            tf.summary.write("train_input_images", as_summary, step=self.step, metadata=metadata)

    # ---- Detection ------------------------------------------------------------------------------------------------

    def detect(self, images: npt.ArrayLike, **side_inputs: npt.ArrayLike) -> Detections:
        """Finds objects in images.

        Tracing takes a while for the first images of each batch size; images of other heights and widths are not traced
        again.

        Args:
          images: uint8 `[batch, height, width, 3]`, RGB; of any size, and all of the same.
          **side_inputs: what the model needs beside images: for Context R-CNN `context_features` float32
            `[batch, n, length]` and `valid_context_size` int32 `[batch]`.

        Returns:
          For each image, best first, the first `num` rows of: boxes `yxyx` in pixels of the image, scores, classes as
          ids of the label map and, where the model predicts them, masks of the image's size, 0 or 1.

        Raises:
          ODEvalError: images have another shape or dtype, a side input is missing, or the model knows none such.
        """
        try:
            images = np.asarray(images)
        except ValueError as error:
            raise ODEvalError("Detector.detect takes images of one size; give it the others in a call each.") from error
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ODEvalError(
                f"Detector.detect takes images as uint8 [batch, height, width, 3], not {images.dtype.name}"
                f" {list(images.shape)}."
            )
        inputs = {InputDataFields.image: tf.convert_to_tensor(images)}
        needed = self.side_input_specs
        if side_inputs.keys() - needed.keys():
            raise ODEvalError(
                f"Detector.detect: this model takes {', '.join(needed) or 'nothing'} beside images, not"
                f" {', '.join(side_inputs)}."
            )
        for name, spec in needed.items():
            if name not in side_inputs:
                raise ODEvalError(f"Detector.detect: this model needs {name}, {spec.dtype.name} {spec.shape}, as well.")
            inputs[name] = tf.convert_to_tensor(side_inputs[name], spec.dtype)
        specs = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in inputs.items()}
        specs[InputDataFields.image] = tf.TensorSpec([len(images), None, None, 3], tf.uint8)
        outputs = self._traced(self._detections, (specs,), inputs)
        return evaluation.detections_of({name: value.numpy() for name, value in outputs.items()})

    @property
    def side_input_specs(self) -> dict[str, tf.TensorSpec]:
        """What the model needs beside images (Context R-CNN: its context): name -> shape and dtype, for one image."""
        return {name: spec for name, spec in _feature_specs(self._config).items() if name not in _IMAGE_FEATURES}

    def _detections(self, inputs: Tensors) -> dict[str, tf.Tensor]:
        """As in `object_detection.exporter_lib_v2`, with boxes in pixels and masks of the image's size."""

        def preprocess(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, true_shape = self.model.preprocess(tf.cast(image, tf.float32)[tf.newaxis])
            return image[0], true_shape[0]

        images = inputs[InputDataFields.image]
        preprocessed, true_shapes = tf.map_fn(preprocess, images, fn_output_signature=(tf.float32, tf.int32))
        features = {**inputs, InputDataFields.image: preprocessed, InputDataFields.true_image_shape: true_shapes}
        # For boxes that it was told of, DeepMAC predicts masks. A dict that is emptied could not be checkpointed.
        self.model._groundtruth_lists = {}
        with explained(self._source), _learning_phase(False):
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
        """What `eval_config` asks to be evaluated and shown.

        Raises:
          ODEvalError: it asks for what the model or the data cannot give.
        """
        return evaluation.evaluation_options(self._config)

    def evaluate_batches(self, dataset: tf.data.Dataset) -> Iterator[EvaluationBatch]:
        """Losses and detections on a dataset, with its groundtruth.

        Tracing takes a while, but once in the life of the detector: for batches of `eval_config.batch_size`, and for
        single images if there are any left over.

        Args:
          dataset: as of `Pipeline.eval_dataset`.

        Yields:
          A batch at a time; boxes are `yxyx` in pixels of the images as they are in the files.

        Raises:
          ODEvalError: a record cannot be read, memory does not suffice, or the model cannot run.
        """
        eval_config, options = self._config.eval_config, self.evaluation_options
        names = _UniqueNames()
        try:
            for batch in dataset:
                for features, labels in self._parts(batch):
                    losses, eval_dict = self._traced_for_batch(self._losses_and_detections, features, labels)
                    logs = _logs({name: float(loss) for name, loss in losses.items()})
                    evaluated = evaluation.evaluation_batch(features, eval_dict, logs, eval_config, options)
                    evaluated.image_ids = [names.unique(image_id) for image_id in evaluated.image_ids]
                    yield evaluated
        except tf.errors.OpError as error:
            readers = [*self._config.eval_input_reader, self._config.train_input_reader]
            raise explained_op_error(error, readers, "eval_config.batch_size", eval_config.batch_size) from error
        if names.repeated and not self._has_warned:
            self._has_warned = True
            print(
                f"warning: {names.repeated} evaluation images have the image/source_id of another, like"
                f" '{names.example}'; each is evaluated as an image of its own.",
                file=sys.stderr,
            )

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Inside, the weights are their moving averages, if `eval_config.use_moving_averages`; then as before.

        Raises:
          ODEvalError: there are no averages, because the detector is not compiled.
        """
        if not self._config.eval_config.use_moving_averages:
            yield
            return
        if self.optimizer is None:
            raise ODEvalError(
                "eval_config.use_moving_averages is true, and the averages come with the optimizer: compile() the"
                " detector, and restore a checkpoint, before it is evaluated."
            )
        # Not `optimizer.swap_weights()`, which adds and subtracts, and so gives back other weights than it took.
        weights, averages = self.optimizer._model_weights, self.optimizer._average_weights
        raw = [weight.numpy() for weight in weights]
        for weight, average in zip(weights, averages, strict=True):
            weight.assign(average.numpy())
        try:
            yield
        finally:
            for weight, value in zip(weights, raw, strict=True):
                weight.assign(value)

    def further_evaluator(self) -> evaluation.FurtherEvaluator:
        """Computes the metrics of `eval_config.metrics_set` that an `od_eval.evaluation.Evaluator` has not got."""
        return evaluation.FurtherEvaluator(self._config)

    def _parts(self, batch: tuple[Any, Any]) -> Iterator[tuple[Tensors, Tensors]]:
        """The batch of each replica; image by image, if it is not full: a graph is traced for one size of batch."""
        by_tensor = map(self.distribute_strategy.experimental_local_results, tf.nest.flatten(batch))
        for of_replica in zip(*by_tensor, strict=True):
            part = tf.nest.pack_sequence_as(batch, of_replica)
            size = _batch_size(part[0])
            if size in (1, self._config.eval_config.batch_size):
                yield part
            else:
                for row in range(size):
                    with tf.device("CPU"):  # a GPU would keep its copies of batches for as long as these are kept
                        one = tf.nest.map_structure(lambda values: values[row : row + 1], part)  # noqa: B023
                    yield one

    def _traced_for_batch(self, step: Callable, features: Tensors, labels: Tensors) -> Any:
        """Runs a function in a graph that fits all batches of this size, whatever their images and objects."""
        specs = _varying_specs(features, labels, images_vary=self._images_vary)
        return self._traced(step, specs, features, labels)

    def _traced(self, step: Callable, specs: tuple[Mapping[str, tf.TensorSpec], ...], *args: Tensors) -> Any:
        """Runs a function in a graph, which is traced when it is first called with such specs."""
        key = (step.__name__, *(str(spec) for spec in tf.nest.flatten(specs)))
        if key not in self._graphs:
            self._graphs[key] = _trace(step, specs)
        return self._graphs[key](*args)

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
                _unstacked(labels),
                training=False,
                with_losses=not (eval_config.use_dummy_loss_in_eval or eval_config.ignore_groundtruth),
            )
            detections = self.model.postprocess(predictions, features[InputDataFields.true_image_shape])
            # Groundtruth boxes are relative to the padded image. The Object Detection API takes the size of the
            # original image for that, which is not padded where `pad_to_multiple` is.
            features = {**features, InputDataFields.original_image: features[InputDataFields.image]}
            eval_dict, _ = model_lib_v2.prepare_eval_dict(dict(detections), dict(labels), features)
        del eval_dict[InputDataFields.original_image]
        return losses, eval_dict

    # ---- Executions: several steps in one call of a tf.function ----------------------------------------------------

    def make_train_function(self, force: bool = False) -> Callable[[Iterator], dict[str, float]]:
        """Overrides Keras's: `logs` are means over all steps of an execution, not the values of the last."""
        if self.train_function is None or force:
            run = self._make_execution(self.train_step)

            def train_function(iterator: Iterator) -> dict[str, float]:
                names, steps = run(iterator, self._steps_per_execution.read_value())
                self._check_finite(names, steps)
                means = dict(zip(names, steps.mean(axis=0).tolist(), strict=True))
                return self._means.add(_logs(means), weight=len(steps))

            self.train_function = train_function
        return self.train_function

    def make_test_function(self, force: bool = False) -> Callable[[Iterator], dict[str, float]]:
        """Overrides Keras's: `logs` are means over images, and the last batch may be smaller than the others."""
        if self.test_function is None or force:
            if datasets.num_workers(self.distribute_strategy) > 1:
                raise ODEvalError(
                    "validation during training is for one process; of several workers, let another process evaluate:"
                    " od-eval train --checkpoint_dir=MODEL_DIR."
                )

            def test_function(iterator: Iterator) -> dict[str, float]:
                execution = _RunningMeans()
                for _ in range(int(self._steps_per_execution.numpy())):
                    try:
                        batch = next(iterator)
                    except (StopIteration, tf.errors.OutOfRangeError):
                        if execution.weight == 0:
                            raise
                        break
                    for features, labels in self._parts(batch):
                        losses = self._traced_for_batch(self._validation_losses, features, labels)
                        values = {name: float(loss) for name, loss in losses.items()}
                        execution.add(_logs(values), weight=_batch_size(features))
                return self._means.add(execution.result(), weight=execution.weight)

            self.test_function = test_function
        return self.test_function

    def _make_execution(self, step: Callable) -> Callable[[Iterator, tf.Tensor], tuple[list[str], np.ndarray]]:
        """Returns a function from an iterator and a number of steps to names and float32 values `[steps, names]`.

        The values are those of `step`, summed over replicas.
        """
        strategy = self.distribute_strategy
        names: list[str] = []

        def run_step(data: Any) -> tf.Tensor:
            with explained(self._source):
                values = step(data)
            names[:] = values  # known when the step is traced
            return tf.stack([tf.cast(value, tf.float32) for value in values.values()])

        def should_summarize() -> tf.Tensor:
            return tf.logical_or(tf.equal(self.step, 0), tf.equal((self.step + 1) % self._summary_every_n, 0))

        # One loop, and in it one place where the step is traced.
        def run(iterator: Iterator, num_steps: tf.Tensor) -> tf.Tensor:
            def body(done: tf.Tensor, values: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
                of_replicas = strategy.run(run_step, args=(next(iterator),))
                of_batch = strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas, axis=None)
                return done + 1, values.write(tf.cast(done, tf.int32), of_batch)

            values = tf.TensorArray(tf.float32, size=tf.cast(num_steps, tf.int32), infer_shape=False)
            with tf.summary.record_if(should_summarize if self._summary_every_n else False):
                _, values = tf.while_loop(
                    lambda done, _: done < num_steps, body, (tf.zeros_like(num_steps), values), parallel_iterations=1
                )
            return values.stack()

        # With AutoGraph tracing takes two to three times as long, and DeepMAC alone is known to need it.
        quickly = tf.function(run, autograph=False, reduce_retracing=True)
        with_autograph = tf.function(run, autograph=True, reduce_retracing=True)

        def execute(iterator: Iterator, num_steps: tf.Tensor) -> tuple[list[str], np.ndarray]:
            nonlocal quickly
            try:
                values = quickly(iterator, num_steps)
            except tf.errors.OperatorNotAllowedInGraphError:  # before anything ran: tracing came upon `if tensor:`
                quickly = with_autograph
                values = with_autograph(iterator, num_steps)
            return names, values.numpy()

        return execute

    def _check_finite(self, names: Sequence[str], steps: np.ndarray) -> None:
        of_losses = [column for column, name in enumerate(names) if name.startswith("Loss/")]
        broken = np.flatnonzero(~np.isfinite(steps[:, of_losses]).all(axis=1))
        if broken.size:
            first = int(broken[0])
            step = self.steps_done - len(steps) + first + 1
            raise NonFiniteLossError(step, dict(zip(names, steps[first].tolist(), strict=True)))

    # `metrics` stays empty: what Keras asks of it are the means of the epoch, and these are kept here.

    def get_metrics_result(self) -> dict[str, float]:
        """The means since the epoch or the evaluation began; Keras makes its logs of them."""
        return self._means.result()

    def reset_metrics(self) -> None:
        self._means = _RunningMeans()

    # ---- Building -------------------------------------------------------------------------------------------------

    def _build_variables(self, pipeline: Pipeline) -> None:
        """Traces one prediction, so that all variables exist before anything is restored."""

        def predict(features: Tensors) -> None:
            # DeepMAC predicts masks for groundtruth boxes, and has no variables for that before it does.
            self.model.provide_groundtruth(
                groundtruth_boxes_list=[tf.constant([[0.0, 0.0, 1.0, 1.0]])],
                groundtruth_classes_list=[tf.one_hot([0], pipeline.num_classes)],
            )
            self.call(features, training=False)  # in the name scope of a call, variables would be detector/…

        tf.function(predict, autograph=False).get_concrete_function(_feature_specs(pipeline.config))


_IMAGE_FEATURES = (InputDataFields.image, InputDataFields.true_image_shape)


def _feature_specs(config: pipeline_pb2.TrainEvalPipelineConfig) -> dict[str, tf.TensorSpec]:
    """Shapes and dtypes of what `Detector.call` needs, for one image of the size that the config asks for."""
    image_resizer = config_util.get_image_resizer_config(config.model)
    height, width = config_util.get_spatial_image_size(image_resizer)
    if height == -1:  # it differs from image to image, and no variable depends on it
        height = width = 512
    resizer = getattr(image_resizer, image_resizer.WhichOneof("image_resizer_oneof"))
    channels = 3 + config.train_input_reader.num_additional_channels
    if getattr(resizer, "convert_to_grayscale", False):
        channels = 1
    specs = {
        InputDataFields.image: tf.TensorSpec([1, height, width, channels], tf.float32),
        InputDataFields.true_image_shape: tf.TensorSpec([1, 3], tf.int32),
    }
    if config.model.faster_rcnn.HasField("context_config"):
        context = [
            1,
            config_util.get_max_num_context_features(config.model),
            config_util.get_context_feature_length(config.model),
        ]
        specs[InputDataFields.context_features] = tf.TensorSpec(context, tf.float32)
        specs[InputDataFields.valid_context_size] = tf.TensorSpec([1], tf.int32)
    return specs


def _has_weighted_regularizer(model: tf.Module) -> bool:
    """Whether any regularizer of a model's layers has a weight other than 0."""
    regularizers = [
        value
        for module in model.submodules
        for value in vars(module).values()
        if isinstance(value, tf.keras.regularizers.Regularizer)
    ]
    return any(any(regularizer.get_config().values()) for regularizer in regularizers)


def _batch_size(features: Tensors) -> int:
    return features[InputDataFields.image].shape[0]


def _trace(step: Callable, specs: Any) -> Callable:
    try:
        return tf.function(step, autograph=False).get_concrete_function(*specs)
    except tf.errors.OperatorNotAllowedInGraphError:  # as for the training step
        return tf.function(step, autograph=True).get_concrete_function(*specs)


def _varying_specs(features: Tensors, labels: Tensors, images_vary: bool) -> tuple[dict, dict]:
    """Specs of batches that differ in the number of boxes and, where `images_vary`, in the size of images."""

    def spec(name: str, value: tf.Tensor) -> tf.TensorSpec:
        shape = value.shape.as_list()
        if name in labels and name not in datasets.LABELS_OF_IMAGES:
            shape[1] = None
        if images_vary and name in (InputDataFields.image, InputDataFields.original_image):
            shape[1:3] = None, None
        if images_vary and name == InputDataFields.groundtruth_instance_masks:
            shape[2:4] = None, None
        return tf.TensorSpec(shape, value.dtype)

    return tuple({name: spec(name, value) for name, value in tensors.items()} for tensors in (features, labels))


def _unstacked(labels: Tensors) -> dict[str, list[tf.Tensor]]:
    """Groundtruth of a batch -> a list of one tensor an image, without padding.

    `model_lib.unstack_batch` leaves the padding of some of them (weights of keypoints, confidences).
    """
    of_images = {name: tf.unstack(value) for name, value in labels.items()}
    num_boxes = of_images[InputDataFields.num_groundtruth_boxes]
    for name in labels.keys() - datasets.LABELS_OF_IMAGES:
        of_images[name] = [value[:num] for value, num in zip(of_images[name], num_boxes, strict=True)]
    return of_images


def _create_slots(optimizer: Any, variables: Sequence[tf.Variable]) -> None:
    """Makes an optimizer's variables now: replicas cannot in the loop of an execution, and restoring wants them all."""
    optimizer = getattr(optimizer, "_optimizer", optimizer)  # what a moving average is wrapped around
    if isinstance(optimizer, tf.keras.optimizers.legacy.Optimizer):
        optimizer._create_all_weights(variables)
    else:
        optimizer.build(variables)


class _UniqueNames:
    """Tells images apart that have the same name: `a.jpg`, `a.jpg (2)`, …"""

    def __init__(self) -> None:
        self.repeated = 0
        self.example = ""
        self._times: collections.Counter[str] = collections.Counter()

    def unique(self, name: str) -> str:
        self._times[name] += 1
        if self._times[name] == 1:
            return name
        self.repeated += 1
        self.example = name
        return self.unique(f"{name} ({self._times[name]})")


class _RunningMeans:
    """Weighted means of values by name."""

    def __init__(self) -> None:
        self.weight = 0
        self._sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float], weight: int) -> Mapping[str, float]:
        """Adds values, and returns them."""
        self.weight += weight
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + weight * value
        return values

    def result(self) -> dict[str, float]:
        return {name: value / self.weight for name, value in self._sums.items()}


def _logs(values: Mapping[str, float]) -> dict[str, float]:
    """What a step computed -> Keras's logs."""
    native = {name: value for name, value in values.items() if name.startswith("Loss/")}
    logs = {**loss_names.categorize(native), **native}
    if "gradient_norm" in values:
        logs["gradient_norm"] = values["gradient_norm"]
    return logs


@contextlib.contextmanager
def _learning_phase(training: bool) -> Iterator[None]:
    """Most layers are told by Keras that they train; DeepMAC asks Keras's global learning phase as well."""
    with keras_backend.deprecated_internal_learning_phase_scope(int(training)):
        yield


@contextlib.contextmanager
def _precision(bfloat16: bool) -> Iterator[None]:
    """Layers made in here compute in bfloat16, with variables in float32, where the config asks for it."""
    before = tf.keras.mixed_precision.global_policy()
    if bfloat16:
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
