"""What the view "Compare" counts (static/changes.js), against the comparison and the history in Python."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_table_numbers import node, write_table

from made_images import CATEGORIES, evaluated, mask_of, random_images
from od_eval.evaluation.analyses.comparison import CHANGES, Columns, SetDifference, common_part, compare
from od_eval.evaluation.batch import EvaluationBatch
from od_eval.evaluation.object_table import ObjectTable
from od_eval.plugin import page_data
from od_eval.runs import analysis_files
from od_eval.runs.object_files import FILE_NAMES, parquet
from od_eval.runs.object_history import load_object_history

SCRIPT = Path(__file__).with_name("change_numbers.mjs")
ALL = {"iou": 0, "category": None, "minArea": 0}
CONFIDENCES = [(0.0, 0.0), (0.3, 0.3), (0.35, 0.6), (0.9, 0.1), (2.0, 0.5)]


def batches(seed: int) -> list[EvaluationBatch]:
    """The same images and objects for each seed, and detections.

    There are crowds, difficult objects, twins, equal scores, and detections that are the same for each seed, of which
    some have no area.
    """
    images = random_images(3, num=28, masks=True)
    shared, random = np.random.default_rng(0), np.random.default_rng(seed)
    for batch in images:
        there, found = batch.groundtruth, batch.detections
        boxes, classes = there.boxes[0], there.classes[0]
        if len(boxes) > 1:  # twins, which only their order tells apart
            boxes[1], classes[1] = boxes[0], classes[0]
            there.masks[0][1] = there.masks[0][0]
        there.difficult = [shared.random(len(classes)) < 0.2]
        background = shared.uniform(0, 90, (4, 2))
        background = np.concatenate((background, background + shared.choice([0, 12, 30], (4, 1))), axis=1)
        if len(found.boxes[0]) and len(boxes):
            of_objects = boxes[random.integers(0, len(boxes), 8)]
            found.boxes = [np.concatenate((of_objects + random.normal(0, 2, of_objects.shape), background))]
            found.boxes[0][:, 2:] = np.maximum(found.boxes[0][:, 2:], found.boxes[0][:, :2])
            found.boxes[0][9] += random.normal(0, 4, 1)
            found.classes = [np.concatenate((random.choice([1, 3, 18], 8), [1, 1, 3, 18]))]
            found.scores = [random.integers(1, 20, 12).astype(np.float32) / 20]
            found.masks = [np.stack([mask_of(box, *batch.image_sizes[0]) for box in found.boxes[0]])]
    return images


@functools.cache
def made_table(seed: int, iou_type: str) -> ObjectTable:
    return evaluated(batches(seed), masks=True).object_tables()[iou_type]


def other_evaluation_set() -> ObjectTable:
    """Of seed 2: images in another order, and not all; an object less, one moved, one by less than it matters; objects
    in another order; and a category less."""
    images = batches(2)[::-1][:-3]
    with_objects = [batch for batch in images if len(batch.groundtruth.boxes[0]) > 3]
    for batch in with_objects[4:]:
        batch.groundtruth.boxes[0] += 0.04
    for batch in with_objects[6:]:
        there = batch.groundtruth
        order = np.arange(len(there.boxes[0]))[::-1]
        for name in ("boxes", "classes", "masks", "is_crowd", "difficult"):
            setattr(there, name, [np.asarray(getattr(there, name)[0])[order]])
    with_objects[0].groundtruth.boxes[0][3] += 1
    with_objects[1].groundtruth.classes[0][3] = 3 if with_objects[1].groundtruth.classes[0][3] != 3 else 1
    with_objects[2].groundtruth.difficult[0][3] ^= True
    categories = {10 + id: name for id, name in reversed(CATEGORIES.items()) if name != "bird"}
    for batch in images:
        for part in (batch.groundtruth, batch.detections):
            kept = part.classes[0] != 18
            for name in ("boxes", "classes", "masks", "is_crowd", "difficult", "scores"):
                if getattr(part, name, None) is not None:
                    setattr(part, name, [np.asarray(getattr(part, name)[0])[kept]])
            part.classes = [part.classes[0] + 10]
    return evaluated(images, categories=categories, masks=True).object_tables()["bbox"]


def computed(
    folder: Path, a: ObjectTable, b: ObjectTable, *choices: tuple[dict[str, Any], dict[str, Any]]
) -> tuple[dict[str, Any], ObjectTable, ObjectTable]:
    """What the page computes for pairs of choices, and the two tables as it has them."""
    read = []
    for name, table in (("a", a), ("b", b)):
        read.append(write_table(table, folder / name))
        (folder / f"{name}.bin").write_bytes(page_data.objects(str(folder / name), 1, table.iou_type))
    return run_node(folder, *choices), *read


def run_node(folder: Path, *choices: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    paths = [str(folder / name) for name in ("a.bin", "b.bin")]
    others = [str(folder / name) for name in ("history.json", "comparison.json")]
    command = [node(), str(SCRIPT), *paths, json.dumps(choices), *others]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def choices_of(*confidences: tuple[float, float]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [({**ALL, "confidence": one}, {**ALL, "confidence": other}) for one, other in confidences]


def places(table: ObjectTable, kind: str, rows: list[int]) -> list[tuple[Any, ...]]:
    """Image, category and box of rows, sorted."""
    objects = table.groundtruth if kind == "objects" else table.detections
    ids, names = list(table.images), list(table.categories.values())
    box = np.float32(objects.box[rows])
    labels = zip(objects.image[rows], objects.category[rows], box.tolist(), strict=True)
    return sorted((str(ids[image]), names[category], *corners) for image, category, corners in labels)


def places_of_change(columns: Columns, change: str) -> list[tuple[Any, ...]]:
    """The same of the rows of `Comparison.objects`."""
    rows = [row for row, name in enumerate(columns["change"]) if name == change]
    box = np.float32([[columns[name][row] for name in ("x", "y", "width", "height")] for row in rows]).reshape(-1, 4)
    labels = zip(rows, box.tolist(), strict=True)
    return sorted((str(columns["image_id"][row]), columns["category"][row], *corners) for row, corners in labels)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_changes_are_those_of_the_comparison(iou_type: str, tmp_path: Path) -> None:
    got, a, b = computed(tmp_path, made_table(1, iou_type), made_table(2, iou_type), *choices_of(*CONFIDENCES))
    least = dict.fromkeys(CHANGES, 0)
    for confidences, found in zip(CONFIDENCES, got["found"], strict=True):
        expected = compare(a, b, *confidences)
        rows = found["rows"]
        assert (len(rows["both"]), len(rows["neither"])) == (expected.num_both, expected.num_neither)
        for change, num in expected.changes.items():
            assert len(rows[change]) == num, (change, confidences)
            kind = "detections" if change.startswith("fp") else "objects"
            table = a if change == "fp_went" else b
            assert places(table, kind, rows[change]) == places_of_change(expected.objects, change)
            least[change] = max(least[change], num)
        nums = dict(zip(map(str, a.images), found["numPerImage"], strict=True))
        in_images = zip(map(str, expected.images["image_id"]), expected.images["changes"], strict=True)
        assert {id: num for id, num in nums.items() if num} == dict(in_images)
    assert min(least.values()) > 5, "the data has too few changes to compare"


def test_of_different_evaluation_sets_what_both_have_is_compared(tmp_path: Path) -> None:
    got, a, b = computed(tmp_path, made_table(1, "bbox"), other_evaluation_set(), *choices_of(*CONFIDENCES))
    part_a, part_b, difference = common_part(a, b)
    same = got["same"]
    assert same_difference(same) == difference_without_first(difference)
    assert difference.changed_images == 3
    assert difference.categories_a == ["bird"] == same["categoriesOnlyA"]
    assert sum(same["isCompared"]) == len(part_a.images)
    assert same["firstChanged"] == same["isCompared"].index(0)
    for confidences, found in zip(CONFIDENCES, got["found"], strict=True):
        expected = compare(part_a, part_b, *confidences)
        rows = found["rows"]
        assert {change: len(rows[change]) for change in CHANGES} == dict(expected.changes)
        assert (len(rows["both"]), len(rows["neither"])) == (expected.num_both, expected.num_neither)
        assert places(b, "detections", rows["fp_came"]) == places_of_change(expected.objects, "fp_came")
        assert places(a, "detections", rows["fp_went"]) == places_of_change(expected.objects, "fp_went")


def same_difference(same: dict[str, Any]) -> tuple[Any, ...]:
    return (
        *(same["categoriesOnlyA"], same["categoriesOnlyB"], same["imagesOnlyA"], same["imagesOnlyB"]),
        *(same["imagesChanged"], same["objectsOnlyA"] + same["objectsOnlyB"]),
    )


def difference_without_first(difference: SetDifference) -> tuple[Any, ...]:
    return (
        *(difference.categories_a, difference.categories_b, difference.images_a, difference.images_b),
        *(difference.changed_images, difference.changed_objects),
    )


def test_iou_category_and_size_count(tmp_path: Path) -> None:
    at_iou = {"iou": 2, "minArea": 50, "maxArea": 8000}
    categories = [None, 0, 1, 2]
    choices = [
        tuple({**at_iou, "category": category, "confidence": confidence} for confidence in (0.1, 0.3))
        for category in categories
    ]
    got, a, b = computed(tmp_path, made_table(1, "bbox"), made_table(2, "bbox"), *choices)
    objects = a.groundtruth
    has_to_be_found = ~a.ignored & (objects.area >= 50) & (objects.area <= 8000)
    found_a, found_b = a.is_found(0.1)[:, 2], b.is_found(0.3)[:, 2]
    for category, found in zip(categories, got["found"], strict=True):
        counted = has_to_be_found if category is None else has_to_be_found & (objects.category == category)
        expected = {
            "fixed": counted & ~found_a & found_b,
            "broke": counted & found_a & ~found_b,
            "both": counted & found_a & found_b,
            "neither": counted & ~found_a & ~found_b,
        }
        for change, of in expected.items():
            assert found["rows"][change] == np.flatnonzero(of).tolist()
            assert of.any() or category is not None, change
        fixed = np.bincount(objects.image[expected["fixed"]], minlength=len(a.images))
        assert found["numPerImageFixed"] == fixed.tolist()


def test_the_comparison_the_other_way_is_that_of_python(tmp_path: Path) -> None:
    a, b = made_table(1, "bbox"), made_table(2, "bbox")
    there, back = compare(a, b, 0.3, 0.5).to_dict(), compare(b, a, 0.5, 0.3).to_dict()
    (tmp_path / "comparison.json").write_text(json.dumps(there))
    got, *_ = computed(tmp_path, a, b)
    assert flat(got["mirrored"]) == pytest.approx(flat(back), abs=1e-12)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Numbers by their path."""
    if isinstance(value, dict):
        return {path: of for key, part in value.items() for path, of in flat(part, f"{name}/{key}").items()}
    if isinstance(value, list):
        return {path: of for key, part in enumerate(value) for path, of in flat(part, f"{name}/{key}").items()}
    return {name: value}


