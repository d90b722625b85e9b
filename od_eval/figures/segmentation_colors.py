"""The colors of the classes of a segmentation: the same class has the same color in every picture.

The color-blind can tell them apart: each color is chosen as far as possible from those before it, as most people see
them and as people see them who have no green cones (deuteranopes), whichever is closer.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from od_eval.figures import pictures

Colors = npt.NDArray[np.uint8]  # [n, 3], RGB

IGNORED = (235, 235, 235)
# The first class is mostly the background.
_FIRST = (
    (60, 60, 60),
    *(pictures.ORANGE, pictures.SKY_BLUE, pictures.GREEN, pictures.YELLOW, pictures.BLUE, pictures.VERMILION),
    pictures.PURPLE,
)
# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009: of
# linear RGB, for a severity of 1.
_DEUTERANOPE = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
# CIE: linear sRGB to XYZ, relative to the white D65.
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_XYZ /= _XYZ.sum(axis=1, keepdims=True)


@functools.lru_cache(maxsize=8)
def class_colors(num_classes: int) -> Colors:
    """The colors of classes in ascending order of their ids: uint8 `[num_classes, 3]`.

    More classes do not change the colors of the first ones.
    """
    levels = np.arange(30, 256, 25)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    seen, seen_of_ignored = _as_seen(candidates), _as_seen(np.array([IGNORED]))
    chosen = [np.array(color) for color in _FIRST]
    distance = _distance(seen, seen_of_ignored)
    for color in chosen:
        distance = np.minimum(distance, _distance(seen, _as_seen(color[np.newaxis])))
    while len(chosen) < num_classes:
        furthest = int(np.argmax(distance))
        chosen.append(candidates[furthest])
        distance = np.minimum(distance, _distance(seen, seen[:, furthest : furthest + 1]))
    colors = np.array(chosen[:num_classes], np.uint8).reshape(-1, 3)
    colors.flags.writeable = False  # it is shared
    return colors


def _as_seen(colors: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Colors in CIE Lab, as most people and as deuteranopes see them: `[2, n, 3]`."""
    values = colors / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    both = np.stack([linear, np.clip(linear @ _DEUTERANOPE.T, 0, 1)])
    xyz = both @ _XYZ.T
    cubic = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(cubic, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _distance(seen: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The distance of colors to one, for those to whom it is less."""
    closest: npt.NDArray[np.float64] = np.linalg.norm(seen - other, axis=-1).min(axis=0)
    return closest
