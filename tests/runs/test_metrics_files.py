"""The files of evaluations: what is in them, what a training that resumes does to them, how users read them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS
from od_eval.runs import metrics_files


def result(step: int | None, ap: float | None = 0.5, **more) -> EvaluationResult:
    fields = {"num_images": 4, "bbox": {**dict.fromkeys(COCO_METRICS), "AP": ap}, "losses": {"total_loss": 1 / 3}}
    return EvaluationResult(step=step, **{**fields, **more})


def table(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def evaluator(found: float = 0.9) -> Evaluator:
    one = Evaluator({1: "cat"})
    box = [[[1.0, 1, 5, 5]]]
    one.update(EvaluationBatch([1], [[8, 8]], Detections(box, [[found]], [[1]]), GroundTruth(box, [[1]])))
    return one


def test_every_evaluation_is_kept_and_the_newest_is_metrics_json(tmp_path) -> None:
    run = tmp_path / "eval"
    for step in (100, 200):
        metrics_files.write(str(run), result(step))
    assert sorted(contents(run)) == [
        "metrics.csv", "metrics.json", "metrics/step-00000100.json", "metrics/step-00000200.json",
    ]  # fmt: skip
    assert json.loads((run / "metrics.json").read_text()) == result(200).to_json_dict()
    assert json.loads((run / "metrics/step-00000100.json").read_text()) == result(100).to_json_dict()
    assert metrics_files.read_all(str(run)) == [result(100), result(200)]


def test_an_evaluation_without_a_step_is_filed_under_step_0(tmp_path) -> None:
    metrics_files.write(str(tmp_path), result(None))
    assert metrics_files.read_all(str(tmp_path)) == [result(None)]
    assert (tmp_path / "metrics/step-00000000.json").exists()
    assert table(tmp_path)[0]["step"] == "0"


def test_the_table_has_a_row_a_step_in_order_and_later_columns_where_they_belong(tmp_path) -> None:
    run = str(tmp_path)
    metrics_files.write(run, result(200, losses={}, other={"tag": 2.0}))
    metrics_files.write(run, result(100, segm={"AP": 0.25}, losses={"total_loss": 1 / 3, "other_loss": math.inf}))
    metrics_files.write(run, result(200, 0.75, losses={}, other={"tag": 3.0, "new": 1.0}))
    rows = table(tmp_path)
    assert list(rows[0]) == [
        "step", "num_images", "total_loss", "other_loss", *COCO_METRICS, "segm_AP", "tag", "new",
    ]  # fmt: skip
    assert [row["step"] for row in rows] == ["100", "200"]
    first, second = rows
    assert (float(first["total_loss"]), first["other_loss"], first["segm_AP"], first["tag"]) == (
        1 / 3, "nan", "0.25", "",
    )  # fmt: skip
    assert (second["total_loss"], second["AP"], second["APs"], second["tag"]) == ("", "0.75", "", "3.0")


def test_steps_of_more_than_eight_digits_are_in_order(tmp_path) -> None:
    for step in (1_000_000_000, 99_999_999):
        metrics_files.write(str(tmp_path), result(step))
    assert [one.step for one in metrics_files.read_all(str(tmp_path))] == [99_999_999, 1_000_000_000]


def test_coco_files_hold_what_was_evaluated(tmp_path) -> None:
    metrics_files.write_coco(str(tmp_path), 100, evaluator())
    assert json.loads((tmp_path / "groundtruth.json").read_text()) == evaluator().groundtruth_json()
    assert json.loads((tmp_path / "detections/step-00000100.json").read_text()) == evaluator().detections_json()


def test_ground_truth_is_written_again_only_if_it_changed(tmp_path) -> None:
    path = tmp_path / "groundtruth.json"
    metrics_files.write_coco(str(tmp_path), 100, evaluator())
    written = path.stat().st_ino
    metrics_files.write_coco(str(tmp_path), 200, evaluator(0.5))
    assert path.stat().st_ino == written
    path.write_text("{}")
    metrics_files.write_coco(str(tmp_path), 300, evaluator())
    assert json.loads(path.read_text()) == evaluator().groundtruth_json()


# ---- Training goes on -----------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with evaluations of the steps 0, 100, 200 and 300."""
    folder = tmp_path / "eval"
    for step in (0, 100, 200, 300):
        metrics_files.write(str(folder), result(step, step / 1000))
        metrics_files.write_coco(str(folder), step, evaluator())
    return folder


def test_a_training_that_resumes_sets_later_evaluations_aside(run) -> None:
    assert metrics_files.drop_after(str(run), 100) == 2
    assert [one.step for one in metrics_files.read_all(str(run))] == [0, 100]
    assert json.loads((run / "metrics.json").read_text())["step"] == 100
    assert [row["step"] for row in table(run)] == ["0", "100"]
    aside = sorted(name for name in contents(run) if "replaced" in name)
    assert aside == [
        f"{folder}/replaced-at-step-00000100/step-00000{step}.json"
        for folder in ("detections", "metrics")
        for step in (200, 300)
    ]
    assert json.loads((run / aside[-1]).read_text()) == result(300, 0.3).to_json_dict()


@pytest.mark.parametrize("step", [300, 1000])
def test_where_nothing_is_later_nothing_changes(run, step) -> None:
    before = contents(run)
    assert metrics_files.drop_after(str(run), step) == 0
    assert contents(run) == before


def test_a_training_from_step_0_begins_with_an_empty_run(run, caplog) -> None:
    assert metrics_files.drop_after(str(run), 0) == 4
    assert metrics_files.read_all(str(run)) == []
    assert not (run / "metrics.json").exists()
    assert not (run / "metrics.csv").exists()
    assert len(list((run / "metrics/replaced-at-step-00000000").iterdir())) == 4
    assert "4 evaluation(s)" in caplog.text


