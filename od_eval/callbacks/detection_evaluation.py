"""DetectionEvaluation: validation losses and COCO metrics during training."""

from __future__ import annotations

import dataclasses
import functools
import numbers
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import tqdm

from od_eval.callbacks.base import Callback
from od_eval.callbacks.loss_logger import not_training
from od_eval.callbacks.step_means import number
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.evaluable import Evaluable, FunctionOfModel
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.tensorboard import tags


class DetectionEvaluation(Callback):
    """Evaluates a detector while it trains: validation losses, the COCO metrics, pictures of detections.

    At the end of every epoch, or every few epochs or steps, it runs the model over a dataset and

    * adds `val_AP`, `val_AP50`, …, `val_AR100`, `val_total_loss`, … to Keras's `logs`, where the callbacks that come
      after this one find them: `EarlyStopping("val_AP", mode="max")`, `CSVLogger`, `od_eval.BestCheckpoint`. A metric
      that is not defined, as no object of that size is in the data, is not there. Metrics of masks are `val_segm_AP`
      and so on;
    * writes losses and metrics to TensorBoard, in the run `<log_dir>/eval`, under the tags of training and of the
      Object Detection API, with pictures of the first images. In a long training they thin out: after an
      evaluation with pictures, the next that has some comes when 1/16 more steps are done. (TensorBoard shows ten
      steps of a picture at most.) With `options.pictures_dir`, every evaluation has pictures;
    * writes all numbers to files: `<log_dir>/eval/metrics.json` holds the newest evaluation, `metrics/step-….json`
      every one, `metrics.csv` one row for each;
    * prints the metrics in a line, and whether they are the best so far.

    An evaluation that fails does not end the training, unless asked to: its cause is printed, and `failures` tells of
    it. A training that is resumed continues: evaluations of steps after the one it goes on from are taken out, as
    `LossLogger` does with its points. With several workers, the chief alone evaluates.

    Args:
      dataset: what to evaluate on; gone through once in each evaluation. `pipeline.eval_dataset()` for a `Detector`.
      log_dir: the folder above the run; that of `LossLogger`.
      detect: for models other than a `Detector`: a function of the model and one element of the dataset, which returns
        an `EvaluationBatch` with detections and ground truth. With it, `options` are needed.
      options: what to evaluate and what to show; by default those of the `Detector`'s config.
      run: the TensorBoard run below `log_dir`. Each dataset needs its own: `eval/night`, `eval_train`.
      prefix: of the keys in `logs`; `val_night_` for a second dataset.
      every_n_epochs: epochs between evaluations.
      every_n_steps: training steps between evaluations, instead of epochs.
      on_error: `report` prints why an evaluation failed and lets the training go on; `raise` ends it.
      checkpoint: a function of the step that gives the path of a checkpoint with the weights evaluated, or None; it is
        noted in the files.

    Attributes:
      run, options: as given.
      run_dir: the folder of the run.
      results: the evaluations made so far.
      failures: step and error of those that failed.

    Example:

    >>> detector.fit(
    ...     pipeline.train_dataset(), epochs=20, steps_per_epoch=100,
    ...     callbacks=[
    ...         od_eval.LossLogger("runs/a"),
    ...         od_eval.DetectionEvaluation(pipeline.eval_dataset(), "runs/a"),
    ...         tf.keras.callbacks.EarlyStopping("val_AP", mode="max", patience=5),
    ...     ])

    And for any other Keras model:

    >>> def detect(model, batch):
    ...     boxes, scores, classes = model.predict_on_batch(batch["image"])
    ...     return EvaluationBatch(
    ...         image_ids=batch["id"].numpy().tolist(), image_sizes=batch["size"],
    ...         detections=Detections(boxes, scores, classes),
    ...         groundtruth=GroundTruth(batch["boxes"], batch["classes"]), images=batch["image"].numpy())
    >>> od_eval.DetectionEvaluation(
    ...     dataset, "runs/a", detect=detect,
    ...     options=EvaluationOptions(categories={1: "cat", 2: "dog"}, box_format="rel_xyxy"))
    """

    def __init__(
        self,
        dataset: Iterable[Any],
        log_dir: str | os.PathLike[str],
        *,
        detect: Callable[[Any, Any], EvaluationBatch] | None = None,
        options: EvaluationOptions | None = None,
        run: str = tags.EVAL,
        prefix: str = "val_",
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        on_error: Literal["report", "raise"] = "report",
        checkpoint: Callable[[int], str | None] | None = None,
    ):
        super().__init__()
        if not os.fspath(log_dir):
            raise ValueError("log_dir is empty; DetectionEvaluation needs a folder to write to.")
        for name, value in {"every_n_epochs": every_n_epochs, "every_n_steps": every_n_steps}.items():
            if (not isinstance(value, numbers.Integral) or value < 1) and (name, value) != ("every_n_steps", None):
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}.")
        if on_error not in ("report", "raise"):
            raise ValueError(f"on_error must be 'report' or 'raise', not {on_error!r}.")
        if detect is not None and options is None:
            raise ValueError("with detect, options are needed: options=EvaluationOptions(categories={1: 'cat'}).")
        self._dataset = dataset
        self.run = run
        self.run_dir = os.path.join(os.fspath(log_dir), run)
        self.options = options
        self._detect = detect
        self._prefix = prefix
        self._every_n_epochs = every_n_epochs
        self._every_n_steps = every_n_steps
        self._on_error = on_error
        self._checkpoint = checkpoint or (lambda step: None)
        self._num_images: int | None = None  # known after the first evaluation
        self._best: EvaluationResult | None = None
        self._has_layout = False
        self._last_step_with_pictures: int | None = None
        self._last_step: int | None = None
        self._in_epoch: dict[str, float] = {}
        self.results: list[EvaluationResult] = []
        self.failures: list[tuple[int, Exception]] = []

    # ---- Keras calls these ------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._in_epoch = {}
        self._last_batch = -1
        if not self._begun:  # only now: in on_train_begin, other callbacks restore the checkpoint to go on from
            self._begin()
            self._begun = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._every_n_steps is None:
            return
        self._counted += batch - self._last_batch
        self._last_batch = batch
        if self._counted >= self._due:  # counted, because reading the step takes longer; it may differ
            self._counted = self._step()
        if self._counted >= self._due:
            self._due = (self._counted // self._every_n_steps + 1) * self._every_n_steps
            self._evaluate_into(logs, self._counted)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._every_n_steps is None and (epoch + 1) % self._every_n_epochs == 0:
            self._evaluate_into(logs, self._step())
        elif logs is not None:
            for name, value in self._in_epoch.items():
                logs.setdefault(name, value)  # where Keras has validated at the end of the epoch, that is newer

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._last_step = self._step()

    # ---- How it does that -------------------------------------------------------------------------------------------

    def evaluate(self, step: int) -> EvaluationResult:
        """Evaluates the model as it is, and writes what was found.

        Args:
          step: the training step its weights are of.

        Raises:
          ODEvalError: a record cannot be read, memory does not suffice, a detection is not a number, …
        """
        # Here for the reason given in `callbacks.base`: it imports TensorFlow.
        from od_eval import evaluation_writer

        started = time.monotonic()
        if self._best is None:  # without `fit`, nobody has looked yet
            self._best = functools.reduce(better, self.recorded(), None)
        model = self._evaluable()
        options = self.options or model.evaluation_options
        if not self._pictures_are_due(step, options):
            options = dataclasses.replace(options, num_pictures=0)
        evaluator = Evaluator(
            options.categories,
            box_format=options.box_format,
            masks=options.masks,
            super_categories=options.super_categories,
        )
        further = model.further_evaluator()
        has_groundtruth = False
        losses = _MeansOverImages()
        pictures = evaluation_writer.Pictures(options)
        with model.evaluation_weights(), _progress_bar(self.run, self._num_images) as progress:
            for batch in model.evaluate_batches(self._dataset):
                losses.add(batch.losses, len(batch.image_ids))
                if batch.groundtruth is not None:
                    has_groundtruth = True
                    evaluator.update(batch)  # first of all, as it finds what is wrong with a batch
                    if further is not None:
                        further.update(batch.outputs)
                pictures.add(batch)
                progress.update(len(batch.image_ids))
        if losses.num_images == 0:
            raise ODEvalError(f"there is no image to evaluate in the dataset of {self.run}; look at its input_path.")
        self._num_images = losses.num_images
        found = {
            "losses": losses.result(),
            "other": further.evaluate() if further is not None and has_groundtruth else {},
            "step": step,
            "checkpoint": self._checkpoint(step),
        }
        if has_groundtruth:
            result = evaluator.evaluate(**found)
        else:  # nobody knows what is there: these images are to be looked at only
            result = EvaluationResult(num_images=losses.num_images, **found)
        evaluation_writer.write(
            self.run_dir,
            result,
            options,
            pictures,
            evaluator=evaluator if has_groundtruth else None,
            with_layout=not self._has_layout,
        )
        self._has_layout = True
        if pictures.by_tag:
            self._last_step_with_pictures = step
        self._report(result, time.monotonic() - started)
        self.results.append(result)
        return result

    def logs(self, result: EvaluationResult) -> dict[str, float]:
        """The entries of Keras's `logs` for an evaluation."""
        return {self._prefix + name: value for name, value in result.log_values().items()}

    def recorded(self) -> list[EvaluationResult]:
        """Every evaluation that is in the files of the run, in the order of steps."""
        from od_eval import result_files

        return result_files.read_all(self.run_dir)

    def _evaluable(self) -> Evaluable:
        if self._detect is not None:
            return FunctionOfModel(self.model, self._detect, self.options)
        if not hasattr(self.model, "evaluate_batches"):
            raise ODEvalError(
                f"DetectionEvaluation does not know how {type(self.model).__name__} detects; pass detect=, a function"
                " of the model and a batch, and options=."
            )
        return self.model

    def _begin(self) -> None:
        step = self._step()
        self._counted = step
        self._due = (step // self._every_n_steps + 1) * self._every_n_steps if self._every_n_steps else 0
        if not self._writes() or step == self._last_step:
            return
        from od_eval import result_files
        from od_eval.tensorboard import writers

        writers.resume(self.run_dir, step)
        result_files.drop_after(self.run_dir, step)
        self._best = functools.reduce(better, self.recorded(), None)

    def _writes(self) -> bool:
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy is None or strategy.extended.should_save_summary

    def _step(self) -> int:
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            raise ValueError("DetectionEvaluation counts optimizer steps, and this model has no optimizer.")
        return int(number(optimizer.iterations))

    def _evaluate_into(self, logs: dict[str, Any] | None, step: int) -> None:
        if not self._writes():
            return
        try:
            with not_training():
                result = self.evaluate(step)
        except Exception as error:
            if self._on_error == "raise":
                raise
            self.failures.append((step, error))
            reason = str(error) if isinstance(error, ODEvalError) else f"{type(error).__name__}: {error}"
            print(f"warning: {self.run}: the evaluation at step {step} failed: {reason}", file=sys.stderr, flush=True)
            return
        self._in_epoch = self.logs(result)
        if logs is not None:
            logs.update(self._in_epoch)

    def _pictures_are_due(self, step: int, options: EvaluationOptions) -> bool:
        last = self._last_step_with_pictures
        has_some_like_these = last is not None and last < step < last * 17 / 16
        return bool(options.pictures_dir) or not has_some_like_these

    def _report(self, result: EvaluationResult, seconds: float) -> None:
        values = result.log_values()
        shown = [name for name in ("segm_AP", "AP", "AP50", "AR100", "total_loss") if name in values]
        before, self._best = self._best, better(self._best, result)
        if before is None:
            verdict = ""
        elif self._best is result:
            verdict = f"; the best so far, before it was {_main_ap(before):.4g} at step {before.step}"
        else:
            verdict = f"; the best was {_main_ap(before):.4g} at step {before.step}"
        line = "  ".join(f"{name} {values[name]:.4g}" for name in shown)
        speed = f"{result.num_images} images in {seconds:.1f} s"
        print(f"{self.run} at step {result.step}: {line}  ({speed}){verdict}", flush=True)


def _main_ap(result: EvaluationResult) -> float | None:
    """AP of masks, where they are evaluated, or of boxes."""
    return (result.segm or result.bbox or {}).get("AP")


def better(best: EvaluationResult | None, result: EvaluationResult) -> EvaluationResult | None:
    """The one with the higher AP; the older of equals."""
    if _main_ap(result) is None or (best is not None and _main_ap(result) <= _main_ap(best)):
        return best
    return result


def _progress_bar(name: str, num_images: int | None) -> tqdm.tqdm:
    # Into a log file, a line every now and then; on a terminal, a bar that goes when all is done.
    seconds = 0.1 if sys.stderr.isatty() else 10
    return tqdm.tqdm(
        desc=name, total=num_images, unit=" images", file=sys.stderr, leave=False, mininterval=seconds, delay=2
    )


class _MeansOverImages:
    """Means of the losses of batches that may differ in size."""

    def __init__(self) -> None:
        self.num_images = 0
        self._sums: dict[str, float] = {}

    def add(self, losses: Mapping[str, float], num_images: int) -> None:
        self.num_images += num_images
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + loss * num_images

    def result(self) -> dict[str, float]:
        return {name: value / self.num_images for name, value in self._sums.items()}
