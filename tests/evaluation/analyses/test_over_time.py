"""Objects over time: cases by hand, an independent implementation on random images, and planted label errors."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses import over_time
from od_eval.evaluation.analyses.label_suspects import label_suspects, suspects_json
from od_eval.evaluation.analyses.over_time import (
    ObjectHistory,
    add,
    counts_per_category,
    objects_over_time,
    persistent_suspects,
    without,
)
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.object_columns import as_pandas
from od_eval.evaluation.object_table import ObjectTable

PLACES = [[10.0 + 60 * row, 10, 50 + 60 * row, 50] for row in range(8)]
SIZE = [[500, 120]]


def history_of(tables: dict[int, ObjectTable]) -> ObjectHistory:
    history = ObjectHistory.empty()
    for step, table in tables.items():
        history = add(history, step, table)
    return history


def cats(found: list[bool], score: float = 0.9, extra: list[list[float]] = (), **changes) -> ObjectTable:
    """Cats at `PLACES`, of which some are found, and detections of cats at the places `extra`."""
    boxes = [place for place, is_found in zip(PLACES, found, strict=False) if is_found] + list(extra)
    fields = {
        "boxes": [np.array(boxes).reshape(-1, 4)],
        "scores": [np.full(len(boxes), score)],
        "classes": [np.full(len(boxes), 3)],
        "gt_boxes": [PLACES[: len(found)]],
        "gt_classes": [[3] * len(found)],
        "image_sizes": SIZE,
    }
    return evaluated([one_image(**{**fields, **changes})]).object_tables()["bbox"]


def plain(objects: pd.DataFrame) -> list[dict]:
    """The rows in the order of boxes, with None for NA."""
    rows = objects.sort_values(["image_id", "category", "x", "y", "width", "height"]).to_dict("records")
    return [{name: None if value is pd.NA else value for name, value in row.items()} for row in rows]


# ---- By hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "first_found", "learnt_at", "lost_at", "num_changes", "status"),
    [
        ("11111", 10, 10, None, 0, "learnt"),
        ("00110", 30, None, 50, 2, "lost"),
        ("01011", 20, 40, None, 3, "learnt"),
        ("10101", 10, 50, None, 4, "flickering"),
        ("01010", 20, None, 50, 4, "flickering"),
        ("10000", 10, None, 20, 1, "lost"),
        ("00000", None, None, None, 0, "never"),
    ],
)
def test_an_object_is_learnt_lost_flickers_or_is_never_found(
    found, first_found, learnt_at, lost_at, num_changes, status
) -> None:
    tables = {10 * (index + 1): cats([True, flag == "1"]) for index, flag in enumerate(found)}
    row = plain(objects_over_time(history_of(tables)))[1]
    assert row == {
        "image_id": "a",
        "category": "cat",
        "x": 10.0,
        "y": 70.0,
        "width": 40.0,
        "height": 40.0,
        "first_found": first_found,
        "learnt_at": learnt_at,
        "lost_at": lost_at,
        "num_changes": num_changes,
        "num_found": found.count("1"),
        "num_steps": 5,
        "status": status,
    }


@pytest.mark.parametrize(("slips", "status"), [(3, "learnt"), (4, "flickering")])
def test_over_many_evaluations_a_fifth_have_to_be_changes(slips, status) -> None:
    seen, missed = cats([True, True]), cats([True, False])
    missed_at = range(1, 2 * slips, 2)  # 2 changes each, of 40 that are possible
    tables = {step: missed if step in missed_at else seen for step in range(41)}
    assert plain(objects_over_time(history_of(tables)))[1]["status"] == status


def test_an_object_is_found_only_at_the_confidence_with_the_best_f1() -> None:
    # Used from 0.9 on, F1 is 2/3; with the 0.25 of the second object come four that are wrong: 4/8.
    wrong = [[10.0 + 60 * row, 60, 50 + 60 * row, 100] for row in range(4)]
    boxes = [PLACES[0], [70.0, 10, 110, 40], *wrong]
    table = cats([True, True], boxes=[boxes], scores=[[0.9, *[0.25] * 5]], classes=[[3] * 6])
    history = history_of({1: table})
    assert list(history.confidences) == [np.float32(0.9)]
    assert history.found.tolist() == [[1], [0]]
    assert history.score[:, 0] == pytest.approx([0.9, 0.25])
    assert history.iou[:, 0] == pytest.approx([1, 0.75])


def test_boxes_are_equal_to_a_hundredth_of_a_pixel_and_equal_objects_are_counted() -> None:
    def table(shift: float) -> ObjectTable:
        moved = [np.add(PLACES[0], shift), np.add(PLACES[0], shift), PLACES[1]]
        return cats([True], gt_boxes=[moved], gt_classes=[[3] * 3])

    history = history_of({1: table(0), 2: table(0.001)})
    assert history.objects["number"].tolist() == [0, 1, 0]
    assert len(history_of({1: table(0), 2: table(0.1)}).objects) == 5


def test_objects_of_other_evaluation_sets_are_followed_where_they_are() -> None:
    tables = {
        1: cats([True, False]),
        2: cats([True, False, True]),
        3: cats([False, False, True], image_ids=["b"]),
        4: cats([True, True]),
    }
    objects = objects_over_time(history_of(tables))
    assert objects.attrs == {"steps": [1, 2, 3, 4], "num_evaluation_sets": 3, "num_not_in_all": 6}
    of_a = plain(objects[objects.image_id == "a"])
    assert [(row["num_steps"], row["num_found"], row["status"]) for row in of_a] == [
        (3, 3, "learnt"),
        (3, 1, "learnt"),
        (1, 1, "learnt"),
    ]
    assert [row["status"] for row in plain(objects[objects.image_id == "b"])] == ["never", "never", "learnt"]


def test_nobody_has_to_find_crowds_and_difficult_objects() -> None:
    table = cats([True] * 3, gt_is_crowd=[[False, True, False]], gt_difficult=[[False, False, True]])
    assert len(objects_over_time(history_of({1: table}))) == 1


def test_counts_are_of_categories_that_have_objects() -> None:
    tables = {step: cats([True, step > 1, False], gt_classes=[[3, 3, 18]]) for step in (1, 2)}
    assert counts_per_category(objects_over_time(history_of(tables))) == {
        "bird": {"learnt": 0, "lost": 0, "flickering": 0, "never": 1},
        "cat": {"learnt": 2, "lost": 0, "flickering": 0, "never": 0},
    }


@pytest.mark.parametrize("objects", [0, 2])
@pytest.mark.parametrize("detections", [0, 3])
def test_without_objects_or_detections_there_is_nothing_to_tell(objects, detections) -> None:
    table = cats([False] * objects, extra=[[200.0, 60, 240, 100]] * detections, score=0.5)
    history = history_of({1: table, 2: table})
    assert [row["status"] for row in plain(objects_over_time(history))] == ["never"] * objects
    assert persistent_suspects(history, table) == []
    assert persistent_suspects(ObjectHistory.empty(), table) == []
    assert len(objects_over_time(ObjectHistory.empty())) == 0


# ---- Random images --------------------------------------------------------------------------------------------------


def random_tables(seed: int, steps: int = 7) -> dict[int, ObjectTable]:
    """The same images with other detections at each step, with ties and crowds; in two steps an image is not there."""
    random = np.random.default_rng(seed)
    tables = {}
    for step in range(1, steps + 1):
        batches = []
        for batch in random_images(seed):
            boxes, scores, classes = (np.array(batch.detections.__dict__[name][0]) for name in FIELDS)
            kept = random.random(len(boxes)) < 0.7
            moved = boxes[kept] + random.normal(0, 2, boxes[kept].shape)
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
            scores = np.clip(scores[kept] + random.integers(-3, 4, kept.sum()) / 20, 0.05, 1)
            batches.append(dataclasses.replace(batch, detections=Detections([moved], [scores], [classes[kept]])))
        tables[100 * step] = evaluated(batches[step % 4 == 0 :]).object_tables()["bbox"]
    return tables


FIELDS = ("boxes", "scores", "classes")


def found_by_key(table: ObjectTable) -> dict[tuple, bool]:
    """Whether each object is found, from the rows of the pandas table."""
    rows = as_pandas(table)
    detections = rows[(rows.kind == "detection")]
    is_right = (detections.match_50 >= 0) & ~rows.ignored.reindex(detections.match_50).fillna(True).to_numpy(bool)
    is_wrong = (detections.match_50 < 0) & ~detections.ignored
    objects = rows[(rows.kind == "groundtruth") & ~rows.ignored]
    best_f1, confidence = 0.0, 0.5
    for score in sorted(set(detections.score), reverse=True):
        used = detections.score >= score
        tp, fp = (used & is_right).sum(), (used & is_wrong).sum()
        if tp and 2 * tp / (len(objects) + tp + fp) > best_f1:
            best_f1, confidence = 2 * tp / (len(objects) + tp + fp), score
    counter: Counter = Counter()
    found = {}
    for row in objects.itertuples():
        box = tuple(round(100 * value) for value in (row.x, row.y, row.width, row.height))
        key = (row.image_id, row.category, box)
        found[(*key, counter[key])] = row.match_50 >= 0 and rows.score[row.match_50] >= confidence
        counter[key] += 1
    return found


def reference(tables: dict[int, ObjectTable]) -> list[tuple]:
    series: dict[tuple, dict[int, bool]] = defaultdict(dict)
    for step, table in tables.items():
        for key, found in found_by_key(table).items():
            series[key][step] = found
    rows = []
    for (image_id, category, box, _), found in series.items():
        steps = sorted(found)
        learnt = [step for step in steps if all(found[later] for later in steps if later >= step)]
        lost = [step for step in steps if not any(found[later] for later in steps if later >= step)]
        of_found = [step for step in steps if found[step]]
        changes = sum(found[one] != found[other] for one, other in itertools.pairwise(steps))
        if not of_found:
            status, lost = "never", []
        elif changes >= 4:
            status = "flickering"
        else:
            status = "learnt" if learnt else "lost"
        ends = (min(of_found, default=None), min(learnt, default=None), min(lost, default=None))
        rows.append((image_id, category, box, *ends, changes, len(of_found), len(steps), status))
    return sorted(rows, key=str)


def as_reference(objects: pd.DataFrame) -> list[tuple]:
    rows = []
    for row in plain(objects):
        box = tuple(round(100 * row.pop(name)) for name in over_time.BOX)
        image_id, category, *others = row.values()
        rows.append((image_id, category, box, *others))
    return sorted(rows, key=str)


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_an_implementation_object_by_object(seed) -> None:
    tables = random_tables(seed)
    rows = as_reference(objects_over_time(history_of(tables)))
    assert rows == reference(tables)
    assert len({row[-1] for row in rows}) == 4


def assert_same_history(one: ObjectHistory, other: ObjectHistory, table: ObjectTable) -> None:
    assert list(one.steps) == list(other.steps)
    assert as_reference(objects_over_time(one)) == as_reference(objects_over_time(other))
    assert objects_over_time(one).attrs == objects_over_time(other).attrs
    assert persistent_suspects(one, table) == persistent_suspects(other, table)


@pytest.mark.parametrize("seed", range(2))
def test_the_order_in_which_evaluations_are_added_does_not_matter(seed) -> None:
    tables = random_tables(seed)
    shuffled = np.random.default_rng(seed).permutation(list(tables)).tolist()
    history = history_of(tables)
    assert len(history.unexplained) > 0
    assert_same_history(history_of({step: tables[step] for step in shuffled}), history, tables[700])
    assert_same_history(add(history, 300, tables[300]), history, tables[700])


def test_what_is_removed_was_never_there() -> None:
    tables = random_tables(0)
    history = without(history_of(tables), [200, 600, 700, 900])
    kept = {step: tables[step] for step in (100, 300, 400, 500)}
    assert_same_history(history, history_of(kept), tables[500])


# ---- Label suspects -------------------------------------------------------------------------------------------------

UNLABELLED = [430.0, 10, 470, 50]


def test_a_detection_that_stays_at_its_place_is_a_missing_label() -> None:
    moved = [[430.0 + shift, 10, 470 + shift, 50] for shift in (0, 8, 16, 24)]  # IoU 2/3 from step to step, 1/4 at last
    tables = {step: cats([True], extra=[box]) for step, box in enumerate(moved)}
    (suspect,) = persistent_suspects(history_of(tables), tables[3])
    assert (suspect.kind, suspect.image, suspect.detection, suspect.groundtruth) == ("missing", 0, 1, -1)
    assert suspect.score == pytest.approx(0.9)
    assert suspect.suspicion == 1
    content = suspects_json(tables[3], [suspect])
    assert content["annotations"][0]["bbox"] == pytest.approx([10, 454, 40, 40])


@pytest.mark.parametrize(("there", "num"), [("1001", 2), ("10001", 1), ("0110", 2), ("011000", 0)])
def test_a_place_may_be_empty_in_two_evaluations(there, num) -> None:
    tables = {
        step: cats(
            [True],
            boxes=[[PLACES[0], UNLABELLED]],
            scores=[[0.9, 0.9 if flag == "1" else 0.1]],
            classes=[[3, 3]],
        )
        for step, flag in enumerate(there)
    }
    suspects = persistent_suspects(history_of(tables), tables[len(there) - 1])
    assert [suspect.suspicion for suspect in suspects] == ([num / len(there)] if num else [])


def test_without_any_detection_at_the_place_in_the_newest_evaluation_there_is_nothing_to_propose() -> None:
    tables = {step: cats([True], extra=[UNLABELLED] if step < 3 else []) for step in range(4)}
    assert persistent_suspects(history_of(tables), tables[3]) == []


@pytest.mark.parametrize(("found", "num"), [("1000", 3), ("0000", 4), ("0100", 0), ("0001", 0)])
def test_an_object_that_stays_missed_is_an_extra_label(found, num) -> None:
    tables = {step: cats([True, flag == "1"]) for step, flag in enumerate(found)}
    suspects = persistent_suspects(history_of(tables), tables[3])
    # The recall of cats is 1/2.
    assert [(suspect.kind, suspect.groundtruth, suspect.suspicion) for suspect in suspects] == (
        [("extra", 1, 0.5 * 0.5 * num / 4)] if num else []
    )


def test_an_object_that_a_detection_means_is_no_extra_label() -> None:
    dog = {"boxes": [[PLACES[0], PLACES[1]]], "scores": [[0.9, 0.9]], "classes": [[3, 1]]}
    tables = {step: cats([True, False], **dog) for step in range(3)}
    assert persistent_suspects(history_of(tables), tables[2]) == []


def simulated_run(seed: int, steps: int = 12, images: int = 60) -> tuple[dict[int, ObjectTable], set[tuple]]:
    """The evaluations of a detector that learns, on labels with errors, and the errors: kind, image and place.

    Objects are hard or easy, once for all. Of the places without an object, some look like one and are detected in
    half of the evaluations; others are by chance. Of the labels 5% are missing, and as many are of nothing.
    """
    random = np.random.default_rng(seed)
    kinds = random.choice(["object", "look-alike", "nothing"], (images, 8), p=[0.6, 0.1, 0.3])
    chance = np.where(random.random((images, 8)) < 0.25, random.uniform(0.1, 0.7, (images, 8)), 0.95)
    chance = np.select([kinds == "object", kinds == "look-alike"], [chance, 0.5], 0.08)
    wrong = random.random((images, 8)) < 0.05
    labelled = np.where(kinds == "object", ~wrong, (kinds == "nothing") & (random.random((images, 8)) < 0.1))
    errors = {
        ("missing" if kinds[at] == "object" else "extra", *at)
        for at in zip(*np.nonzero(labelled != (kinds == "object")), strict=True)
    }
    tables = {}
    for step in range(1, steps + 1):
        seen = random.random((images, 8)) < chance * min(1, 0.5 + step / steps)
        scores = np.where(
            kinds == "object", random.normal(0.7, 0.15, (images, 8)), random.normal(0.6, 0.2, (images, 8))
        )
        scores = np.clip(scores, 0.05, 1)
        boxes = [np.array(PLACES)[of_image] + random.normal(0, 1.5, (of_image.sum(), 4)) for of_image in seen]
        batch = EvaluationBatch(
            image_ids=list(range(images)),
            image_sizes=SIZE * images,
            detections=Detections(
                boxes,
                [of_image[there] for of_image, there in zip(scores, seen, strict=True)],
                [np.full(len(of_image), 3) for of_image in boxes],
            ),
            groundtruth=GroundTruth(
                [np.array(PLACES)[of_image] for of_image in labelled],
                [np.full(of_image.sum(), 3) for of_image in labelled],
            ),
        )
        tables[step] = evaluated([batch]).object_tables()["bbox"]
    return tables, errors


def precision(table: ObjectTable, suspects: list, errors: set[tuple], kind: str) -> float:
    """What part of the first suspects, as many as there are errors of the kind, are errors."""
    num = sum(error[0] == kind for error in errors)
    first = [suspect for suspect in suspects if suspect.kind == kind][:num]
    right = 0
    for suspect in first:
        objects, row = (
            (table.detections, suspect.detection)
            if suspect.detection >= 0
            else (table.groundtruth, suspect.groundtruth)
        )
        image = list(table.images)[suspect.image]
        right += (kind, image, round((objects.box[row][1] - 10) / 60)) in errors
    return right / num


@pytest.mark.parametrize("seed", range(4))
def test_many_checkpoints_judge_labels_better_than_one(seed) -> None:
    tables, errors = simulated_run(seed)
    newest = tables[12]
    many, one = persistent_suspects(history_of(tables), newest), label_suspects(newest)
    for kind in ("missing", "extra"):
        assert precision(newest, many, errors, kind) > precision(newest, one, errors, kind)
