"""A dataset of drawn shapes with exact boxes and masks, to train on without a download."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from od_eval import files
from od_eval.data.encoding import Encoding
from od_eval.data.examples import Features, Instance, make_features
from od_eval.data.images import EncodedImage, encode_jpeg
from od_eval.data.tfrecord import (
    LABEL_MAP,
    choose_num_shards,
    dataset_folder,
    shard_name,
    shard_pattern,
    shard_slices,
    write_shard,
)
from od_eval.errors import ODEvalError
from od_eval.label_map import Category, label_map_text
from od_eval.text import short

CATEGORIES = tuple(Category(id, name) for id, name in enumerate(("circle", "square", "star", "triangle"), start=1))
SEGMENTATION_CATEGORIES = {0: "background", **{category.id: category.name for category in CATEGORIES}}
LABELS = "labels.json"
# Radius of a shape, as a fraction of the image's side.
_SMALLEST_RADIUS, _LARGEST_RADIUS = 0.07, 0.22
# The maximum fraction of a shape that others may hide.
_MAX_HIDDEN = 0.3
_SUBPIXELS = 4  # per side; shapes are drawn larger by this factor and averaged, for smooth edges
_TRIES = 20
_MOST_IMAGES = 10**6  # their file names have six digits
_IMAGE_SIZES = 32, 4096
_MOST_SHAPES = 100  # there is no room for more
_LARGEST_SEED = 2**64 - 1


@dataclasses.dataclass(frozen=True)
class DrawnImage:
    """An image and its shapes.

    Attributes:
      pixels: uint8 [size, size, 3].
      class_names: the class of each shape.
      masks: bool [number of shapes, size, size]: the pixels in which each shape is visible.
    """

    pixels: np.ndarray
    class_names: list[str]
    masks: np.ndarray


def draw_image(random: np.random.Generator, size: int, max_shapes: int) -> DrawnImage:
    """Draws 1 to `max_shapes` shapes on a textured background.

    Args:
      random: the source of all random decisions.
      size: width and height of the image in pixels.
      max_shapes: the maximum number of shapes.

    Returns:
      The image. Shapes may overlap; a mask covers the visible part of its shape.
    """
    pixels = _background(random, size)
    class_names: list[str] = []
    masks: list[np.ndarray] = []
    full_areas: list[int] = []
    for _ in range(random.integers(1, max_shapes + 1)):
        for _ in range(_TRIES):
            class_name = CATEGORIES[random.integers(len(CATEGORIES))].name
            window, coverage = _draw_shape(random, class_name, size)
            hidden = [np.count_nonzero(earlier[window] & (coverage > 0.5)) for earlier in masks]
            visible = [np.count_nonzero(earlier) for earlier in masks]
            if all(
                num_visible - num_hidden >= (1 - _MAX_HIDDEN) * area
                for num_visible, num_hidden, area in zip(visible, hidden, full_areas, strict=True)
            ):
                break
        else:
            continue  # no room
        _paint(random, pixels[window], coverage)
        mask = np.zeros((size, size), bool)
        mask[window] = coverage > 0.5
        masks = [*(earlier & ~mask for earlier in masks), mask]
        class_names.append(class_name)
        full_areas.append(int(np.count_nonzero(mask)))
    pixels += random.integers(-6, 7, pixels.shape, np.int8)  # grain
    return DrawnImage(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8), class_names, np.array(masks))


def write_shapes(
    output_dir: files.Path,
    *,
    num_train: int = 200,
    num_validation: int = 50,
    image_size: int = 320,
    max_shapes: int = 5,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, str]:
    """Writes a dataset of drawn shapes: the same files as a conversion, with masks.

    The same arguments give the same files, byte for byte. An image does not depend on the number of images.

    Args:
      output_dir: a folder on any file system; gets `train-00000-of-00001`, …, `validation-00000-of-00001`, … and
        `label_map.pbtxt`.
      num_train, num_validation: the numbers of images, at most a million each.
      image_size: the width and height of images in pixels, from 32 to 4096.
      max_shapes: the maximum number of shapes per image, from 1 to 100.
      seed: a different seed gives different images.
      overwrite: whether existing files of a dataset in `output_dir` are replaced.

    Returns:
      "train" and "validation" -> the pattern of its files, for those with images.

    Raises:
      ODEvalError: a number is out of range, there are no images to draw, such files already exist, or they cannot be
        written.
    """
    numbers = _checked(num_train, num_validation, image_size, max_shapes, seed)
    encoding = Encoding({category.name: category.id for category in CATEGORIES}, with_masks=True)
    patterns = {}
    with (
        dataset_folder(output_dir, list(numbers), [LABEL_MAP], overwrite) as folder,
        tqdm(total=sum(numbers.values()), unit="image", disable=None) as progress,
    ):
        for split, number in numbers.items():
            progress.set_description(split)
            num_shards = choose_num_shards(number)
            for shard, part in enumerate(shard_slices(number, num_shards)):
                examples = (
                    _example(split, index, image_size, max_shapes, seed, encoding, progress)
                    for index in range(number)[part]
                )
                write_shard(f"{folder}/{shard_name(split, shard, num_shards)}", examples)
            patterns[split] = shard_pattern(split, num_shards)
        files.write_whole(f"{folder}/{LABEL_MAP}", label_map_text(CATEGORIES))
    return patterns


def write_segmentation_shapes(
    output_dir: files.Path,
    *,
    num_train: int = 200,
    num_validation: int = 50,
    image_size: int = 320,
    max_shapes: int = 5,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, str]:
    """Writes a dataset of drawn shapes for semantic segmentation: images, and label images of the same names.

    The images are those of `write_shapes` with the same arguments, as PNG. A label image has one channel of 8 bits: the
    id of the class of each pixel, 0 for the background.

    Args:
      output_dir: a folder on any file system; gets `train/images/000000.png`, `train/labels/000000.png`, …, the same
        below `validation`, and `labels.json`: id -> name of each class.
      num_train, num_validation, image_size, max_shapes, seed, overwrite: as for `write_shapes`.

    Returns:
      "train" and "validation" -> the name of its folder, for those with images.

    Raises:
      ODEvalError: as for `write_shapes`.
    """
    numbers = _checked(num_train, num_validation, image_size, max_shapes, seed)
    with files.errors_as_sentences(f"the dataset cannot be written to '{output_dir}'"):
        for split in numbers:
            if files.exists(os.path.join(output_dir, split)) and not files.exists(os.path.join(output_dir, LABELS)):
                raise ODEvalError(
                    f"'{output_dir}' has a folder '{split}' and no {LABELS}, so it is not of drawn shapes, and is not"
                    " replaced; choose another output folder."
                )
    ids = {name: id for id, name in SEGMENTATION_CATEGORIES.items()}
    with (
        dataset_folder(output_dir, [], [*numbers, LABELS], overwrite) as folder,
        tqdm(total=sum(numbers.values()), unit="image", disable=None) as progress,
    ):
        for split, number in numbers.items():
            progress.set_description(split)
            for kind in ("images", "labels"):
                files.make_folder(f"{folder}/{split}/{kind}")
            for index in range(number):
                drawn = _drawn(split, index, image_size, max_shapes, seed)
                labels = np.zeros(drawn.pixels.shape[:2], np.uint8)
                for class_name, mask in zip(drawn.class_names, drawn.masks, strict=True):
                    labels[mask] = ids[class_name]
                for kind, pixels in (("images", drawn.pixels), ("labels", labels)):
                    encoded = io.BytesIO()
                    Image.fromarray(pixels).save(encoded, "PNG")
                    files.append(f"{folder}/{split}/{kind}/{index:06d}.png", encoded.getvalue())
                progress.update()
        files.write_whole(f"{folder}/{LABELS}", json.dumps(SEGMENTATION_CATEGORIES, indent=1) + "\n")
    return {split: split for split in numbers}


def _checked(num_train: int, num_validation: int, image_size: int, max_shapes: int, seed: int) -> dict[str, int]:
    """The number of images of each split that has any.

    Raises:
      ODEvalError: a number is out of range, or there are no images to draw.
    """
    for name, value, least, most in (
        ("num_train", num_train, 0, _MOST_IMAGES),
        ("num_validation", num_validation, 0, _MOST_IMAGES),
        ("image_size", image_size, *_IMAGE_SIZES),
        ("max_shapes", max_shapes, 1, _MOST_SHAPES),
        ("seed", seed, 0, _LARGEST_SEED),
    ):
        if not least <= value <= most:
            raise ODEvalError(f"{name}={short(value)} is not from {least} to {most}.")
    numbers = {name: number for name, number in (("train", num_train), ("validation", num_validation)) if number > 0}
    if not numbers:
        raise ODEvalError("no images were requested: the number of images for train or validation must be above 0.")
    return numbers


def _drawn(split: str, index: int, size: int, max_shapes: int, seed: int) -> DrawnImage:
    random = np.random.default_rng([seed, ["train", "validation"].index(split), index])
    return draw_image(random, size, max_shapes)


def _example(
    split: str, index: int, size: int, max_shapes: int, seed: int, encoding: Encoding, progress: tqdm
) -> Features:
    drawn = _drawn(split, index, size, max_shapes, seed)
    image = EncodedImage(encode_jpeg(Image.fromarray(drawn.pixels)), "jpeg", size, size, (size, size))
    instances = []
    for class_name, mask in zip(drawn.class_names, drawn.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        instances.append(Instance(class_name, box, float(np.count_nonzero(mask)), mask=mask))
    filename = f"{split}-{index:06d}.jpg"
    progress.update()
    return make_features(image, filename, filename, instances, encoding)


def _background(random: np.random.Generator, size: int) -> np.ndarray:
    """Clouds of muted colors, coarse and fine: float32 [size, size, 3]."""
    clouds = np.full((64, 64, 3), random.uniform(80, 175, 3))  # a small image suffices, because they are smooth
    for cells, strength in ((3, 60), (12, 25), (48, 15)):
        noise = random.integers(0, 256, (cells, cells, 3), np.uint8)
        clouds += (
            (np.asarray(Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)) - 128.0) * strength / 128
        )
    small = Image.fromarray(np.clip(clouds, 0, 255).astype(np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _draw_shape(random: np.random.Generator, class_name: str, size: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """A random shape: the window of pixels around it, and how much of each pixel it covers (float32, 0 to 1)."""
    radius = size * random.uniform(_SMALLEST_RADIUS, _LARGEST_RADIUS)
    x, y = random.uniform(radius, size - radius, 2)
    turn = random.uniform(0, 2 * math.pi)
    left, top = int(x - radius), int(y - radius)
    right, bottom = min(math.ceil(x + radius) + 1, size), min(math.ceil(y + radius) + 1, size)
    image = Image.new("L", ((right - left) * _SUBPIXELS, (bottom - top) * _SUBPIXELS))
    draw = ImageDraw.Draw(image)
    center_x, center_y, large = (x - left) * _SUBPIXELS, (y - top) * _SUBPIXELS, radius * _SUBPIXELS
    if class_name == "circle":
        draw.ellipse((center_x - large, center_y - large, center_x + large, center_y + large), fill=255)
    else:
        # Distances of the corners from the center, as fractions of the radius.
        distances = {"square": (1,) * 4, "star": (1, 0.45) * 5, "triangle": (1,) * 3}[class_name]
        angles = [turn + 2 * math.pi * corner / len(distances) for corner in range(len(distances))]
        corners = [
            (center_x + distance * large * math.cos(angle), center_y + distance * large * math.sin(angle))
            for distance, angle in zip(distances, angles, strict=True)
        ]
        draw.polygon(corners, fill=255)
    coverage = np.asarray(image.reduce(_SUBPIXELS), np.float32) / 255
    return (slice(top, bottom), slice(left, right)), coverage


def _paint(random: np.random.Generator, pixels: np.ndarray, coverage: np.ndarray) -> None:
    """Paints a shape into `pixels`, in a color that stands out from the background, lighter towards one side."""
    below = pixels[coverage > 0.5].mean(axis=0)
    colors = random.uniform(0, 255, (8, 3)).astype(np.float32)
    color = colors[np.argmax(np.abs(colors - below).sum(axis=1))]
    rows, columns = np.indices(coverage.shape, np.float32) / max(coverage.shape) - 0.5
    direction = random.uniform(0, 2 * math.pi)
    shade = 30 * (rows * np.float32(math.sin(direction)) + columns * np.float32(math.cos(direction)))
    pixels += ((color + shade[..., None]) - pixels) * coverage[..., None]
