"""A page in headless Chromium: its requests, and what goes wrong in it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@dataclasses.dataclass
class Page:
    """An open page.

    page, frame: of playwright; `frame` is where the page "Detections" is, the page itself or a frame in it.
    requests: the addresses of all requests, but for `data:`.
    problems: errors, messages in the console about them, and dialogs.
    """

    page: Any
    frame: Any
    requests: list[str]
    problems: list[str]


@contextlib.contextmanager
def open_page(address: str, *, frame: str | None = None, **options: Any) -> Iterator[Page]:
    """Opens an address; the test is skipped where there is no browser.

    Args:
      address: of the page.
      frame: a selector of the frame with the page "Detections".
      options: of playwright's `new_context`: `viewport`, `color_scheme`.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install -e .[dev]")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is absent: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_context(**options).new_page()
            opened = Page(page, page.frame_locator(frame) if frame else page, [], [])
            page.on("request", lambda request: _note(opened.requests, request.url))
            page.on("pageerror", lambda error: opened.problems.append(str(error)))
            page.on("console", lambda message: message.type == "error" and opened.problems.append(message.text))
            page.on("dialog", lambda dialog: (opened.problems.append(dialog.message), dialog.dismiss()))
            page.goto(address)
            yield opened
        finally:
            browser.close()


def _note(requests: list[str], address: str) -> None:
    if not address.startswith("data:"):
        requests.append(address)
