"""Plots of analyses, as pictures."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
import warnings

import matplotlib
import matplotlib._pylab_helpers
import matplotlib.style
import numpy as np
import pytest

from made_images import CATEGORIES, evaluated, one_image, random_images
from od_eval.evaluation.analyses.calibration import calibration
from od_eval.evaluation.analyses.confusion import confusion_matrix
from od_eval.evaluation.analyses.error_costs import COSTS, error_costs
from od_eval.evaluation.analyses.operating_point import counts, total
from od_eval.figures import pictures, plots

NO_BOXES = np.zeros((0, 4))
NO_DETECTIONS = {"boxes": [NO_BOXES], "scores": [[]], "classes": [[]]}
NO_OBJECTS = {"gt_boxes": [NO_BOXES], "gt_classes": [[]]}
MANY = {number: f"kind {number}" for number in range(1, 91)}
CASES = {
    "random": (random_images(0), CATEGORIES),
    "no detections": ([one_image(**NO_DETECTIONS)], CATEGORIES),
    "no objects": ([one_image(**NO_OBJECTS)], CATEGORIES),
    "nothing": ([one_image(**NO_DETECTIONS, **NO_OBJECTS)], CATEGORIES),
    "one category": ([one_image(classes=[[1, 1]], gt_classes=[[1, 1]])], {1: "dog"}),
    "90 categories": (random_images(1), MANY),
    "odd numbers": ([one_image(scores=[[7.0, -3.0]], gt_boxes=[[[10.0, 10, 10, 10], [60, 60, 60, 60]]])], CATEGORIES),
}


def table_of(*batches, categories=CATEGORIES):
    return evaluated(list(batches), categories=categories).object_tables()["bbox"]


def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == color).all(axis=-1).any())


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures of all pictures."""
    drawn: list = []
    draw = plots.drawn

    def spying(figure):
        drawn.append(figure)
        return draw(figure)

    monkeypatch.setattr(plots, "drawn", spying)
    return drawn


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def line(axes, label: str):
    """x and y of the curve whose label ends so."""
    (found,) = (line for line in axes.lines if line.get_label().endswith(label))
    return found.get_data()


@pytest.mark.parametrize("case", CASES)
def test_every_evaluation_has_all_plots_without_a_warning(case):
    batches, categories = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = plots.plots(table_of(*batches, categories=categories), 0.5)
    assert list(found) == [
        "precision_recall",
        "f1_confidence",
        "confusion",
        "reliability",
        "error_costs",
        "distributions",
        "missed_places",
    ]
    for picture in found.values():
        assert picture.dtype == np.uint8
        assert picture.shape[1:] == (700, 3)
        assert 300 < picture.shape[0] < 1400
        assert (picture[0] == 255).all()  # the paper is white
        assert picture.min() < 100  # and not empty


def test_average_precision_is_that_of_the_metrics(figures):
    evaluator = evaluated(random_images(2))
    metrics = evaluator.evaluate().bbox
    plots.precision_recall(evaluator.object_tables()["bbox"], 0.5)
    written = texts(figures[0])
    for name, iou in (("AP50", "0.50"), ("AP75", "0.75"), ("AP", "0.50:0.95")):
        assert f"AP {metrics[name]:.3f}  IoU {iou}" in written


def test_each_of_few_categories_has_a_curve(figures):
    table = table_of(*random_images(2))
    plots.precision_recall(table, 0.5)
    (axes,) = figures[0].axes
    of_categories = [line(axes, name)[1] for name in ("cat", "dog", "bird")]
    np.testing.assert_allclose(np.mean(of_categories, axis=0), line(axes, "IoU 0.50")[1])
    assert not any("never there" in text for text in texts(figures[0]))


def test_the_only_category_has_no_curve_beside_the_mean(figures):
    plots.precision_recall(table_of(one_image(gt_classes=[[1, 1]])), 0.5)
    assert not any(text.endswith("dog") for text in texts(figures[0]))


def test_the_circle_is_at_precision_and_recall_of_what_is_used(figures):
    # Two objects; of the detections above 0.5 one is right and one is wrong.
    table = table_of(
        one_image(
            boxes=[[[10.0, 10, 50, 50], [0, 0, 5, 5], [60, 60, 90, 90]]], scores=[[0.9, 0.8, 0.1]], classes=[[1, 1, 3]]
        )
    )
    plots.precision_recall(table, 0.5)
    assert line(figures[0].axes[0], "confidence ≥ 0.5") == ([0.5], [0.5])


