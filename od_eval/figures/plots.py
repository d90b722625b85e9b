"""Plots of the analyses of an evaluation, as pictures: for TensorBoard's Images page and for files.

    for name, picture in plots(table, confidence).items():
        Image.fromarray(picture).save(f"{name}.png")

TensorBoard shows a picture 350 pixels wide, at first: plots are twice as wide, and their letters are 10 pixels high
there. The colors are those of `pictures`: blue is right, vermilion a false positive, yellow a missed object.

Figures are made without pyplot, which keeps them and is not thread-safe. Colors and sizes are all given here, so that a
style that a notebook has set does not change them. Names of categories come from a user's dataset: no assumptions are
made about them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

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

if TYPE_CHECKING:  # importing it takes half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = npt.NDArray[np.uint8]

# More categories have no curves of their own.
MAX_CURVES = 10
# The confusion matrix of more categories is of those that are confused most.
MAX_LABELED = 20
NUM_PAIRS = 15
NUM_MOST_CONFUSED = 8

_DPI = 100
_WIDTH = 700
_LETTERS = 20  # height in pixels
_POINTS = _LETTERS * 72 / _DPI
_SMALL_POINTS = 0.8 * _POINTS
_NAME_WIDTH = 170  # pixels that a name may take
_TOP, _RIGHT = 20, 30  # margins in pixels
_LEGEND_LINE = 30

# The font that `pictures.can_show` asks whether it has the letters of a name.
_FAMILY = "DejaVu Sans"
_INK = "#202020"
_PALE_INK = "#606060"
_LINES = "#d8d8d8"


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
    figure, (axes,) = _figure(440, bottom=80 + _LEGEND_LINE * ((num_entries + 1) // 2))
    _set_limits(axes, (0, 1), (0, 1.02))
    _label(axes, "Recall", "Precision")
    if not there:
        _note(axes, "no objects")
        return _drawn(figure)
    thin = ((color, dashes) for dashes in ("-", "--", ":") for color in _OF_CATEGORIES)
    names = _names(table)
    for category, (color, dashes) in zip(of_categories, thin, strict=False):
        curve = precision[0, :, category]
        label = f"AP {curve.mean():.3f}  {names[category]}"
        axes.plot(RECALL_THRESHOLDS, curve, color=color, linestyle=dashes, linewidth=1.8, label=label)
    styles = ((pictures.BLUE, "-"), (pictures.VERMILION, "--"), (pictures.INK, "-."))
    for (iou, thresholds), (main_color, dashes) in zip(CURVE_IOUS.items(), styles, strict=True):
        curve = precision[thresholds].mean(axis=0)[:, there].mean(axis=1)
        label = f"AP {curve.mean():.3f}  IoU {iou}"
        axes.plot(RECALL_THRESHOLDS, curve, color=_hex(main_color), linestyle=dashes, linewidth=4, label=label)
    at = total(counts(table, confidence))
    if at.precision is not None and at.recall is not None:
        axes.plot(
            [at.recall],
            [at.precision],
            linestyle="none",
            marker="o",
            markersize=13,
            markerfacecolor="white",
            markeredgecolor=_INK,
            markeredgewidth=2.5,
            clip_on=False,
            zorder=5,
            label=f"confidence ≥ {confidence:.3g}",
        )
    first = len(of_categories)
    handles, labels = axes.get_legend_handles_labels()
    _legend_below(axes, handles[first:] + handles[:first], labels[first:] + labels[:first])
    return _drawn(figure)


def f1_confidence(table: ObjectTable, confidence: float) -> Picture:
    """Precision, recall and F1 of all detections together that are not below a confidence, at an IoU of 0.50.

    Args:
      table: the object table.
      confidence: the operating point, a vertical line; a dot is where F1 is highest.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    of_cuts = cuts(table)
    figure, (axes,) = _figure(400, bottom=80 + 3 * _LEGEND_LINE)
    low, high = _score_range(table)
    _set_limits(axes, (low, high), (0, 1.02))
    _label(axes, "Confidence", "")
    if not of_cuts.num_groundtruth or not len(of_cuts.confidence):
        _note(axes, "no detections" if of_cuts.num_groundtruth else "no objects")
        return _drawn(figure)
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
        axes.plot(at, shown, color=_hex(color), linestyle=dashes, linewidth=4 if name == "F1" else 3, label=name)
    axes.axvline(confidence, color=_INK, linewidth=1.5, linestyle=":", label=f"used: {confidence:.3g}")
    if of_cuts.tp.any():
        f1 = of_cuts.f_score()
        best = int(np.argmax(f1))
        axes.plot(
            [of_cuts.confidence[best]],
            [f1[best]],
            linestyle="none",
            marker="o",
            markersize=13,
            markerfacecolor=_hex(pictures.BLUE),
            markeredgecolor=_INK,
            markeredgewidth=2,
            clip_on=False,
            zorder=5,
            label=f"best F1 {f1[best]:.3f} at {of_cuts.confidence[best]:.3g}",
        )
    _legend_below(axes, *axes.get_legend_handles_labels())
    return _drawn(figure)


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
    names = _names(table)
    if len(names) <= MAX_LABELED:
        labels = [*names, "background"]
        width = _WIDTH + 70 * max(len(labels) - 11, 0)
        left, bottom = 60 + _longest(labels), 55 + _longest(labels)
        figure, (axes,) = _figure(width - left - _RIGHT, width=width, left=left, bottom=bottom)
        _draw_matrix(axes, labels, matrix.counts)
        return _drawn(figure)
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
    left, bottom = max(60 + _longest(labels), 20 + _longest(of_pairs)), 55 + _longest(labels)
    figure, (above, below) = _figure(32 * NUM_PAIRS, 480, left=left, bottom=bottom, gap=100)
    _draw_pairs(above, of_pairs, pairs)
    _draw_matrix(below, labels, reduced)
    return _drawn(figure)


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
    figure, (above, below) = _figure(400, 110, bottom=80 + _LEGEND_LINE, gap=15)
    for axes in (above, below):
        _set_limits(axes, (0, 1), (0, 1))
    above.tick_params(labelbottom=False)
    _label(above, "", "Precision")
    _label(below, "Confidence", "Detections")
    below.set_yticks([])
    if found.ece is None:
        _note(above, found.reason)
        return _drawn(figure)
    above.plot([0, 1], [0, 1], color=_INK, linewidth=2, linestyle="--", label="calibrated")
    used = [of_bin for of_bin in found.bins if of_bin.num]
    left = np.array([of_bin.low for of_bin in used])
    width = np.array([of_bin.high for of_bin in used]) - left
    precision = np.array([of_bin.precision for of_bin in used], np.float64)
    mean_score = np.array([of_bin.mean_score for of_bin in used], np.float64)
    above.bar(left, precision, width, align="edge", color=_hex(pictures.BLUE), edgecolor="white", linewidth=2)
    above.bar(
        left + 0.15 * width,
        np.abs(mean_score - precision),
        0.7 * width,
        np.minimum(mean_score, precision),
        align="edge",
        facecolor="none",
        edgecolor=_hex(pictures.VERMILION),
        hatch="///",
        linewidth=2,
        label=f"gap (ECE {found.ece:.3f})",
    )
    _legend_below(above, *above.get_legend_handles_labels())
    num = np.array([of_bin.num for of_bin in used])
    heights = np.log10(num) + 0.3  # one detection is a bar, too
    below.bar(left, heights, width, align="edge", color="#b0b0b0", edgecolor="white", linewidth=2)
    below.set_ylim(0, 1.45 * heights.max())
    for x, height, number in zip(left + width / 2, heights, num.tolist(), strict=True):
        below.text(x, height, _compact(number), ha="center", va="bottom", **_font(_SMALL_POINTS))
    return _drawn(figure)


