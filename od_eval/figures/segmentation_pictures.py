"""Draws segmented images: the image, its ground truth, its prediction, and the pixels that are wrong, with a legend.

    picture = draw_segmented(image, groundtruth, prediction, ["background", "cat"])

Names of classes and ids of images come from a user's dataset: no assumptions are made about them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from od_eval.figures.pictures import (
    GAP,
    INK,
    PAPER,
    VERMILION,
    Color,
    can_show,
    font_of_size,
    one_line,
    resized,
    shortened,
)
from od_eval.figures.segmentation_colors import IGNORED, class_colors

Labels = npt.NDArray[np.integer]  # [height, width]: indices of classes, negative where the label is ignored
Pixels = npt.NDArray[np.uint8]  # [height, width, 3]

# The long side of each of the four panels, and its least width: room for text.
_LONG_SIDE = 400
_LEAST_WIDTH = 240
# TensorBoard shows a picture 300 to 350 pixels wide, at first: these letters are nine pixels high there.
_FONT_SIZE = 24
_LINE_HEIGHT = 34
_SWATCH = 20
# Of more classes in an image, those with the most pixels are in the legend.
_MOST_IN_LEGEND = 24
_COLUMN_WIDTH = 240
# How much of the color is that of the class; the rest is the image in gray.
_OPACITY = 0.7
# How much of the image is left where the prediction is right.
_FADED = 0.35


def draw_segmented(
    image: Pixels,
    groundtruth: Labels,
    prediction: Labels,
    names: Sequence[str],
    *,
    image_id: int | str = "",
    part_wrong: float | None = None,
) -> Pixels:
    """Draws an image four times: as it is, with its ground truth, with its prediction, and with what is wrong.

    A class has the same color in every picture. What is wrong is vermilion; ignored pixels are pale gray everywhere but
    in the prediction.

    Args:
      image: uint8 `[height, width, 3]`.
      groundtruth, prediction: int, of any size, but the same for both: indices into `names`; negative where the label
        is ignored.
      names: the names of all classes in ascending order of their ids.
      image_id: stands above the image.
      part_wrong: of the pixels that count, from 0 to 1; by default as it is in these arrays.

    Returns:
      uint8 `[height, width, 3]`.
    """
    scale = _LONG_SIDE / max(image.shape[:2])
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    colors = np.concatenate([class_colors(len(names)), [IGNORED]]).astype(np.uint8)  # the last is also number -1
    is_ignored = groundtruth < 0
    is_wrong = ~is_ignored & (groundtruth != prediction)
    if part_wrong is None and not is_ignored.all():
        part_wrong = float(is_wrong.sum() / (~is_ignored).sum())
    panel = np.asarray(resized(image, (width, height)), np.float64)
    gray = panel.mean(axis=2, keepdims=True)
    faded = 255 - _FADED * (255 - gray)
    mistakes = np.where(_enlarged(is_wrong, panel)[..., np.newaxis], VERMILION, np.broadcast_to(faded, panel.shape))
    panels = {
        f"image {one_line(str(image_id))}".strip(): panel,
        "ground truth": _colored(groundtruth, colors, gray),
        "prediction": _colored(np.maximum(prediction, 0), colors, gray),
        "wrong" if part_wrong is None else f"wrong: {100 * part_wrong:.3g}%": np.where(
            _enlarged(is_ignored, panel)[..., np.newaxis], IGNORED, mistakes
        ),
    }
    legend = _legend_entries(groundtruth, prediction, names, colors)
    half = max(width, _LEAST_WIDTH)
    columns = max((2 * half + GAP) // _COLUMN_WIDTH, 1)
    rows = -(-len(legend) // columns)
    top = 2 * (_LINE_HEIGHT + height + GAP)
    sheet = Image.new("RGB", (2 * half + GAP, top + rows * _LINE_HEIGHT), PAPER)
    for index, (title, pixels) in enumerate(panels.items()):
        x, y = (index % 2) * (half + GAP), (index // 2) * (_LINE_HEIGHT + height + GAP)
        _write(sheet, (x + 4, y), half - 8, title)
        sheet.paste(Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8)), (x, y + _LINE_HEIGHT))
    for index, (name, color) in enumerate(legend):
        x, y = (index % columns) * _COLUMN_WIDTH + 4, top + index // columns * _LINE_HEIGHT
        if color is not None:
            middle = y + _LINE_HEIGHT // 2
            square = (x, middle - _SWATCH // 2, x + _SWATCH, middle + _SWATCH // 2)
            ImageDraw.Draw(sheet).rectangle(square, fill=color, outline=(120, 120, 120))
        _write(sheet, (x + _SWATCH + 6, y), _COLUMN_WIDTH - _SWATCH - 14, name)
    return np.array(sheet)


def _colored(labels: Labels, colors: Pixels, gray: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The image in gray under the colors of classes."""
    of_classes = colors[_enlarged(np.maximum(labels, -1), gray)]
    colored: npt.NDArray[np.float64] = _OPACITY * of_classes + (1 - _OPACITY) * gray
    return colored


def _enlarged(labels: npt.NDArray[np.generic], like: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The nearest label of each pixel of an image of another size."""
    rows, columns = (
        (np.arange(wanted) + 0.5) * given // wanted for wanted, given in zip(like.shape[:2], labels.shape, strict=True)
    )
    return labels[rows.astype(np.intp)[:, np.newaxis], columns.astype(np.intp)]


def _legend_entries(
    groundtruth: Labels, prediction: Labels, names: Sequence[str], colors: Pixels
) -> list[tuple[str, Color | None]]:
    """Name and color of the classes in an image, in ascending order of their ids."""
    both = np.concatenate([groundtruth.ravel(), prediction.ravel()])
    counts = np.bincount(both[both >= 0], minlength=len(names))
    there = np.flatnonzero(counts)
    shown = np.sort(there[np.argsort(-counts[there], kind="stable")][:_MOST_IN_LEGEND])
    entries: list[tuple[str, Color | None]] = []
    for index in shown.tolist():
        name = one_line(names[index])
        entries.append((name if name and can_show(name) else f"class number {index}", tuple(colors[index].tolist())))
    if len(there) > len(shown):
        entries.append((f"and {len(there) - len(shown)} more", None))
    if (groundtruth < 0).any():
        entries.append(("ignored", IGNORED))
    return entries


def _write(sheet: Image.Image, at: tuple[int, int], width: float, text: str) -> None:
    font = font_of_size(_FONT_SIZE)
    place = (at[0], at[1] + _LINE_HEIGHT / 2)
    ImageDraw.Draw(sheet).text(place, shortened(text, font, width), INK, font, anchor="lm")
