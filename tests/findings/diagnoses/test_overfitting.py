import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from findings.made_runs import FACTS, falling, made_result, made_run, rising

from od_eval.findings.diagnoses.overfitting import AUGMENTATIONS, USUAL_COLOURS, USUAL_CROPS, overfitting

SEEDS = range(5)


def turning(at=0.3, slope=0.6):
    """An eval loss that falls, and rises from a share of the training on."""
    return lambda share: 0.6 + 0.8 * np.exp(-share / 0.08) + slope * np.maximum(share - at, 0)


def ap_turning(fall=0.2, at=0.3):
    return lambda share: 0.5 * (1 - np.exp(-share / 0.06)) - fall * np.maximum(share - at, 0)


def overfitted(seed=0, **changes):
    given = {"loss": falling(0.02, 2.5, 0.08), "eval_loss": turning(), "ap": ap_turning(), "seed": seed}
    return made_run(**(given | changes))


@pytest.mark.parametrize("seed", SEEDS)
def test_validation_loss_that_rises_while_training_loss_falls_is_over_fitting(seed):
    # "Validation loss ↑ while training loss ↓ … add data, early-stop"
    (finding,) = overfitting(overfitted(seed, ap=None))
    assert finding.kind == "overfitting"
    assert finding.severity == "warning"
    assert 4000 <= finding.evidence["since_step"] <= 9000  # it is made at 6000
    assert "train on more data than 400 images" in finding.remedy
    assert "--early_stopping_metric=val_AP" in finding.remedy


@pytest.mark.parametrize("seed", SEEDS)
def test_the_checkpoint_of_the_best_ap_is_named(seed):
    evidence = overfitted(seed)
    (finding,) = overfitting(evidence)
    best = max(evidence.evaluations, key=lambda result: result.bbox["AP"])
    assert finding.evidence["best_step"] == best.step
    assert f"'/runs/a/ckpt-{best.step}'" in finding.remedy
    assert finding.evidence["ap_fall"] == pytest.approx(0.1, abs=0.04)


def test_missing_augmentations_can_be_copied():
    facts = dataclasses.replace(FACTS, augmentations=("random_horizontal_flip",))
    (finding,) = overfitting(overfitted(facts=facts))
    assert list(finding.settings) == [
        "train_config { data_augmentation_options { random_crop_image { } } }",
        "train_config { data_augmentation_options { random_distort_color { } } }",
    ]
    (finding,) = overfitting(overfitted(facts=FACTS))
    assert not finding.settings


def test_images_are_not_mirrored_where_categories_have_sides():
    facts = dataclasses.replace(FACTS, augmentations=())
    evidence = dataclasses.replace(overfitted(facts=facts), train_objects={"left shoe": 10, "right shoe": 12})
    (finding,) = overfitting(evidence)
    assert not any("flip" in setting for setting in finding.settings)
    assert len(finding.settings) == 2


def test_a_training_without_a_config_is_diagnosed_too():
    (finding,) = overfitting(overfitted(facts=None))
    assert not finding.settings


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_that_rises_while_ap_still_rises_is_no_over_fitting(seed):
    assert not list(overfitting(overfitted(seed, ap=rising(0.6, 1.5))))


@pytest.mark.parametrize("seed", SEEDS)
def test_ap_that_falls_within_the_chance_of_the_images_is_no_over_fitting(seed):
    fall = ap_turning(0.06)
    assert not list(overfitting(overfitted(seed, eval_loss=None, ap=fall, half_interval=0.06)))


@pytest.mark.parametrize("seed", SEEDS)
def test_losses_that_rise_together_are_no_over_fitting(seed):
    assert not list(overfitting(overfitted(seed, loss=turning())))


@pytest.mark.parametrize("seed", SEEDS)
def test_two_bad_evaluations_at_the_end_are_no_over_fitting(seed):
    evidence = made_run(loss=falling(0.02), ap=rising(0.5, 4), seed=seed)
    worse = [made_result(19000, 0.40), made_result(20000, 0.39)]
    assert not list(overfitting(dataclasses.replace(evidence, evaluations=[*evidence.evaluations[:-2], *worse])))


@pytest.mark.parametrize(("difference", "is_sure"), [([-0.2, -0.05], True), ([-0.2, 0.01], False)])
def test_a_paired_interval_decides_where_there_is_one(difference, is_sure):
    evidence = overfitted(eval_loss=None, ap=ap_turning(0.2))
    best = max(evidence.evaluations, key=lambda result: result.bbox["AP"])
    section = {"metric": "AP", "value": best.bbox["AP"], "step": best.step, "difference": difference}
    newest = evidence.evaluations[-1].with_section("certainty", section)
    found = list(overfitting(dataclasses.replace(evidence, evaluations=[*evidence.evaluations[:-1], newest])))
    assert bool(found) == is_sure


def test_every_augmentation_is_one_of_the_object_detection_api():
    spec = importlib.util.find_spec("object_detection")
    (folder,) = spec.submodule_search_locations
    protos = (Path(folder) / "protos" / "preprocessor_pb2.py").read_text()
    suggested = {*USUAL_CROPS.values(), USUAL_COLOURS, "random_scale_crop_and_pad_to_square"}
    names = {name for group in AUGMENTATIONS.values() for name in group}
    assert suggested < names
    assert {name for name in names if name not in protos} == set()
