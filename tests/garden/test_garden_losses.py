"""Losses of Model Garden: parts that sum up, in the categories of every other model."""

import pytest
from official.vision.configs.maskrcnn import Losses as MaskRCNNLosses
from official.vision.configs.retinanet import Losses as RetinaNetLosses
from official.vision.configs.semantic_segmentation import Losses as SegmentationLosses

from od_eval.garden.losses import native_losses
from od_eval.losses import categorize


def test_the_parts_of_retinanet_enter_with_their_weights():
    reported = {"cls_loss": 0.5, "box_loss": 0.02, "model_loss": 1.5, "total_loss": 1.75, "training_loss": 1.75}
    losses = native_losses({**reported, "learning_rate": 0.1}, RetinaNetLosses())
    assert losses == pytest.approx({"total_loss": 1.75, "cls_loss": 0.5, "box_loss": 1.0, "regularization_loss": 0.25})
    assert categorize(losses) == pytest.approx(
        {"total_loss": 1.75, "classification_loss": 0.5, "localization_loss": 1.0, "regularization_loss": 0.25}
    )


def test_the_parts_of_mask_r_cnn_sum_up_to_its_total():
    config = MaskRCNNLosses(rpn_score_weight=2.0, frcnn_box_weight=0.5, loss_weight=3.0)
    reported = {"rpn_score_loss": 0.1, "rpn_box_loss": 0.2, "frcnn_cls_loss": 0.3, "frcnn_box_loss": 0.4}
    model_loss = 2 * 0.1 + 0.2 + 0.3 + 0.5 * 0.4 + 0.5
    total = 3 * (model_loss + 0.25)
    losses = native_losses({**reported, "mask_loss": 0.5, "model_loss": model_loss, "total_loss": total}, config)
    parts = {
        "classification_loss": 3 * (2 * 0.1 + 0.3),
        "localization_loss": 3 * (0.2 + 0.5 * 0.4),
        "regularization_loss": 3 * 0.25,
        "other_loss": 3 * 0.5,
    }
    assert categorize(losses) == pytest.approx({"total_loss": total, **parts})
    assert sum(parts.values()) == pytest.approx(total)


def test_what_is_in_no_known_part_is_another_loss():
    reported = {"cls_loss": 0.5, "box_loss": 0.02, "model_loss": 1.9, "total_loss": 1.9}  # an attribute head
    assert native_losses(reported, RetinaNetLosses())["other_loss"] == pytest.approx(0.4)


def test_a_task_that_reports_its_total_alone_has_that():
    assert native_losses({"training_loss": 0.75, "mean_iou": 0.5}, SegmentationLosses()) == {"total_loss": 0.75}


def test_a_loss_of_an_evaluation_that_computes_none_is_none():
    assert native_losses({"validation_loss": 0.0}, MaskRCNNLosses()) == {}
