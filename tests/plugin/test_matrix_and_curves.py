"""The views "Matrix" and "Curves" in a browser, in a report."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from od_eval.evaluation.analyses.confusion import ConfusionMatrix, confusion_matrix, most_confused
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.object_table import ObjectTable
from od_eval.html_report import report
from od_eval.runs import analysis_files, metrics_files
from od_eval.runs.object_files import FILE_NAMES, parquet
from plugin_browser import open_page
from plugin_run import CATEGORIES, write_run

VIEWPORT = {"width": 1280, "height": 900}
Opener = Callable[..., Any]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectTable, Path]:
    """Three categories: the table, and its report."""
    return written(made_up(num_categories=3, num_images=60), tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectTable, Path]:
    """More categories than a matrix shows."""
    return written(made_up(num_categories=30, num_images=200), tmp_path_factory.mktemp("many"))


def made_up(num_categories: int, num_images: int, num_objects: int = 5) -> Evaluator:
    """A detector that finds most objects, calls some of them other names, and sees some that are not there."""
    random = np.random.default_rng(num_categories)
    shape = num_images, num_objects
    corners = random.uniform(0, 300, (*shape, 2))
    boxes = np.concatenate((corners, corners + random.uniform(10, 120, corners.shape)), -1)
    moved = boxes + random.normal(0, 3, boxes.shape) + 400 * (random.random((*shape, 1)) < 0.2)
    # The first categories are the most frequent ones.
    classes = 1 + (num_categories * random.random(shape) ** 2).astype(int)
    named = np.where(random.random(shape) < 0.7, classes, 1 + random.integers(0, num_categories, shape))
    evaluator = Evaluator({number: f"kind {number}" for number in range(1, num_categories + 1)})
    evaluator.update(
        EvaluationBatch(
            image_ids=list(range(num_images)),
            image_sizes=[[900, 900]] * num_images,
            detections=Detections(moved, random.beta(3, 2, shape), named),
            groundtruth=GroundTruth(boxes, classes),
        )
    )
    return evaluator


def written(evaluator: Evaluator, folder: Path) -> tuple[ObjectTable, Path]:
    """The object table, and the report of its evaluation."""
    run_dir = str(folder / "eval")
    metrics_files.write(run_dir, evaluator.evaluate(step=1))
    table = evaluator.object_tables()["bbox"]
    analysis_files.write(run_dir, 1, {FILE_NAMES["bbox"]: parquet(table)})
    report(run_dir, folder / "report.html")
    return table, folder / "report.html"


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens a view of a report, at most one in a test; nothing may go wrong in it."""
    with contextlib.ExitStack() as stack:
        problems: list[list[str]] = []

        def open_view(path: Path, view: str, **state: Any) -> Any:
            address = "&".join(f"{name}={value}" for name, value in {"view": view, **state}.items())
            opened = stack.enter_context(
                open_page(f"{path.as_uri()}#{address}", viewport={"width": 1280, "height": 900})
            )
            problems.append(opened.problems)
            opened.page.wait_for_selector("#view h2")
            return opened.page

        yield open_view
        assert problems == [[]]


def cell_of(page: Any, actual: int, predicted: int) -> Any:
    return page.locator(f'[data-cell="confusion/{actual}/{predicted}"]')


def a_confusion(matrix: ConfusionMatrix) -> tuple[int, int]:
    """The largest one between two categories."""
    counts = matrix.counts[:-1, :-1] * ~np.eye(len(matrix.counts) - 1, dtype=bool)
    actual, predicted = np.unravel_index(counts.argmax(), counts.shape)
    return int(actual), int(predicted)


def wait_for_address(page: Any, part: str) -> None:
    page.wait_for_url(lambda url: part in unquote(url))


# ---- The confusion matrix -------------------------------------------------------------------------------------------


