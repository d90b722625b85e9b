from __future__ import annotations

import math

import pytest

from od_eval.data.annotations import AnnotatedImage, AnnotatedObject, categories_of, number, size_or_none
from od_eval.label_map import Category


@pytest.mark.parametrize(("value", "wanted"), [(3, 3.0), ("2.5", 2.5), (" 1 ", 1.0), (-1e300, -1e300)])
def test_a_number_may_be_written_as_text(value, wanted) -> None:
    assert number(value) == wanted


@pytest.mark.parametrize("value", [None, "", "a", True, [], {}, 10**400])
def test_what_is_no_number_is_nan(value) -> None:
    assert math.isnan(number(value))


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((64, "48"), (64, 48)), ((64.0, 48.0), (64, 48)), ((0, 48), None), ((None, 48), None), ((math.inf, 48), None)],
)
def test_a_size_is_two_positive_numbers_or_none(size, wanted) -> None:
    assert size_or_none(*size) == wanted


def test_categories_are_the_names_of_the_objects_in_alphabetical_order() -> None:
    objects = [AnnotatedObject(name, (0, 0, 1, 1), "") for name in ("dog", "", "cat", "dog")]
    image = AnnotatedImage("1.jpg", "1.jpg", "1.jpg", "1.jpg", None, objects, "")
    assert categories_of([image, image]) == [Category(1, "cat"), Category(2, "dog")]
