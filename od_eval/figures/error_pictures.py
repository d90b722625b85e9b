"""Draws the errors in an image: what was detected on the left, what is there on the right, colors for outcomes.

    detections, objects = drawn_of_image(table, image_index, confidence)
    picture = draw_errors(image, (height, width), detections, objects)

Blue and solid: a true positive. Vermilion and dashed: a false positive. Yellow and dotted: a false negative. White: the
ground truth. The colors are Okabe's and Ito's (Color Universal Design, 2008), which the color-blind can tell apart.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

import hotcoco.mask
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from od_eval.evaluation.matching import Bools, Floats, Ints
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable
from od_eval.figures import pictures
from od_eval.figures.pictures import BLUE, GAP, INK, PAPER, VERMILION, YELLOW, Color

Outcome = Literal["true positive", "false positive", "false negative", "found", "ignored"]

MAX_ERRORS = 20

_WHITE = (255, 255, 255)
_GRAY = (170, 170, 170)
_HALO = (20, 20, 20)

# The long side of each panel, and its least width and height: a thin image gets a margin, so that labels have room.
_LONG_SIDE = 480
_SMALLEST = (240, 96)
# The panels of images that are this many times as wide as high, or more, are one above the other: a card of TensorBoard
# shows a picture 300 to 400 pixels wide, and text must be legible in it.
_STACKED_FROM = 0.75
# Smaller boxes are drawn in this size, or nobody would see them.
_SMALLEST_BOX = 7
_FONT_SIZE = 16
_LABEL_HEIGHT = 20
_CAPTION_HEIGHT = 24
# The part of a panel's width that one name in a label may take.
_NAME_WIDTH = 0.4
_DIMMED = 0.65  # how much of what is out of focus is gray
_DIM = (110, 110, 110)
_MARGIN_OF_FOCUS = 8
# Where a label may be if there is no room at its box: on a grid of this many pixels.
_GRID = (16, 10)
# How many pixels of lines a label may cover at its box before it is put there.
_COST_OF_FAR = 200


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A detection or an object to draw.

    row: its row in the detections or the objects of the `ObjectTable`.
    box: xmin, ymin, width, height in pixels of the original image.
    category: its name.
    outcome: a detection is a true positive, a false positive or ignored (neither); an object is found, a false negative
      or ignored (a crowd or difficult).
    score: of a detection.
    note: what the label says beside that: of a false positive what it really is, such as "is cat"; of an ignored object
      "difficult" or "crowd", which is hatched.
    mask: COCO RLE of the size of the original image.
    """

    row: int
    box: tuple[float, float, float, float]
    category: str
    outcome: Outcome
    score: float | None = None
    note: str = ""
    mask: Any = None

    @property
    def is_error(self) -> bool:
        return self.outcome in ("false positive", "false negative")


@dataclasses.dataclass(frozen=True)
class Focus:
    """What stays vivid while the rest of the picture is dimmed: rows of detections and rows of objects."""

    detections: Collection[int] = ()
    objects: Collection[int] = ()


def drawn_of_image(table: ObjectTable, image: int, confidence: float | Floats) -> tuple[list[Drawn], list[Drawn]]:
    """The detections of an image that are not below a confidence, and its objects, with outcomes at an IoU of 0.50.

    Args:
      table: the object table.
      image: the index of the image.
      confidence: one for all, or float `[categories]`; see `ObjectTable.is_above`.

    Returns:
      Detections in descending order of scores, and objects. The note of a false positive says what it is: "is cat",
      "IoU 0.43", "IoU 0.34 is cat", "twice", "background".
    """
    names = [pictures.category_name(id, table.categories) for id in table.categories]
    bounds = np.broadcast_to(confidence, len(names))

    detections = []
    for row in _rows_where(table.detections.image, image):
        category = table.detections.category[row]
        if not table.score[row] >= bounds[category]:
            continue
        outcome: Outcome = "ignored"
        if table.true_positive[row, 0]:
            outcome = "true positive"
        elif table.false_positive[row, 0]:
            outcome = "false positive"
        detections.append(
            Drawn(
                row=row,
                box=tuple(table.detections.box[row].tolist()),
                category=names[category],
                outcome=outcome,
                score=float(table.score[row]),
                note=_what_it_is(table, row, names),
                mask=None if table.detections.masks is None else table.detections.masks[row],
            )
        )

    objects = []
    for row in _rows_where(table.groundtruth.image, image):
        category = table.groundtruth.category[row]
        is_found = table.matched_score[row, 0] >= bounds[category]
        outcome = "ignored" if table.ignored[row] else "found" if is_found else "false negative"
        objects.append(
            Drawn(
                row=row,
                box=tuple(table.groundtruth.box[row].tolist()),
                category=names[category],
                outcome=outcome,
                note=_kind_of_ignored(table, row) if table.ignored[row] else "",
                mask=None if table.groundtruth.masks is None else table.groundtruth.masks[row],
            )
        )
    return detections, objects


