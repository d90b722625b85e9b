"""Plots of the analyses of an evaluation, as pictures: for TensorBoard's Images page and for files.

    for name, picture in plots(table, confidence).items():
        Image.fromarray(picture).save(f"{name}.png")

The colors are those of `pictures`: blue is right, vermilion a false positive, yellow a missed object. Sizes and letters
are those of `plot_parts`. Names of categories come from a user's dataset: no assumptions are made about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from od_eval.evaluation.analyses import calibration as calibrations
from od_eval.evaluation.analyses import confusion as confusions
from od_eval.evaluation.analyses import distributions as values
from od_eval.evaluation.analyses import error_costs as costs_of_errors
from od_eval.evaluation.analyses.curves import CURVE_IOUS
from od_eval.evaluation.analyses.operating_point import counts, cuts, total
from od_eval.evaluation.matching import RECALL_THRESHOLDS, Floats, Ints
from od_eval.evaluation.object_table import ObjectTable, precision_recall_scores
from od_eval.figures import pictures
from od_eval.figures.pictures import Color
from od_eval.figures.plot_parts import (
    DPI,
    INK,
    LEGEND_LINE,
    LETTERS,
    LINES,
    NAME_WIDTH,
    PALE_INK,
    POINTS,
    RIGHT,
    SMALL_POINTS,
    WIDTH,
    Picture,
    compact,
    count_axis,
    drawn,
    hex_color,
    label_axes,
    legend_above,
    legend_below,
    letters,
    new_figure,
    note,
    set_limits,
    set_log_ticks,
    style_ticks,
    white_to_blue,
    width_of_longest,
)

if TYPE_CHECKING:  # importing it takes half a second
    from matplotlib.axes import Axes

# More categories have no curves of their own.
MAX_CURVES = 10
# The confusion matrix of more categories is of those that are confused most.
MAX_LABELED = 20
NUM_PAIRS = 15
NUM_MOST_CONFUSED = 8
_NOTHING = "no objects, no detections"


def plots(
    table: ObjectTable, confidence: float, *, costs: Mapping[str, float | None] | None = None
) -> dict[str, Picture]:
    """All plots by name: each has the name of its function.

    Args:
      table: the object table.
      confidence: the operating point.
      costs: what `analyses.error_costs.error_costs` returns, if the caller has it already.

    Returns:
      name -> uint8 `[height, width, 3]`; only a confusion matrix of 11 to 20 categories is wider than 700.
    """
    costs = costs_of_errors.error_costs(table) if costs is None else costs
    return {
        "precision_recall": precision_recall(table, confidence),
        "f1_confidence": f1_confidence(table, confidence),
        "confusion": confusion(table, confidence),
        "reliability": reliability(table),
        "error_costs": error_costs(costs),
        "distributions": distributions(table, confidence),
        "missed_places": missed_places(table, confidence),
    }


def precision_recall(table: ObjectTable, confidence: float) -> Picture:
    """COCO's precision–recall curves at the IoUs of `curves.CURVE_IOUS`, each the mean over categories, with AP.

    Up to `MAX_CURVES` categories have a thin line each, at an IoU of 0.50. A circle is at precision and recall of all
    detections together that are not below the confidence. With more than one category it need not be on a curve, which
    is a mean over categories.

    Args:
      table: the object table.
      confidence: the operating point.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    precision, _, _ = precision_recall_scores(table)
    there = np.flatnonzero(table.num_groundtruth).tolist()
    of_categories = there if 1 < len(there) <= MAX_CURVES else []
    num_entries = len(CURVE_IOUS) + 1 + len(of_categories)
    figure, (axes,) = new_figure(440, bottom=80 + LEGEND_LINE * ((num_entries + 1) // 2))
    set_limits(axes, (0, 1), (0, 1.02))
    label_axes(axes, "Recall", "Precision")
    if not there:
        note(axes, "no objects")
        return drawn(figure)
    thin = ((color, dashes) for dashes in ("-", "--", ":") for color in _OF_CATEGORIES)
    names = _names(table.categories)
    for category, (color, dashes) in zip(of_categories, thin, strict=False):
        curve = precision[0, :, category]
        label = f"AP {curve.mean():.3f}  {names[category]}"
        axes.plot(RECALL_THRESHOLDS, curve, color=color, linestyle=dashes, linewidth=1.8, label=label)
    styles = ((pictures.BLUE, "-"), (pictures.VERMILION, "--"), (pictures.INK, "-."))
    for (iou, thresholds), (main_color, dashes) in zip(CURVE_IOUS.items(), styles, strict=True):
        curve = precision[thresholds].mean(axis=0)[:, there].mean(axis=1)
        label = f"AP {curve.mean():.3f}  IoU {iou}"
        axes.plot(RECALL_THRESHOLDS, curve, color=hex_color(main_color), linestyle=dashes, linewidth=4, label=label)
    at = total(counts(table, confidence))
    if at.precision is not None and at.recall is not None:
        axes.plot(
            [at.recall],
            [at.precision],
            linestyle="none",
            marker="o",
            markersize=13,
            markerfacecolor="white",
            markeredgecolor=INK,
            markeredgewidth=2.5,
            clip_on=False,
            zorder=5,
            label=f"confidence ≥ {confidence:.3g}",
        )
    first = len(of_categories)
    handles, labels = axes.get_legend_handles_labels()
    legend_below(axes, handles[first:] + handles[:first], labels[first:] + labels[:first])
    return drawn(figure)


def f1_confidence(table: ObjectTable, confidence: float) -> Picture:
    """Precision, recall and F1 of all detections together that are not below a confidence, at an IoU of 0.50.

    Args:
      table: the object table.
      confidence: the operating point, a vertical line; a dot is where F1 is highest.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    of_cuts = cuts(table)
    figure, (axes,) = new_figure(400, bottom=80 + 3 * LEGEND_LINE)
    low, high = _score_range(table)
    set_limits(axes, (low, high), (0, 1.02))
    label_axes(axes, "Confidence", "")
    if not of_cuts.num_groundtruth or not len(of_cuts.confidence):
        note(axes, "no detections" if of_cuts.num_groundtruth else "no objects")
        return drawn(figure)
    at = np.linspace(low, high, 501)
    num_used = len(of_cuts.confidence) - np.searchsorted(of_cuts.confidence[::-1], at)
    is_any = num_used > 0
    for name, curve, color, dashes in (
        ("precision", of_cuts.precision, pictures.VERMILION, "--"),
        ("recall", of_cuts.recall, pictures.ORANGE, "-."),
        ("F1", of_cuts.f_score(), pictures.BLUE, "-"),
    ):
        # Without any detection, recall and F1 are 0, and there is no precision.
        shown = np.where(is_any, curve[num_used - 1], np.nan if name == "precision" else 0)
        axes.plot(at, shown, color=hex_color(color), linestyle=dashes, linewidth=4 if name == "F1" else 3, label=name)
    axes.axvline(confidence, color=INK, linewidth=1.5, linestyle=":", label=f"used: {confidence:.3g}")
    if of_cuts.tp.any():
        f1 = of_cuts.f_score()
        best = int(np.argmax(f1))
        axes.plot(
            [of_cuts.confidence[best]],
            [f1[best]],
            linestyle="none",
            marker="o",
            markersize=13,
            markerfacecolor=hex_color(pictures.BLUE),
            markeredgecolor=INK,
            markeredgewidth=2,
            clip_on=False,
            zorder=5,
            label=f"best F1 {f1[best]:.3f} at {of_cuts.confidence[best]:.3g}",
        )
    legend_below(axes, *axes.get_legend_handles_labels())
    return drawn(figure)


def confusion(table: ObjectTable, confidence: float) -> Picture:
    """The confusion matrix at an IoU of 0.50: rows are what is there, columns what is predicted.

    Numbers are counts; the color is the part of the row. Of more than `MAX_LABELED` categories, the `NUM_PAIRS` pairs
    that are confused most often come first. The matrix then has the first `NUM_MOST_CONFUSED` categories of these; all
    others share a row and a column, and the cell where these meet has right detections and confusions alike.

    Args:
      table: the object table.
      confidence: detections below it do not count.

    Returns:
      uint8 `[height, 700, 3]`; for 11 to 20 categories up to 1400 wide.
    """
    matrix = confusions.confusion_matrix(table, confidence)
    names = _names(table.categories)
    if len(names) <= MAX_LABELED:
        return _matrix([*names, "background"], matrix.counts)
    pairs = confusions.most_confused(table, matrix)[:NUM_PAIRS]
    in_order = [category for pair in pairs for category in (pair.actual, pair.predicted)]
    in_order += np.argsort(-table.num_groundtruth, kind="stable").tolist()
    chosen = list(dict.fromkeys(in_order))[:NUM_MOST_CONFUSED]
    place = np.full(len(names) + 1, len(chosen))
    place[chosen] = np.arange(len(chosen))
    place[-1] = len(chosen) + 1
    reduced = np.zeros((len(chosen) + 2, len(chosen) + 2), np.int64)
    np.add.at(reduced, (place[:, np.newaxis], place), matrix.counts)
    labels = [*(names[category] for category in chosen), "all others", "background"]
    of_pairs = [f"{names[pair.actual]} → {names[pair.predicted]}" for pair in pairs]
    left, bottom = max(60 + width_of_longest(labels), 20 + width_of_longest(of_pairs)), 55 + width_of_longest(labels)
    figure, (above, below) = new_figure(32 * NUM_PAIRS, 480, left=left, bottom=bottom, gap=100)
    _draw_pairs(above, of_pairs, pairs)
    _draw_matrix(below, labels, reduced)
    return drawn(figure)


def pixel_confusion(counted: Ints, names: Sequence[str]) -> Picture:
    """The confusion matrix of pixels: rows are what is there, columns what is predicted.

    Numbers and colors as in `confusion`. Of more than `MAX_LABELED` classes, the matrix has those with the most wrong
    pixels; all others share the last row and column, and the cell where these meet has right pixels and wrong ones.

    Args:
      counted: int64 `[classes, classes]`.
      names: of the classes.

    Returns:
      uint8 `[height, width, 3]`, from 700 to 1400 wide.
    """
    labels = _names(dict(enumerate(names)))
    has_others = len(labels) > MAX_LABELED
    if has_others:
        wrong = counted.sum(axis=0) + counted.sum(axis=1) - 2 * np.diagonal(counted)
        chosen = np.sort(np.argsort(-wrong, kind="stable")[: MAX_LABELED - 1])
        place = np.full(len(labels), len(chosen))
        place[chosen] = np.arange(len(chosen))
        reduced = np.zeros((MAX_LABELED, MAX_LABELED), np.int64)
        np.add.at(reduced, (place[:, np.newaxis], place), counted)
        counted, labels = reduced, [*(labels[index] for index in chosen), "all others"]
    return _matrix(labels, counted, "no pixels", last_is_apart=has_others)


def reliability(table: ObjectTable) -> Picture:
    """The reliability diagram: the part of detections that is right, by confidence, and their number.

    Blue bars are the precision of the detections in each of ten ranges of confidence. The hatched gap is from there to
    their mean confidence: above the blue, the detector is too confident; within it, not confident enough.

    Args:
      table: the object table.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    found = calibrations.calibration(table)
    figure, (above, below) = new_figure(400, 110, bottom=80 + LEGEND_LINE, gap=15)
    for axes in (above, below):
        set_limits(axes, (0, 1), (0, 1))
    above.tick_params(labelbottom=False)
    label_axes(above, "", "Precision")
    label_axes(below, "Confidence", "Detections")
    below.set_yticks([])
    if found.ece is None:
        note(above, found.reason)
        return drawn(figure)
    above.plot([0, 1], [0, 1], color=INK, linewidth=2, linestyle="--", label="calibrated")
    used = [of_bin for of_bin in found.bins if of_bin.num]
    left = np.array([of_bin.low for of_bin in used])
    width = np.array([of_bin.high for of_bin in used]) - left
    precision = np.array([of_bin.precision for of_bin in used], np.float64)
    mean_score = np.array([of_bin.mean_score for of_bin in used], np.float64)
    above.bar(left, precision, width, align="edge", color=hex_color(pictures.BLUE), edgecolor="white", linewidth=2)
    above.bar(
        left + 0.15 * width,
        np.abs(mean_score - precision),
        0.7 * width,
        np.minimum(mean_score, precision),
        align="edge",
        facecolor="none",
        edgecolor=hex_color(pictures.VERMILION),
        hatch="///",
        linewidth=2,
        label=f"gap (ECE {found.ece:.3f})",
    )
    legend_below(above, *above.get_legend_handles_labels())
    num = np.array([of_bin.num for of_bin in used])
    heights = np.log10(num) + 0.3  # one detection is a bar, too
    below.bar(left, heights, width, align="edge", color="#b0b0b0", edgecolor="white", linewidth=2)
    below.set_ylim(0, 1.45 * heights.max())
    for x, height, number in zip(left + width / 2, heights, num.tolist(), strict=True):
        below.text(x, height, compact(number), ha="center", va="bottom", **letters(SMALL_POINTS))
    return drawn(figure)


def error_costs(costs: Mapping[str, float | None]) -> Picture:
    """What each kind of error costs, in AP at an IoU of 0.50. The costs do not add up.

    Args:
      costs: what `analyses.error_costs.error_costs` returns.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    figure, (axes,) = new_figure(370, left=195)
    kinds = costs_of_errors.COSTS
    lost = [costs[kind] for kind in kinds]
    # The totals stand apart.
    places = np.arange(len(kinds)) + 0.5 * np.array([kind.startswith("false") for kind in kinds])
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_yticks(places, ["all false positives" if kind == "false positives" else kind for kind in kinds])
    axes.tick_params(axis="y", length=0)
    label_axes(axes, "AP lost at IoU 0.50", "")
    axes.grid(False, axis="y")
    if None in lost:
        axes.set_xlim(0, 1)
        note(axes, "no objects")
        return drawn(figure)
    numbers = np.array(lost, np.float64)
    colors = [
        hex_color(pictures.YELLOW if kind in ("missed", "false negatives") else pictures.VERMILION) for kind in kinds
    ]
    axes.barh(places, numbers, 0.75, color=colors, edgecolor=INK, linewidth=1)
    most = max(float(numbers.max()), 0.01)
    axes.set_xlim(min(float(numbers.min()), 0) * 1.2, 1.2 * most)
    for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
        axes.text(max(number, 0) + 0.015 * most, place, f"{number:.3f}", va="center", **letters())
    return drawn(figure)


def distributions(table: ObjectTable, confidence: float) -> Picture:
    """Histograms: the IoU of true positives, the confidence of detections, and the size of objects.

    Args:
      table: the object table.
      confidence: the operating point; the histograms of confidence have all detections.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    of = values.distributions(table, confidence)
    figure, (of_iou, of_score, of_size) = new_figure(230, 230, 230, gap=110)

    label_axes(of_iou, "IoU of true positives", "Detections")
    _draw_histogram(of_iou, np.linspace(0.5, 1, 26), {"true positives": (of["iou_tp"].values, pictures.BLUE)})

    label_axes(of_score, "Confidence", "Detections")
    both = {
        "true positives": (of["score_tp"].values, pictures.BLUE),
        "false positives": (of["score_fp"].values, pictures.VERMILION),
    }
    _draw_on_log_axis(of_score, np.linspace(*_score_range(table), 21), both)
    of_score.axvline(confidence, color=INK, linewidth=1.5, linestyle=":", label=f"used: {confidence:.3g}")
    legend_above(of_score)

    label_axes(of_size, "Size of objects (√area), pixels", "Objects")
    sizes, missed = of["size_gt"].values, of["size_fn"].values
    positive = sizes[sizes > 0]
    low, high = (positive.min() / 1.05, positive.max() * 1.05) if len(positive) else (1.0, 100.0)
    edges = np.geomspace(low, high, 26)
    of_size.set_xscale("log")
    stacked = {"found": (sizes, pictures.BLUE), "missed": (missed, pictures.YELLOW)}
    _draw_histogram(of_size, edges, {name: (np.maximum(of, low), color) for name, (of, color) in stacked.items()})
    set_log_ticks(of_size, low, high)
    legend_above(of_size)
    return drawn(figure)


def missed_places(table: ObjectTable, confidence: float) -> Picture:
    """Where in images the centers of missed objects are: their number in each part of the image.

    There are 5 × 5 parts, and up to 20 × 20 if many objects are missed.

    Args:
      table: the object table.
      confidence: the operating point.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    places = values.missed_places(table, confidence)
    figure, (axes,) = new_figure(500)
    # Four objects to a part, or there is nothing but noise.
    num_parts = int(np.clip(round((len(places.x) / 4) ** 0.5), 5, 20))
    num, _, _ = np.histogram2d(places.y, places.x, num_parts, ((0, 1), (0, 1)))
    image = axes.imshow(
        num, white_to_blue(), vmin=0, vmax=max(num.max(), 1), extent=(0, 1, 1, 0), interpolation="nearest"
    )
    axes.grid(False)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    label_axes(axes, "x / width of image", "y / height of image")
    bar = figure.colorbar(image, ax=axes, pad=0.04)
    bar.locator = MaxNLocator(5, integer=True)
    bar.formatter = FuncFormatter(lambda number, _: compact(number))
    bar.update_ticks()
    bar.ax.spines["outline"].set_edgecolor(PALE_INK)
    bar.ax.grid(False)
    style_ticks(bar.ax)
    bar.ax.tick_params(left=False, right=True, bottom=False)
    label_axes(bar.ax, "", f"Missed objects, {compact(len(places.x))} in all")
    if not len(places.x):
        note(axes, "no missed objects" if table.num_groundtruth.any() else "no objects")
    return drawn(figure)


# ---- Parts of plots -------------------------------------------------------------------------------------------------


def _matrix(labels: Sequence[str], counted: Ints, empty: str = _NOTHING, *, last_is_apart: bool = True) -> Picture:
    """A figure of `_draw_matrix`: 700 wide, and wider for more than 11 labels."""
    width = WIDTH + 70 * max(len(labels) - 11, 0)
    left, bottom = 60 + width_of_longest(labels), 55 + width_of_longest(labels)
    figure, (axes,) = new_figure(width - left - RIGHT, width=width, left=left, bottom=bottom)
    _draw_matrix(axes, labels, counted, empty, last_is_apart=last_is_apart)
    return drawn(figure)


def _draw_matrix(
    axes: Axes, labels: Sequence[str], counted: Ints, empty: str = _NOTHING, *, last_is_apart: bool = True
) -> None:
    """Counts with labels; a darker line sets the last row and column apart: of background, or of all others."""
    num = len(labels)
    parts = counted / np.maximum(counted.sum(axis=1, keepdims=True), 1)
    axes.imshow(parts, white_to_blue(), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.grid(False)
    _write_labels(axes, labels, is_x=True)
    _write_labels(axes, labels)
    between = np.arange(num - 1) + 0.5
    for draw_lines in (axes.hlines, axes.vlines):
        draw_lines(
            between, -0.5, num - 0.5, colors=[LINES] * (num - 2) + [PALE_INK if last_is_apart else LINES], linewidth=1
        )
    in_points = (width_of_longest(labels) + 15) * 72 / DPI
    axes.set_xlabel("Predicted", labelpad=in_points, **letters())
    axes.set_ylabel("Actual", labelpad=in_points, **letters())
    if not counted.any():
        note(axes, empty)
    for row, column in np.argwhere(counted).tolist():
        font = letters(POINTS if num <= 8 else SMALL_POINTS) | ({"color": "white"} if parts[row, column] > 0.65 else {})
        axes.text(column, row, compact(int(counted[row, column])), ha="center", va="center", **font)


def _draw_pairs(axes: Axes, labels: Sequence[str], pairs: Sequence[confusions.Confusion]) -> None:
    """Bars of how often objects of one category are taken for another."""
    axes.set_ylim(max(len(pairs), 1) - 0.4, -0.6)
    _write_labels(axes, labels)
    axes.grid(False, axis="y")
    label_axes(axes, "Objects (% of the actual category)", "")
    count_axis(axes.xaxis)
    if not pairs:
        note(axes, "no category is taken for another")
        return
    num = [pair.count for pair in pairs]
    axes.barh(range(len(pairs)), num, 0.75, color=hex_color(pictures.VERMILION))
    axes.set_xlim(0, 1.5 * max(num))
    for row, pair in enumerate(pairs):
        text = f" {compact(pair.count)} ({100 * pair.of_objects:.2g}%)"
        axes.text(pair.count, row, text, va="center", **letters())


def _write_labels(axes: Axes, labels: Sequence[str], *, is_x: bool = False) -> None:
    """Labels at 0, 1, … of an axis: texts, as matplotlib's ticks are five objects each, and slow."""
    if is_x:
        axes.set_xticks([])
        for place, label in enumerate(labels):
            axes.text(
                place,
                -0.02,
                label,
                transform=axes.get_xaxis_transform(),
                rotation=90,
                ha="center",
                va="top",
                **letters(),
            )
        return
    axes.set_yticks([])
    for place, label in enumerate(labels):
        axes.text(-0.015, place, label, transform=axes.get_yaxis_transform(), ha="right", va="center", **letters())


def _draw_histogram(axes: Axes, edges: Floats, of: Mapping[str, tuple[Floats, Color]]) -> None:
    """Filled histograms, each in front of the one before, of which it is a part."""
    axes.set_xlim(edges[0], edges[-1])
    count_axis(axes.yaxis)
    for name, (numbers, color) in of.items():
        num, _ = np.histogram(numbers, edges)
        axes.stairs(num, edges, fill=True, color=hex_color(color), label=name)
        axes.stairs(num, edges, color=INK, linewidth=1)
    most = max(np.histogram(numbers, edges)[0].max() for numbers, _ in of.values())
    axes.set_ylim(0, 1.05 * max(most, 1))
    if not most:
        note(axes, "none")


def _draw_on_log_axis(axes: Axes, edges: Floats, of: Mapping[str, tuple[Floats, Color]]) -> None:
    """Outlines of histograms whose numbers are of different magnitudes."""
    nums = {name: np.histogram(numbers, edges)[0] for name, (numbers, _) in of.items()}
    most = max(num.max() for num in nums.values())
    axes.set_xlim(edges[0], edges[-1])
    axes.set_yscale("log")
    low, high = 0.7, 1.5 * max(most, 10)
    axes.set_ylim(low, high)
    set_log_ticks(axes, low, high, is_x=False)
    for (name, num), dashes in zip(nums.items(), ("-", "--"), strict=True):
        color = hex_color(of[name][1])
        axes.stairs(np.maximum(num, low / 2), edges, baseline=low / 2, color=color, linewidth=3, ls=dashes, label=name)
    if not most:
        note(axes, "no detections")


# ---- Names, numbers and colors ---------------------------------------------------------------------------------------


def _names(categories: Mapping[int, str]) -> list[str]:
    """The names of the categories, as matplotlib shows them: short, and with dollars that do not begin formulas."""
    font = pictures.font_of_size(LETTERS)
    names = (pictures.category_name(id, categories) for id in categories)
    return [pictures.shortened(name, font, NAME_WIDTH).replace("$", r"\$") for name in names]


def _score_range(table: ObjectTable) -> tuple[float, float]:
    """From 0 to 1, and further if scores are."""
    return min(0.0, float(table.score.min(initial=0))), max(1.0, float(table.score.max(initial=1)))


_OF_CATEGORIES = tuple(map(hex_color, (pictures.SKY_BLUE, pictures.ORANGE, pictures.GREEN, pictures.PURPLE)))
