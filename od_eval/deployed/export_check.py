"""An exported model against the checkpoint that it was made of, on the evaluation set.

checked = check_export("runs/a/exported", "runs/a/pipeline.config", "runs/a/best/ckpt-1200")
checked.comparison.overall["AP"].difference, checked.findings, checked.is_ok
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

from od_eval import files
from od_eval.deployed.causes import ExportSettings, Loss, causes, unknown_cause
from od_eval.deployed.checkpoint import CheckpointModel
from od_eval.deployed.labeled_set import LabeledSet
from od_eval.deployed.loading import load_model
from od_eval.deployed.model import DeployedModel
from od_eval.deployed.quantized_layers import LayerDifference, quantized_layers
from od_eval.deployed.sample import Evaluated, evaluate_sample, sample_of_pipeline
from od_eval.deployed.tflite import TFLiteModel
from od_eval.evaluation.analyses.comparison import ComparedScore, Comparison, compare
from od_eval.evaluation.analyses.intervals import MIN_IMAGES
from od_eval.evaluation.coco_files import LeftOut
from od_eval.findings.finding import Finding, findings_in, most_important_first
from od_eval.model_json import FILE_NAME
from od_eval.odapi.as_trained import as_trained, resizer, suppression
from od_eval.odapi.model_inputs import side_input_specs
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.records import input_files
from od_eval.text import printable

NUM_IMAGES = 500
MAX_AP_DROP = 0.02


@dataclasses.dataclass(frozen=True)
class ExportCheck:
    """What an export keeps of its checkpoint.

    Attributes:
      comparison: of boxes: A is the checkpoint, B the exported model.
      of_masks: the same of masks; None if the model predicts none or the evaluation set has none.
      findings: what was found in the data and in the use of the model; and if it loses too much, `ap_drop` and why that
        may be.
      is_ok: whether it loses no more than it may.
    """

    comparison: Comparison
    of_masks: Comparison | None
    findings: list[Finding]
    is_ok: bool


def check_export(
    directory: str,
    pipeline_config_path: str,
    checkpoint: str,
    *,
    overrides: Sequence[str] = (),
    num_images: int = NUM_IMAGES,
    max_ap_drop: float = MAX_AP_DROP,
) -> ExportCheck:
    """Evaluates a checkpoint and what was exported of it on the same images; writes progress to stdout.

    The checkpoint detects as it was trained: with the image resizer and the non-maximum suppression of the config,
    without overrides.

    Args:
      directory: the folder of the export.
      pipeline_config_path, checkpoint, overrides: as they were given to the export.
      num_images: of the first `eval_input_reader`, spread evenly over it.
      max_ap_drop: how much AP it may lose.

    Raises:
      ODEvalError: the exported model cannot be loaded or run, or the evaluation set cannot be read.
    """
    exported_pipeline = Pipeline.load(pipeline_config_path, overrides)
    trained_pipeline = as_trained(exported_pipeline, Pipeline.load(pipeline_config_path, check=False))
    config = os.path.join(directory, "pipeline.config")
    settings = ExportSettings(
        description=files.read_json(os.path.join(directory, FILE_NAME)),
        trained_suppression=suppression(trained_pipeline),
        exported_suppression=suppression(exported_pipeline),
        trained_resizer=resizer(trained_pipeline),
        exported_resizer=resizer(exported_pipeline),
    )
    exported = load_model(directory)
    masks = None if exported.predicts_masks else False
    return check_models(
        CheckpointModel(checkpoint, trained_pipeline, None, None),
        exported,
        lambda left_out: sample_of_pipeline(config, num_images, left_out, masks),
        settings,
        max_ap_drop,
    )


def check_models(
    checkpoint: DeployedModel,
    exported: DeployedModel,
    sample: Callable[[LeftOut], LabeledSet],
    settings: ExportSettings,
    max_ap_drop: float = MAX_AP_DROP,
) -> ExportCheck:
    """Evaluates a checkpoint and what was exported of it on the same images; writes progress to stdout.

    Args:
      checkpoint, exported: the models.
      sample: gives the images, each time anew, and adds to its argument what is left out.
      settings: of the export.
      max_ap_drop: how much AP it may lose.

    Raises:
      ODEvalError: a model cannot be run, or an image cannot be read.
    """
    of_checkpoint, of_exported = (
        _evaluated(model, sample, what) for model, what in ((checkpoint, "checkpoint"), (exported, "exported model"))
    )
    comparisons = {
        iou_type: compare(table, of_exported.tables[iou_type], of_checkpoint.confidence, of_exported.confidence)
        for iou_type, table in of_checkpoint.tables.items()
        if iou_type in of_exported.tables
    }
    comparison, of_masks = comparisons["bbox"], comparisons.get("segm")
    found = findings_in(of_exported.result.findings)
    score = comparison.overall["AP"]
    if not score.a or score.difference is None:
        return ExportCheck(comparison, of_masks, [*found, _nothing_to_lose(score, comparison)], True)
    drops = [_ap_drop(exported.path, of, max_ap_drop) for of in comparisons.values() if _lost(of) > max_ap_drop]
    if not drops:
        return ExportCheck(comparison, of_masks, found, True)
    layers = _layers(exported, sample)
    lost = max(map(_lost, comparisons.values()))
    loss = Loss(exported.path, of_checkpoint.tables["bbox"], of_exported.tables["bbox"], lost, settings, layers)
    told = causes(loss)
    is_misused = any(one.severity == "error" for one in found)
    if not told and not is_misused:
        told = [unknown_cause(exported.path)]
    found = most_important_first([*found, *told])
    return ExportCheck(comparison, of_masks, [*drops, *found], False)


def why_unchecked(pipeline_config_path: str, overrides: Sequence[str], input_type: str) -> str:
    """Why an export cannot be checked, as a clause; empty if it can.

    Args:
      pipeline_config_path, overrides, input_type: as for the export.
    """
    pipeline = Pipeline.load(pipeline_config_path, overrides)
    if input_type not in ("image_tensor", "float_image_tensor"):
        return f"a model with input_type={input_type} does not take images alone"
    if side_inputs := side_input_specs(pipeline.config):
        return f"it needs {', '.join(side_inputs)} in addition to images"
    if not pipeline.config.eval_input_reader:
        return f"{pipeline.source} has no eval_input_reader"
    if not input_files(pipeline.config.eval_input_reader[0]):
        return f"the files of eval_input_reader[0] of {pipeline.source} are not there"
    return ""


def _evaluated(model: DeployedModel, sample: Callable[[LeftOut], LabeledSet], what: str) -> Evaluated:
    left_out = LeftOut()
    labeled = sample(left_out)
    num = "the" if labeled.num_images is None else f"{labeled.num_images}"
    print(printable(f"Evaluating the {what}, {model.path}, on {num} images of {labeled.source} …"), flush=True)
    return evaluate_sample(model, labeled, left_out, what)


def _layers(model: DeployedModel, sample: Callable[[LeftOut], LabeledSet]) -> list[LayerDifference]:
    if not isinstance(model, TFLiteModel) or model.quantization not in ("int8", "full_int8"):
        return []
    print("Comparing the layers with those in float32 …", flush=True)
    saved_model = os.path.join(os.path.dirname(model.path), "saved_model")
    inputs = (model.input_of(one.image) for one in sample(LeftOut()).images)
    return quantized_layers(files.read_bytes(model.path), saved_model, inputs)


def _nothing_to_lose(score: ComparedScore, comparison: Comparison) -> Finding:
    what = "none of them has an object" if score.a is None else "the checkpoint finds nothing in them"
    return Finding(
        kind="nothing_to_compare",
        severity="warning",
        where="",
        symptom=f"on {comparison.num_images} images the exported model cannot be compared: {what}",
        remedy="",
        evidence={"num_images": comparison.num_images},
    )


def _lost(of: Comparison) -> float:
    """The AP that the exported model loses; 0 if it is not defined."""
    return -(of.overall["AP"].difference or 0.0)


def _ap_drop(path: str, of: Comparison, max_ap_drop: float) -> Finding:
    score, drop = of.overall["AP"], _lost(of)
    sure = (
        f"with less than {MIN_IMAGES} images with objects it cannot be told whether by chance"
        if score.interval is None
        else f"95% interval of the loss {-score.interval.high:.3f} to {-score.interval.low:.3f}"
    )
    return Finding(
        kind="ap_drop",
        severity="error",
        where=path,
        symptom=f"AP {'of masks ' if of.iou_type == 'segm' else ''}is {score.b:.3f} and that of the checkpoint"
        f" {score.a:.3f}, {drop:.3f} more on {of.num_images} images ({sure}), where max_ap_drop={max_ap_drop:g} is"
        " allowed",
        remedy="do not use it before the cause is found",
        evidence={
            "AP": score.b,
            "AP_of_checkpoint": score.a,
            "AP_lost": drop,
            "num_images": of.num_images,
            "max_ap_drop": max_ap_drop,
        },
        impact=min(drop, 1.0),
    )
