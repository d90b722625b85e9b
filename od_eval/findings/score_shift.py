"""How sure a trained model is of images from where it is to be used, against images it was evaluated on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from od_eval.findings.data_checks.differences import ALPHA, LARGE, SAME_PART, Values, difference
from od_eval.findings.finding import Finding
from od_eval.text import named

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def different_scores(
    known_name: str, known: tuple[Floats, Ints], name: str, new: tuple[Floats, Ints], model: str, confidence: float
) -> Iterator[Finding]:
    """A finding if the scores of a model on new images differ from those on known ones more than chance explains.

    Args:
      known_name: what the known images are in messages: `eval_input_reader[0]`.
      known: of each of them the highest score `[n]`, and how many detections have at least the confidence, `[n]`.
      name, new: the same of the new images.
      model: what it is in messages: `ckpt-12`.
      confidence: from which detections are used.
    """
    if not len(known[0]) or not len(new[0]):
        return
    tests = [
        difference(_values(known[0]), _values(new[0]), tolerance=SAME_PART),
        difference(_values(known[1]), _values(new[1])),
    ]
    p_value = min(test.p_value for test in tests) * len(tests)  # Bonferroni
    effect = max(test.effect for test in tests)
    if p_value > ALPHA:
        return
    best = [float(np.median(one[0])) for one in (known, new)]
    used = [float(one[1].mean()) for one in (known, new)]
    yield Finding(
        "different_scores",
        "warning" if effect >= LARGE else "note",
        name,
        f"the scores of {named(model)} differ from those in {known_name}: the median of the highest score in an image"
        f" is {best[1]:.2f} instead of {best[0]:.2f}, and {used[1]:.2g} instead of {used[0]:.2g} detections per image"
        f" have a score of {confidence:.2f} or more ({len(new[0])} images here and {len(known[0])} there,"
        f" Kolmogorov–Smirnov distance {effect:.2f}, p {'< 0.001' if p_value < 0.001 else f'= {p_value:.3f}'})",
        "label some of these images, evaluate on them, and train on images like them",
        cause="as on images that are unlike those it was trained on, or show more or fewer objects, so that its AP may"
        " not hold here",
        sureness="likely",
        evidence={
            "median_best_score": best,
            "detections_per_image": used,
            "confidence": confidence,
            "effect": effect,
            "p_value": p_value,
        },
        impact=effect,
    )


def _values(of_images: Floats | Ints) -> Values:
    return Values(np.arange(len(of_images)), of_images.astype(np.float64))