def error_costs(costs: Mapping[str, float | None]) -> Picture:
    """What each kind of error costs, in AP at an IoU of 0.50. The costs do not add up.

    Args:
      costs: what `analyses.error_costs.error_costs` returns.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    figure, (axes,) = _figure(370, left=195)
    kinds = costs_of_errors.COSTS
    lost = [costs[kind] for kind in kinds]
    # The totals stand apart.
    places = np.arange(len(kinds)) + 0.5 * np.array([kind.startswith("false") for kind in kinds])
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_yticks(places, ["all false positives" if kind == "false positives" else kind for kind in kinds])
    axes.tick_params(axis="y", length=0)
    _label(axes, "AP lost at IoU 0.50", "")
    axes.grid(False, axis="y")
    if None in lost:
        axes.set_xlim(0, 1)
        _note(axes, "no objects")
        return _drawn(figure)
    numbers = np.array(lost, np.float64)
    colors = [_hex(pictures.YELLOW if kind in ("missed", "false negatives") else pictures.VERMILION) for kind in kinds]
    axes.barh(places, numbers, 0.75, color=colors, edgecolor=_INK, linewidth=1)
    most = max(float(numbers.max()), 0.01)
    axes.set_xlim(min(float(numbers.min()), 0) * 1.2, 1.2 * most)
    for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
        axes.text(max(number, 0) + 0.015 * most, place, f"{number:.3f}", va="center", **_font())
    return _drawn(figure)


def distributions(table: ObjectTable, confidence: float) -> Picture:
    """Histograms: the IoU of true positives, the confidence of detections, and the size of objects.

    Args:
      table: the object table.
      confidence: the operating point; the histograms of confidence have all detections.

    Returns:
      uint8 `[height, 700, 3]`.
    """
    of = values.distributions(table, confidence)
    figure, (of_iou, of_score, of_size) = _figure(230, 230, 230, gap=110)

    _label(of_iou, "IoU of true positives", "Detections")
    _draw_histogram(of_iou, np.linspace(0.5, 1, 26), {"true positives": (of["iou_tp"].values, pictures.BLUE)})

    _label(of_score, "Confidence", "Detections")
    both = {
        "true positives": (of["score_tp"].values, pictures.BLUE),
        "false positives": (of["score_fp"].values, pictures.VERMILION),
    }
    _draw_on_log_axis(of_score, np.linspace(*_score_range(table), 21), both)
    of_score.axvline(confidence, color=_INK, linewidth=1.5, linestyle=":", label=f"used: {confidence:.3g}")
    _legend_above(of_score)

    _label(of_size, "Size of objects (√area), pixels", "Objects")
    sizes, missed = of["size_gt"].values, of["size_fn"].values
    positive = sizes[sizes > 0]
    low, high = (positive.min() / 1.05, positive.max() * 1.05) if len(positive) else (1.0, 100.0)
    edges = np.geomspace(low, high, 26)
    of_size.set_xscale("log")
    stacked = {"found": (sizes, pictures.BLUE), "missed": (missed, pictures.YELLOW)}
    _draw_histogram(of_size, edges, {name: (np.maximum(of, low), color) for name, (of, color) in stacked.items()})
    _set_log_ticks(of_size, low, high)
    _legend_above(of_size)
    return _drawn(figure)


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
    figure, (axes,) = _figure(500)
    # Four objects to a part, or there is nothing but noise.
    num_parts = int(np.clip(round((len(places.x) / 4) ** 0.5), 5, 20))
    num, _, _ = np.histogram2d(places.y, places.x, num_parts, ((0, 1), (0, 1)))
    image = axes.imshow(num, _colors(), vmin=0, vmax=max(num.max(), 1), extent=(0, 1, 1, 0), interpolation="nearest")
    axes.grid(False)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    _label(axes, "x / width of image", "y / height of image")
    bar = figure.colorbar(image, ax=axes, pad=0.04)
    bar.locator = MaxNLocator(5, integer=True)
    bar.formatter = FuncFormatter(lambda number, _: _compact(number))
    bar.update_ticks()
    bar.ax.spines["outline"].set_edgecolor(_PALE_INK)
    bar.ax.grid(False)
    _style_ticks(bar.ax)
    bar.ax.tick_params(left=False, right=True, bottom=False)
    _label(bar.ax, "", f"Missed objects, {_compact(len(places.x))} in all")
    if not len(places.x):
        _note(axes, "no missed objects" if table.num_groundtruth.any() else "no objects")
    return _drawn(figure)


# ---- Parts of plots -------------------------------------------------------------------------------------------------


def _draw_matrix(axes: Axes, labels: Sequence[str], counted: Ints) -> None:
    """Counts with labels; the last row and column are background."""
    num = len(labels)
    parts = counted / np.maximum(counted.sum(axis=1, keepdims=True), 1)
    axes.imshow(parts, _colors(), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.grid(False)
    _write_labels(axes, labels, is_x=True)
    _write_labels(axes, labels)
    between = np.arange(num - 1) + 0.5
    for draw_lines in (axes.hlines, axes.vlines):
        draw_lines(between, -0.5, num - 0.5, colors=[_LINES] * (num - 2) + [_PALE_INK], linewidth=1)
    in_points = (_longest(labels) + 15) * 72 / _DPI
    axes.set_xlabel("Predicted", labelpad=in_points, **_font())
    axes.set_ylabel("Actual", labelpad=in_points, **_font())
    if not counted.any():
        _note(axes, "no objects, no detections")
    for row, column in np.argwhere(counted).tolist():
        font = _font(_POINTS if num <= 8 else _SMALL_POINTS) | ({"color": "white"} if parts[row, column] > 0.65 else {})
        axes.text(column, row, _compact(int(counted[row, column])), ha="center", va="center", **font)


def _draw_pairs(axes: Axes, labels: Sequence[str], pairs: Sequence[confusions.Confusion]) -> None:
    """Bars of how often objects of one category are taken for another."""
    axes.set_ylim(max(len(pairs), 1) - 0.4, -0.6)
    _write_labels(axes, labels)
    axes.grid(False, axis="y")
    _label(axes, "Objects (% of the actual category)", "")
    _count_axis(axes.xaxis)
    if not pairs:
        _note(axes, "no category is taken for another")
        return
    num = [pair.count for pair in pairs]
    axes.barh(range(len(pairs)), num, 0.75, color=_hex(pictures.VERMILION))
    axes.set_xlim(0, 1.5 * max(num))
    for row, pair in enumerate(pairs):
        text = f" {_compact(pair.count)} ({100 * pair.of_objects:.2g}%)"
        axes.text(pair.count, row, text, va="center", **_font())


def _write_labels(axes: Axes, labels: Sequence[str], *, is_x: bool = False) -> None:
    """Labels at 0, 1, … of an axis: texts, as matplotlib's ticks are five objects each, and slow."""
    if is_x:
        axes.set_xticks([])
        for place, label in enumerate(labels):
            axes.text(
                place, -0.02, label, transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="top", **_font()
            )
        return
    axes.set_yticks([])
    for place, label in enumerate(labels):
        axes.text(-0.015, place, label, transform=axes.get_yaxis_transform(), ha="right", va="center", **_font())


