"""The evaluation loop: what a model gives it, what evaluators make of it, and what it refuses."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from od_eval import ODEvalError, evaluate
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.loop import FurtherMetrics, LossMeans, WithGroundTruth, coco_evaluator
from od_eval.evaluation.options import EvaluationOptions

CATEGORIES = {1: "cat", 2: "dog"}
OPTIONS = EvaluationOptions(CATEGORIES)
BOXES = [[[2.0, 2, 12, 12], [20, 20, 40, 40]]]


def batch(image: int, scores=(0.9, 0.8), loss: float = 1.0, **changes: Any) -> EvaluationBatch:
    """An image with a cat and a dog, both found."""
    whole = EvaluationBatch(
        image_ids=[f"{image}.jpg"],
        image_sizes=[[48, 48]],
        detections=Detections(BOXES, [list(scores)], [[1, 2]]),
        groundtruth=GroundTruth(BOXES, [[1, 2]]),
        losses={"total_loss": loss},
        images=[np.zeros((48, 48, 3), np.uint8)],
    )
    return dataclasses.replace(whole, **changes)


class Model:
    """Gives the batches of a dataset as they are, while it has the weights to be evaluated."""

    evaluation_options = OPTIONS

    def __init__(self, further: Any = None):
        self._further = further
        self.has_evaluation_weights = False

    def evaluate_batches(self, dataset: Any) -> Iterator[EvaluationBatch]:
        for one_batch in dataset:
            assert self.has_evaluation_weights
            yield one_batch

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        self.has_evaluation_weights = True
        try:
            yield
        finally:
            self.has_evaluation_weights = False

    def further_evaluator(self) -> Any:
        return self._further


class Count:
    """An evaluator of a user: counts images, under a tag."""

    def __init__(self, tag: str = "Mine/images"):
        self._tag = tag
        self._num = 0

    def update(self, batch: EvaluationBatch) -> None:
        self._num += len(batch.image_ids)

    def merge(self, other: Count) -> None:
        self._num += other._num

    def evaluate(self) -> dict[str, Any]:
        return {"other": {self._tag: float(self._num)}}


class Further:
    """A model's own evaluator, which knows nothing of batches."""

    def __init__(self, tag: str = "Own/outputs"):
        self._tag = tag
        self._outputs: list[Any] = []

    def update(self, outputs: Any) -> None:
        self._outputs.append(outputs)

    def evaluate(self) -> dict[str, float]:
        return {self._tag: float(sum(self._outputs))}


def test_a_model_is_evaluated_once_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = Model()
    result = evaluate(model, [batch(1, loss=1.0), batch(2, loss=4.0)], step=7, checkpoint="ckpt-7")
    assert (result.num_images, result.step, result.checkpoint) == (2, 7, "ckpt-7")
    assert result.bbox["AP"] == 1.0
    assert result.losses == {"total_loss": 2.5}
    assert list(result) == [
        *("losses", "bbox", "per_category", "operating_point", "intervals", "sizes", "errors"),
        *("calibration", "class_agnostic", "dataset"),
    ]
    assert not model.has_evaluation_weights
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_any_model_is_evaluated_with_a_function():
    detect = lambda model, image: batch(image, scores=model)  # noqa: E731
    assert evaluate((0.9, 0.8), [1, 2], detect=detect, options=OPTIONS).bbox["AP50"] == 1.0


def test_evaluators_stand_side_by_side():
    result = evaluate(Model(Further()), [batch(1, outputs=3), batch(2, outputs=4)], [Count()])
    assert result.bbox["AP"] == 1.0
    assert result.other == {"Own/outputs": 7.0, "Mine/images": 2.0}
    assert result.log_values()["Mine/images"] == 2.0
    assert result.scalars()["Mine/images"] == 2.0


def test_a_users_evaluator_works_with_a_function_and_with_fewer_categories():
    detect = lambda model, image: batch(image)  # noqa: E731
    result = evaluate("model", [1, 2], [Count()], detect=detect, options=OPTIONS)
    assert (result.other, result.bbox["AP"]) == ({"Mine/images": 2.0}, 1.0)
    with pytest.warns(UserWarning, match="left out: 'cat'"):
        result = evaluate(Model(), [batch(1)], [Count()], options=EvaluationOptions({2: "dog"}))
    assert (result.other, list(result.per_category)) == ({"Mine/images": 1.0}, ["dog"])


def test_a_section_that_does_not_exist_is_named():
    class Odd(Count):
        def evaluate(self) -> dict[str, Any]:
            return {"mine": 1.0}

    with pytest.raises(ODEvalError, match="the section 'mine', which does not exist; there are losses, bbox"):
        evaluate(Model(), [batch(1)], [Odd()])


def test_another_box_format_than_the_models_is_refused():
    with pytest.raises(ODEvalError, match="box_format 'xywh', but the model has 'yxyx'"):
        evaluate(Model(), [batch(1)], options=dataclasses.replace(OPTIONS, box_format="xywh"))


