"""Comparing evaluations of files: what is found where, and that a file is as good as the evaluation itself."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import od_eval
from made_images import CATEGORIES, evaluated, one_image, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation import streamed_evaluator
from od_eval.evaluation.analyses import comparison
from od_eval.evaluation.analyses.label_suspects import label_suspects
from od_eval.evaluation.analyses.operating_point import choose, cuts
from od_eval.evaluation.analyses.what_if import (
    with_confidence,
    with_merged_categories,
    with_stricter_nms,
    without_suspects,
)
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import AnalysisOptions, EvaluationOptions
from od_eval.runs import analysis_files, metrics_files, object_files
from od_eval.runs.comparison import LOSSES_NOTE


def write_run(run_dir: Path, step: int, evaluator: Evaluator, losses: dict[str, float] | None = None) -> None:
    tables = evaluator.object_tables()
    contents = {object_files.FILE_NAMES[iou_type]: object_files.parquet(table) for iou_type, table in tables.items()}
    analysis_files.write(str(run_dir), step, contents)
    if losses:
        metrics_files.write(str(run_dir), evaluator.evaluate(step=step, losses=losses))


def evaluator_of(seed: int, masks: bool = False, change: int = 0, num: int = 14) -> Evaluator:
    """The images of a seed; with a change, their detections have other scores."""
    images = random_images(seed, num=num, masks=masks)
    for batch in images if change else ():
        batch.detections.scores = [np.random.default_rng(change).permutation(batch.detections.scores[0])]
    return evaluated(images, masks=masks)


def write_detections(folder: Path, name: str, evaluator: Evaluator, with_boxes: bool = True) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "val.json").write_text(json.dumps(evaluator.groundtruth_json()))
    detections = evaluator.detections_json()
    for one in () if with_boxes else detections:
        del one["bbox"]
    (folder / name).write_text(json.dumps(detections))
    return str(folder / name)


def test_files_are_compared_as_the_evaluations_they_are_of(tmp_path) -> None:
    a, b = evaluator_of(0, masks=True), evaluator_of(0, masks=True, change=1)
    write_run(tmp_path / "a" / "eval", 100, a)
    write_run(tmp_path / "b" / "eval", 200, b)
    compared = od_eval.compare(tmp_path / "a", tmp_path / "b")
    assert (compared.a, compared.b) == (f"{tmp_path}/a/eval@100", f"{tmp_path}/b/eval@200")
    assert (compared.warnings, compared.notes) == ([], [])
    tables_a, tables_b = a.object_tables(), b.object_tables()
    confidences = [choose(cuts(tables["bbox"]), AnalysisOptions()).confidence for tables in (tables_a, tables_b)]
    for iou_type, found in (("bbox", compared.bbox), ("segm", compared.segm)):
        assert found == comparison.compare(tables_a[iou_type], tables_b[iou_type], *confidences)
    assert compared.bbox != compared.segm
    given = od_eval.compare(tmp_path / "a", tmp_path / "b", confidence=0.25)
    assert given.segm == comparison.compare(tables_a["segm"], tables_b["segm"], 0.25, 0.25)
    assert given.bbox.num_fixed
    assert given.bbox.num_broken


def test_runs_and_steps_are_found(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run, step, change in (("eval", 1000, 0), ("eval", 2000, 1), ("eval/night", 1000, 2), ("eval_train", 5, 3)):
        write_run(tmp_path / "runs" / "a" / run, step, evaluator_of(0, change=change))
    write_run(tmp_path / "at@3" / "eval", 7, evaluator_of(0))
    for given, meant in (
        ("runs/a", "runs/a/eval@2000"),
        ("runs/a/", "runs/a/eval@2000"),
        ("runs/a@1000", "runs/a/eval@1000"),
        ("runs/a/eval@1000", "runs/a/eval@1000"),
        ("runs/a/eval/night@1000", "runs/a/eval/night@1000"),
        ("runs/a/eval/night", "runs/a/eval/night@1000"),
        ("runs/a/eval_train", "runs/a/eval_train@5"),
        ("at@3", "at@3/eval@7"),
        ("at@3@7", "at@3/eval@7"),
    ):
        compared = od_eval.compare("runs/a@1000", given)
        assert compared.b.replace("//", "/") == meant
    for folder in ("runs/a", "runs/a/eval"):
        (tmp_path / folder / "table.parquet").write_bytes(b"of somebody")
        assert od_eval.compare("runs/a@1000", folder).b == "runs/a/eval@2000"
    monkeypatch.chdir(tmp_path / "runs" / "a" / "eval")
    assert od_eval.compare(".@1000", "..@2000").b.endswith("eval@2000")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", "nowhere"), "'nowhere' is neither a folder nor a file"),
        (("a", "nowhere@3"), "'nowhere' is neither a folder nor a file"),
        (("a", "a@3"), "no objects.parquet of step 3 in run 'eval' of 'a'; there are those of 100"),
        (("a", "empty"), "no objects.parquet in run 'eval' of 'empty'"),
        (("a", "detections.json"), "'detections.json' is a file of detections, .*groundtruth=val.json"),
        (("a",), "give either B or what_if="),
    ],
)
def test_what_cannot_be_found_is_named(tmp_path, monkeypatch, arguments, words) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "a" / "eval", 100, evaluator_of(0))
    (tmp_path / "empty").mkdir()
    (tmp_path / "detections.json").write_text("[]")
    with pytest.raises(ODEvalError, match=words):
        od_eval.compare(*arguments)


@pytest.mark.parametrize("name", ["a.parquet", "parts", "parts/*.parquet"])
def test_a_table_is_compared_as_the_same_detections_in_json(tmp_path, name) -> None:
    a, b = evaluator_of(3), evaluator_of(3, change=1)
    files = [write_detections(tmp_path, "a.json", a), write_detections(tmp_path, "b.json", b)]
    table = tmp_path / name.replace("*", "1")
    table = table if table.suffix else table / "1.parquet"
    table.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(a.detections_json()), table)
    from_json = od_eval.compare(*files, groundtruth=tmp_path / "val.json").to_dict()
    from_table = od_eval.compare(tmp_path / name, files[1], groundtruth=tmp_path / "val.json").to_dict()
    assert from_table == from_json | {"a": str(tmp_path / name)}


def test_of_very_many_detections_some_images_are_compared_and_that_is_said(tmp_path, monkeypatch) -> None:
    a = evaluator_of(3, num=40)
    file = write_detections(tmp_path, "a.json", a)
    num_detections = len(a.detections_json())
    monkeypatch.setattr(streamed_evaluator, "MOST_ANALYSED", num_detections // 2 + 1)
    options = EvaluationOptions(CATEGORIES)
    images = random_images(3, num=40)
    sizes = {image.image_ids[0]: (1, 1) for image in images}
    streamed = streamed_evaluator.StreamedEvaluator(options, sizes, 0.5)
    for image in images:
        streamed.update(image)
    metrics_files.write(str(tmp_path / "run" / "eval"), streamed.evaluate(step=5))
    write_run(tmp_path / "run" / "eval", 5, streamed)
    compared = od_eval.compare(tmp_path / "run", file, groundtruth=tmp_path / "val.json")
    assert compared.warnings == []
    assert compared.bbox.num_images == streamed.num_analysed < 40
    assert not any(compared.bbox.changes.values())
    for note, name in zip(compared.notes, (f"{tmp_path}/run/eval@5", file), strict=True):
        assert note.startswith(f"of {name}, which has millions of detections, {streamed.num_analysed} of 40 images")


def test_detections_are_compared_with_each_other_and_with_a_run(tmp_path) -> None:
    a, b = evaluator_of(3, masks=True), evaluator_of(3, masks=True, change=1)
    file_a = write_detections(tmp_path, "a.json", a, with_boxes=False)
    file_b = write_detections(tmp_path, "b.json", b, with_boxes=False)
    groundtruth = tmp_path / "val.json"
    compared = od_eval.compare(file_a, file_b, groundtruth=groundtruth)
    assert (compared.a, compared.b, compared.warnings) == (file_a, file_b, [])
    for side, evaluator in (("a", a), ("b", b)):
        assert getattr(compared.segm.overall["AP"], side) == pytest.approx(evaluator.evaluate().segm["AP"], abs=1e-12)
    write_run(tmp_path / "run" / "eval", 5, a)
    file_b = write_detections(tmp_path, "b.json", b)
    mixed = od_eval.compare(tmp_path / "run", file_b, groundtruth=groundtruth, confidence=0.3)
    assert mixed.warnings == []
    tables_a, tables_b = a.object_tables(), b.object_tables()
    assert mixed.bbox.changes == comparison.compare(tables_a["bbox"], tables_b["bbox"], 0.3, 0.3).changes
    assert mixed.segm.changes == comparison.compare(tables_a["segm"], tables_b["segm"], 0.3, 0.3).changes

    content = json.loads(Path(file_a).read_text())
    content[0]["image_id"] = 12345
    Path(file_a).write_text(json.dumps(content))
    [warning] = od_eval.compare(file_a, file_b, groundtruth=groundtruth).warnings
    assert "1 detections of images that the ground truth does not have" in warning
    [warning] = od_eval.compare(tmp_path / "run", tmp_path / "run", groundtruth=groundtruth).warnings
    assert warning.startswith("groundtruth is not used")


def test_masks_that_only_one_has_are_not_compared(tmp_path) -> None:
    write_run(tmp_path / "a" / "eval", 1, evaluator_of(0, masks=True))
    write_run(tmp_path / "b" / "eval", 1, evaluator_of(0))
    for pair in (("a", "b"), ("b", "a")):
        assert od_eval.compare(*(tmp_path / name for name in pair)).segm is None


def test_other_images_and_losses_are_told(tmp_path) -> None:
    write_run(tmp_path / "a" / "eval", 1, evaluator_of(0), losses={"total_loss": 1.0})
    write_run(tmp_path / "b" / "eval", 1, evaluator_of(0, num=12), losses={"total_loss": 2.0})
    write_run(tmp_path / "c" / "eval", 1, evaluator_of(0, num=12))
    compared = od_eval.compare(tmp_path / "a", tmp_path / "b")
    [warning] = compared.warnings
    assert warning.startswith(
        "the evaluation sets differ: 2 images are only in A and 0 only in B, and in 0 the objects differ"
    )
    assert compared.bbox.num_images == 12
    assert compared.notes == [LOSSES_NOTE]
    assert od_eval.compare(tmp_path / "a", tmp_path / "c").notes == []
    assert od_eval.compare(tmp_path / "a", what_if=["nms=0.5"]).notes == []


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        (["nms=0.3"], lambda table: with_stricter_nms(table, 0.3)),
        (["confidence=0.4"], lambda table: with_confidence(table, 0.4)),
        (["confidence=cat:0.4"], lambda table: with_confidence(table, np.array([-np.inf, 0.4, -np.inf, -np.inf]))),
        (["forgive_suspects"], lambda table: without_suspects(table, label_suspects(table))),
        (
            ["merge=pet:cat,dog", "confidence=pet:0.4", "nms=0.6"],
            lambda table: with_stricter_nms(
                with_confidence(
                    with_merged_categories(table, {"pet": ["cat", "dog"]}), np.array([0.4, -np.inf, -np.inf])
                ),
                0.6,
            ),
        ),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_what_if_of_a_file_is_that_of_the_evaluation(tmp_path, changes, changed) -> None:
    evaluator = evaluator_of(2, num=28)
    write_run(tmp_path / "eval", 9, evaluator)
    table = evaluator.object_tables()["bbox"]
    compared = od_eval.compare(tmp_path, what_if=changes, confidence=0.3)
    renamed = {"cat": "pet", "dog": "pet"} if "merge" in changes[0] else {}
    assert compared.bbox == comparison.compare(table, changed(table), 0.3, 0.3, renamed)
    assert compared.bbox.overall["F1"].difference != 0
    assert compared.b == f"A with {', '.join(changes)}"


def test_a_category_merged_twice_is_followed(tmp_path) -> None:
    write_run(tmp_path / "eval", 9, evaluator_of(2))
    twice = od_eval.compare(tmp_path, what_if=["merge=pet:cat,dog", "merge=animal:pet,bird"], confidence=0.3)
    once = od_eval.compare(tmp_path, what_if=["merge=animal:cat,dog,bird"], confidence=0.3)
    assert twice.bbox == once.bbox


def test_masks_of_files_are_only_filtered_and_those_of_detections_are_matched_anew(tmp_path) -> None:
    evaluator = evaluator_of(2, masks=True)
    write_run(tmp_path / "a" / "eval", 9, evaluator)
    compared = od_eval.compare(tmp_path / "a", what_if=["nms=0.3"])
    assert compared.segm is None
    assert [note.startswith("masks are not compared") for note in compared.notes] == [True]
    assert od_eval.compare(tmp_path / "a", what_if=["confidence=0.3"]).segm is not None
    detections = write_detections(tmp_path / "coco", "a.json", evaluator)
    compared = od_eval.compare(detections, what_if=["nms=0.3"], groundtruth=tmp_path / "coco" / "val.json")
    assert compared.segm is not None
    assert compared.notes == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("nms=0", "is none of nms=IOU"),
        ("nms=1.5", "is none of nms=IOU"),
        ("nms=nan", "is none of nms=IOU"),
        ("nms", "is none of nms=IOU"),
        ("confidence=high", "is none of nms=IOU"),
        ("confidence=inf", "is none of nms=IOU"),
        ("merge=pet", "is none of nms=IOU"),
        ("merge=pet:cat,", "is none of nms=IOU"),
        ("forgive", "is none of nms=IOU"),
        ("forgive_suspects=1", "is none of nms=IOU"),
        ("confidence=cta:0.5", "there is no category 'cta'; did you mean 'cat'?"),
        ("merge=pet:cat,dgo", "there is no category 'dgo'; did you mean 'dog'?"),
        ("merge=bird:cat,dog", "there is a category 'bird' that is not merged"),
    ],
)
def test_changes_that_make_no_sense_are_named(tmp_path, change, words) -> None:
    write_run(tmp_path / "eval", 9, evaluator_of(0))
    with pytest.raises(ODEvalError) as raised:
        od_eval.compare(tmp_path, what_if=[change])
    message = str(raised.value)
    assert message.startswith(f"what_if='{change}'")
    assert words in message
    assert message.count("\n") == 0


def test_tables_are_written_for_spreadsheets(tmp_path) -> None:
    a, b = evaluator_of(0, masks=True), evaluator_of(0, masks=True, change=1)
    write_run(tmp_path / "a" / "eval", 100, a)
    write_run(tmp_path / "b" / "eval", 200, b)
    compared = od_eval.compare(tmp_path / "a", tmp_path / "b")
    paths = compared.write(str(tmp_path / "out"))
    names = ["objects.csv", "images.csv", "categories.csv"]
    names += [name.replace(".", "_segm.") for name in names]
    assert paths == [str(tmp_path / "out" / name) for name in names]
    for found, of_names in ((compared.bbox, names[:3]), (compared.segm, names[3:])):
        for columns, name in ((found.objects, of_names[0]), (found.images, of_names[1])):
            header, *rows = csv.reader((tmp_path / "out" / name).read_text().splitlines())
            assert header == list(columns)
            assert len(rows) == len(columns["image_id"]) > 0
            assert [int(row[header.index("image_id")]) for row in rows] == columns["image_id"]
        rows = list(csv.DictReader((tmp_path / "out" / of_names[2]).read_text().splitlines()))
        assert {row["category"]: int(row["fixed"]) for row in rows} == {
            name: category.changes["fixed"] for name, category in found.per_category.items()
        }
        cat = next(row for row in rows if row["category"] == "cat")
        assert float(cat["AP_difference"]) == found.per_category["cat"].scores["AP"].difference
        assert next(row for row in rows if row["category"] == "never there")["AP_a"] == ""


def test_tables_that_cannot_be_written_are_an_error(tmp_path) -> None:
    write_run(tmp_path / "a" / "eval", 100, evaluator_of(0))
    (tmp_path / "file").write_text("")
    with pytest.raises(ODEvalError, match=r"file/objects\.csv' cannot be"):
        od_eval.compare(tmp_path / "a", tmp_path / "a").write(str(tmp_path / "file"))


def test_a_notebook_shows_it_and_runs_nothing_in_it(tmp_path) -> None:
    evil = "<script>alert(1)</script>"
    for name in ("a", evil.replace("/", "")):
        batch = dataclasses.replace(one_image(scores=[[0.9, 0.1 if name == "a" else 0.8]]), image_ids=[evil])
        write_run(tmp_path / name / "eval", 1, evaluated([batch], {1: evil, 3: "cat"}))
    compared = od_eval.compare(tmp_path / "a", tmp_path / evil.replace("/", ""), confidence=0.5)
    assert compared.bbox.num_fixed == 1
    shown = compared._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<table>") == shown.count("</table>") == 3
    assert "with less than 5 images" in shown
    assert json.loads(json.dumps(compared.to_dict(), allow_nan=False)) == compared.to_dict()


def test_comparing_imports_no_tensorflow(tmp_path) -> None:
    for name, change in (("a", 0), ("b", 1)):
        write_run(tmp_path / name / "eval", 1, evaluator_of(0, change=change))
    detections = write_detections(tmp_path / "coco", "c.json", evaluator_of(0))
    code = f"""if True:
        import sys
        import od_eval
        od_eval.compare({str(tmp_path / "a")!r}, {str(tmp_path / "b")!r}).write({str(tmp_path / "out")!r})
        od_eval.compare({detections!r}, groundtruth={str(tmp_path / "coco" / "val.json")!r}, what_if=["nms=0.5"])
        print([name for name in ("tensorflow", "keras", "tf_keras") if name in sys.modules])
    """
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == "[]"
