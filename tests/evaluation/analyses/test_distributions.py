"""What histograms show, against cases worked out by hand and loops over rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from made_images import evaluated, one_image, random_images
from od_eval.evaluation.analyses.distributions import distributions, matched_iou, missed_places
from od_eval.evaluation.analyses.operating_point import counts, total
from od_eval.evaluation.object_table import ObjectTable

BOX, OTHER_BOX = [10.0, 10, 50, 50], [60.0, 60, 90, 90]


def table_of(**changes) -> ObjectTable:
    return evaluated([one_image(**changes)]).object_tables()["bbox"]


def test_the_values_are_those_of_a_case_worked_out_by_hand() -> None:
    shifted = [10.0, 18, 50, 58]  # IoU with BOX 2 / 3
    false = [0.0, 0, 8, 2]
    table = table_of(
        boxes=[[shifted, false, OTHER_BOX]],
        scores=[[0.75, 0.5, 0.25]],
        classes=[[1, 1, 3]],
        gt_boxes=[[BOX, [60.0, 60, 90, 110], [0.0, 0, 99, 99]]],
        gt_classes=[[1, 3, 3]],
        gt_is_crowd=[[False, False, True]],
    )
    found = {name: one.values.tolist() for name, one in distributions(table, 0.4).items()}
    assert found == {
        "iou_tp": [pytest.approx(2 / 3)],
        "score_tp": [0.75, 0.25],  # below the confidence, too
        "score_fp": [0.5],
        "size_gt": [40, pytest.approx(1500**0.5)],
        "size_tp": [40],
        "size_fp": [4],
        "size_fn": [pytest.approx(1500**0.5)],
        "aspect_ratio_gt": [1, pytest.approx(5 / 3)],
        "aspect_ratio_tp": [1],
        "aspect_ratio_fp": [0.25],
        "aspect_ratio_fn": [pytest.approx(5 / 3)],
        "gt_per_image": [2],
        "dt_per_image": [2],
    }
    places = missed_places(table, 0.4)
    assert (places.x.tolist(), places.y.tolist()) == ([pytest.approx(85 / 120)], [0.75])
    assert places.groundtruth.tolist() == [1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("iou_index", [0, 6])
def test_the_iou_of_a_match_is_that_of_pycocotools(seed, iou_type, iou_index) -> None:
    table = evaluated(random_images(seed, masks=True), masks=True).object_tables()[iou_type]
    got = matched_iou(table, iou_index)
    partners = table.matches.detection[:, iou_index]
    assert (partners >= 0).any()
    assert table.groundtruth.crowd[partners[partners >= 0]].any()
    for row, partner in enumerate(partners):
        if partner < 0:
            assert got[row] == 0
            continue
        if iou_type == "segm":
            pair = [table.detections.masks[row]], [table.groundtruth.masks[partner]]
        else:
            pair = table.detections.box[[row]], table.groundtruth.box[[partner]]
        assert got[row] == pytest.approx(coco_mask.iou(*pair, [int(table.groundtruth.crowd[partner])])[0, 0])


def test_the_iou_of_a_match_is_not_that_of_the_object_that_is_overlapped_most() -> None:
    shifted = [10.0, 18, 50, 58]
    table = table_of(boxes=[[BOX, BOX]], classes=[[1, 1]], gt_boxes=[[BOX, shifted]], gt_classes=[[1, 1]])
    assert matched_iou(table).tolist() == pytest.approx([1, 2 / 3])


@pytest.mark.parametrize("confidence", [0.0, 0.5, [0.2, 0.5, 0.35, 0.9]])
def test_there_are_as_many_values_as_the_evaluation_counts(confidence) -> None:
    table = evaluated(random_images(seed=3, masks=True), masks=True).object_tables()["segm"]
    found = {name: one.values for name, one in distributions(table, confidence).items()}
    of_all, without_confidence = (total(counts(table, bound)) for bound in (confidence, 0.0))
    numbers = {"gt": of_all.num_groundtruth, "tp": of_all.tp, "fp": of_all.fp, "fn": of_all.fn}
    assert {kind: len(found[f"size_{kind}"]) for kind in numbers} == numbers
    assert len(found["iou_tp"]) == of_all.tp
    assert (len(found["score_tp"]), len(found["score_fp"])) == (without_confidence.tp, without_confidence.fp)
    assert len(found["gt_per_image"]) == len(found["dt_per_image"]) == len(table.images)
    assert found["gt_per_image"].sum() == of_all.num_groundtruth
    assert found["dt_per_image"].sum() == of_all.num_detections
    assert found["size_gt"] ** 2 == pytest.approx(table.groundtruth.area[~table.ignored])
    assert len(missed_places(table, confidence).groundtruth) == of_all.fn


def test_boxes_without_width_or_height_have_a_size_and_no_aspect_ratio() -> None:
    flat, thin = [10.0, 10, 10, 50], [10.0, 10, 50, 10]
    table = table_of(boxes=[[flat, thin, BOX]], scores=[[0.9] * 3], classes=[[3] * 3], gt_boxes=[[flat]],
                     gt_classes=[[1]])  # fmt: skip
    found = {name: one.values.tolist() for name, one in distributions(table, 0.5).items()}
    assert (found["size_fp"], found["aspect_ratio_fp"]) == ([0, 0, 40], [1])
    assert (found["size_fn"], found["aspect_ratio_fn"]) == ([0], [])


def test_a_negative_area_has_size_0() -> None:
    table = table_of()
    table = dataclasses.replace(table, detections=dataclasses.replace(table.detections, area=np.array([-4.0, 9.0])))
    assert distributions(table, 0.5)["size_tp"].values.tolist() == [0, 3]


def test_missed_objects_in_images_of_unknown_size_have_no_place() -> None:
    none = {"boxes": [[]], "scores": [[]], "classes": [[]]}
    table = evaluated([one_image(image_ids=["a"], **none), one_image(image_ids=["b"], **none)]).object_tables()["bbox"]
    assert missed_places(table, 0.5).x.tolist() == pytest.approx([0.25, 0.625] * 2)
    for size in ((0, 120), (100, 0), (0, 0)):
        places = missed_places(dataclasses.replace(table, images={"a": (100, 120), "b": size}), 0.5)
        assert places.groundtruth.tolist() == [0, 1]
        assert places.y.tolist() == pytest.approx([0.3, 0.75])


def test_places_are_inside_the_image_even_if_boxes_are_not() -> None:
    table = table_of(boxes=[[]], scores=[[]], classes=[[]])
    places = missed_places(dataclasses.replace(table, images={"a": (20, 60)}), 0.5)
    assert places.x.tolist() == pytest.approx([0.5, 1])
    assert places.y.tolist() == [1, 1]


def test_without_detections_or_objects_there_are_no_values() -> None:
    names = ("boxes", "scores", "classes", "gt_boxes", "gt_classes")
    table = table_of(**{name: [[]] for name in names})
    found = distributions(table, 0.5)
    assert {name for name, one in found.items() if len(one.values)} == {"gt_per_image", "dt_per_image"}
    assert len(missed_places(table, 0.5).x) == 0
