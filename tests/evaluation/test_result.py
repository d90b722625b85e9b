"""An EvaluationResult to JSON and back, and into the logs of Keras."""

from __future__ import annotations

import copy
import html
import json
import math
import pickle
import re

import numpy as np
import pytest

from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS

METRICS = {name: 0.1 * place + 1e-17 for place, name in enumerate(COCO_METRICS)}
FULL = EvaluationResult(
    num_images=40,
    bbox={**METRICS, "APs": None},
    segm={**METRICS, "AP": 1 / 3},
    per_category={"cat": {**METRICS, "num_groundtruth": 3, "num_detections": 5, "segm": METRICS}},
    per_super_category={"animal": {**METRICS, "APl": None, "num_groundtruth": 3, "num_detections": 5}},
    losses={"total_loss": 1.1, "Loss/classification_loss": 5e-324},
    other={"Panoptic/PQ": 0.7},
    findings=[{"kind": "objects_dropped", "severity": "warning", "evidence": {"lost": 4}}],
    step=1000,
    checkpoint="runs/a/ckpt-3",
)


def through_json(result: EvaluationResult) -> EvaluationResult:
    return EvaluationResult.from_json_dict(json.loads(json.dumps(result.to_json_dict(), allow_nan=False)))


@pytest.mark.parametrize(
    "result",
    [
        FULL,
        EvaluationResult(num_images=1),
        EvaluationResult(num_images=1, bbox=dict.fromkeys(COCO_METRICS), step=0),
        EvaluationResult(num_images=1, losses={"a": math.nan, "b": -math.inf, "c": 1.0}, other={"d": math.inf}),
        EvaluationResult(num_images=np.int64(1), losses={"a": np.float32(0.1)}, step=np.int32(5)),
    ],
)
def test_a_result_comes_back_from_json_as_it_was(result) -> None:
    assert through_json(result) == result
    assert through_json(through_json(result)).to_json_dict() == result.to_json_dict()


def test_json_has_the_sections_of_the_design() -> None:
    assert list(FULL.to_json_dict()) == [
        "step", "checkpoint", "num_images", "losses", "bbox", "segm", "per_category", "per_super_category", "other",
        "findings",
    ]  # fmt: skip
    assert EvaluationResult(num_images=3).to_json_dict() == {
        "step": None, "checkpoint": None, "num_images": 3, "losses": {}, "bbox": None, "per_category": {},
    }  # fmt: skip


def test_sections_that_are_not_known_are_passed_over() -> None:
    assert EvaluationResult.from_json_dict({**FULL.to_json_dict(), "of the future": {"ECE": 0.1}}) == FULL


def test_numbers_are_plain_and_what_is_not_finite_is_nan() -> None:
    result = EvaluationResult(num_images=1, losses={"a": np.float32(0.1), "b": np.inf})
    assert type(result.losses["a"]) is float
    assert result.losses["a"] == float(np.float32(0.1))
    assert math.isnan(result.losses["b"])
    assert result.to_json_dict()["losses"]["b"] is None


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"num_images": "many"},
        {"num_images": 1, "losses": 3},
        {"num_images": 1, "losses": {"a": "x"}},
        {"num_images": 1, "per_category": ["cat"]},
    ],
)
def test_what_is_no_result_is_an_error(sections) -> None:
    with pytest.raises(ValueError, match="not the result"):
        EvaluationResult.from_json_dict(sections)


def test_log_values_are_flat_and_without_what_is_not_defined() -> None:
    logs = FULL.log_values()
    assert logs["total_loss"] == 1.1
    assert logs["AP50"] == METRICS["AP50"]
    assert logs["segm_AP"] == 1 / 3
    assert logs["Panoptic/PQ"] == 0.7
    assert "APs" not in logs
    assert len(logs) == 2 + 11 + 12 + 1
    assert all(type(value) is float for value in logs.values())


def test_a_loss_that_diverged_is_nan_in_the_logs() -> None:
    assert math.isnan(EvaluationResult(num_images=1, losses={"total_loss": math.inf}).log_values()["total_loss"])


def test_a_result_is_true_cannot_be_changed_and_can_be_copied() -> None:
    assert EvaluationResult(num_images=1)
    with pytest.raises(AttributeError, match="cannot be changed"):
        FULL.step = 5
    assert copy.deepcopy(FULL) == pickle.loads(pickle.dumps(FULL)) == FULL


HOSTILE = "<script>alert(1)</script>\u202e"


def test_a_notebook_shows_metrics_intervals_counts_the_worst_categories_and_findings():
    names = [f"category {index}" for index in range(12)] + [HOSTILE]
    of_category = {"num_groundtruth": 3, "num_detections": 5}
    result = EvaluationResult(
        num_images=40,
        step=1000,
        bbox={**METRICS, "AP": 0.61, "AP50": 0.72},
        per_category={name: {**METRICS, **of_category, "AP": 0.9 - 0.05 * at} for at, name in enumerate(names)},
        intervals={"AP": [0.55, 0.66], "AP50": None, "F1": [0.1, 0.2], "per_category": {HOSTILE: {"AP": [0.2, 0.4]}}},
        operating_point={
            "confidence": 0.5,
            "iou": 0.5,
            "bbox": {
                **{"tp": 31, "fp": 5, "fn": 8, "num_detections": 36, "num_groundtruth": 39},
                **{"precision": 31 / 36, "recall": 31 / 39, "f1": 62 / 75},
            },
        },
        findings=[{"severity": "warning", "sentence": f"‘{HOSTILE}’ has no objects."}],
    )
    shown = result._repr_html_()
    text = html.unescape(re.sub("<[^>]*>", " ", shown))
    text = " ".join(text.split())
    assert "40 images, step 1000" in text
    assert "AP 0.6100 0.5500 to 0.6600 AP50 0.7200 -" in text
    assert "F1 0.8267 0.1000 to 0.2000" in text
    assert "31 of 36 detections are right (precision 0.8611), 31 of 39 objects are found (recall 0.7949)" in text
    # The worst first, and only ten of thirteen.
    worst = "<script>alert(1)</script>\\u202e"
    assert f"{worst} 0.3000 0.2000 to 0.4000 3 category 11 0.3500 - 3" in text
    assert "3 more categories" in text
    assert "category 2 " not in text
    assert f"warning : ‘{worst}’ has no objects." in text
    assert "<script" not in shown
    assert "\u202e" not in shown
    assert shown.count("<table>") == shown.count("</table>") == 2


def test_a_notebook_shows_masks_and_what_is_not_of_boxes_too():
    shown = FULL._repr_html_()
    assert shown.index("<h4>Boxes</h4>") < shown.index("<h4>Masks</h4>") < shown.index("0.3333")
    assert "objects_dropped" in shown
    assert "Panoptic/PQ" in EvaluationResult(num_images=1, other={"Panoptic/PQ": 0.7})._repr_html_()
    assert EvaluationResult(num_images=1)._repr_html_() == "<p>1 image</p>"
