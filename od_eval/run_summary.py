"""The table at the end of a run: losses and metrics of its first, best and last evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from od_eval import losses
from od_eval.callbacks.detection_evaluation import DetectionEvaluation, better
from od_eval.errors import ODEvalError
from od_eval.evaluation.result import EvaluationResult
from od_eval.history import load_history
from od_eval.tensorboard import tags

METRICS = ("segm_AP", "segm_AP50", "AP", "AP50", "AP75", "AR100")


def summary_table(model_dir: str, evaluation: DetectionEvaluation) -> str:
    """Losses of training and evaluation and the metrics, of the first, the best and the last evaluation.

    The best is the one with the highest AP. A training loss is the last point of its curve up to that step.

    Args:
      model_dir: of the run.
      evaluation: whose files are read.
    """
    results = evaluation.recorded()
    if not results:
        return f"There is no evaluation in {evaluation.run_dir}."
    columns = {"first": results[0], "last": results[-1]}
    best = None
    for result in results:
        best = better(best, result)
    if best is not None:
        columns = {"first": results[0], "best": best, "last": results[-1]}
    in_training = _training_losses(model_dir, list(columns.values()))
    rows = {"step": [str(result.step) for result in columns.values()]}
    for name in losses.CATEGORIES:
        rows[f"train {name}"] = [_written(values.get(name)) for values in in_training]
        rows[f"{evaluation.run} {name}"] = [_written(result.losses.get(name)) for result in columns.values()]
    for name in METRICS:
        rows[f"{evaluation.run} {name}"] = [_written(result.log_values().get(name)) for result in columns.values()]
    shown = {name: cells for name, cells in rows.items() if any(cells)}
    width = max(map(len, shown))
    lines = [f"{'':{width}}" + "".join(f"{name:>10}" for name in columns)]
    lines += [f"{name:{width}}" + "".join(f"{cell or '-':>10}" for cell in cells) for name, cells in shown.items()]
    return "\n".join(lines)


def _training_losses(model_dir: str, results: list[EvaluationResult]) -> list[Mapping[str, float]]:
    try:
        history = load_history(model_dir)
    except ODEvalError:  # no curves: these checkpoints were trained elsewhere
        return [{} for _ in results]
    training = history[history.run == tags.TRAIN]
    found = []
    for result in results:
        before = training[training.step <= result.step]
        newest = before.groupby("tag").value.last()
        found.append({name: newest[tags.loss(name)] for name in losses.CATEGORIES if tags.loss(name) in newest})
    return found


def _written(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
