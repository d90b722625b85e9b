"""Plots of what datasets are like, side by side: for TensorBoard's Images page and for files.

    objects_per_category({"train": {1: 120, 2: 30}, "eval": {1: 11, 2: 4}}, {1: "cat", 2: "dog"})
    histograms({"train": sides, "eval": other_sides}, "Side of box, pixels", "objects", log=True)

Datasets differ in size: all shares are of the dataset's own objects or images. Each has a color and dashes of its own,
in their order: the training data are blue. Names of datasets and categories come from users: no assumptions are made
about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from od_eval.evaluation.matching import Floats
from od_eval.figures import pictures
from od_eval.figures.plot_parts import (
    INK,
    LEGEND_LINE,
    LETTERS,
    NAME_WIDTH,
    PALE_INK,
    SMALL_POINTS,
    Picture,
    compact,
    drawn,
    hex_color,
    label_axes,
    legend_below,
    letters,
    new_figure,
    note,
    set_limits,
    set_log_ticks,
    white_to_blue,
    width_of_longest,
)

if TYPE_CHECKING:  # importing it takes half a second
    from matplotlib.axes import Axes

# More datasets are not drawn: their lines could not be told apart.
MAX_DATASETS = 4
# More categories share a bar.
MAX_CATEGORIES = 20
# Parts of a heat map, along each side.
_PARTS = 16
_PANELS_IN_ROW = 2
# Pixels that the name of a dataset may take: two stand side by side in a legend.
_DATASET_WIDTH = 240
# Different sizes of images that are drawn, the most frequent ones.
_MAX_SIZES = 200

_STYLES: tuple[tuple[str, Any], ...] = (
    (hex_color(pictures.BLUE), "-"),
    (hex_color(pictures.VERMILION), "--"),
    (hex_color(pictures.GREEN), "-."),
    (hex_color(pictures.PURPLE), ":"),
)
_MARKERS = ("o", "s", "^", "D")


def objects_per_category(counts: Mapping[str, Mapping[int, int]], categories: Mapping[int, str]) -> Picture:
    """Bars: the share of each category in the objects of a dataset, with their number.

    Args:
      counts: name of a dataset -> id of a category -> its number of objects. Categories are sorted by their share in
        the first dataset, then in the others; those after the first `MAX_CATEGORIES` share a bar.
      categories: id -> name.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    datasets = _first(counts)
    by_share = _by_share(list(datasets.values()))
    shown = by_share if len(by_share) <= MAX_CATEGORIES else by_share[: MAX_CATEGORIES - 1]
    others = by_share[len(shown) :]
    labels = [_fitting(pictures.category_name(category, categories)) for category in shown]
    labels += [f"{len(others)} others"] if others else []
    height = 20 * max(len(datasets), 1) + 12
    left = 20 + max(width_of_longest(labels), 60)
    figure, (axes,) = new_figure(
        max(height * len(labels), 120), left=left, bottom=80 + LEGEND_LINE * ((len(datasets) + 1) // 2)
    )
    axes.grid(False, axis="y")
    axes.set_yticks([])
    label_axes(axes, "Share of objects, %", "")
    if not any(sum(of.values()) for of in datasets.values()):
        note(axes, "no objects")
        return drawn(figure)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    most = 0.0
    thickness = 0.85 / len(datasets)
    for row, label in enumerate(labels):
        axes.text(-0.015, row, label, transform=axes.get_yaxis_transform(), ha="right", va="center", **letters())
    for place, ((name, of), (color, _)) in enumerate(zip(datasets.items(), _STYLES, strict=False)):
        num = [of.get(category, 0) for category in shown]
        num += [sum(of.get(category, 0) for category in others)] if others else []
        shares = 100 * np.array(num) / max(sum(of.values()), 1)
        rows = np.arange(len(labels)) + (place - (len(datasets) - 1) / 2) * thickness
        axes.barh(rows, shares, thickness, color=color, edgecolor="white", label=name)
        for row, share, number in zip(rows.tolist(), shares.tolist(), num, strict=True):
            axes.text(share, row, f" {compact(number)}", va="center", **letters(SMALL_POINTS))
        most = max(most, float(shares.max()))
    axes.set_xlim(0, 1.15 * most)
    legend_below(axes, *axes.get_legend_handles_labels())
    return drawn(figure)


def histograms(
    values: Mapping[str, npt.NDArray[Any]],
    x: str,
    of: str,
    *,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    marks: Sequence[float] = (),
) -> Picture:
    """Outlines of histograms, one in front of the other: the share of each dataset's values in each of 30 ranges.

    Args:
      values: name of a dataset -> its values; what is not finite, or on a logarithmic axis not above 0, is left out.
      x: what the values are, with unit: the label of the axis.
      of: what they are of: `objects`, `images`.
      limits: of the axis; values beyond are counted at its ends. By default all values fit.
      log: whether the axis is logarithmic.
      marks: values at which a vertical line is drawn.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    finite = {name: _usable(of_one, log) for name, of_one in _first(values).items()}
    figure, (axes,) = new_figure(330, bottom=80 + LEGEND_LINE * ((len(finite) + 1) // 2))
    label_axes(axes, x, f"Share of {of}, %")
    everything = np.concatenate([*finite.values(), np.zeros(0)])
    if not len(everything):
        note(axes, "nothing is known of them" if values else "no data")
        return drawn(figure)
    low, high = limits or _limits_of(everything, log)
    edges = np.geomspace(low, high, 31) if log else np.linspace(low, high, 31)
    most = 0.0
    for (name, numbers), (color, dashes) in zip(finite.items(), _STYLES, strict=False):
        num, _ = np.histogram(np.clip(numbers, low, high), edges)
        shares = 100 * num / max(len(numbers), 1)
        axes.stairs(shares, edges, color=color, linewidth=3, linestyle=dashes, label=name)
        most = max(most, float(shares.max()))
    for mark in marks:
        if low < mark < high:
            axes.axvline(mark, color=PALE_INK, linewidth=1.5, linestyle=":")
    set_limits(axes, (low, high), (0, 1.05 * most))
    if log:
        axes.set_xscale("log")
        set_log_ticks(axes, low, high)
    legend_below(axes, *axes.get_legend_handles_labels())
    return drawn(figure)


def positions(centers: Mapping[str, npt.NDArray[Any]]) -> Picture:
    """Heat maps of where in images the centers of boxes are: the share of objects in each of 16 × 16 parts.

    The color is the same for the same share in all of them.

    Args:
      centers: name of a dataset -> float `[N, 2]`, x and y as parts of the image, 0 to 1.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    datasets = _first(centers)
    num_rows = max(-(-len(datasets) // _PANELS_IN_ROW), 1)
    figure, all_axes = new_figure(*[270] * num_rows, left=45, bottom=100, gap=60)
    shares = {}
    for name, of_one in datasets.items():
        inside = of_one[np.isfinite(of_one).all(axis=1)].clip(0, 1)
        num, _, _ = np.histogram2d(inside[:, 1], inside[:, 0], _PARTS, ((0, 1), (0, 1)))
        shares[name] = 100 * num / max(len(inside), 1)
    most = max((float(share.max()) for share in shares.values()), default=0.0)
    for row, axes in enumerate(all_axes):
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        set_limits(axes, (0, _PANELS_IN_ROW + 0.1 * (_PANELS_IN_ROW - 1)), (1.0, 0.0))
        axes.set_aspect("auto")
        names = list(shares)[row * _PANELS_IN_ROW : (row + 1) * _PANELS_IN_ROW]
        for place, name in enumerate(names):
            _draw_heat_map(axes, 1.1 * place, shares[name], max(most, 1e-9), name)
    if most:
        label_axes(all_axes[-1], f"White: no objects; darkest: {most:.2g}% of them", "")
        all_axes[-1].xaxis.labelpad = 30  # below the names
    else:
        note(all_axes[0], "no objects")
    return drawn(figure)


def image_sizes(sizes: Mapping[str, npt.NDArray[Any]]) -> Picture:
    """Widths and heights of images: a mark for each size, whose area grows with the share of images that have it.

    Args:
      sizes: name of a dataset -> `[N, 2]`, width and height in pixels; 0 where unknown.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    known = {name: of_one[(of_one > 0).all(axis=1)] for name, of_one in _first(sizes).items()}
    figure, (axes,) = new_figure(430, left=110, bottom=80 + LEGEND_LINE * ((len(known) + 1) // 2))
    label_axes(axes, "Width of image, pixels", "Height of image, pixels")
    largest = max((float(of_one.max()) for of_one in known.values() if len(of_one)), default=0.0)
    if not largest:
        note(axes, "no sizes are known")
        return drawn(figure)
    axes.plot([0, 1.1 * largest], [0, 1.1 * largest], color=PALE_INK, linewidth=1.5, linestyle=":")
    for (name, of_one), (color, _), marker in zip(known.items(), _STYLES, _MARKERS, strict=False):
        different, num = np.unique(of_one, axis=0, return_counts=True)
        frequent = np.argsort(-num, kind="stable")[:_MAX_SIZES]
        areas = 20 + 1500 * num[frequent] / max(len(of_one), 1)
        x, y = different[frequent].T if len(frequent) else ([], [])
        axes.scatter(x, y, areas, marker=marker, facecolor="none", edgecolor=color, linewidth=2.5)
        axes.plot([], [], linestyle="none", marker=marker, color=color, markersize=12, label=name)
    set_limits(axes, (0, 1.1 * largest), (0, 1.1 * largest))
    legend_below(axes, *axes.get_legend_handles_labels())
    return drawn(figure)


# ---- Parts of plots -------------------------------------------------------------------------------------------------


def _draw_heat_map(axes: Axes, left: float, shares: Floats, most: float, name: str) -> None:
    place = (left, left + 1, 1, 0)
    axes.imshow(shares, white_to_blue(), vmin=0, vmax=most, extent=place, aspect="auto", interpolation="nearest")
    axes.plot([left, left + 1, left + 1, left, left], [0, 0, 1, 1, 0], color=INK, linewidth=1, clip_on=False)
    axes.text(left + 0.5, 1.04, name, ha="center", va="top", **letters())


def _by_share(counts: Sequence[Mapping[int, int]]) -> list[int]:
    """Categories, those with the largest share in the first dataset first, then in the others."""
    categories = dict.fromkeys(category for of in counts for category in of)
    return sorted(categories, key=lambda category: [-of.get(category, 0) / max(sum(of.values()), 1) for of in counts])


def _usable(values: npt.NDArray[Any], log: bool) -> Floats:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values) & ((values > 0) | (not log))]


def _limits_of(values: Floats, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        return low / 1.05, high * 1.05
    margin = 0.02 * (high - low) or 0.5
    return low - margin, high + margin


def _first(of: Mapping[str, Any]) -> dict[str, Any]:
    """The first datasets, under names that matplotlib shows."""
    named = {}
    for number, (name, of_one) in enumerate(list(of.items())[:MAX_DATASETS], start=1):
        line = pictures.one_line(name)
        shown = _fitting(line, _DATASET_WIDTH) if line and pictures.can_show(line) else f"dataset {number}"
        named[shown if shown not in named else f"{shown} ({number})"] = of_one
    return named


def _fitting(name: str, width: int = NAME_WIDTH) -> str:
    """A name as matplotlib shows it: short, and with dollars that do not begin formulas."""
    return pictures.shortened(name, pictures.font_of_size(LETTERS), width).replace("$", r"\$")
