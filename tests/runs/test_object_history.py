"""The files of objects over time: kept up to date, made anew, and what is known of evaluations that are removed."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import od_eval
from made_images import evaluated, one_image, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses import over_time
from od_eval.evaluation.analyses.over_time import ObjectHistory
from od_eval.evaluation.batch import Detections
from od_eval.evaluation.object_table import ObjectTable
from od_eval.runs import analysis_files, object_files, object_history

STATE = "objects_over_time.parquet"


def tables_of(step: int, seed: int = 0, masks: bool = False, num: int = 6) -> dict[str, ObjectTable]:
    """The same images at each step, with some of the detections."""
    random = np.random.default_rng(step)
    batches = []
    for batch in random_images(seed, num, masks=masks):
        found = batch.detections
        kept = random.random(len(found.boxes[0])) < 0.7
        of_masks = None if found.masks is None else [found.masks[0][kept]]
        detections = Detections([found.boxes[0][kept]], [found.scores[0][kept]], [found.classes[0][kept]], of_masks)
        batches.append(dataclasses.replace(batch, detections=detections))
    return evaluated(batches, masks=masks).object_tables()


def evaluate(run_dir: Path, step: int, write: bool = True, **options) -> ObjectTable:
    """Writes the object tables and (empty) metrics of a step, and what is over time; returns the table of boxes."""
    tables = tables_of(step, **options)
    contents = {object_files.FILE_NAMES[name]: object_files.parquet(table) for name, table in tables.items()}
    analysis_files.write(str(run_dir), step, contents)
    (run_dir / "metrics").mkdir(exist_ok=True)
    (run_dir / "metrics" / f"step-{step:08d}.json").write_text("{}")
    if write:
        object_history.write(str(run_dir))
    return tables["bbox"]


def in_order(objects: pd.DataFrame) -> pd.DataFrame:
    return objects.sort_values(["image_id", "category", "x", "y"], ignore_index=True)


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(in_order(one), in_order(other))
    assert one.attrs == other.attrs


def written_files(run_dir: Path) -> dict[str, bytes]:
    names = ("objects_over_time.csv", "label_suspects.json")
    return {name: (run_dir / "analysis" / name).read_bytes() for name in names}


def test_it_equals_the_history_of_the_tables_in_memory(tmp_path, capsys) -> None:
    history = ObjectHistory.empty()
    for step in (100, 200, 300):
        table = evaluate(tmp_path / "eval", step, num=14)
        history = over_time.add(history, step, table)
    objects = over_time.objects_over_time(history)
    assert_same(od_eval.load_object_history(tmp_path), objects)
    with (tmp_path / "eval" / "analysis" / "objects_over_time.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(objects)
    assert [row["status"] for row in rows] == objects["status"].tolist()
    assert [row["lost_at"] for row in rows] == ["" if value is pd.NA else str(value) for value in objects["lost_at"]]
    assert [float(row["x"]) for row in rows] == pytest.approx(objects["x"].tolist(), abs=0.006)
    suspects = over_time.persistent_suspects(history, table)
    content = json.loads((tmp_path / "eval" / "analysis" / "label_suspects.json").read_text())
    proposed = [(row["attributes"]["suspect"], row["attributes"]["suspicion"]) for row in content["annotations"]]
    assert proposed == [(suspect.kind, pytest.approx(suspect.suspicion)) for suspect in suspects]
    assert {kind for kind, _ in proposed} == {"missing", "extra"}
    assert capsys.readouterr().err == ""


def test_what_is_found_inside_a_crowd_is_no_suspect(tmp_path) -> None:
    crowd = [100.0, 10, 200, 110]
    batch = one_image(
        boxes=[[[10.0, 10, 50, 50], [60.0, 0, 120, 40]]],
        classes=[[3, 3]],
        gt_boxes=[[[10.0, 10, 50, 50], crowd]],
        gt_classes=[[3, 3]],
        gt_is_crowd=[[False, True]],
        image_sizes=[[300, 120]],
        scores=[[0.9, 0.95]],
    )
    table = evaluated([batch]).object_tables()["bbox"]
    assert table.matches.detection[0, 0] < 0  # a quarter of it is inside: not enough to match
    for step in (1, 2):
        analysis_files.write(str(tmp_path / "eval"), step, {"objects.parquet": object_files.parquet(table)})
        object_history.write(str(tmp_path / "eval"))
    assert json.loads(written_files(tmp_path / "eval")["label_suspects.json"])["annotations"] == []


def test_only_new_tables_are_read(tmp_path, monkeypatch) -> None:
    read: list[str] = []
    read_object_table = object_files.read_object_table
    monkeypatch.setattr(object_files, "read_object_table", lambda path: read.append(path) or read_object_table(path))
    for step in (100, 200, 300):
        evaluate(tmp_path / "eval", step)
    assert [Path(path).parent.name for path in read] == ["step-00000100", "step-00000200", "step-00000300"]


@pytest.mark.parametrize("damage", [None, b"PAR1 no table", b""])
def test_a_missing_or_damaged_state_is_made_anew(tmp_path, damage, capsys) -> None:
    for step in (100, 200, 300):
        evaluate(tmp_path / "eval", step)
    before = written_files(tmp_path / "eval")
    state = tmp_path / "eval" / "analysis" / STATE
    state.unlink() if damage is None else state.write_bytes(damage)
    object_history.write(str(tmp_path / "eval"))
    assert written_files(tmp_path / "eval") == before
    assert (f"'{state}' is damaged" in capsys.readouterr().err) == (damage is not None)


def test_evaluations_whose_tables_were_removed_are_still_known(tmp_path) -> None:
    run_dir = tmp_path / "eval"
    for step in (100, 200, 300, 400):
        evaluate(run_dir, step)
    before = od_eval.load_object_history(tmp_path)
    assert analysis_files.thin_out(str(run_dir), [], 0) == [200, 300]
    assert_same(od_eval.load_object_history(tmp_path), before)
    evaluate(run_dir, 500)
    assert od_eval.load_object_history(tmp_path).attrs["steps"] == [100, 200, 300, 400, 500]


def test_training_that_goes_back_forgets_what_came_later(tmp_path) -> None:
    for step in (100, 200, 300, 400):
        evaluate(tmp_path / "a" / "eval", step)
    # 200 and 300 are thinned out; only of 300 the metrics go when training goes back.
    analysis_files.thin_out(str(tmp_path / "a" / "eval"), [], 0)
    analysis_files.drop_after(str(tmp_path / "a" / "eval"), 200)
    for step in (300, 400):
        (tmp_path / "a" / "eval" / "metrics" / f"step-{step:08d}.json").unlink()
    evaluate(tmp_path / "a" / "eval", 350)
    evaluate(tmp_path / "a" / "eval", 400)
    for step in (100, 200, 350, 400):
        evaluate(tmp_path / "b" / "eval", step)
    assert_same(od_eval.load_object_history(tmp_path / "a"), od_eval.load_object_history(tmp_path / "b"))
    assert written_files(tmp_path / "a" / "eval") == written_files(tmp_path / "b" / "eval")


def test_a_step_that_is_evaluated_again_is_read_again(tmp_path) -> None:
    for step in (100, 200, 300):
        evaluate(tmp_path / "eval", step)
    contents = {"objects.parquet": object_files.parquet(tables_of(999)["bbox"])}
    analysis_files.write(str(tmp_path / "eval"), 200, contents)
    object_history.write(str(tmp_path / "eval"))
    history = ObjectHistory.empty()
    for step, of_step in ((100, 100), (200, 999), (300, 300)):
        history = over_time.add(history, step, tables_of(of_step)["bbox"])
    assert_same(od_eval.load_object_history(tmp_path), over_time.objects_over_time(history))


def test_masks_have_a_history_of_their_own(tmp_path) -> None:
    history = ObjectHistory.empty()
    for step in (100, 200):
        evaluate(tmp_path / "eval", step, masks=True)
        history = over_time.add(history, step, tables_of(step, masks=True)["segm"])
    objects = over_time.objects_over_time(history)
    assert_same(od_eval.load_object_history(tmp_path, masks=True), objects)
    assert (tmp_path / "eval" / "analysis" / "objects_over_time_segm.csv").exists()


def test_a_changed_evaluation_set_is_said_once_by_writing_and_always_by_loading(tmp_path, capsys) -> None:
    evaluate(tmp_path / "eval", 100)
    evaluate(tmp_path / "eval", 200)
    assert capsys.readouterr().err == ""
    for step, says in ((300, True), (400, False)):
        evaluate(tmp_path / "eval", step, num=10)
        assert ("has changed between evaluations (2 sets)" in capsys.readouterr().err) == says
    objects = od_eval.load_object_history(tmp_path)
    assert f"{objects.attrs['num_not_in_all']} of {len(objects)} objects" in capsys.readouterr().err
    assert (objects["num_steps"] == 2).sum() == objects.attrs["num_not_in_all"] > 0


def test_a_damaged_table_costs_only_its_step_and_is_said_once(tmp_path, capsys) -> None:
    run_dir = tmp_path / "eval"
    evaluate(run_dir, 100)
    analysis_files.write(str(run_dir), 200, {"objects.parquet": b"damaged"})
    object_history.write(str(run_dir))
    assert "step 200 is left out" in capsys.readouterr().err
    evaluate(run_dir, 300)
    assert capsys.readouterr().err == ""
    analysis_files.write(str(run_dir), 400, {"objects.parquet": b"damaged"})
    analysis_files.thin_out(str(run_dir), [], 0)
    object_history.write(str(run_dir))  # the table of the newest step that is not damaged is removed
    assert od_eval.load_object_history(tmp_path).attrs["steps"] == [100, 300]


def test_without_tables_nothing_is_written_and_loading_says_why(tmp_path) -> None:
    object_history.write(str(tmp_path / "eval"))
    assert not (tmp_path / "eval").exists()
    with pytest.raises(ODEvalError, match=r"there is no objects\.parquet in run 'eval'"):
        od_eval.load_object_history(tmp_path)


def test_loading_does_not_need_what_writing_leaves_and_writes_nothing(tmp_path) -> None:
    for step in (100, 200):
        evaluate(tmp_path / "eval", step, write=False)
    before = sorted(path.name for path in (tmp_path / "eval" / "analysis").iterdir())
    assert od_eval.load_object_history(tmp_path).attrs["steps"] == [100, 200]
    assert sorted(path.name for path in (tmp_path / "eval" / "analysis").iterdir()) == before
