"""A report that is printed: a document with what is in view, without controls and without empty pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_matrix_and_curves import made_up, written

from plugin_browser import open_page

VIEWS = {
    "overview": "Overview",
    "matrix": "Confusion matrix",
    "curves": "Curves",
    "images": "Images",
    "compare": "Compare",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of so many images that most of them are not in view."""
    return written(made_up(num_categories=3, num_images=600), tmp_path_factory.mktemp("printed"))[1]


@pytest.fixture
def page(path: Path) -> Iterator[Any]:
    with open_page(path.as_uri(), color_scheme="dark", viewport={"width": 1280, "height": 800}) as opened:
        yield opened.page
        assert opened.problems == []


@pytest.mark.parametrize("view", VIEWS)
def test_of_what_is_above_there_remain_the_choices_and_the_name_of_the_view(view: str, page: Any) -> None:
    page.locator(f"#tab-{view}").click()
    page.locator("#view h2, #view table, #view p").first.wait_for()
    page.emulate_media(media="print")
    assert page.get_by_role("tab").all_inner_texts() == [VIEWS[view]]
    assert page.get_by_text("Confidence", exact=True).first.is_visible()
    assert not page.locator("#confidence").is_visible()
    assert page.locator(".controls button:visible").count() == 1


def test_images_that_are_not_in_view_take_no_pages(page: Any) -> None:
    page.locator("#tab-images").click()
    page.locator(".images-gallery canvas").first.wait_for()
    assert page.locator("tr.images-unseen").bounding_box()["height"] > 10_000
    page.emulate_media(media="print")
    assert page.locator("tr.images-unseen").bounding_box()["height"] < 50
    page.emulate_media(media="screen")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", page.pdf(format="A4"))) <= 4
