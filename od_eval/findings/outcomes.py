"""What of an evaluation's detections is right, and which of its objects are found, at the confidence that is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from od_eval.evaluation.result import EvaluationResult
from od_eval.text import named

if TYPE_CHECKING:
    from od_eval.findings.evidence import Evidence

# With findings go the images to look at first; nobody looks at more.
MAX_IMAGES = 50
# Before half of the training is over, a detector that is still bad is no finding.
_EARLY = 0.5


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The object table of an evaluation, judged at a confidence and an IoU of 0.50.

    The tables have the columns of `od_eval.evaluation.object_columns.as_pandas`, `category` as text, and its rows as
    index: `iou_row` of a detection is in the index of `labels`.

    Attributes:
      confidence: detections with this score or more are used.
      detections: all that are right or wrong, also unused ones; those that match ignored objects are neither. Further
        columns: `right`, `used`.
      labels: all objects, also ignored ones.
      objects: those of them that are not ignored. Further column: `found`, by a detection that is used.
    """

    confidence: float
    detections: pd.DataFrame
    labels: pd.DataFrame
    objects: pd.DataFrame

    @property
    def used(self) -> pd.DataFrame:
        """The detections that are used."""
        return self.detections[self.detections["used"]]

    @property
    def right(self) -> pd.DataFrame:
        """The detections that are used and right."""
        used = self.used
        return used[used["right"]]

    @property
    def wrong(self) -> pd.DataFrame:
        """The detections that are used and wrong."""
        used = self.used
        return used[~used["right"]]

    @property
    def precision(self) -> float:
        """The part of the detections used that is right; 0 without any."""
        return float(self.used["right"].mean()) if len(self.used) else 0.0

    @property
    def recall(self) -> float:
        """The part of the objects that is found; 0 without any."""
        return float(self.objects["found"].mean()) if len(self.objects) else 0.0


def judged(table: pd.DataFrame | None, newest: EvaluationResult | None) -> Outcomes | None:
    """The objects of an evaluation, judged at its operating point; None without objects.

    Without an operating point the confidence is that with the highest F1.

    Args:
      table: of `od_eval.evaluation.object_columns.as_pandas`.
      newest: the evaluation.
    """
    if table is None or not len(table):
        return None
    table = table.reset_index(drop=True)
    table["category"] = table["category"].astype(object)
    is_detection = (table["kind"] == "detection").to_numpy()
    match = table["match_50"].to_numpy()
    ignored = table["ignored"].to_numpy()
    # The value at the end is that of row -1.
    right = is_detection & (match >= 0) & ~np.append(ignored, True)[match]
    wrong = is_detection & (match < 0) & ~ignored
    detections = table[right | wrong].assign(right=right[right | wrong])
    labels = table[~is_detection]
    objects = labels[~labels["ignored"]]
    if not len(objects):
        return None
    point = newest.operating_point if newest else {}
    confidence = point["confidence"] if point else best_confidence(detections, len(objects))
    score = np.append(table["score"].to_numpy(), -np.inf)
    return Outcomes(
        confidence=confidence,
        detections=detections.assign(used=detections["score"] >= confidence),
        labels=labels,
        objects=objects.assign(found=score[objects["match_50"].to_numpy()] >= confidence),
    )


def is_early(evidence: Evidence) -> bool:
    """Whether the newest evaluation is of the first half of a training, where a healthy detector may be bad as well.

    A training that early stopping ended is never early.
    """
    step = evidence.newest.step if evidence.newest else None
    return (
        step is not None
        and evidence.last_step is not None
        and not evidence.stopped_early
        and step < _EARLY * evidence.last_step
    )


def best_confidence(detections: pd.DataFrame, num_objects: int) -> float:
    """The confidence with the highest F1; of several the highest. 0.5 if no detection is right.

    Args:
      detections: with `score` and `right`.
      num_objects: how many are to be found.
    """
    right = detections.groupby("score")["right"].agg(["sum", "count"]).sort_index(ascending=False).cumsum()
    f1 = 2 * right["sum"] / (num_objects + right["count"])
    return float(f1.idxmax()) if f1.max() > 0 else 0.5


def images_of(rows: pd.DataFrame) -> list[int | str]:
    """The ids of the images of rows of a table, in their order, each once; at most `MAX_IMAGES`."""
    ids: list[int | str] = rows["image_id"].drop_duplicates().head(MAX_IMAGES).tolist()
    return ids


def clearest_first(detections: pd.DataFrame) -> list[int | str]:
    """The ids of the images of detections, those with the highest scores first."""
    return images_of(detections.sort_values("score", ascending=False, kind="stable"))


def most_first(rows: pd.DataFrame) -> list[int | str]:
    """The ids of the images of rows, those with the most rows first."""
    ids: list[int | str] = rows["image_id"].value_counts().head(MAX_IMAGES).index.tolist()
    return ids


def percent(share: float) -> str:
    """A share in percent, with a decimal where it is below 10%: `4.2%`, `37%`, `0%`."""
    return f"{100 * share:.1f}%" if 0 < share < 0.0995 else f"{100 * share:.0f}%"


def cost(evidence: Evidence, kind: str, category: str | None = None) -> float:
    """The AP at IoU 0.50 that a kind of errors costs (`evaluation.analyses.error_costs`); 0 where it is unknown."""
    errors = evidence.newest.errors if evidence.newest else {}
    if category is not None:
        errors = errors.get("per_category", {}).get(category, {})
    return max(float(errors.get(kind) or 0.0), 0.0)


def names_with_shares(shares: Iterable[tuple[str, float]]) -> str:
    """Names with what share they have: `'cat' (40%), 'dog' (12%)`."""
    return ", ".join(f"'{named(name)}' ({percent(share)})" for name, share in shares)
