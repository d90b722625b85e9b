"""Sections of a result as TensorBoard's scalars: what is written under which tag."""

from __future__ import annotations

import pytest

from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS


def scalars(result: EvaluationResult, per_category: str = "AP") -> dict[str, float]:
    return result.scalars(per_category)


def coco(value: float | None = 0.5, **others: float | None) -> dict[str, float | None]:
    return {**dict.fromkeys(COCO_METRICS, value), **others}


def test_coco_metrics_have_the_tags_of_the_object_detection_api():
    from object_detection.metrics.coco_tools import COCO_METRIC_NAMES_AND_INDEX

    values = {name: index / 100 for index, name in enumerate(COCO_METRICS)}
    expected = {
        f"{of_what}_{tag}": index / 100
        for of_what in ("DetectionBoxes", "DetectionMasks")
        for tag, index in COCO_METRIC_NAMES_AND_INDEX
    }
    assert scalars(EvaluationResult(num_images=1, bbox=values, segm=values)) == expected


def test_a_metric_that_is_not_defined_is_left_out_and_one_that_is_zero_is_not():
    result = EvaluationResult(
        num_images=1,
        bbox=coco(APs=None, APm=0.0),
        per_category={"cat": {"AP": None}, "dog": {"AP": 0.0}},
        per_super_category={"animal": {"AP": None}},
    )
    tags = scalars(result)
    assert "DetectionBoxes_Precision/mAP (small)" not in tags
    assert tags["DetectionBoxes_Precision/mAP (medium)"] == 0.0
    assert [tag for tag in tags if "Performance" in tag] == ["DetectionBoxes_PerformanceByCategory/mAP/dog"]


def test_losses_are_written_by_category_and_by_their_native_names():
    losses = {"Loss/RPNLoss/objectness_loss": 0.5, "Loss/BoxClassifierLoss/classification_loss": 0.25}
    tags = scalars(EvaluationResult(num_images=1, losses=losses))
    assert tags == {
        "Loss/RPNLoss/objectness_loss": 0.5,
        "Loss/BoxClassifierLoss/classification_loss": 0.25,
        "Loss/total_loss": 0.75,
        "Loss/classification_loss": 0.75,
        "Loss/localization_loss": 0.0,
        "Loss/regularization_loss": 0.0,
    }
    # Nothing changes if somebody has put them into categories before.
    categorized = {"total_loss": 0.75, "classification_loss": 0.75, **losses}
    assert scalars(EvaluationResult(num_images=1, losses=categorized)).items() <= tags.items()


@pytest.mark.parametrize(
    ("per_category", "expected"),
    [
        (
            "AP",
            {
                "DetectionBoxes_PerformanceByCategory/mAP/cat": 0.25,
                "DetectionMasks_PerformanceByCategory/mAP/cat": 0.125,
                "DetectionBoxes_PerformanceBySuperCategory/animal": 0.5,
                "DetectionMasks_PerformanceBySuperCategory/animal": 0.75,
            },
        ),
        (
            "none",
            {
                "DetectionBoxes_PerformanceBySuperCategory/animal": 0.5,
                "DetectionMasks_PerformanceBySuperCategory/animal": 0.75,
            },
        ),
    ],
)
def test_as_much_is_shown_of_each_category_as_is_asked_for(per_category, expected):
    result = EvaluationResult(
        num_images=1,
        per_category={"cat": {**coco(0.25), "num_groundtruth": 3, "segm": coco(0.125)}},
        per_super_category={"animal": {**coco(0.5), "segm": coco(0.75)}},
    )
    assert scalars(result, per_category) == expected