@pytest.mark.parametrize(
    ("evaluators", "name"),
    [
        ([Count(), Count()], "Mine/images"),
        ([Count("AP")], "AP"),
        ([Count("DetectionBoxes_Precision/mAP")], "DetectionBoxes_Precision/mAP"),
        ([Count("Loss/total_loss")], "Loss/total_loss"),
        ([Count("Own/outputs")], "Own/outputs"),
    ],
)
def test_two_evaluators_that_give_the_same_metric_are_refused(evaluators, name):
    with pytest.raises(ODEvalError, match=f"two evaluators give the metric '{name}'"):
        evaluate(Model(Further()), [batch(1, outputs=1)], evaluators)


def test_merged_evaluators_give_what_one_gives_that_saw_all_images():
    batches = [batch(1, loss=1.0), batch(2, (0.1, 0.9), loss=2.0), batch(3, loss=6.0)]
    whole, first, second = ([WithGroundTruth(coco_evaluator(OPTIONS)), LossMeans(), Count()] for _ in range(3))
    for seen, evaluators in ((batches, whole), (batches[:1], first), (batches[1:], second)):
        for one_batch in seen:
            for evaluator in evaluators:
                evaluator.update(one_batch)
    for mine, theirs, of_all in zip(first, second, whole, strict=True):
        mine.merge(theirs)
        assert dict(mine.evaluate()) == dict(of_all.evaluate())


def test_a_further_evaluator_that_cannot_be_merged_is_named():
    with pytest.raises(ODEvalError, match="Further cannot be merged"):
        FurtherMetrics(Further()).merge(FurtherMetrics(Further()))


def test_images_without_ground_truth_have_losses_only():
    result = evaluate(Model(Further()), [batch(1, groundtruth=None, outputs=1)])
    assert dict(result) == {"losses": {"total_loss": 1.0}}
    both = evaluate(Model(), [batch(1, groundtruth=None, loss=3.0), batch(2)])
    assert (both.num_images, both.bbox["AP50"], both.losses) == (1, pytest.approx(1.0), {"total_loss": 2.0})


def test_options_with_fewer_categories_leave_the_others_out_and_say_how_many():
    keypoints = np.zeros((1, 2, 3, 2))
    keypoints[:, 1] = 1
    seen: list[EvaluationBatch] = []

    class Look(Count):
        def update(self, batch: EvaluationBatch) -> None:
            seen.append(batch)

        def evaluate(self) -> dict[str, Any]:
            return {}

    options = EvaluationOptions({2: "dog"})
    batches = [batch(1, keypoints=keypoints), batch(2, detections=Detections(BOXES, [[0.9, 0.8]], [[1, 2]], num=[1]))]
    with pytest.warns(UserWarning, match=r"eval: 2 ground truth objects .* are left out: 'cat' \(2\)\."):
        result = evaluate(Model(), batches, [Look()], options=options)
    assert list(result.per_category) == ["dog"]
    assert result.per_category["dog"]["num_groundtruth"] == 2
    assert result.per_category["dog"]["num_detections"] == 1, "of the second image, only the row of the cat counts"
    assert result.bbox["AR100"] == 0.5
    assert np.asarray(seen[0].keypoints[0]).tolist() == keypoints[0, 1:].tolist()
    assert len(batches[0].groundtruth.classes[0]) == 2, "the model's own batch stays as it is"


def test_a_class_that_the_model_does_not_have_either_is_an_error():
    detections = Detections(BOXES, [[0.9, 0.8]], [[1, 3]])
    with pytest.raises(ODEvalError, match=r"image '1\.jpg': detection 1 is of class 3"):
        evaluate(Model(), [batch(1, detections=detections)])


def test_masks_that_are_not_asked_for_are_left_out():
    masks = [[np.ones((48, 48), bool)] * 2]
    batches = [batch(1, detections=Detections(BOXES, [[0.9, 0.8]], [[1, 2]], masks=masks))]
    model = Model()
    model.evaluation_options = dataclasses.replace(OPTIONS, masks=True)
    seen = []

    class Look(Count):
        def update(self, batch: EvaluationBatch) -> None:
            seen.append(batch.detections.masks)

    evaluate(model, batches, [Look()], options=OPTIONS)
    assert seen == [None]
    assert batches[0].detections.masks is masks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": Model(), "batches": []}, "there is no image to evaluate in the dataset of eval"),
        ({"model": "model", "batches": [1]}, "does not know how str detects; pass detect="),
        ({"model": "model", "batches": [1], "detect": lambda *_: None}, "with detect, options are needed"),
    ],
)
def test_what_cannot_be_evaluated_is_said(arguments, message):
    with pytest.raises(ODEvalError, match=message):
        evaluate(**arguments)


def test_weights_are_put_back_when_an_evaluation_fails():
    model = Model()
    with pytest.raises(ODEvalError, match="have no masks"):
        evaluate(model, [batch(1)], options=dataclasses.replace(OPTIONS, masks=True))
    assert not model.has_evaluation_weights


def test_an_evaluator_is_a_batch_evaluator():
    evaluator = Evaluator(CATEGORIES)
    result = evaluate(Model(), [batch(1)], [evaluator])
    assert result.bbox == evaluator.evaluate().bbox
    assert evaluator.detections_json()[0]["bbox"] == [2, 2, 10, 10]
