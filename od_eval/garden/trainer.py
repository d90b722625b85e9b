"""Model Garden's trainer with evaluations of another's, and its model as callbacks know one.

model = GardenModel(experiment, build_trainer(experiment, strategy, model_dir))
od_eval.DetectionEvaluation(model.eval_batches(), model_dir, detect=GardenModel.detect, options=…)
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import yaml
from official.common import distribute_utils
from official.core import base_trainer, task_factory, train_lib, train_utils
from official.modeling import optimization, performance
from official.vision.evaluation import coco_evaluator, coco_utils

from od_eval import files
from od_eval import losses as loss_names
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.segmentation.batch import SegmentationBatch
from od_eval.garden.batches import detection_batch, pixels, segmentation_batch
from od_eval.garden.experiment import Experiment
from od_eval.garden.losses import YOLO_PARTS, native_losses
from od_eval.garden.summaries import Summaries

STEPS_PER_SEC = "steps_per_sec"


class EvaluatedTrainer(base_trainer.Trainer):
    """A trainer whose evaluation is what `on_evaluation` does.

    Attributes:
      on_evaluation: called in place of an evaluation, and returns nothing.
    """

    on_evaluation: Callable[[], None]
    _has_traced = False

    def train(self, num_steps: tf.Tensor) -> dict[str, Any]:
        # orbit's own `steps_per_second` counts the time of tracing and of the evaluation before, too.
        began, first = time.perf_counter(), int(self.global_step.numpy())
        reported = super().train(num_steps)
        steps = int(self.global_step.numpy()) - first
        if self._has_traced:
            reported[STEPS_PER_SEC] = steps / (time.perf_counter() - began)
        self._has_traced = True
        return reported

    def evaluate(self, num_steps: tf.Tensor) -> dict[str, Any]:
        self.on_evaluation()
        return {}

    def next_eval_inputs(self, iterator: Any) -> tuple[Any, dict[str, Any]]:
        return iterator, {}  # a batch: see `eval_step_on`

    def eval_step_on(self) -> Callable[[Any], Mapping[str, Any]]:
        """The traced evaluation step, a function of a batch of `eval_dataset`."""
        return tf.function(self.eval_step, input_signature=[self.eval_dataset.element_spec])


class _NoCocoMetric:
    """Takes the place of a task's COCO metric: what the task gives it is read from the outputs of its steps."""

    name = "coco_metric"

    def __init__(self, **kwargs: Any):
        pass


def build_strategy(params: Any) -> tf.distribute.Strategy:
    """The strategy that `params.runtime` asks for; sets the precision, too.

    Raises:
      ODEvalError: it asks for devices that there are not.
    """
    runtime = params.runtime
    if runtime.mixed_precision_dtype:
        performance.set_mixed_precision_policy(runtime.mixed_precision_dtype)
    try:
        return distribute_utils.get_distribution_strategy(
            distribution_strategy=runtime.distribution_strategy,
            all_reduce_alg=runtime.all_reduce_alg,
            num_gpus=runtime.num_gpus,
            tpu_address=runtime.tpu,
        )
    except (ValueError, tf.errors.OpError) as error:
        raise ODEvalError(f"runtime.distribution_strategy='{runtime.distribution_strategy}': {error}") from error


def build_trainer(experiment: Experiment, strategy: tf.distribute.Strategy, model_dir: str) -> EvaluatedTrainer:
    """The trainer of an experiment, with its model and its datasets.

    Args:
      experiment: from `load_experiment`.
      strategy: to train under.
      model_dir: where the task may write.
    """
    with strategy.scope(), _without_coco_metric():
        return train_utils.create_trainer(
            experiment.params,
            task_factory.get_task(experiment.params.task, logging_dir=model_dir),
            train=True,
            evaluate=experiment.is_evaluated,
            trainer_cls=EvaluatedTrainer,
        )


