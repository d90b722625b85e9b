"""DetectionEvaluation: evaluates a detector while it trains."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from od_eval.callbacks.evaluation_callback import EvaluationCallback
from od_eval.callbacks.evaluation_set import EvaluationSet
from od_eval.evaluation.analysis import ExtraMetrics
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.options import EvaluationOptions
from od_eval.tensorboard import tags


class DetectionEvaluation(EvaluationCallback):
    """Evaluates a detector while it trains: validation losses, COCO metrics, pictures of detections.

    At the end of every epoch, or every few epochs or steps, it runs the model over a dataset and

    * adds `val_AP`, `val_AP50`, …, `val_AR100`, `val_total_loss`, … to Keras's `logs`, for the callbacks that come
      after this one: `EarlyStopping("val_AP", mode="max")`, `CSVLogger`, `od_eval.BestCheckpoint`. A metric that is not
      defined, because the data has no object of that size, is left out. Mask metrics are `val_segm_AP` and so on;
    * writes losses and metrics to TensorBoard, to the run `<log_dir>/eval`, under the tags used in training and in the
      Object Detection API, with pictures of the first images. In a long training run pictures become rarer: after an
      evaluation with pictures, the next one with pictures comes when the step has grown by 1/16. (TensorBoard shows at
      most ten steps of a picture.) With `options.pictures_dir`, every evaluation has pictures;
    * writes all numbers to files, before anything is drawn: `<log_dir>/eval/metrics.json` holds the latest evaluation,
      `metrics/step-….json` each of them, `metrics.csv` one row for each;
    * prints the metrics on one line, and whether they are the best so far; below the first line, which values are good
      by convention, and how the losses are computed.

    An evaluation that fails does not end training unless `on_error` says so: the cause is printed, and the failure is
    added to `failures`. Resumed training continues the run: evaluations of later steps are removed, as `LossLogger`
    does with its points.

    With several workers (`MultiWorkerMirroredStrategy`) every one of them must have this callback. The images of a
    `Detector` are shared among them, and among the GPUs of each; the chief alone writes, and all have the metrics in
    `logs`. Any other model is run over all images by each of them.

    Args:
      dataset: what to evaluate on; iterated once per evaluation. `pipeline.eval_dataset()` for a `Detector`.
      log_dir: the folder that contains the run; the same as for `LossLogger`.
      detect: for models other than a `Detector`: a function of the model and one element of the dataset that returns an
        `EvaluationBatch` with detections and ground truth. It requires `options`.
      options: what to evaluate and what to show; by default those of the `Detector`'s config.
      run: the TensorBoard run below `log_dir`. Each dataset needs its own: `eval/night`, `eval_train`.
      prefix: prefix of the keys in `logs`, such as `val_night_` for a second dataset.
      every_n_epochs: epochs between evaluations.
      every_n_steps: training steps between evaluations, instead of epochs.
      on_error: `report` prints why an evaluation failed and continues training; `raise` ends it.
      checkpoint: a function that maps the step to the path of a checkpoint with the evaluated weights, or None; the
        path is recorded in the files.
      findings: returns what is known to be wrong with the data, as plain data, for the section `findings` of
        `metrics.json`; by default nothing.
      extra_metrics: name -> function of the object table of boxes (as `od_eval.load_objects` returns it) that returns a
        number, or numbers by name. They become scalars `Custom/<name>`, entries of `logs` and of `metrics.json`.
      diagnose: whether to diagnose the training after every evaluation, by its curves in `<log_dir>/train`, which
        `LossLogger` writes, and its evaluations: what is wrong, why, and what to do. The findings are in the section
        `findings` of `metrics.json` and in TensorBoard's Text, the newest first; new ones are printed. Training images
        (the run `eval_train`) are not diagnosed, but compared with.
      known: returns what diagnoses cannot know of the training by its files and its model, as keyword arguments of
        `od_eval.runs.run_evidence.read_evidence`: `{"last_step": 10_000}`.

    Attributes:
      run, options: as given.
      run_dir: the folder of the run.
      results: the evaluations made so far.
      failures: step and error of each evaluation that failed.

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
        findings: Callable[[], list[Any]] = list,
        extra_metrics: ExtraMetrics | None = None,
        diagnose: bool = True,
        known: Callable[[], Mapping[str, Any]] = dict,
    ):
        if not os.fspath(log_dir):
            raise ValueError("log_dir is empty; DetectionEvaluation needs a folder to write to.")
        if detect is not None and options is None:
            raise ValueError("with detect, options are needed: options=EvaluationOptions(categories={1: 'cat'}).")
        evaluations = EvaluationSet(
            dataset,
            log_dir,
            run=run,
            prefix=prefix,
            options=options,
            detect=detect,
            findings=findings,
            extra_metrics=extra_metrics,
            diagnose=diagnose,
            known=known,
            asked_by="DetectionEvaluation",
        )
        super().__init__(
            evaluations,
            every_n_epochs=every_n_epochs,
            every_n_steps=every_n_steps,
            on_error=on_error,
            checkpoint=checkpoint,
        )
        self.options = options