def draw_errors(
    image: npt.NDArray[np.uint8],
    size: tuple[int, int],
    detections: Sequence[Drawn],
    objects: Sequence[Drawn],
    *,
    focus: Focus | None = None,
    max_errors: int = MAX_ERRORS,
) -> npt.NDArray[np.uint8]:
    """Draws an image twice: with its detections and missed objects, and with its ground truth.

    The left panel has true and false positives, false negatives and, thin and white, the objects that were found. The
    right panel has all objects: those that were missed are yellow, the others white, and crowds are hatched. A mask is
    drawn as its outline, in place of its box. A label is left out if there is no room for it.

    Args:
      image: uint8 `[h, w, 3]`, or gray, `[h, w]` or `[h, w, 1]`, of any size.
      size: height and width of the original image, which boxes and masks refer to.
      detections, objects: what to draw; see `drawn_of_image`. What is outside of the image or not finite is not drawn.
      focus: what stays vivid and is labeled; by default everything.
      max_errors: the most errors in the left panel: first those in focus, then false positives with the highest scores
        and the largest false negatives. The caption says how many are not drawn.

    Returns:
      uint8 `[height, width, 3]`: two panels side by side, or one above the other if the image is wide and low.
    """
    height, width = (max(int(side), 1) for side in size)
    scale = _LONG_SIDE / max(height, width)
    picture = pictures.resized(image, (max(1, round(width * scale)), max(1, round(height * scale))))
    found = _shapes(detections, None if focus is None else focus.detections, picture.size, (height, width))
    there = _shapes(objects, None if focus is None else focus.objects, picture.size, (height, width))
    errors = _chosen([shape for shape in (*found, *there) if shape.drawn.is_error], max_errors)
    others = [shape for shape in found if not shape.drawn.is_error]
    others += [shape for shape in there if shape.drawn.outcome == "found"]

    num_fp = sum(drawn.outcome == "false positive" for drawn in detections)
    num_fn = sum(drawn.outcome == "false negative" for drawn in objects)
    not_drawn = num_fp + num_fn - len(errors)
    captions = [
        [f"errors: {num_fp} FP", f"{num_fn} FN", *([f"{not_drawn} not drawn"] if not_drawn else [])],
        [f"ground truth: {len(objects)}"],
    ]
    in_focus = None if focus is None else [shape.box for shape in (*errors, *others, *there) if shape.is_focus]
    panels = [
        _panel(picture, [(shape, _style_of_error(shape.drawn)) for shape in (*others, *errors)], in_focus),
        _panel(picture, [(shape, _style_of_groundtruth(shape.drawn)) for shape in there], in_focus),
    ]
    return np.array(_sheet(panels, captions, stacked=width >= _STACKED_FROM * height))


def no_error(step: int) -> npt.NDArray[np.uint8]:
    """A picture that says that there is no such error at a step, to take the place of an earlier one."""
    picture = Image.new("RGB", (_LONG_SIDE, 2 * _CAPTION_HEIGHT), PAPER)
    font = pictures.font_of_size(_FONT_SIZE)
    ImageDraw.Draw(picture).text((8, _CAPTION_HEIGHT), f"no further one at step {step}", INK, font, anchor="lm")
    return np.array(picture)


# ---- From the object table ------------------------------------------------------------------------------------------


def _rows_where(column: Ints, value: int) -> range:
    """The rows that have this value in an ascending column."""
    # Of the column's type, or all of the column would be converted.
    return range(*np.searchsorted(column, np.array([value, value + 1], column.dtype)).tolist())


