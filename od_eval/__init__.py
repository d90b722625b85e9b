"""od_eval: trains and evaluates TensorFlow Object Detection API models, with losses and metrics in TensorBoard.

    import od_eval

    pipeline = od_eval.Pipeline.load("pipeline.config")
    detector = od_eval.Detector(pipeline)
    detector.compile()
    detector.fit(
        pipeline.train_dataset(),
        epochs=20,
        steps_per_epoch=1000,
        callbacks=[
            od_eval.LossLogger("runs/a"),
            od_eval.DetectionEvaluation(pipeline.eval_dataset(), "runs/a"),
            od_eval.BestCheckpoint("runs/a"),
        ],
    )

The names below are loaded on first use, so that `import od_eval` is fast and does not import TensorFlow.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from od_eval.callbacks.best_checkpoint import BestCheckpoint
    from od_eval.callbacks.detection_evaluation import DetectionEvaluation
    from od_eval.callbacks.loss_logger import LossLogger
    from od_eval.callbacks.segmentation_evaluation import SegmentationEvaluation
    from od_eval.deployed.loading import load_model
    from od_eval.errors import ODEvalError
    from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
    from od_eval.evaluation.evaluator import Evaluator
    from od_eval.evaluation.loop import evaluate
    from od_eval.evaluation.options import EvaluationOptions
    from od_eval.evaluation.result import EvaluationResult
    from od_eval.evaluation.segmentation.batch import SegmentationBatch
    from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
    from od_eval.evaluation.segmentation.options import SegmentationOptions
    from od_eval.health.checking import check
    from od_eval.health.diagnosing import diagnose
    from od_eval.html_report import report
    from od_eval.odapi.detector import Detector
    from od_eval.odapi.pipeline import Pipeline
    from od_eval.runs.comparison import compare
    from od_eval.runs.history import load_history
    from od_eval.runs.metrics_files import load_metrics
    from od_eval.runs.object_files import load_objects
    from od_eval.runs.object_history import load_object_history
    from od_eval.segmentation_losses import CrossEntropyLoss, DiceCrossEntropyLoss, DiceLoss, FocalLoss

    __all__ = [
        "BestCheckpoint",
        "CrossEntropyLoss",
        "DetectionEvaluation",
        "Detections",
        "Detector",
        "DiceCrossEntropyLoss",
        "DiceLoss",
        "EvaluationBatch",
        "EvaluationOptions",
        "EvaluationResult",
        "Evaluator",
        "FocalLoss",
        "GroundTruth",
        "LossLogger",
        "ODEvalError",
        "Pipeline",
        "SegmentationBatch",
        "SegmentationEvaluation",
        "SegmentationEvaluator",
        "SegmentationOptions",
        "check",
        "compare",
        "diagnose",
        "evaluate",
        "load_history",
        "load_metrics",
        "load_model",
        "load_object_history",
        "load_objects",
        "report",
    ]

__version__ = "0.1.0"

_MODULE_OF = {
    "BestCheckpoint": "od_eval.callbacks.best_checkpoint",
    "CrossEntropyLoss": "od_eval.segmentation_losses",
    "DetectionEvaluation": "od_eval.callbacks.detection_evaluation",
    "Detections": "od_eval.evaluation.batch",
    "Detector": "od_eval.odapi.detector",
    "DiceCrossEntropyLoss": "od_eval.segmentation_losses",
    "DiceLoss": "od_eval.segmentation_losses",
    "EvaluationBatch": "od_eval.evaluation.batch",
    "EvaluationOptions": "od_eval.evaluation.options",
    "EvaluationResult": "od_eval.evaluation.result",
    "Evaluator": "od_eval.evaluation.evaluator",
    "FocalLoss": "od_eval.segmentation_losses",
    "GroundTruth": "od_eval.evaluation.batch",
    "LossLogger": "od_eval.callbacks.loss_logger",
    "ODEvalError": "od_eval.errors",
    "Pipeline": "od_eval.odapi.pipeline",
    "SegmentationBatch": "od_eval.evaluation.segmentation.batch",
    "SegmentationEvaluation": "od_eval.callbacks.segmentation_evaluation",
    "SegmentationEvaluator": "od_eval.evaluation.segmentation.evaluator",
    "SegmentationOptions": "od_eval.evaluation.segmentation.options",
    "check": "od_eval.health.checking",
    "compare": "od_eval.runs.comparison",
    "diagnose": "od_eval.health.diagnosing",
    "evaluate": "od_eval.evaluation.loop",
    "load_history": "od_eval.runs.history",
    "load_metrics": "od_eval.runs.metrics_files",
    "load_model": "od_eval.deployed.loading",
    "load_object_history": "od_eval.runs.object_history",
    "load_objects": "od_eval.runs.object_files",
    "report": "od_eval.html_report",
}


# What needs tf_keras, and makes `tf.keras` that.
_OF_THE_ROOM_ODAPI = {name for name, module in _MODULE_OF.items() if module.startswith("od_eval.odapi.")}


def __getattr__(name: str) -> Any:
    if name == "__all__":  # of `from od_eval import *`, which also works for those who use Keras 3
        uses_keras_3 = "keras" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") not in ("1", "true", "True")
        without_odapi = uses_keras_3 or importlib.util.find_spec("object_detection") is None
        return sorted(_MODULE_OF.keys() - (_OF_THE_ROOM_ODAPI if without_odapi else set()))
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'od_eval' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
