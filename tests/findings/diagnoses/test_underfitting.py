import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from findings.made_runs import FACTS, annealed, falling, made_run

from od_eval.findings.diagnoses import underfitting as module
from od_eval.findings.diagnoses.underfitting import ZOO_FAMILIES, next_larger, underfitting

SEEDS = range(5)


def low(top):
    return annealed(lambda share: top * (1 - np.exp(-share / 0.06)))


def underfitted(seed=0, **changes):
    given = {
        "loss": annealed(falling(2, 2.5, 0.02)),
        "eval_loss": annealed(falling(2.1, 2.5, 0.02)),
        "ap": low(0.15),
        "train_ap": low(0.17),
        "seed": seed,
    }
    return made_run(**(given | changes))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_level_loss_and_low_ap_on_both_sets_is_under_fitting(seed):
    # "Both low … larger model, more epochs"
    (finding,) = underfitting(underfitted(seed))
    assert finding.severity == "warning"
    assert finding.sureness == "likely"
    assert "--zoo=ssd_mobilenet_v2_fpnlite_640x640" in finding.remedy
    assert "train longer than 20000 steps" in finding.remedy
    assert finding.settings[0] == "train_config.num_steps=40000"
    assert finding.settings[1].endswith("total_steps=40000")


def test_without_ap_of_training_images_it_is_only_possible():
    (finding,) = underfitting(underfitted(train_ap=None))
    assert finding.sureness == "possible"
    assert "is not known" in finding.symptom


@pytest.mark.parametrize(
    "changes",
    [
        {"train_ap": low(0.5)},  # over-fitting, if anything
        {"train_ap": None, "ap": low(0.28)},
        {"loss": falling(0.1, 2.5, 0.4)},  # it still falls
        {"done": 0.4},
        {"ap": lambda share: 0.14 * share, "train_ap": lambda share: 0.16 * share},  # it still rises
        {"ap": lambda share: 0 * share, "train_ap": None, "ap_noise": 0.0001},  # nothing is learned: `flat`
        {"ap": None, "train_ap": None},
    ],
    ids=["learned training images", "a small model", "falls", "in the middle", "rises", "nothing", "no AP"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_only_nearly_is_under_fitting_is_not_reported(changes, seed):
    assert not list(underfitting(underfitted(seed, **changes)))


def test_the_next_larger_model_is_of_the_same_family_and_better():
    facts = dataclasses.replace(FACTS, architecture="faster_rcnn_resnet50_keras", input_height=640, input_width=640)
    assert next_larger(facts).name == "faster_rcnn_resnet101_v1_640x640"
    best = dataclasses.replace(FACTS, architecture="ssd_efficientnet-b6_bifpn_keras", input_height=1536)
    assert next_larger(best) is None
    assert next_larger(dataclasses.replace(FACTS, architecture="ssd_of_my_own")) is None
    for family in ZOO_FAMILIES:
        assert [model.ap for model in family] == sorted({model.ap for model in family})


def test_every_model_is_in_the_list_of_the_zoo():
    source = Path(module.__file__).parents[2] / "odapi" / "zoo.py"
    (archives,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ARCHIVES"
    )
    assert {model.name for family in ZOO_FAMILIES for model in family} - archives.keys() == set()