def test_cells_have_the_numbers_of_the_analyses(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    table, path = few
    page = opened(path, "matrix", confidence=0.4)
    matrix = confusion_matrix(table, 0.4)
    background = len(table.categories)
    for actual, predicted in np.ndindex(matrix.counts.shape):
        if actual == predicted == background:
            assert cell_of(page, actual, predicted).count() == 0
        else:
            text = cell_of(page, actual, predicted).inner_text().replace("\u202f", "")
            assert int(text or 0) == matrix.counts[actual, predicted]


def test_a_cell_says_what_it_counts(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    table, path = few
    page = opened(path, "matrix", confidence=0.4)
    matrix = confusion_matrix(table, 0.4)
    actual, predicted = a_confusion(matrix)
    cell = cell_of(page, actual, predicted)
    cell.hover()
    said = page.locator(".said").inner_text().replace("\u2068", "").replace("\u2069", "")
    count, names = matrix.counts[actual, predicted], [*table.categories.values()]
    assert f"“{names[actual]}” taken for “{names[predicted]}”: {count}, " in said
    assert f"{100 * matrix.by_row[actual, predicted]:.1f}% of the {matrix.counts[actual].sum()} objects" in said
    assert (
        f"{100 * matrix.by_column[actual, predicted]:.1f}% of the {matrix.counts[:, predicted].sum()} detections"
        in said
    )
    assert cell.get_attribute("aria-label").replace("\u2068", "").replace("\u2069", "") == said


def test_a_click_on_a_cell_opens_its_images_and_back_leads_to_the_matrix(
    few: tuple[ObjectTable, Path], opened: Opener
) -> None:
    table, path = few
    page = opened(path, "matrix", confidence=0.4)
    actual, predicted = a_confusion(confusion_matrix(table, 0.4))
    cell_of(page, actual, predicted).click()
    wait_for_address(page, f"cell=confusion/{actual}/{predicted}")
    assert "view=images" in page.url
    page.go_back()
    page.wait_for_selector(".matrix")
    assert cell_of(page, actual, predicted).is_visible()


def test_keys_go_from_cell_to_cell_and_open_one(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    _, path = few
    page = opened(path, "matrix", confidence=0.4)
    assert page.locator('.matrix button[tabindex="0"]').count() == 1
    cell_of(page, 0, 0).focus()
    for key, at in [("ArrowRight", "0/1"), ("ArrowDown", "1/1"), ("End", "1/3"), ("ArrowUp", "0/3"), ("Home", "0/0")]:
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.cell") == f"confusion/{at}"
    page.keyboard.press("Enter")
    wait_for_address(page, "cell=confusion/0/0")


def test_cells_show_parts_of_rows_and_columns_and_errors_only(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    table, path = few
    page = opened(path, "matrix", confidence=0.4)
    matrix = confusion_matrix(table, 0.4)
    for shown, rates in (("rows", matrix.by_row), ("columns", matrix.by_column)):
        page.locator(".matrix-options select").select_option(shown)
        text = cell_of(page, 1, 1).inner_text()
        assert int(text.removesuffix("%")) == pytest.approx(100 * rates[1, 1], abs=0.51)
    page.get_by_label("Errors only").check()
    assert cell_of(page, 1, 1).count() == 0
    assert cell_of(page, 1, 0).count() == 1
    # A link shows the same.
    wait_for_address(page, "errors_only=true")
    page.reload()
    page.wait_for_selector("[data-cell]")
    assert page.locator(".matrix-options select").input_value() == "columns"
    assert page.get_by_label("Errors only").is_checked()


def test_the_matrix_follows_the_confidence(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    table, path = few
    page = opened(path, "matrix", confidence=0.9)
    assert int(cell_of(page, 0, 0).inner_text() or 0) == confusion_matrix(table, 0.9).counts[0, 0]


def test_of_many_categories_the_worst_pairs_come_first_and_others_are_chosen(
    many: tuple[ObjectTable, Path], opened: Opener
) -> None:
    table, path = many
    page = opened(path, "matrix", confidence=0.4)
    assert page.locator("#view h2").all_inner_texts() == ["Confused most", "Confusion matrix"]
    expected = most_confused(table, confusion_matrix(table, 0.4))
    names = [*table.categories.values()]
    rows = page.locator(".pairs tbody tr").all()
    assert len(rows) == 15
    for row, pair in zip(rows, expected, strict=False):
        cells = row.locator("td").all_inner_texts()
        assert cells[:3] == [names[pair.actual], names[pair.predicted], str(pair.count)]
    num_rows = page.locator(".matrix tbody tr").count()
    assert 2 < num_rows <= 13
    page.locator(".chooser summary").click()
    page.locator(".chooser input:not(:checked)").first.check()
    assert page.locator(".matrix tbody tr").count() == num_rows + 1
    wait_for_address(page, "categories=")
    page.reload()
    page.wait_for_selector("[data-cell]")
    assert page.locator(".matrix tbody tr").count() == num_rows + 1
    rows[0].click()
    wait_for_address(page, f"cell=confusion/{expected[0].actual}/{expected[0].predicted}")


# ---- Curves ---------------------------------------------------------------------------------------------------------


def chart(page: Any, title: str) -> Any:
    return page.locator(".chart").filter(has=page.locator("figcaption", has_text=title)).first


def test_a_click_on_a_curve_chooses_its_confidence(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    _, path = few
    page = opened(path, "curves")
    drawing = chart(page, "By confidence").locator("svg").first
    box = drawing.bounding_box()
    drawing.click(position={"x": box["width"] * 0.4, "y": box["height"] * 0.3})
    page.wait_for_url(lambda url: "confidence=" in url)
    confidence = float(page.url.partition("confidence=")[2].partition("&")[0])
    assert 0 < confidence < 1
    assert f"{confidence:.3f}" in page.locator("header").inner_text()


def test_keys_read_a_curve_and_choose_a_point(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    _, path = few
    page = opened(path, "curves")
    curves = chart(page, "Precision and recall at IoU 0.50")
    curves.locator(".legend li").nth(3).wait_for()  # three categories, and all of them
    drawing = curves.locator("svg").first
    drawing.focus()
    texts = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "End"):
        page.keyboard.press(key)
        texts.append(drawing.get_attribute("aria-valuetext"))
    assert len(set(texts)) == 4
    assert all("precision" in text and "confidence" in text for text in texts)
    assert curves.locator(".said").inner_text() == texts[-1]
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "confidence=" in url)


def test_a_category_has_its_own_curves(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    table, path = few
    page = opened(path, "curves", category=1)
    names = chart(page, "Precision and recall at IoU 0.50").locator(".legend .name").all_inner_texts()
    assert names == [[*table.categories.values()][1]]
    assert chart(page, "five IoU").locator(".legend .name").count() == 5


def test_a_bar_opens_its_images(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    _, path = few
    page = opened(path, "curves")
    bars = chart(page, "Size of objects").get_by_role("button")
    assert bars.count() > 3
    assert [bar.get_attribute("tabindex") for bar in bars.all()].count("0") == 1
    bars.first.focus()
    page.keyboard.press("ArrowRight")
    said = chart(page, "Size of objects").locator(".said").inner_text()
    assert said == bars.nth(1).get_attribute("aria-label")
    page.keyboard.press("Enter")
    wait_for_address(page, "cell=bar/size_")


def test_bars_are_told_apart_without_colors(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    _, path = few
    page = opened(path, "curves")
    for title, names in (
        ("Confidence", ["Right detections", "Wrong detections"]),
        ("Size of objects", ["Found objects", "Missed objects"]),
    ):
        bar_chart = page.locator(".of-bars .chart", has=page.locator("figcaption", has_text=re.compile(f"^{title}$")))
        entries = bar_chart.locator(".legend li")
        assert [entry.inner_text() for entry in entries.all()] == names
        dashes = [entry.locator("rect").get_attribute("stroke-dasharray") for entry in entries.all()]
        assert dashes[0] is None
        assert dashes[1] is not None
        bars = bar_chart.get_by_role("button").all()
        assert {(bar.get_attribute("aria-label").split(",")[0], dash_of(bar)) for bar in bars} == {
            *zip(names, dashes, strict=True)
        }


def dash_of(bar: Any) -> str | None:
    return bar.locator(".body").get_attribute("stroke-dasharray")


def test_a_point_of_the_calibration_opens_its_images(few: tuple[ObjectTable, Path], opened: Opener) -> None:
    _, path = few
    page = opened(path, "curves")
    chart(page, "Calibration").locator("svg circle").nth(2).click()
    wait_for_address(page, "cell=bar/score/")
    assert "view=images" in unquote(page.url)


# ---- Both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["matrix", "curves"])
def test_hostile_names_are_text(view: str, opened: Opener, tmp_path: Path) -> None:
    write_run(tmp_path / "eval")
    report(str(tmp_path / "eval"), tmp_path / "report.html")
    page = opened(tmp_path / "report.html", view)
    page.get_by_text(CATEGORIES[1]).first.wait_for(state="attached")
    assert page.locator("#view :is(img, script, b)").count() == 0
    assert "\u202e" not in page.locator("#view").inner_html()


@pytest.mark.parametrize("view", ["matrix", "curves"])
def test_without_detections_and_objects_there_is_something_to_read(view: str, opened: Opener, tmp_path: Path) -> None:
    _, path = written(made_up(num_categories=2, num_images=3, num_objects=0), tmp_path)
    page = opened(path, view)
    assert page.locator("#view").inner_text().strip()
