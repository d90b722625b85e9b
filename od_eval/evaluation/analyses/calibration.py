"""Calibration: whether a score of 0.8 means that the detection is right in 80% of all cases.

A detection is right if it is a true positive at an IoU of 0.50. Detections that are neither right nor wrong do not
count; all others do, also those beyond COCO's 100.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from od_eval.evaluation.matching import Floats
from od_eval.evaluation.object_table import ObjectTable

# Ten bins of equal width, as in reliability diagrams since Guo et al., On Calibration of Modern Neural Networks,
# ICML 2017. Bins of equal width leave the few high scores of a detector, which users act on, bins of their own; bins of
# equal number would all lie near 0.
NUM_BINS = 10

# Scores from here on say that a detection is nearly certain.
CONFIDENT_SCORE = 0.9
# A calibrated detector is right in at least 90% of these. Below 75% it is wrong at least 2.5 times as often as it says.
LEAST_PRECISION = 0.75
# How probable it may be that chance explains the finding. Stricter than the usual 0.05, as detections of one image are
# not independent. At least five detections are needed: 0.25⁵ < 0.001.
MAX_P_VALUE = 0.001


@dataclasses.dataclass(frozen=True)
class Bin:
    """The detections with a score from `low` up to, but without, `high`; the last bin includes 1.

    num: the number of detections.
    mean_score, precision: their mean score and the part that is right; None without detections.
    """

    low: float
    high: float
    num: int
    mean_score: float | None
    precision: float | None


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Calibration of the detections of all categories together.

    ece: the expected calibration error, 0 to 1: the mean over detections of |mean score − precision| of their bin; None
      if it is not defined.
    bins: of the reliability diagram, in ascending order; empty if `ece` is None.
    reason: why `ece` is None; "" otherwise.
    """

    ece: float | None
    bins: list[Bin]
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data by name."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Overconfidence:
    """A detector that is confident even when it is wrong.

    num, num_right: the detections with a score of at least `CONFIDENT_SCORE`, and how many of them are right.
    mean_score: of these detections.
    p_value: the probability of so few right ones, or fewer, if each were right with probability `LEAST_PRECISION`.
    """

    num: int
    num_right: int
    mean_score: float
    p_value: float

    @property
    def precision(self) -> float:
        return self.num_right / self.num


def calibration(table: ObjectTable) -> Calibration:
    """The expected calibration error and the reliability diagram in `NUM_BINS` bins.

    Args:
      table: the object table.
    """
    score, right = _counted(table)
    if not len(score):
        return Calibration(None, [], "no detection is right or wrong")
    if score.min() < 0 or score.max() > 1:
        return Calibration(None, [], f"scores are not in [0, 1] but from {score.min():.4g} to {score.max():.4g}")
    bin_of_row = np.minimum((score * NUM_BINS).astype(int), NUM_BINS - 1)
    num = np.bincount(bin_of_row, minlength=NUM_BINS)
    sum_of_scores = np.bincount(bin_of_row, score, NUM_BINS)
    num_right = np.bincount(bin_of_row, right, NUM_BINS)
    bins = [
        Bin(
            low=index / NUM_BINS,
            high=(index + 1) / NUM_BINS,
            num=int(num[index]),
            mean_score=float(sum_of_scores[index] / num[index]) if num[index] else None,
            precision=float(num_right[index] / num[index]) if num[index] else None,
        )
        for index in range(NUM_BINS)
    ]
    return Calibration(float(np.abs(sum_of_scores - num_right).sum() / len(score)), bins)


def overconfidence(table: ObjectTable) -> Overconfidence | None:
    """Whether the detector is confident even when it is wrong.

    It is if, of the detections with a score of at least `CONFIDENT_SCORE`, so few are right that an exact binomial test
    rejects a precision of `LEAST_PRECISION` or more at the level `MAX_P_VALUE`.

    Args:
      table: the object table.

    Returns:
      The numbers for a finding; None if it is not, or if scores are not in [0, 1].
    """
    score, right = _counted(table)
    if not len(score) or score.min() < 0 or score.max() > 1:
        return None
    confident = score >= CONFIDENT_SCORE
    num, num_right = int(confident.sum()), int(right[confident].sum())
    if not num:
        return None
    p_value = _binomial_at_most(num_right, num, LEAST_PRECISION)
    if p_value > MAX_P_VALUE:
        return None
    return Overconfidence(num, num_right, float(score[confident].mean()), p_value)


def _counted(table: ObjectTable) -> tuple[Floats, Floats]:
    """The scores of the detections that are right or wrong, and 1 for right and 0 for wrong ones."""
    right = table.true_positive[:, 0]
    counts = right | table.false_positive[:, 0]
    return table.score[counts], right[counts].astype(np.float64)


def _binomial_at_most(successes: int, num: int, probability: float) -> float:
    """The probability of at most so many successes in `num` trials."""
    numbers = np.arange(1, successes + 1)
    # Logarithms, as the terms themselves are below the smallest float.
    ratios = np.log((num - numbers + 1) / numbers) + np.log(probability / (1 - probability))
    terms = num * np.log(1 - probability) + np.concatenate(([0.0], np.cumsum(ratios)))
    highest = terms.max()
    return min(1.0, float(np.exp(highest + np.log(np.exp(terms - highest).sum()))))
