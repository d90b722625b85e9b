"""Pictures of errors beside ground truth."""

from __future__ import annotations

import dataclasses

import hotcoco.mask
import numpy as np
import pytest

from made_images import CATEGORIES, evaluated, one_image, random_images
from od_eval.evaluation.analyses.operating_point import cuts
from od_eval.figures import error_pictures
from od_eval.figures.error_pictures import Drawn, Focus, draw_errors, drawn_of_image
from od_eval.figures.pictures import GAP

GRAY = 90
BLUE, VERMILION, YELLOW, WHITE, HALO = (0, 114, 178), (213, 94, 0), (240, 228, 66), (255, 255, 255), (20, 20, 20)
SIZE = (360, 480)  # drawn in this size
IMAGE = np.full((*SIZE, 3), GRAY, np.uint8)
BOX = (100.0, 120.0, 200.0, 150.0)


def detection(outcome="false positive", box=BOX, score=0.79, row=0, category="dog", note="is cat", **others) -> Drawn:
    return Drawn(row, box, category, outcome, score, note, **others)


def an_object(outcome="false negative", box=BOX, row=0, category="cat", **others) -> Drawn:
    return Drawn(row, box, category, outcome, **others)


def panels(detections=(), objects=(), image=IMAGE, size=SIZE, **options) -> tuple[np.ndarray, np.ndarray]:
    """The panels, without captions, of an image that is drawn in its own size, one above the other."""
    picture = draw_errors(image, size, detections, objects, **options)
    assert picture.dtype == np.uint8
    heading = (len(picture) - 2 * SIZE[0] - GAP) // 2
    return picture[heading : heading + SIZE[0]], picture[-SIZE[0] :]


def share(panel: np.ndarray, color: tuple[int, int, int]) -> float:
    """How much of the left side of `BOX` has this color."""
    return float((panel[130:260, 100] == color).all(axis=-1).mean())


@pytest.fixture
def labels(monkeypatch) -> list[list[tuple[int, int, int, int]]]:
    """Left, top, right and bottom of the labels of each panel, filled when something is drawn; None if left out."""
    of_panels: list = []
    write, place = error_pictures._write_labels, error_pictures._place

    def spying_write(*arguments):
        of_panels.append([])
        write(*arguments)

    def spying_place(box, width, *arguments, **others):
        at = place(box, width, *arguments, **others)
        of_panels[-1].append(at and (*at, at[0] + width, at[1] + error_pictures._LABEL_HEIGHT))
        return at

    monkeypatch.setattr(error_pictures, "_write_labels", spying_write)
    monkeypatch.setattr(error_pictures, "_place", spying_place)
    return of_panels


@pytest.fixture
def captions(monkeypatch) -> list[str]:
    written: list[str] = []
    wrapped = error_pictures._wrapped

    def spying(parts, *arguments):
        written.append(", ".join(parts))
        return wrapped(parts, *arguments)

    monkeypatch.setattr(error_pictures, "_wrapped", spying)
    return written


# ---- From the object table ------------------------------------------------------------------------------------------


def test_a_detection_says_what_it_really_is():
    # cat 3, dog 1; yxyx. One object is found, then found twice; the others: another class, bad places, nothing.
    image = one_image(
        gt_boxes=[[[0.0, 0, 20, 20], [0, 40, 20, 60], [40, 0, 60, 20], [40, 40, 60, 60], [80, 80, 99, 99]]],
        gt_classes=[[1, 3, 1, 3, 3]],
        boxes=[
            [[0.0, 0, 20, 20], [0, 0, 20, 18], [0, 40, 20, 60], [40, 0, 60, 8], [40, 40, 60, 48], [0, 100, 20, 119]]
        ],
        scores=[[0.9, 0.8, 0.7, 0.6, 0.55, 0.5]],
        classes=[[1, 1, 1, 1, 1, 3]],
    )
    found, there = drawn_of_image(evaluated([image]).object_tables()["bbox"], 0, 0.5)
    assert [(drawn.category, drawn.score, drawn.outcome, drawn.note) for drawn in found] == [
        ("dog", pytest.approx(0.9), "true positive", ""),
        ("dog", pytest.approx(0.8), "false positive", "twice"),
        ("dog", pytest.approx(0.7), "false positive", "is cat"),
        ("dog", pytest.approx(0.6), "false positive", "IoU 0.40"),
        ("dog", pytest.approx(0.55), "false positive", "IoU 0.40 is cat"),
        ("cat", pytest.approx(0.5), "false positive", "background"),
    ]
    assert found[3].box == (0, 40, 8, 20)
    assert [(drawn.category, drawn.outcome) for drawn in there] == [
        ("dog", "found"),
        *[(name, "false negative") for name in ("cat", "dog", "cat", "cat")],
    ]


