"""What to evaluate during training, and what depends on it: the evaluation sets, best checkpoint, early stopping."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from od_eval.callbacks.best_checkpoint import BestCheckpoint
from od_eval.callbacks.detection_evaluation import DetectionEvaluation
from od_eval.callbacks.early_stopping import EarlyStopping
from od_eval.callbacks.evaluation_set import EvaluationSet
from od_eval.errors import ODEvalError
from od_eval.evaluation.options import AnalysisOptions, EvaluationOptions
from od_eval.evaluation.section import all_sections
from od_eval.evaluation.sections.certainty import CERTAIN
from od_eval.findings.finding import raise_first_error
from od_eval.odapi import config_checks
from od_eval.odapi.config_checks.evaluation_sets import run_name
from od_eval.odapi.kept_in_memory import KeptInMemory
from od_eval.odapi.pipeline import Pipeline
from od_eval.tensorboard import tags


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
    """What to evaluate during training, or for its checkpoints.

    Attributes:
      batch_size: batch size of the evaluation; by default `eval_config.batch_size`.
      sample_1_of_n_examples: evaluates one in n images; by default `eval_input_reader.sample_1_of_n_examples`.
      on_train_data: whether to evaluate a sample of the training data as well, without augmentation.
      sample_1_of_n_train_examples: takes one in n of its images.
      save_detections: whether to write ground truth and detections in COCO format.
      analysis: how errors are analysed; None for not at all.
      best_metric: the key of `logs` that decides which checkpoint is the best; by default the AP.
      best_needs_certainty: whether the best checkpoint, and early stopping, heed the AP only where it has improved
        beyond chance: `val_AP_certain` (or `val_segm_AP_certain`) takes the place of the AP.
      early_stopping_metric: the key of `logs` to monitor for early stopping; None: no early stopping.
      early_stopping_patience: evaluations without improvement after which training stops.
      early_stopping_min_delta: the smallest change that counts as improvement.
    """

    batch_size: int | None = None
    sample_1_of_n_examples: int | None = None
    on_train_data: bool = False
    sample_1_of_n_train_examples: int = 5
    save_detections: bool = False
    analysis: AnalysisOptions | None = dataclasses.field(default_factory=AnalysisOptions)
    best_metric: str | None = None
    best_needs_certainty: bool = False
    early_stopping_metric: str | None = None
    early_stopping_patience: int = 5
    early_stopping_min_delta: float = 0.0

    def apply(self, pipeline: Pipeline) -> None:
        """Writes batch size and sampling into the config.

        Raises:
          ODEvalError: one of the metrics does not exist.
        """
        self._check_metrics(pipeline)
        config = pipeline.config
        if self.batch_size is not None:
            config.eval_config.batch_size = self.batch_size
        if self.sample_1_of_n_examples is not None:
            for reader in config.eval_input_reader:
                reader.sample_1_of_n_examples = self.sample_1_of_n_examples

    def check(self, pipeline: Pipeline) -> EvaluationOptions:
        """Checks the evaluation inputs before anything is built; returns the options of the config.

        Raises:
          ODEvalError: an input reader or `eval_config` has to be fixed.
        """
        _runs(pipeline)
        for index, reader in enumerate(pipeline.config.eval_input_reader):
            pipeline.check_input(f"eval_input_reader[{index}]", reader)
        options = dataclasses.replace(pipeline.evaluation.options, analysis=self.analysis)
        return dataclasses.replace(options, save_detections=True) if self.save_detections else options

    def evaluations(
        self,
        pipeline: Pipeline,
        options: EvaluationOptions,
        model_dir: str,
        checkpoint: Callable[[int], str | None],
        interruptible: Callable[[Iterable[Any]], Iterable[Any]],
        on_error: Literal["report", "raise"],
        findings: Callable[[], list[Any]],
        known: Callable[[], Mapping[str, Any]] = dict,
    ) -> list[DetectionEvaluation]:
        """The callbacks that evaluate: one for each `eval_input_reader`, and one for the training data if requested.

        Args:
          pipeline: provides the datasets.
          options: from `check`.
          model_dir: the folder of the runs.
          checkpoint, on_error, findings, known: as for `DetectionEvaluation`.
          interruptible: wraps batches so that an evaluation can be interrupted.
        """
        return [
            DetectionEvaluation(
                dataset,
                model_dir,
                **about,
                checkpoint=checkpoint,
                on_error=on_error,
                findings=findings,
                known=known,
            )
            for dataset, about in self._datasets(pipeline, options, interruptible)
        ]

    def evaluation_sets(
        self,
        pipeline: Pipeline,
        options: EvaluationOptions,
        model_dir: str,
        findings: Callable[[], list[Any]],
        known: Callable[[], Mapping[str, Any]] = dict,
    ) -> list[EvaluationSet]:
        """The same sets for evaluations without training; arguments as for `evaluations`."""
        return [
            EvaluationSet(dataset, model_dir, **about, findings=findings, diagnose=True, known=known)
            for dataset, about in self._datasets(pipeline, options, interruptible=lambda batches: batches)
        ]

    def _datasets(
        self,
        pipeline: Pipeline,
        options: EvaluationOptions,
        interruptible: Callable[[Iterable[Any]], Iterable[Any]],
    ) -> Iterator[tuple[Iterable[Any], dict[str, Any]]]:
        """Each dataset to evaluate on, with its run, the prefix of its keys in `logs` and its options."""
        for index, (run, prefix) in enumerate(_runs(pipeline)):
            dataset = KeptInMemory(pipeline.eval_dataset(index), interruptible)
            yield dataset, {"run": run, "prefix": prefix, "options": options}
        if self.on_train_data:
            dataset = KeptInMemory(pipeline.train_sample_dataset(self.sample_1_of_n_train_examples), interruptible)
            masks = options.masks and pipeline.config.train_input_reader.load_instance_masks
            options = dataclasses.replace(options, masks=masks)
            yield dataset, {"run": tags.EVAL_TRAIN, "prefix": "val_train_", "options": options}

    def best_checkpoint(self, model_dir: str) -> BestCheckpoint:
        """The callback that keeps the best checkpoint."""
        return BestCheckpoint(model_dir, self.best_metric, needs_certainty=self.best_needs_certainty)

    def early_stopping(self, evaluations: Iterable[DetectionEvaluation]) -> EarlyStopping | None:
        """Keras's early stopping, or None if it is not requested."""
        if self.early_stopping_metric is None:
            return None
        return EarlyStopping(
            evaluations,
            monitor=self.early_stopping_metric + (CERTAIN if self.best_needs_certainty else ""),
            patience=self.early_stopping_patience,
            min_delta=self.early_stopping_min_delta,
        )

    def _check_metrics(self, pipeline: Pipeline) -> None:
        if not 0 <= self.early_stopping_min_delta < math.inf:
            raise ODEvalError(
                f"early_stopping_min_delta={self.early_stopping_min_delta} is no change that a metric can make; give a"
                " number of 0 or more."
            )
        if self.best_needs_certainty:
            self._check_certainty(pipeline)
        if not self.best_metric and not self.early_stopping_metric:
            return
        names = {name for section in all_sections().values() for name in section.log_names}
        prefixes = [prefix for _, prefix in _runs(pipeline)] + (["val_train_"] if self.on_train_data else [])
        decides = {"best_metric": self.best_metric, "early_stopping_metric": self.early_stopping_metric}
        for argument, key in decides.items():
            # A key with a / is the tag of another metric, and those are only known after an evaluation.
            known = key is None or "/" in key or any(key == prefix + name for prefix in prefixes for name in names)
            if not known:
                raise ODEvalError(
                    f"{argument} is '{key}', but there is no such metric; there are {prefixes[0]}AP, {prefixes[0]}AP50,"
                    f" {prefixes[0]}AR100, {prefixes[0]}total_loss and the like"
                    + (f", and the same with {', '.join(prefixes[1:])}." if prefixes[1:] else ".")
                )

    def _check_certainty(self, pipeline: Pipeline) -> None:
        main = f"val_{'segm_' if pipeline.evaluation.options.masks else ''}AP"
        if self.analysis is None:
            raise ODEvalError("best_needs_certainty needs the analyses of errors; leave out analysis=false.")
        for argument in ("best_metric", "early_stopping_metric"):
            if getattr(self, argument) not in (None, main):
                raise ODEvalError(
                    f"best_needs_certainty is about {main}, and {argument} is '{getattr(self, argument)}'; leave one of"
                    " the two out."
                )


def _runs(pipeline: Pipeline) -> list[tuple[str, str]]:
    """For each `eval_input_reader`, its TensorBoard run and the prefix of its keys in `logs`.

    Raises:
      ODEvalError: there is none, or a name is not that of a run.
    """
    raise_first_error(config_checks.findings("evaluation_sets", pipeline.config, pipeline.source))
    names = [run_name(index, reader.name) for index, reader in enumerate(pipeline.config.eval_input_reader)]
    return [
        (os.path.normpath(os.path.join(tags.EVAL, name)), f"val_{name}_" if index else "val_")
        for index, name in enumerate(names)
    ]
