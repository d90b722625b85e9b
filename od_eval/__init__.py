"""od_eval: training and evaluation of TensorFlow Object Detection API models, with every loss in TensorBoard.

    import od_eval

    pipeline = od_eval.Pipeline.load("pipeline.config")
    detector = od_eval.Detector(pipeline)
    detector.compile()
    detector.fit(
        pipeline.train_dataset(), epochs=20, steps_per_epoch=1000, callbacks=[od_eval.LossLogger("runs/a")]
    )

The names below are loaded when they are first used, so that `import od_eval` costs nothing and imports no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from od_eval.callbacks.loss_logger import LossLogger
    from od_eval.errors import ODEvalError
    from od_eval.odapi.detector import Detector
    from od_eval.odapi.pipeline import Pipeline

__version__ = "0.1.0"

_MODULE_OF = {
    "Detector": "od_eval.odapi.detector",
    "LossLogger": "od_eval.callbacks.loss_logger",
    "ODEvalError": "od_eval.errors",
    "Pipeline": "od_eval.odapi.pipeline",
}

__all__ = ["Detector", "LossLogger", "ODEvalError", "Pipeline"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'od_eval' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
