"""Draws pictures: an image with its detections on the left, and with its ground truth on the right.

    for image_id, picture in pictures_of(batch, options):
        Image.fromarray(picture).save(os.path.join(folder, file_name(image_id)))

Or, with `draw_detections`, an image as large as it is with its detections alone.

Class names and image ids come from a user's dataset: no assumptions are made about them.
"""

from __future__ import annotations

import colorsys
import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import hotcoco.mask
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFont

from od_eval.errors import ODEvalError
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.options import EvaluationOptions

Color = tuple[int, int, int]

# Side lengths of each half in pixels. Small images are enlarged so that labels can be read; large ones are reduced,
# because TensorBoard keeps many in memory; very long and thin ones get a margin, so that there is room for text.
_SHORTEST = 320
_LONGEST = 960
_SMALLEST = (240, 64)  # width, height

# TensorBoard shows a picture 350 pixels wide, at first: letters of a seventeenth of a half's width are ten pixels high
# there, and lines a pixel wide.
_FONT_SIZE = 1 / 17
_LINE_WIDTH = 1 / 160
_SMALLEST_FONT_SIZE = 13
# Of a picture that is looked at as large as it is, letters of this part of its shorter side cover little.
_FONT_SIZE_OF_WHOLE = 1 / 32
GAP = 6
PAPER = (255, 255, 255)
INK = (0, 0, 0)
# Okabe's and Ito's (Color Universal Design, 2008), which the color-blind can tell apart.
ORANGE = (230, 159, 0)
SKY_BLUE = (86, 180, 233)
GREEN = (0, 158, 115)
YELLOW = (240, 228, 66)
BLUE = (0, 114, 178)
VERMILION = (213, 94, 0)
PURPLE = (204, 121, 167)
_PALE_INK = (120, 120, 120)
_MASK_OPACITY = 0.45


@dataclasses.dataclass
class _Object:
    """An object to draw; `box` is (left, top, right, bottom) and `keypoints` are (x, y), in pixels of the picture."""

    box: tuple[float, float, float, float]
    category: int
    score: float | None = None
    is_crowd: bool = False
    mask: Any = None
    keypoints: npt.NDArray[Any] | None = None


class _Pen(NamedTuple):
    """Sizes in pixels: the height of letters and the width of lines."""

    font_size: int
    line_width: int


def pictures_of(batch: EvaluationBatch, options: EvaluationOptions) -> Iterator[tuple[int | str, npt.NDArray[Any]]]:
    """Draws the images of a batch lazily, one by one.

    Args:
      batch: a batch, of which the first `len(batch.images)` images are drawn.
      options: how to draw; `num_pictures` is left to the caller, who knows how many pictures came before.

    Yields:
      Image id and picture: uint8 `[height, width, 3]`. See `draw`.

    Raises:
      ODEvalError: `groundtruth_color` is not a color.
    """
    for index in range(len(batch.images)):
        yield batch.image_ids[index], draw(batch, index, options)