def _draw_histogram(axes: Axes, edges: Floats, of: Mapping[str, tuple[Floats, Color]]) -> None:
    """Filled histograms, each in front of the one before, of which it is a part."""
    axes.set_xlim(edges[0], edges[-1])
    _count_axis(axes.yaxis)
    for name, (numbers, color) in of.items():
        num, _ = np.histogram(numbers, edges)
        axes.stairs(num, edges, fill=True, color=_hex(color), label=name)
        axes.stairs(num, edges, color=_INK, linewidth=1)
    most = max(np.histogram(numbers, edges)[0].max() for numbers, _ in of.values())
    axes.set_ylim(0, 1.05 * max(most, 1))
    if not most:
        _note(axes, "none")


def _draw_on_log_axis(axes: Axes, edges: Floats, of: Mapping[str, tuple[Floats, Color]]) -> None:
    """Outlines of histograms whose numbers are of different magnitudes."""
    nums = {name: np.histogram(numbers, edges)[0] for name, (numbers, _) in of.items()}
    most = max(num.max() for num in nums.values())
    axes.set_xlim(edges[0], edges[-1])
    axes.set_yscale("log")
    low, high = 0.7, 1.5 * max(most, 10)
    axes.set_ylim(low, high)
    _set_log_ticks(axes, low, high, is_x=False)
    for (name, num), dashes in zip(nums.items(), ("-", "--"), strict=True):
        color = _hex(of[name][1])
        axes.stairs(np.maximum(num, low / 2), edges, baseline=low / 2, color=color, linewidth=3, ls=dashes, label=name)
    if not most:
        _note(axes, "no detections")


