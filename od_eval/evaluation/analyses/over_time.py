"""Objects followed through the evaluations of a run: which are learnt, lost again, flicker, or are never found.

    history = ObjectHistory.empty()
    for step, table in tables.items():
        history = add(history, step, table)
    objects_over_time(history)

An object is the same in two evaluations if id of the image, category and box, rounded to 0.01 pixel, are equal; of
several that are, the first is the same as the first, and so on. Crowds and difficult objects are left out. An object is
found if a detection matches it at an IoU of 0.50 and at the confidence with the highest F1 of that evaluation.

Many checkpoints are a better judge of labels than one: by chance a detector misses an object, or sees one, in an
evaluation or two, but rarely in all.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from od_eval.evaluation import matching
from od_eval.evaluation.analyses import operating_point
from od_eval.evaluation.analyses.dataset import dataset
from od_eval.evaluation.analyses.label_suspects import EXTRA_WEIGHT, Suspect, label_suspects
from od_eval.evaluation.columns import ImageId
from od_eval.evaluation.matching import IOU_THRESHOLDS, Floats, Ints
from od_eval.evaluation.object_table import ERROR_KINDS, ObjectTable
from od_eval.evaluation.objects import Objects
from od_eval.evaluation.options import AnalysisOptions

BOX = ["x", "y", "width", "height"]
STATUSES = ("learnt", "lost", "flickering", "never")
# An object that is learnt takes one change; one that is learnt and lost, two; one that slips once on the way, three.
# From four on it has come and gone twice, and no single evaluation explains that. Over many evaluations chance alone
# makes as many: an object that is found nine times in ten changes from one evaluation to the next with a probability of
# 2 × 0.9 × 0.1 = 0.18. So a fifth of what is possible have to be changes, too.
FLICKERING_CHANGES = 4
FLICKERING_RATE = 0.2
# A detection may be missing, or not be confident, in this many evaluations before it is at a place again.
MAX_GAP = 2
_POSITIVE = float(IOU_THRESHOLDS[operating_point.IOU_INDEX])


@dataclasses.dataclass(frozen=True)
class ObjectHistory:
    """What is known of the objects of a run after some evaluations.

    Attributes:
      steps: of the evaluations, in ascending order.
      fingerprints: of their evaluation sets, see `dataset`.
      confidences: with the highest F1 of each evaluation.
      images: ids; rows have the index of their image in it.
      categories: id -> name; rows have the index of their category in it.
      objects: a row an object: `image`, `category`, `x`, `y`, `width`, `height` (pixels), and `number` to tell objects
        apart that are equal otherwise.
      found: int8 `[objects, steps]`: 1 found, 0 missed, -1 not in the evaluation.
      score: float32 `[objects, steps]`: of the detection that matches the object, also below the confidence; NaN for
        none.
      iou: float32 `[objects, steps]`: of this detection and the object; NaN for none, and for a pair that the
        table does not have.
      unexplained: a row a detection and step: confident detections that overlap no object, the "missing" of
        `label_suspects`. `step`, `image`, `category`, the box, `score`, `suspicion`, and `place`: detections of
        different steps with the same number are at the same place. None of masks if the table has none, as when it was
        read from a file.
    """

    steps: Sequence[int]
    fingerprints: Sequence[str]
    confidences: Sequence[float]
    images: Sequence[ImageId]
    categories: Mapping[int, str]
    objects: pd.DataFrame
    found: npt.NDArray[np.int8]
    score: npt.NDArray[np.float32]
    iou: npt.NDArray[np.float32]
    unexplained: pd.DataFrame

    @staticmethod
    def empty() -> ObjectHistory:
        """Before the first evaluation."""
        box = {name: np.zeros(0) for name in BOX}
        row = {"image": np.zeros(0, np.int64), "category": np.zeros(0, np.int64), **box}
        objects = pd.DataFrame({**row, "number": np.zeros(0, np.int64)})
        unexplained = pd.DataFrame(
            {
                "step": np.zeros(0, np.int64),
                **row,
                "score": np.zeros(0),
                "suspicion": np.zeros(0),
                "place": np.zeros(0, np.int64),
            }
        )
        numbers = np.zeros((0, 0), np.float32)
        return ObjectHistory([], [], [], [], {}, objects, np.zeros((0, 0), np.int8), numbers, numbers, unexplained)


def add(history: ObjectHistory, step: int, table: ObjectTable) -> ObjectHistory:
    """The history with one more evaluation; an earlier one of the same step is replaced.

    Args:
      history: of the other evaluations, in whatever order they were added.
      step: of the evaluation.
      table: the object table.
    """
    history = without(history, [step])
    image_index = {id: index for index, id in enumerate(history.images)}
    for id in table.images:
        image_index.setdefault(id, len(image_index))
    history = dataclasses.replace(
        history, images=list(image_index), categories={**history.categories, **table.categories}
    )

    observed = _observed(history, table)
    known = _index(history.objects)
    row = known.get_indexer(_index(observed))
    is_new = row < 0
    row[is_new] = len(known) + np.arange(is_new.sum())
    objects = pd.concat([history.objects, observed[is_new]], ignore_index=True) if is_new.any() else history.objects

    kept = np.flatnonzero(~table.ignored)
    confidence = operating_point.choose(operating_point.cuts(table), AnalysisOptions()).confidence
    score = table.matched_score[kept, operating_point.IOU_INDEX]
    values: dict[str, npt.NDArray[Any]] = {
        "found": (score >= confidence).astype(np.int8),
        "score": np.where(np.isfinite(score), score, np.nan).astype(np.float32),
        "iou": _matched_iou(table)[kept].astype(np.float32),
    }
    position = bisect.bisect_left(history.steps, step)
    matrices: dict[str, Any] = {}
    for name, of_step in values.items():
        absent = -1 if name == "found" else np.nan
        before = getattr(history, name)
        matrix = np.full((len(objects), len(history.steps) + 1), absent, before.dtype)
        matrix[: len(known)] = np.insert(before, position, np.full(len(known), absent, before.dtype), axis=1)
        matrix[row, position] = of_step
        matrices[name] = matrix

    steps = _with(history.steps, position, step)
    unexplained = pd.concat([history.unexplained, _unexplained(history, step, table)], ignore_index=True)
    return dataclasses.replace(
        history,
        steps=steps,
        fingerprints=_with(history.fingerprints, position, dataset(table)["fingerprint"]),
        confidences=_with(history.confidences, position, confidence),
        objects=objects,
        unexplained=_placed(unexplained.sort_values("step", kind="stable", ignore_index=True), steps, step),
        **matrices,
    )


def without(history: ObjectHistory, steps: Collection[int]) -> ObjectHistory:
    """The history without some evaluations, and without the objects that were in no other."""
    dropped = [step for step in history.steps if step in steps]
    if not dropped:
        return history
    of_steps = ~np.isin(history.steps, dropped)
    kept_steps = [step for step in history.steps if step not in dropped]
    there = (history.found[:, of_steps] >= 0).any(axis=1)
    unexplained = history.unexplained[~history.unexplained["step"].isin(dropped)].reset_index(drop=True)
    return dataclasses.replace(
        history,
        steps=kept_steps,
        fingerprints=list(itertools.compress(history.fingerprints, of_steps)),
        confidences=list(itertools.compress(history.confidences, of_steps)),
        objects=history.objects[there].reset_index(drop=True),
        found=history.found[there][:, of_steps],
        score=history.score[there][:, of_steps],
        iou=history.iou[there][:, of_steps],
        unexplained=_placed(unexplained, kept_steps, min(dropped)),
    )


def objects_over_time(history: ObjectHistory) -> pd.DataFrame:
    """A row for each object: when it was learnt and lost.

    Columns:

    * `image_id` (if some are ints and some texts, all are texts), `category` (its name), `x`, `y`, `width`,
      `height` in pixels.
    * `first_found`: the first step at which it is found. `learnt_at`: the first step from which on it is found in every
      evaluation. `lost_at`: it was found before, and is missed from this step on to the newest. Int64; NA for none.
    * `num_changes`: how often it was found and then missed, or the other way. `num_found`, `num_steps`: in how many
      evaluations it is found, and is at all.
    * `status`: `never` found; `flickering` (`FLICKERING_CHANGES` changes or more, and no fewer than
      `FLICKERING_RATE` × (`num_steps` − 1)); else `learnt` or `lost`.

    Its `attrs`: `steps` (of the evaluations), `num_evaluation_sets` (by their fingerprints), `num_not_in_all`
    (objects that are not in all evaluations; they are followed over those in which they are).
    """
    followed = _followed(history)
    never = followed.num_found == 0
    num_steps = (history.found >= 0).sum(axis=1)
    flickers = followed.num_changes >= np.maximum(FLICKERING_CHANGES, FLICKERING_RATE * (num_steps - 1))
    status = np.select(
        [never, flickers, followed.is_found],
        [STATUSES.index(name) for name in ("never", "flickering", "learnt")],
        STATUSES.index("lost"),
    )
    objects = history.objects
    ids = list(history.images)
    if not all(isinstance(id, int) for id in ids):
        ids = list(map(str, ids))
    rows = pd.DataFrame(
        {
            "image_id": pd.Series(ids, dtype=None if ids else object).take(objects["image"]).array,
            "category": _names(history, objects["category"].to_numpy()),
            **{name: objects[name] for name in BOX},
            "first_found": _steps(followed.first_found, ~never),
            "learnt_at": _steps(followed.since, followed.is_found),
            "lost_at": _steps(followed.since, ~followed.is_found & ~never),
            "num_changes": followed.num_changes,
            "num_found": followed.num_found,
            "num_steps": num_steps,
            "status": pd.Categorical.from_codes(status, STATUSES),
        }
    )
    rows.attrs = {
        "steps": list(history.steps),
        "num_evaluation_sets": len(set(history.fingerprints)),
        "num_not_in_all": int((history.found < 0).any(axis=1).sum()),
    }
    return rows


def counts_per_category(objects: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Name of a category -> status -> number of objects, of all categories that have objects.

    Args:
      objects: of `objects_over_time`.
    """
    table = pd.crosstab(objects["category"].astype(str), objects["status"].astype(str))
    table = table.reindex(columns=list(STATUSES), fill_value=0)
    return {str(name): {status: int(num) for status, num in row.items()} for name, row in table.iterrows()}