def test_only_objects_that_explain_an_error_count_for_what_it_is():
    # A dog's detection: IoU 0.40 with a dog, 0.45 with a cat, and more than that with a difficult bird.
    image = one_image(
        gt_boxes=[[[0.0, 0, 40, 100], [55, 0, 100, 100], [0, 0, 90, 100]]],
        gt_classes=[[1, 3, 18]],
        gt_difficult=[[False, False, True]],
        boxes=[[[0.0, 0, 100, 100]]],
        scores=[[0.9]],
        classes=[[1]],
    )
    (found,), _ = drawn_of_image(evaluated([image]).object_tables()["bbox"], 0, 0.5)
    assert found.note == "IoU 0.40"
    image = dataclasses.replace(image, detections=dataclasses.replace(image.detections, classes=[[90]]))
    (found,), _ = drawn_of_image(evaluated([image]).object_tables()["bbox"], 0, 0.5)
    assert found.note == "IoU 0.45 is cat"


def test_an_iou_is_never_rounded_up_to_one_that_would_do():
    image = one_image(
        gt_boxes=[[[0.0, 0, 10, 100]]], gt_classes=[[1]], boxes=[[[0.0, 0, 10, 49.9]]], scores=[[0.9]], classes=[[1]]
    )
    (found,), _ = drawn_of_image(evaluated([image]).object_tables()["bbox"], 0, 0.5)
    assert found.note == "IoU 0.49"


def test_crowds_and_difficult_objects_are_not_missed_and_who_matches_them_is_not_wrong():
    image = one_image(
        gt_boxes=[[[0.0, 0, 20, 20], [40, 40, 60, 60], [80, 80, 99, 99]]],
        gt_classes=[[1, 1, 1]],
        gt_is_crowd=[[True, False, False]],
        gt_difficult=[[False, True, True]],
        boxes=[[[0.0, 0, 20, 20], [40, 40, 60, 60]]],
        scores=[[0.9, 0.8]],
        classes=[[1, 1]],
    )
    found, there = drawn_of_image(evaluated([image]).object_tables()["bbox"], 0, 0.5)
    assert {drawn.outcome for drawn in (*found, *there)} == {"ignored"}
    assert [drawn.note for drawn in found] == ["matches crowd", "matches difficult"]
    assert [drawn.note for drawn in there] == ["crowd", "difficult", "difficult"]


def test_above_each_categorys_confidence_there_are_as_many_outcomes_as_at_the_operating_point():
    table = evaluated(random_images(5)).object_tables()["bbox"]
    for bounds in (np.full(4, 0.5), np.array([0.2, 0.6, 0.9, 0.5])):
        drawn = [drawn_of_image(table, image, bounds) for image in range(len(table.images))]
        found = [row for detections, _ in drawn for row in detections]
        there = [row for _, objects in drawn for row in objects]
        assert [row.row for row in there] == [*range(len(table.groundtruth))]
        for index, name in enumerate(table.categories.values()):
            of_category = cuts(table, index)
            at = np.flatnonzero(of_category.confidence >= bounds[index])
            tp, fp = (int(counts[at[-1]]) if len(at) else 0 for counts in (of_category.tp, of_category.fp))
            outcomes = [row.outcome for row in (*found, *there) if row.category == name]
            assert outcomes.count("true positive") == outcomes.count("found") == tp
            assert outcomes.count("false positive") == fp
            assert outcomes.count("false negative") == of_category.num_groundtruth - tp


def test_masks_are_drawn_if_they_were_matched():
    tables = evaluated(random_images(5, masks=True), masks=True).object_tables()
    for iou_type, is_drawn in (("bbox", False), ("segm", True)):
        for column in drawn_of_image(tables[iou_type], 0, 0.1):
            assert column
            assert all((drawn.mask is not None) == is_drawn for drawn in column)


def test_a_class_whose_name_cannot_be_shown_is_named_by_its_id():
    table = evaluated([one_image()], {1: "狸", 3: "a\nb\x00\u202ec"}).object_tables()["bbox"]
    assert [drawn.category for drawn in drawn_of_image(table, 0, 0.5)[0]] == ["class 1", "a b c"]


def test_an_image_without_detections_or_objects_has_nothing_to_draw():
    nothing = {"boxes": [np.zeros((0, 4))], "scores": [[]], "classes": [[]]}
    nothing |= {"gt_boxes": [np.zeros((0, 4))], "gt_classes": [[]]}
    table = evaluated([one_image(**nothing)], CATEGORIES).object_tables()["bbox"]
    assert drawn_of_image(table, 0, 0.5) == ([], [])


