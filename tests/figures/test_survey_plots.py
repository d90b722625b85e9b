"""Plots of what datasets are like."""

from __future__ import annotations

import itertools
import warnings

import matplotlib
import matplotlib.figure  # its own warnings of deprecation are none of ours
import numpy as np
import pytest

from od_eval.figures import pictures, survey_plots

RANDOM = np.random.default_rng(0)
NOTHING = np.zeros(0)
NAMES = ["train_input_reader", "eval_input_reader[0]", "$x$ \n猫", "", "a fifth"]


def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == color).all(axis=-1).any())


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures of all pictures."""
    drawn: list = []
    draw = survey_plots.drawn

    def spying(figure):
        drawn.append(figure)
        return draw(figure)

    monkeypatch.setattr(survey_plots, "drawn", spying)
    return drawn


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def steps(axes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name of a dataset -> values and edges of its histogram."""
    found = {patch.get_label(): patch.get_data() for patch in axes.patches}
    return {name: (data.values, data.edges) for name, data in found.items()}


DRAWN = {
    "categories": lambda names: survey_plots.objects_per_category({name: {1: 5, 7: 2} for name in names}, {1: "猫"}),
    "histograms": lambda names: survey_plots.histograms({name: RANDOM.random(9) for name in names}, "x", "images"),
    "logarithmic": lambda names: survey_plots.histograms(
        {name: RANDOM.random(9) for name in names}, "x", "images", log=True, marks=(0.5,)
    ),
    "positions": lambda names: survey_plots.positions({name: RANDOM.random((9, 2)) for name in names}),
    "sizes": lambda names: survey_plots.image_sizes({name: np.array([[640, 480], [0, 0]]) for name in names}),
}


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("number", [0, 1, 5])
def test_any_number_of_datasets_with_any_names_is_drawn_without_a_warning(kind, number):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = DRAWN[kind](NAMES[:number])
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (700, 3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: survey_plots.objects_per_category({"train": {1: 0}}, {1: "cat"}),
        lambda: survey_plots.histograms({"train": np.array([np.nan, np.inf])}, "x", "images"),
        lambda: survey_plots.histograms({"train": np.array([0.0, -1.0])}, "x", "images", log=True),
        lambda: survey_plots.positions({"train": np.array([[np.nan, 0.5]])}),
        lambda: survey_plots.image_sizes({"train": np.array([[0, 480]])}),
    ],
)
def test_a_dataset_of_which_nothing_is_known_says_so(draw, figures):
    draw()
    assert any(text.startswith(("no ", "nothing ")) for text in texts(figures[0]))


def test_bars_are_shares_of_the_own_objects_with_their_number(figures):
    survey_plots.objects_per_category({"train": {1: 30, 2: 10}, "eval": {2: 5}}, {1: "cat", 2: "dog"})
    (axes,) = figures[0].axes
    by_color = {bar.get_facecolor()[:3]: [] for bar in axes.patches}
    for bar in axes.patches:
        by_color[bar.get_facecolor()[:3]].append(bar.get_width())
    assert list(by_color.values()) == [[75, 25], [0, 100]]
    shown = texts(figures[0])
    assert {" 30", " 10", " 5", " 0", "cat", "dog", "train", "eval"} <= set(shown)


def test_categories_beyond_the_first_share_a_bar(figures):
    most = survey_plots.MAX_CATEGORIES
    survey_plots.objects_per_category({"train": {number: 1 + number for number in range(most)}}, {})
    survey_plots.objects_per_category({"train": {number: 1 + number for number in range(most + 5)}}, {})
    assert not any("others" in text for text in texts(figures[0]))
    assert "6 others" in texts(figures[1])
    (axes,) = figures[1].axes
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(100)


def test_histograms_are_shares_of_each_dataset(figures):
    values = {"train": RANDOM.normal(100, 20, 500), "eval": RANDOM.normal(50, 5, 40)}
    survey_plots.histograms(values, "side", "objects")
    (axes,) = figures[0].axes
    for name, (shares, edges) in steps(axes).items():
        inside = [(values[name] >= low) & (values[name] < high) for low, high in itertools.pairwise(edges)]
        expected = [100 * within.mean() for within in inside]
        assert shares == pytest.approx(expected)
    assert set(steps(axes)) == {"train", "eval"}


def test_values_beyond_the_limits_are_counted_at_the_ends(figures):
    survey_plots.histograms({"train": np.array([-3.0, 0.5, 0.5, 7.0])}, "x", "images", limits=(0, 1))
    shares, _ = steps(figures[0].axes[0])["train"]
    assert (shares[0], shares[-1], shares.sum()) == (25, 25, 100)


def test_a_mark_is_drawn_only_within_the_axis(figures):
    survey_plots.histograms({"train": np.array([20.0, 50.0])}, "side", "objects", log=True, marks=(32, 96))
    assert [line.get_xdata()[0] for line in figures[0].axes[0].lines] == [32]


def test_heat_maps_have_a_common_scale_and_y_goes_down(figures):
    corner = np.array([[0.99, 0.01]] * 3)  # right, top
    spread = np.array([[0.1, 0.9], [0.9, 0.1], [0.5, 0.5], [0.3, 0.3]])
    survey_plots.positions({"train": corner, "eval": spread})
    train, evaluation = figures[0].axes[0].images
    assert np.unravel_index(train.get_array().argmax(), train.get_array().shape) == (0, 15)
    assert train.get_array().max() == 100
    assert evaluation.get_array().max() == 25
    assert train.get_clim() == evaluation.get_clim() == (0, 100)


def test_a_mark_stands_for_the_images_of_a_size(figures):
    survey_plots.image_sizes({"train": np.array([[640, 480]] * 3 + [[100, 200]])})
    (points,) = figures[0].axes[0].collections
    assert points.get_offsets().tolist() == [[640, 480], [100, 200]]
    large, small = points.get_sizes()
    assert large - small == pytest.approx(1500 * (0.75 - 0.25))


def test_training_data_are_blue_and_more_than_four_datasets_are_left_out(figures):
    picture = survey_plots.histograms({name: RANDOM.random(9) for name in "abcde"}, "x", "images")
    assert has(picture, pictures.BLUE)
    assert list(steps(figures[0].axes[0])) == ["a", "b", "c", "d"]
