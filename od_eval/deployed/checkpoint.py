"""Checkpoints, run by the `Detector` of their pipeline.config, with the confidences of their evaluation."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

import numpy as np

from od_eval import checkpoint_files, files
from od_eval.deployed.model import DeployedModel, DetectionsOfImage, Image, check_number_of_classes
from od_eval.deployed.tensorflow_runtime import start_tensorflow
from od_eval.errors import ODEvalError
from od_eval.odapi.pipeline import Pipeline

_RUN = "eval"


class CheckpointModel(DeployedModel):
    """A checkpoint of a training, with the moving averages of its weights if its config says so.

    Its confidences are those with the highest F1 in the evaluation of this checkpoint, or else in the newest one of the
    model_dir that it lies in.

    Args:
      path: a checkpoint, or a folder of them: a model_dir, whose best one is taken, or else its newest.
      pipeline: its config.
      num_threads: as for `TFLiteModel`.
      label_map: its path and its categories, id -> name; None: that of the config.

    Raises:
      ODEvalError: it cannot be read, belongs to another model than the config's, or to another label map.
    """

    format = "checkpoint"

    def __init__(
        self, path: str, pipeline: Pipeline, num_threads: int | None, label_map: tuple[str, Mapping[int, str]] | None
    ):
        self.runtime = start_tensorflow(num_threads)
        from od_eval.odapi.checkpoints import existing_checkpoint, step_of
        from od_eval.odapi.model_inputs import fixed_input_size
        from od_eval.odapi.restored import restored_detector
        from od_eval.runs.model_dir import best_or_newest

        with files.errors_as_sentences(f"'{path}' cannot be looked up"):
            checkpoint = best_or_newest(path) if files.is_folder(path) else path
        self.path = existing_checkpoint(checkpoint, "checkpoint", "correct the path")
        self._detector = restored_detector(pipeline, self.path)
        if self._detector.side_input_specs:
            raise ODEvalError(
                f"'{path}' needs {', '.join(self._detector.side_input_specs)} in addition to images, which detect does"
                " not take; use Detector.detect."
            )
        self._weights = contextlib.ExitStack()  # they stay as they are evaluated
        self._weights.enter_context(self._detector.evaluation_weights())
        self.name = os.path.basename(self.path)
        self.quantization = "none"
        self.num_threads = num_threads
        self.file_size = sum(map(files.size, checkpoint_files.files_of(self.path)))
        self.input_size = fixed_input_size(pipeline.config)
        self.step = step_of(self.path)
        self.predicts_masks = pipeline.evaluation.predicts_masks
        if chosen := chosen_confidence(self.path, self.step, pipeline.evaluation.categories):
            self.confidence, self.confidence_source = chosen
        if label_map is None:
            self.categories: Mapping[int, str] = pipeline.evaluation.categories
        else:
            source, self.categories = label_map
            check_number_of_classes(self.categories, pipeline.num_classes, self.path, source, is_given=True)

    def _detect(self, image: Image) -> DetectionsOfImage:
        found = self._detector.detect(image[np.newaxis])
        assert found.num is not None
        num = int(found.num[0])
        boxes, scores, classes = (np.asarray(column[0])[:num] for column in (found.boxes, found.scores, found.classes))
        masks = None if found.masks is None else np.asarray(found.masks[0])[:num]
        return DetectionsOfImage(boxes, scores, classes.astype(np.int64), masks)


def chosen_confidence(
    checkpoint: str, step: int | None, categories: Mapping[int, str]
) -> tuple[Mapping[int, float], str] | None:
    """The confidences that the evaluation of a checkpoint chose, or else the newest evaluation of its model_dir.

    Args:
      checkpoint: its path.
      step: of its weights; None if unknown.
      categories: id -> name in the evaluation.

    Returns:
      Category id -> confidence, and which evaluation that is, for messages; None if there is none that chose any.
    """
    from od_eval.odapi.model_description import described_categories
    from od_eval.runs import best, metrics_files

    folder = os.path.dirname(files.absolute(checkpoint))
    around = os.path.dirname(folder)
    run_dir = os.path.join(around if folder == best.directory_in(around) else folder, _RUN)
    steps = metrics_files.step_paths(run_dir)
    if not steps:
        return None
    of_step = step if step in steps else max(steps)
    try:
        evaluation = metrics_files.read_step(run_dir, of_step)
    except ODEvalError as error:
        print(f"warning: no confidence is taken from an evaluation: {error}", file=sys.stderr, flush=True)
        return None
    described, overall = described_categories(categories, evaluation and evaluation.operating_point)
    chosen = {one["id"]: overall if one["confidence"] is None else one["confidence"] for one in described}
    confidence = {id: least for id, least in chosen.items() if least is not None}
    newest = "" if of_step == step else ", the newest,"
    return (confidence, f"the evaluation of step {of_step}{newest} in {run_dir}") if confidence else None
