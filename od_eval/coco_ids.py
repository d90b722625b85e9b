"""Ids and categories in COCO's JSON as programs really write them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

Id = int | str


def read_id(value: Any) -> Id | None:
    """An id: a whole number, also as a float or in a string, is an int, any other string itself, anything else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else None
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and value == str(int(value)):
        return int(value)
    return value if isinstance(value, int | str) else None


def find_id(value: Any, known: Collection[Id]) -> Id | None:
    """The id that a reference means: the same, or for digits with leading zeros that number; None if there is none."""
    found = read_id(value)
    if found not in known and isinstance(found, str) and found.isdecimal():
        found = int(found)
    return found if found in known else None


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
