"""COCO's choices, against pycocotools with other parameters or other input, a slow computation, and by hand."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from made_images import evaluated, mask_of, one_image, random_boxes, random_images
from od_eval.evaluation.analyses.protocol_ledger import METRICS, LedgerRow, ledger_columns, protocol_ledger
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth

CONFIDENCE = 0.3
SIZE, NUM_MANY = 128, 1050


class HeedsDifficult(COCOeval):
    """pycocotools itself overwrites `ignore`."""

    def _prepare(self):
        super()._prepare()
        for objects in self._gts.values():
            for one in objects:
                one["ignore"] = one["ignore"] or one.get("difficult", 0)


def made_images(seed: int, masks: bool) -> list[EvaluationBatch]:
    """Images with crowds, ties, difficult objects, areas on the bounds; in the last 1,050 detections of a class."""
    random = np.random.default_rng(seed)
    images = random_images(seed, num=21, size=SIZE, masks=masks)
    boxes = random_boxes(random, 12, SIZE)
    found = random_boxes(random, NUM_MANY, SIZE)
    # Found early, or only by detections beyond the limits.
    found[[2, 8, 40, 95, 120, 280, 400, 900, 1030, 1035, 1040]] = boxes[:11] + random.normal(0, 0.3, (11, 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])
    scores = np.round(np.linspace(0.95, 0.05, NUM_MANY), 2)
    arrays = [np.stack([mask_of(box, SIZE, SIZE) for box in of]) if masks else None for of in (found, boxes)]
    classes = np.where(np.arange(NUM_MANY) % 40 == 3, 3, 1)
    many = Detections([found], [scores], [classes], [arrays[0]] if masks else None)
    there = GroundTruth([boxes], [[1] * 12], [arrays[1]] if masks else None, is_crowd=[[False] * 11 + [True]])
    images.append(EvaluationBatch([2000], [[SIZE, SIZE]], many, there))
    for image in images:
        of_image = image.groundtruth
        sides = np.asarray(of_image.boxes[0], float).reshape(-1, 4)
        area = np.prod(sides[:, 2:] - sides[:, :2], axis=1) * 0.8
        bound = random.choice([0, 32.0**2, 96.0**2], len(area), p=[0.6, 0.2, 0.2])
        of_image.area = [np.where(bound, bound, area)]
        of_image.difficult = [random.random(len(area)) < 0.25]
    return images


class Reference:
    """What pycocotools makes of the images of an evaluator."""

    def __init__(self, evaluator, iou_type: str):
        self.iou_type = iou_type
        self.json = json.dumps([evaluator.groundtruth_json(), evaluator.detections_json()])
        self.plain = self.run(sizes=True)

    def run(self, edit=None, edit_areas=None, protocol=COCOeval, sizes=False, **params) -> COCOeval:
        groundtruth, detections = json.loads(self.json)
        if edit is not None:
            detections = edit(groundtruth, detections)
        boxes = [detection["bbox"] for detection in detections]
        if self.iou_type == "segm":
            for detection in detections:
                del detection["bbox"]
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = groundtruth
            coco.createIndex()
            found = coco.loadRes(detections)
            if edit_areas is not None:
                for one, box in zip(found.dataset["annotations"], boxes, strict=True):
                    one["area"] = edit_areas({**one, "bbox": box})
                for one in groundtruth["annotations"]:
                    one["area"] = edit_areas(one)
            evaluation = protocol(coco, found, self.iou_type)
            if not sizes:
                evaluation.params.areaRng = evaluation.params.areaRng[:1]
                evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
            for name, value in params.items():
                setattr(evaluation.params, name, value)
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation

    def outcomes(self, threshold: int):
        """For each category its number of objects, and score, true and false positive of detections as COCO ranks."""
        p = self.plain.params
        for index in range(len(p.catIds)):
            first = index * len(p.areaRng) * len(p.imgIds)
            images = [one for one in self.plain.evalImgs[first : first + len(p.imgIds)] if one is not None]
            num = sum(int((np.asarray(one["gtIgnore"]) == 0).sum()) for one in images)
            found = [
                (score, matched > 0 and not ignored, matched == 0 and not ignored)
                for one in images
                for score, matched, ignored in zip(
                    one["dtScores"], one["dtMatches"][threshold], one["dtIgnore"][threshold], strict=True
                )
            ]
            yield num, sorted(found, key=lambda one: -one[0])


def defined_mean(array: np.ndarray) -> float | None:
    defined = array[array > -1]
    return float(defined.mean()) if defined.size else None


def metrics(evaluation: COCOeval, limit: int = -1) -> dict[str, float | None]:
    precision = evaluation.eval["precision"][..., limit]
    values = {"AP": precision[..., 0], "AP50": precision[:1, ..., 0]}
    if precision.shape[-1] == 4:
        values |= {name: precision[..., index] for index, name in enumerate(("APs", "APm", "APl"), 1)}
    return {name: defined_mean(array) for name, array in values.items()}


def slow_ap(found, num: int, exact: bool) -> float:
    """The mean over 101 recalls, or the area below the steps, of the highest precision there or above."""
    points, tp, fp = [], 0, 0
    for _, is_true, is_false in found:
        tp, fp = tp + is_true, fp + is_false
        if is_true:
            points.append((tp / num, tp / (tp + fp)))
    if exact:
        return sum(max(p for r, p in points if r >= recall) for recall, _ in points) / num
    return np.mean([max((p for r, p in points if r >= recall), default=0) for recall in np.linspace(0, 1, 101)])


def slow_metrics(reference: Reference, ranked=None, exact: bool = False) -> dict[str, float]:
    """AP and AP50 of `slow_ap`, with detections ranked by a key."""
    of_thresholds = [
        np.mean([
            slow_ap(found if ranked is None else sorted(found, key=ranked), num, exact)
            for num, found in reference.outcomes(threshold)
            if num
        ])
        for threshold in range(10)
    ]  # fmt: skip
    return {"AP": np.mean(of_thresholds), "AP50": of_thresholds[0]}


@pytest.fixture(scope="module", params=[("bbox", 0), ("segm", 1)], ids=lambda param: param[0])
def made(request):
    """The rows by what is done instead, what pycocotools makes of the images, and the object table."""
    iou_type, seed = request.param
    evaluator = evaluated(made_images(seed, masks=True), masks=True)
    tables = evaluator.object_tables()
    rows = {row.instead: row for row in protocol_ledger(tables, iou_type, CONFIDENCE)}
    return rows, Reference(evaluator, iou_type), tables[iou_type]


def assert_row(row: LedgerRow, expected: dict[str, float | None], differs: bool = True) -> None:
    for name, value in row.metrics.items():
        assert (value is None) == (expected[name] is None)
        assert value is None or value == pytest.approx(expected[name], abs=1e-9, rel=0)
    if differs:
        assert any(row.differences.values()), "the made images show nothing of it"


def test_the_first_row_is_cocos_and_differences_are_from_it(made) -> None:
    rows, reference, _ = made
    coco = next(iter(rows.values()))
    assert (coco.choice, coco.instead, set(coco.metrics)) == ("", "COCO", {*METRICS})
    assert_row(coco, metrics(reference.plain), differs=False)
    for row in rows.values():
        for name, value in row.metrics.items():
            assert row.differences[name] == (None if value is None else value - coco.metrics[name])


def test_other_limits_of_detections_are_pycocotools_maxdets(made) -> None:
    rows, reference, _ = made
    limits = {"10 an image and class": 10, "300 an image and class": 300, "1000 an image and class": 1000}
    limits["all of them"] = 10**6
    evaluation = reference.run(maxDets=[*limits.values()])
    nums = {}
    for one in json.loads(reference.json)[1]:
        cell = one["image_id"], one["category_id"]
        nums[cell] = nums.get(cell, 0) + 1
    for index, (instead, limit) in enumerate(limits.items()):
        assert_row(rows[instead], metrics(evaluation, index))
        expected = sum(abs(min(num, limit) - min(num, 100)) for num in nums.values())
        assert rows[instead].num_detections == expected > 0
    assert len({rows[instead].metrics["AP"] for instead in limits}) == len(limits)


def test_a_limit_of_100_over_all_classes_is_coco_of_the_first_100_of_an_image(made) -> None:
    rows, reference, _ = made

    def first_100(_, detections):
        kept, nums = [], {}
        for one in sorted(detections, key=lambda one: (-one["score"], one["category_id"])):
            nums[one["image_id"]] = nums.get(one["image_id"], 0) + 1
            if nums[one["image_id"]] <= 100:
                kept.append(one)
        return kept

    row = rows["100 an image, over all classes"]
    assert_row(row, metrics(reference.run(first_100)))
    assert row.num_detections > 0


@pytest.mark.parametrize("confidence", [0.5, CONFIDENCE])
def test_filtering_by_a_confidence_is_coco_of_the_rest(made, confidence) -> None:
    rows, reference, table = made
    [row] = [row for instead, row in rows.items() if instead.startswith(f"only scores from {confidence} on")]
    keep = reference.run(lambda _, detections: [one for one in detections if one["score"] >= confidence])
    assert_row(row, metrics(keep))
    assert row.differences["AP"] < 0
    assert row.num_detections == sum(
        table.score[row] < confidence and table.rank[row] < 100 for row in range(len(table.score))
    )


def test_false_positives_below_the_last_object_found_are_counted_and_cost_nothing(made) -> None:
    rows, reference, _ = made
    row = rows["without these, the same"]
    expected = 0
    for num, found in reference.outcomes(0):
        last = max((index for index, (_, is_true, _) in enumerate(found) if is_true), default=-1)
        expected += sum(is_false for _, _, is_false in found[last + 1 :]) if num else 0
    assert row.num_detections == expected > 0
    assert row.differences == {"AP50": 0}
    assert_row(row, metrics(reference.plain), differs=False)


def test_classes_without_objects_count_0_as_if_they_had_an_object_that_nobody_finds(made) -> None:
    rows, reference, _ = made

    def hidden_object(groundtruth, detections):
        one = {**groundtruth["annotations"][0], "id": 10**6, "category_id": 90, "iscrowd": 0, "difficult": 0}
        blank = coco_mask.encode(np.zeros((SIZE, SIZE + 16), np.uint8, order="F"))
        image = next(image for image in groundtruth["images"] if image["width"] == SIZE + 16)
        one |= {"bbox": [1e6, 1e6, 5, 5], "image_id": image["id"]}
        one["segmentation"] = {"size": blank["size"], "counts": blank["counts"].decode()}
        groundtruth["annotations"].append(one)
        return detections

    row = rows["the 1 with false positives count as 0"]
    assert_row(row, metrics(reference.run(hidden_object)))
    detections = json.loads(reference.json)[1]
    assert row.num_detections == sum(one["category_id"] == 90 for one in detections) > 0


def test_the_weighted_mean_is_that_of_the_classes_of_pycocotools(made) -> None:
    rows, reference, _ = made
    precision = reference.plain.eval["precision"][:, :, :, 0, -1]
    nums = np.array([num for num, _ in reference.outcomes(0)])
    there = nums > 0
    expected = {
        name: (values[..., there].mean(axis=(0, 1)) * nums[there]).sum() / nums.sum()
        for name, values in (("AP", precision), ("AP50", precision[:1]))
    }
    assert_row(rows["weighted by their numbers of objects"], expected)


def test_class_agnostic_is_pycocotools_without_usecats(made) -> None:
    rows, reference, _ = made
    row = rows["any class, 100 detections an image"]
    evaluation = reference.run(useCats=0)
    assert_row(row, metrics(evaluation))

    def right(of: COCOeval) -> set[int]:
        images = [one for one in of.evalImgs if one is not None and one["aRng"] == of.params.areaRng[0]]
        return {
            id
            for one in images
            for id, matched, ignored in zip(one["dtIds"], one["dtMatches"][0], one["dtIgnore"][0], strict=True)
            if matched and not ignored
        }

    assert row.num_detections == len(right(evaluation) ^ right(reference.plain)) > 0


def test_11_recalls_are_pycocotools_recthrs_and_the_exact_area_that_below_the_steps(made) -> None:
    rows, reference, _ = made
    eleven = reference.run(recThrs=np.linspace(0, 1, 101)[::10])
    assert_row(rows["at 11 recalls, as in PASCAL VOC 2007"], metrics(eleven))
    assert_row(rows["the exact area under the curve"], slow_metrics(reference, exact=True))


def test_images_in_reverse_order_are_coco_of_images_with_reversed_ids(made) -> None:
    rows, reference, _ = made

    def reverse(groundtruth, detections):
        for image in groundtruth["images"]:
            image["id"] = 5000 - image["id"]
        for one in (*groundtruth["annotations"], *detections):
            one["image_id"] = 5000 - one["image_id"]
        return detections

    assert_row(rows["images in reverse order"], metrics(reference.run(reverse)))


def test_the_best_and_the_worst_case_of_ties_rank_true_positives_first_and_last(made) -> None:
    rows, reference, _ = made
    best, worst = (
        rows[f"{which} positives first: the {case} case"] for which, case in (("true", "best"), ("false", "worst"))
    )
    assert_row(best, slow_metrics(reference, lambda one: (-one[0], not one[1])))
    assert_row(worst, slow_metrics(reference, lambda one: (-one[0], one[1])))
    tied = 0
    for _, found in reference.outcomes(0):
        for score in {score for score, _, _ in found}:
            true, false = (sum(one[place] for one in found if one[0] == score) for place in (1, 2))
            tied += true + false if true and false else 0
    assert best.num_detections == worst.num_detections == tied > 0


def test_crowds_left_out_or_as_objects_are_coco_of_other_annotations(made) -> None:
    rows, reference, table = made

    def without(groundtruth, detections):
        groundtruth["annotations"] = [one for one in groundtruth["annotations"] if not one["iscrowd"]]
        return detections

    def as_objects(groundtruth, detections):
        for one in groundtruth["annotations"]:
            one["iscrowd"] = 0
        return detections

    for instead, edit in (("left out: who would match one is wrong", without), ("objects like others", as_objects)):
        row = rows[instead]
        assert_row(row, metrics(reference.run(edit)))
        assert row.num_groundtruth == table.groundtruth.crowd.sum() > 0
        ids = {one["id"] for one in json.loads(reference.json)[0]["annotations"] if one["iscrowd"]}
        assert row.num_detections == num_matching(reference, ids) > 0


def num_matching(reference: Reference, ids: set[int]) -> int:
    whole = reference.plain.params.areaRng[0]
    images = [one for one in reference.plain.evalImgs if one is not None and one["aRng"] == whole]
    return sum(int(id) in ids for one in images for id in one["dtMatches"][0])


def test_difficult_objects_ignored_are_those_of_a_pycocotools_that_heeds_them(made) -> None:
    rows, reference, _ = made
    row = rows["ignored like crowds: nobody has to find them"]
    assert_row(row, metrics(reference.run(protocol=HeedsDifficult)))
    annotations = json.loads(reference.json)[0]["annotations"]
    ids = {one["id"] for one in annotations if one.get("difficult") and not one["iscrowd"]}
    assert row.num_groundtruth == len(ids) > 0
    assert row.num_detections == num_matching(reference, ids) > 0


@pytest.mark.parametrize(
    ("instead", "area"),
    [
        ("of boxes, of both", lambda one: one["bbox"][2] * one["bbox"][3]),
        ("of masks, of both", lambda one: float(coco_mask.area(one["segmentation"]))),
    ],
)
def test_sizes_by_other_areas_are_coco_with_these_areas(made, instead, area) -> None:
    rows, reference, _ = made
    row = rows[instead]
    assert_row(row, metrics(reference.run(edit_areas=area, sizes=True)))
    assert row.num_groundtruth > 0


def test_bounds_that_belong_to_one_size_are_pycocotools_arearng(made) -> None:
    rows, reference, table = made
    row = rows["only to the larger"]
    below = [float(np.nextafter(bound, 0)) for bound in (32**2, 96**2)]
    ranges = [[0, 1e10], [0, below[0]], [32**2, below[1]], [96**2, 1e10]]
    assert_row(row, metrics(reference.run(sizes=True, areaRng=ranges)))
    assert row.num_groundtruth == sum(area in (32**2, 96**2) for area in table.groundtruth.area.tolist()) > 0


# ---- By hand --------------------------------------------------------------------------------------------------------


def rows_of(**changes) -> dict[str, LedgerRow]:
    return {row.instead: row for row in protocol_ledger(evaluated([one_image(**changes)]).object_tables(), "bbox", 0.6)}


OBJECT, ELSEWHERE = [10.0, 10, 50, 50], [60.0, 60, 90, 90]


def test_by_hand() -> None:
    # A dog, found by the second of two detections of the same score; a third is free; a cat is not there.
    rows = rows_of(
        boxes=[[ELSEWHERE, OBJECT, ELSEWHERE, ELSEWHERE]],
        scores=[[0.5, 0.5, 0.4, 0.9]],
        classes=[[1, 1, 1, 3]],
        gt_boxes=[[OBJECT]],
        gt_classes=[[1]],
    )
    ap = {instead: row.metrics.get("AP") for instead, row in rows.items()}
    assert ap["COCO"] == ap["images in reverse order"] == pytest.approx(0.5)
    assert ap["true positives first: the best case"] == pytest.approx(1)
    assert ap["false positives first: the worst case"] == pytest.approx(0.5)
    assert rows["images in reverse order"].num_detections == 2
    assert ap["the 1 with false positives count as 0"] == pytest.approx(0.25)
    assert rows["the 1 with false positives count as 0"].num_detections == 1
    assert rows["without these, the same"].num_detections == 1
    assert ap["only scores from 0.5 on"] == pytest.approx(0.5)
    assert ap["only scores from 0.6 on, the operating point"] == 0
    # Across classes the cat comes first, and is wrong.
    assert ap["any class, 100 detections an image"] == pytest.approx(1 / 3)


def test_without_masks_there_are_no_areas_of_masks() -> None:
    assert "of boxes, of both" in rows_of()
    assert "of masks, of both" not in rows_of()


@pytest.mark.parametrize("nothing", ["detections", "objects", "both"])
def test_without_detections_ap_is_0_and_without_objects_it_is_not_defined(nothing) -> None:
    changes = {} if nothing == "objects" else {"boxes": [[]], "scores": [[]], "classes": [[]]}
    changes |= {} if nothing == "detections" else {"gt_boxes": [[]], "gt_classes": [[]]}
    rows = rows_of(**changes)
    assert rows["COCO"].metrics["AP"] == (0 if nothing == "detections" else None)
    for instead, row in rows.items():
        if "count as 0" not in instead:
            assert set(row.metrics.values()) <= {0, None}
            assert set(row.differences.values()) <= {0, None}


def test_columns_are_of_equal_length_and_have_each_metric_with_its_difference() -> None:
    rows = list(rows_of().values())
    columns = dict(ledger_columns(rows))
    assert {len(values) for values in columns.values()} == {len(rows)}
    assert columns["instead"][0] == "COCO"
    place = columns["instead"].index("only scores from 0.5 on")
    assert columns["AP"][place] == rows[place].metrics["AP"]
    assert columns["AP_difference"][place] == rows[place].differences["AP"]
    assert columns["APs"][place] is None
