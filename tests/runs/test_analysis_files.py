"""The files of analyses: what is in them, which of them stay, and what a spreadsheet makes of them."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import hotcoco.mask
import numpy as np
import pyarrow.parquet as pq
import pytest

import od_eval
from made_images import CATEGORIES, evaluated, one_image, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation.object_table import ObjectTable
from od_eval.evaluation.options import AnalysisOptions
from od_eval.runs import analysis_files, evaluation_run, object_files
from od_eval.runs.image_archive import ImageArchive
from read_events import shown_tensors


def write_steps(run_dir: Path, steps: list[int], kilobytes: int = 1) -> None:
    for step in steps:
        analysis_files.write(str(run_dir), step, {"objects.parquet": b"x" * 1000 * kilobytes})


def written(tmp_path: Path, masks: bool = False, **options) -> tuple[Path, dict[str, ObjectTable]]:
    """The folder of analyses of a step of made-up images, and their tables."""
    evaluator = evaluated(random_images(0, masks=masks), masks=masks, analysis=AnalysisOptions(**options))
    evaluator.evaluate()
    evaluation_run.write_analysis("eval", str(tmp_path / "eval"), 3, evaluator.analysis, kept_steps=[3])
    evaluation_run.write_analysis_summaries("eval", str(tmp_path / "eval"), 3, evaluator.analysis)
    return tmp_path / "eval" / "analysis" / "step-00000003", evaluator.object_tables()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("masks", [False, True])
def test_each_evaluation_has_its_tables(tmp_path, masks, capsys) -> None:
    folder, _ = written(tmp_path, masks)
    names = ["confused.csv", "confusion.csv", "counts.csv", "curves.csv", "images.csv", "label_suspects.json"]
    names.append("objects.parquet")
    of_masks = [name.replace(".", "_segm.") for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, *(of_masks if masks else [])])
    assert capsys.readouterr().err == ""
    images = rows(folder / "images.csv")
    assert len(images) == 14
    for image in images:
        assert int(image["num_groundtruth"]) == int(image["tp"]) + int(image["fn"])
        assert int(image["num_detections"]) == int(image["tp"]) + int(image["fp"])
    confusion = rows(folder / "confusion.csv")
    assert [row["actual"] for row in confusion] == [*(CATEGORIES[id] for id in sorted(CATEGORIES)), "background"]
    (over_all,) = (
        row for row in rows(folder / "counts.csv") if (row["size"], row["kind"], row["iou"]) == ("all", "all", "0.5")
    )
    for name in ("tp", "fp", "fn"):
        assert int(over_all[name]) == sum(int(image[name]) for image in images)
    assert sum(int(row[name]) for name in ("dog", "cat", "bird") for row in confusion if row["actual"] == name) == int(
        over_all["tp"]
    )


def test_a_range_of_sizes_of_ones_own_is_counted_too(tmp_path) -> None:
    folder, tables = written(tmp_path, size_ranges={"plates": (0, 100)})
    (plates,) = (
        row for row in rows(folder / "counts.csv") if (row["size"], row["kind"], row["iou"]) == ("plates", "all", "0.5")
    )
    table = tables["bbox"]
    assert 0 < int(plates["num_groundtruth"]) == ((table.groundtruth.area <= 100) & ~table.ignored).sum()


def test_tensorboard_has_curves_and_histograms(tmp_path) -> None:
    _, tables = written(tmp_path)
    curves = shown_tensors(tmp_path / "eval", "pr_curves")
    assert set(curves) == {f"DetectionBoxes_PR/{name}" for name in ("all categories", "cat", "dog", "bird")}
    ((step, counts),) = curves["DetectionBoxes_PR/all categories"]
    assert (step, counts.shape) == (3, (6, 101))
    table = tables["bbox"]
    assert counts[0, 50] == (table.true_positive[:, 0] & (table.score >= 0.5)).sum()
    assert counts[3, 0] + counts[0, 0] == table.num_groundtruth.sum()
    ((step, text),) = shown_tensors(tmp_path / "eval", "text")["counts"]
    counts = [line.split() for line in text.item().decode().splitlines()]
    assert [int(line[1]) for line in counts if line and line[0] == "(all)"] == [table.num_groundtruth.sum()]
    assert [line[0] for line in counts[3:]] == ["(all)", "dog", "cat", "bird", "never"]
    histograms = shown_tensors(tmp_path / "eval", "histograms")
    ((step, buckets),) = histograms["Distributions/Confidence of true positives"]
    assert buckets[:, 2].sum() == table.true_positive[:, 0].sum()


def test_objects_are_loaded_with_names_and_partners(tmp_path) -> None:
    _, tables = written(tmp_path, masks=True)
    for masks, table in ((False, tables["bbox"]), (True, tables["segm"])):
        objects = od_eval.load_objects(tmp_path, masks=masks)
        num_detections = len(table.detections)
        assert objects.kind.tolist() == ["detection"] * num_detections + ["groundtruth"] * len(table.groundtruth)
        matched = objects[(objects.kind == "detection") & (objects.match_50 >= 0)]
        partners = objects.iloc[matched.match_50]
        assert (partners.kind == "groundtruth").all()
        assert matched.category.tolist() == partners.category.tolist()
        assert matched.image_id.tolist() == partners.image_id.tolist()
        assert (matched.iou >= np.where(partners.crowd, 0, 0.5)).all()
        back = objects.iloc[partners[~partners.crowd].match_50]
        assert back.index.tolist() == matched[~partners.crowd.to_numpy()].index.tolist()
        assert (objects.error == "missed").sum() == (table.errors[1] > 0).sum()
        assert objects.score.isna().tolist() == (objects.kind == "groundtruth").tolist()


@pytest.mark.parametrize("ids", [["a", "b"], [7, 3], [1, "1"]])
def test_a_table_that_was_written_is_read_again(tmp_path, ids) -> None:
    batches = [one_image(image_ids=[id], gt_classes=[[1, 18]], gt_difficult=[[False, True]]) for id in ids]
    table = evaluated(batches).object_tables()["bbox"]
    (tmp_path / "objects.parquet").write_bytes(object_files.parquet(table))
    read = object_files.read_object_table(str(tmp_path / "objects.parquet"))
    assert list(read.images.items()) == list(table.images.items())
    assert read.categories == table.categories
    for side in ("detection", "groundtruth"):
        np.testing.assert_array_equal(getattr(read.matches, side), getattr(table.matches, side))
    for one, other in zip((*read.errors, *read.outcomes), (*table.errors, *table.outcomes), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(read.pairs.iou, table.pairs.iou)


def test_objects_know_the_pictures_of_their_images(tmp_path) -> None:
    _, tables = written(tmp_path)
    first, second, *_ = tables["bbox"].images
    archive = ImageArchive(str(tmp_path / "eval"))
    archive.add(first, np.zeros((8, 8, 3), np.uint8))
    archive.write()
    objects = od_eval.load_objects(tmp_path)
    of_images = objects.groupby("image_id").picture.first()
    assert (of_images[first], of_images[second]) == (f"{first}.jpg", "")


def test_masks_are_kept_of_images_with_a_picture(tmp_path) -> None:
    evaluator = evaluated(random_images(0, masks=True), masks=True, analysis=AnalysisOptions())
    evaluator.evaluate()
    table = evaluator.object_tables()["segm"]
    archive = ImageArchive(str(tmp_path / "eval"))
    for id in [*table.images][:5]:
        archive.add(id, np.zeros((8, 8, 3), np.uint8))
    evaluation_run.write_analysis("eval", str(tmp_path / "eval"), 3, evaluator.analysis, [], archive)
    objects = od_eval.load_objects(tmp_path, masks=True)
    expected = [
        (hotcoco.mask.decode(rle) if image < 5 else None)
        for of in (table.detections, table.groundtruth)
        for rle, image in zip(of.masks, of.image, strict=True)
    ]
    assert 0 < sum(mask is None for mask in expected) < len(expected)
    assert ((objects.picture != "") == [mask is not None for mask in expected]).all()
    for rle, pixels in zip(objects["mask"], expected, strict=True):
        assert (rle is None) == (pixels is None)
        if rle is not None:
            np.testing.assert_array_equal(hotcoco.mask.decode(rle), pixels)
    assert "mask" not in od_eval.load_objects(tmp_path)


def test_tables_without_masks_open(tmp_path) -> None:
    folder, tables = written(tmp_path, masks=True)
    path = folder / "objects_segm.parquet"
    without = pq.read_table(path).drop_columns("mask")
    pq.write_table(without, path)
    objects = od_eval.load_objects(tmp_path, masks=True)
    assert len(objects) == len(tables["segm"].detections) + len(tables["segm"].groundtruth)
    assert objects["mask"].isna().all()


def test_images_that_cannot_be_written_cost_no_table(tmp_path, capsys) -> None:
    evaluator = evaluated(random_images(0, masks=True), masks=True, analysis=AnalysisOptions())
    evaluator.evaluate()
    archive = ImageArchive(str(tmp_path / "eval"))
    archive.update(dataclasses.replace(one_image(), images=[np.zeros((4, 4, 7))]))
    evaluation_run.write_analysis("eval", str(tmp_path / "eval"), 3, evaluator.analysis, [], archive)
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: eval: images.zip could not be written at step 3: ")
    assert od_eval.load_objects(tmp_path, masks=True)["mask"].isna().all()


def test_without_such_a_table_it_is_said_what_there_is(tmp_path) -> None:
    with pytest.raises(ODEvalError, match=r"there is no objects\.parquet in run 'eval' of .*evaluate a checkpoint"):
        od_eval.load_objects(tmp_path)
    written(tmp_path)
    with pytest.raises(ODEvalError, match=r"of step 5 in run 'eval' of .*; there are those of 3\.$"):
        od_eval.load_objects(tmp_path, step=5)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"not a table at all"])
def test_a_damaged_table_is_said_to_be(tmp_path, damage) -> None:
    folder, _ = written(tmp_path)
    (folder / "objects.parquet").write_bytes(damage)
    with pytest.raises(ODEvalError, match=r"objects\.parquet' is damaged: .* evaluate the checkpoint again"):
        od_eval.load_objects(tmp_path)


def test_the_first_the_best_and_the_newest_stay_and_the_others_are_spread(tmp_path) -> None:
    write_steps(tmp_path, [100, 200, 300, 400, 500, 600, 700, 800])
    assert analysis_files.thin_out(str(tmp_path), kept_steps=[300], max_megabytes=0.005) == [200, 400, 600]
    assert analysis_files.steps(str(tmp_path)) == [100, 300, 500, 700, 800]
    analysis_files.thin_out(str(tmp_path), kept_steps=[300], max_megabytes=0)
    assert analysis_files.steps(str(tmp_path)) == [100, 300, 800]
    assert analysis_files.thin_out(str(tmp_path), kept_steps=[], max_megabytes=10) == []


def test_files_of_an_earlier_evaluation_of_the_step_go(tmp_path) -> None:
    analysis_files.write(str(tmp_path), 1, {"objects.parquet": b"a", "objects_segm.parquet": b"b"})
    analysis_files.write(str(tmp_path), 1, {"objects.parquet": b"c"})
    assert [path.name for path in (tmp_path / "analysis" / "step-00000001").iterdir()] == ["objects.parquet"]


def test_training_that_goes_back_sets_later_analyses_aside(tmp_path) -> None:
    write_steps(tmp_path, [100, 200, 300])
    evaluation_run.go_back(str(tmp_path), 200)
    assert analysis_files.steps(str(tmp_path)) == [100, 200]
    aside = tmp_path / "analysis" / "replaced-at-step-00000200" / "step-00000300"
    assert (aside / "objects.parquet").stat().st_size == 1000


def test_a_spreadsheet_runs_no_name_and_every_line_is_a_row() -> None:
    names = ["=1+1", "+A1", "-A1", "@SUM(A1)", "a,b", 'a "b"', "line\nbreak", "tab\t", "\ud800", "=\r"]
    text = analysis_files.table_csv([("=name", names), ("value", [-1.5, None, float("nan"), *range(7)])])
    header, *cells = csv.reader(io.StringIO(text, newline=""))
    assert header == ["'=name", "value"]
    assert [name for name, _ in cells] == [
        *("'=1+1", "'+A1", "'-A1", "'@SUM(A1)", "a,b", 'a "b"', "line\\nbreak", "tab\\t", "\\ud800", "'=\\r")
    ]
    assert [value for _, value in cells][:4] == ["-1.5", "", "", "0"]


def test_an_analysis_that_cannot_be_written_costs_a_warning(tmp_path, capsys) -> None:
    evaluator = evaluated([one_image()])
    evaluator.evaluate()
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "analysis").write_text("a file where a folder should be")
    evaluation_run.write_analysis("eval", str(tmp_path / "eval"), 3, evaluator.analysis, kept_steps=[])
    assert "warning: eval: the analyses at step 3 could not be written" in capsys.readouterr().err