def test_all_twelve_numbers_of_a_category_have_the_tags_of_the_object_detection_api():
    of_boxes = {**coco(0.25), "num_groundtruth": 3, "segm": coco(0.125)}
    tags = scalars(EvaluationResult(num_images=1, per_category={"cat": of_boxes}), "all")
    assert tags["DetectionBoxes_PerformanceByCategory/mAP/cat"] == 0.25
    assert tags["DetectionBoxes_Precision/mAP ByCategory/cat"] == 0.25
    assert tags["DetectionBoxes_Recall/AR@1 ByCategory/cat"] == 0.25
    assert tags["DetectionBoxes_Precision/mAP (small) ByCategory/cat"] == 0.25
    assert tags["DetectionMasks_Recall/AR@100 (large) ByCategory/cat"] == 0.125
    assert len(tags) == 2 * 13
    of_super_category = scalars(EvaluationResult(num_images=1, per_super_category={"animal": of_boxes}), "all")
    assert of_super_category["DetectionBoxes_Precision/mAP@.50IOU BySuperCategory/animal"] == 0.25


def test_metrics_of_further_evaluators_keep_their_tags():
    other = {"lvis/rare (AP)": 0.5}
    assert scalars(EvaluationResult(num_images=1, other=other)) == other


def test_a_category_may_be_called_anything():
    tags = scalars(EvaluationResult(num_images=1, per_category={"a/b\n猫 \ud800": coco()}))
    (tag,) = tags
    assert tag.startswith("DetectionBoxes_PerformanceByCategory/mAP/a/b\n猫 ")
    tag.encode()


NEW_SECTION = """
from od_eval.evaluation.section import Section


class Sharpness(Section):
    name = "sharpness"
    rank = 40
    line_rank = 5
    in_line = in_summary = ("sharp",)

    def scalars(self, value, per_category):
        return {"Sharpness/mean": value["mean"]}

    def log_values(self, value):
        return {"sharp": value["mean"], "blur": value["blur"]}

    def falls(self, name):
        return name.endswith("blur")


SECTIONS = (Sharpness(),)
"""


def test_a_new_section_is_one_module_and_is_shown_everywhere(tmp_path, monkeypatch, capsys):
    from od_eval.callbacks.evaluation_set import EvaluationSet
    from od_eval.evaluation import section, sections
    from od_eval.evaluation.batch import Detections, EvaluationBatch
    from od_eval.evaluation.better import direction
    from od_eval.evaluation.options import EvaluationOptions
    from od_eval.runs.metrics_files import load_metrics, read_all
    from od_eval.runs.summary import summary_table

    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "sharpness.py").write_text(NEW_SECTION)
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path / "sections")])
    section.all_sections.cache_clear()
    try:

        class OfImages:
            def update(self, batch):
                pass

            def merge(self, other):
                pass

            def evaluate(self):
                return {"sharpness": {"mean": 0.75, "blur": None}}

        monkeypatch.setattr("od_eval.evaluation.loop._all_evaluators", lambda *_: [OfImages()])
        nothing = EvaluationBatch(["a"], [[8, 8]], Detections([[]], [[]], [[]]), None)
        evaluation_set = EvaluationSet(
            [0], tmp_path / "run", detect=lambda *_: nothing, options=EvaluationOptions({1: "cat"})
        )
        result = evaluation_set.evaluate(None, step=10)
        assert result.sharpness == {"mean": 0.75, "blur": None}
        assert evaluation_set.logs(result) == {"val_sharp": 0.75}
        assert capsys.readouterr().out.startswith("eval at step 10: sharp 0.75  (1 images")
        assert load_metrics(tmp_path / "run")["sharpness"] == {"mean": 0.75, "blur": None}
        assert read_all(str(tmp_path / "run" / "eval")) == [result]
        header, row = (tmp_path / "run" / "eval" / "metrics.csv").read_text().splitlines()
        assert (header, row) == ("step,num_images,sharp,blur", "10,1,0.75,")
        assert result.scalars() == {"Sharpness/mean": 0.75}
        assert "eval sharp" in summary_table(str(tmp_path / "run"), "eval")
        assert (direction("val_sharp"), direction("val_blur")) == ("max", "min")
    finally:
        section.all_sections.cache_clear()


def test_a_section_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="there is no section 'sharpness'; there are losses, bbox"):
        EvaluationResult(num_images=1, sharpness={})
    with pytest.raises(AttributeError, match="no section 'sharpness'"):
        _ = EvaluationResult(num_images=1).sharpness