def _what_it_is(table: ObjectTable, row: int, names: Sequence[str]) -> str:
    """What a detection really is, for its label; nothing if it is right."""
    kind = ERROR_KINDS[table.errors[0][row]]
    if not kind:
        matched = table.matches.detection[row, 0]
        return f"matches {_kind_of_ignored(table, matched)}" if matched >= 0 and table.ignored[matched] else ""
    if kind == "duplicate":
        return "twice"
    if kind == "background":
        return "background"
    pairs = table.pairs
    of_row = _rows_where(pairs.detection, row)
    objects, iou = (column[of_row.start : of_row.stop] for column in (pairs.groundtruth, pairs.iou))
    same = table.groundtruth.category[objects] == table.detections.category[row]
    partners = ~table.ignored[objects] & (same if kind == "location" else ~same)
    best = int(np.argmax(np.where(partners, iou, -1)))
    name = names[table.groundtruth.category[objects[best]]]
    if kind == "class":
        return f"is {name}"
    overlap = f"IoU {min(iou[best], 0.49):.2f}"  # 0.499 is too little, 0.50 would not be
    return overlap if kind == "location" else f"{overlap} is {name}"


def _kind_of_ignored(table: ObjectTable, row: int) -> str:
    assert table.groundtruth.crowd is not None
    return "crowd" if table.groundtruth.crowd[row] else "difficult"


# ---- Shapes in pixels of the picture --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Shape:
    """What to draw, in pixels of the picture.

    box: left, top, right, bottom, inclusive.
    mask: bool `[height, width]` of the box; None to draw the box.
    """

    drawn: Drawn
    box: tuple[int, int, int, int]
    mask: Bools | None
    is_focus: bool

    @property
    def area(self) -> int:
        left, top, right, bottom = self.box
        return (right - left + 1) * (bottom - top + 1)


@dataclasses.dataclass(frozen=True)
class _Style:
    color: Color
    pattern: Literal["solid", "dashed", "dotted", "hatched"] = "solid"
    line_width: int = 3
    prefix: str = ""  # of the label
    is_labeled: bool = True
    is_label_needed: bool = False


def _style_of_error(drawn: Drawn) -> _Style:
    return {
        "true positive": _Style(BLUE),
        "false positive": _Style(VERMILION, "dashed", prefix="FP", is_label_needed=True),
        "false negative": _Style(YELLOW, "dotted", prefix="FN", is_label_needed=True),
        "found": _Style(_WHITE, line_width=1, is_labeled=False),
        "ignored": _Style(_GRAY, line_width=2),
    }[drawn.outcome]


def _style_of_groundtruth(drawn: Drawn) -> _Style:
    if drawn.outcome == "false negative":
        return _Style(YELLOW, "dotted", prefix="FN")
    return _Style(_WHITE, "hatched" if drawn.note == "crowd" else "solid", line_width=2)


def _shapes(
    column: Iterable[Drawn], in_focus: Collection[int] | None, size: tuple[int, int], image_size: tuple[int, int]
) -> list[_Shape]:
    """Where things are in a picture of this width and height; without those that are outside.

    Args:
      column: detections or objects.
      in_focus: their rows; None for all.
      size: width and height of the picture.
      image_size: height and width of the image.
    """
    shapes = []
    for drawn in column:
        is_focus = in_focus is None or drawn.row in in_focus
        if drawn.mask is not None:
            box, mask = _scaled_mask(drawn.mask, size)
            if mask is not None:
                if min(mask.shape) < _SMALLEST_BOX:
                    box, mask = _enlarged(box, size), None
                shapes.append(_Shape(drawn, box, mask, is_focus))
                continue
        if not np.isfinite(drawn.box).all():
            continue
        x, y, width, height = drawn.box
        across, down = size[0] / image_size[1], size[1] / image_size[0]
        visible = pictures.inside((x * across, y * down, (x + width) * across, (y + height) * down), size)
        if visible is not None:
            shapes.append(_Shape(drawn, _enlarged(visible, size), None, is_focus))
    return shapes


def _scaled_mask(rle: Any, size: tuple[int, int]) -> tuple[tuple[int, int, int, int], Bools | None]:
    """The box around a mask in a picture of this width and height, and what is in it; None if nothing is."""
    pixels = np.asarray(hotcoco.mask.decode(rle)) != 0
    rows = np.arange(size[1]) * pixels.shape[0] // size[1]
    columns = np.arange(size[0]) * pixels.shape[1] // size[0]
    pixels = pixels[np.ix_(rows, columns)]
    there_y, there_x = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(there_y):
        return (0, 0, 0, 0), None
    left, top, right, bottom = int(there_x[0]), int(there_y[0]), int(there_x[-1]), int(there_y[-1])
    return (left, top, right, bottom), pixels[top : bottom + 1, left : right + 1]


