"""The loss formulas of a pipeline.config."""

from __future__ import annotations

from pathlib import Path

import pytest

from od_eval.odapi.loss_formulas import loss_formulas
from od_eval.odapi.pipeline import Pipeline

OWN_CONFIGS = Path(__file__).parents[2] / "pipeline_configs"
SMOOTH_L1 = "2 × weighted_smooth_l1 (delta 1)"
FOCAL_OF_CENTERS = "penalty_reduced_logistic_focal_loss (alpha 2, beta 4)"

SSD = {
    "Loss/classification_loss": "weighted_sigmoid_focal (alpha 0.25, gamma 2)",
    "Loss/localization_loss": "weighted_smooth_l1 (delta 1)",
}
FASTER_RCNN = {
    "Loss/RPNLoss/objectness_loss": "weighted_softmax",
    "Loss/RPNLoss/localization_loss": SMOOTH_L1,
    "Loss/BoxClassifierLoss/classification_loss": "weighted_softmax",
    "Loss/BoxClassifierLoss/localization_loss": SMOOTH_L1,
}
CENTERNET = {
    "Loss/object_center": FOCAL_OF_CENTERS,
    "Loss/box/scale": "0.1 × l1_localization_loss",
    "Loss/box/offset": "l1_localization_loss",
}


def formulas(path, *overrides):
    return loss_formulas(Pipeline.load(path, overrides).config.model)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ssd_mobilenet_v2_96x96", SSD),
        (
            "efficientdet_d0_256x256",
            {
                "Loss/classification_loss": "weighted_sigmoid_focal (alpha 0.25, gamma 1.5)",
                "Loss/localization_loss": "weighted_smooth_l1 (delta 0.1)",
            },
        ),
        ("faster_rcnn_resnet50_128x128", FASTER_RCNN),
        (
            "mask_rcnn_resnet50_128x128",
            {**FASTER_RCNN, "Loss/BoxClassifierLoss/mask_loss": "4 × weighted_sigmoid"},
        ),
        ("centernet_resnet18_fpn_128x128", CENTERNET),
    ],
)
def test_every_family_says_the_formulas_of_its_losses(name, expected):
    assert formulas(OWN_CONFIGS / f"{name}.config") == expected


def test_keypoints_and_masks_of_a_centernet_have_formulas(shared_data):
    keypoints = formulas(shared_data / "zoo_configs" / "centernet_resnet50_v1_fpn_512x512_kpts_coco17_tpu-8.config")
    assert keypoints == {
        **CENTERNET,
        "Loss/human_pose/keypoint/heatmap": FOCAL_OF_CENTERS,
        "Loss/human_pose/keypoint/offset": "l1_localization_loss",
        "Loss/human_pose/keypoint/regression": "0.1 × l1_localization_loss",
    }
    masks = formulas(shared_data / "zoo_configs" / "center_net_deepmac_512x512_voc_only_tpu-32.config")
    assert masks == {**CENTERNET, "Loss/deep_mask_estimation": "5 × weighted_sigmoid"}


@pytest.mark.parametrize(
    ("name", "native_names"),
    [
        ("ssd_mobilenet_v2_96x96", SSD),
        ("faster_rcnn_resnet50_128x128", FASTER_RCNN),
        ("centernet_resnet18_fpn_128x128", CENTERNET),
    ],
)
def test_names_are_those_that_the_losses_have_elsewhere(name, native_names):
    from od_eval.losses import CATEGORY_OF_NATIVE

    assert set(formulas(OWN_CONFIGS / f"{name}.config")) == set(native_names) <= CATEGORY_OF_NATIVE.keys()


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("weighted_sigmoid { anchorwise_output: true }", "weighted_sigmoid"),
        ("weighted_sigmoid_focal {}", "weighted_sigmoid_focal (gamma 2)"),
        ("weighted_sigmoid_focal { alpha: 0 gamma: 0 }", "weighted_sigmoid_focal (alpha 0, gamma 0)"),
        ("weighted_softmax {}", "weighted_softmax"),
        ("weighted_softmax { logit_scale: 2 }", "weighted_softmax (logit_scale 2)"),
        (
            "bootstrapped_sigmoid { alpha: 0.9 hard_bootstrap: true }",
            "bootstrapped_sigmoid (alpha 0.9, hard_bootstrap)",
        ),
    ],
)
def test_parameters_that_have_an_effect_are_named_also_where_they_are_defaults(ssd_config, loss, formula):
    overrides = (
        f"model.ssd.loss.classification_loss={{ {loss} }}",
        "model.ssd.loss.localization_loss={ weighted_l2 {} }",
        "model.ssd.loss.classification_weight=0.5",
    )
    assert formulas(ssd_config, *overrides) == {
        "Loss/classification_loss": f"0.5 × {formula}",
        "Loss/localization_loss": "weighted_l2",
    }


def test_of_two_stages_the_second_may_choose_how_it_classifies_and_the_first_may_stand_alone():
    path = OWN_CONFIGS / "faster_rcnn_resnet50_128x128.config"
    chosen = formulas(path, "model.faster_rcnn.second_stage_classification_loss={ weighted_sigmoid {} }")
    assert chosen == {**FASTER_RCNN, "Loss/BoxClassifierLoss/classification_loss": "weighted_sigmoid"}
    proposals = formulas(path, "model.faster_rcnn.number_of_stages=1")
    assert proposals == {name: formula for name, formula in FASTER_RCNN.items() if "RPN" in name}


def test_a_loss_that_is_not_chosen_is_said_to_be(ssd_config):
    not_chosen = formulas(ssd_config, "model.ssd.loss={}")
    assert not_chosen == dict.fromkeys(SSD, "not chosen")
