"""The frame of the page "Detections" and its first screen: what is chosen, what follows, and what the address says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from test_plugin_server import tensorboard

from od_eval.evaluation.analyses import operating_point
from od_eval.evaluation.object_table import ObjectTable
from od_eval.html_report import report
from od_eval.plugin import page_data
from od_eval.runs import analysis_files
from od_eval.runs.object_files import FILE_NAMES, read_object_table
from plugin_browser import Page, open_page
from plugin_run import CATEGORIES, STEPS

NEWEST = max(STEPS)
SHOWN_CONTROL = "\\u202ecat\\u001b[2J\\u2066"
FRAME = "tf-dashboard-view iframe, plugins-component iframe"


@pytest.fixture(scope="module")
def address(run_dir: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a report."""
    path = tmp_path_factory.mktemp("shell") / "report.html"
    report(run_dir, path)
    return path.as_uri()


@pytest.fixture
def opened(address: str) -> Iterator[Page]:
    with open_page(address, viewport={"width": 1280, "height": 900}) as page:
        page.frame.get_by_role("tab", name="Overview").wait_for()
        yield page
        assert page.problems == []


@pytest.fixture(scope="module")
def table(run_dir: str) -> ObjectTable:
    return read_object_table(str(Path(analysis_files.of_step(run_dir, NEWEST)) / FILE_NAMES["bbox"]))


@pytest.fixture(scope="module")
def evaluation(run_dir: str) -> dict[str, Any]:
    return page_data.evaluation(run_dir, NEWEST)


def state_of(page: Page) -> dict[str, str]:
    """What the address says."""
    hash = page.page.evaluate("location.hash").lstrip("#")
    return {name.removeprefix("p.od_eval."): value for name, value in parse_qsl(hash)}


def tile(page: Page, name: str) -> str:
    return page.frame.locator(".tile", has=page.page.locator("dt", has_text=name)).first.inner_text()


def wait_for_state(page: Page, **values: str) -> None:
    """Until the address says this."""
    wanted = json.dumps(values)
    page.page.wait_for_function(
        f"""() => {{
          const all = new URLSearchParams(location.hash.replace(/^#/, "").replaceAll("p.od_eval.", ""));
          return Object.entries({wanted}).every(([name, value]) => all.get(name) === value);
        }}"""
    )


def test_the_first_screen_has_the_numbers_of_the_evaluation(opened: Page, evaluation: dict[str, Any]) -> None:
    point = evaluation["operating_point"]
    assert f"{evaluation['bbox']['AP']:.3f}" in tile(opened, "AP")
    low, high = evaluation["intervals"]["AP"]
    assert f"{low:.3f} to {high:.3f}" in tile(opened, "AP")
    for name in ("precision", "recall", "f1"):
        assert f"{point['bbox'][name]:.3f}" in tile(opened, name.capitalize())
    assert f"{point['bbox']['tp']} of {point['bbox']['num_groundtruth']} objects" in tile(opened, "Recall")
    worst = min(evaluation["per_category"].values(), key=lambda of: of["AP"] if of["AP"] is not None else 2)
    assert f"{worst['AP']:.3f}" in opened.frame.locator("table.numbers tbody tr").first.inner_text()
    costs = opened.frame.locator("section", has=opened.page.locator("#costs")).locator("button")
    highest = max(
        cost
        for kind, cost in evaluation["errors"].items()
        if kind in ("class", "location", "both", "duplicate", "missed")
    )
    assert f"{highest:.3f}" in costs.first.inner_text()


def test_names_with_control_characters_are_shown_escaped(opened: Page) -> None:
    assert opened.frame.locator("table.numbers bdi", has_text=SHOWN_CONTROL).count() == 1
    assert opened.frame.locator("option", has_text=SHOWN_CONTROL).count() == 1
    text = opened.page.evaluate("document.body.innerText")
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert CATEGORIES[1] in text


def test_the_confidence_changes_the_counts_and_the_address(opened: Page, table: ObjectTable) -> None:
    slider = opened.frame.get_by_label("Confidence")
    before = float(slider.input_value())
    slider.focus()
    for _ in range(3):
        slider.press("PageDown")
        opened.page.wait_for_timeout(150)
    opened.page.wait_for_function("location.hash.includes('confidence=')")
    confidence = float(state_of(opened)["confidence"])
    assert confidence < before
    expected = operating_point.total(operating_point.counts(table, confidence))
    assert f"{expected.tp} of {expected.num_groundtruth} objects" in tile(opened, "Recall")
    assert f"{expected.f1:.3f}" in tile(opened, "F1")
    opened.frame.get_by_role("button", name="best F1").click()
    opened.page.wait_for_function("!location.hash.includes('confidence=')")
    best = operating_point.cuts(table)
    assert f"{best.f_score().max():.3f}" in tile(opened, "F1")


