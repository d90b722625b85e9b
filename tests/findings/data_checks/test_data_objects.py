"""Boxes that cannot be learnt and annotations that contradict each other are found; what is usual is not."""

import itertools

import numpy as np
import pytest

from made_surveys import facts, random_survey, survey
from od_eval.findings.data_checks import objects
from od_eval.findings.data_checks.objects import same_boxes

BOX = (0.2, 0.2, 0.6, 0.6)


def found(check, of, config=None):
    return list(check(of, config))


def spread(number, category=1, box=BOX):
    """That many objects, each in an image of its own."""
    return [(row, category, *box) for row in range(number)]


@pytest.mark.parametrize("box", [(0.2, 0.2, 0.2, 0.6), (0.2, 0.6, 0.6, 0.6), (0.6, 0.2, 0.2, 0.6), (0.2, np.nan, 1, 1)])
def test_a_box_without_area_is_found(box):
    (finding,) = found(objects.empty_boxes, survey([*spread(9), (9, 1, *box)]))
    assert finding.severity == "warning"
    assert str(finding).startswith("train_input_reader: 1 of 10 objects (10%) has a box without area")
    assert finding.images == ["train_input_reader image 9"]


def test_a_very_thin_box_has_area():
    assert not found(objects.empty_boxes, survey([(0, 1, 0.2, 0.2, 0.2001, 0.6)]))


def test_a_box_below_a_pixel_is_found_and_one_of_a_pixel_is_not():
    thin, just = (0, 1, 0.5, 0.2, 0.5 + 0.99 / 480, 0.6), (1, 1, 0.5, 0.2, 0.5 + 1.01 / 480, 0.6)
    (finding,) = found(objects.boxes_below_one_pixel, survey([thin, just]))
    assert finding.evidence == {"objects": 1, "of": 2}
    assert finding.images == ["train_input_reader image 0"]
    assert not found(objects.boxes_below_one_pixel, survey([just]))


def test_pixels_of_images_of_unknown_size_are_not_guessed():
    assert not found(objects.boxes_below_one_pixel, survey([(0, 1, 0.5, 0.2, 0.5001, 0.6)], width=0, height=0))


def test_boxes_of_which_the_input_has_few_pixels_are_found_with_the_input_that_would_do():
    tiny = [(row, 2, 0.5, 0.5, 0.5 + 6 / 320, 0.5 + 20 / 320) for row in range(10)]
    (finding,) = found(objects.tiny_boxes, survey([*spread(20), *tiny]), facts())
    assert finding.severity == "warning"
    assert finding.evidence["categories"] == ["dog"]
    assert finding.evidence["objects"] == 10
    # 320 * 8 / 6 = 427, and the next multiple of 64.
    assert finding.settings == (
        "model.ssd.image_resizer.fixed_shape_resizer.height=448",
        "model.ssd.image_resizer.fixed_shape_resizer.width=448",
    )
    assert "less than 8 pixels wide or high at the model's input size (320x320)" in str(finding)


def test_boxes_of_the_least_size_and_a_few_tiny_ones_are_not_found():
    least = [(row, 2, 0.5, 0.5, 0.5 + 8.1 / 320, 0.5 + 8.1 / 320) for row in range(97)]
    few = [(row, 1, 0.5, 0.5, 0.5 + 4 / 320, 0.5 + 4 / 320) for row in range(3)]
    assert not found(objects.tiny_boxes, survey([*least, *few]), facts())


def test_extremely_tiny_boxes_need_tiles_and_no_setting():
    tiny = [(row, 1, 0.5, 0.5, 0.5 + 1 / 320, 0.5 + 1 / 320) for row in range(10)]
    (finding,) = found(objects.tiny_boxes, survey(tiny), facts())
    assert finding.settings == ()
    assert "tiles" in finding.remedy


def test_with_a_resizer_that_keeps_the_aspect_ratio_boxes_are_scaled_as_images_are():
    # 640x480 becomes 320x240, and 12 pixels become 6.
    boxes = [(row, 1, 0.5, 0.5, 0.5 + 12 / 480, 0.5 + 200 / 640) for row in range(10)]
    assert found(objects.tiny_boxes, survey(boxes), facts(resize_range=(300, 320)))
    assert not found(objects.tiny_boxes, survey(boxes), facts(resize_range=(480, 640)))


def test_without_a_known_input_size_nothing_is_said_of_tiny_boxes():
    tiny = [(row, 1, 0.5, 0.5, 0.501, 0.501) for row in range(10)]
    assert not found(objects.tiny_boxes, survey(tiny))
    assert not found(objects.tiny_boxes, survey(tiny), facts(input_height=None, input_width=None))


def test_the_same_object_twice_is_found():
    (finding,) = found(objects.duplicate_objects, survey([*spread(9), (3, 1, 0.2, 0.2, 0.6, 0.605)]))
    assert finding.evidence == {"objects": 1, "of": 10}
    assert finding.images == ["train_input_reader image 3"]
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    "other",
    [
        (4, 1, 0.2, 0.2, 0.6, 0.63),  # IoU 0.93
        (4, 2, *BOX),  # another category
        (9, 1, *BOX),  # another image
        (4, 1, *BOX, {"crowd": True}),
    ],
)
def test_an_object_that_is_only_nearly_the_same_is_no_duplicate(other):
    assert not found(objects.duplicate_objects, survey([*spread(9), other]))


def test_few_duplicates_among_many_are_a_note():
    (finding,) = found(objects.duplicate_objects, survey([*spread(200), (3, 1, *BOX)]))
    assert finding.severity == "note"