# ---- Colors and lines -----------------------------------------------------------------------------------------------


def test_color_and_line_tell_the_outcome():
    left, right = panels([detection("true positive")])
    assert share(left, BLUE) == 1
    assert (right == GRAY).all()
    left, right = panels([detection("false positive")])
    assert 0.5 < share(left, VERMILION) < 0.8
    assert (right == GRAY).all()
    for panel in panels(objects=[an_object("false negative")]):
        assert 0.2 < share(panel, YELLOW) < 0.5
    left, right = panels(objects=[an_object("found")])
    assert share(left, WHITE) == share(right, WHITE) == 1


def test_what_was_found_is_thinner_on_the_left():
    left, right = panels(objects=[an_object("found")])
    widths = [int((panel[200, 95:110] == WHITE).all(axis=-1).sum()) for panel in (left, right)]
    assert widths[0] < widths[1]


def test_a_crowd_is_hatched_and_only_on_the_right():
    left, right = panels(objects=[an_object("ignored", note="crowd")])
    assert (left == GRAY).all()
    inside = right[150:250, 120:280]
    assert 0.05 < (inside == WHITE).all(axis=-1).mean() < 0.3
    _, right = panels(objects=[an_object("ignored", note="difficult")])
    assert (right[150:250, 120:280] == GRAY).all()


@pytest.mark.parametrize("background", [0, 255])
def test_lines_have_a_dark_halo(background):
    left, _ = panels([detection("true positive")], image=np.full_like(IMAGE, background))
    assert (left[200, 99] == HALO).all()
    assert (left[200, 100:103] == BLUE).all()
    assert (left[200, 103] == HALO).all()
    assert (left[200, 98] == background).all()


def test_a_mask_is_drawn_as_its_outline_in_place_of_its_box():
    mask = np.zeros(SIZE, np.uint8)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    mask[(y - 200) ** 2 + (x - 200) ** 2 < 80**2] = 1
    rle = hotcoco.mask.encode(np.asfortranarray(mask))
    for outcome, color, least, most in (("true positive", BLUE, 1, 1), ("false positive", VERMILION, 0.5, 0.75)):
        left, _ = panels([detection(outcome, (120.0, 120.0, 160.0, 160.0), mask=rle)])
        angle = np.linspace(0, 2 * np.pi, 400)
        on_outline = left[
            np.round(200 + 78.7 * np.sin(angle)).astype(int), np.round(200 + 78.7 * np.cos(angle)).astype(int)
        ]
        on_outline = on_outline[np.sin(angle) > -0.5]  # the label may be above
        assert least <= (on_outline == color).all(axis=-1).mean() <= most
        assert (left[200, 130:270] == GRAY).all()
        assert (left[275:279, 121:130] == GRAY).all()


def test_an_empty_mask_is_drawn_as_its_box():
    rle = hotcoco.mask.encode(np.zeros(SIZE, np.uint8, order="F"))
    assert share(panels([detection("true positive", mask=rle)])[0], BLUE) == 1


def test_boxes_and_masks_refer_to_the_size_of_the_image_whatever_size_its_pixels_have():
    mask = np.zeros((720, 960), np.uint8)
    mask[240:540, 200:600] = 1
    masks = (None, hotcoco.mask.encode(np.asfortranarray(mask)))
    drawn = [detection("true positive", (200.0, 240.0, 400.0, 300.0), mask=mask) for mask in masks]
    for one in drawn:
        left, _ = panels([one], image=IMAGE[::2, ::2], size=(720, 960))
        assert share(left, BLUE) == 1


@pytest.mark.parametrize("is_mask", [False, True])
def test_tiny_objects_can_be_seen(is_mask):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[200, 200] = 1
    rle = hotcoco.mask.encode(mask) if is_mask else None
    left, _ = panels([detection("true positive", (200.0, 200.0, 0.1, 0.1), mask=rle)])
    assert (left[200:210, 190:210] == BLUE).all(axis=-1).sum() >= 8  # the label is above


# ---- Labels ---------------------------------------------------------------------------------------------------------


def made_up(seed: int, num: int) -> tuple[list[Drawn], list[Drawn]]:
    random = np.random.default_rng(seed)
    boxes = np.concatenate((random.uniform(-20, 400, (2 * num, 2)), random.choice([9, 50, 300], (2 * num, 2))), axis=1)
    boxes = [tuple(box) for box in boxes.tolist()]
    outcomes = ["false positive", "true positive", "ignored"]
    detections = [
        detection(outcomes[row % 3], box, random.random(), row, category="name " * random.integers(1, 9))
        for row, box in enumerate(boxes[:num])
    ]
    outcomes = ["false negative", "found", "ignored"]
    return detections, [an_object(outcomes[row % 3], box, row) for row, box in enumerate(boxes[num:])]


