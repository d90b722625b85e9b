"""Two evaluations: a case worked out by hand, and random ones against loops over objects and detections."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from made_images import CATEGORIES, evaluated, one_image, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation.analyses.comparison import CHANGES, ComparedScore, Comparison, common_part, compare
from od_eval.evaluation.analyses.intervals import METRICS, Interval, difference_intervals
from od_eval.evaluation.analyses.what_if import with_merged_categories
from od_eval.evaluation.object_table import ObjectTable

PLACES = [[0.0, 20 * row, 10, 20 * row + 10] for row in range(6)]


def table_of(images: list, **options) -> ObjectTable:
    return evaluated(images, **options).object_tables()["bbox"]


def test_a_case_worked_out_by_hand() -> None:
    # Dogs in places 0 and 1, a cat in 2, a crowd of dogs in 3; nothing in 4 and 5.
    there = {"gt_boxes": [PLACES[:4]], "gt_classes": [[1, 1, 3, 1]], "gt_is_crowd": [[False, False, False, True]]}

    def found(*detections: tuple[int, float, int]) -> ObjectTable:
        places, scores, classes = zip(*detections, strict=True)
        return table_of(
            [one_image(boxes=[[PLACES[place] for place in places]], scores=[scores], classes=[classes], **there)]
        )

    # A finds the first dog, and the second below its confidence; its false positives are a dog in 4, a cat in 5.
    a = found((0, 0.9, 1), (1, 0.2, 1), (3, 0.8, 1), (4, 0.7, 1), (5, 0.6, 3))
    # B finds the second dog and the cat, not the first; its false positives are the dog in 4 and a dog in 5.
    b = found((1, 0.9, 1), (2, 0.8, 3), (4, 0.5, 1), (5, 0.7, 1), (3, 0.9, 1))
    compared = compare(a, b, 0.5, 0.4)
    assert compared.changes == {"fixed": 2, "broke": 1, "fp_came": 1, "fp_went": 1}
    assert (compared.num_fixed, compared.num_broken, compared.num_both, compared.num_neither) == (2, 1, 0, 0)
    assert (compared.num_images, compared.num_groundtruth) == (1, 3)
    rows = list(zip(*compared.objects.values(), strict=True))
    assert list(compared.objects) == [
        "change", "image_id", "category", "x", "y", "width", "height", "score_a", "score_b",
    ]  # fmt: skip
    assert [row[:7] for row in rows] == [
        ("fixed", "a", "dog", 20, 0, 10, 10),
        ("fixed", "a", "cat", 40, 0, 10, 10),
        ("broke", "a", "dog", 0, 0, 10, 10),
        ("fp_came", "a", "dog", 100, 0, 10, 10),
        ("fp_went", "a", "cat", 100, 0, 10, 10),
    ]
    scores = [tuple(score and round(score, 6) for score in row[7:]) for row in rows]
    assert scores == [(0.2, 0.9), (None, 0.8), (0.9, None), (None, 0.7), (0.6, None)]
    assert {name: values for name, values in compared.images.items()} == {
        "image_id": ["a"], "num_groundtruth": [3], "tp_a": [1], "fp_a": [2], "fn_a": [2], "tp_b": [2], "fp_b": [2],
        "fn_b": [1], "fixed": [2], "broke": [1], "fp_came": [1], "fp_went": [1], "changes": [5],
    }  # fmt: skip
    # F1: A has 1 of 3 objects and 2 wrong, B 2 of 3 and 2 wrong.
    f1 = compared.overall["F1"]
    assert (f1.a, f1.b, f1.difference) == pytest.approx((2 / 6, 4 / 7, 4 / 7 - 2 / 6))
    assert (f1.interval, f1.is_distinguishable) == (None, None), "of one image"
    dog = compared.per_category["dog"]
    assert (dog.num_groundtruth, dog.changes) == (2, {"fixed": 1, "broke": 1, "fp_came": 1, "fp_went": 0})
    assert dog.scores["F1"].a == pytest.approx(2 / 4)
    assert compared.per_category["bird"].scores["AP"] == ComparedScore(None, None, None)
    assert compared.to_dict()["per_category"]["cat"]["fixed"] == 1


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.3, False), (0.0, 0.0, False)]
)
def test_a_difference_can_be_told_from_chance_if_its_interval_is_on_one_side_of_0(low, high, expected) -> None:
    assert ComparedScore(0.5, 0.6, Interval(low, high)).is_distinguishable is expected


def two_detectors(seed: int, masks: bool = False) -> tuple[list, list]:
    """The same images, with the detections of one moved and rated anew by the other."""
    a, b = random_images(seed, num=21, masks=masks), random_images(seed, num=21, masks=masks)
    random = np.random.default_rng(seed)
    for batch in b:
        found = batch.detections
        boxes = found.boxes[0] + random.normal(0, 3, found.boxes[0].shape).astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        found.boxes = [boxes]
        found.scores = [random.permutation(found.scores[0])]
    return a, b


def iou_of(box: np.ndarray, other: np.ndarray) -> float:
    sides = [max(min(box[i] + box[i + 2], other[i] + other[i + 2]) - max(box[i], other[i]), 0) for i in (0, 1)]
    intersection = sides[0] * sides[1]
    return intersection / (box[2] * box[3] + other[2] * other[3] - intersection) if intersection else 0.0


def found_objects(table: ObjectTable, confidence: float) -> set[int]:
    by = table.matches.groundtruth[:, 0]
    return {
        row
        for row, detection in enumerate(by)
        if not table.ignored[row] and detection >= 0 and table.score[detection] >= confidence
    }


def false_positives(table: ObjectTable, confidence: float) -> list[int]:
    matched = table.matches.detection[:, 0]
    return [row for row, match in enumerate(matched) if match < 0 and table.score[row] >= confidence]


def without_partner(table: ObjectTable, rows: list[int], other: ObjectTable, others: list[int]) -> set[int]:
    one, two = table.detections, other.detections
    return {
        row
        for row in rows
        if not any(
            one.image[row] == two.image[match]
            and one.category[row] == two.category[match]
            and (iou_of(one.box[row], two.box[match]) >= 0.5 or (one.box[row] == two.box[match]).all())
            for match in others
        )
    }


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_random_evaluations_are_compared_as_by_loops(seed, iou_type) -> None:
    evaluators = [evaluated(images, masks=True) for images in two_detectors(seed, masks=True)]
    a, b = (evaluator.object_tables()[iou_type] for evaluator in evaluators)
    confidence_a, confidence_b = 0.3, 0.4
    compared = compare(a, b, confidence_a, confidence_b)
    found_a, found_b = found_objects(a, confidence_a), found_objects(b, confidence_b)
    false_a, false_b = false_positives(a, confidence_a), false_positives(b, confidence_b)
    sets = {
        "fixed": (a.groundtruth, found_b - found_a),
        "broke": (a.groundtruth, found_a - found_b),
        "fp_came": (b.detections, without_partner(b, false_b, a, false_a)),
        "fp_went": (a.detections, without_partner(a, false_a, b, false_b)),
    }
    assert all(rows for _, rows in sets.values())
    assert compared.changes == {change: len(rows) for change, (_, rows) in sets.items()}
    assert (compared.num_both, compared.num_neither) == (
        len(found_a & found_b),
        int((~a.ignored).sum()) - len(found_a | found_b),
    )
    boxes = {change: sorted(map(tuple, objects.box[[*rows]].tolist())) for change, (objects, rows) in sets.items()}
    columns = compared.objects
    rows = list(zip(columns["change"], columns["x"], columns["y"], columns["width"], columns["height"], strict=True))
    assert {change: sorted(row[1:] for row in rows if row[0] == change) for change in CHANGES} == boxes
    for index, name in enumerate(CATEGORIES[id] for id in sorted(CATEGORIES)):
        per_category = {change: sum(of.category[row] == index for row in rows) for change, (of, rows) in sets.items()}
        assert compared.per_category[name].changes == per_category

    images = [dict(zip(compared.images, row, strict=True)) for row in zip(*compared.images.values(), strict=True)]
    assert [image["changes"] for image in images] == sorted((image["changes"] for image in images), reverse=True)
    expected = {}
    for index, id in enumerate(a.images):
        nums = {change: sum(of.image[row] == index for row in rows) for change, (of, rows) in sets.items()}
        if any(nums.values()):
            expected[id] = nums
    assert {image["image_id"]: {change: image[change] for change in CHANGES} for image in images} == expected
    for image in images:
        index = list(a.images).index(image["image_id"])
        assert image["tp_a"] == sum(a.groundtruth.image[row] == index for row in found_a)
        assert image["fp_b"] == sum(b.detections.image[row] == index for row in false_b)
        assert image["tp_a"] + image["fn_a"] == image["tp_b"] + image["fn_b"] == image["num_groundtruth"]

    of_evaluators = [evaluator.evaluate() for evaluator in evaluators]
    for side, result in zip("ab", of_evaluators, strict=True):
        for metric in ("AP", "AP50"):
            assert getattr(compared.overall[metric], side) == result[iou_type][metric]
            for name, category in compared.per_category.items():
                of_category = result.per_category[name]
                of_category = of_category["segm"] if iou_type == "segm" else of_category
                assert getattr(category.scores[metric], side) == pytest.approx(of_category[metric], abs=1e-15)
    bounds = difference_intervals(a, b, confidence_a, confidence_b)
    assert {metric: score.interval for metric, score in compared.overall.items()} == bounds.overall
    assert [
        {metric: score.interval for metric, score in category.scores.items()}
        for category in compared.per_category.values()
    ] == bounds.per_category
    assert list(compared.overall) == list(METRICS)


def no_change(compared: Comparison) -> bool:
    scores = [compared.overall, *(category.scores for category in compared.per_category.values())]
    return not (
        any(compared.changes.values())
        or compared.objects["change"]
        or compared.images["image_id"]
        or any(score.difference or score.is_distinguishable for of in scores for score in of.values())
    )


@pytest.mark.parametrize(
    "images",
    [
        random_images(0),
        [one_image()],
        [one_image(boxes=[np.zeros((0, 4))], scores=[[]], classes=[[]])],
        [one_image(gt_boxes=[np.zeros((0, 4))], gt_classes=[[]])],
        [one_image(scores=[[0.5, 0.5]])],
    ],
    ids=["random", "one image", "no detections", "no objects", "equal scores"],
)
def test_an_evaluation_does_not_differ_from_itself(images) -> None:
    a, b, difference = common_part(table_of(images), table_of(images))
    assert difference.sentences() == []
    assert no_change(compare(a, b, 0.3, 0.3))


def test_merged_categories_are_compared_with_what_they_were() -> None:
    a = table_of(random_images(0, num=21))
    merged = {"pet": ["cat", "dog"]}
    b = with_merged_categories(a, merged)
    compared = compare(a, b, 0.5, 0.5, {"cat": "pet", "dog": "pet"})
    pet, cat = compared.per_category["pet"], compared.per_category["cat"]
    assert (pet.scores["AP"].a, cat.scores["AP"].b) == (None, None)
    assert pet.scores["AP"].b is not None
    assert pet.num_groundtruth == cat.num_groundtruth + compared.per_category["dog"].num_groundtruth
    assert compared.changes["fp_came"] < compare(a, b, 0.5, 0.5).changes["fp_came"]
    # A category that nothing has happened to is as it was.
    assert compared.per_category["bird"].scores["AP"].difference == 0
    assert compared.overall["AP"].interval is not None


# ---- What two evaluations have in common ----------------------------------------------------------------------------


def assert_same_objects(a: ObjectTable, b: ObjectTable, within: float = 0.0) -> None:
    assert list(a.images) == list(b.images)
    assert dict(a.categories) == dict(b.categories)
    for name in ("image", "category"):
        np.testing.assert_array_equal(getattr(a.groundtruth, name), getattr(b.groundtruth, name))
    np.testing.assert_array_equal(a.ignored, b.ignored)
    np.testing.assert_allclose(a.groundtruth.box, b.groundtruth.box, rtol=0, atol=within)


def test_the_order_of_objects_does_not_matter_nor_what_a_tenth_of_a_pixel_hides() -> None:
    images, others = two_detectors(0)
    random = np.random.default_rng(0)
    for batch in others:
        there = batch.groundtruth
        order = random.permutation(len(there.classes[0]))
        noise = random.uniform(-0.04, 0.04, (len(order), 4)).astype(np.float32)
        there.boxes = [np.maximum(there.boxes[0][order] + noise, 0)]
        there.classes, there.is_crowd = [there.classes[0][order]], [there.is_crowd[0][order]]
    a, b = table_of(images), table_of(others)
    part_a, part_b, difference = common_part(a, b)
    assert difference.sentences() == []
    assert_same_objects(part_a, part_b, within=0.1)
    assert len(part_b.groundtruth) == len(b.groundtruth)
    # Who matches whom has gone with the rows.
    np.testing.assert_array_equal(part_b.outcomes, b.outcomes)
    for table in (part_b, b):
        for row, match in enumerate(table.matches.detection[:, 0]):
            if match >= 0:
                pair = table.detections.box[row], table.groundtruth.box[match]
                crowd = table.groundtruth.crowd[match]
                assert crowd or iou_of(*pair) >= 0.5 - 1e-9
    assert part_b.num_groundtruth.tolist() == b.num_groundtruth.tolist()


def test_what_only_one_has_is_told_and_left_out() -> None:
    images, others = two_detectors(1)
    ids = [batch.image_ids[0] for batch in images]
    others = others[2:]  # without two images
    images = [*images[:-1]]  # without one
    moved = others[1].groundtruth
    assert len(moved.boxes[0]) > 1
    moved.boxes = [moved.boxes[0] + np.array([[1, 1, 1, 1], *[[0] * 4] * (len(moved.boxes[0]) - 1)], np.float32)]
    a, b = table_of(images), table_of(others)
    part_a, part_b, difference = common_part(a, b)
    assert list(part_a.images) == sorted([ids[2], *ids[4:-1]])
    assert_same_objects(part_a, part_b)
    changed = dataclasses.asdict(difference)
    first = changed.pop("first")
    assert changed == {
        "categories_a": [], "categories_b": [], "images_a": 2, "images_b": 1, "changed_images": 1, "changed_objects": 2,
    }  # fmt: skip
    assert first.startswith(f"image {ids[3]}, where only A has the ")
    [sentence] = difference.sentences()
    assert "2 images are only in A and 1 only in B, and in 1 the objects differ (2 objects)" in sentence
    # It is the evaluation of what is left.
    kept = [batch for batch in others if batch.image_ids[0] in part_a.images]
    left = table_of(kept)
    np.testing.assert_array_equal(part_b.detections.box, left.detections.box)
    np.testing.assert_array_equal(part_b.matches.detection, left.matches.detection)
    np.testing.assert_array_equal(part_b.detections.image, left.detections.image)
    assert compare(part_a, part_b, 0.5, 0.5).overall["AP"].b == evaluated(kept).evaluate().bbox["AP"]


def test_categories_are_the_same_if_their_names_are() -> None:
    renumbered = {18: "cat", 1: "dog", 3: "bird", 7: "fish"}
    images, others = two_detectors(2)
    for batch in others:
        for objects in (batch.detections, batch.groundtruth):
            objects.classes = [np.array([{3: 18, 18: 3, 90: 7}.get(int(id), int(id)) for id in objects.classes[0]])]
    a, b, difference = common_part(table_of(images), table_of(others, categories=renumbered))
    assert_same_objects(a, b)
    assert list(a.categories.values()) == ["dog", "cat", "bird"]
    assert difference.sentences() == [
        "the categories differ: only A has never there, only B has fish; the others are compared."
    ]
    with_all = compare(table_of(images), table_of(two_detectors(2)[1]), 0.4, 0.4)
    without_fish = [category.changes for name, category in with_all.per_category.items() if name != "never there"]
    assert compare(a, b, 0.4, 0.4).changes == {change: sum(of[change] for of in without_fish) for change in CHANGES}


@pytest.mark.parametrize(
    ("other", "categories", "words"),
    [
        (one_image(image_ids=["b"]), CATEGORIES, "no image in common.*'a'.*'b'"),
        (one_image(), {1: "x", 3: "y"}, "no category in common.*dog.*x, y"),
        (one_image(gt_classes=[[3, 3]]), CATEGORIES, "no image with the same objects.*'a', where only A has the dog"),
    ],
)
def test_without_anything_in_common_there_is_an_error_in_one_sentence(other, categories, words) -> None:
    with pytest.raises(ODEvalError, match=words):
        common_part(table_of([one_image()]), table_of([other], categories=categories))


def test_a_crowd_is_no_object() -> None:
    plain, crowd = one_image(), one_image(gt_is_crowd=[[True, False]])
    with pytest.raises(ODEvalError, match="no image with the same objects"):
        common_part(table_of([plain]), table_of([crowd]))


def test_evaluations_of_other_images_are_not_compared() -> None:
    with pytest.raises(ODEvalError, match="same images"):
        compare(table_of([one_image()]), table_of([one_image(image_ids=["b"])]), 0.5, 0.5)
