"""od_eval.losses: native names to categories."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from od_eval import losses

FASTER_RCNN = {
    "Loss/RPNLoss/localization_loss": 0.125,
    "Loss/RPNLoss/objectness_loss": 0.25,
    "Loss/BoxClassifierLoss/localization_loss": 0.5,
    "Loss/BoxClassifierLoss/classification_loss": 1.0,
    "Loss/regularization_loss": 2.0,
    "Loss/total_loss": 3.875,
}


def test_losses_are_read_by_their_formulas_where_these_are_known():
    assert losses.how_to_read({}) == "losses compare only within one architecture and input size"
    formulas = {"Loss/object_center": "focal (alpha 2)", "Loss/box/scale": "0.1 × l1"}
    assert losses.how_to_read(formulas) == (
        "losses: object_center = focal (alpha 2), box/scale = 0.1 × l1; they compare only within one architecture and"
        " input size"
    )


def test_ssd_losses_are_the_categories_themselves():
    native = {"Loss/localization_loss": 1.0, "Loss/classification_loss": 2.0, "Loss/regularization_loss": 4.0}
    assert losses.categorize(native) == {
        "total_loss": 7.0,
        "classification_loss": 2.0,
        "localization_loss": 1.0,
        "regularization_loss": 4.0,
    }


def test_faster_rcnn_sums_both_stages():
    assert losses.categorize(FASTER_RCNN) == {
        "total_loss": 3.875,
        "classification_loss": 1.25,
        "localization_loss": 0.625,
        "regularization_loss": 2.0,
    }


def test_mask_rcnn_has_its_mask_loss_in_other_loss():
    native = {**FASTER_RCNN, "Loss/BoxClassifierLoss/mask_loss": 4.0, "Loss/total_loss": 7.875}
    assert losses.categorize(native) == {
        "total_loss": 7.875,
        "classification_loss": 1.25,
        "localization_loss": 0.625,
        "regularization_loss": 2.0,
        "other_loss": 4.0,
    }


def test_centernet_has_keypoints_and_tracks_in_other_loss_and_no_regularization():
    native = {
        "Loss/object_center": 1.0,
        "Loss/box/scale": 2.0,
        "Loss/box/offset": 4.0,
        "Loss/human_pose/keypoint/heatmap": 8.0,
        "Loss/human_pose/keypoint/depth": 16.0,
        "Loss/track/reid": 32.0,
    }
    assert losses.categorize(native) == {
        "total_loss": 63.0,
        "classification_loss": 1.0,
        "localization_loss": 6.0,
        "regularization_loss": 0.0,
        "other_loss": 56.0,
    }


def test_every_loss_name_written_out_in_the_object_detection_api_is_known():
    package = importlib.util.find_spec("object_detection")  # finds it without importing it
    if package is None:
        pytest.skip("object_detection is not installed")
    folder = Path(package.submodule_search_locations[0]) / "meta_architectures"
    source = "".join(path.read_text() for path in folder.glob("*_meta_arch.py"))
    written_out = {name for name in re.findall(r"'(Loss/[^'$]+)'", source) if "/keypoint/" not in name}
    assert len(written_out) > 10
    assert written_out <= set(losses.CATEGORY_OF_NATIVE)
    mask_losses = {"Loss/" + name for name in re.findall(r"^DEEP_MASK\w+ = '(\w+)'", source, flags=re.MULTILINE)}
    assert mask_losses
    assert mask_losses <= set(losses.CATEGORY_OF_NATIVE)


def test_the_total_is_the_sum_of_the_others_to_float32():
    rng = np.random.default_rng(0)
    for _ in range(20):
        native = {name: np.float32(rng.gamma(1.0)) for name in losses.CATEGORY_OF_NATIVE if name != "Loss/total_loss"}
        given = losses.categorize({**native, "Loss/total_loss": sum(native.values())})
        for result in (losses.categorize(native), given):
            parts = [value for category, value in result.items() if category != "total_loss"]
            assert result["total_loss"].dtype == np.float32
            np.testing.assert_allclose(result["total_loss"], sum(parts), rtol=1e-6)


def test_categorizing_categories_and_parts_together_counts_nothing_twice():
    once = losses.categorize(FASTER_RCNN)
    assert losses.categorize({**FASTER_RCNN, **once}) == once
    assert losses.categorize(once) == once


def test_the_users_mapping_comes_first():
    native = {"Loss/classification_loss": 1.0, "Loss/localization_loss": 2.0, "kl": 4.0, "loss": 7.0}
    mapping = {"kl": "regularization_loss", "Loss/localization_loss": "other_loss"}
    assert losses.categorize(native, mapping) == {
        "total_loss": 7.0,
        "classification_loss": 1.0,
        "localization_loss": 0.0,
        "regularization_loss": 4.0,
        "other_loss": 2.0,
    }
    assert losses.categorize({"loss": 1.0, "objective": 2.0}, {"objective": "total_loss"}) == {"total_loss": 2.0}


def test_a_category_that_does_not_exist_is_named_in_the_error():
    with pytest.raises(ValueError, match="'box', given for the loss 'my_loss'"):
        losses.categorize({"loss": 1.0}, {"my_loss": "box"})


def test_a_keras_model_has_the_categories_it_reports_and_no_others():
    assert losses.categorize({"loss": 1.0}) == {"total_loss": 1.0}
    assert losses.categorize({"loss": 3.0, "box_loss": 1.0, "class_loss": 2.0}) == {
        "total_loss": 3.0,
        "classification_loss": 2.0,
        "localization_loss": 1.0,
    }
    assert losses.categorize({"cls_loss": 2.0, "depth_loss": 1.0}) == {
        "total_loss": 3.0,
        "classification_loss": 2.0,
        "other_loss": 1.0,
    }
    assert losses.categorize({}) == {}


def test_parts_of_a_segmentation_are_in_the_total_and_in_no_category():
    assert losses.categorize({"cross_entropy_loss": 1.0, "dice_loss": 0.5, "loss": 2.0}) == {"total_loss": 2.0}
    assert losses.categorize({"cross_entropy_loss": 1.0, "dice_loss": 0.5}) == {"total_loss": 1.5}
    tags = {"Loss/total_loss": 2.0, "Loss/focal_loss": 1.5, "Loss/dice_loss": 0.5}
    assert losses.categorize(tags) == {"total_loss": 2.0}
    assert losses.categorize({"focal_loss": 1.0, "box_loss": 2.0}, {"focal_loss": "classification_loss"}) == {
        "total_loss": 3.0,
        "classification_loss": 1.0,
        "localization_loss": 2.0,
    }


def test_tensors_in_a_graph_are_summed_in_the_graph():
    import tensorflow as tf

    @tf.function
    def categorize(scale):
        return losses.categorize({name: scale * value for name, value in FASTER_RCNN.items()})

    result = {name: float(value) for name, value in categorize(tf.constant(2.0)).items()}
    assert result == {name: 2 * value for name, value in losses.categorize(FASTER_RCNN).items()}


def test_the_module_imports_no_tensorflow():
    code = "import sys, od_eval.losses; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
