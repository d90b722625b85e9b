"""Checks that the metrics of `eval_config` exist, and fit the outputs of the model and the data."""

from __future__ import annotations

from collections.abc import Iterator

from object_detection import eval_util
from object_detection.protos import eval_pb2

from od_eval.findings.finding import Finding
from od_eval.odapi.config_checks import runs_at
from od_eval.odapi.eval_config import KEYPOINTS, LVIS, MASKS, METRICS_OF_MASKS, PANOPTIC, RequestedEvaluation
from od_eval.odapi.further_metrics import FurtherEvaluator
from od_eval.text import did_you_mean, named, some

_METRICS_SET = "eval_config.metrics_set"
_PARAMETERIZED_METRIC = "eval_config.parameterized_metric"


@runs_at("evaluation")
def metrics_set(evaluation: RequestedEvaluation) -> Iterator[Finding]:
    """Each metrics set exists in the Object Detection API for TF2, and needs no parameters."""
    known = [name for name in eval_util.EVAL_METRICS_CLASS_DICT if name not in (KEYPOINTS, PANOPTIC)]
    for name in dict.fromkeys(evaluation.config.eval_config.metrics_set):
        if name == KEYPOINTS:
            yield _error(
                "keypoint_metrics_without_class",
                f"{KEYPOINTS} belong to a single class",
                f"name it in {_PARAMETERIZED_METRIC} {{ coco_keypoint_metrics {{ class_label: '…' }} }}",
            )
        elif name == PANOPTIC:  # its evaluator lacks `add_eval_dict`, which the TF2 loop uses for all others
            yield _error(
                "panoptic_metrics",
                f"the Object Detection API only has {PANOPTIC} in TF1",
                f"remove it, and evaluate masks with {MASKS}",
            )
        elif name not in known:
            yield _error(
                "unknown_metrics_set",
                f"there are no metrics '{named(name)}'{did_you_mean(name, known)}",
                f"the names are {', '.join(known)}",
            )


@runs_at("evaluation")
def masks(evaluation: RequestedEvaluation) -> Iterator[Finding]:
    """Mask metrics are only requested if the model predicts masks and the data has masks."""
    for name in dict.fromkeys(evaluation.config.eval_config.metrics_set):
        if name not in METRICS_OF_MASKS or evaluation.has_masks:
            continue
        if not evaluation.predicts_masks:
            cause, remedy = "but the model predicts no masks", "remove it"
        else:
            cause = "but eval_input_reader does not load any"
            remedy = "set eval_input_reader.load_instance_masks to true"
        yield Finding(
            "metrics_of_masks_without_masks",
            "error",
            "",
            f"{_METRICS_SET} asks for {name}",
            remedy,
            cause=cause,
            field=_METRICS_SET,
        )


@runs_at("evaluation")
def keypoints(evaluation: RequestedEvaluation) -> Iterator[Finding]:
    """Keypoint metrics belong to a class with keypoints in the label map, the model and the data."""
    kept: list[eval_pb2.CocoKeypointMetrics] = []
    for metric in evaluation.config.eval_config.parameterized_metric:
        request = metric.coco_keypoint_metrics
        if request in kept:
            continue
        if any(request.class_label == other.class_label for other in kept):
            yield _keypoint_error(
                "keypoint_metrics_of_a_class_twice",
                f"class_label '{named(request.class_label)}' is given twice, with different keypoint_label_to_sigmas",
                "remove one of them, because both have the same tags",
            )
        kept.append(request)
        yield from _keypoints_of_class(evaluation, request)


