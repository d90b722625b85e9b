"""Advice on values of the model that work, but cost accuracy: losses, batch normalization, postprocessing, anchors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from object_detection.protos import pipeline_pb2

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.finding import Finding
from od_eval.odapi.config_checks import runs_at
from od_eval.odapi.hyperparameters import as_written

# -log((1 - 0.01) / 0.01): every anchor begins as background with a probability of 0.99 (Lin et al. 2017,
# arXiv:1708.02002, section 3.3). All SSDs of the model zoo have it.
_BACKGROUND_BIAS = -4.6
# Wu & He 2018, arXiv:1803.08494, figure 1: with 2 images per batch, the error of ImageNet rises from 24 to 35%.
_SMALLEST_BATCH_TO_NORMALIZE = 3
# Detectron2 cuts scores below 0.05 to save time, which costs little AP; the model zoo cuts nothing.
_HIGHEST_SCORE_THRESHOLD = 0.05
# The model zoo has 0.5 to 0.7. From 0.9 on, boxes of the same object are left that AP counts as false; up to 0.2, most
# neighbours that touch are taken for one object.
_NMS_LIMITS = (0.2, 0.9)
# The model zoo has 1 and 2. At ten times, the gradient of the one loss is hardly seen beside the other.
_MOST_UNEQUAL_WEIGHTS = 10.0


@runs_at("advice")
def background_bias(config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts) -> Iterator[Finding]:
    """With the focal loss, predictions begin as background."""
    ssd: Any = config.model.ssd
    predictor = ssd.box_predictor.WhichOneof("box_predictor_oneof")
    settings: Any = getattr(ssd.box_predictor, predictor) if predictor else None
    if (
        facts.meta_architecture != "ssd"
        or not ssd.loss.classification_loss.HasField("weighted_sigmoid_focal")
        or not hasattr(settings, "class_prediction_bias_init")
        or settings.class_prediction_bias_init != 0
    ):
        return
    field = f"model.ssd.box_predictor.{predictor}.class_prediction_bias_init"
    yield Finding(
        "no_background_bias",
        "warning",
        source,
        "the focal loss is used, and class_prediction_bias_init is 0",
        f"set {field} to {_BACKGROUND_BIAS}",
        cause="so that every anchor begins with a score of 0.5 for every class, and the loss of the background with"
        " values that may make the training diverge",
        field=field,
        sureness="likely",
        settings=(f"{field}={_BACKGROUND_BIAS}",),
    )


@runs_at("advice")
def unbalanced_background(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """Something keeps the many anchors of the background from outweighing those of objects."""
    loss = config.model.ssd.loss
    kind = loss.classification_loss.WhichOneof("classification_loss")
    if (
        facts.meta_architecture == "ssd"
        and kind in ("weighted_sigmoid", "weighted_softmax", "bootstrapped_sigmoid")
        and not loss.HasField("hard_example_miner")
        and not loss.HasField("random_example_sampler")
    ):
        yield Finding(
            "background_outweighs_objects",
            "warning",
            source,
            f"the classification loss is {kind}, without hard_example_miner",
            "use weighted_sigmoid_focal with class_prediction_bias_init -4.6, or add hard_example_miner"
            " { max_negatives_per_positive: 3 } to model.ssd.loss",
            cause="so that the loss is that of the background, which has thousands of anchors for one of an object",
            field="model.ssd.loss.classification_loss",
            sureness="likely",
        )


@runs_at("advice")
def loss_weights(config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts) -> Iterator[Finding]:
    """No loss is without weight, and none outweighs the other by far."""
    weights = {
        "localization_weight": facts.localization_weight,
        "classification_weight": facts.classification_weight,
    }
    missing = [name for name, weight in weights.items() if weight == 0]
    for name in missing:
        yield Finding(
            "loss_without_weight",
            "warning",
            source,
            f"{facts.fields[name]} is 0",
            "set it to 1",
            cause=f"so that {'boxes' if name == 'localization_weight' else 'classes'} are not learned",
            field=facts.fields[name],
            settings=facts.setting(**{name: 1.0}),
        )
    localization, classification = weights.values()
    if missing or not localization or not classification or localization < 0 or classification < 0:
        return
    larger = max(weights, key=lambda name: weights[name] or 0.0)
    smaller = min(weights, key=lambda name: weights[name] or 0.0)
    ratio = max(localization / classification, classification / localization)
    if ratio >= _MOST_UNEQUAL_WEIGHTS:
        yield Finding(
            "unequal_loss_weights",
            "warning",
            source,
            f"{facts.fields[larger]} is {weights[larger]:g} and {facts.fields[smaller]} is {weights[smaller]:g}",
            "make them more equal; the model zoo has 1 and 1, or 2 and 1",
            cause=f"so that the one loss outweighs the other {ratio:.3g} times",
            field=facts.fields[larger],
            evidence=weights,
            sureness="possible",
        )


@runs_at("advice")
def batch_normalization(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """Batch normalization has enough images for its statistics, or is frozen."""
    batch_size = facts.batch_size
    if not 0 < batch_size < _SMALLEST_BATCH_TO_NORMALIZE:
        return
    trained = {
        "ssd": not config.model.ssd.freeze_batchnorm,
        "faster_rcnn": config.model.faster_rcnn.feature_extractor.batch_norm_trainable,
        "center_net": True,
    }[facts.meta_architecture]
    if not trained:
        return
    field, value = {
        "ssd": ("model.ssd.freeze_batchnorm", "true"),
        "faster_rcnn": ("model.faster_rcnn.feature_extractor.batch_norm_trainable", "false"),
    }.get(facts.meta_architecture, (None, None))
    # Without a checkpoint, there are no statistics to freeze, and a small batch may be all that memory has room for.
    can_freeze = field is not None and bool(facts.fine_tune_checkpoint)
    yield Finding(
        "batch_normalization_of_few_images",
        "warning" if can_freeze else "note",
        source,
        f"batch normalization is trained with a batch_size of {batch_size}",
        f"use a batch of 4 or more, or keep the statistics of the checkpoint, {field}={value}"
        if can_freeze
        else "use a batch of 4 or more",
        cause="whose statistics are too noisy for what is evaluated with their mean",
        field=field if can_freeze else facts.fields["batch_size"],
        evidence={"batch_size": batch_size},
        sureness="likely",
        settings=(f"{field}={value}",) if can_freeze else (),
    )


@runs_at("advice")
def score_threshold(config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts) -> Iterator[Finding]:
    """The postprocessing leaves detections of low scores, which AP counts on."""
    if facts.score_threshold is not None and facts.score_threshold > _HIGHEST_SCORE_THRESHOLD:
        yield Finding(
            "high_score_threshold",
            "warning",
            source,
            f"{facts.fields['score_threshold']} is {facts.score_threshold:g}",
            "lower it to 1e-8, and choose a confidence where detections are used",
            cause="so that detections with lower scores are missing from the recall, and AP is lower than the model's",
            field=facts.fields["score_threshold"],
            evidence={"score_threshold": facts.score_threshold},
            settings=facts.setting(score_threshold=1e-8),
        )


@runs_at("advice")
def suppression(config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts) -> Iterator[Finding]:
    """Non-maximum suppression removes duplicates, and little else."""
    low, high = _NMS_LIMITS
    threshold = facts.nms_iou_threshold
    kind = "faster_rcnn" if facts.meta_architecture == "faster_rcnn" else facts.meta_architecture
    processing: Any = getattr(config.model, kind)
    processing = getattr(processing, "second_stage_post_processing" if kind == "faster_rcnn" else "post_processing")
    # Soft suppression lowers scores instead, and wants 1.
    if threshold is None or low < threshold < high or processing.batch_non_max_suppression.soft_nms_sigma > 0:
        return
    yield Finding(
        "extreme_suppression",
        "warning",
        source,
        f"{facts.fields['nms_iou_threshold']} is {threshold:g}",
        "set it to 0.6; the model zoo has 0.5 to 0.7",
        cause="so that several boxes of one object remain, of which all but one are false"
        if threshold >= high
        else "so that of objects that overlap only a little one is removed",
        field=facts.fields["nms_iou_threshold"],
        evidence={"nms_iou_threshold": threshold},
        sureness="likely",
        settings=facts.setting(nms_iou_threshold=0.6),
    )


@runs_at("advice")
def limits_of_detections(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """Of the limits for a class and for an image, neither makes the other meaningless."""
    per_class, total = facts.max_detections_per_class, facts.max_total_detections
    if not per_class or not total:
        return
    if per_class > total:
        symptom = f"max_detections_per_class is {per_class} and max_total_detections {total}"
        cause = f"so that at most {total} of a class are kept"
    elif per_class * facts.num_classes < total:
        symptom = (
            f"max_total_detections is {total}, and max_detections_per_class {per_class} with"
            f" {facts.num_classes} class{'es' if facts.num_classes > 1 else ''}"
        )
        cause = f"so that no image has more than {per_class * facts.num_classes} detections"
    else:
        return
    yield Finding(
        "contradictory_limits_of_detections",
        "note",
        source,
        symptom,
        "set both to the number of objects that the most crowded images have",
        cause=cause,
        field=facts.fields["max_detections_per_class"],
        evidence={"max_detections_per_class": per_class, "max_total_detections": total},
    )


@runs_at("advice")
def stride_of_anchors(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """The anchors of Faster R-CNN lie where its features come from."""
    model = config.model.faster_rcnn
    grid = model.first_stage_anchor_generator.grid_anchor_generator
    stride = model.feature_extractor.first_stage_features_stride
    if not model.first_stage_anchor_generator.HasField("grid_anchor_generator"):
        return
    where = "model.faster_rcnn.first_stage_anchor_generator.grid_anchor_generator"
    if (grid.height_stride, grid.width_stride) != (stride, stride):
        yield Finding(
            "anchors_beside_features",
            "error",
            source,
            f"the strides of the anchors are {grid.height_stride} and {grid.width_stride}, and"
            f" first_stage_features_stride is {stride}",
            f"set height_stride and width_stride of {where} to {stride}",
            cause="so that anchors are elsewhere than the features they are predicted from",
            field=f"{where}.height_stride",
            evidence={"height_stride": grid.height_stride, "width_stride": grid.width_stride, "features": stride},
            settings=(f"{where}.height_stride={stride}", f"{where}.width_stride={stride}"),
        )


@runs_at("advice")
def parameters_of_focal_loss(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """CenterNet's focal loss has its exponents, which are 0 unless they are set."""
    loss = config.model.center_net.object_center_params.classification_loss
    focal = loss.penalty_reduced_logistic_focal_loss
    if facts.meta_architecture != "center_net" or not loss.HasField("penalty_reduced_logistic_focal_loss"):
        return
    field = "model.center_net.object_center_params.classification_loss.penalty_reduced_logistic_focal_loss"
    for name, value, usual, meaning in (
        ("alpha", focal.alpha, 2.0, "easy examples count as much as hard ones"),
        ("beta", focal.beta, 4.0, "the neighbours of a center count as much as the background"),
    ):
        if as_written(value) == 0:
            yield Finding(
                "focal_loss_without_exponent",
                "warning",
                source,
                f"{field}.{name} is 0",
                f"set it to {usual:g}, as in the paper and in the model zoo",
                cause=f"so that {meaning}",
                field=f"{field}.{name}",
                sureness="likely",
                settings=(f"{field}.{name}={usual:g}",),
            )
