"""Pictures of detections beside ground truth."""

from __future__ import annotations

import hotcoco.mask
import numpy as np
import pytest

from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.options import EvaluationOptions
from od_eval.figures import pictures

GRAY = 90
CATEGORIES = {1: "cat", 2: "dog"}
OPTIONS = EvaluationOptions(CATEGORIES, show_labels=False, show_scores=False)


def batch_of(
    boxes=(),
    scores=None,
    classes=None,
    there=(),
    size=(400, 500),
    image=None,
    masks=None,
    there_masks=None,
    **others,
) -> EvaluationBatch:
    """A batch of one grey image, with these detections and this ground truth."""
    boxes, there = np.reshape(np.asarray(boxes, float), (-1, 4)), np.reshape(np.asarray(there, float), (-1, 4))
    return EvaluationBatch(
        image_ids=[7],
        image_sizes=np.array([size]),
        detections=Detections(
            boxes=[boxes],
            scores=[np.ones(len(boxes)) if scores is None else scores],
            classes=[np.ones(len(boxes), int) if classes is None else classes],
            masks=None if masks is None else [masks],
        ),
        groundtruth=GroundTruth(
            boxes=[there],
            classes=[np.ones(len(there), int)],
            masks=None if there_masks is None else [there_masks],
            is_crowd=others.pop("is_crowd", None),
        ),
        images=[np.full((*size, 3), GRAY, np.uint8) if image is None else image],
        **others,
    )


def halves(batch: EvaluationBatch, options: EvaluationOptions = OPTIONS) -> tuple[np.ndarray, np.ndarray]:
    """The picture's left and right half, without headings and margins, if it has the size of the image."""
    picture = pictures.draw(batch, 0, options)
    assert picture.dtype == np.uint8
    height, width = np.asarray(batch.image_sizes)[0]
    picture = picture[-height:]
    return picture[:, :width].astype(int), picture[:, -width:].astype(int)


def drawn(half: np.ndarray) -> tuple[int, int, int, int] | None:
    """Top, left, bottom, right of what is not the grey image."""
    rows, columns = np.nonzero((half != GRAY).any(axis=-1))
    return (rows.min(), columns.min(), rows.max(), columns.max()) if len(rows) else None


def test_detections_are_on_the_left_and_ground_truth_on_the_right():
    left, right = halves(batch_of(boxes=[[10, 20, 110, 220]], there=[[50, 60, 150, 160]]))
    assert drawn(left) == (10, 20, 110, 220)
    assert drawn(right) == (50, 60, 150, 160)


@pytest.mark.parametrize(
    ("box_format", "box"),
    [
        ("yxyx", [100, 50, 300, 250]),
        ("xyxy", [50, 100, 250, 300]),
        ("xywh", [50, 100, 200, 200]),
        ("rel_yxyx", [0.25, 0.1, 0.75, 0.5]),
        ("rel_xyxy", [0.1, 0.25, 0.5, 0.75]),
        ("rel_xywh", [0.1, 0.25, 0.4, 0.5]),
    ],
)
def test_every_box_format_gives_the_same_picture(box_format, box):
    options = EvaluationOptions(CATEGORIES, box_format, show_labels=False, show_scores=False)
    assert drawn(halves(batch_of(boxes=[box]), options)[0]) == (100, 50, 300, 250)


def test_boxes_refer_to_the_size_of_the_image_whatever_size_its_pixels_are_given_in():
    half_as_large = np.full((200, 250, 3), GRAY, np.uint8)
    squeezed_by_a_model = np.full((300, 300, 3), GRAY, np.uint8)
    for image in (half_as_large, squeezed_by_a_model):
        left, _ = halves(batch_of(boxes=[[100, 50, 300, 250]], image=image))
        assert drawn(left) == (100, 50, 300, 250)


def test_the_highest_scores_are_drawn_and_none_below_the_minimum():
    boxes = [[10, 10, 50, 50], [100, 10, 150, 50], [200, 10, 250, 50]]
    batch = batch_of(boxes=boxes, scores=np.array([0.6, 0.9, 0.29]))
    assert drawn(halves(batch)[0]) == (10, 10, 150, 50)
    one = EvaluationOptions(CATEGORIES, max_boxes=1, show_labels=False, show_scores=False)
    assert drawn(halves(batch, one)[0]) == (100, 10, 150, 50)
    all_of_them = EvaluationOptions(CATEGORIES, min_score=0.0, show_labels=False, show_scores=False)
    assert drawn(halves(batch, all_of_them)[0]) == (10, 10, 250, 50)


def test_the_heading_says_the_best_score_if_no_detection_is_shown(monkeypatch):
    written = []
    monkeypatch.setattr(pictures, "_write_heading", lambda sheet, x, width, *text: written.append(text[0]))
    box = [[10, 10, 50, 50]]
    for scores in ([0.05], [0.123], [np.nan]):
        pictures.draw(batch_of(boxes=box, scores=np.array(scores)), 0, OPTIONS)
    pictures.draw(batch_of(), 0, OPTIONS)
    pictures.draw(batch_of(boxes=box), 0, OPTIONS)
    assert [text for text in written if text.startswith("detections")] == [
        "detections: 0 (best score 5%)",
        "detections: 0 (best score 12%)",
        "detections: 0 (score ≥ 30%)",
        "detections: 0 (score ≥ 30%)",
        "detections: 1 (score ≥ 30%)",
    ]