def test_precision_recall_and_f1_are_those_of_counting_at_each_confidence(figures):
    table = table_of(*random_images(3))
    plots.f1_confidence(table, 0.5)
    (axes,) = figures[0].axes
    expected = [total(counts(table, confidence)) for confidence in line(axes, "precision")[0]]
    for name in ("precision", "recall", "f1"):
        numbers = [getattr(at, name) for at in expected]
        shown = line(axes, name if name != "f1" else "F1")[1]
        np.testing.assert_allclose(shown, [np.nan if number is None else number for number in numbers])
    (best,) = (line for line in axes.lines if line.get_label().startswith("best F1"))
    assert best.get_ydata()[0] == pytest.approx(max(at.f1 for at in expected))


def test_a_confusion_matrix_has_counts_in_cells(figures):
    # The dog is found; the cat is taken for a bird.
    table = table_of(one_image(classes=[[1, 18]]))
    plots.confusion(table, 0.5)
    (axes,) = figures[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted", "Actual")
    names = [*table.categories.values(), "background"]
    cells = {
        (names[round(y)], names[round(x)]): text.get_text()
        for text in axes.texts
        for x, y in [text.get_position()]
        if text.get_transform() == axes.transData
    }
    assert cells == {("dog", "dog"): "1", ("cat", "bird"): "1"}
    np.testing.assert_array_equal(axes.images[0].get_array()[names.index("cat"), names.index("bird")], 1)


def test_of_many_categories_the_worst_pairs_come_first(figures):
    table = table_of(
        one_image(image_ids=["a"], classes=[[1, 18]]),
        one_image(image_ids=["b"], classes=[[7, 18]]),
        one_image(image_ids=["c"]),
        categories=MANY,
    )
    plots.confusion(table, 0.5)
    pairs, matrix = figures[0].axes
    written = [text.get_text() for text in pairs.texts]
    assert written == ["kind 3 → kind 18", "kind 1 → kind 7", " 2 (67%)", " 1 (33%)"]
    assert [bar.get_width() for bar in pairs.patches] == [2, 1]
    labels = [text.get_text() for text in matrix.texts]
    assert labels[:4] == ["kind 3", "kind 18", "kind 1", "kind 7"]
    assert labels[8:10] == ["all others", "background"]


def test_the_matrix_of_many_categories_counts_everything(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_draw_matrix", lambda axes, labels, counted: drawn.append(counted))
    table = table_of(*random_images(4), categories=MANY)
    plots.confusion(table, 0.2)
    whole = confusion_matrix(table, 0.2).counts
    assert drawn[0].shape == (10, 10)
    assert drawn[0].sum() == whole.sum() > 100
    np.testing.assert_array_equal(drawn[0][-1].sum(), whole[-1].sum())
    np.testing.assert_array_equal(drawn[0][:, -1].sum(), whole[:, -1].sum())


def test_reliability_has_a_bar_for_the_precision_in_each_bin(figures):
    table = table_of(*random_images(5))
    plots.reliability(table)
    found = calibration(table)
    above, below = figures[0].axes
    used = [of_bin for of_bin in found.bins if of_bin.num]
    assert [bar.get_height() for bar in above.patches[: len(used)]] == [of_bin.precision for of_bin in used]
    assert [text.get_text() for text in below.texts] == [str(of_bin.num) for of_bin in used]
    assert f"gap (ECE {found.ece:.3f})" in texts(figures[0])


def test_scores_that_are_no_probabilities_have_a_reason_and_no_reliability(figures):
    plots.reliability(table_of(one_image(scores=[[7.0, -3.0]])))
    assert any("scores are not in" in text for text in texts(figures[0]))


def test_error_costs_are_bars_in_the_order_of_the_kinds(figures):
    costs = error_costs(table_of(*random_images(6)))
    plots.error_costs(costs)
    assert [bar.get_width() for bar in figures[0].axes[0].patches] == [costs[kind] for kind in COSTS]


def test_colors_say_what_is_right_wrong_and_missed():
    right = plots.distributions(table_of(one_image()), 0.5)
    assert has(right, pictures.BLUE)
    # The legends have all colors; in the histogram nothing is missed.
    missed = plots.distributions(table_of(one_image(**NO_DETECTIONS)), 0.5)
    num_yellow = [(picture == pictures.YELLOW).all(axis=-1).sum() for picture in (right, missed)]
    assert num_yellow[1] > 2 * num_yellow[0]


def test_found_and_missed_objects_are_all_objects(figures):
    table = table_of(*random_images(7))
    plots.distributions(table, 0.5)
    of_size = figures[0].axes[2]
    objects, _, missed, _ = (patch.get_data().values for patch in of_size.patches)
    at = total(counts(table, 0.5))
    assert (objects.sum(), missed.sum()) == (at.num_groundtruth, at.fn)
    assert (missed <= objects).all()
    assert 0 < at.fn < at.num_groundtruth


def test_a_missed_object_is_where_its_center_is(figures):
    # Its center is at 30 of 120 pixels from the left, and at 90 of 100 from the top.
    plots.missed_places(table_of(one_image(**NO_DETECTIONS, gt_boxes=[[[85.0, 20, 95, 40]]], gt_classes=[[1]])), 0.5)
    parts = figures[0].axes[0].images[0].get_array()
    assert np.argwhere(parts).tolist() == [[4, 1]]
    assert parts[4, 1] == 1


@pytest.mark.parametrize("num", [4, 30])
def test_any_name_can_be_written(num, figures):
    names = [r"$\frac", "a" * 300, "a\n\tb\x07", "_日本語", "$x$ $y_1", "\u202eright to left", "", r"\$", "\ud800"]
    categories = dict(enumerate([*names, *map(str, range(30))][:num], start=1))
    batches = [one_image(image_ids=[str(n)], classes=[[n % 4 + 1, 3]], gt_classes=[[1, 2]]) for n in range(9)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table_of(*batches, categories=categories)
        plots.confusion(table, 0.5)
        plots.precision_recall(table, 0.5)
    for figure in figures:
        written = texts(figure)
        assert any(r"\$\frac" in text for text in written)
        assert any("aaa…" in text for text in written)
        assert all(text.isprintable() and len(text) < 60 for text in written)
        assert all(text.count("$") == text.count(r"\$") for text in written)


def test_categories_up_to_twenty_have_a_legible_matrix():
    some, all_of_them = (
        plots.confusion(table_of(one_image(), categories=dict(list(MANY.items())[:num])), 0.5) for num in (10, 20)
    )
    assert some.shape[1] == 700
    assert all_of_them.shape[1] == 1400


def test_nothing_of_matplotlib_is_left_or_changed():
    before = dict(matplotlib.rcParams), dict(matplotlib._pylab_helpers.Gcf.figs)
    plots.distributions(table_of(*random_images(8)), 0.5)
    assert (dict(matplotlib.rcParams), dict(matplotlib._pylab_helpers.Gcf.figs)) == before


def test_a_style_that_a_notebook_has_set_does_not_matter():
    table = table_of(*random_images(8))
    draw = (plots.f1_confidence, plots.missed_places, plots.confusion)
    as_is = [of(table, 0.5) for of in draw]
    with matplotlib.style.context("dark_background"):
        dark = [of(table, 0.5) for of in draw]
    for picture, in_dark in zip(as_is, dark, strict=True):
        np.testing.assert_array_equal(in_dark, picture)


def test_threads_do_not_disturb_each_other():
    table = table_of(*random_images(9))
    expected = plots.f1_confidence(table, 0.5), plots.confusion(table, 0.5)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(draw, table, 0.5) for _ in range(3) for draw in (plots.f1_confidence, plots.confusion)]
    for index, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(), expected[index % 2])


def test_matplotlib_is_imported_when_something_is_drawn():
    program = "import sys, od_eval.figures.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (950, "950"),
        (1200, "1.2k"),
        (2000, "2k"),
        (9960, "10k"),
        (999_600, "1M"),
        (1.5e6, "1.5M"),
    ],
)
def test_large_numbers_are_short(number, text):
    assert plots.compact(number) == text
