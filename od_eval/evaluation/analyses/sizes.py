"""AP and AR by the size of objects: COCO's ranges, ranges by percentile, and any others.

A range holds the objects whose area is within its bounds, both inclusive, as in COCO. The others are ignored: nobody
has to find them, and who matches one is neither right nor wrong. A detection that matches nothing is wrong only if its
own area is in the range. With the same bounds (`Params.areaRng`), pycocotools gives the same numbers to the last bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from od_eval.evaluation.matching import IOU_THRESHOLDS, Bools, Floats, Matches
from od_eval.evaluation.object_table import MAX_AREA, ObjectTable, precision_recall_scores

Bounds = tuple[float, float]

COCO_RANGES: dict[str, Bounds] = {
    "coco_small": (0.0, 32.0**2),
    "coco_medium": (32.0**2, 96.0**2),
    "coco_large": (96.0**2, MAX_AREA),
}
# The percentiles of area that bound smallest, small and large objects.
PERCENTILES = (7.5, 25.0, 75.0)


def size_ranges(table: ObjectTable, extra: Mapping[str, Bounds] | None = None) -> dict[str, Bounds]:
    """The size ranges of an evaluation.

    Percentiles are those of the areas of objects that are not ignored, interpolated linearly. `smallest` is below the
    7.5th, `small` below the 25th, `medium` from the 25th to the 75th, `large` above the 75th, `corrected` from the
    7.5th on. An area equal to a percentile is in `medium` and `corrected`. As bounds are inclusive, "below" ends at the
    float before the percentile: `small`, `medium` and `large` hold each object exactly once, and so do `smallest` and
    `corrected`. COCO's ranges share their bounds: 32² is small and medium.

    Args:
      table: the object table.
      extra: further ranges by name: the lowest and highest area in pixels.

    Returns:
      Name -> lowest and highest area in pixels, both inclusive. Without objects there are no ranges by percentile.
    """
    ranges = dict(COCO_RANGES)
    area = table.groundtruth.area[~table.ignored]
    if len(area):
        smallest, small, large = (float(bound) for bound in np.percentile(area, PERCENTILES))
        ranges |= {
            "smallest": (0.0, _before(smallest)),
            "small": (0.0, _before(small)),
            "medium": (small, large),
            "large": (float(np.nextafter(large, np.inf)), MAX_AREA),
            "corrected": (smallest, MAX_AREA),
        }
    return ranges | {name: (float(low), float(high)) for name, (low, high) in (extra or {}).items()}


def in_range(table: ObjectTable, low: float, high: float) -> ObjectTable:
    """The table in which only objects of a size count.

    Objects outside are difficult, so they are ignored. Detections outside have an area of -1, so they are not false
    positives. Only what may match otherwise is matched again.

    Args:
      table: the object table.
      low, high: the lowest and highest area in pixels, both inclusive.
    """
    groundtruth, detections = table.groundtruth, table.detections
    ignored = table.ignored | ~_within(groundtruth.area, low, high)
    return dataclasses.replace(
        table,
        groundtruth=dataclasses.replace(groundtruth, difficult=ignored),
        detections=dataclasses.replace(
            detections, area=np.where(_within(detections.area, low, high), detections.area, -1.0)
        ),
        matches=_rematched(table, ignored),
    )


def by_size(table: ObjectTable, ranges: Mapping[str, Bounds]) -> dict[str, dict[str, Any]]:
    """AP and AR in size ranges, in COCO's protocol.

    Args:
      table: the object table.
      ranges: name -> lowest and highest area; see `size_ranges`.

    Returns:
      Name -> `low`, `high`, `num_groundtruth`, `AP`, `AP50`, `AR100`, and `per_category`: the name of each category ->
      its `num_groundtruth`, `AP`, `AP50`, `AR100`. None without objects.
    """
    result = {}
    for name, (low, high) in ranges.items():
        of_range = in_range(table, low, high)
        precision, recall, _ = precision_recall_scores(of_range, table.first_100_by_category)
        num_groundtruth = of_range.num_groundtruth
        result[name] = {
            "low": low,
            "high": high,
            **_metrics(precision, recall, int(num_groundtruth.sum())),
            "per_category": {
                category: _metrics(precision[..., [index]], recall[:, [index]], int(num_groundtruth[index]))
                for index, category in enumerate(table.categories.values())
            },
        }
    return result


def _within(area: Floats, low: float, high: float) -> Bools:
    return (area >= low) & (area <= high)


def _before(bound: float) -> float:
    return float(np.nextafter(bound, -np.inf))


def _metrics(precision: Floats, recall: Floats, num_groundtruth: int) -> dict[str, float | int | None]:
    return {
        "num_groundtruth": num_groundtruth,
        "AP": _mean(precision),
        "AP50": _mean(precision[:1]),
        "AR100": _mean(recall),
    }


def _mean(values: Floats) -> float | None:
    """The mean of those that are defined, computed as pycocotools does to be equal to the last bit."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None


def _rematched(table: ObjectTable, ignored: Bools) -> Matches:
    """`table.rematched(ignored=ignored)`, computed only where it may differ from the matches of the table.

    Ignoring an object changes the order in which a detection prefers objects, so only if it overlaps several. Then all
    that compete with this detection, those of its image and category, are matched again.
    """
    groundtruth, detections = table.groundtruth, table.detections
    pairs = table.pairs.where(
        (table.pairs.iou >= IOU_THRESHOLDS[0])
        & (detections.category[table.pairs.detection] == groundtruth.category[table.pairs.groundtruth])
    )
    several = np.bincount(pairs.detection, minlength=len(detections))[pairs.detection] > 1
    changed = several & (ignored != table.ignored)[pairs.groundtruth]
    cells, objects_cells = (
        objects.image.astype(np.int64) * len(table.categories) + objects.category
        for objects in (detections, groundtruth)
    )
    again = np.zeros(len(table.images) * len(table.categories), bool)
    again[cells[pairs.detection[changed]]] = True
    matches = dataclasses.replace(table, pairs=pairs.where(again[cells[pairs.detection]])).rematched(ignored=ignored)
    merged = Matches(table.matches.detection.copy(), table.matches.groundtruth.copy())
    for rows, new, old in (
        (again[cells], matches.detection, merged.detection),
        (again[objects_cells], matches.groundtruth, merged.groundtruth),
    ):
        old[rows] = new[rows]
    return merged
