"""Labels that are probably wrong: a case by hand of each kind, planted errors, and the file for annotation tools."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter

import numpy as np
import pytest
from hotcoco import mask as coco_mask
from pycocotools.coco import COCO

from made_images import evaluated, mask_of, one_image, random_images
from od_eval.evaluation.analyses.label_suspects import Suspect, label_suspects, suspects_json
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.object_table import ObjectTable

# A cat that is found with a score of 0.5: the least score of a confident cat, and of a confident dog if none is right.
CAT = [200.0, 10, 240, 50]
PLACE = [10.0, 10, 50, 50]


def table_with_cat(boxes=(), scores=(), classes=(), gt_boxes=(), gt_classes=(), **changes) -> ObjectTable:
    return evaluated(
        [
            one_image(
                boxes=[[CAT, *boxes]],
                scores=[np.array([0.5, *scores])],
                classes=[[3, *classes]],
                gt_boxes=[[CAT, *gt_boxes]],
                gt_classes=[[3, *gt_classes]],
                image_sizes=[[300, 120]],
                **changes,
            )
        ]
    ).object_tables()["bbox"]


# ---- By hand --------------------------------------------------------------------------------------------------------


def test_a_confident_detection_that_overlaps_nothing_is_a_missing_label() -> None:
    table = table_with_cat([PLACE], [0.75], [1])
    assert label_suspects(table) == [Suspect("missing", 0, 0, -1, 0.75, 0.0, 1.0)]


def test_of_several_detections_about_one_place_only_the_best_counts() -> None:
    # The second overlaps both others by 0.5 or more; the third does not overlap the first by as much.
    boxes = [PLACE, [10.0, 10, 50, 40]]
    suspects = label_suspects(table_with_cat(boxes[:2], [0.75, 0.625], [1, 3]))
    assert [suspect.score for suspect in suspects] == [0.75]
    suspects = label_suspects(table_with_cat([*boxes[:2], [10.0, 10, 50, 28]], [0.75, 0.625, 0.5625], [1, 3, 1]))
    assert [suspect.score for suspect in suspects] == [0.75, 0.5625]


def test_a_confident_detection_of_another_category_is_a_wrong_class() -> None:
    table = table_with_cat([[10.0, 10, 50, 40]], [0.75], [1], [PLACE], [3])
    assert label_suspects(table) == [Suspect("class", 0, 0, 1, 0.75, 0.75, 0.75)]


@pytest.mark.parametrize(("score", "kinds"), [(0.5, []), (0.4, ["class"])])
def test_a_confident_detection_of_the_labels_own_category_speaks_for_it(score, kinds) -> None:
    # Both are cats by their label; cats are right with 0.5 and `score`, dogs never.
    table = table_with_cat([PLACE, PLACE], [0.75, score], [1, 3], [PLACE], [3])
    assert [suspect.kind for suspect in label_suspects(table)] == kinds


def test_a_confident_detection_next_to_its_label_is_a_bad_location() -> None:
    table = table_with_cat([[10.0, 10, 50, 30]], [0.75], [1], [PLACE], [1])
    assert label_suspects(table) == [Suspect("location", 0, 0, 1, 0.75, 0.5, 0.5)]


def test_a_better_detection_of_whatever_score_speaks_for_the_location() -> None:
    boxes = [[10.0, 10, 50, 28], PLACE]
    assert label_suspects(table_with_cat(boxes, [0.75, 0.01], [1, 1], [PLACE], [1])) == []


def test_a_label_that_nothing_overlaps_is_extra() -> None:
    # One of two cats is found.
    table = table_with_cat(gt_boxes=[PLACE], gt_classes=[3])
    assert label_suspects(table) == [Suspect("extra", 0, -1, 1, None, 0.0, 0.25)]
    assert label_suspects(table_with_cat([PLACE], [0.01], [1], [PLACE], [3])) == []


def test_a_detection_that_is_not_confident_accuses_nobody() -> None:
    for place in (PLACE, [10.0, 10, 50, 28]):
        for category in (1, 3):
            assert label_suspects(table_with_cat([place], [0.49], [category], [PLACE], [3])) == []
    assert label_suspects(table_with_cat([PLACE], [0.49], [1])) == []


@pytest.mark.parametrize("ignored", ["gt_is_crowd", "gt_difficult"])
@pytest.mark.parametrize("category", [1, 3])
def test_crowds_and_difficult_objects_and_what_is_in_them_are_left_out(ignored, category) -> None:
    changes = {ignored: [[False, True]]}
    detection = [10.0, 10, 50, 30]  # inside the object, which it overlaps by 0.5
    assert label_suspects(table_with_cat([detection], [0.75], [category], [PLACE], [3], **changes)) == []
    assert label_suspects(table_with_cat(gt_boxes=[PLACE], gt_classes=[3], **changes)) == []


def test_the_suspicion_of_scores_is_relative_to_those_of_right_detections() -> None:
    # Right cats: 0.5 and 0.75, mean 0.625. The suspects have scores not below those of one and of both of them.
    boxes = [PLACE, [60.0, 10, 90, 50], [100.0, 10, 140, 50]]
    suspects = label_suspects(table_with_cat(boxes, [0.75, 0.6875, 0.8125], [3, 3, 3], [PLACE], [3]))
    assert [(suspect.score, suspect.suspicion) for suspect in suspects] == [(0.8125, 1.0), (0.6875, 0.5)]


def test_a_detector_that_is_never_right_accuses_nobody() -> None:
    for changes in (
        {"boxes": [[]], "scores": [[]], "classes": [[]]},
        {"gt_boxes": [[]], "gt_classes": [[]]},
        {"classes": [[3, 1]]},
    ):
        table = evaluated([one_image(**changes)]).object_tables()["bbox"]
        assert label_suspects(table) == []
        assert suspects_json(table, [])["annotations"] == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_label_and_no_detection_is_in_two_suspects(seed, iou_type) -> None:
    batches = random_images(seed, num=100, masks=True)
    table = evaluated(batches, masks=True).object_tables()[iou_type]
    suspects = label_suspects(table)
    assert {suspect.kind for suspect in suspects} >= {"missing", "location", "extra"}
    for rows in ([suspect.detection for suspect in suspects], [suspect.groundtruth for suspect in suspects]):
        rows = [row for row in rows if row >= 0]
        assert len(set(rows)) == len(rows)
    suspicions = [suspect.suspicion for suspect in suspects]
    assert suspicions == sorted(suspicions, reverse=True)
    assert 0 <= suspicions[-1] <= suspicions[0] <= 1


# ---- Planted --------------------------------------------------------------------------------------------------------


def planted(seed: int, masks: bool) -> tuple[ObjectTable, Counter, set[tuple]]:
    """A good detector and labels of which 3% each are missing, of a wrong class, badly located, extra.

    The detector misses 5% of the objects, names 3% wrongly, and sees things that are not there, with lower scores.

    Returns:
      The table, how many errors of each kind there are, and the errors: kind, image, place in a grid of 4 × 4.
    """
    random = np.random.default_rng(seed)
    batches, errors = [], set()
    for image in range(60):
        cells = random.permutation(16)[:12]
        labels, label_classes, found, found_classes, scores = [], [], [], [], []
        for number, cell in enumerate(cells):
            begin = 32 * np.array(divmod(cell, 4)) + random.uniform(1, 5, 2)
            box = np.concatenate((begin, begin + random.uniform(16, 24, 2)))
            true_class = random.choice([1, 3, 18])
            other_class = random.choice([id for id in (1, 3, 18) if id != true_class])
            if number >= 10:  # nothing is there
                kind = "extra" if random.random() < 0.15 else "false detection"
            else:
                kind = str(random.choice(["", "missing", "class", "location"], p=[0.91, 0.03, 0.03, 0.03]))
            is_there = number < 10
            if (is_there and kind != "missing") or kind == "extra":
                moved = box + np.array([0, 9, 0, 9]) if kind == "location" else box
                labels.append(moved)
                label_classes.append(other_class if kind == "class" else true_class)
            if (is_there and random.random() < 0.95) or kind == "false detection":
                found.append(box + random.normal(0, 0.7, 4))
                found_classes.append(other_class if random.random() < 0.03 else true_class)
                scores.append(random.beta(8, 2) if is_there else random.beta(2, 6))
            if kind in ("missing", "class", "location", "extra"):
                errors.add((kind, image, int(cell)))
        found, labels = np.array(found), np.array(labels)
        batches.append(
            EvaluationBatch(
                image_ids=[f"image {image:02}"],
                image_sizes=[[128, 144]],
                detections=Detections(
                    [found], [np.array(scores)], [found_classes],
                    [np.stack([mask_of(box, 128, 144) for box in found])] if masks else None,
                ),
                groundtruth=GroundTruth(
                    [labels], [label_classes],
                    [np.stack([mask_of(box, 128, 144) for box in labels])] if masks else None,
                ),
            )
        )  # fmt: skip
    table = evaluated(batches, masks=masks).object_tables()["segm" if masks else "bbox"]
    return table, Counter(kind for kind, *_ in errors), errors


def place_of(table: ObjectTable, suspect: Suspect) -> tuple[str, int, int]:
    on_label = suspect.detection < 0
    box = table.groundtruth.box[suspect.groundtruth] if on_label else table.detections.box[suspect.detection]
    x, y, width, height = box
    return suspect.kind, suspect.image, int((y + height / 2) // 32) * 4 + int((x + width / 2) // 32)


@pytest.mark.parametrize("masks", [False, True])
def test_planted_errors_are_found(masks) -> None:
    planted_ones, proposed, right = Counter(), Counter(), Counter()
    suspicion_of_right, suspicion_of_wrong = [], []
    for seed in range(4):
        table, num, errors = planted(seed, masks)
        planted_ones += num
        for suspect in label_suspects(table):
            is_right = place_of(table, suspect) in errors
            proposed[suspect.kind] += 1
            right[suspect.kind] += is_right
            (suspicion_of_right if is_right else suspicion_of_wrong).append(suspect.suspicion)
    precision = {kind: right[kind] / proposed[kind] for kind in proposed}
    recall = {kind: right[kind] / planted_ones[kind] for kind in planted_ones}
    assert len(planted_ones) == 4
    assert min(planted_ones.values()) >= 30
    # Half of the right detections are below the mean score: so are about half of the proofs of what is planted.
    assert recall["missing"] > 0.5
    assert recall["class"] > 0.3
    assert recall["location"] > (0.2 if masks else 0.4)  # a moved ellipse often overlaps by less than 0.3
    assert recall["extra"] == 1
    assert precision["missing"] > 0.95
    assert precision["location"] > 0.95
    assert precision["class"] > 0.4  # the detector names as many wrongly as are planted
    assert precision["extra"] > 0.25  # it misses more than are planted
    assert np.mean(suspicion_of_right) > np.mean(suspicion_of_wrong)


# ---- The file for annotation tools ----------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [False, True])
def test_pycocotools_opens_the_file(masks, tmp_path) -> None:
    table, _, _ = planted(0, masks)
    suspects = label_suspects(table)
    path = tmp_path / "suspects.json"
    path.write_text(json.dumps(suspects_json(table, suspects), allow_nan=False))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
    assert len(coco.anns) == len(suspects)
    assert coco.imgs[60] == {"id": 60, "file_name": "image 59", "height": 128, "width": 144}
    assert {category["name"] for category in coco.cats.values()} == set(table.categories.values())
    for suspect, annotation in zip(suspects, coco.anns.values(), strict=True):
        extra = suspect.kind == "extra"
        objects, row = (table.groundtruth, suspect.groundtruth) if extra else (table.detections, suspect.detection)
        assert annotation["image_id"] == suspect.image + 1
        assert annotation["category_id"] == list(table.categories)[objects.category[row]]
        assert annotation["bbox"] == objects.box[row].tolist()
        assert annotation.get("score") == suspect.score
        assert annotation["attributes"] == {
            "suspect": suspect.kind,
            "suspicion": suspect.suspicion,
            "groundtruth_row": suspect.groundtruth,
        }
        assert ("segmentation" in annotation) == masks
        if masks:
            assert np.array_equal(coco.annToMask(annotation), coco_mask.decode(objects.masks[row]))


def test_images_keep_ids_that_are_ints() -> None:
    table = evaluated(random_images(0)).object_tables()["bbox"]
    content = suspects_json(table, label_suspects(table))
    assert [image["id"] for image in content["images"]] == list(table.images)
    assert {annotation["image_id"] for annotation in content["annotations"]} <= set(table.images)
