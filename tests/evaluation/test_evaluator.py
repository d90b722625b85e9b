"""What an Evaluator computes, against pycocotools, and what it says about input that cannot be right."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hotcoco import mask as coco_mask

from made_images import (
    CATEGORIES,
    assert_same,
    evaluated,
    mask_of,
    one_image,
    pycocotools_metrics,
    random_images,
)
from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS

# ---- The numbers ----------------------------------------------------------------------------------------------------


def test_the_number_of_rows_may_be_a_float_and_boxes_of_images_of_different_types() -> None:
    boxes = [[[10.0, 10, 50, 50], [60, 60, 90, 90]], np.array([[10, 10, 50, 50], [0, 0, 9, 9]], np.float32)]
    pair = {
        "image_ids": ["a", "b"],
        "image_sizes": [[100, 120]] * 2,
        "boxes": boxes,
        "scores": [[0.9, 0.8]] * 2,
        "classes": [[1, 3]] * 2,
        "gt_boxes": [[[10.0, 10, 50, 50]]] * 2,
        "gt_classes": [[1]] * 2,
    }
    # As the Object Detection API gives `num_detections`.
    result = evaluated([one_image(**pair, num=np.array([1.0, 1.0], np.float32))]).evaluate()
    assert result.bbox["AP"] == 1.0
    assert result.per_category["cat"]["num_detections"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_boxes_get_the_numbers_of_pycocotools(seed) -> None:
    evaluator = evaluated(random_images(seed))
    result = evaluator.evaluate()
    groundtruth, detections = evaluator.groundtruth_json(), evaluator.detections_json()
    reference = pycocotools_metrics(groundtruth, detections, "bbox")
    assert 0 < reference["AP"] < 1
    assert_same(result.bbox, reference)
    for id, name in CATEGORIES.items():
        metrics = {metric: result.per_category[name][metric] for metric in COCO_METRICS}
        assert_same(metrics, pycocotools_metrics(groundtruth, detections, "bbox", category=id))
    assert result.segm is None


@pytest.mark.parametrize("seed", range(3))
def test_masks_get_the_numbers_of_pycocotools(seed) -> None:
    evaluator = evaluated(random_images(seed, masks=True), masks=True)
    result = evaluator.evaluate()
    groundtruth, detections = evaluator.groundtruth_json(), evaluator.detections_json()
    assert_same(result.bbox, pycocotools_metrics(groundtruth, detections, "bbox"))
    assert_same(result.segm, pycocotools_metrics(groundtruth, detections, "segm"))
    assert result.segm["AP"] != result.bbox["AP"]
    assert_same(result.per_category["cat"]["segm"], pycocotools_metrics(groundtruth, detections, "segm", category=3))


@pytest.mark.parametrize("seed", range(3))
def test_both_backends_give_the_same_result(seed) -> None:
    batches = random_images(seed, masks=True)
    super_categories = {"animal": ["cat", "dog"]}
    first, second = (
        evaluated(batches, masks=True, backend=backend, super_categories=super_categories).evaluate()
        for backend in ("hotcoco", "pycocotools")
    )
    assert first == second


@pytest.mark.parametrize("rows", [1, 40])
def test_categories_evaluated_a_few_at_a_time_have_the_numbers_of_all_at_once(rows, monkeypatch) -> None:
    evaluator = evaluated(random_images(seed=4, masks=True), masks=True)
    at_once = evaluator.evaluate()
    monkeypatch.setattr("od_eval.evaluation.evaluator.ROWS_AT_A_TIME", rows)
    assert evaluator.evaluate() == at_once


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_nothing_is_printed(backend, capsys) -> None:
    evaluated(random_images(0, num=2), backend=backend).evaluate()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_without_detections_what_is_there_is_missed(backend) -> None:
    none = {"boxes": [[]], "scores": [[]], "classes": [[]]}
    evaluator = evaluated([one_image(**none)], backend=backend)
    result = evaluator.evaluate()
    assert (result.bbox["AP"], result.bbox["AR100"], result.bbox["APs"]) == (0.0, 0.0, 0.0)
    assert result.bbox["APl"] is None
    assert evaluator.detections_json() == []


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_without_ground_truth_metrics_are_not_defined(backend) -> None:
    result = evaluated([one_image(gt_boxes=[[]], gt_classes=[[]])], backend=backend).evaluate()
    assert result.bbox == dict.fromkeys(COCO_METRICS)
    assert result.per_category["dog"] == {
        **dict.fromkeys(COCO_METRICS),
        "num_groundtruth": 0,
        "num_detections": 1,
    }
    assert result.num_images == 1


def test_counts_of_objects_are_without_crowds() -> None:
    result = evaluated([one_image(gt_is_crowd=[[True, False]])]).evaluate()
    assert [result.per_category[name]["num_groundtruth"] for name in ("dog", "cat", "bird")] == [0, 1, 0]
    assert [result.per_category[name]["num_detections"] for name in ("dog", "cat", "bird")] == [1, 1, 0]


def test_a_super_category_is_the_mean_of_what_is_defined() -> None:
    batch = one_image(scores=[[0.9, 0.8]], classes=[[1, 1]])
    result = evaluated([batch], super_categories={"all": list(CATEGORIES.values()), "rest": ["bird"]}).evaluate()
    assert (result.per_category["dog"]["AP"], result.per_category["cat"]["AP"]) == pytest.approx((1.0, 0.0))
    assert result.per_super_category["all"]["AP"] == pytest.approx(0.5)
    assert result.per_super_category["all"]["num_groundtruth"] == 2
    assert result.per_super_category["all"]["num_detections"] == 2
    assert result.per_super_category["rest"]["AP"] is None


def test_categories_are_in_the_order_of_their_ids() -> None:
    assert list(evaluated([one_image()]).evaluate().per_category) == ["dog", "cat", "bird", "never there"]


def test_an_area_that_is_given_decides_the_size_for_boxes_and_masks() -> None:
    masks = [np.stack([mask_of(box, 100, 120) for box in np.array([[10, 10, 50, 50], [60, 60, 90, 90]])])]
    batch = one_image(gt_area=[[100_000.0, np.nan]], gt_masks=masks, masks=masks)
    result = evaluated([batch], masks=True).evaluate()
    for metrics in (result.bbox, result.segm):
        assert (metrics["ARs"], metrics["ARm"], metrics["ARl"]) == (1.0, None, 1.0)


def test_the_size_of_a_false_detection_is_that_of_its_box_for_boxes_and_of_its_mask_for_masks() -> None:
    # The false one has a box of medium size with a small mask; ground truth is medium for both.
    boxes = [[[0, 0, 40, 40], [50.0, 50, 90, 90]]]
    there = np.zeros((100, 120), bool)
    there[50:90, 50:90] = True
    small = np.zeros((100, 120), bool)
    small[:8, :8] = True
    batch = one_image(
        boxes=boxes, classes=[[1, 1]], masks=[np.stack([small, there])],
        gt_boxes=[boxes[0][1:]], gt_classes=[[1]], gt_masks=[there[None]],
    )  # fmt: skip
    result = evaluated([batch], masks=True).evaluate()
    assert result.bbox["APm"] == pytest.approx(0.5)
    assert result.segm["APm"] == pytest.approx(1.0)
    batch.detections.area = [[np.nan, 1600.0]]
    assert evaluated([batch], masks=True).evaluate() == result
    batch.detections.area = [[1600.0, 1600.0]]
    assert evaluated([batch], masks=True).evaluate().segm["APm"] == pytest.approx(0.5)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_detections_of_negative_extent_count_as_in_pycocotools(backend) -> None:
    images = random_images(5)
    for number, batch in enumerate(images):
        boxes = batch.detections.boxes[0]
        boxes[number % 3 :: 4, 2] -= 100  # negative height
        boxes[number % 2 :: 3, 3] -= 130  # or width, or both
    evaluator = evaluated(images, backend=backend)
    reference = pycocotools_metrics(evaluator.groundtruth_json(), evaluator.detections_json(), "bbox")
    assert_same(evaluator.evaluate().bbox, reference)


@pytest.mark.parametrize(("corner", "precision"), [([5.0, 60.0], 1.0), ([5.0, 5.0], 0.5)])
def test_a_detection_of_negative_area_costs_nothing_and_one_of_two_negative_sides_does(corner, precision) -> None:
    boxes = [[[30.0, 30.0, *corner], [10, 10, 50, 50]]]
    batch = one_image(boxes=boxes, classes=[[1, 1]], gt_boxes=[[[10.0, 10, 50, 50]]], gt_classes=[[1]])
    assert evaluated([batch]).evaluate().bbox["AP"] == pytest.approx(precision)


# ---- The forms of input ---------------------------------------------------------------------------------------------


def test_padded_arrays_give_what_lists_give() -> None:
    images = random_images(1, masks=True)
    lists = evaluated(images, masks=True)
    rows = 14

    def padded(name: str, objects: list, fill: float) -> np.ndarray:
        arrays = [np.asarray(getattr(one, name)[0]) for one in objects]
        dtype = next(array.dtype for array in arrays if array.size)
        out = np.full((len(arrays), rows, *max(array.shape[1:] for array in arrays)), fill, dtype)
        for place, array in enumerate(arrays):
            out[place, : len(array)] = array.reshape(len(array), *out.shape[2:])
        return out

    found, there = [one.detections for one in images], [one.groundtruth for one in images]
    batch = EvaluationBatch(
        image_ids=[one.image_ids[0] for one in images],
        image_sizes=np.concatenate([one.image_sizes for one in images]),
        detections=Detections(
            padded("boxes", found, np.nan),
            padded("scores", found, np.nan),
            padded("classes", found, -1).astype(np.float32),  # as the Object Detection API has them
            padded("masks", found, 1),
            num=np.array([len(one.boxes[0]) for one in found]),
        ),
        groundtruth=GroundTruth(
            padded("boxes", there, -1),
            padded("classes", there, 0),
            padded("masks", there, 1),
            is_crowd=padded("is_crowd", there, 1),
            num=np.array([len(one.boxes[0]) for one in there]),
        ),
    )
    together = evaluated([batch], masks=True)
    assert together.evaluate() == lists.evaluate()
    assert together.detections_json() == lists.detections_json()
    assert together.groundtruth_json() == lists.groundtruth_json()


@pytest.mark.parametrize(
    ("box_format", "box"),
    [
        ("yxyx", [10, 20, 40, 80]),
        ("xyxy", [20, 10, 80, 40]),
        ("xywh", [20, 10, 60, 30]),
        ("rel_yxyx", [0.1, 0.1, 0.4, 0.4]),
        ("rel_xyxy", [0.1, 0.1, 0.4, 0.4]),
        ("rel_xywh", [0.1, 0.1, 0.3, 0.3]),
    ],
)
def test_box_formats(box_format, box) -> None:
    batch = one_image(
        boxes=[[box]], scores=[[0.5]], classes=[[1]], gt_boxes=[[box]], gt_classes=[[1]], image_sizes=[[100, 200]]
    )
    evaluator = evaluated([batch], box_format=box_format)
    (detection,), (annotation,) = evaluator.detections_json(), evaluator.groundtruth_json()["annotations"]
    assert detection["bbox"] == annotation["bbox"] == pytest.approx([20, 10, 60, 30])
    assert annotation["area"] == pytest.approx(1800)


def test_float32_boxes_are_subtracted_in_float32_as_the_object_detection_api_does() -> None:
    box = np.array([[0.1, 0.2, 63.3, 77.7]], np.float32)
    batch = one_image(
        boxes=[box, []], scores=[[0.5], []], classes=[[1], []], gt_boxes=[box, []], gt_classes=[[1], []],
        image_ids=[1, 2], image_sizes=[[100, 120]] * 2,
    )  # fmt: skip
    evaluator = evaluated([batch])
    expected = [float(box[0, 1]), float(box[0, 0]), float(box[0, 3] - box[0, 1]), float(box[0, 2] - box[0, 0])]
    assert evaluator.detections_json()[0]["bbox"] == expected
    (annotation,) = evaluator.groundtruth_json()["annotations"]
    assert annotation["bbox"] == expected
    assert annotation["area"] == float((box[0, 2] - box[0, 0]) * (box[0, 3] - box[0, 1]))


def as_rles(masks: np.ndarray, form: str) -> list[dict]:
    rles = []
    for mask in masks:
        rle = coco_mask.encode(mask)
        if form == "str":
            rle["counts"] = rle["counts"].decode()
        elif form == "list":
            flat = np.concatenate(([False], mask.ravel(order="F")))
            rle["counts"] = np.diff(np.flatnonzero(np.diff(flat.astype(int))), prepend=0, append=mask.size).tolist()
        rles.append(rle)
    return rles


@pytest.mark.parametrize("form", ["bytes", "str", "list"])
def test_masks_may_be_rles(form) -> None:
    images = random_images(2, num=4, masks=True)
    arrays = evaluated(images, masks=True)
    for batch in images:
        batch.detections.masks = [as_rles(batch.detections.masks[0], form)]
        batch.groundtruth.masks = [as_rles(batch.groundtruth.masks[0], form)]
    rles = evaluated(images, masks=True)
    assert rles.evaluate() == arrays.evaluate()
    assert rles.detections_json() == arrays.detections_json()


@pytest.mark.parametrize("counts", [[], "", [100 * 120], [0, 5]])
@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_an_rle_without_its_last_run_is_completed(counts, backend) -> None:
    rles = [{"size": [100, 120], "counts": counts}, {"size": [100, 120], "counts": [10, 1000]}]
    evaluator = evaluated([one_image(masks=[rles], gt_masks=[rles])], masks=True, backend=backend)
    for detection in evaluator.detections_json():
        mask = coco_mask.decode(detection["segmentation"])
        assert mask.shape == (100, 120)
        assert mask.sum() in (0, 5, 1000)
    assert evaluator.evaluate().segm["AR100"] == (1.0 if counts == [0, 5] else 0.5)


def test_masks_of_any_number_type_are_what_is_not_zero() -> None:
    mask = np.zeros((100, 120))
    mask[10:50, 10:50] = 0.25
    batch = one_image(masks=[[mask, 255 * mask.astype(np.uint8)]], gt_masks=[np.stack([mask, mask])], classes=[[1, 1]])
    areas = [coco_mask.area(one["segmentation"]) for one in evaluated([batch], masks=True).detections_json()]
    assert areas == [1600, 0]


def test_of_masks_padded_to_the_largest_image_the_upper_left_part_counts() -> None:
    sizes = [[100, 60], [80, 120]]
    masks = np.zeros((2, 1, 100, 120), np.uint8)
    masks[0, 0, :100, 50:] = 1  # beyond the image, too
    masks[1, 0, 70:, :120] = 1
    boxes, classes = [[[1.0, 1, 50, 50]]] * 2, [[1]] * 2
    there, found = GroundTruth(boxes, classes, masks), Detections(boxes, [[0.5]] * 2, classes, masks)
    evaluator = evaluated([EvaluationBatch([1, 2], sizes, found, there)], masks=True)
    rles = [one["segmentation"] for one in evaluator.detections_json()]
    assert [(rle["size"], coco_mask.area(rle)) for rle in rles] == [([100, 60], 1000), ([80, 120], 1200)]
    assert evaluator.evaluate().segm["AR1"] == 1.0


def test_masks_that_are_given_but_not_evaluated_are_not_looked_at() -> None:
    assert "segmentation" not in evaluated([one_image(masks=["nonsense"])]).detections_json()[0]


def test_images_without_detections_in_their_batch_are_left_out() -> None:
    evaluator = evaluated([one_image(), dataclasses.replace(one_image(image_ids=["b"]), detections=None)])
    evaluator.update(EvaluationBatch(["c"], [[1, 1]], None, None))
    assert evaluator.evaluate().num_images == 1


def test_a_batch_without_images_changes_nothing() -> None:
    evaluator = evaluated([one_image()])
    evaluator.update(EvaluationBatch([], [], Detections([], [], []), GroundTruth([], [])))
    assert evaluator.evaluate().num_images == 1


def test_the_result_holds_what_it_is_given() -> None:
    result = evaluated([one_image()]).evaluate(
        losses={"total_loss": np.float32(0.5)}, other={"tag": 1.0}, step=np.int64(7), checkpoint="ckpt-1"
    )
    assert isinstance(result, EvaluationResult)
    assert (result.losses, result.other, result.step, result.checkpoint) == (
        {"total_loss": 0.5}, {"tag": 1.0}, 7, "ckpt-1",
    )  # fmt: skip


# ---- Merging, order, copies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ids", ["ints", "strings", "both"])
def test_two_halves_merged_are_one_whole_whatever_the_order(seed, ids) -> None:
    images = random_images(seed, masks=True)
    for number, batch in enumerate(images):
        if ids == "strings" or (ids == "both" and number % 3):
            batch.image_ids = [f"{batch.image_ids[0]}.jpg"]
    whole = evaluated(images, masks=True)
    first, second = evaluated(images[::2], masks=True), evaluated(images[1::2], masks=True)
    before = copy.deepcopy(second)
    second_result = second.evaluate()
    first.merge(second)
    backwards = evaluated(images[::-1], masks=True)
    for other in (first, backwards, pickle.loads(pickle.dumps(first))):
        assert other.evaluate(step=1) == whole.evaluate(step=1)
        assert other.groundtruth_json() == whole.groundtruth_json()
        assert other.detections_json() == whole.detections_json()
    assert second.evaluate() == second_result == before.evaluate()


def test_a_merged_evaluator_goes_on() -> None:
    images = random_images(0)
    evaluator = evaluated(images[:4])
    evaluator.merge(evaluated(images[4:8]))
    evaluator.merge(Evaluator(CATEGORIES))
    for batch in images[8:]:
        evaluator.update(batch)
    assert evaluator.evaluate() == evaluated(images).evaluate()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"categories": {1: "dog"}}, "categories"),
        ({"box_format": "xyxy"}, "box_format"),
        ({"masks": True}, "masks"),
    ],
)
def test_evaluators_of_different_settings_do_not_merge(options, words) -> None:
    with pytest.raises(ODEvalError, match=words):
        evaluated([one_image()]).merge(evaluated([], **options))


def test_evaluators_with_a_common_image_do_not_merge() -> None:
    evaluator = evaluated([one_image()])
    before = evaluator.evaluate()
    with pytest.raises(ODEvalError, match="'a'"):
        evaluator.merge(evaluated([one_image(image_ids=["b"]), one_image()]))
    with pytest.raises(ODEvalError, match="'a'"):
        evaluator.merge(evaluator)
    assert evaluator.evaluate() == before


# ---- What cannot be right -------------------------------------------------------------------------------------------
def test_an_image_is_evaluated_once() -> None:
    evaluator = evaluated([one_image()])
    with pytest.raises(ODEvalError, match="'a' has already been evaluated"):
        evaluator.update(one_image())
    batch = one_image(image_ids=["b"])
    twice = EvaluationBatch(
        ["b", "b"],
        [[100, 120]] * 2,
        Detections([*batch.detections.boxes] * 2, [*batch.detections.scores] * 2, [*batch.detections.classes] * 2),
        GroundTruth([*batch.groundtruth.boxes] * 2, [*batch.groundtruth.classes] * 2),
    )
    with pytest.raises(ODEvalError, match="'b' appears twice"):
        evaluator.update(twice)
    assert evaluator.evaluate().num_images == 1


def test_detections_without_ground_truth_are_an_error() -> None:
    with pytest.raises(ODEvalError, match="no ground truth"):
        Evaluator(CATEGORIES).update(dataclasses.replace(one_image(), groundtruth=None))


def test_no_images_are_an_error() -> None:
    for use in (Evaluator.evaluate, Evaluator.groundtruth_json, Evaluator.detections_json):
        with pytest.raises(ODEvalError, match="no images"):
            use(Evaluator(CATEGORIES))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"box_format": "yx"}, ValueError, "'yx'.*rel_yxyx"),
        ({"backend": "fast"}, ValueError, "'fast'.*pycocotools"),
        ({"categories": {}}, ODEvalError, "no categories"),
        ({"categories": {1: "cat", 5: "cat"}}, ODEvalError, "1 and 5.*'cat'"),
        ({"super_categories": {"animal": ["cat", "fish"]}}, ODEvalError, "'animal'.*'fish'"),
    ],
)
def test_settings_that_cannot_be_right_are_named(arguments, error, words) -> None:
    with pytest.raises(error, match=words):
        Evaluator(**{"categories": CATEGORIES, **arguments})


def test_importing_the_evaluator_imports_neither_tensorflow_nor_pycocotools() -> None:
    code = """if True:
        import sys
        import od_eval.evaluation.evaluator, od_eval.evaluation.coco_files
        print([name for name in ("tensorflow", "pycocotools", "matplotlib") if name in sys.modules])
    """
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
