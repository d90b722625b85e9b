"""Checks that the Object Detection API can build the model of a config in TF2, without ignoring any of its fields."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator, Mapping

from google.protobuf.message import Message
from object_detection.builders import model_builder
from object_detection.protos import hyperparams_pb2, pipeline_pb2

from od_eval.findings.finding import Finding
from od_eval.odapi.config_checks import runs_at
from od_eval.text import named, quoted

_FEATURE_EXTRACTORS: dict[str, Mapping] = {
    "ssd": model_builder.SSD_KERAS_FEATURE_EXTRACTOR_CLASS_MAP,
    "faster_rcnn": model_builder.FASTER_RCNN_KERAS_FEATURE_EXTRACTOR_CLASS_MAP,
    "center_net": model_builder.CENTER_NET_EXTRACTOR_FUNCTION_MAP,
}

# TF1's families without a namesake in TF2, and their replacements with the least change to the rest of the config: the
# same number of feature maps with the same strides, at about the same cost.
_NEAREST_OF_TF1: dict[str, str] = {
    r"ssd_(inception_v[23]|mobilenet_v3_(large|small)|mobilenet_edgetpu)": "ssd_mobilenet_v2_keras",
    r"ssd_(mobiledet_(cpu|dsp|edgetpu|gpu)|spaghettinet|pnasnet)": "ssd_mobilenet_v2_keras",
    r"ssd_mobilenet_v2_mnasfpn": "ssd_mobilenet_v2_fpn_keras",
    r"(ssd_mobilenet_v1_ppn|embedded_ssd_mobilenet_v1)": "ssd_mobilenet_v1_keras",
    r"ssd_(resnet\d+)_v1_ppn": r"ssd_\1_v1_fpn_keras",
    r"faster_rcnn_inception_v2": "faster_rcnn_resnet50_keras",
    r"faster_rcnn_p?nas": "faster_rcnn_inception_resnet_v2_keras",
}

# Fields of a feature extractor that are passed on only if they are set, and the corresponding arguments.
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


@runs_at("load")
def meta_architecture(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """The config names a model and, if it is experimental, one that the Object Detection API knows."""
    kind = config.model.WhichOneof("model")
    if kind is None:
        yield Finding(
            "no_meta_architecture",
            "error",
            source,
            "`model` names no meta-architecture",
            "add `model { ssd { … } }` or another",
            field="model",
        )
    known = model_builder.EXPERIMENTAL_META_ARCH_BUILDER_MAP
    name = config.model.experimental_model.name
    if kind == "experimental_model" and name not in known:
        yield Finding(
            "unknown_meta_architecture",
            "error",
            source,
            f"model.experimental_model.name is '{named(name)}'",
            "use model.ssd, model.faster_rcnn or model.center_net",
            cause=f"and the Object Detection API has {quoted(known)} under experimental_model",
            field="model.experimental_model.name",
        )


@runs_at("load")
def feature_extractor(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """The feature extractor exists in TF2, and has the options that are set."""
    kind = config.model.WhichOneof("model")
    supported = _FEATURE_EXTRACTORS.get(kind)
    if supported is None:
        return
    extractor = getattr(config.model, kind).feature_extractor
    where = f"model.{kind}.feature_extractor"
    if not extractor.type:
        yield Finding(
            "no_feature_extractor",
            "error",
            source,
            f"{where}.type is not set",
            f"choose one of {quoted(supported)}",
            field=f"{where}.type",
        )
        return
    if extractor.type not in supported:
        others = [f"model.{name}" for name, known in _FEATURE_EXTRACTORS.items() if extractor.type in known]
        nearest = _nearest(extractor.type, supported)
        yield Finding(
            "unknown_feature_extractor",
            "error",
            source,
            f"{where}.type is '{named(extractor.type)}'",
            f"use the nearest one, '{nearest}', or pass --set {where}.type={nearest}"
            if nearest
            else f"choose one of {quoted(supported)}",
            cause=f"which belongs to {others[0]}" if others else "which the Object Detection API does not have in TF2",
            field=f"{where}.type",
            evidence={"type": extractor.type, "nearest": nearest},
        )
        return
    taken = inspect.signature(supported[extractor.type]).parameters
    for field, argument in _OPTIONAL_FIELDS.get(kind, {}).items():
        if extractor.HasField(field) and argument not in taken:
            value = getattr(extractor, field)
            shown = f"{{ {' '.join(str(value).split())} }}" if isinstance(value, Message) else repr(value)
            # An override cannot clear a scalar.
            override = f", or pass --set {where}.{field}=" if isinstance(value, Message) else ""
            yield Finding(
                "unknown_feature_extractor_option",
                "error",
                source,
                f"{where}.{field} is {shown}",
                f"remove it{override}",
                cause=f"and '{extractor.type}' has no such option in TF2",
                field=f"{where}.{field}",
            )


def _nearest(name: str, supported: Collection[str]) -> str | None:
    """The TF2 feature extractor that replaces one that TF2 does not have."""
    if f"{name}_keras" in supported:
        return f"{name}_keras"
    for pattern, nearest in _NEAREST_OF_TF1.items():
        match = re.fullmatch(pattern, name)
        if match and match.expand(nearest) in supported:
            return match.expand(nearest)
    longer = [known for known in supported if known.startswith(f"{name}_")]
    return next(iter([*longer, *difflib.get_close_matches(name, supported, n=1)]), None)


@runs_at("load")
def group_norm(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """No hyperparameters request group normalization, which would be silently ignored."""
    for where, hyperparams in _hyperparams(config.model, "model"):
        if hyperparams.HasField("group_norm"):
            yield Finding(
                "group_norm",
                "error",
                source,
                f"{where}.group_norm is set",
                f"remove it, or pass --set {where}.group_norm= (TF2 trains without it anyway)",
                cause="which the Object Detection API only has in TF1, and ignores in TF2",
                field=f"{where}.group_norm",
            )


def _hyperparams(message: Message, where: str) -> Iterator[tuple[str, hyperparams_pb2.Hyperparams]]:
    """Every `Hyperparams` that is set in a message, with its field path."""
    for field, value in message.ListFields():
        if field.message_type is hyperparams_pb2.Hyperparams.DESCRIPTOR:
            yield f"{where}.{field.name}", value
        elif field.message_type is not None and not field.is_repeated:
            yield from _hyperparams(value, f"{where}.{field.name}")


@runs_at("load")
def graph_rewriter(config: pipeline_pb2.TrainEvalPipelineConfig, source: str) -> Iterator[Finding]:
    """No quantization-aware training, which would be silently ignored."""
    if config.HasField("graph_rewriter"):
        yield Finding(
            "quantization_aware_training",
            "error",
            source,
            "graph_rewriter asks for quantization-aware training",
            "remove it, or pass --set graph_rewriter= (an exported model can be quantized afterwards, by the"
            " converter of TensorFlow Lite)",
            cause="which the Object Detection API only has in TF1",
            field="graph_rewriter",
        )