def persistent_suspects(history: ObjectHistory, table: ObjectTable, last: int = 3) -> list[Suspect]:
    """Labels that many evaluations disagree with, most suspicious first.

    - missing: confident detections that overlap no object stay at the same place: of the same image and category, with
      an IoU of 0.50 or more from step to step; in up to `MAX_GAP` evaluations between there may be none. `score` is
      their mean. The newest evaluation has to have a detection there that overlaps no object, of whatever score.
    - extra: an object is missed in the last evaluations, `last` or more, and in the newest no used detection means it
      in a wrong place or category.

    They are ranked by the number of evaluations, and then by the mean of what `label_suspects` calls the standing of
    the detections, or by how little the scores are that match the object. Suspicion of "missing": (evaluations − 1 +
    mean standing) ÷ all evaluations. Of "extra": `EXTRA_WEIGHT` × recall of its category × (evaluations − 1 + 1 − mean
    score) ÷ all evaluations, where what matches nothing has score 0.

    Args:
      history: of all evaluations.
      table: the object table of the newest, to which the rows of the suspects refer.
      last: how many evaluations at the end an object is missed in.
    """
    if not history.steps:
        return []
    suspects = [*_persistently_missing(history, table, last), *_persistently_extra(history, table, last)]
    return sorted(suspects, key=lambda suspect: -suspect.suspicion)