def _set_log_ticks(axes: Axes, low: float, high: float, *, is_x: bool = True) -> None:
    """At most six ticks at powers of ten, or of two if there are fewer than three; matplotlib's own need mathtext."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.xaxis if is_x else axes.yaxis
    base = 10 if high / low >= 1000 or not is_x else 2
    powers = np.arange(np.ceil(np.log(low) / np.log(base)), np.floor(np.log(high) / np.log(base)) + 1)
    powers = powers[:: max(-(-len(powers) // 6), 1)]
    axis.set_major_locator(FixedLocator(np.power(float(base), powers).tolist() or [low, high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda number, _: _compact(number)))


# ---- Figures --------------------------------------------------------------------------------------------------------


def _figure(
    *heights: int, width: int = _WIDTH, left: int = 95, bottom: int = 70, gap: int = 0
) -> tuple[Figure, list[Axes]]:
    """A white figure with axes one above the other; all in pixels.

    matplotlib can find the margins itself, but that takes longer than drawing.

    Args:
      heights: of the axes.
      width: of the figure.
      left, bottom: margins, for labels.
      gap: between axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = _TOP + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = Figure((width / _DPI, height / _DPI), _DPI, facecolor="white")
    FigureCanvasAgg(figure)
    all_axes = []
    top = height - _TOP
    for of_axes in heights:
        place = (left / width, (top - of_axes) / height, (width - left - _RIGHT) / width, of_axes / height)
        top -= of_axes + gap
        axes = figure.add_axes(place, facecolor="white")
        axes.set_axisbelow(True)
        axes.grid(True, which="major", color=_LINES, linewidth=1, linestyle="-")
        for side in ("left", "bottom", "top", "right"):
            spine = axes.spines[side]
            spine.set_visible(side in ("left", "bottom"))
            spine.set_edgecolor(_PALE_INK)
            spine.set_linewidth(1)
        _style_ticks(axes)
        all_axes.append(axes)
    return figure, all_axes


