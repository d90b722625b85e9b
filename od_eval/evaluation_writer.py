"""Writes one evaluation wherever it goes: the files of its run, TensorBoard, pictures.

pictures = Pictures(options)
for batch in batches:
    pictures.add(batch)
    evaluator.update(batch)
write("runs/a/eval", evaluator.evaluate(step=1000), options, pictures)
"""

from __future__ import annotations

import io
import itertools
import os
from typing import Any

from PIL import Image

from od_eval import result_files
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import EvaluationOptions
from od_eval.evaluation.result import EvaluationResult
from od_eval.files import write_whole
from od_eval.tensorboard import layout, metrics, tags, writers
from od_eval.tensorboard.pictures import file_name, pictures_of


class Pictures:
    """Pictures of the first images of an evaluation.

    Args:
      options: how many, and how they are drawn.

    Attributes:
      by_tag: TensorBoard's tag -> picture, uint8 `[height, width, 3]`.
    """

    def __init__(self, options: EvaluationOptions):
        self._options = options
        self.by_tag: dict[str, Any] = {}
        self._by_file_name: dict[str, Any] = {}

    def add(self, batch: EvaluationBatch) -> None:
        """Draws images of the batch, as many as are still missing.

        Raises:
          ODEvalError: `groundtruth_color` is no colour.
        """
        missing = max(self._options.num_pictures - len(self.by_tag), 0)
        for image_id, picture in itertools.islice(pictures_of(batch, self._options), missing):
            self.by_tag[tags.picture(len(self.by_tag))] = picture
            self._by_file_name[file_name(image_id)] = picture

    def write_files(self, folder: str) -> None:
        """Writes them as PNG files, called by the ids of their images as far as these are harmless.

        Raises:
          ODEvalError: a file cannot be written.
        """
        for name, picture in self._by_file_name.items():
            encoded = io.BytesIO()
            Image.fromarray(picture).save(encoded, "PNG")
            write_whole(os.path.join(folder, name), encoded.getvalue())


def write(
    run_dir: str,
    result: EvaluationResult,
    options: EvaluationOptions,
    pictures: Pictures,
    *,
    evaluator: Evaluator | None = None,
    with_layout: bool = True,
) -> None:
    """Writes an evaluation.

    Args:
      run_dir: the folder of its TensorBoard run, where the files go, too.
      result: of a step.
      options: of the evaluation.
      pictures: of its images; may be none.
      evaluator: with `options.save_detections`, whose ground truth and detections are written.
      with_layout: whether to write the layout of TensorBoard's Custom Scalars; once a run is enough.

    Raises:
      ODEvalError: a file cannot be written.
    """
    if evaluator is not None and options.save_detections:
        result_files.write_coco(run_dir, result.step, evaluator)
    if options.pictures_dir:
        pictures.write_files(os.path.join(options.pictures_dir, f"step-{result.step:08d}"))
    if with_layout:
        layout.write(run_dir, options)
    writers.write_scalars(run_dir, result.step, metrics.scalars(result, options.per_category))
    writers.write_pictures(run_dir, result.step, pictures.by_tag)
    result_files.write(run_dir, result)  # last: a step that is there counts as evaluated
