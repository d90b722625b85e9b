"""The syntax of overrides, which change values of a pipeline.config without editing the file.

An override is a field path with a value, or a text proto to be merged:

    train_config.batch_size=4
    eval_input_reader[1].name=night
    train_config.data_augmentation_options=[]
    graph_rewriter=                              (removes the message)
    train_config { batch_size: 4 }               (appends to repeated fields)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from object_detection.protos import pipeline_pb2

from od_eval.errors import ODEvalError
from od_eval.text import did_you_mean, named
from od_eval.text_proto import parse_text_proto, read_text

_MOST_DIGITS = 9  # of an index
_FIELD_PATH = re.compile(r"\s*([A-Za-z_]\w*(?:\[\d+\])?(?:\.[A-Za-z_]\w*(?:\[\d+\])?)*)\s*=(.*)", re.DOTALL)


def apply_override(config: Message, override: str) -> None:
    """Applies an override to a message.

    Args:
      config: the message to change.
      override: a field path with a value, or a text proto to be merged.

    Raises:
      ODEvalError: the field does not exist, or the value is not valid for it; the message quotes the override.
    """
    try:
        override.encode()
    except UnicodeEncodeError as error:
        raise ODEvalError(
            f"override '{named(override)}' has a character that is not valid Unicode, as a config needs."
        ) from error
    match = _FIELD_PATH.fullmatch(override)
    if match is None:
        parse_text_proto(override, config, f"override '{named(override)}'")
        return
    *parents, last = match[1].split(".")
    message = config
    for part in parents:
        message = _descend(message, part, override)
    _assign(message, last, match[2].strip(), override)


def overridden(path: str, overrides: Sequence[str]) -> pipeline_pb2.TrainEvalPipelineConfig:
    """A pipeline.config with overrides, as it is written: neither checked nor with paths resolved.

    Raises:
      ODEvalError: the file cannot be read or parsed, or an override does not fit.
    """
    config = pipeline_pb2.TrainEvalPipelineConfig()
    parse_text_proto(read_text(path, "pipeline config"), config, path)
    for override in overrides:
        apply_override(config, override)
    return config


def field_value(config: Message, path: str) -> str | float | int | bool:
    """The value of a field, named as in an override; of a message or of a repeated field, its text.

    Raises:
      ODEvalError: the field does not exist.
    """
    message = type(config)()
    message.CopyFrom(config)  # looking for an element may create it
    *parents, last = path.split(".")
    for part in parents:
        message = _descend(message, part, path)
    field, index = _field(message, last, path)
    value = getattr(message, field.name)
    if field.is_repeated and index is not None and index < len(value):
        value = value[index]
    elif field.is_repeated:
        holder = type(message)()
        getattr(holder, field.name).MergeFrom(value)
        return text_format.MessageToString(holder, as_one_line=True).strip()
    if field.message_type is not None:
        return text_format.MessageToString(value, as_one_line=True).strip()
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    # A float32 as it was written: 0.08 for 0.079999998.
    return float(f"{value:.6g}") if isinstance(value, float) else value


def short_names(paths: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Path of a field -> the shortest end of it that no other path ends with, and that is not taken."""
    paths, taken = list(paths), set(taken)
    names = {}
    for path in paths:
        parts = path.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [other for other in paths if other != path]
        names[path] = next(
            (end for end in ends if end not in taken and not any(f".{other}".endswith(f".{end}") for other in others)),
            path,
        )
    return names


def _field(message: Message, part: str, override: str) -> tuple[FieldDescriptor, int | None]:
    name, _, index = part.partition("[")
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise ODEvalError(
            f"override '{named(override)}': {message.DESCRIPTOR.name} has no field '{named(name)}'"
            f"{did_you_mean(name, [known.name for known in message.DESCRIPTOR.fields])}."
        )
    if index and not field.is_repeated:
        raise ODEvalError(f"override '{named(override)}': '{name}' is not repeated; leave out the index.")
    digits = index.rstrip("]")
    if len(digits) > _MOST_DIGITS:
        raise ODEvalError(f"override '{named(override)}': there are not so many of '{name}'.")
    return field, int(digits) if digits else None


def _descend(message: Message, part: str, override: str) -> Message:
    field, index = _field(message, part, override)
    if field.message_type is None:
        raise ODEvalError(f"override '{named(override)}': '{field.name}' is a value and has no fields.")
    if not field.is_repeated:
        return getattr(message, field.name)
    return _element(getattr(message, field.name), field, index, override)


def _element(elements: Any, field: FieldDescriptor, index: int | None, override: str) -> Any:
    """An element of a repeated message field; without an index the only element, which is created if there is none."""
    if field.message_type.GetOptions().map_entry:
        raise ODEvalError(
            f"override '{named(override)}': '{field.name}' is a map, whose entries are replaced together:"
            f" {field.name}=[{{key: … value: …}}, …]."
        )
    if index is None:
        if len(elements) > 1:
            raise ODEvalError(
                f"override '{named(override)}': there are {len(elements)} of '{field.name}';"
                f" say which, {field.name}[0] to {field.name}[{len(elements) - 1}]."
            )
        index = 0
    if index == len(elements):
        return elements.add()
    if index > len(elements):
        raise ODEvalError(f"override '{named(override)}': there are only {len(elements)} of '{field.name}'.")
    return elements[index]


def _assign(message: Message, part: str, value: str, override: str) -> None:
    field, index = _field(message, part, override)
    if index is not None:
        elements = getattr(message, field.name)
        if field.message_type is None:
            # Parsed as a message with only this field, so that the rules of text proto apply.
            parsed = _parsed(message, field, value, override)
            if index > len(elements) or len(parsed) != 1:
                raise ODEvalError(f"override '{named(override)}': '{field.name}' has {len(elements)} values.")
            elements[index : index + 1] = parsed
        else:
            element = _element(elements, field, index, override)
            element.Clear()
            text = value[1:-1] if value[:1] == "{" and value[-1:] == "}" else value
            parse_text_proto(text, element, f"override '{named(override)}'")
        return
    if field.message_type is not None and not value:
        message.ClearField(field.name)
        return
    parsed = _parsed(message, field, value, override)
    message.ClearField(field.name)
    if field.is_repeated:
        getattr(message, field.name).MergeFrom(parsed)
    elif field.message_type is not None:
        getattr(message, field.name).SetInParent()
        getattr(message, field.name).CopyFrom(parsed)
    else:
        setattr(message, field.name, parsed)


def _parsed(message: Message, field: FieldDescriptor, value: str, override: str) -> Any:
    """The value of a field, parsed as text proto; strings do not need quotes."""
    holder = type(message)()
    quoted = value[:1] in ("'", '"') or (field.is_repeated and value[:1] == "[")
    if field.type == FieldDescriptor.TYPE_STRING and not quoted:
        if not field.is_repeated:
            return value
        getattr(holder, field.name).append(value)
        return getattr(holder, field.name)
    parse_text_proto(f"{field.name}: {value}", holder, f"override '{named(override)}'")
    return getattr(holder, field.name)