@pytest.mark.parametrize("seed", range(3))
def test_labels_do_not_overlap_and_stay_inside(labels, seed):
    panels(*made_up(seed, 30))
    for of_panel in labels:
        placed = np.array([label for label in of_panel if label is not None])
        assert len(placed) >= 10
        assert (placed[:, :2] >= 0).all()
        assert (placed[:, 2] <= SIZE[1]).all()
        assert (placed[:, 3] <= SIZE[0]).all()
        for number, (left, top, right, bottom) in enumerate(placed):
            others = np.delete(placed, number, axis=0)
            beside = (others[:, 2] <= left) | (others[:, 0] >= right)
            assert (beside | (others[:, 3] <= top) | (others[:, 1] >= bottom)).all()


def test_errors_in_the_same_place_all_have_labels(labels):
    panels([detection(row=row) for row in range(12)], [an_object(row=row) for row in range(8)])
    assert len(labels[0]) == 20
    assert None not in labels[0]


def test_labels_have_the_color_of_the_outcome_and_text_that_can_be_read(labels):
    for drawn, color in (
        (detection("true positive"), BLUE),
        (detection("false positive"), VERMILION),
        (an_object("false negative"), YELLOW),
    ):
        labels.clear()
        left, _ = panels(*(([drawn], []) if drawn.score is not None else ([], [drawn])))
        ((x, y, right, bottom),) = labels[0]
        label = left[y:bottom, x:right].astype(int)
        assert (label == color).all(axis=-1).mean() > 0.5
        text = (0, 0, 0) if color == YELLOW else WHITE
        assert (np.abs(label - text).max(axis=-1) < 40).any()


def test_long_names_are_shortened_so_that_the_rest_can_be_read(labels):
    panels([detection(category="x" * 10_000)], [])
    panels([detection(category="x" * 10_000, note="")], [])
    long, without_note = (of_panel[0] for of_panel in labels[::2])
    assert without_note[2] - without_note[0] < long[2] - long[0] < SIZE[1] * 0.8


# ---- Focus, captions, sheet -----------------------------------------------------------------------------------------


def test_focus_dims_the_rest(labels):
    random = np.random.default_rng(1)
    image = random.integers(0, 256, IMAGE.shape, np.uint8)
    detections = [detection(row=4), detection("true positive", (320.0, 20.0, 100.0, 60.0), row=5)]
    missed = [an_object(box=(350.0, 200.0, 60.0, 60.0), row=0)]
    vivid, _ = panels(detections, missed, image)
    left, right = panels(detections, missed, image, focus=Focus(detections=[4]))
    assert [len(of_panel) for of_panel in labels] == [3, 1, 1, 0]
    assert (left[160:260, 110:290] == vivid[160:260, 110:290]).all()
    assert (right[160:260, 110:290] == image[160:260, 110:290]).all()
    for panel in (left, right):
        outside = panel[280:, :90]
        assert np.abs(outside.astype(int) - 110).max() < 60 < np.abs(image[280:, :90].astype(int) - 110).max()
    assert not (left == BLUE).all(axis=-1).any()
    assert not (right == YELLOW).all(axis=-1).any()


def test_an_object_in_focus_is_vivid_in_both_panels():
    for panel in panels([detection(row=3)], [an_object(row=3)], focus=Focus(objects=[3])):
        assert share(panel, YELLOW) > 0.2
        assert not (panel == VERMILION).all(axis=-1).any()
        assert (panel[200, 200] == GRAY).all()
        assert (panel[20, 20] != GRAY).all()


def test_captions_say_how_many_errors_there_are_and_how_many_are_not_drawn(captions):
    draw_errors(IMAGE, SIZE, [], [])
    missed = [an_object(row=row) for row in range(4)]
    found = [detection(row=row) for row in range(3)]
    draw_errors(IMAGE, SIZE, [*found, detection("true positive")], [*missed, an_object("ignored")])
    draw_errors(IMAGE, SIZE, found, missed, max_errors=5)
    draw_errors(IMAGE, SIZE, [detection(box=(900.0, 0.0, 5.0, 5.0))], [])
    assert captions == [
        "errors: 0 FP, 0 FN",
        "ground truth: 0",
        "errors: 3 FP, 4 FN",
        "ground truth: 5",
        "errors: 3 FP, 4 FN, 2 not drawn",
        "ground truth: 4",
        "errors: 1 FP, 0 FN, 1 not drawn",
        "ground truth: 0",
    ]