def test_a_box_of_two_categories_is_found_with_their_names():
    (finding,) = found(objects.boxes_with_two_categories, survey([*spread(9), (4, 2, *BOX), (5, 2, *BOX)]))
    assert finding.evidence == {"objects": 4, "of": 11, "categories": ["cat", "dog"], "times": 2}
    assert "most often 'cat' with 'dog' (2 times)" in str(finding)


def test_duplicates_are_no_box_of_two_categories():
    assert not found(objects.boxes_with_two_categories, survey([*spread(9), (4, 1, *BOX)]))


def test_the_pairs_of_same_boxes_are_those_that_comparing_all_with_all_finds():
    made = random_survey(3, 60).objects
    rng = np.random.default_rng(0)
    copies = made.sample(80, random_state=0)
    moved = copies.assign(xmax=copies["xmax"] + rng.normal(0, 0.02, 80) * (copies["xmax"] - copies["xmin"]))
    table = type(made)(np.concatenate([made.to_numpy(object), moved.to_numpy(object)]), columns=made.columns)
    table = table.astype(made.dtypes)

    def iou(a, b):
        h = max(0, min(a.ymax, b.ymax) - max(a.ymin, b.ymin))
        w = max(0, min(a.xmax, b.xmax) - max(a.xmin, b.xmin))
        union = (a.ymax - a.ymin) * (a.xmax - a.xmin) + (b.ymax - b.ymin) * (b.xmax - b.xmin) - h * w
        return h * w / union

    rows = list(table.itertuples())
    expected = {
        (i, j)
        for (i, a), (j, b) in itertools.combinations(enumerate(rows), 2)
        if a.image == b.image and iou(a, b) >= objects.SAME_BOX_IOU
    }
    assert len(expected) > 40
    assert set(zip(*(side.tolist() for side in same_boxes(table)), strict=True)) == expected


def test_masks_elsewhere_than_their_boxes_are_found():
    boxes = [(row, 1, *BOX, {"mask_iou": iou}) for row, iou in enumerate([0.98, 0.49, np.nan, 0.1, 1.0])]
    (finding,) = found(objects.masks_that_do_not_match_boxes, survey(boxes))
    assert finding.evidence == {"objects": 2, "of": 4, "lowest_iou": 0.1}
    assert finding.images == ["train_input_reader image 3", "train_input_reader image 1"]
    assert "2 of 4 objects with masks (50%) have an IoU below 0.5" in str(finding)


def test_loose_masks_are_not_found():
    assert not found(objects.masks_that_do_not_match_boxes, survey([(0, 1, *BOX, {"mask_iou": 0.6})]))


def test_many_objects_at_the_border_are_a_note_and_a_third_is_usual():
    cut = (0.0, 0.2, 0.3, 0.6)
    (finding,) = found(objects.objects_cut_at_the_border, survey([*spread(40), *spread(60, box=cut)]))
    assert finding.severity == "note"
    assert "60 of 100 objects (60%) end at the border" in str(finding)
    assert not found(objects.objects_cut_at_the_border, survey([*spread(67), *spread(33, box=cut)]))
    # Three of five may be chance.
    assert not found(objects.objects_cut_at_the_border, survey([*spread(2), *spread(3, box=cut)]))


def test_boxes_of_whole_images_are_found():
    whole = (0.0, 0.0, 1.0, 1.0)
    (finding,) = found(objects.boxes_of_the_whole_image, survey([*spread(20), *spread(80, box=whole)]))
    assert finding.severity == "warning"
    assert "the boxes of 80 of 100 objects (80%) are the whole image" in str(finding)
    (finding,) = found(objects.boxes_of_the_whole_image, survey([*spread(75), *spread(25, box=whole)]))
    assert finding.severity == "note"


def test_some_close_ups_and_almost_whole_images_are_not_found():
    assert not found(objects.boxes_of_the_whole_image, survey([*spread(90), *spread(10, box=(0.0, 0.0, 1.0, 1.0))]))
    assert not found(objects.boxes_of_the_whole_image, survey(spread(50, box=(0.05, 0.0, 1.0, 1.0))))


def test_a_box_that_is_much_longer_than_others_of_its_category_is_found():
    line = (0.5, 0.1, 0.515, 0.9)  # 7 x 512 pixels
    (finding,) = found(objects.improbable_aspect_ratios, survey([*spread(20), (20, 1, *line)]))
    assert finding.sureness == "possible"
    assert finding.images == ["train_input_reader image 20"]
    assert finding.evidence["largest_ratio"] == pytest.approx(0.8 * 640 / (0.015 * 480))


@pytest.mark.parametrize(
    "boxes",
    [
        [*spread(20), (20, 1, 0.5, 0.1, 0.56, 0.9)],  # 29 x 512 pixels
        [*spread(20), (20, 1, 0.0, 0.1, 0.005, 0.9)],  # cut at the border
        [*spread(20, 2), *spread(20, box=(0.5, 0.1, 0.51, 0.9))],  # all of its category are like that
        [*spread(5), (20, 1, 0.5, 0.1, 0.51, 0.9)],  # too few to know what is usual
    ],
)
def test_long_boxes_with_a_reason_are_not_found(boxes):
    assert not found(objects.improbable_aspect_ratios, survey(boxes))


def test_a_dataset_without_objects_has_no_findings_of_objects():
    for check in (value for value in vars(objects).values() if hasattr(value, "looks_at")):
        assert not found(check, survey(images=5), facts())
        assert not found(check, survey(images=0), facts())
