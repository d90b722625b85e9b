"""What an evaluation would be if something were different: object tables made from an object table.

    table = with_stricter_nms(table, 0.5)
    table = with_merged_categories(table, {"vehicle": ["car", "truck"]})

All but `with_confidence` match anew, for which all pairs are needed. A table of a file has only the best pair of each
row: those of boxes are computed again, those of masks cannot be, as the file has no masks (`can_match_anew`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from od_eval.errors import ODEvalError
from od_eval.evaluation import matching
from od_eval.evaluation.analyses.label_suspects import Suspect
from od_eval.evaluation.matching import Floats, Ints, Matches, Pairs
from od_eval.evaluation.object_table import ObjectTable, object_table
from od_eval.evaluation.objects import Objects
from od_eval.text import did_you_mean, named


def can_match_anew(table: ObjectTable) -> bool:
    """Whether boxes are matched, or the table has the masks."""
    return table.iou_type == "bbox" or not (table.groundtruth.masks is None or table.detections.masks is None)


def matched_anew(table: ObjectTable) -> ObjectTable:
    """The same table with all its pairs, and matches that follow from them.

    Raises:
      ODEvalError: masks are matched, and the table does not have them (`can_match_anew`).
    """
    if not can_match_anew(table):
        raise ODEvalError("masks cannot be matched anew, as the file of their objects does not have the masks.")
    return object_table(table.iou_type, table.categories, table.images, table.groundtruth, table.detections)


def of_rows(table: ObjectTable, groundtruth: Ints, detections: Ints) -> ObjectTable:
    """Some of the rows. Matches are kept, so what is left out must be what the others' matches do not depend on.

    That is so for whole images, for whole categories, and for the detections below a confidence.

    Args:
      table: the object table.
      groundtruth, detections: int `[n]`, rows in their new order, which is by image.
    """
    new_object, new_detection = (
        _new_rows(rows, len(objects))
        for rows, objects in ((groundtruth, table.groundtruth), (detections, table.detections))
    )
    detection, groundtruth_row = new_detection[table.pairs.detection], new_object[table.pairs.groundtruth]
    kept = np.flatnonzero((detection >= 0) & (groundtruth_row >= 0))
    kept = kept[np.lexsort((groundtruth_row[kept], detection[kept]))]
    return dataclasses.replace(
        table,
        groundtruth=table.groundtruth.rows(groundtruth),
        detections=table.detections.rows(detections),
        pairs=Pairs(detection[kept], groundtruth_row[kept], table.pairs.iou[kept]),
        matches=Matches(
            new_object[table.matches.detection[detections]], new_detection[table.matches.groundtruth[groundtruth]]
        ),
    )


def with_confidence(table: ObjectTable, confidence: float | Floats) -> ObjectTable:
    """Without the detections whose score is below a confidence.

    Args:
      table: the object table.
      confidence: one for all, or float `[categories]`; -inf keeps all of a category.
    """
    return of_rows(table, np.arange(len(table.groundtruth)), np.flatnonzero(table.is_above(confidence)))


def with_stricter_nms(table: ObjectTable, iou: float, *, across_categories: bool = False) -> ObjectTable:
    """After a further non-maximum suppression, in each category.

    From the highest score on, a detection goes if its box overlaps that of a kept one of its image and category by
    more than `iou`. Boxes decide also where masks are matched, as in detectors. Of equal scores the first row stays.

    Args:
      table: the object table.
      iou: above 0, up to 1.
      across_categories: whether those of other categories count as well.

    Raises:
      ODEvalError: see `matched_anew`.
    """
    detections = table.detections
    cells = detections.image.astype(np.int64)
    if not across_categories:
        cells = cells * len(table.categories) + detections.category
    order = np.argsort(cells, kind="stable")
    better, worse = overlapping(detections, detections, cells, cells, iou, inclusive=False)
    # Of two the row that comes first has the higher score.
    is_pair = better < worse
    better, worse = better[is_pair], worse[is_pair]
    rank = np.empty(len(cells), np.int64)
    rank[order] = matching.rank_in_cell(cells[order])
    by_rank = np.argsort(rank[better], kind="stable")
    better, worse = better[by_rank], worse[by_rank]
    suppressed = np.zeros(len(cells), bool)
    # When a rank's turn comes, it is decided in all images and categories which of its detections are kept.
    for of_rank in np.split(np.arange(len(better)), np.flatnonzero(np.diff(rank[better])) + 1):
        suppressed[worse[of_rank[~suppressed[better[of_rank]]]]] = True
    return matched_anew(dataclasses.replace(table, detections=detections.rows(np.flatnonzero(~suppressed))))


def with_merged_categories(table: ObjectTable, merged: Mapping[str, Sequence[str]]) -> ObjectTable:
    """With one category in place of several, as if it had been evaluated from the start.

    Only the order of detections with equal scores in an image may be another: here those come first whose category did.

    Args:
      table: the object table.
      merged: name -> names of the categories that it replaces. It gets the id of the first of them in the table.

    Raises:
      ODEvalError: a category does not exist or is merged twice, or a name is taken; or see `matched_anew`.
    """
    names = list(table.categories.values())
    new_name: dict[str, str] = {}
    for name, members in merged.items():
        for member in members:
            check_category(table, member)
            if member in new_name:
                raise ODEvalError(f"the category '{named(member)}' is merged twice; name it once.")
            new_name[member] = name
    for name in merged:
        if name in names and new_name.get(name) != name:
            raise ODEvalError(f"there is a category '{named(name)}' that is not merged; choose another name.")
    renamed = [new_name.get(name, name) for name in names]
    remaining = list(dict.fromkeys(renamed))
    ids = list(table.categories)
    new_index = np.array([remaining.index(name) for name in renamed])
    groundtruth, detections = (
        dataclasses.replace(objects, category=new_index[objects.category])
        for objects in (table.groundtruth, table.detections)
    )
    categories = {ids[renamed.index(name)]: name for name in remaining}
    return matched_anew(
        dataclasses.replace(table, categories=categories, groundtruth=groundtruth, detections=detections)
    )


def without_suspects(table: ObjectTable, suspects: Iterable[Suspect]) -> ObjectTable:
    """With label suspects forgiven: nobody has to find a suspected object.

    The objects become difficult. The detections of suspects of the kind "missing" become uncounted: they are not wrong.
    Those of other kinds count as before: one that has another category than its suspected object stays wrong.

    Args:
      table: the object table, with all its pairs (`matched_anew`) if the suspects are to be complete.
      suspects: of this table, from `label_suspects`.

    Raises:
      ODEvalError: see `matched_anew`.
    """
    suspects = list(suspects)
    difficult = table.groundtruth.difficult
    difficult = np.zeros(len(table.groundtruth), bool) if difficult is None else difficult.copy()
    difficult[[suspect.groundtruth for suspect in suspects if suspect.groundtruth >= 0]] = True
    area = table.detections.area.copy()
    # `ObjectTable.uncounted` goes by the area.
    area[[suspect.detection for suspect in suspects if suspect.kind == "missing"]] = -1
    return matched_anew(
        dataclasses.replace(
            table,
            groundtruth=dataclasses.replace(table.groundtruth, difficult=difficult),
            detections=dataclasses.replace(table.detections, area=area),
        )
    )


def overlapping(
    first: Objects, second: Objects, first_cells: Ints, second_cells: Ints, iou: float, *, inclusive: bool
) -> tuple[Ints, Ints]:
    """The rows of all pairs of the same cell whose boxes overlap by an IoU, or by more than it if not `inclusive`.

    Args:
      first, second: the objects.
      first_cells, second_cells: int `[n]`, the cells of their rows: only those of the same one are compared.
      iou: above 0.
      inclusive: whether exactly this IoU is enough.

    Returns:
      Rows of `first` and rows of `second`, one of each for a pair.
    """
    _, cells = np.unique(np.concatenate((first_cells, second_cells)), return_inverse=True)
    first_order, first_objects = _by_cell(first, cells[: len(first)])
    second_order, second_objects = _by_cell(second, cells[len(first) :])
    pairs = matching.find_pairs("bbox", first_objects, second_objects, iou)
    if not inclusive:
        pairs = pairs.where(pairs.iou > iou)
    return first_order[pairs.groundtruth], second_order[pairs.detection]


def check_category(table: ObjectTable, name: str) -> None:
    """Raises an `ODEvalError` if the table has no category of this name."""
    names = list(table.categories.values())
    if name not in names:
        raise ODEvalError(f"there is no category '{named(name)}'{did_you_mean(name, names)}.")


def _by_cell(objects: Objects, cells: Ints) -> tuple[Ints, Objects]:
    """The rows in the order of their cells, and the boxes in this order, with the cell as their image."""
    order = np.argsort(cells, kind="stable")
    in_order = dataclasses.replace(objects, masks=None).rows(order)
    return order, dataclasses.replace(in_order, image=cells[order], crowd=np.zeros(len(order), bool))


def _new_rows(rows: Ints, num: int) -> npt.NDArray[np.int32]:
    """int32 `[num + 1]`: the new row of each; -1 for those that are left out, and for -1, which is the last."""
    new = np.full(num + 1, -1, np.int32)
    new[rows] = np.arange(len(rows), dtype=np.int32)
    return new