def _persistently_missing(history: ObjectHistory, table: ObjectTable, last: int) -> list[Suspect]:
    unexplained = history.unexplained
    places = unexplained.groupby("place").agg(
        **{name: (name, "last") for name in ("step", "image", "category", *BOX)},
        num=("step", "size"),
        score=("score", "mean"),
        standing=("suspicion", "mean"),
    )
    table_image = {id: index for index, id in enumerate(table.images)}
    places["image"] = [table_image.get(history.images[image], -1) for image in places["image"]]
    recent = places["step"] >= history.steps[max(len(history.steps) - last, 0)]
    places = places[recent & (places["image"] >= 0)].sort_values("image", kind="stable")

    rows = np.flatnonzero(table.errors[0] == ERROR_KINDS.index("background"))
    detections = table.detections.rows(rows)
    history_category = _category_index(history, table)
    detections = dataclasses.replace(detections, category=history_category[detections.category])
    place, detection, _ = _same_place(_as_objects(places), detections)
    num, score, standing = (places[name].to_numpy()[place] for name in ("num", "score", "standing"))
    suspicion = (num - 1 + standing) / len(history.steps)
    chosen: list[Suspect] = []
    taken_places: set[int] = set()
    taken_detections: set[int] = set()
    # The best detection of a place is the one with the highest score: the first of the image.
    for index in np.lexsort((detection, -suspicion)).tolist():
        at, row = int(place[index]), int(rows[detection[index]])
        if at not in taken_places and row not in taken_detections:
            taken_places.add(at)
            taken_detections.add(row)
            image = int(table.detections.image[row])
            chosen.append(Suspect("missing", image, row, -1, float(score[index]), 0.0, float(suspicion[index])))
    return chosen