@contextlib.contextmanager
def _without_coco_metric() -> Iterator[None]:
    """Tasks created inside have `_NoCocoMetric`.

    Their own would read `annotation_file`, or write one, and fail: NumPy 2.4 has no `int` of an array.
    """
    metric, write_annotations = coco_evaluator.COCOEvaluator, coco_utils.scan_and_generator_annotation_file
    coco_evaluator.COCOEvaluator = _NoCocoMetric
    coco_utils.scan_and_generator_annotation_file = lambda *args, **kwargs: None
    try:
        yield
    finally:
        coco_evaluator.COCOEvaluator = metric
        coco_utils.scan_and_generator_annotation_file = write_annotations


def build_runner(
    experiment: Experiment,
    trainer: EvaluatedTrainer,
    model_dir: str,
    train_summaries: Summaries,
    eval_summaries: Summaries,
) -> train_lib.OrbitExperimentRunner:
    """What trains and evaluates as the experiment says, and keeps checkpoints; continues from the newest one.

    Args:
      experiment, trainer: from `load_experiment`, and from `build_trainer`.
      model_dir: the folder of the checkpoints.
      train_summaries, eval_summaries: are given what it reports.
    """
    return train_lib.OrbitExperimentRunner(
        trainer.strategy,
        trainer.task,
        "train_and_eval" if experiment.is_evaluated else "train",
        experiment.params,
        model_dir,
        trainer=trainer,
        summary_manager=train_summaries,
        eval_summary_manager=eval_summaries,
    )


def save_config(params: Any, model_dir: str) -> str:
    """Writes the config of an experiment to `params.yaml`, and returns its text."""
    text = yaml.safe_dump(params.as_dict(), sort_keys=False)
    files.write_whole(os.path.join(model_dir, "params.yaml"), text)
    return text