def test_a_category_has_one_colour_and_another_has_another():
    box, other_box = [10, 10, 60, 60], [110, 10, 160, 60]
    left, right = halves(batch_of(boxes=[box, other_box], classes=[1, 2], there=[box]))
    assert (left[10, 30] == right[10, 30]).all()
    assert np.abs(left[10, 30] - left[110, 30]).max() > 60


def test_ground_truth_can_be_drawn_into_the_picture_of_detections_too():
    batch = batch_of(there=[[50, 60, 150, 160]])
    assert drawn(halves(batch)[0]) is None
    red = EvaluationOptions(
        CATEGORIES, show_groundtruth_boxes=True, groundtruth_color="#ff0000", show_labels=False, show_scores=False
    )
    left, _ = halves(batch, red)
    assert drawn(left) == (50, 60, 150, 160)
    assert (left[50, 100] == (255, 0, 0)).all()


def test_a_colour_that_is_none_is_named():
    options = EvaluationOptions(CATEGORIES, show_groundtruth_boxes=True, groundtruth_color="redd")
    with pytest.raises(ODEvalError, match="groundtruth_color 'redd' is not a color; write"):
        pictures.draw(batch_of(), 0, options)


@pytest.mark.parametrize("form", ["array", "padded array", "RLE"])
def test_masks_are_translucent(form):
    mask = np.zeros((400, 500), np.uint8)
    mask[100:200, 300:400] = 1
    masks = {
        "array": mask[None],
        "padded array": np.pad(mask, ((0, 100), (0, 50)))[None],
        "RLE": [hotcoco.mask.encode(np.asfortranarray(mask))],
    }[form]
    box = [[100, 300, 200, 400]]
    left, right = halves(batch_of(boxes=box, masks=masks, there=box, there_masks=masks))
    color = left[100, 350]
    for half in (left, right):
        for y, x in ((110, 310), (190, 390)):
            assert np.allclose(half[y, x], GRAY + (color - GRAY) * 0.45, atol=3)
        assert (half[205, 350] == GRAY).all()


def test_a_crowd_is_dashed():
    there = [[50, 50, 350, 450]]
    for is_crowd, gaps in ((False, False), (True, True)):
        _, right = halves(batch_of(there=there, is_crowd=[[is_crowd]]))
        assert (right[50, 50:450] == GRAY).any() == gaps


def test_keypoints_are_connected_by_their_edges():
    keypoints = np.array([[[[0.25, 0.2], [0.25, 0.6], [np.nan, 0.5]]]])
    options = EvaluationOptions(
        CATEGORIES, keypoint_edges=[(0, 1), (1, 2), (1, 17)], show_labels=False, show_scores=False
    )
    left, _ = halves(batch_of(boxes=[[10, 10, 300, 400]], keypoints=keypoints), options)
    assert (left[100, 200] != GRAY).any()
    assert (left[130, 200] == GRAY).all()


def test_labels_and_scores_are_written_where_they_are_asked_for():
    batch = batch_of(boxes=[[100, 100, 200, 300]], there=[[100, 100, 200, 300]])
    widths = {}
    for show_labels in (False, True):
        for show_scores in (False, True):
            options = EvaluationOptions(CATEGORIES, show_labels=show_labels, show_scores=show_scores)
            above_the_boxes = [half[:99] for half in halves(batch, options)]
            widths[show_labels, show_scores] = [
                0 if drawn(half) is None else drawn(half)[3] - drawn(half)[1] for half in above_the_boxes
            ]
    assert widths[False, False] == [0, 0]
    assert widths[False, True][0] > 0 == widths[False, True][1]
    assert widths[True, False][0] == widths[True, False][1] > 0
    assert widths[True, True][0] > widths[True, False][0]


@pytest.mark.parametrize("box", [[0, 0, 399, 499], [0, 480, 30, 499], [390, 450, 399, 499], [5, 0, 8, 3]])
def test_a_label_stays_inside_the_picture(box):
    options = EvaluationOptions({1: "a name of some length"}, show_scores=False)
    with_label, _ = halves(batch_of(boxes=[box]), options)
    without, _ = halves(batch_of(boxes=[box]))
    label = np.nonzero((with_label != without).any(axis=-1))
    elsewhere = drawn(halves(batch_of(boxes=[[200, 100, 230, 130]]), options)[0])
    # As wide and as high as anywhere else, but for the line of its own colour that it may lie on.
    assert np.ptp(label[1]) == pytest.approx(elsewhere[3] - elsewhere[1], abs=4)
    assert np.ptp(label[0]) == pytest.approx(200 - elsewhere[0], abs=4)