def _enlarged(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box with sides of at least `_SMALLEST_BOX`, as far as the picture reaches."""
    bounds = []
    for low, high, most in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        missing = max(_SMALLEST_BOX - (high - low + 1), 0)
        low = max(min(low - missing // 2, most - _SMALLEST_BOX), 0) if missing else low
        bounds.append((low, min(max(high, low + _SMALLEST_BOX - 1), most - 1)))
    (left, right), (top, bottom) = bounds
    return left, top, right, bottom


def _chosen(errors: Sequence[_Shape], most: int) -> list[_Shape]:
    """The errors to draw: those in focus, then the worst of each outcome."""
    worst_first = sorted(errors, key=lambda error: (error.drawn.score or 0.0, error.area), reverse=True)
    ranked = []
    for outcome in ("false positive", "false negative"):
        of_outcome = [error for error in worst_first if error.drawn.outcome == outcome]
        ranked += [(not error.is_focus, rank, error) for rank, error in enumerate(of_outcome)]
    return [error for *_, error in sorted(ranked, key=lambda row: row[:2])[:most]]


# ---- Drawing --------------------------------------------------------------------------------------------------------


def _panel(
    picture: Image.Image,
    shapes: Sequence[tuple[_Shape, _Style]],
    in_focus: Sequence[tuple[int, int, int, int]] | None,
) -> Image.Image:
    """The picture with shapes and labels; outside of the boxes in focus it is dimmed."""
    largest_first = sorted(shapes, key=lambda row: (row[0].drawn.is_error, -row[0].area))
    pixels = np.array(picture)
    if in_focus is not None:
        vivid = pixels.copy()
        for shape, style in largest_first:
            if not shape.is_focus:
                _draw_shape(pixels, shape, style)
        pixels = np.array(Image.blend(Image.fromarray(pixels), Image.new("RGB", picture.size, _DIM), _DIMMED))
        for left, top, right, bottom in in_focus:
            region = (
                slice(max(top - _MARGIN_OF_FOCUS, 0), bottom + _MARGIN_OF_FOCUS + 1),
                slice(max(left - _MARGIN_OF_FOCUS, 0), right + _MARGIN_OF_FOCUS + 1),
            )
            pixels[region] = vivid[region]
    lines = np.zeros(pixels.shape[:2], bool)
    for shape, style in largest_first:
        if shape.is_focus:
            _draw_shape(pixels, shape, style, lines)
    panel = Image.new("RGB", (max(picture.width, _SMALLEST[0]), max(picture.height, _SMALLEST[1])), PAPER)
    panel.paste(Image.fromarray(pixels))
    _write_labels(panel, [row for row in largest_first if row[0].is_focus and row[1].is_labeled], lines)
    return panel


def _draw_shape(pixels: npt.NDArray[np.uint8], shape: _Shape, style: _Style, lines: Bools | None = None) -> None:
    """Draws a box or an outline with a halo; marks its pixels in `lines`."""
    strokes = _box_strokes(shape, style) if shape.mask is None else [_outline(shape, shape.mask, style)]
    height, width = pixels.shape[:2]
    drawn = []
    for top, left, stroke in strokes:
        stroke = _padded(stroke)  # room for the halo
        # Without what of the halo is outside of the picture.
        inside = (slice(int(top == 0), height - top + 1), slice(int(left == 0), width - left + 1))
        region = (
            slice(max(top - 1, 0), top - 1 + stroke.shape[0]),
            slice(max(left - 1, 0), left - 1 + stroke.shape[1]),
        )
        pixels[region][_dilated(stroke)[inside]] = _HALO
        drawn.append((region, stroke[inside]))
    for region, stroke in drawn:
        pixels[region][stroke] = style.color
        if lines is not None:
            lines[region] |= stroke


def _box_strokes(shape: _Shape, style: _Style) -> list[tuple[int, int, Bools]]:
    """The four sides of a box, and the stripes in it: top, left, and which pixels are drawn from there on."""
    left, top, right, bottom = shape.box
    height, width = bottom - top + 1, right - left + 1
    thick = min(style.line_width, max(min(height, width) // 3, 1))
    across = np.tile(_is_on(np.arange(width), style), (thick, 1))
    down = np.tile(_is_on(np.arange(height), style)[:, np.newaxis], (1, thick))
    strokes = [
        (top, left, across),
        (bottom + 1 - thick, left, across),
        (top, left, down),
        (top, right + 1 - thick, down),
    ]
    if style.pattern == "hatched":
        strokes.append((top, left, _stripes(height, width)))
    return strokes


def _outline(shape: _Shape, mask: Bools, style: _Style) -> tuple[int, int, Bools]:
    """The outline of a mask, and the stripes in it, as in `_box_strokes`."""
    outline = mask & ~_eroded(mask, style.line_width)
    y, x = np.nonzero(outline)
    # By the angle around the middle, so that dashes follow the outline.
    angle = np.arctan2(y / mask.shape[0] - 0.5, x / mask.shape[1] - 0.5)
    outline[y, x] = _is_on((angle / (2 * np.pi) + 0.5) * len(y) / style.line_width, style)
    if style.pattern == "hatched":
        outline |= _stripes(*mask.shape) & mask
    return shape.box[1], shape.box[0], outline


def _stripes(height: int, width: int) -> Bools:
    return (np.arange(width) + np.arange(height)[:, np.newaxis]) % 18 < 2


def _is_on(distance: npt.NDArray[Any], style: _Style) -> Bools:
    """Where a dashed or dotted line is drawn, by the distance from its beginning."""
    on, period = {"dashed": (10, 16), "dotted": (3, 8)}.get(style.pattern, (1, 1))
    return distance % period < on


def _eroded(mask: Bools, thickness: int) -> Bools:
    for _ in range(thickness):
        padded = _padded(mask)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _padded(mask: Bools) -> Bools:
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), bool)  # np.pad takes twenty times as long
    padded[1:-1, 1:-1] = mask
    return padded


def _dilated(mask: Bools) -> Bools:
    """With the eight neighbors of each pixel."""
    rows = mask.copy()
    rows[1:] |= mask[:-1]
    rows[:-1] |= mask[1:]
    both = rows.copy()
    both[:, 1:] |= rows[:, :-1]
    both[:, :-1] |= rows[:, 1:]
    return both


def _sheet(panels: Sequence[Image.Image], captions: Sequence[Sequence[str]], stacked: bool) -> Image.Image:
    """Two panels with captions, side by side or one above the other."""
    width, height = panels[0].size
    font = pictures.font_of_size(_FONT_SIZE)
    texts = [_wrapped(parts, font, width - 8) for parts in captions]
    heading = _CAPTION_HEIGHT * max(map(len, texts))
    step = (0, heading + height + GAP) if stacked else (width + GAP, 0)
    sheet = Image.new("RGB", (width + step[0], heading + height + step[1]), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (panel, lines) in enumerate(zip(panels, texts, strict=True)):
        x, y = number * step[0], number * step[1]
        for line, text in enumerate(lines):
            pen.text((x + 4, y + (line + 0.5) * _CAPTION_HEIGHT), text, INK, font, anchor="lm")
        sheet.paste(panel, (x, y + heading))
    return sheet


def _wrapped(parts: Sequence[str], font: Any, width: int) -> list[str]:
    """Parts separated by commas, on as many lines as they need."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}, {part}"
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines[-1] += ","
            lines.append(part)
    return lines


# ---- Labels ---------------------------------------------------------------------------------------------------------


def _write_labels(panel: Image.Image, shapes: Sequence[tuple[_Shape, _Style]], lines: Bools) -> None:
    """Writes labels that do not overlap, those of errors first.

    They are at their boxes; if there is no room, that of an error is elsewhere, connected with its box.
    """
    sums = np.zeros((panel.height + 1, panel.width + 1), np.int32)
    sums[1 : lines.shape[0] + 1, 1 : lines.shape[1] + 1] = lines
    sums = sums.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    taken: list[tuple[int, int, int, int]] = []
    labels = []
    pen = ImageDraw.Draw(panel)
    for shape, style in sorted(shapes, key=lambda row: not row[0].drawn.is_error):
        drawn = shape.drawn
        score = "" if drawn.score is None else f"{drawn.score:.0%}"
        image = _label(style.prefix, drawn.category, score, drawn.note, style.color, panel.width)
        place = _place(shape.box, image.width, panel.size, taken, sums, anywhere=style.is_label_needed)
        if place is not None:
            label = (*place, place[0] + image.width, place[1] + image.height)
            taken.append(label)
            labels.append((place, image))
            _connect(pen, label, shape.box, style.color)
    for place, image in labels:
        panel.paste(image, place)


@functools.lru_cache(maxsize=1024)  # many labels say the same, and text is slow
def _label(prefix: str, name: str, score: str, note: str, color: Color, panel_width: int) -> Image.Image:
    """The picture of a label, with as much of the names as there is room for."""
    font = pictures.font_of_size(_FONT_SIZE)
    name, note = (_name(text, round(_NAME_WIDTH * panel_width)) for text in (name, note))
    text = " ".join(part for part in (prefix, name, score, note) if part)
    text = pictures.shortened(text, font, panel_width - 5)
    width = min(round(font.getlength(text)) + 5, panel_width)
    return pictures.label_of(text, font, (width, _LABEL_HEIGHT), color)


@functools.lru_cache(maxsize=1024)
def _name(text: str, max_width: int) -> str:
    return pictures.shortened(pictures.one_line(text), pictures.font_of_size(_FONT_SIZE), max_width)


def _place(
    box: tuple[int, int, int, int],
    width: int,
    panel: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]],
    sums: Ints,
    anywhere: bool,
) -> tuple[int, int] | None:
    """Left and top of a label, where it covers no other label and few lines; None if there is no such place.

    Args:
      box: what it labels.
      width: of the label.
      panel: width and height.
      taken: left, top, right and bottom of other labels.
      sums: int `[panel height + 1, panel width + 1]`: the number of pixels of lines above and left of each pixel.
      anywhere: whether it may be far from the box.
    """
    left, top, right, bottom = box
    above, below, flush = top - _LABEL_HEIGHT - 1, bottom + 2, right + 1 - width
    x = np.array([left, flush, left, flush, left + 4, left + 4, right + 2, left - width - 1])
    y = np.array([above, above, below, below, top + 4, bottom - 3 - _LABEL_HEIGHT, top, top])
    near = np.stack((np.clip(x, 0, panel[0] - width), y), axis=1)
    place, cost = _best_place(near, 10 * np.arange(len(near)), width, panel, taken, sums)
    if anywhere and cost > _COST_OF_FAR:
        grid = np.meshgrid(
            *(np.arange(0, panel[side] - (width, _LABEL_HEIGHT)[side] + 1, _GRID[side]) for side in (0, 1))
        )
        far = np.stack(grid, axis=-1).reshape(-1, 2)
        distance = _gaps(far, width, box).max(axis=1)
        far_place, far_cost = _best_place(far, _COST_OF_FAR + 4 * distance, width, panel, taken, sums)
        place = far_place if far_cost < cost else place
    return place


