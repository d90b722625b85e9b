"""What a pipeline.config may ask for that the Object Detection API has in TF1 only, found when it is loaded."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator, Mapping

from google.protobuf.message import Message
from object_detection.builders import model_builder
from object_detection.protos import hyperparams_pb2, model_pb2, pipeline_pb2, train_pb2

from od_eval.errors import ODEvalError

_FEATURE_EXTRACTORS: dict[str, Mapping] = {
    "ssd": model_builder.SSD_KERAS_FEATURE_EXTRACTOR_CLASS_MAP,
    "faster_rcnn": model_builder.FASTER_RCNN_KERAS_FEATURE_EXTRACTOR_CLASS_MAP,
    "center_net": model_builder.CENTER_NET_EXTRACTOR_FUNCTION_MAP,
}

# TF1's families without a namesake in TF2, and what takes their place with the least change to the rest of the config:
# as many feature maps of the same strides, of about the same cost.
_NEAREST_OF_TF1: dict[str, str] = {
    r"ssd_(inception_v[23]|mobilenet_v3_(large|small)|mobilenet_edgetpu)": "ssd_mobilenet_v2_keras",
    r"ssd_(mobiledet_(cpu|dsp|edgetpu|gpu)|spaghettinet|pnasnet)": "ssd_mobilenet_v2_keras",
    r"ssd_mobilenet_v2_mnasfpn": "ssd_mobilenet_v2_fpn_keras",
    r"(ssd_mobilenet_v1_ppn|embedded_ssd_mobilenet_v1)": "ssd_mobilenet_v1_keras",
    r"ssd_(resnet\d+)_v1_ppn": r"ssd_\1_v1_fpn_keras",
    r"faster_rcnn_inception_v2": "faster_rcnn_resnet50_keras",
    r"faster_rcnn_p?nas": "faster_rcnn_inception_resnet_v2_keras",
}

# Fields of a feature extractor that are passed on only where they are set, and the argument that takes each.
_OPTIONAL_FIELDS: dict[str, dict[str, str]] = {
    "ssd": {
        "fpn": "fpn_min_level",
        "bifpn": "bifpn_min_level",
        "num_layers": "num_layers",
        "replace_preprocessor_with_placeholder": "replace_preprocessor_with_placeholder",
        "spaghettinet_arch_name": "spaghettinet_arch_name",
    },
    "faster_rcnn": {"fpn": "fpn_min_level", "conv_hyperparams": "conv_hyperparams"},
}


def check_supported(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> None:
    """Refuses what the Object Detection API cannot build or, worse, leaves out in TF2 without a word.

    Args:
      config: overrides applied, so that they can mend it.
      source: what messages call the config.

    Raises:
      ODEvalError: naming the field, its value and what to do.
    """
    for check in (_check_meta_architecture, _check_feature_extractor, _check_group_norm):
        check(config.model, source)
    if config.HasField("graph_rewriter"):
        raise ODEvalError(
            f"{source}: graph_rewriter asks for quantization-aware training, which the Object Detection API has in TF1"
            " only; take it out, or pass --set graph_rewriter= (an exported model can be quantized afterwards, by the"
            " converter of TensorFlow Lite)."
        )
    _check_fine_tuning(config.train_config, source)


def _check_meta_architecture(model: model_pb2.DetectionModel, source: str) -> None:
    known = model_builder.EXPERIMENTAL_META_ARCH_BUILDER_MAP
    name = model.experimental_model.name
    if model.WhichOneof("model") == "experimental_model" and name not in known:
        raise ODEvalError(
            f"{source}: model.experimental_model.name is '{name}', and the Object Detection API has"
            f" {_listed(known)} under experimental_model; use model.ssd, model.faster_rcnn or model.center_net."
        )


def _check_feature_extractor(model: model_pb2.DetectionModel, source: str) -> None:
    meta_architecture = model.WhichOneof("model")
    supported = _FEATURE_EXTRACTORS.get(meta_architecture)
    if supported is None:
        return
    extractor = getattr(model, meta_architecture).feature_extractor
    where = f"model.{meta_architecture}.feature_extractor"
    if not extractor.type:
        raise ODEvalError(f"{source}: {where}.type is not set; there are {_listed(supported)}.")
    if extractor.type not in supported:
        others = [f"model.{name}" for name, known in _FEATURE_EXTRACTORS.items() if extractor.type in known]
        reason = f"belongs to {others[0]}" if others else "the Object Detection API does not have in TF2"
        nearest = _nearest(extractor.type, supported)
        remedy = (
            f"write the nearest there, '{nearest}', or pass --set {where}.type={nearest}"
            if nearest
            else f"there are {_listed(supported)}"
        )
        raise ODEvalError(f"{source}: {where}.type is '{extractor.type}', which {reason}; {remedy}.")
    taken = inspect.signature(supported[extractor.type]).parameters
    for field, argument in _OPTIONAL_FIELDS.get(meta_architecture, {}).items():
        if extractor.HasField(field) and argument not in taken:
            value = getattr(extractor, field)
            shown = f"{{ {' '.join(str(value).split())} }}" if isinstance(value, Message) else repr(value)
            # A scalar that the extractor has no argument for cannot be cleared by an override.
            remedy = f", or pass --set {where}.{field}=" if isinstance(value, Message) else ""
            raise ODEvalError(
                f"{source}: {where}.{field} is {shown}, and '{extractor.type}' has no such option in TF2; take it out"
                f"{remedy}."
            )


def _nearest(name: str, supported: Collection[str]) -> str | None:
    """The feature extractor of TF2 that takes the place of a name that it does not have."""
    if f"{name}_keras" in supported:
        return f"{name}_keras"
    for pattern, nearest in _NEAREST_OF_TF1.items():
        match = re.fullmatch(pattern, name)
        if match and match.expand(nearest) in supported:
            return match.expand(nearest)
    longer = [known for known in supported if known.startswith(f"{name}_")]
    return next(iter([*longer, *difflib.get_close_matches(name, supported, n=1)]), None)


def _check_group_norm(model: model_pb2.DetectionModel, source: str) -> None:
    for where, hyperparams in _hyperparams(model, "model"):
        if hyperparams.HasField("group_norm"):
            raise ODEvalError(
                f"{source}: {where}.group_norm is set, which the Object Detection API has in TF1 only, and leaves out"
                f" in TF2; take it out, or pass --set {where}.group_norm= (TF2 trains without it in any case)."
            )


def _hyperparams(message: Message, where: str) -> Iterator[tuple[str, hyperparams_pb2.Hyperparams]]:
    """Every `Hyperparams` that is set in a message, with its field path."""
    for field, value in message.ListFields():
        if field.message_type is hyperparams_pb2.Hyperparams.DESCRIPTOR:
            yield f"{where}.{field.name}", value
        elif field.message_type is not None and not field.is_repeated:
            yield from _hyperparams(value, f"{where}.{field.name}")


def _check_fine_tuning(train_config: train_pb2.TrainConfig, source: str) -> None:
    if train_config.load_all_detection_checkpoint_vars:
        raise ODEvalError(
            f"{source}: train_config.load_all_detection_checkpoint_vars is true, which the Object Detection API has in"
            " TF1 only; take it out, or pass --set train_config.load_all_detection_checkpoint_vars=false (in TF2"
            " train_config.fine_tune_checkpoint_type says what is loaded: classification, detection or full)."
        )
    # V1 is what stands there where nothing is said, and then the checkpoint itself is looked at.
    says_v1 = (
        train_config.HasField("fine_tune_checkpoint_version")
        and train_config.fine_tune_checkpoint_version == train_pb2.CheckpointVersion.V1
    )
    if says_v1 and train_config.fine_tune_checkpoint:
        raise ODEvalError(
            f"{source}: train_config.fine_tune_checkpoint_version is V1, and checkpoints of TF1 cannot be loaded in TF2"
            f" (fine_tune_checkpoint is '{train_config.fine_tune_checkpoint}'); name a checkpoint of TF2 and V2, or"
            " pass --set train_config.fine_tune_checkpoint= to start without one."
        )


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
