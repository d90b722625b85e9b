"""What the folder of a training tells of it, for diagnoses: while it runs, and afterwards.

    evidence = read_evidence("runs/a")
    findings = od_eval.findings.diagnosis.diagnose(evidence)

It may be a training of this package or of the Object Detection API's own program, of which there is less.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from od_eval import files, losses
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS, metric_tag
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.evidence import Curve, Evidence
from od_eval.runs import analysis_files, metrics_files, object_files
from od_eval.runs.training_events import TrainingEvents
from od_eval.tensorboard import tags

_TOTAL = losses.tag(losses.TOTAL)
_CLASSIFICATION = losses.tag(losses.CLASSIFICATION)


def read_evidence(
    model_dir: str | os.PathLike[str],
    run: str = tags.EVAL,
    *,
    config: ConfigFacts | None = None,
    last_step: int | None = None,
    num_train_images: int | None = None,
    train_objects: Mapping[str, int] | None = None,
) -> Evidence:
    """What is known of a training, finished or running.

    Evaluations come from the files of metrics. A run that has none, as the Object Detection API's own program leaves
    it, has evaluations of what is in its event files: losses and COCO metrics. Their `num_images` is 0: it is unknown.

    Args:
      model_dir: the folder of the training run, local or remote.
      run: the run of the evaluations: `eval`, or `eval/<name>`.
      config: what is known of its pipeline.config.
      last_step: the step at which training is to end; by default as the training's own summary has it.
      num_train_images: by default by the curve `Epoch`, if the config is given.
      train_objects: name of a category -> its number of objects in the training data.

    Raises:
      ODEvalError: a file is damaged; the message names it.
    """
    return EvidenceReader(model_dir, run).read(
        config=config, last_step=last_step, num_train_images=num_train_images, train_objects=train_objects
    )


class EvidenceReader:
    """Reads what is known of a training, again and again while it runs; each time only what is new.

    Args:
      model_dir, run: as for `read_evidence`.
    """

    def __init__(self, model_dir: str | os.PathLike[str], run: str = tags.EVAL):
        self._model_dir = files.absolute(model_dir)
        self._run = run
        self._events = TrainingEvents(os.path.join(self._model_dir, tags.TRAIN))
        self._evaluations = _Evaluations(os.path.join(self._model_dir, run))
        self._of_training_images = _Evaluations(os.path.join(self._model_dir, tags.EVAL_TRAIN))

    def read(
        self,
        *,
        newest: EvaluationResult | None = None,
        load_objects: Callable[[], pd.DataFrame | None] | None = None,
        config: ConfigFacts | None = None,
        last_step: int | None = None,
        num_train_images: int | None = None,
        train_objects: Mapping[str, int] | None = None,
    ) -> Evidence:
        """What is known now.

        Args:
          newest: an evaluation that is not in files yet. Those of later steps are left out.
          load_objects: reads its objects; by default those in files.
          config, last_step, num_train_images, train_objects: as for `read_evidence`.

        Raises:
          ODEvalError: a file is damaged; the message names it.
        """
        curves = _with_categories(self._events.curves())
        evaluations = self._evaluations.read()
        if newest is not None:
            step = newest.step or 0
            evaluations = [*(result for result in evaluations if (result.step or 0) < step), newest]
        if num_train_images is None and config is not None:
            num_train_images = _images_of_an_epoch(curves.get(tags.EPOCH), config.batch_size)
        return Evidence(
            curves=curves,
            evaluations=evaluations,
            train_evaluations=self._of_training_images.read(),
            config=config,
            last_step=self._events.last_step if last_step is None else last_step,
            num_train_images=num_train_images,
            train_objects=train_objects,
            load_objects=load_objects or self._objects_in_files,
        )

    def _objects_in_files(self) -> pd.DataFrame | None:
        run_dir, name = os.path.join(self._model_dir, self._run), object_files.FILE_NAMES["bbox"]
        steps = analysis_files.steps(run_dir)
        if not any(files.exists(os.path.join(analysis_files.of_step(run_dir, step), name)) for step in steps):
            return None
        return object_files.load_objects(self._model_dir, run=self._run)


class _Evaluations:
    """The evaluations of a run, of which each file is read once."""

    def __init__(self, run_dir: str):
        self._run_dir = run_dir
        self._read: dict[str, tuple[tuple[int, float], EvaluationResult]] = {}
        self._events: TrainingEvents | None = None

    def read(self) -> list[EvaluationResult]:
        """All there are, by ascending step."""
        paths = metrics_files.step_paths(self._run_dir)
        if not paths:
            self._events = self._events or TrainingEvents(self._run_dir)
            return _evaluations_of(_with_categories(self._events.curves()))
        read = {}
        for step, path in paths.items():
            written = files.size(path), files.modified(path)
            known = self._read.get(path)
            if known is not None and known[0] == written:
                read[path] = known
            elif (result := metrics_files.read_step(self._run_dir, step)) is not None:
                read[path] = written, result
        self._read = read
        return [result for _, result in read.values()]


def _with_categories(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """With the curves of the categories of losses, where only their parts were logged."""
    total = curves.get(_TOTAL)
    if total is None or _CLASSIFICATION in curves:
        return dict(curves)
    parts = {
        tag: curve.values
        for tag, curve in curves.items()
        if tag.startswith(losses.NATIVE_PREFIX) and np.array_equal(curve.steps, total.steps)
    }
    if len(parts) == 1:
        return dict(curves)
    sums = losses.categorize(parts)
    return {
        **curves,
        **{losses.tag(name): Curve(total.steps, np.broadcast_to(sums[name], len(total))) for name in sums},
    }


def _evaluations_of(curves: Mapping[str, Curve]) -> list[EvaluationResult]:
    """Evaluations of what a run has in TensorBoard."""
    sections: dict[int, dict[str, Any]] = {}

    def add(section: str, name: str, curve: Curve) -> None:
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            sections.setdefault(step, {}).setdefault(section, {})[name] = value

    for name in losses.CATEGORIES:
        if losses.tag(name) in curves:
            add("losses", name, curves[losses.tag(name)])
    for iou_type in ("bbox", "segm"):
        for name in COCO_METRICS:
            if metric_tag(name, iou_type) in curves:
                add(iou_type, name, curves[metric_tag(name, iou_type)])
    for of_step in sections.values():
        for iou_type in of_step.keys() & {"bbox", "segm"}:
            # pycocotools' -1: there is no object of this size.
            values = {name: of_step[iou_type].get(name, -1) for name in COCO_METRICS}
            of_step[iou_type] = {name: value if value >= 0 else None for name, value in values.items()}
    return [EvaluationResult(0, step=step, **sections[step]) for step in sorted(sections)]


def _images_of_an_epoch(epoch: Curve | None, batch_size: int) -> int | None:
    """The number of training images, by the passes over them after so many steps."""
    if epoch is None or not epoch.values[-1] > 0:
        return None
    return round(int(epoch.steps[-1]) * batch_size / float(epoch.values[-1]))