def _best_place(
    places: Ints,
    cost: Ints,
    width: int,
    panel: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]],
    sums: Ints,
) -> tuple[tuple[int, int] | None, float]:
    """The place with the least cost, to which the pixels of lines that a label covers there are added, and this sum."""
    x, y = places.T
    right, bottom = x + width, y + _LABEL_HEIGHT
    free = (y >= 0) & (bottom <= panel[1])
    if taken:
        others = np.array(taken)[:, :, np.newaxis]
        apart = (x > others[:, 2]) | (right < others[:, 0])
        free &= (apart | (y > others[:, 3]) | (bottom < others[:, 1])).all(axis=0)
    if not free.any():
        return None, np.inf
    x, y, right, bottom = x[free], y[free], right[free], bottom[free]
    cost = cost[free] + sums[bottom, right] - sums[y, right] - sums[bottom, x] + sums[y, x]
    best = np.argmin(cost)
    return (int(x[best]), int(y[best])), float(cost[best])


def _gaps(places: Ints, width: int, box: tuple[int, int, int, int]) -> Ints:
    """The horizontal and vertical distance of labels from a box, int `[n, 2]`."""
    sides = []
    for low, extent, first, last in (
        (places[:, 0], width, box[0], box[2]),
        (places[:, 1], _LABEL_HEIGHT, box[1], box[3]),
    ):
        sides.append(np.maximum(np.maximum(low - last, first - (low + extent)), 0))
    return np.stack(sides, axis=1)


def _connect(
    pen: ImageDraw.ImageDraw, label: tuple[int, int, int, int], box: tuple[int, int, int, int], color: Color
) -> None:
    """Draws a line from a label to its box if they are apart."""
    ends = []
    for side in (0, 1):
        low, high = max(label[side], box[side]), min(label[side + 2], box[side + 2])
        middle = (low + high) // 2
        ends.append((middle, middle) if low <= high else (high, low) if label[side] < box[side] else (low, high))
    (from_x, to_x), (from_y, to_y) = ends
    if max(abs(from_x - to_x), abs(from_y - to_y)) > 4:
        pen.line((from_x, from_y, to_x, to_y), _HALO, 4)
        pen.line((from_x, from_y, to_x, to_y), color, 2)