def test_the_errors_that_are_drawn_are_those_in_focus_and_then_the_worst():
    positions = [(20.0 + 90 * number, 200.0, 60.0, 60.0) for number in range(5)]
    found = [detection(box=box, score=0.5 + 0.1 * row, row=row) for row, box in enumerate(positions)]

    def drawn(**options) -> list[bool]:
        left, _ = panels(found, max_errors=2, **options)
        return [bool((left[200:260, int(x)] == VERMILION).all(axis=-1).any()) for x, *_ in positions]

    assert drawn() == [False, False, False, True, True]
    assert drawn(focus=Focus(detections=[0])) == [True, False, False, False, False]


def test_a_long_caption_takes_more_lines_in_a_narrow_panel():
    size = (480, 100)
    few = draw_errors(np.zeros((*size, 3), np.uint8), size, [], [])
    errors = [detection(row=row, box=(0.0, 0.0, 50.0, 50.0)) for row in range(1234)]
    many = draw_errors(np.zeros((*size, 3), np.uint8), size, errors, [])
    assert many.shape[1] == few.shape[1]
    assert many.shape[0] > few.shape[0]


def test_panels_of_a_wide_image_are_one_above_the_other():
    heights = {}
    for size in ((100, 1000), (1000, 100), (300, 400), (400, 200)):
        picture = draw_errors(np.zeros((*size, 3), np.uint8), size, [], [])
        heights[size] = picture.shape[:2]
    assert heights[100, 1000][1] == 480 > heights[100, 1000][0]
    assert heights[1000, 100][1] < 500 < heights[1000, 100][0] < 520
    assert heights[300, 400] == (2 * (360 + 24) + GAP, 480)
    assert heights[400, 200] == (480 + 24, 2 * 240 + GAP)


# ---- Odd input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "box",
    [
        (np.nan,) * 4,
        (0.0, 0.0, np.inf, 10.0),
        (1e30, 1e30, 1e30, 1e30),
        (-500.0, -500.0, 10.0, 10.0),
        (1000.0, 20.0, 5.0, 5.0),
    ],
)
def test_boxes_that_are_not_in_the_image_are_not_drawn(box):
    for panel in panels([detection(box=box)], [an_object(box=box)]):
        assert (panel == GRAY).all()


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 0.0, 0.0),
        (479.0, 359.0, 9.0, 9.0),
        (-50.0, -50.0, 1e9, 1e9),
        (20.0, 20.0, -9.0, -9.0),
        (0, 50, 480, 0),
    ],
)
@pytest.mark.parametrize("outcome", ["true positive", "false positive"])
def test_boxes_at_the_edge_and_degenerate_ones_are_drawn(box, outcome):
    left, _ = panels([detection(outcome, box)])
    assert (left == (BLUE if outcome == "true positive" else VERMILION)).all(axis=-1).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1), (3, 2), (50, 500), (500, 50)])
def test_images_of_any_size_can_be_drawn(labels, size):
    height, width = size
    box = (0.0, 0.0, width / 2, height / 2)
    rle = hotcoco.mask.encode(np.ones(size, np.uint8, order="F"))
    drawn = [detection("true positive", box), detection(box=box), detection(mask=rle), detection("ignored", box)]
    objects = [an_object("found", box), an_object(box=box), an_object("ignored", note="crowd", mask=rle)]
    for image in (np.zeros((*size, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)):
        picture = draw_errors(image, size, drawn, objects, focus=Focus([0], [0]))
        assert picture.ndim == 3
        picture = draw_errors(image, size, drawn, objects)
        assert max(picture.shape) <= 2 * 480 + 100
        assert len(labels[-2]) == 5
        assert None not in labels[-2][:3]  # those of errors


def test_gray_images_look_like_themselves_in_color():
    gray = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    in_color = draw_errors(np.stack([gray] * 3, axis=-1), SIZE, [detection()], [])
    for image in (gray, gray[..., np.newaxis]):
        assert (draw_errors(image, SIZE, [detection()], []) == in_color).all()


@pytest.mark.parametrize(
    "name", ["", "a\nb\x00\u202ec", "猫", "x" * 100_000, "\ud800", "e\u0301" * 300, "{}%s<b>", " ", "🦝", "שלום"]
)
def test_a_class_may_be_called_anything(labels, name):
    panels([detection(category=name, note=f"is {name}")], [an_object(category=name), an_object("found", category=name)])
    for of_panel in labels:
        assert all(label is not None for label in of_panel)
        assert all(label[3] - label[1] == 20 for label in of_panel)
