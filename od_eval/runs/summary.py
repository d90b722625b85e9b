"""The table at the end of a run: losses and metrics of the first, the best and the last evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from od_eval import losses, text
from od_eval.errors import ODEvalError
from od_eval.evaluation.better import best_of
from od_eval.evaluation.good_values import GOOD_VALUES
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.section import all_sections
from od_eval.runs.history import load_history
from od_eval.runs.metrics_files import read_all
from od_eval.tensorboard import tags


def summary_table(model_dir: str, run: str) -> str:
    """Training and evaluation losses, and the metrics, of the first, the best and the last evaluation.

    The best is the one with the highest main metric (mask AP if there is one, else box AP). A training loss is the last
    point of its curve up to that step. The last column has the values that are good by convention.

    Args:
      model_dir: the folder of the training run.
      run: the run of the evaluations, below `model_dir`.

    Raises:
      ODEvalError: a file of an evaluation is damaged.
    """
    run_dir = os.path.join(model_dir, run)
    results = read_all(run_dir)
    if not results:
        return f"There is no evaluation in {run_dir}."
    best = best_of(results)
    columns = {"first": results[0], **({"best": best} if best is not None else {}), "last": results[-1]}
    values = [result.log_values() for result in columns.values()]
    in_training = _training_losses(model_dir, list(columns.values()))
    rows = {"step": [str(result.step) for result in columns.values()]}
    for name in losses.CATEGORIES:
        rows[f"train {name}"] = [text.number(of_training.get(name), "") for of_training in in_training]
        rows[f"{run} {name}"] = [text.number(of_evaluation.get(name), "") for of_evaluation in values]
    for section in sorted(all_sections().values(), key=lambda section: section.line_rank):
        for name in section.in_summary:
            rows.setdefault(f"{run} {name}", [text.number(of_evaluation.get(name), "") for of_evaluation in values])
    shown = {name: cells for name, cells in rows.items() if any(cells)}
    good = {f"{run} {name}": values for name, values in GOOD_VALUES.items() if f"{run} {name}" in shown}
    width = max(map(len, shown))
    lines = [f"{'':{width}}" + "".join(f"{name:>10}" for name in columns) + ("  good by convention" if good else "")]
    for name, cells in shown.items():
        numbers = "".join(f"{cell or '-':>10}" for cell in cells)
        lines.append(f"{name:{width}}{numbers}  {good.get(name, '')}".rstrip())
    return "\n".join(lines)


def _training_losses(model_dir: str, results: Sequence[EvaluationResult]) -> list[Mapping[str, float]]:
    try:
        history = load_history(model_dir)
    except ODEvalError:  # no curves: these checkpoints were trained elsewhere
        return [{} for _ in results]
    training = history[history.run == tags.TRAIN]
    losses_at: list[Mapping[str, float]] = []
    for result in results:
        newest = training[training.step <= result.step].groupby("tag").value.last()
        losses_at.append({name: newest[losses.tag(name)] for name in losses.CATEGORIES if losses.tag(name) in newest})
    return losses_at