def draw(batch: EvaluationBatch, index: int, options: EvaluationOptions) -> npt.NDArray[Any]:
    """Draws one image of a batch twice: with detections on the left, with ground truth on the right.

    A category has the same color on both sides, and in every picture. A crowd's box is dashed. The image has the aspect
    ratio of `batch.image_sizes`, whatever the model's input size, and is enlarged if it is too small for readable
    labels. Values that are not finite are not drawn, nor is anything outside the image.

    Args:
      batch: a batch with images; detections or ground truth may be None.
      index: the index of the image in the batch.
      options: the options of the evaluation: categories, the box format, and what to show.

    Returns:
      uint8 `[height, width, 3]`; both halves have the same width.

    Raises:
      ODEvalError: `groundtruth_color` is not a color.
    """
    height, width = (int(side) for side in np.asarray(batch.image_sizes)[index])
    image = _image(batch.images[index], height, width)
    scale = (image.width / width, image.height / height)
    detections = _detections(batch, index, options, (height, width), scale)
    groundtruth = _groundtruth(batch.groundtruth, index, options, (height, width), scale)

    # In layers, so that no mask covers a box and no box covers a label.
    left, right = image.copy(), image
    pen = _Pen(_font_size(image.width), _line_width(image.width))
    _draw_masks(left, detections, (height, width))
    if options.show_groundtruth_boxes:
        _draw_boxes(left, groundtruth, [_color_named(options.groundtruth_color)] * len(groundtruth), pen)
    _draw_objects(left, detections, options, pen)
    _draw_masks(right, groundtruth, (height, width))
    _draw_objects(right, groundtruth, options, pen)

    half = (max(image.width, _SMALLEST[0]), max(image.height, _SMALLEST[1]))
    heading_height = round(1.6 * _font_size(half[0]))
    sheet = Image.new("RGB", (2 * half[0] + GAP, half[1] + heading_height), PAPER)
    for x, picture in ((0, left), (half[0] + GAP, right)):
        sheet.paste(picture, (x, heading_height))
    note = f"score ≥ {100 * options.min_score:g}%"
    if not detections and (best_score := _best_score(batch.detections, index)) is not None:
        note = f"best score {100 * best_score:.2g}%"
    _write_heading(sheet, 0, half[0], f"detections: {len(detections)} ({note})")
    image_id = one_line(str(batch.image_ids[index]))
    _write_heading(sheet, half[0] + GAP, half[0], f"ground truth: {len(groundtruth)}", image_id)
    return np.array(sheet)