def test_iou_and_category_change_the_counts(opened: Page, table: ObjectTable, evaluation: dict[str, Any]) -> None:
    opened.frame.get_by_label("IoU").select_option("0.75")
    opened.frame.get_by_label("Category").select_option("1")
    wait_for_state(opened, iou="5", category="1")
    confidence = evaluation["operating_point"]["confidence"]
    expected = operating_point.counts(table, confidence, 5)[1]
    assert f"{expected.tp} of {expected.num_groundtruth} objects" in tile(opened, "Recall")
    name = list(CATEGORIES.values())[1]
    assert f"{evaluation['per_category'][name]['AP']:.3f}" in tile(opened, "AP")
    assert opened.frame.locator("h2", has_text=name).count() == 1


def test_a_number_opens_its_images_and_back_returns(opened: Page) -> None:
    opened.frame.locator("section", has=opened.page.locator("#costs")).locator("button").first.click()
    wait_for_state(opened, view="images")
    assert state_of(opened)["cell"].startswith("errors/")
    opened.page.go_back()
    opened.frame.locator(".tiles").wait_for()
    assert "view" not in state_of(opened)
    opened.frame.locator("table.numbers button").first.click()
    wait_for_state(opened, view="images")
    assert state_of(opened)["cell"].startswith("category/")
    opened.page.go_back()
    opened.page.go_forward()
    wait_for_state(opened, view="images")
    assert opened.frame.get_by_role("tab", name="Images").get_attribute("aria-selected") == "true"


def test_tabs_follow_the_arrow_keys(opened: Page) -> None:
    opened.frame.get_by_role("tab", name="Overview").focus()
    opened.page.keyboard.press("ArrowRight")
    wait_for_state(opened, view="matrix")
    opened.page.keyboard.press("ArrowLeft")
    opened.page.keyboard.press("ArrowLeft")
    wait_for_state(opened, view="labels")


@pytest.mark.parametrize(
    "state",
    [
        "run=nowhere&step=7&type=masks&confidence=zzz&iou=77&category=99999&size=constructor&view=__proto__",
        "view=images&image=999999&cell=%E0%A4%A",
        "view=images&cell=<img src=x onerror=alert(1)>",
        "view=matrix&category=3&size=small&confidence=-1e300",
        "__proto__=1&constructor=2&=&&a",
    ],
)
def test_a_link_that_means_nothing_does_no_harm(address: str, state: str) -> None:
    with open_page(f"{address}#{state}") as page:
        page.frame.get_by_role("tab", name="Overview").wait_for()
        page.frame.get_by_role("tab", name="Overview").click()
        page.frame.locator(".tiles").wait_for()
        assert page.frame.locator("img[src='x']").count() == 0
        assert page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_has_the_theme_of_the_browser(address: str, scheme: str) -> None:
    with open_page(address, color_scheme=scheme) as page:
        page.frame.locator(".tiles").wait_for()
        assert page.page.evaluate("document.documentElement.dataset.theme") == scheme


def test_in_tensorboard_a_link_shows_the_same_and_the_theme_is_followed(logdir: Path) -> None:
    with tensorboard(f"--logdir={logdir}") as root:
        with open_page(f"{root}#od_eval", frame=FRAME) as page:
            page.frame.get_by_role("tab", name="Overview").wait_for()
            page.frame.get_by_label("Run").select_option(label="shapes/a/eval/night")
            page.frame.get_by_role("button", name="Evaluation before").click()
            page.frame.get_by_role("tab", name="Confusion matrix").click()
            shown = {"run": "shapes/a/eval/night", "step": str(min(STEPS)), "view": "matrix"}
            wait_for_state(page, **shown)
            link = page.page.url
            page.page.go_back()
            page.frame.locator(".tiles").wait_for()
            # A click on the tab of TensorBoard leaves nothing of the page in the address.
            page.page.evaluate("location.hash = '#scalars'")
            page.page.evaluate("location.hash = '#od_eval'")
            wait_for_state(page, run="shapes/a/eval/night", step=str(min(STEPS)))
            page.page.evaluate("document.body.classList.add('dark-mode')")
            page.frame.locator("html[data-theme=dark]").wait_for()
            page.page.evaluate("document.body.classList.remove('dark-mode')")
            page.frame.locator("html[data-theme=light]").wait_for()
        with open_page(link, frame=FRAME) as page:
            page.frame.locator("[role=tab][aria-selected=true]", has_text="Confusion matrix").wait_for()
            assert state_of(page) == shown
            assert "#od_eval&" in unquote(page.page.url)
