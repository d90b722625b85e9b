"""Figures, axes, letters and colors that all plots share.

TensorBoard shows a picture 350 pixels wide, at first: plots are twice as wide, and their letters are 10 pixels high
there.

Figures are made without pyplot, which keeps them and is not thread-safe. Colors and sizes are all given here, so that a
style that a notebook has set does not change them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from od_eval.figures import pictures
from od_eval.figures.pictures import Color

if TYPE_CHECKING:  # importing it takes half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = npt.NDArray[np.uint8]

DPI = 100
WIDTH = 700
LETTERS = 20  # height in pixels
POINTS = LETTERS * 72 / DPI
SMALL_POINTS = 0.8 * POINTS
NAME_WIDTH = 170  # pixels that a name may take
_TOP, RIGHT = 20, 30  # margins in pixels
LEGEND_LINE = 30

# The font that `pictures.can_show` asks whether it has the letters of a name.
_FAMILY = "DejaVu Sans"
INK = "#202020"
PALE_INK = "#606060"
LINES = "#d8d8d8"


# ---- Figures --------------------------------------------------------------------------------------------------------


def new_figure(
    *heights: int, width: int = WIDTH, left: int = 95, bottom: int = 70, gap: int = 0
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
    figure = Figure((width / DPI, height / DPI), DPI, facecolor="white")
    FigureCanvasAgg(figure)
    all_axes = []
    top = height - _TOP
    for of_axes in heights:
        place = (left / width, (top - of_axes) / height, (width - left - RIGHT) / width, of_axes / height)
        top -= of_axes + gap
        axes = figure.add_axes(place, facecolor="white")
        axes.set_axisbelow(True)
        axes.grid(True, which="major", color=LINES, linewidth=1, linestyle="-")
        for side in ("left", "bottom", "top", "right"):
            spine = axes.spines[side]
            spine.set_visible(side in ("left", "bottom"))
            spine.set_edgecolor(PALE_INK)
            spine.set_linewidth(1)
        style_ticks(axes)
        all_axes.append(axes)
    return figure, all_axes


def drawn(figure: Figure) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.array(np.asarray(canvas.buffer_rgba())[..., :3])


def letters(size: float = POINTS) -> dict[str, Any]:
    return {"family": _FAMILY, "size": size, "color": INK}


def style_ticks(axes: Axes) -> None:
    axes.tick_params(
        color=PALE_INK,
        labelcolor=INK,
        labelsize=POINTS,
        direction="out",
        length=5,
        width=1,
        pad=5,
        left=True,
        bottom=True,
        top=False,
        right=False,
    )


def label_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, **letters())
    axes.set_ylabel(y, **letters())


def set_limits(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set_xlim(*x)
    axes.set_ylim(*y)


def count_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda number, _: compact(number)))


def note(axes: Axes, text: str) -> None:
    """Why there is nothing to see."""
    text = "\n".join(textwrap.wrap(text, 34))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 8}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", bbox=box, zorder=6, **letters())


def legend_below(axes: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend of two columns at the bottom of the figure."""
    _legend(axes, handles, labels, "lower center", (0.5, 0), 2, bbox_transform=axes.figure.transFigure)


def legend_above(axes: Axes) -> None:
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
    font = {"family": _FAMILY, "size": POINTS}
    options |= {"loc": loc, "bbox_to_anchor": at, "ncol": num_columns, "prop": font, "labelcolor": INK}
    axes.legend(handles, labels, frameon=False, borderaxespad=0.2, columnspacing=1.2, **options)


# ---- Names, numbers and colors --------------------------------------------------------------------------------------


def width_of_longest(labels: Sequence[str]) -> int:
    """The width of the longest label in pixels."""
    return round(max((pictures.font_of_size(LETTERS).getlength(label) for label in labels), default=0))


def compact(number: float) -> str:
    """At most five characters: 950, 1.2k, 37k, 1.5M."""
    for unit, sign in ((1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * unit:
            return (
                f"{number / unit:.1f}".removesuffix(".0") + sign
                if number < 9.95 * unit
                else f"{number / unit:.0f}{sign}"
            )
    return f"{number:.3g}"


def white_to_blue() -> Any:
    """From white to blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("white to blue", ["white", hex_color(pictures.SKY_BLUE), "#003a63"])


def hex_color(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def set_log_ticks(axes: Axes, low: float, high: float, *, is_x: bool = True) -> None:
    """At most six ticks at powers of ten, or of two if there are fewer than three; matplotlib's own need mathtext."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.xaxis if is_x else axes.yaxis
    base = 10 if high / low >= 1000 or not is_x else 2
    powers = np.arange(np.ceil(np.log(low) / np.log(base)), np.floor(np.log(high) / np.log(base)) + 1)
    powers = powers[:: max(-(-len(powers) // 6), 1)]
    axis.set_major_locator(FixedLocator(np.power(float(base), powers).tolist() or [low, high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda number, _: compact(number)))