class GardenModel:
    """The model that a trainer trains, as callbacks know one (`TrainedModel`), and what it makes of a batch.

    Args:
      experiment: the experiment.
      trainer: its trainer.

    Attributes:
      stop_training: set by callbacks that end the training.
    """

    def __init__(self, experiment: Experiment, trainer: EvaluatedTrainer):
        self._experiment = experiment
        self._trainer = trainer
        self._step: Callable[[Any], Mapping[str, Any]] | None = None
        self._seen: collections.Counter[tuple[int, int]] = collections.Counter()  # in the evaluation under way
        self._num_segmented = 0  # images, in the same
        self.stop_training = False

    # ---- What callbacks ask of it -----------------------------------------------------------------------------------

    @property
    def steps_done(self) -> int:
        return int(self._trainer.global_step.numpy())

    @property
    def batch_size(self) -> int:
        return self._experiment.params.task.train_data.global_batch_size

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        return self._trainer.strategy

    def checkpoint(self) -> tf.train.Checkpoint:
        return self._trainer.checkpoint

    # ---- Evaluation -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """A context in which it has the weights to be evaluated: moving averages, if it keeps some."""
        averages = self._trainer.optimizer
        if not isinstance(averages, optimization.ExponentialMovingAverage):
            yield
            return
        with self._trainer.strategy.scope():
            averages.swap_weights()
        try:
            yield
        finally:
            with self._trainer.strategy.scope():
                averages.swap_weights()

    def eval_batches(self) -> Iterable[Any]:
        """The batches of an evaluation, for `detect` or `segment`: may be iterated over again and again."""

        def begin() -> Iterator[Any]:
            self._seen.clear()
            self._num_segmented = 0
            steps = self._experiment.params.trainer.validation_steps
            return itertools.islice(iter(self._trainer.eval_dataset), steps if steps > 0 else None)

        return _EvalBatches(begin)

    def detect(self, inputs: Any) -> EvaluationBatch:
        """Runs the task's own evaluation step on a batch: detections, objects, losses and images."""
        outputs, losses = self._evaluate_step(inputs)
        groundtruth, predictions = outputs[_NoCocoMetric.name]
        # RetinaNet has [batch, 1] of them.
        groundtruth["num_detections"] = groundtruth["num_detections"].reshape(-1).astype(int)
        keys = zip(groundtruth["source_id"], groundtruth["num_detections"], strict=True)
        image_ids = [self._image_id(int(garden_id), int(num_objects)) for garden_id, num_objects in keys]
        is_yolo = type(self._experiment.params.task).__name__ == "YoloTask"
        return detection_batch(
            groundtruth,
            predictions,
            pixels(self._joined(inputs[0]), predictions["image_info"], normalized=not is_yolo),
            image_ids,
            losses,
            scaled_boxes=not is_yolo,
            object_masks=self._object_masks(image_ids),
        )

    def segment(self, inputs: Any) -> SegmentationBatch:
        """Runs the task's own evaluation step on a batch: labels, probabilities, losses and images."""
        outputs, losses = self._evaluate_step(inputs)
        labels = self._joined(inputs[1])
        task = self._experiment.params.task
        first, num_images = self._num_segmented, len(labels["masks"])
        self._num_segmented += num_images  # its records have no ids that get here
        return segmentation_batch(
            labels,
            outputs["visualization"][1]["logits"],
            pixels(self._joined(inputs[0]), labels["image_info"], normalized=True),
            range(first, first + num_images),
            losses,
            ignore_label=task.losses.ignore_label,
            rescale=not task.validation_data.resize_eval_groundtruth,
            independent=task.losses.use_binary_cross_entropy,
        )

    def _evaluate_step(self, inputs: Any) -> tuple[Any, dict[str, float]]:
        """What the task's evaluation step returns, as arrays, and the losses of this batch alone."""
        trainer = self._trainer
        if self._step is None:
            self._step = trainer.eval_step_on()
        # They are means over all batches since they were reset.
        metrics = [*trainer.validation_metrics, trainer.validation_loss]
        losses = [metric for metric in metrics if metric.name.endswith("_loss") or metric.name == YOLO_PARTS]
        for metric in losses:
            metric.reset_states()
        outputs = {name: self._joined(value) for name, value in self._step(inputs).items()}
        reported = tf.nest.map_structure(float, {metric.name: metric.result() for metric in losses})
        native = native_losses(reported, self._experiment.loss_config)
        return outputs, loss_names.with_categories(native)

    def _image_id(self, garden_id: int, num_objects: int) -> int | str:
        """The id in the records of an image that Model Garden knows by a number, which others may have, too."""
        records = self._experiment.records
        if records is None:
            return garden_id
        ids = records.ids.get((garden_id, num_objects), [])
        self._seen[garden_id, num_objects] += 1
        if self._seen[garden_id, num_objects] > len(ids):
            raise ODEvalError(
                f"an image with {num_objects} objects in the evaluation data was not there when the training began; did"
                " its records change? Start again to read them again."
            )
        return ids[self._seen[garden_id, num_objects] - 1]

    def _object_masks(self, image_ids: list[int | str]) -> list[list[dict[str, Any]]] | None:
        records = self._experiment.records
        if self._experiment.kind != "masks" or records is None:
            return None
        return [records.masks[image_id] for image_id in image_ids]

    def _joined(self, value: Any) -> Any:
        """A structure of tensors of all replicas as one of arrays, the replicas one behind the other."""
        if isinstance(value, Mapping):
            return {name: self._joined(part) for name, part in value.items()}
        if isinstance(value, tuple) and not tf.is_tensor(value[0]):
            return tuple(map(self._joined, value))
        parts = value if isinstance(value, tuple) else self._trainer.strategy.experimental_local_results(value)
        arrays = [part.numpy() for part in parts]
        return np.concatenate(arrays) if arrays[0].ndim else arrays[0]


class _EvalBatches(Iterable[Any]):
    def __init__(self, begin: Callable[[], Iterator[Any]]):
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        return self._begin()