def _keypoints_of_class(evaluation: RequestedEvaluation, request: eval_pb2.CocoKeypointMetrics) -> Iterator[Finding]:
    names = evaluation.categories
    label, sigmas = request.class_label, request.keypoint_label_to_sigmas
    indices = {names[category.id]: category.keypoints for category in evaluation.label_map}.get(label)
    if indices is None:
        known = list(names.values())
        yield _keypoint_error(
            "keypoint_metrics_of_unknown_class",
            f"class_label is '{named(label)}'{did_you_mean(label, known)}",
            f"the label map has {some(known)}",
        )
        return
    if not indices:
        yield _keypoint_error(
            "no_keypoints_in_label_map",
            f"'{named(label)}' has no keypoints in the label map",
            "add keypoints { id: 0 label: '…' } to its item for each",
        )
        return
    missing = [name for name in indices if sigmas and name not in sigmas]
    if missing:
        yield _keypoint_error(
            "missing_keypoint_sigmas",
            f"keypoint_label_to_sigmas has none for {some(missing)}",
            f"give one for each keypoint of '{named(label)}' in the label map, or leave them all out for 0.05",
        )
    model = evaluation.config.model
    box_coder = model.ssd.box_coder.WhichOneof("box_coder_oneof")
    if not model.center_net.keypoint_estimation_task and box_coder != "keypoint_box_coder":
        yield _keypoint_error("model_without_keypoints", "the model predicts no keypoints", "remove it")
    elif any(reader.num_keypoints <= max(indices.values()) for reader in evaluation.config.eval_input_reader):
        yield _keypoint_error(
            "too_few_keypoints_read",
            f"eval_input_reader does not load all keypoints of '{named(label)}'",
            "set its num_keypoints to the number that each object has in the data",
            field="eval_input_reader.num_keypoints",
        )


@runs_at("evaluation")
def lvis(evaluation: RequestedEvaluation) -> Iterator[Finding]:
    """LVIS metrics need all classes of the model and their frequencies, and are not available per class."""
    eval_config = evaluation.config.eval_config
    if LVIS not in eval_config.metrics_set:
        return
    for name in ("include_metrics_per_category", "all_metrics_per_category", "super_categories"):
        if getattr(eval_config, name):
            yield _error(
                "lvis_metrics_by_category",
                f"the Object Detection API has no {LVIS} for single categories",
                f"remove them or eval_config.{name}",
            )
    label_map = evaluation.label_map
    if len(label_map) != evaluation.num_classes:
        yield _error(
            "lvis_label_map_of_other_classes",
            f"for {LVIS} the label map must have all classes of the model",
            "give both the same",
            cause=f"and it has {len(label_map)}, the model {evaluation.num_classes}",
        )
    without_frequency = [category.name for category in label_map if not category.frequency]
    if without_frequency:
        yield _error(
            "lvis_label_map_without_frequencies",
            f"{LVIS} depend on the frequencies of classes",
            "add frequency: FREQUENT, COMMON or RARE to each item",
            cause=f"and the label map does not give that of '{named(without_frequency[0])}'",
        )


@runs_at("evaluation")
def moving_averages(evaluation: RequestedEvaluation) -> Iterator[Finding]:
    """Averages of weights are only evaluated if training maintains them."""
    config = evaluation.config
    if config.eval_config.use_moving_averages and not config.train_config.optimizer.use_moving_average:
        yield Finding(
            "no_moving_averages",
            "error",
            "",
            "eval_config.use_moving_averages is true",
            "set both to the same value",
            cause="but train_config.optimizer.use_moving_average is false, so that there are no averages",
            field="eval_config.use_moving_averages",
        )


@runs_at("evaluation")
def further_evaluators(evaluation: RequestedEvaluation) -> Iterator[Finding]:
    """The Object Detection API can create its evaluators. Skipped if a check above has a finding."""
    if not any(True for check in (metrics_set, masks, keypoints, lvis) for _ in check(evaluation)):
        FurtherEvaluator(evaluation.config.eval_config, evaluation.label_map)
    yield from ()


def _error(kind: str, symptom: str, remedy: str, cause: str = "") -> Finding:
    return Finding(kind, "error", _METRICS_SET, symptom, remedy, cause=cause, field=_METRICS_SET)


def _keypoint_error(kind: str, symptom: str, remedy: str, field: str = _PARAMETERIZED_METRIC) -> Finding:
    return Finding(kind, "error", f"{_PARAMETERIZED_METRIC} {{ {KEYPOINTS} }}", symptom, remedy, field=field)
