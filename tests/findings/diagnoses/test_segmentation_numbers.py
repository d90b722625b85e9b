"""What the numbers of a segmentation hide: a planted case, and one that nearly is one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from findings.made_runs import annealed, falling, made_run

from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
from od_eval.findings.diagnoses.overfitting import overfitting
from od_eval.findings.diagnoses.segmentation import absent_classes, pixel_accuracy_misleads, rare_classes_missed
from od_eval.findings.diagnosis import diagnose
from od_eval.findings.evidence import Evidence

NAMES = ("background", "cat", "dog")


def evidence_of(pixels: Mapping[str, int], right: Mapping[str, float], step: int = 1000) -> Evidence:
    """Of so many pixels of each class this part is right, and the rest is taken for background (that for cats)."""
    evaluator = SegmentationEvaluator(dict(enumerate(NAMES)))
    labels = np.concatenate([np.full(pixels[name], NAMES.index(name)) for name in pixels])
    predicted = labels.copy()
    for index, name in enumerate(NAMES):
        of_class = np.flatnonzero(labels == index)
        predicted[of_class[round(len(of_class) * right.get(name, 1)) :]] = 1 if index == 0 else 0
    evaluator.update(labels=labels.reshape(1, 100, -1), scores=np.eye(3)[predicted].reshape(1, 100, -1, 3))
    return Evidence(evaluations=[evaluator.evaluate(step=step)], last_step=1000)


def test_a_background_that_makes_the_accuracy_is_found():
    evidence = evidence_of({"background": 9400, "cat": 400, "dog": 200}, {"cat": 0.2, "dog": 0.3})
    (finding,) = pixel_accuracy_misleads(evidence)
    assert str(finding) == (
        "the pixel accuracy is 0.954, and the mean IoU of the classes other than 'background' 0.250, since 94% of the"
        " pixels are of that class, which alone gives an accuracy of 0.940; judge the training by IoU"
        " (metric='val_IoU' of BestCheckpoint, monitor='val_IoU' of EarlyStopping)."
    )
    assert finding in diagnose(evidence)


def test_a_high_accuracy_of_good_classes_and_a_low_one_are_no_finding():
    of_pixels = {"background": 9400, "cat": 400, "dog": 200}
    assert not list(pixel_accuracy_misleads(evidence_of(of_pixels, {"cat": 0.6, "dog": 0.5})))
    assert not list(pixel_accuracy_misleads(evidence_of(of_pixels, {"background": 0.9, "cat": 0.2, "dog": 0.2})))
    assert not list(pixel_accuracy_misleads(evidence_of(of_pixels, {"cat": 0.2, "dog": 0.3}, step=400)))


def test_a_rare_class_that_is_missed_asks_for_weights():
    (finding,) = rare_classes_missed(
        evidence_of({"background": 6000, "cat": 3960, "dog": 40}, {"cat": 0.8, "dog": 0.1})
    )
    assert "'dog' (0.40% of the pixels, IoU 0.10) is far below the others (IoU 0.84 on average)" in str(finding)
    assert "od_eval.FocalLoss" in finding.remedy
    assert finding.evidence["class_weights"] == {"dog": 0.396 / 0.004}
    assert finding.sureness == "possible"


def test_a_rare_class_that_is_found_and_a_missed_one_that_is_not_rare_are_no_finding():
    assert not list(rare_classes_missed(evidence_of({"background": 6000, "cat": 3960, "dog": 40}, {"dog": 0.6})))
    assert not list(rare_classes_missed(evidence_of({"background": 6000, "cat": 3800, "dog": 200}, {"dog": 0.1})))


def test_absent_classes_are_named():
    (finding,) = absent_classes(evidence_of({"background": 6000, "cat": 4000, "dog": 0}, {}))
    assert str(finding).startswith("no pixel of the evaluation set is of the class 'dog', so nothing is known of them")
    assert not list(absent_classes(evidence_of({"background": 6000, "cat": 3000, "dog": 1000}, {})))


def test_trainings_without_segmentation_and_images_of_ignored_pixels_are_no_finding():
    evaluator = SegmentationEvaluator({0: "a", 1: "b"}, ignore_label=2)
    evaluator.update(labels=np.full((1, 4, 4), 2), scores=np.full((1, 4, 4, 2), 0.5))
    for evidence in (Evidence(), Evidence(evaluations=[evaluator.evaluate(step=1)])):
        assert not list(pixel_accuracy_misleads(evidence))
        assert not list(rare_classes_missed(evidence))


def segmenting(evidence: Evidence, iou: np.ndarray) -> Evidence:
    """The same training, judged by IoU."""
    evaluations = [
        EvaluationResult(result.num_images, step=result.step, losses=result.losses, segmentation={"IoU": float(value)})
        for result, value in zip(evidence.evaluations, iou, strict=True)
    ]
    return Evidence(curves=evidence.curves, evaluations=evaluations, last_step=evidence.last_step)


def test_over_fitting_is_found_by_losses_and_iou():
    run = made_run(loss=falling(), eval_loss=lambda share: 0.5 + (share - 0.4) ** 2)
    shares = np.linspace(0.05, 1, 20)
    iou = 0.6 - 0.5 * (shares - 0.4) ** 2 + np.random.default_rng(0).normal(0, 0.003, 20)
    (finding,) = overfitting(segmenting(run, iou))
    assert "the eval loss has risen" in finding.symptom
    assert "IoU has fallen" in finding.symptom
    assert "--early_stopping_metric=val_IoU" in finding.remedy


def test_a_healthy_segmentation_has_no_warning():
    run = made_run(loss=annealed(falling()), eval_loss=annealed(falling(0.4)))
    iou = 0.7 - 0.5 * np.exp(-np.linspace(0.05, 1, 20) * 6) + np.random.default_rng(0).normal(0, 0.003, 20)
    assert [finding for finding in diagnose(segmenting(run, iou)) if finding.severity != "note"] == []
