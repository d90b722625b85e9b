"""Pictures of segmentation: what is where, in which color."""

import numpy as np
import pytest

from od_eval.figures import plots
from od_eval.figures.pictures import VERMILION
from od_eval.figures.segmentation_colors import IGNORED, class_colors
from od_eval.figures.segmentation_pictures import draw_segmented

GRAY = np.full((40, 80, 3), 128, np.uint8)


def panels(picture: np.ndarray) -> list[np.ndarray]:
    """Image, ground truth, prediction and wrong pixels of an image of 40 × 80, which are drawn 200 × 400."""
    rows = (34, 34 + 200 + 6 + 34)
    columns = (0, 400 + 6)
    return [picture[y : y + 200, x : x + 400] for y in rows for x in columns]


def of_class(index: int) -> np.ndarray:
    """The color of a class over gray."""
    return 0.7 * class_colors(3)[index] + 0.3 * 128


def test_the_four_panels_show_image_labels_prediction_and_mistakes():
    groundtruth, prediction = np.zeros((40, 80), int), np.zeros((40, 80), int)
    groundtruth[:20, :40], prediction[:20, :20] = 1, 1
    groundtruth[30:], prediction[30:] = -1, 2
    image, labels, predicted, wrong = panels(draw_segmented(GRAY, groundtruth, prediction, ["a", "b", "c"]))
    assert (image == 128).all()
    for panel, place, color in (
        (labels, (50, 150), of_class(1)),
        (labels, (50, 250), of_class(0)),
        (labels, (180, 50), 0.7 * np.array(IGNORED) + 0.3 * 128),
        (predicted, (50, 50), of_class(1)),
        (predicted, (50, 150), of_class(0)),
        (predicted, (180, 50), of_class(2)),
        (wrong, (50, 150), VERMILION),
        (wrong, (180, 50), IGNORED),
        (wrong, (50, 50), (255 - 0.35 * 127,) * 3),
    ):
        np.testing.assert_allclose(panel[place], color, atol=1, err_msg=str(place))


def test_labels_may_be_smaller_than_the_image():
    picture = draw_segmented(GRAY, np.array([[0, 1]]), np.array([[0, 0]]), ["a", "b"])
    wrong = panels(picture)[3]
    is_wrong = (wrong == VERMILION).all(axis=-1)
    assert not is_wrong[:, :200].any()
    assert is_wrong[:, 200:].all()


def test_the_legend_has_the_classes_of_the_image_and_no_others():
    def num_of_color(prediction: int, color: tuple[int, ...]) -> int:
        labels = np.zeros((40, 80), int)
        picture = draw_segmented(GRAY, labels, np.full_like(labels, prediction), ["a", "b", "c"])
        below = picture[2 * (34 + 200 + 6) :]
        return int((below == color).all(axis=-1).sum())

    for index, color in enumerate(class_colors(3).tolist()):
        assert num_of_color(index, tuple(color)) > 100
    assert num_of_color(0, tuple(class_colors(3)[2].tolist())) == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (700, 3), (320, 213)], ids=str)
@pytest.mark.parametrize("names", [["a"], ["\u202e\x00<b>", "x" * 1000], [str(i) for i in range(300)]], ids=len)
def test_any_image_and_any_names_can_be_drawn(shape, names):
    random = np.random.default_rng(0)
    labels = random.integers(-1, len(names), shape)
    prediction = random.integers(0, len(names), shape)
    image = random.integers(0, 256, (*shape, 3), np.uint8)
    picture = draw_segmented(image, labels, prediction, names, image_id="\n../x" * 50)
    assert picture.dtype == np.uint8
    assert max(picture.shape) < 1500


def test_an_image_whose_labels_are_all_ignored_can_be_drawn():
    labels = np.full((4, 4), -1)
    assert draw_segmented(np.zeros((4, 4, 3), np.uint8), labels, np.zeros((4, 4), int), ["a"]).size


def test_deuteranopes_can_tell_the_colors_apart():
    """By an independent simulation: Viénot, Brettel and Mollon, 1999, in a cone space, and CIE76 distances."""
    colors = class_colors(21)
    linear = np.where(colors / 255 <= 0.04045, colors / 255 / 12.92, ((colors / 255 + 0.055) / 1.055) ** 2.4)
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    as_seen = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    seen = np.clip(linear @ (np.linalg.inv(to_lms) @ as_seen @ to_lms).T, 0, 1)
    for of_eyes, least in ((linear, 17), (seen, 8)):
        xyz = of_eyes @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
        xyz /= (0.9505, 1, 1.089)
        f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
        distances = np.linalg.norm(lab[:, np.newaxis] - lab, axis=-1)
        assert distances[~np.eye(len(lab), dtype=bool)].min() > least


@pytest.mark.parametrize("num_classes", [1, 2, 20, 21, 150])
def test_the_confusion_matrix_of_any_number_of_classes_is_drawn(num_classes):
    counts = np.random.default_rng(0).integers(0, 10**6, (num_classes, num_classes))
    picture = plots.pixel_confusion(counts, [f"class ${i}" for i in range(num_classes)])
    assert 700 <= picture.shape[1] <= 1400
    assert plots.pixel_confusion(np.zeros_like(counts), ["x"] * num_classes).shape[1] >= 700