def draw_detections(
    image: npt.NDArray[np.uint8], detections: Detections, categories: Mapping[int, str]
) -> npt.NDArray[np.uint8]:
    """Draws all detections of one image into it, with colors as in `draw`.

    Args:
      image: uint8 `[height, width, 3]`.
      detections: of this image alone, with boxes `yxyx` in its pixels.
      categories: id -> name.

    Returns:
      uint8 `[height, width, 3]`, of the image's size, or larger if the image is too small for readable labels.
    """
    height, width = image.shape[:2]
    picture = _enlarged(image)
    scale = (picture.width / width, picture.height / height)
    options = EvaluationOptions(categories, max_boxes=len(detections.scores[0]), min_score=0)
    objects = _detections(
        EvaluationBatch([""], [(height, width)], detections, None), 0, options, (height, width), scale
    )
    font_size = max(round(_FONT_SIZE_OF_WHOLE * min(picture.size)), _SMALLEST_FONT_SIZE)
    _draw_masks(picture, objects, (height, width))
    _draw_objects(picture, objects, options, _Pen(font_size, max(font_size // 8, 2)))
    return np.array(picture)


def file_name(image_id: int | str, extension: str = ".png") -> str:
    """A file name for the picture of an image that is safe on any file system.

    Args:
      image_id: any content of a dataset: a path, an empty string, a megabyte.
      extension: what it ends with.

    Returns:
      The id with the extension if it is safe; otherwise its safe characters and a hash of all of it, so that no two ids
      share a file.
    """
    name = str(image_id)
    harmless = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100].lstrip(".-")
    if harmless != name or not name:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        harmless = f"{harmless}-{digest[:16]}".lstrip("-")
    return harmless + extension


# ---- Objects to draw ------------------------------------------------------------------------------------------------


def _image(image: npt.NDArray[Any], height: int, width: int) -> Image.Image:
    scale = max(1.0, _SHORTEST / min(height, width))
    scale = min(scale, _LONGEST / max(height, width))
    return resized(image, (max(1, round(width * scale)), max(1, round(height * scale))))


def _enlarged(image: npt.NDArray[np.uint8]) -> Image.Image:
    height, width = image.shape[:2]
    scale = max(1.0, min(_SHORTEST / min(height, width), _LONGEST / max(height, width)))
    return resized(image, (round(width * scale), round(height * scale)))


def resized(image: npt.NDArray[Any], size: tuple[int, int]) -> Image.Image:
    """An RGB picture of this width and height.

    Args:
      image: `[height, width]`, or `[height, width, channels]`: of fewer than three the first one is gray.
      size: width and height.
    """
    pixels = np.asarray(image, np.uint8)
    pixels = pixels.reshape(*pixels.shape[:2], -1)[..., :3]
    if pixels.shape[2] != 3:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    # Even if enlarged, the pixels that the model was given stay visible.
    enlarged = size[0] > 1.5 * pixels.shape[1]
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS)


def _detections(
    batch: EvaluationBatch,
    index: int,
    options: EvaluationOptions,
    image_size: tuple[int, int],
    scale: tuple[float, float],
) -> list[_Object]:
    """The detections to show, in ascending order of scores, so that the highest is on top."""
    detections = batch.detections
    if detections is None:
        return []
    boxes = _boxes(_rows(detections, detections.boxes, index), options.box_format, image_size, scale)
    scores = np.asarray(_rows(detections, detections.scores, index), np.float64)
    classes = _rows(detections, detections.classes, index)
    masks = _rows(detections, detections.masks, index)
    keypoints = None
    if batch.keypoints is not None:
        # y and x relative to the image -> x and y in pixels of the picture
        pixels = np.multiply(scale, image_size[::-1])
        keypoints = np.asarray(batch.keypoints[index], np.float64)[..., ::-1] * pixels
    shown = [row for row in np.argsort(-scores, kind="stable") if scores[row] >= options.min_score]
    shown = [row for row in shown if np.isfinite([*boxes[row], scores[row]]).all()]
    return [
        _Object(
            box=tuple(boxes[row]),
            category=int(classes[row]),
            score=float(scores[row]),
            mask=None if masks is None else masks[row],
            keypoints=None if keypoints is None else keypoints[row],
        )
        for row in reversed(shown[: options.max_boxes])
    ]


def _best_score(detections: Detections | None, index: int) -> float | None:
    """The highest score of the detections in an image; None if there is none."""
    if detections is None:
        return None
    scores = np.asarray(_rows(detections, detections.scores, index), np.float64)
    return float(scores.max()) if len(scores) and np.isfinite(scores).all() else None


def _groundtruth(
    groundtruth: GroundTruth | None,
    index: int,
    options: EvaluationOptions,
    image_size: tuple[int, int],
    scale: tuple[float, float],
) -> list[_Object]:
    if groundtruth is None:
        return []
    boxes = _boxes(_rows(groundtruth, groundtruth.boxes, index), options.box_format, image_size, scale)
    classes = _rows(groundtruth, groundtruth.classes, index)
    is_crowd = _rows(groundtruth, groundtruth.is_crowd, index)
    masks = _rows(groundtruth, groundtruth.masks, index)
    return [
        _Object(
            box=tuple(box),
            category=int(classes[row]),
            is_crowd=is_crowd is not None and bool(is_crowd[row]),
            mask=None if masks is None else masks[row],
        )
        for row, box in enumerate(boxes)
        if np.isfinite(box).all()
    ]


def _rows(objects: Detections | GroundTruth, field: Any, index: int) -> Any:
    """A field's rows for one image, without padding."""
    if field is None:
        return None
    return field[index] if objects.num is None else field[index][: int(np.asarray(objects.num)[index])]


def _boxes(
    boxes: npt.ArrayLike, box_format: str, image_size: tuple[int, int], scale: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Converts boxes of any format to left, top, right, bottom in pixels of the picture."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = box_format.removeprefix("rel_")
    if order == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif order == "xywh":
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    pixels = np.multiply(scale, image_size[::-1]) if box_format.startswith("rel_") else np.asarray(scale)
    return boxes * np.tile(pixels, 2)


# ---- Drawing --------------------------------------------------------------------------------------------------------


def _draw_masks(image: Image.Image, objects: Sequence[_Object], image_size: tuple[int, int]) -> None:
    for shape in objects:
        if shape.mask is not None:
            image.paste(_color_of(shape.category), (0, 0), _opacity(shape.mask, image_size, image.size))


def _draw_objects(image: Image.Image, objects: Sequence[_Object], options: EvaluationOptions, pen: _Pen) -> None:
    colors = [_color_of(shape.category) for shape in objects]
    _draw_boxes(image, objects, colors, pen)
    for shape, color in zip(objects, colors, strict=True):
        if shape.keypoints is not None:
            _draw_keypoints(image, shape.keypoints, color, options.keypoint_edges, pen.line_width)
    for shape, color in zip(objects, colors, strict=True):
        box = inside(shape.box, image.size)
        name = category_name(shape.category, options.categories) if options.show_labels else ""
        notes = [f"{shape.score:.0%}"] if options.show_scores and shape.score is not None else []
        notes += ["crowd"] if shape.is_crowd and options.show_labels else []
        if box is not None and (name or notes):
            _write_label(image, box, name, " ".join(notes), color, pen.font_size)


def _draw_boxes(image: Image.Image, objects: Sequence[_Object], colors: Sequence[Color], pen: _Pen) -> None:
    drawing = ImageDraw.Draw(image)
    for shape, color in zip(objects, colors, strict=True):
        box = inside(shape.box, image.size)
        if box is None:
            continue
        if shape.is_crowd:
            _draw_dashed(drawing, box, color, pen.line_width)
        else:
            drawing.rectangle(box, outline=color, width=pen.line_width)


def _draw_dashed(drawing: ImageDraw.ImageDraw, box: tuple[int, int, int, int], color: Color, line_width: int) -> None:
    left, top, right, bottom = box
    dash, thick = 4 * line_width, line_width - 1
    for x in range(left, right + 1, 2 * dash):
        for y in (top, max(top, bottom - thick)):
            drawing.rectangle((x, y, min(x + dash, right), y + thick), fill=color)
    for y in range(top, bottom + 1, 2 * dash):
        for x in (left, max(left, right - thick)):
            drawing.rectangle((x, y, x + thick, min(y + dash, bottom)), fill=color)


def _draw_keypoints(
    image: Image.Image,
    keypoints: npt.NDArray[Any],
    color: Color,
    edges: Sequence[tuple[int, int]],
    line_width: int,
) -> None:
    drawing = ImageDraw.Draw(image)
    limits = np.asarray(image.size)
    points = {
        number: tuple(point)
        for number, point in enumerate(keypoints)
        if np.isfinite(point).all() and (point >= 0).all() and (point <= limits).all()
    }
    for start, end in edges:
        if start in points and end in points:
            drawing.line((*points[start], *points[end]), fill=color, width=line_width)
    for x, y in points.values():
        radius = line_width + 1
        drawing.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline=INK)


def _opacity(mask: Any, image_size: tuple[int, int], picture_size: tuple[int, int]) -> Image.Image:
    """Converts a mask (an array or an RLE) to the opacity of its color for each pixel of the picture."""
    pixels = np.asarray(hotcoco.mask.decode(mask) if isinstance(mask, dict) else mask)
    pixels = pixels[: image_size[0], : image_size[1]]  # the rest is padding to the size of a larger image
    opacity = np.where(pixels != 0, np.uint8(255 * _MASK_OPACITY), np.uint8(0))
    return Image.fromarray(opacity).resize(picture_size, Image.Resampling.NEAREST)


def inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The part of a box inside the picture, at least one pixel; None if there is none."""
    left, right = sorted((box[0], box[2]))
    top, bottom = sorted((box[1], box[3]))
    if right < 0 or bottom < 0 or left > size[0] or top > size[1]:
        return None
    left, right = (min(max(round(x), 0), size[0] - 1) for x in (max(left, -1), min(right, size[0])))
    top, bottom = (min(max(round(y), 0), size[1] - 1) for y in (max(top, -1), min(bottom, size[1])))
    return left, top, right, bottom


# ---- Text -----------------------------------------------------------------------------------------------------------


def _write_label(
    image: Image.Image, box: tuple[int, int, int, int], name: str, notes: str, color: Color, font_size: int
) -> None:
    """Writes a label above the box if there is room, otherwise in its upper part; never outside the picture."""
    font = font_of_size(font_size)
    max_width = image.width - 4
    if name and notes:
        name = shortened(name, font, max_width - font.getlength(f": {notes}"))
    text = shortened(": ".join(part for part in (name, notes) if part), font, max_width)
    width, height = min(round(font.getlength(text)) + 4, image.width), min(round(1.3 * font_size), image.height)
    left, top = min(box[0], image.width - width), box[1] - height
    if top < 0:
        top = min(box[1], image.height - height)
    image.paste(label_of(text, font, (width, height), color), (left, top))


def label_of(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, size: tuple[int, int], color: Color
) -> Image.Image:
    """A picture of this width and height, filled with a color, with dark or white text on it, whichever can be read.

    An image of its own: parts above the line, as in some scripts, are cut off.
    """
    label = Image.new("RGB", size, color)
    ImageDraw.Draw(label).text((2, size[1] / 2), text, INK if _is_light(color) else PAPER, font, anchor="lm")
    return label


def _write_heading(sheet: Image.Image, x: int, width: int, text: str, note: str = "") -> None:
    font = font_of_size(_font_size(width))
    pen = ImageDraw.Draw(sheet)
    middle = 0.8 * _font_size(width)
    text = shortened(text, font, width - 8)
    pen.text((x + 4, middle), text, INK, font, anchor="lm")
    max_width = width - 8 - font.getlength(text) - 12
    note = shortened(note, font, max_width)
    if note:
        pen.text((x + width - 4, middle), note, _PALE_INK, font, anchor="rm")


def _font_size(width: int) -> int:
    """The size of letters in a half of this width."""
    return max(round(_FONT_SIZE * width), _SMALLEST_FONT_SIZE)


def _line_width(width: int) -> int:
    """The width of lines in a half of this width."""
    return max(round(_LINE_WIDTH * width), 2)


def category_name(category: int, categories: Mapping[int, str]) -> str:
    """The name of a category on one line, or its id if it has no name or one that the font cannot show."""
    name = one_line(categories.get(category, ""))
    return name if name and can_show(name) else f"class {category}"


def one_line(text: str) -> str:
    """Removes line breaks, control characters and changes of writing direction from untrusted text."""
    text = unicodedata.normalize("NFC", text[:500])
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, max_width: float) -> str:
    """The text, or as much of its beginning as fits, with an ellipsis; nothing if there is no room."""
    if font.getlength(text) <= max_width:
        return text
    beginnings = (f"{text[:end]}…" for end in range(1, len(text)))
    fitting = list(itertools.takewhile(lambda beginning: font.getlength(beginning) <= max_width, beginnings))
    return fitting[-1] if fitting else ""


@functools.lru_cache(maxsize=1024)
def can_show(text: str) -> bool:
    """Whether the font of labels has all characters of a text."""
    font = font_of_size(_SMALLEST_FONT_SIZE)
    missing = bytes(font.getmask("\uffff"))
    return all(char.isspace() or bytes(font.getmask(char)) != missing for char in text)


@functools.lru_cache
def font_of_size(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of labels, in pixels of height."""
    # Pillow's own font has only ASCII. Matplotlib, which the Object Detection API requires, has one with the letters of
    # most European, Caucasian and Arabic scripts.
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib is not None and matplotlib.submodule_search_locations:
        path = os.path.join(matplotlib.submodule_search_locations[0], "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if os.path.isfile(path):
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


# ---- Colors ---------------------------------------------------------------------------------------------------------


def _color_of(category: int) -> Color:
    # Steps of the golden ratio put each hue into the widest gap between those before it.
    hue = category * 0.618034 % 1.0
    saturation, value = ((0.85, 1.0), (0.6, 0.95), (0.95, 0.75))[category % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _color_named(name: str) -> Color:
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise ODEvalError(
            f"groundtruth_color '{name}' is not a color; write a name like 'black' or 'red', or '#rrggbb'."
        ) from error


def _is_light(color: Color) -> bool:
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140
