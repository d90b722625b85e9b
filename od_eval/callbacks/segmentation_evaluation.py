"""SegmentationEvaluation: evaluates semantic segmentation while a model trains."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from od_eval.callbacks.evaluation_callback import EvaluationCallback
from od_eval.callbacks.segmentation_set import SegmentationSet
from od_eval.evaluation.segmentation.batch import SegmentationBatch
from od_eval.evaluation.segmentation.options import SegmentationOptions
from od_eval.tensorboard import tags


class SegmentationEvaluation(EvaluationCallback):
    """Evaluates the semantic segmentation of a model while it trains: losses, IoU and other metrics, pictures.

    At the end of every epoch, or every few epochs or steps, it runs the model over a dataset and

    * adds `val_IoU`, `val_pixel_accuracy`, `val_segmentation_AP`, `val_total_loss`, … to Keras's `logs`, for the
      callbacks that come after this one: `EarlyStopping("val_IoU", mode="max")`, `CSVLogger`, `od_eval.BestCheckpoint`;
    * writes losses and metrics to TensorBoard, to the run `<log_dir>/eval`, with pictures of the first and of the worst
      images: the image, its ground truth, its prediction and the pixels that are wrong. In a long training pictures
      become rarer, as with `DetectionEvaluation`;
    * writes all numbers to files, before anything is drawn: `<log_dir>/eval/metrics.json` holds the latest evaluation,
      `metrics/step-….json` each of them, `metrics.csv` one row for each, and `analysis/step-…/` images, confusion
      matrix and label images;
    * prints the metrics on one line, and whether they are the best so far.

    The losses are those of `segment`: by default, of the loss that the model was compiled with. Of a model with several
    they are those of Keras's validation, if there is one.

    Errors, resumed training and several workers are treated as by `DetectionEvaluation`. A training with both callbacks
    needs a run for each: `run="eval/segmentation"`.

    Args:
      dataset: what to evaluate on; iterated once per evaluation. Its elements are images and labels, unless there is
        `segment`.
      log_dir: the folder that contains the run; the same as for `LossLogger`.
      options: the categories, the label to ignore, whether the model returns logits, and what to show.
      segment: for other models and datasets: a function of the model and one element of the dataset that returns a
        `SegmentationBatch`. By default the element is images and labels, and the model's output has a logit or a
        probability for each class; see `od_eval.callbacks.segmentation_set.ImagesAndLabels`.
      run, prefix, every_n_epochs, every_n_steps, on_error, checkpoint, diagnose, known: as for `DetectionEvaluation`.

    Attributes:
      run, options: as given.
      run_dir: the folder of the run.
      results: the evaluations made so far.
      failures: step and error of each evaluation that failed.

    Example:

    >>> model.compile("adam", od_eval.DiceCrossEntropyLoss(ignore_label=255))
    >>> options = od_eval.SegmentationOptions({0: "background", 1: "cat", 2: "dog"}, ignore_label=255)
    >>> model.fit(train, epochs=20, callbacks=[
    ...     od_eval.LossLogger("runs/a"),
    ...     od_eval.SegmentationEvaluation(validation, "runs/a", options=options),
    ...     od_eval.BestCheckpoint("runs/a")])

    And for any other model:

    >>> def segment(model, element):
    ...     return od_eval.SegmentationBatch(
    ...         image_ids=element["id"].numpy().tolist(), labels=element["labels"].numpy(),
    ...         scores=model.predict_on_batch(element["image"])["probabilities"], images=element["image"].numpy())
    >>> od_eval.SegmentationEvaluation(dataset, "runs/a", options=options, segment=segment)
    """

    def __init__(
        self,
        dataset: Iterable[Any],
        log_dir: str | os.PathLike[str],
        *,
        options: SegmentationOptions,
        segment: Callable[[Any, Any], SegmentationBatch] | None = None,
        run: str = tags.EVAL,
        prefix: str = "val_",
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        on_error: Literal["report", "raise"] = "report",
        checkpoint: Callable[[int], str | None] | None = None,
        diagnose: bool = True,
        known: Callable[[], Mapping[str, Any]] = dict,
    ):
        if not os.fspath(log_dir):
            raise ValueError("log_dir is empty; SegmentationEvaluation needs a folder to write to.")
        evaluations = SegmentationSet(
            dataset,
            log_dir,
            options=options,
            segment=segment,
            run=run,
            prefix=prefix,
            diagnose=diagnose,
            known=known,
        )
        super().__init__(
            evaluations,
            every_n_epochs=every_n_epochs,
            every_n_steps=every_n_steps,
            on_error=on_error,
            checkpoint=checkpoint,
        )
        self.options = options
