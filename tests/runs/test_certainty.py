"""Whether an improvement is more than chance: on made-up detectors of which one is better by much, or by nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.result import EvaluationResult
from od_eval.runs import certainty, evaluation_run, metrics_files


def evaluated(share_found: float, seed: int = 0, num_images: int = 60, num_classes: int = 2, first_id: int = 0):
    """A detector that finds a share of the objects; which ones depends on the seed."""
    random = np.random.default_rng(seed)
    evaluator = Evaluator({id: f"class {id}" for id in range(1, num_classes + 1)})
    for image in range(num_images):
        boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 10.0]])
        classes = np.arange(3) % num_classes + 1
        found = random.random(3) < share_found
        scores = random.random(3)
        evaluator.update(
            EvaluationBatch(
                image_ids=[image + first_id],
                image_sizes=[[64, 64]],
                detections=Detections([boxes[found]], [scores[found]], [classes[found]]),
                groundtruth=GroundTruth([boxes], [classes]),
            )
        )
    return evaluator


def at_step(run_dir: Path, step: int, evaluator: Evaluator, recorded: list[EvaluationResult]) -> EvaluationResult:
    """What an evaluation set does at a step, as far as this is concerned."""
    result = evaluator.evaluate(step=step)
    earlier = recorded[-1] if recorded else None
    section = certainty.certainty(str(run_dir), result, evaluator.analysis, earlier)
    result = result.with_section("certainty", section)
    metrics_files.write(str(run_dir), result)
    evaluation_run.write_analysis("eval", str(run_dir), step, evaluator.analysis, kept_steps=[])
    recorded.append(result)
    return result


def test_only_what_improves_beyond_chance_takes_the_place_of_the_last(tmp_path) -> None:
    recorded: list[EvaluationResult] = []
    first = at_step(tmp_path, 100, evaluated(0.5, seed=1), recorded)
    assert first.certainty == {"metric": "AP", "value": first.bbox["AP"], "step": 100, "difference": None}
    assert first.log_values()["AP_certain"] == first.bbox["AP"]
    better_by_chance = next(
        candidate
        for seed in range(2, 40)
        if (candidate := evaluated(0.5, seed)).evaluate().bbox["AP"] > first.bbox["AP"] + 0.005
    )
    lucky = at_step(tmp_path, 200, better_by_chance, recorded)
    assert (lucky.certainty["value"], lucky.certainty["step"]) == (first.bbox["AP"], 100)
    low, high = lucky.certainty["difference"]
    assert low < 0 < high
    assert low < lucky.bbox["AP"] - first.bbox["AP"] < high
    much_better = at_step(tmp_path, 300, evaluated(0.9, seed=50), recorded)
    assert (much_better.certainty["value"], much_better.certainty["step"]) == (much_better.bbox["AP"], 300)
    assert much_better.certainty["difference"][0] > 0
    worse = at_step(tmp_path, 400, evaluated(0.3, seed=51), recorded)
    assert worse.certainty["step"] == 300
    assert worse.certainty["difference"][1] < 0


def test_on_other_images_or_without_the_table_of_the_last_it_begins_anew(tmp_path) -> None:
    recorded: list[EvaluationResult] = []
    at_step(tmp_path, 100, evaluated(0.9), recorded)
    other = at_step(tmp_path, 200, evaluated(0.3, first_id=1000), recorded)
    assert (other.certainty["step"], other.certainty["difference"]) == (200, None)
    (tmp_path / "analysis" / "step-00000200" / "objects.parquet").unlink()
    gone = at_step(tmp_path, 300, evaluated(0.9, first_id=1000), recorded)
    assert (gone.certainty["step"], gone.certainty["difference"]) == (200, None)


def test_with_few_images_nothing_is_certain(tmp_path) -> None:
    recorded: list[EvaluationResult] = []
    at_step(tmp_path, 100, evaluated(0.1, num_images=4), recorded)
    after = at_step(tmp_path, 200, evaluated(1.0, num_images=4), recorded)
    assert (after.certainty["step"], after.certainty["difference"]) == (100, None)


def test_a_damaged_table_costs_a_warning(tmp_path, capsys) -> None:
    recorded: list[EvaluationResult] = []
    at_step(tmp_path, 100, evaluated(0.5), recorded)
    (tmp_path / "analysis" / "step-00000100" / "objects.parquet").write_bytes(b"nothing")
    assert at_step(tmp_path, 200, evaluated(0.9), recorded).certainty["step"] == 100
    assert "warning: the analysis 'certainty' failed and is left out: " in capsys.readouterr().err


def test_where_there_is_no_metric_there_is_no_section(tmp_path) -> None:
    evaluator = evaluated(0.5)
    result = evaluator.evaluate(step=1).with_section("bbox", None)
    assert certainty.certainty(str(tmp_path), result, evaluator.analysis, None) is None