def test_a_run_that_does_not_exist_stays_so(tmp_path) -> None:
    assert metrics_files.drop_after(str(tmp_path / "eval"), 0) == 0
    assert list(tmp_path.iterdir()) == []
    assert metrics_files.read_all(str(tmp_path / "eval")) == []


def test_going_on_from_the_same_step_again_loses_nothing(run) -> None:
    metrics_files.drop_after(str(run), 200)
    metrics_files.write(str(run), result(300, 0.9))
    assert metrics_files.drop_after(str(run), 200) == 1
    kept = sorted((run / "metrics/replaced-at-step-00000200").iterdir())
    assert sorted(json.loads(path.read_text())["bbox"]["AP"] for path in kept) == [0.3, 0.9]
    assert [one.step for one in metrics_files.read_all(str(run))] == [0, 100, 200]


# ---- Reading --------------------------------------------------------------------------------------------------------


def test_load_metrics_returns_the_newest_or_all_as_plain_dicts(run) -> None:
    newest = metrics_files.load_metrics(str(run.parent))
    assert newest["bbox"]["AP"] == 0.3
    assert newest["bbox"]["APs"] is None
    assert [one["step"] for one in metrics_files.load_metrics(str(run.parent), every=True)] == [0, 100, 200, 300]
    assert metrics_files.load_metrics(run.parent, run="eval", every=True)[-1] == newest


def test_load_metrics_names_the_runs_that_there_are(tmp_path) -> None:
    for name in ("eval/night", "eval_train"):
        metrics_files.write(str(tmp_path / name), result(1))
    for every in (False, True):
        with pytest.raises(ODEvalError, match=r"run 'eval' of .*'eval/night', 'eval_train'"):
            metrics_files.load_metrics(str(tmp_path), every=every)
    assert metrics_files.load_metrics(str(tmp_path), "eval/night")["step"] == 1


def test_load_metrics_says_what_to_do_where_there_is_nothing(tmp_path) -> None:
    with pytest.raises(ODEvalError, match="evaluate a checkpoint first"):
        metrics_files.load_metrics(str(tmp_path))
    with pytest.raises(ODEvalError, match="no such folder"):
        metrics_files.load_metrics(str(tmp_path / "missing"))


@pytest.mark.parametrize("text", ['{"step": 1', "", "[]", "{}", '{"num_images": "x"}'])
def test_a_damaged_file_is_named(run, text) -> None:
    damaged = run / "metrics/step-00000100.json"
    damaged.write_text(text)
    with pytest.raises(ODEvalError, match=r"step-00000100\.json' is damaged"):
        metrics_files.read_all(str(run))
    damaged.write_bytes(b"\xff\xfe")
    with pytest.raises(ODEvalError, match=r"step-00000100\.json' is damaged"):
        metrics_files.load_metrics(str(run.parent), every=True)


# ---- What is derived from the files in metrics/ ----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "step,AP\n1.5,0.1\n", "step,AP\n,\n", "\0", "\udcff"])
def test_a_damaged_table_is_written_anew_with_the_next_evaluation(run, text, capsys) -> None:
    whole = table(run)
    (run / "metrics.csv").write_text(text, errors="surrogateescape")
    metrics_files.write(str(run), result(400))
    assert table(run)[:-1] == whole
    assert table(run)[-1]["step"] == "400"
    assert f"warning: '{run}/metrics.csv' did not have what metrics/ has" in capsys.readouterr().err


@pytest.mark.parametrize(
    "killed",
    [
        {"metrics.csv": 2},
        {"metrics.csv": None},
        {"metrics.json": "metrics/step-00000200.json"},
        {"metrics.json": None},
        {"metrics.csv": 3, "metrics.json": "metrics/step-00000000.json"},
    ],
)
def test_what_a_kill_between_two_files_left_wrong_is_repaired(run, killed) -> None:
    whole = contents(run)
    for name, state in killed.items():
        path = run / name
        if state is None:
            path.unlink()
        elif isinstance(state, int):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:state]))
        else:
            path.write_bytes((run / state).read_bytes())
    metrics_files.repair(str(run))
    assert contents(run) == whole
    metrics_files.repair(str(run))
    assert contents(run) == whole


def test_a_damaged_evaluation_is_set_aside_and_the_others_stay(run, capsys) -> None:
    damaged = run / "metrics/step-00000300.json"
    damaged.write_text("{")
    metrics_files.repair(str(run))
    assert [one.step for one in metrics_files.read_all(str(run))] == [0, 100, 200]
    assert [row["step"] for row in table(run)] == ["0", "100", "200"]
    assert json.loads((run / "metrics.json").read_text())["step"] == 200
    assert (run / "metrics/step-00000300.json.damaged-1").read_text() == "{"
    told = capsys.readouterr().err
    assert f"warning: '{damaged}' is damaged: it is not JSON" in told
    assert f"it was renamed to '{damaged}.damaged-1'" in told


def test_a_run_without_evaluations_in_files_is_left_alone(tmp_path) -> None:
    (tmp_path / "metrics.csv").write_text("step,AP\n100,0.5\n")
    metrics_files.repair(str(tmp_path))
    metrics_files.repair(str(tmp_path / "none"))
    assert contents(tmp_path) == {"metrics.csv": b"step,AP\n100,0.5\n"}


def test_a_metric_with_control_characters_in_its_name_can_be_read_again(tmp_path) -> None:
    for step in (1, 2):
        metrics_files.write(str(tmp_path), result(step, other={"AP of a\rb\nc\0": 0.5}))
    assert [row["AP of a\\rb\\nc\\x00"] for row in table(tmp_path)] == ["0.5", "0.5"]
