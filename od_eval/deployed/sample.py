"""Evaluates a model on a sample of an evaluation set, to be compared with others on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from od_eval.deployed.evaluating import evaluate_model, options_for
from od_eval.deployed.labeled_set import LabeledSet, of_pipeline
from od_eval.deployed.model import DeployedModel
from od_eval.evaluation.analyses.operating_point import choose, cuts
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.labeled_image import LabeledImage
from od_eval.evaluation.object_table import IouType, ObjectTable
from od_eval.evaluation.options import AnalysisOptions
from od_eval.evaluation.result import EvaluationResult


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The evaluation of a model.

    Attributes:
      result: metrics, measurements, and findings.
      tables: the object tables: `bbox`, and `segm` if the model predicts masks and the images have them.
      confidence: that with the highest F1 of boxes.
    """

    result: EvaluationResult
    tables: Mapping[IouType, ObjectTable]
    confidence: float


def sample_of_pipeline(path: str, num_images: int, left_out: LeftOut, masks: bool | None = False) -> LabeledSet:
    """Images of the first `eval_input_reader` of a pipeline.config, spread evenly over it.

    Args:
      path: of the config.
      num_images: how many; all, if there are no more. If their number cannot be known in time, they are the first ones.
      left_out: is given what cannot be evaluated.
      masks: whether masks are read; None: if the reader reads them.

    Raises:
      ODEvalError: the config or its input has to be fixed.
    """
    labeled = of_pipeline(path, masks, left_out)
    total = num_images if labeled.num_images is None else labeled.num_images
    if labeled.num_images is not None and total <= num_images:
        return labeled
    return dataclasses.replace(labeled, images=_spread(labeled.images, num_images, total), num_images=num_images)


def _spread(images: Iterator[LabeledImage], num: int, total: int) -> Iterator[LabeledImage]:
    for index, image in enumerate(images):
        if index == total:
            return
        if (index + 1) * num // total > index * num // total:
            yield image


def evaluate_sample(model: DeployedModel, labeled: LabeledSet, left_out: LeftOut, name: str) -> Evaluated:
    """Runs a model over images, and computes metrics of boxes, and of masks if both have them.

    Args:
      model: the model.
      labeled: the images.
      left_out: that of the images.
      name: of the model, for the progress bar.

    Raises:
      ODEvalError: see `evaluate_model`.
    """
    options = options_for(model, labeled, num_pictures=0, analysis=None)
    evaluator = Evaluator(labeled.categories, masks=options.masks, analysis=None)
    result = evaluate_model(model, labeled, left_out, options=options, evaluators=[evaluator], name=name)
    tables = evaluator.object_tables()
    return Evaluated(result, tables, choose(cuts(tables["bbox"]), AnalysisOptions()).confidence)
