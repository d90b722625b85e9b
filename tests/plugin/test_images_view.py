"""The view "Images" in a browser, from the plugin's server without TensorBoard around it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorboard.plugins import base_plugin
from werkzeug import serving, wrappers

from od_eval.evaluation.analyses.confusion import confusion_matrix
from od_eval.evaluation.analyses.per_image import per_image
from od_eval.evaluation.object_table import ObjectTable
from od_eval.plugin.server import DetectionsPlugin
from od_eval.runs import analysis_files
from od_eval.runs.object_files import FILE_NAMES, read_object_table
from plugin_browser import Page, open_page
from plugin_run import IMAGES, NUM_PICTURES, STEPS, write_run

CONFIDENCE = 0.3
# Of static/picture.js, as a canvas has them.
COLORS = {"right": (0, 114, 178), "wrong": (213, 94, 0), "missed": (240, 228, 66)}
COLUMNS = {
    "F1": "f1",
    "GT": "num_groundtruth",
    "FP": "fp",
    "FN": "fn",
    "Precision": "precision",
    "Recall": "recall",
    "IoU": "mean_iou",
    "Worst FP": "highest_fp_score",
}


@contextlib.contextmanager
def served(runs: Mapping[str, str]) -> Iterator[str]:
    """The address of the page of runs, name -> folder."""
    multiplexer = SimpleNamespace(RunPaths=lambda: dict(runs))
    apps = DetectionsPlugin(base_plugin.TBContext(multiplexer=multiplexer)).get_plugin_apps()

    @wrappers.Request.application
    def app(request: wrappers.Request) -> Any:
        return apps.get(request.path, wrappers.Response(status=204))

    server = serving.make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/index.html"
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "eval"
    write_run(folder)
    return folder


@pytest.fixture(scope="module")
def table(run_dir: Path) -> ObjectTable:
    """Of the newest step, which is the one that is shown."""
    return read_object_table(str(Path(analysis_files.of_step(str(run_dir), STEPS[-1])) / FILE_NAMES["bbox"]))


@pytest.fixture
def opened(run_dir: Path) -> Iterator[Page]:
    """The view of the newest step; nothing may go wrong in it."""
    with served({"eval": str(run_dir)}) as address, open_page(f"{address}#view=images&confidence={CONFIDENCE}") as page:
        page.page.wait_for_selector(".images-tile")
        yield page
        assert page.problems == []


@pytest.fixture
def page(opened: Page) -> Any:
    return opened.page


def rows_of_table(page: Any) -> list[list[str]]:
    return page.locator(".images-table tbody tr:not([aria-hidden])").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )


def names_of_tiles(page: Any) -> list[str]:
    return page.locator(".images-caption").all_text_contents()


def state_of(page: Any) -> dict[str, str]:
    return dict(part.split("=") for part in page.evaluate("location.hash.slice(1)").split("&"))


def num_pixels(page: Any, selector: str) -> dict[str, int]:
    """How many pixels of a canvas have the color of each outcome."""
    return page.locator(selector).evaluate(
        """(canvas, colors) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const pixels = new Uint32Array(data.buffer);
          const count = ([red, green, blue]) => {
            const [color] = new Uint32Array(Uint8Array.of(red, green, blue, 255).buffer);
            return pixels.reduce((num, pixel) => num + Number(pixel === color), 0);
          };
          return Object.fromEntries(Object.entries(colors).map(([name, color]) => [name, count(color)]));
        }""",
        COLORS,
    )


def wait_until(condition: Callable[[], bool], page: Any) -> None:
    for _ in range(100):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("It does not happen.")


def test_each_column_has_the_numbers_of_the_analysis_and_sorts_the_images(page: Any, table: ObjectTable) -> None:
    expected = per_image(table, CONFIDENCE)
    assert len(rows_of_table(page)) == len(IMAGES)
    for index, (title, name) in enumerate(COLUMNS.items(), 1):
        values = [None if value is None else float(value) for value in expected[name]]
        there = sorted(value for value in values if value is not None)
        heading = page.locator(".images-table thead th").nth(index)
        assert heading.locator("button").text_content().strip(" ▲▼\n") == title
        orders = set()
        for _ in range(2):
            heading.locator("button").click()
            order = heading.get_attribute("aria-sort")
            orders.add(order)
            shown = [row[index] for row in rows_of_table(page)]
            ordered = there if order == "ascending" else there[::-1]
            digits = 0 if title in ("GT", "FP", "FN") else 2
            assert [float(text) for text in shown[: len(there)]] == pytest.approx(ordered, abs=0.51 * 10**-digits)
            assert shown[len(there) :] == ["–"] * (len(values) - len(there))
            assert names_of_tiles(page) == [row[0] for row in rows_of_table(page)]
        assert orders == {"ascending", "descending"}


def test_the_order_stands_in_the_address(page: Any, table: ObjectTable) -> None:
    expected = sorted(per_image(table, CONFIDENCE)["fp"].tolist())
    heading = page.get_by_role("button", name="FP", exact=True)
    heading.click()
    wait_until(lambda: state_of(page).get("order") == "fp%2Fdescending", page)
    heading.click()
    wait_until(lambda: state_of(page).get("order") == "fp%2Fascending", page)
    page.reload()
    page.wait_for_selector(".images-tile")
    assert [int(row[3]) for row in rows_of_table(page)] == expected
    # Of an order by nothing that is there, that of the first column is left.
    page.evaluate("location.hash = '#view=images&order=name/ascending'")
    wait_until(lambda: page.locator("th[aria-sort]").first.text_content().startswith("F1"), page)


def test_images_open_and_keys_lead_to_the_next_and_back(page: Any) -> None:
    names = names_of_tiles(page)
    heading = page.locator(".images-large h2")

    def wait_for(place: int) -> None:
        wait_until(lambda: heading.text_content() == names[place], page)

    page.locator(".images-tile").nth(1).click()
    wait_for(1)
    wait_until(lambda: "image" in state_of(page), page)
    page.go_back()
    page.wait_for_selector(".images-gallery")
    page.go_forward()
    wait_for(1)
    page.keyboard.press("ArrowRight")
    wait_for(2)
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    wait_for(0)
    page.keyboard.press("Escape")
    page.wait_for_selector(".images-gallery")
    wait_until(lambda: "image" not in state_of(page), page)
    # The keyboard goes on where it was.
    wait_until(lambda: page.evaluate("document.activeElement.textContent").strip() == names[0], page)


def test_keys_in_a_slider_or_tab_do_not_change_the_image(page: Any) -> None:
    page.locator(".images-tile").first.click()
    before = page.locator(".images-large h2").text_content()
    page.locator("#confidence").press("ArrowRight")
    page.wait_for_timeout(200)
    assert page.locator(".images-large h2").text_content() == before


def test_what_is_right_wrong_and_missed_has_its_color_and_is_listed(page: Any, table: ObjectTable) -> None:
    numbers = per_image(table, CONFIDENCE)
    for image in range(len(IMAGES)):
        page.evaluate(f"location.hash = '#view=images&confidence={CONFIDENCE}&image={image}'")
        page.locator(".images-large").wait_for()
        counts = {
            outcome: int(numbers[name][image])
            for outcome, name in {"right": "tp", "wrong": "fp", "missed": "fn"}.items()
        }
        in_words = f"{counts['right']} right, {counts['wrong']} wrong, {counts['missed']} missed"
        page.locator(f'.images-stage canvas[aria-label^="{in_words}"]').wait_for()
        pixels = num_pixels(page, ".images-stage canvas")
        for outcome, count in counts.items():
            assert (pixels[outcome] > 0) == (count > 0)
        listed = page.locator(".images-shapes li").all_text_contents()
        assert sum(text.strip().startswith("FP") for text in listed) == counts["wrong"]
        assert sum(text.strip().startswith("FN") for text in listed) == counts["missed"]


def test_what_is_pointed_at_stays_vivid_while_the_rest_is_dimmed(page: Any) -> None:
    page.locator(".images-tile").first.click()
    wait_until(lambda: num_pixels(page, ".images-stage canvas")["wrong"] > 0, page)
    before = num_pixels(page, ".images-stage canvas")
    errors = page.locator(".images-shapes button", has_text="FN")
    errors.first.hover()
    wait_until(lambda: num_pixels(page, ".images-stage canvas") != before, page)
    after = num_pixels(page, ".images-stage canvas")
    assert after["missed"] > 0
    assert after["wrong"] == 0
    page.mouse.move(0, 0)
    wait_until(lambda: num_pixels(page, ".images-stage canvas") == before, page)


def test_a_cell_of_the_matrix_shows_its_images_and_dims_the_rest(page: Any, table: ObjectTable) -> None:
    matrix = confusion_matrix(table, CONFIDENCE, 0)
    background = len(table.categories)
    category = int(np.argmax(matrix.counts[:background, background]))
    _, objects = matrix.rows(category, background)
    images = np.unique(table.groundtruth.image[objects])
    page.evaluate(f"location.hash = '#view=images&confidence={CONFIDENCE}&cell=confusion/{category}/{background}'")
    page.get_by_role("button", name="Show all images").wait_for()
    heading = page.locator(".images-heading").text_content()
    assert f"{len(objects)} object" in heading
    assert f"in {len(images)} image" in " ".join(heading.split())
    assert len(names_of_tiles(page)) == len(images)
    assert [int(row[1]) for row in rows_of_table(page)] == sorted(
        np.bincount(table.groundtruth.image[objects])[images].tolist(), reverse=True
    )
    pixels = num_pixels(page, ".images-tile >> nth=0 >> canvas")
    assert pixels["missed"] > 0
    assert pixels["right"] == pixels["wrong"] == 0
    page.get_by_role("button", name="Show all images").click()
    wait_until(lambda: len(names_of_tiles(page)) == len(IMAGES), page)


def test_the_same_image_is_shown_at_each_step(opened: Page, run_dir: Path) -> None:
    page = opened.page
    page.evaluate(f"location.hash = '#view=images&confidence={CONFIDENCE}&image=3'")
    page.get_by_role("button", name=f"Show this image at {len(STEPS)} steps").click()
    captions = page.locator(".images-steps li")
    wait_until(lambda: captions.count() == len(STEPS), page)
    for step, caption in zip(STEPS, captions.all_text_contents(), strict=True):
        path = Path(analysis_files.of_step(str(run_dir), step)) / FILE_NAMES["bbox"]
        numbers = per_image(read_object_table(str(path)), CONFIDENCE)
        expected = f"{numbers['tp'][3]} right, {numbers['fp'][3]} wrong, {numbers['fn'][3]} missed"
        assert caption.strip() == f"step {step}: {expected}"
    # Of another step only what is in this image is loaded.
    others = [request for request in opened.requests if f"objects?run=eval&step={STEPS[0]}" in request]
    assert len(others) == 1
    assert "&image=" in others[0]


def test_an_image_without_a_picture_is_drawn_on_gray_and_says_so(page: Any, table: ObjectTable) -> None:
    image = list(table.images).index(IMAGES[NUM_PICTURES])
    page.evaluate(f"location.hash = '#view=images&confidence={CONFIDENCE}&image={image}'")
    page.get_by_text("No picture of this image was kept.").wait_for()
    assert sum(num_pixels(page, ".images-stage canvas").values()) > 0


def test_hostile_names_are_text(opened: Page) -> None:
    page, texts = opened.page, ""
    for image in range(len(IMAGES)):
        page.evaluate(f"location.hash = '#view=images&confidence=0&image={image}'")
        page.locator(".images-large").wait_for()
        page.wait_for_timeout(100)
        texts += page.locator(".images").inner_text() + page.locator(".images-stage canvas").get_attribute("aria-label")
    assert page.locator("#page img, #page script, #page b").count() == 0
    for name in ("<img src=x onerror=alert(1)>", "</title><b>.jpg", "\\u202egpj.exe"):
        assert name in texts
    assert not set("\u202e\x1b\x00") & set(texts)
    assert all("127.0.0.1" in request for request in opened.requests)
