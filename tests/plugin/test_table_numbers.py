"""What the page "Detections" computes from the object table (static/table.js), against the analyses in Python."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_images import CATEGORIES, evaluated, mask_of, one_image, random_images
from od_eval.evaluation.analyses.confusion import ConfusionMatrix, confusion_matrix
from od_eval.evaluation.analyses.distributions import matched_iou
from od_eval.evaluation.analyses.operating_point import DEFAULT_CONFIDENCE, Counts, choose, counts, cuts, total
from od_eval.evaluation.analyses.per_image import per_image
from od_eval.evaluation.matching import IOU_THRESHOLDS
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable
from od_eval.evaluation.options import AnalysisOptions
from od_eval.plugin import page_data
from od_eval.runs import analysis_files
from od_eval.runs.object_files import FILE_NAMES, parquet, read_object_table

SCRIPT = Path(__file__).with_name("table_numbers.mjs")
ALL = {"confidence": 0.3, "iou": 0, "category": None, "minArea": 0}
RIGHT, WRONG, NEITHER = 1, 2, 3
FOUND, MISSED, IGNORED, OUTSIDE = range(4)


@functools.cache
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is not installed")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, version.lstrip("v").split(".")[:2])) < (20, 19):
        pytest.skip(f"node {version} does not read modules without a package.json; from 20.19 on it does")
    return path


def computed(run_dir: Path, *choices: dict[str, Any], iou_type: str = "bbox") -> dict[str, Any]:
    """What the page computes for each choice."""
    path = run_dir / "table.bin"
    path.write_bytes(page_data.objects(str(run_dir), 1, iou_type))
    command = [node(), str(SCRIPT), str(path), json.dumps(choices)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def write_table(table: ObjectTable, run_dir: Path) -> ObjectTable:
    """Writes a table into a run; returns what is read from there: of masks, a file has only the best partners."""
    name = FILE_NAMES[table.iou_type]
    analysis_files.write(str(run_dir), 1, {name: parquet(table)})
    return read_object_table(str(Path(analysis_files.of_step(str(run_dir), 1)) / name))


@functools.cache
def random_table(seed: int, iou_type: str) -> ObjectTable:
    """Where several detections of different categories compete for the same objects, with many equal scores."""
    images = random_images(seed, num=28, masks=True)
    random = np.random.default_rng(seed)
    for batch in images:
        there, found = batch.groundtruth, batch.detections
        if len(there.boxes[0]) and len(found.boxes[0]):
            boxes = there.boxes[0][random.integers(0, len(there.boxes[0]), 12)]
            boxes = np.where(random.random((12, 1)) < 0.7, boxes + random.normal(0, 2, boxes.shape), found.boxes[0])
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
            found.boxes = [boxes]
            found.masks = [np.stack([mask_of(box, *batch.image_sizes[0]) for box in boxes])]
            found.classes = [random.choice([*CATEGORIES], 12)]
        there.difficult = [random.random(len(there.classes[0])) < 0.2]
    return evaluated(images, masks=True).object_tables()[iou_type]


@pytest.fixture(params=["bbox", "segm"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectTable:
    made = random_table(3, request.param)
    read = write_table(made, tmp_path)
    return made if request.param == "bbox" else read


def test_counts_and_the_confusion_matrix_are_those_of_the_analyses(table: ObjectTable, tmp_path: Path) -> None:
    choices = [
        {**ALL, "confidence": confidence, "iou": iou} for confidence in (0, 0.3, 0.55, 0.95, 1.5) for iou in (0, 3)
    ]
    results = computed(tmp_path, *choices, iou_type=table.iou_type)["results"]
    for choice, result in zip(choices, results, strict=True):
        at = choice["confidence"], choice["iou"]
        assert_same_counts(result["counts"], counts(table, *at))
        assert_same_confusion(result["confusion"], confusion_matrix(table, *at), table)


def assert_same_counts(got: dict[str, Any], expected: list[Counts]) -> None:
    for numbers, of in zip([got, *got["perCategory"]], [total(expected), *expected], strict=True):
        assert (numbers["gt"], numbers["dt"]) == (of.num_groundtruth, of.num_detections)
        assert (numbers["tp"], numbers["fp"], numbers["fn"]) == (of.tp, of.fp, of.fn)
        assert (numbers["precision"], numbers["recall"], numbers["f1"]) == (of.precision, of.recall, of.f1)


def assert_same_confusion(got: dict[str, Any], expected: ConfusionMatrix, table: ObjectTable) -> None:
    assert got["labels"] == list(expected.labels)
    assert got["counts"] == expected.counts.ravel().tolist()
    for rows, cell in zip(got["rows"], np.ndindex(expected.counts.shape), strict=True):
        detection, groundtruth = expected.rows(*cell)
        assert sorted(rows["detections"]) == sorted(detection[detection >= 0].tolist())
        assert sorted(rows["objects"]) == sorted(groundtruth[groundtruth >= 0].tolist())
        assert (np.diff(table.score[rows["detections"]]) <= 0).all()
        if len(rows["detections"]) == len(rows["objects"]):
            pairs = zip(rows["detections"], rows["objects"], strict=True)
            assert set(pairs) == set(zip(detection.tolist(), groundtruth.tolist(), strict=True))


def test_the_numbers_of_images_are_those_of_the_analyses(table: ObjectTable, tmp_path: Path) -> None:
    (result,) = computed(tmp_path, ALL, iou_type=table.iou_type)["results"]
    expected = per_image(table, ALL["confidence"])
    got = result["perImage"]
    for name in ("tp", "fp", "fn"):
        assert got[name] == expected[name].tolist()
    assert got["gt"] == expected["num_groundtruth"].tolist()
    for name, of_python in (("precision", "precision"), ("recall", "recall"), ("f1", "f1")):
        assert got[name] == expected[of_python]
    assert got["worstFp"] == expected["highest_fp_score"]
    if table.iou_type == "bbox":  # of masks, the overlaps of partners that are nobody's best are not in the file
        assert got["meanIou"] == [None if of is None else pytest.approx(of, abs=1e-6) for of in expected["mean_iou"]]
    assert (matched_iou(table) > 0).any()


@pytest.mark.parametrize("category", [None, 0, 3])
def test_the_cuts_and_the_best_f1_are_those_of_the_analyses(
    table: ObjectTable, tmp_path: Path, category: int | None
) -> None:
    (result,) = computed(tmp_path, {**ALL, "iou": 1, "category": category}, iou_type=table.iou_type)["results"]
    expected = cuts(table, category, 1)
    assert result["cuts"]["confidence"] == expected.confidence.tolist()
    assert result["cuts"]["tp"] == expected.tp.tolist()
    assert result["cuts"]["fp"] == expected.fp.tolist()
    assert result["cuts"]["gt"] == expected.num_groundtruth
    best = choose(expected, AnalysisOptions())
    if best.chosen_by == "default":
        assert result["bestF1"] is None
        assert best.confidence == DEFAULT_CONFIDENCE
    else:
        assert result["bestF1"]["confidence"] == best.confidence
        assert result["bestF1"]["f1"] == pytest.approx(expected.f_score().max(), abs=1e-12)
    assert result["curve"]["precision"] == pytest.approx(expected.precision)
    assert result["curve"]["recall"] == pytest.approx(expected.recall)


def test_what_is_of_another_category_or_size_does_not_count(table: ObjectTable, tmp_path: Path) -> None:
    cat, area = 1, 600.0
    results = computed(tmp_path, {**ALL, "category": cat}, {**ALL, "maxArea": area}, iou_type=table.iou_type)["results"]
    of_cat, small = ({name: np.array(judged) for name, judged in result["judged"].items()} for result in results)
    detections, objects = table.detections, table.groundtruth
    assert (of_cat["detections"][detections.category != cat] == 0).all()
    assert ((of_cat["objects"] == OUTSIDE) == (objects.category != cat)).all()
    assert results[0]["counts"]["tp"] == counts(table, ALL["confidence"])[cat].tp

    used = table.score >= ALL["confidence"]
    partner = table.matches.detection[:, 0]
    ignored = table.ignored | (objects.area > area)
    matches_ignored = (partner >= 0) & ignored[partner]
    assert ((small["objects"] == IGNORED) == ignored).all()
    assert ((small["detections"] == RIGHT) == (used & (partner >= 0) & ~matches_ignored)).all()
    counted = (detections.area <= area) & ~table.uncounted
    assert ((small["detections"] == WRONG) == (used & (partner < 0) & counted)).all()
    assert (small["detections"] == NEITHER).any()


def test_a_curve_of_many_scores_is_thinned_to_points_that_are_exact(tmp_path: Path) -> None:
    images = random_images(7, num=300)
    random = np.random.default_rng(7)
    for batch in images:
        batch.detections.scores = [random.random(len(scores)) for scores in batch.detections.scores]
    table = evaluated(images).object_tables()["bbox"]
    write_table(table, tmp_path)
    (result,) = computed(tmp_path, ALL)["results"]
    curve, exact = result["curve"], cuts(table)
    assert len(exact.confidence) > 2000
    assert 200 < len(curve["confidence"]) <= 1000
    at = np.searchsorted(-exact.confidence, -np.array(curve["confidence"]))
    assert curve["confidence"] == exact.confidence[at].tolist()
    assert curve["precision"] == pytest.approx(exact.precision[at])
    assert curve["recall"] == pytest.approx(exact.recall[at])
    assert curve["f1"] == pytest.approx(exact.f_score()[at])
    assert {0, len(exact.confidence) - 1, int(np.argmax(exact.f_score()))} <= set(at.tolist())
    assert np.diff(exact.recall[at]).max() < 0.01


def test_an_evaluation_without_anything_has_no_ratios(tmp_path: Path) -> None:
    nothing = one_image(boxes=[[]], scores=[[]], classes=[[]], gt_boxes=[[]], gt_classes=[[]])
    write_table(evaluated([nothing]).object_tables()["bbox"], tmp_path)
    answer = computed(tmp_path, ALL)
    (result,) = answer["results"]
    assert result["counts"]["precision"] is None
    assert result["bestF1"] is None
    assert result["curve"]["confidence"] == []
    assert set(result["confusion"]["counts"]) == {0}
    assert answer["thresholds"] == IOU_THRESHOLDS.tolist()
    assert answer["errorKinds"] == list(ERROR_KINDS)
