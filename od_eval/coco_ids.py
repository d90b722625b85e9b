"""Ids, numbers and categories in COCO's JSON as programs really write them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeGuard

Id = int | str
_MOST_DIGITS = 1000  # Python refuses to read numbers of some thousand digits, as an attack
LARGEST = 3.4e38  # of float32, the type of boxes and scores


def read_id(value: Any) -> Id | None:
    """An id: a whole number, also as a float or in a string, is an int, any other string itself, anything else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else None
    if isinstance(value, str) and _is_whole_number(value.removeprefix("-")) and value == str(int(value)):
        return int(value)
    return value if isinstance(value, int | str) else None


def find_id(value: Any, known: Collection[Id]) -> Id | None:
    """The id that a reference means: the same, or for digits with leading zeros that number; None if there is none."""
    found = read_id(value)
    if found not in known and isinstance(found, str) and _is_whole_number(found):
        found = int(found)
    return found if found in known else None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that float32 can hold: neither a bool nor NaN, infinite or as good as that."""
    return type(value) in (int, float) and abs(value) <= LARGEST


def _is_whole_number(text: str) -> bool:
    return text.isdecimal() and len(text) < _MOST_DIGITS


def groups_only(categories: Sequence[Mapping[str, Any]], used: Collection[Id]) -> list[Mapping[str, Any]]:
    """The categories that no annotation is of, and that others name as their supercategory.

    Roboflow's exports begin with one, which has the name of the project, and may have that of a class.

    Args:
      categories: the entries of the file, each with an id.
      used: the ids of the categories of annotations.
    """
    return [
        entry
        for entry in categories
        if read_id(entry["id"]) not in used
        and any(other is not entry and other.get("supercategory") == entry.get("name") for other in categories)
    ]