def _drawn(figure: Figure) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.array(np.asarray(canvas.buffer_rgba())[..., :3])


def _font(size: float = _POINTS) -> dict[str, Any]:
    return {"family": _FAMILY, "size": size, "color": _INK}


def _style_ticks(axes: Axes) -> None:
    axes.tick_params(
        color=_PALE_INK,
        labelcolor=_INK,
        labelsize=_POINTS,
        direction="out",
        length=5,
        width=1,
        pad=5,
        left=True,
        bottom=True,
        top=False,
        right=False,
    )


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, **_font())
    axes.set_ylabel(y, **_font())


def _set_limits(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set_xlim(*x)
    axes.set_ylim(*y)


def _count_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda number, _: _compact(number)))


def _note(axes: Axes, text: str) -> None:
    """Why there is nothing to see."""
    text = "\n".join(textwrap.wrap(text, 34))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 8}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", bbox=box, zorder=6, **_font())


def _legend_below(axes: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend of two columns at the bottom of the figure."""
    _legend(axes, handles, labels, "lower center", (0.5, 0), 2, bbox_transform=axes.figure.transFigure)


def _legend_above(axes: Axes) -> None:
    _legend(axes, *axes.get_legend_handles_labels(), "lower center", (0.45, 0.98), 3)


def _legend(
    axes: Axes,
    handles: Sequence[Any],
    labels: Sequence[str],
    loc: str,
    at: tuple[float, float],
    num_columns: int,
    **options: Any,
) -> None:
    font = {"family": _FAMILY, "size": _POINTS}
    options |= {"loc": loc, "bbox_to_anchor": at, "ncol": num_columns, "prop": font, "labelcolor": _INK}
    axes.legend(handles, labels, frameon=False, borderaxespad=0.2, columnspacing=1.2, **options)


# ---- Names, numbers and colors --------------------------------------------------------------------------------------


def _names(table: ObjectTable) -> list[str]:
    """The names of the categories, as matplotlib shows them: short, and with dollars that do not begin formulas."""
    font = pictures.font_of_size(_LETTERS)
    names = (pictures.category_name(id, table.categories) for id in table.categories)
    return [pictures.shortened(name, font, _NAME_WIDTH).replace("$", r"\$") for name in names]


def _longest(labels: Sequence[str]) -> int:
    """The width of the longest label in pixels."""
    return round(max((pictures.font_of_size(_LETTERS).getlength(label) for label in labels), default=0))


def _compact(number: float) -> str:
    """At most five characters: 950, 1.2k, 37k, 1.5M."""
    for unit, sign in ((1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * unit:
            return (
                f"{number / unit:.1f}".removesuffix(".0") + sign
                if number < 9.95 * unit
                else f"{number / unit:.0f}{sign}"
            )
    return f"{number:.3g}"


def _score_range(table: ObjectTable) -> tuple[float, float]:
    """From 0 to 1, and further if scores are."""
    return min(0.0, float(table.score.min(initial=0))), max(1.0, float(table.score.max(initial=1)))


def _colors() -> Any:
    """From white to blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("white to blue", ["white", _hex(pictures.SKY_BLUE), "#003a63"])


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


_OF_CATEGORIES = tuple(map(_hex, (pictures.SKY_BLUE, pictures.ORANGE, pictures.GREEN, pictures.PURPLE)))