def test_that_the_evaluation_set_has_changed_is_said_once_for_each_new_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "eval"
    for step, table in enumerate([made_table(1, "bbox"), other_evaluation_set(), made_table(2, "bbox")]):
        analysis_files.write(str(run_dir), step, {FILE_NAMES["bbox"]: parquet(table)})
        histories = [page_data.history(str(run_dir), "bbox") for _ in range(3)]
        assert [history["steps"] for history in histories] == [[*range(step + 1)]] * 3
        assert capsys.readouterr().err.count("has changed between evaluations") == (step > 0)


def test_what_became_of_objects_is_that_of_the_history(tmp_path: Path) -> None:
    tables = [made_table(1, "bbox"), other_evaluation_set(), made_table(1, "bbox"), made_table(2, "bbox")]
    run_dir = tmp_path / "eval"
    for step, table in enumerate(tables):
        analysis_files.write(str(run_dir), step, {FILE_NAMES["bbox"]: parquet(table)})
    history = page_data.history(str(run_dir), "bbox")
    (tmp_path / "history.json").write_text(json.dumps(history))
    for name in ("a", "b"):
        (tmp_path / f"{name}.bin").write_bytes(page_data.objects(str(run_dir), 3, "bbox"))
    followed = run_node(tmp_path)["followed"]

    expected = load_object_history(str(tmp_path))
    assert (history["steps"], history["num_evaluation_sets"]) == ([0, 1, 2, 3], 2)
    assert history["num_not_in_all"] == expected.attrs["num_not_in_all"] > 0
    always = (expected["status"] == "learnt") & (expected["num_found"] == expected["num_steps"])
    status = np.where(always, "always", expected["status"].astype(str))
    newest = tables[-1]
    # What is in one evaluation only is in that of the other evaluation set.
    is_there = (expected["num_steps"] > 1).to_numpy()
    assert is_there.sum() == (~newest.ignored).sum()
    assert followed["numElsewhere"] == (~is_there).sum() > 0
    columns = ["image_id", "category", "x", "y", "width", "height"]
    for name, rows in followed["rows"].items():
        of_status = expected[is_there & (status == name)][columns].itertuples(index=False)
        assert [row[:2] for row in places(newest, "objects", rows)] == sorted(
            (str(id), name) for id, name, *_ in of_status
        )
    assert {name for name, rows in followed["rows"].items() if rows} >= {"learnt", "lost", "never", "always"}
