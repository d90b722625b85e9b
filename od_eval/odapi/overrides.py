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
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from od_eval.errors import ODEvalError
from od_eval.text import did_you_mean, named
from od_eval.text_proto import parse_text_proto

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
