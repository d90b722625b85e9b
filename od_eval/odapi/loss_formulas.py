"""The loss formulas that a pipeline.config chooses.

The names of formulas and their parameters are those of the config (`protos/losses.proto`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from object_detection.protos import center_net_pb2, faster_rcnn_pb2, losses_pb2, model_pb2, ssd_pb2

# Of two stages, only the classification loss of the second can be chosen; see `FasterRCNNMetaArch.__init__`.
_SMOOTH_L1 = losses_pb2.LocalizationLoss(weighted_smooth_l1={})
_SOFTMAX = losses_pb2.ClassificationLoss(weighted_softmax={})
_SIGMOID = losses_pb2.ClassificationLoss(weighted_sigmoid={})

_Loss: TypeAlias = losses_pb2.ClassificationLoss | losses_pb2.LocalizationLoss


def loss_formulas(model: model_pb2.DetectionModel) -> dict[str, str]:
    """How a model computes its losses.

    Args:
      model: the `model` of a config.

    Returns:
      Native loss name (see `od_eval.losses`) -> weight, name and parameters of the formula:
      `{"Loss/localization_loss": "2 × weighted_smooth_l1 (delta 1)", …}`. What the config does not choose is left out:
      regularization, and the weak losses of DeepMAC.
    """
    family = model.WhichOneof("model")
    if family == "ssd":
        parts = _ssd(model.ssd)
    elif family == "faster_rcnn":
        parts = _faster_rcnn(model.faster_rcnn)
    elif family == "center_net":
        parts = _center_net(model.center_net)
    else:
        parts = iter(())
    return {f"Loss/{name}": _formula(loss, weight) for name, loss, weight in parts}


# ---- (native name, loss, weight) of each part, as built by `model_builder` ------------------------------------------


def _ssd(model: ssd_pb2.Ssd) -> Iterator[tuple[str, _Loss, float]]:
    yield "classification_loss", model.loss.classification_loss, model.loss.classification_weight
    yield "localization_loss", model.loss.localization_loss, model.loss.localization_weight


def _faster_rcnn(model: faster_rcnn_pb2.FasterRcnn) -> Iterator[tuple[str, _Loss, float]]:
    yield "RPNLoss/objectness_loss", _SOFTMAX, model.first_stage_objectness_loss_weight
    yield "RPNLoss/localization_loss", _SMOOTH_L1, model.first_stage_localization_loss_weight
    if model.number_of_stages == 1:
        return
    chosen = model.second_stage_classification_loss
    classification = chosen if chosen.WhichOneof("classification_loss") else _SOFTMAX
    yield "BoxClassifierLoss/classification_loss", classification, model.second_stage_classification_loss_weight
    yield "BoxClassifierLoss/localization_loss", _SMOOTH_L1, model.second_stage_localization_loss_weight
    if model.number_of_stages == 3:
        yield "BoxClassifierLoss/mask_loss", _SIGMOID, model.second_stage_mask_prediction_loss_weight


def _center_net(model: center_net_pb2.CenterNet) -> Iterator[tuple[str, _Loss, float]]:
    center = model.object_center_params
    yield "object_center", center.classification_loss, center.object_center_loss_weight
    if model.HasField("object_detection_task"):
        boxes = model.object_detection_task
        yield "box/scale", boxes.localization_loss, boxes.task_loss_weight * boxes.scale_loss_weight
        yield "box/offset", boxes.localization_loss, boxes.task_loss_weight * boxes.offset_loss_weight
    if model.HasField("deepmac_mask_estimation"):
        masks = model.deepmac_mask_estimation
        yield "deep_mask_estimation", masks.classification_loss, masks.task_loss_weight
        return  # a DeepMAC has no other tasks
    for task in model.keypoint_estimation_task:
        name, weight = f"{task.task_name}/keypoint", task.task_loss_weight
        localization = task.loss.localization_loss
        yield f"{name}/heatmap", task.loss.classification_loss, weight * task.keypoint_heatmap_loss_weight
        yield f"{name}/offset", localization, weight * task.keypoint_offset_loss_weight
        yield f"{name}/regression", localization, weight * task.keypoint_regression_loss_weight
        if task.predict_depth:
            yield f"{name}/depth", localization, weight * task.keypoint_depth_loss_weight
    if model.HasField("mask_estimation_task"):
        segmentation = model.mask_estimation_task
        yield "segmentation/heatmap", segmentation.classification_loss, segmentation.task_loss_weight
    if model.HasField("densepose_estimation_task"):
        surface = model.densepose_estimation_task
        weight = surface.task_loss_weight
        yield "densepose/heatmap", surface.loss.classification_loss, weight * surface.part_loss_weight
        yield "densepose/regression", surface.loss.localization_loss, weight * surface.coordinate_loss_weight
    if model.HasField("track_estimation_task"):
        track = model.track_estimation_task
        yield "track/reid", track.classification_loss, track.task_loss_weight
    if model.HasField("temporal_offset_task"):
        offset = model.temporal_offset_task
        yield "track/offset", offset.localization_loss, offset.task_loss_weight


def _formula(loss: _Loss, weight: float) -> str:
    kind = loss.WhichOneof(loss.DESCRIPTOR.oneofs[0].name)
    if kind is None:
        return "not chosen"  # the model cannot be built
    config = getattr(loss, kind)
    parameters = []
    for field in sorted(config.DESCRIPTOR.fields, key=lambda field: field.name):
        value = getattr(config, field.name)
        if field.name == "anchorwise_output" or (field.name, value) == ("logit_scale", 1):
            continue  # without effect
        if isinstance(value, bool):
            parameters += [field.name] * value
        elif value or config.HasField(field.name):  # `alpha` is not applied unless it is set
            parameters.append(f"{field.name} {value:g}")
    times = "" if weight == 1 else f"{weight:g} × "
    return times + kind + (f" ({', '.join(parameters)})" if parameters else "")
