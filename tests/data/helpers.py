"""What tests of several modules call."""

from __future__ import annotations

from collections import Counter

from od_eval.data.conversion import Conversion

PNG_MASKS = 2  # input_reader.proto, InstanceMaskType


KEYPOINTS = ["nose", "left", "right"]


def polygon_annotation(**fields) -> dict:
    """An annotation of a COCO file; a field that is given replaces its own."""
    return {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [4, 8, 20, 16],
        "area": 200.5,
        "iscrowd": 0,
        "segmentation": [[4, 8, 24, 8, 24, 24], [30.5, 30, 40, 30, 40, 40.25, 30, 40]],
    } | fields


def reasons(conversion: Conversion) -> Counter:
    """(reason, what was left out) of the remarks of a conversion -> how many there are."""
    return Counter((remark.reason, remark.left_out) for remark in conversion.remarks)
