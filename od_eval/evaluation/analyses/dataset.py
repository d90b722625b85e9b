"""What was evaluated: how many images and objects, and a fingerprint by which evaluation sets are told apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from od_eval.evaluation.object_table import ObjectTable


def dataset(table: ObjectTable) -> dict[str, Any]:
    """The section `dataset`: `num_images`, `num_groundtruth`, `num_crowd`, `num_difficult` and `fingerprint`.

    `num_groundtruth` is without crowds and difficult objects. The fingerprint is of ids of images, names of categories
    and boxes to a tenth of a pixel; the order of images and objects does not matter.
    """
    crowd, difficult = table.groundtruth.crowd, table.groundtruth.difficult
    assert crowd is not None
    return {
        "num_images": len(table.images),
        "num_groundtruth": int(table.num_groundtruth.sum()),
        "num_crowd": int(crowd.sum()),
        "num_difficult": 0 if difficult is None else int((difficult & ~crowd).sum()),
        "fingerprint": _fingerprint(table),
    }


def _fingerprint(table: ObjectTable) -> str:
    groundtruth = table.groundtruth
    # Whole numbers, so that -0.0 and 0.0 are the same.
    tenths = np.rint(np.clip(groundtruth.box * 10, -(2.0**62), 2.0**62)).astype("<i8")
    rows = np.column_stack((groundtruth.image, groundtruth.category, tenths, table.ignored)).astype("<i8")
    rows = rows[np.lexsort(rows.T[::-1])]
    names = json.dumps([list(table.images), list(table.categories.values())])
    return hashlib.sha256(names.encode() + rows.tobytes()).hexdigest()[:16]