@pytest.mark.parametrize(
    "name", ["", "a\nb\x00\u202ec", "猫", "x" * 100_000, "\ud800", "e\u0301" * 300, "{}%s<b>", " ", "🦝 raccoon"]
)
def test_a_class_may_be_called_anything(name):
    options = EvaluationOptions({1: name})
    left, _ = halves(batch_of(boxes=[[100, 100, 200, 300]], there=[[0, 0, 399, 499]]), options)
    assert (left[90, 101:105] != GRAY).any()


def test_a_class_without_a_name_is_shown_by_its_id():
    pictures_of_names = [
        pictures.draw(batch_of(boxes=[[100, 100, 200, 300]]), 0, EvaluationOptions(categories))
        for categories in ({}, {1: ""}, {1: "狸"}, {1: "class 1"})
    ]
    for picture in pictures_of_names[:-1]:
        assert (picture == pictures_of_names[-1]).all()


@pytest.mark.parametrize(
    "box", [[np.nan] * 4, [0, 0, np.inf, 10], [0, 0, 0, 0], [1e30, 1e30, 2e30, 2e30], [9, 9, 5, 5]]
)
def test_boxes_that_cannot_be_do_not_stop_the_drawing(box):
    left, right = halves(batch_of(boxes=[box, [10, 20, 110, 220]], there=[box, [10, 20, 110, 220]]))
    for half in (left, right):
        assert drawn(half)[2:] == (110, 220)


def test_boxes_that_reach_out_of_the_image_end_at_its_edge_and_those_outside_are_not_drawn():
    left, _ = halves(batch_of(boxes=[[-50, 100, 50, 1e9], [500, 0, 600, 100]]))
    assert drawn(left) == (0, 100, 50, 499)


def test_padding_rows_do_not_count():
    batch = EvaluationBatch(
        image_ids=["a", "b"],
        image_sizes=np.array([[400, 500], [400, 500]]),
        detections=Detections(np.full((2, 3, 4), 200.0), np.ones((2, 3)), np.ones((2, 3), int), num=np.array([1, 0])),
        groundtruth=GroundTruth(np.full((2, 3, 4), 200.0), np.ones((2, 3), int), num=np.array([0, 2])),
        images=[np.full((400, 500, 3), GRAY, np.uint8)] * 2,
    )
    found = [picture[-400:] for _, picture in pictures.pictures_of(batch, OPTIONS)]
    assert [[drawn(half) is not None for half in (image[:, :500], image[:, -500:])] for image in found] == [
        [True, False],
        [False, True],
    ]


@pytest.mark.parametrize(
    ("shape", "half_size"),
    [
        ((96, 96, 3), (320, 320)),
        ((96, 96, 1), (320, 320)),
        ((1500, 2000, 3), (720, 960)),
        ((333, 500, 3), (333, 500)),
        ((2000, 4, 3), (960, 240)),
        ((1, 1, 3), (320, 320)),
    ],
)
def test_small_images_are_enlarged_and_large_ones_reduced(shape, half_size):
    image = np.full(shape, GRAY, np.uint8)
    batch = batch_of(boxes=[[0, 0, 0.5, 0.5]], size=shape[:2], image=image)
    picture = pictures.draw(batch, 0, EvaluationOptions(CATEGORIES, "rel_yxyx"))
    heading = picture.shape[0] - half_size[0]
    assert picture.shape[1:] == (2 * half_size[1] + 6, 3)
    # At the 350 pixels of width that TensorBoard shows at first, the line of letters in the heading is this high.
    assert 13 <= heading * 350 / picture.shape[1] <= 19


def test_as_many_images_are_drawn_as_there_are_with_the_ids_they_belong_to():
    batch = EvaluationBatch(
        image_ids=["a", 2, "c"],
        image_sizes=np.array([[400, 500]] * 3),
        detections=None,
        groundtruth=None,
        images=[np.zeros((400, 500, 3), np.uint8)] * 2,
    )
    assert [image_id for image_id, _ in pictures.pictures_of(batch, OPTIONS)] == ["a", 2]


def test_ids_that_are_harmless_are_file_names():
    assert pictures.file_name("raccoon-1.jpg") == "raccoon-1.jpg.png"
    assert pictures.file_name(7) == "7.png"


@pytest.mark.parametrize("image_id", ["", ".", "..", "../../etc/passwd", "a/b", "a\\b", "\x00", "猫", "-rf", "\ud800"])
def test_ids_that_are_not_harmless_make_file_names_that_are(tmp_path, image_id):
    name = pictures.file_name(image_id)
    (tmp_path / name).touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not name.startswith(("-", "."))


def test_no_two_ids_share_a_file():
    ids = ["", ".", "..", "_", "a/b", "a_b", "a\\b", "猫", "犬", "x" * 300, "x" * 301, "x" * 100]
    names = {pictures.file_name(image_id) for image_id in ids}
    assert len(names) == len(ids)
    assert max(map(len, names)) < 130
