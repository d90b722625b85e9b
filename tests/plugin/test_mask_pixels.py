"""Masks in the page (static/mask.js), against pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from test_picture_shapes import run_script


def in_javascript(tmp_path: Path, masks: list[tuple[bytes, int, int]]) -> dict[str, Any]:
    """What the page makes of masks.

    Args:
      tmp_path: a folder.
      masks: compressed counts, height and width of each.
    """
    path = tmp_path / "masks.json"
    given = [{"counts": counts.decode(), "height": height, "width": width} for counts, height, width in masks]
    path.write_text(json.dumps(given))
    return run_script("mask_pixels.mjs", str(path))


def encoded(pixels: np.ndarray) -> tuple[bytes, int, int]:
    return coco_mask.encode(np.asfortranarray(pixels, np.uint8))["counts"], *pixels.shape


def filled(polygons: list[list[int]], height: int, width: int) -> np.ndarray:
    """The pixels that have an odd number of horizontal lines above them."""
    pixels = np.zeros((height + 1, width), bool)
    for corners in polygons:
        points = np.array(corners).reshape(-1, 2)
        for (x, y), (next_x, next_y) in zip(points, np.roll(points, -1, axis=0), strict=True):
            assert (x == next_x) != (y == next_y)  # from pixel to pixel
            if y == next_y:
                pixels[y:, min(x, next_x) : max(x, next_x)] ^= True
    return pixels[:-1]


def random_masks(seed: int) -> list[np.ndarray]:
    """Full of noise, of rectangles, ellipses with holes, of all and of nothing."""
    random = np.random.default_rng(seed)
    masks = []
    for _ in range(40):
        height, width = random.integers(1, 40, 2)
        masks.append(random.random((height, width)) < random.random())
        y, x = np.mgrid[:height, :width]
        distance = np.hypot((y - height / 2) / height, (x - width / 3) / width)
        masks.append((distance < 0.5) & (distance > 0.2))
        rectangle = np.zeros((height, width), bool)
        top, left = random.integers(0, height), random.integers(0, width)
        rectangle[top : random.integers(top, height) + 1, left : random.integers(left, width) + 1] = True
        masks.append(rectangle)
    return [*masks, np.ones((7, 5), bool), np.zeros((7, 5), bool)]


@pytest.mark.parametrize("seed", range(3))
def test_pixels_and_outlines_are_those_of_the_mask(tmp_path: Path, seed: int) -> None:
    masks = random_masks(seed)
    for pixels, got in zip(masks, in_javascript(tmp_path, [*map(encoded, masks)])["masks"], strict=True):
        np.testing.assert_array_equal(got["pixels"], pixels)
        np.testing.assert_array_equal(filled(got["outline"], *pixels.shape), pixels)
        assert got["numPixels"] == pixels.sum()
        assert not got["outside"]


def test_the_outline_of_a_rectangle_has_four_corners(tmp_path: Path) -> None:
    pixels = np.zeros((30, 40), bool)
    pixels[10:20, 5:25] = True
    (got,) = in_javascript(tmp_path, [encoded(pixels)])["masks"]
    (corners,) = got["outline"]
    assert sorted(zip(corners[::2], corners[1::2], strict=True)) == [(5, 10), (5, 20), (25, 10), (25, 20)]


@pytest.mark.parametrize("counts", [b"", b"0", b"abc", b"_____", b"0o", b"1" * 50, b"\x7f" * 9])
def test_what_is_no_mask_of_this_size_is_none(tmp_path: Path, counts: bytes) -> None:
    assert in_javascript(tmp_path, [(counts, 30, 40)])["masks"] == [None]


def test_an_image_full_of_masks_is_fast(tmp_path: Path) -> None:
    """In time of the processor: the machine may have other things to do."""
    y, x = np.mgrid[:480, :640]
    random = np.random.default_rng(0)
    masks = []
    for _ in range(100):
        middle, radius = random.uniform(0, 1, 2) * (480, 640), random.uniform(20, 300, 2)
        angle = np.arctan2(y - middle[0], x - middle[1])
        masks.append(np.hypot((y - middle[0]) / radius[0], (x - middle[1]) / radius[1]) < 1 + 0.2 * np.sin(9 * angle))
    result = in_javascript(tmp_path, [*map(encoded, masks)])
    assert [mask["numPixels"] for mask in result["masks"]] == [mask.sum() for mask in masks]
    assert result["milliseconds"] < 100