def _persistently_extra(history: ObjectHistory, table: ObjectTable, last: int) -> list[Suspect]:
    confidence = history.confidences[-1]
    is_missed = table.errors_of(table.is_above(confidence))[1] == ERROR_KINDS.index("missed")
    kept = np.flatnonzero(~table.ignored)
    of_kept = _index(history.objects).get_indexer(_index(_observed(history, table)))
    followed = _followed(history)
    stays = is_missed[kept] & (of_kept >= 0) & (followed.num_since[of_kept] >= last) & ~followed.is_found[of_kept]
    rows, objects = kept[stays], of_kept[stays]

    category = table.groundtruth.category
    found = np.bincount(
        category[table.is_found(confidence)[:, operating_point.IOU_INDEX] & ~table.ignored],
        minlength=len(table.categories),
    )
    recall = (found / np.maximum(table.num_groundtruth, 1))[category[rows]]
    num = followed.num_since[objects]
    suspicion = EXTRA_WEIGHT * recall * (num - followed.sum_score[objects] / num) / len(history.steps)
    return [
        Suspect("extra", int(table.groundtruth.image[row]), -1, int(row), None, 0.0, float(value))
        for row, value in zip(rows, suspicion, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class _Followed:
    """What happened to each object over the evaluations that have it; arrays `[objects]`.

    is_found: in the newest. since: the first step from which on this has not changed. num_since: the number of
    evaluations from then on. sum_score: the sum of the scores that matched in these.
    """

    first_found: Ints
    is_found: npt.NDArray[np.bool_]
    since: Ints
    num_since: Ints
    sum_score: Floats
    num_changes: Ints
    num_found: Ints


def _followed(history: ObjectHistory) -> _Followed:
    num = len(history.objects)
    state = np.full(num, -1, np.int8)
    first_found, since, num_since, num_changes, num_found = np.zeros((5, num), np.int64)
    sum_score = np.zeros(num)
    for index, step in enumerate(history.steps):
        found, score = history.found[:, index], np.nan_to_num(history.score[:, index].astype(float))
        there = found >= 0
        begins = there & (found != state)
        num_changes += begins & (state >= 0)
        first_found[(found == 1) & (num_found == 0)] = step
        num_found += found == 1
        since[begins] = step
        num_since = np.where(begins, 1, num_since + there)
        sum_score = np.where(begins, score, sum_score + score)
        state = np.where(there, found, state)
    return _Followed(first_found, state == 1, since, num_since, sum_score, num_changes, num_found)


def _with(values: Sequence[Any], position: int, value: Any) -> list[Any]:
    return [*values[:position], value, *values[position:]]


def _observed(history: ObjectHistory, table: ObjectTable) -> pd.DataFrame:
    """The objects of a table that are not ignored, as rows of `ObjectHistory.objects`."""
    kept = ~table.ignored
    objects = _rows(history, table, table.groundtruth.rows(np.flatnonzero(kept)))
    keys = objects.assign(**dict(zip(BOX, _hundredths(objects), strict=True)))
    objects["number"] = keys.groupby(["image", "category", *BOX]).cumcount().to_numpy(np.int64)
    return objects


def _rows(history: ObjectHistory, table: ObjectTable, objects: Objects) -> pd.DataFrame:
    """Image, category and box, with the indices of the history."""
    image_index = {id: index for index, id in enumerate(history.images)}
    images = np.array([image_index.get(id, -1) for id in table.images], np.int64)
    box = {name: objects.box[:, index].astype(float) for index, name in enumerate(BOX)}
    category = _category_index(history, table)[objects.category]
    return pd.DataFrame({"image": images[objects.image], "category": category, **box})


def _category_index(history: ObjectHistory, table: ObjectTable) -> Ints:
    """int64 `[categories]` of the table: the index in the history."""
    index = {id: index for index, id in enumerate(history.categories)}
    return np.array([index.get(id, -1) for id in table.categories], np.int64)


def _index(objects: pd.DataFrame) -> pd.MultiIndex:
    box = _hundredths(objects)
    arrays = [objects["image"].to_numpy(), objects["category"].to_numpy(), *box, objects["number"].to_numpy()]
    return pd.MultiIndex.from_arrays(arrays)


def _hundredths(objects: pd.DataFrame) -> list[Ints]:
    """The box in whole hundredths of a pixel."""
    return [np.rint(np.clip(100 * objects[name].to_numpy(), -(2.0**62), 2.0**62)).astype(np.int64) for name in BOX]


def _matched_iou(table: ObjectTable) -> Floats:
    """float64 `[objects]`: the IoU with the detection that matches the object; NaN for none, or if it is not known."""
    pairs = table.pairs
    matched = table.matches.groundtruth[pairs.groundtruth, operating_point.IOU_INDEX] == pairs.detection
    iou = np.full(len(table.groundtruth), np.nan)
    iou[pairs.groundtruth[matched]] = pairs.iou[matched]
    return iou


def _unexplained(history: ObjectHistory, step: int, table: ObjectTable) -> pd.DataFrame:
    has_masks = table.iou_type == "bbox" or table.detections.masks is not None
    missing = sorted(
        (suspect for suspect in (label_suspects(table) if has_masks else []) if suspect.kind == "missing"),
        key=lambda suspect: suspect.detection,
    )
    detections = table.detections.rows(np.array([suspect.detection for suspect in missing], np.int64))
    rows = _rows(history, table, detections)
    rows.insert(0, "step", np.full(len(rows), step, np.int64))
    rows["score"] = np.array([suspect.score for suspect in missing], float)
    rows["suspicion"] = np.array([suspect.suspicion for suspect in missing], float)
    rows["place"] = np.full(len(rows), -1, np.int64)
    return rows.sort_values("image", kind="stable", ignore_index=True)


def _placed(unexplained: pd.DataFrame, steps: Sequence[int], first_step: int) -> pd.DataFrame:
    """The same rows with places for those from `first_step` on; those before have theirs."""
    place = unexplained["place"].to_numpy(copy=True)
    step = unexplained["step"].to_numpy()
    next_place = place[step < first_step].max(initial=-1) + 1
    for index in range(bisect.bisect_left(steps, first_step), len(steps)):
        rows = np.flatnonzero(step == steps[index])
        earlier = np.flatnonzero((step < steps[index]) & (step >= steps[max(index - 1 - MAX_GAP, 0)]))
        # Of each place the newest row.
        newest = earlier[::-1][np.unique(place[earlier][::-1], return_index=True)[1]]
        newest = newest[np.argsort(unexplained["image"].to_numpy()[newest], kind="stable")]
        before, now = _as_objects(unexplained.iloc[newest]), _as_objects(unexplained.iloc[rows])
        place[rows] = -1
        taken: set[int] = set()
        of_before, of_now, iou = _same_place(before, now)
        for pair in np.argsort(-iou, kind="stable").tolist():
            row, at = int(rows[of_now[pair]]), int(place[newest[of_before[pair]]])
            if place[row] < 0 and at not in taken:
                place[row] = at
                taken.add(at)
        new = rows[place[rows] < 0]
        place[new] = next_place + np.arange(len(new))
        next_place += len(new)
    return unexplained.assign(place=place)


def _as_objects(rows: pd.DataFrame) -> Objects:
    box = rows[BOX].to_numpy(float)
    image, category = rows["image"].to_numpy(np.int64), rows["category"].to_numpy(np.int64)
    return Objects(image, category, box, box[:, 2] * box[:, 3], crowd=np.zeros(len(rows), bool))


def _same_place(one: Objects, other: Objects) -> tuple[Ints, Ints, Floats]:
    """Rows of both of the same image and category whose boxes have an IoU of 0.50 or more, and the IoU."""
    pairs = matching.find_pairs("bbox", one, other, _POSITIVE)
    pairs = pairs.where(one.category[pairs.groundtruth] == other.category[pairs.detection])
    return pairs.groundtruth, pairs.detection, pairs.iou


def _names(history: ObjectHistory, category: Ints) -> pd.Categorical:
    """The names of categories; two of the same name are one."""
    names = list(dict.fromkeys(history.categories.values()))
    code = np.array([names.index(name) for name in history.categories.values()], np.int64)
    return pd.Categorical.from_codes(code[category], names)


def _steps(step: Ints, there: npt.NDArray[np.bool_]) -> pd.Series[int]:
    return pd.Series(step, dtype="Int64").where(there)
