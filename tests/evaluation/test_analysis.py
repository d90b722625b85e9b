"""The analyses of an evaluation together: what is in its result, and that none of them can cost it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from made_images import CATEGORIES, evaluated, one_image, random_images
from od_eval.evaluation import analysis
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import AnalysisOptions
from od_eval.evaluation.result import EvaluationResult

SECTIONS = ("operating_point", "intervals", "sizes", "errors", "calibration", "class_agnostic", "dataset")


@pytest.mark.parametrize("masks", [False, True])
def test_each_analysis_has_its_section_of_boxes_and_of_masks_and_all_is_json(masks: bool, capsys) -> None:
    result = evaluated(random_images(1, masks=masks), masks=masks).evaluate(step=3)
    assert capsys.readouterr().err == ""
    assert set(SECTIONS) <= result.keys()
    for name in set(SECTIONS) - {"dataset"}:
        assert ("segm" in result[name]) == masks, name
    text = json.dumps(result.to_json_dict(), allow_nan=False)
    assert EvaluationResult.from_json_dict(json.loads(text)) == result
    for name in ("operating_point", "intervals", "errors"):
        assert list(result[name]["per_category"]) == [CATEGORIES[id] for id in sorted(CATEGORIES)]
    low, high = result.intervals["AP"]
    assert low < result.bbox["AP"] < high


def test_what_tensorboard_shows_of_them() -> None:
    result = evaluated(random_images(1, masks=True), masks=True).evaluate()
    scalars = result.scalars()
    for prefix, of_type in (
        ("DetectionBoxes_", lambda section: section),
        ("DetectionMasks_", lambda section: section["segm"]),
    ):
        point = result.operating_point["bbox" if prefix == "DetectionBoxes_" else "segm"]
        for name in ("precision", "recall", "f1"):
            assert scalars[f"{prefix}OperatingPoint/{name}"] == point[name]
        assert scalars[f"{prefix}OperatingPoint/confidence"] == result.operating_point["confidence"]
        interval = [scalars[f"{prefix}Interval/mAP ({end})"] for end in ("low", "high")]
        assert interval == of_type(result.intervals)["AP"]
        assert scalars[f"{prefix}Errors/missed"] == of_type(result.errors)["missed"]
        sizes = of_type(result.sizes)
        assert scalars[f"{prefix}Precision/mAP (smallest)"] == sizes["smallest"]["AP"]
        assert scalars[f"{prefix}Precision/mAP (small by percentile)"] == sizes["small"]["AP"]
        coco = result.bbox if prefix == "DetectionBoxes_" else result.segm
        assert scalars[f"{prefix}Precision/mAP (small)"] == coco["APs"]
    assert result.log_values()["F1"] == result.operating_point["bbox"]["f1"]


def test_options_decide_how_it_is_analysed_or_whether() -> None:
    options = AnalysisOptions(confidence=0.35, size_ranges={"plates": (0, 50)})
    result = evaluated(random_images(1), analysis=options).evaluate()
    assert (result.operating_point["confidence"], result.operating_point["chosen_by"]) == (0.35, "given")
    assert result.sizes["plates"]["high"] == 50
    evaluator = evaluated(random_images(1), analysis=None)
    assert not set(SECTIONS) & evaluator.evaluate().keys()
    assert evaluator.analysis is None


def test_an_analysis_that_fails_costs_only_itself(monkeypatch, capsys) -> None:
    def fail(*arguments):
        raise ZeroDivisionError("no luck today")

    monkeypatch.setitem(analysis._SECTIONS, "calibration", fail)
    result = evaluated(random_images(1)).evaluate()
    assert result.bbox["AP"] > 0
    assert set(SECTIONS) - result.keys() == {"calibration"}
    assert "warning: the analysis 'calibration' failed and is left out: " in (error := capsys.readouterr().err)
    assert "no luck today" in error


def test_metrics_do_not_depend_on_the_object_table(monkeypatch, capsys) -> None:
    monkeypatch.setattr(Evaluator, "object_tables", lambda self: 1 / 0)
    evaluator = evaluated(random_images(1))
    assert evaluator.evaluate().bbox["AP"] > 0
    assert evaluator.analysis.sections == {}
    assert "warning: the analysis 'object table' failed" in capsys.readouterr().err


def test_metrics_of_ones_own_are_computed_from_the_objects(capsys) -> None:
    def found(objects):
        groundtruth = objects[objects.kind == "groundtruth"]
        return {
            name: (of_class.match_50 >= 0).mean() for name, of_class in groundtruth.groupby("category", observed=True)
        }

    extra_metrics = {
        "mean_score": lambda objects: objects.score.mean(),
        "found": found,
        "broken": lambda objects: objects.no_such_column,
    }
    result = evaluated([one_image(scores=[[0.75, 0.25]])], extra_metrics=extra_metrics).evaluate()
    assert result.custom == {"mean_score": 0.5, "found/dog": 1.0, "found/cat": 1.0}
    assert result.scalars()["Custom/found/dog"] == 1.0
    assert result.log_values()["mean_score"] == 0.5
    assert "warning: the analysis 'extra_metrics['broken']' failed and is left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"boxes": [np.zeros((0, 4))], "scores": [[]], "classes": [[]]},
        {"gt_boxes": [np.zeros((0, 4))], "gt_classes": [[]]},
        {"gt_is_crowd": [[True, True]]},
        {"gt_difficult": [[True, True]]},
        {"scores": [[-3.0, 7.0]]},
        {"boxes": [[[50.0, 50, 10, 10], [0, 0, 0, 0]]]},
        {"image_sizes": [[0, 0]]},
    ],
)
def test_odd_data_are_analysed_too(changes, capsys) -> None:
    result = evaluated([one_image(**changes)]).evaluate()
    assert capsys.readouterr().err == ""
    assert set(SECTIONS) - {"sizes"} <= result.keys()
    json.dumps(result.to_json_dict(), allow_nan=False)
