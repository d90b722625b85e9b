"""Semantic segmentation on the page: what it is given, and its views in a browser, from the server and in a report."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from made_segmentation_run import CATEGORIES, HEIGHT, IGNORE_LABEL, IMAGES, NUM_PICTURES, STEPS, WIDTH, made_batch
from made_segmentation_run import write_segmentation_run as write_run
from sklearn.metrics import confusion_matrix
from test_images_view import served

from od_eval import ODEvalError
from od_eval.evaluation.segmentation.evaluator import SegmentationEvaluator
from od_eval.html_report import report
from od_eval.plugin import page_data, segmentation_data
from od_eval.runs import analysis_files, segmentation_files
from plugin_browser import Page, open_page
from plugin_run import write_run as write_objects

NEWEST = STEPS[-1]
NAMES = [*CATEGORIES.values()]
IDS = [*CATEGORIES]
Opener = Callable[..., Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, SegmentationEvaluator]]:
    """The folder of a run, and the evaluators of its steps."""
    folder = tmp_path_factory.mktemp("segmentation") / "eval"
    return folder, write_run(folder)


@pytest.fixture(scope="module")
def run_dir(written: tuple[Path, dict[int, SegmentationEvaluator]]) -> str:
    return str(written[0])


@pytest.fixture(scope="module")
def evaluator(written: tuple[Path, dict[int, SegmentationEvaluator]]) -> SegmentationEvaluator:
    """Of the newest step."""
    return written[1][NEWEST]


def labels_of_images() -> tuple[np.ndarray, np.ndarray]:
    """Ids of classes at the newest step, actual and predicted: `[images, height, width]`."""
    batch = made_batch(share_right=1 - 40 / NEWEST)
    return np.asarray(batch.labels), np.array(IDS)[np.asarray(batch.scores).argmax(-1)]


# ---- What the page is given -----------------------------------------------------------------------------------------


def test_the_index_says_that_there_are_pixels_and_no_objects(run_dir, evaluator):
    ((*_, newest),) = (run["evaluations"] for run in page_data.index({"eval": run_dir})["runs"])
    metrics = evaluator.evaluate().segmentation
    assert newest == {
        **{"step": NEWEST, "iou_types": [], "has_objects": False, "has_segmentation": True, "has_pixels": True},
        "metrics": {"IoU": metrics["IoU"], "pixel_accuracy": metrics["pixel_accuracy"]},
    }


def test_a_segmentation_has_the_classes_confusions_and_images_of_the_evaluation(run_dir, evaluator):
    given = segmentation_data.segmentation(run_dir, NEWEST)
    assert [one["name"] for one in given["classes"]] == NAMES
    assert [one["color"] for one in given["classes"]] == segmentation_files.class_colors(len(NAMES))
    np.testing.assert_array_equal(given["confusion"], evaluator.confusion())
    images, (actual, predicted) = evaluator.images(), labels_of_images()
    assert [one["wrong"] for one in given["images"]] == images.wrong.tolist()
    assert [one["worst_class"] for one in given["images"]] == images.worst_class.tolist()
    np.testing.assert_allclose([one["IoU"] for one in given["images"]], images.iou)
    for index, image in enumerate(given["images"]):
        assert image["has_picture"] == (index < NUM_PICTURES)
        if not image["has_picture"]:
            assert image["confusions"] is None
            continue
        # The pictures of this run are as large as its images.
        counts = np.zeros((len(IDS), len(IDS)), int)
        for row, column, number in image["confusions"]:
            counts[row, column] = number
        is_counted = actual[index] != IGNORE_LABEL
        expected = confusion_matrix(actual[index][is_counted], predicted[index][is_counted], labels=IDS)
        np.testing.assert_array_equal(counts, expected)


def test_labels_of_pixels_are_those_of_the_image(run_dir):
    actual, predicted = labels_of_images()
    contents = segmentation_data.labels(run_dir, NEWEST, 2)
    assert np.frombuffer(contents, "<u4", 2).tolist() == [HEIGHT, WIDTH]
    given = np.frombuffer(contents, "<u2", offset=8).reshape(2, HEIGHT, WIDTH)
    ids = np.array([*IDS, IGNORE_LABEL])
    np.testing.assert_array_equal(ids[np.where(given[0] == segmentation_data.IGNORED, len(IDS), given[0])], actual[2])
    np.testing.assert_array_equal(ids[given[1]], predicted[2])
    assert segmentation_data.image(run_dir, NEWEST, 2)[:2] == b"\xff\xd8"  # JPEG
    for index in (NUM_PICTURES, len(IMAGES), 10**9):
        assert segmentation_data.labels(run_dir, NEWEST, index) is None
        assert segmentation_data.image(run_dir, NEWEST, index) is None


def test_damaged_and_removed_files_are_said_to_be(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "eval")
    folder = Path(analysis_files.of_step(str(tmp_path / "eval"), NEWEST))
    (folder / segmentation_files.LABELS).write_bytes(b"PK")
    with pytest.raises(ODEvalError, match="is damaged"):
        segmentation_data.segmentation(str(tmp_path / "eval"), NEWEST)
    with pytest.raises(ODEvalError, match="is damaged"):
        segmentation_data.labels(str(tmp_path / "eval"), NEWEST, 0)
    (folder / segmentation_files.LABELS).unlink()
    without = segmentation_data.segmentation(str(tmp_path / "eval"), NEWEST)
    assert not any(image["has_picture"] for image in without["images"])
    shutil.rmtree(folder)
    ((*_, newest),) = (run["evaluations"] for run in page_data.index({"": str(tmp_path / "eval")})["runs"])
    assert (newest["has_segmentation"], newest["has_pixels"]) == (True, False)
    with pytest.raises(ODEvalError, match="there is no '"):
        segmentation_data.segmentation(str(tmp_path / "eval"), NEWEST)


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ("segmentation?run=eval&step=7", 404, "there is no '"),
        ("segmentation?run=..&step=200", 404, "knows no such run"),
        ("labels?run=eval&step=200&index=../0", 400, "'index' must be a whole number"),
        ("labels?run=eval&step=200&index=6", 404, "does not keep this image"),
        ("segmentation_image?run=eval&step=200&index=6", 404, "does not keep this image"),
    ],
)
def test_the_server_says_what_it_cannot_give(asked, status, sentence, run_dir):
    with served({"eval": run_dir}) as address, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address.replace("index.html", asked))
    assert refused.value.code == status
    assert sentence in refused.value.read().decode()


# ---- The views ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(run_dir: str) -> Iterator[str]:
    with served({"eval": run_dir}) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """One for all tests."""
    with open_page("about:blank", viewport={"width": 1280, "height": 900}) as page:
        yield page


@pytest.fixture
def opened(browser: Page, address: str) -> Iterator[Opener]:
    """Opens the page with a state; nothing may go wrong in it."""
    browser.problems.clear()

    def open_state(state: str = "", at: str = address) -> Any:
        browser.page.goto("about:blank")
        browser.page.goto(f"{at}#{state}")
        browser.page.get_by_role("tab", name="Overview").wait_for()
        return browser.page

    yield open_state
    assert browser.problems == []


def colors_in(page: Any, selector: str) -> dict[tuple[int, ...], int]:
    """How many pixels of a canvas have a color."""
    counts = page.locator(selector).evaluate(
        """(canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const counts = {};
          for (let at = 0; at < data.length; at += 4) {
            const color = `${data[at]} ${data[at + 1]} ${data[at + 2]}`;
            counts[color] = (counts[color] ?? 0) + 1;
          }
          return counts;
        }"""
    )
    return {tuple(map(int, color.split())): number for color, number in counts.items()}


def listed_images(page: Any) -> list[str]:
    """The names in the table of images, once it is there."""
    page.locator(".images-table tbody th").first.wait_for()
    return page.locator(".images-table tbody th").all_inner_texts()


def wait_for_state(page: Any, part: str) -> None:
    page.wait_for_url(lambda url: part in unquote(url))


def test_the_first_screen_has_the_metrics_and_says_which_class_is_absent(opened, evaluator):
    page = opened()
    metrics = evaluator.evaluate().segmentation
    tiles = {
        tile.locator("dt").inner_text(): tile.locator("strong").inner_text() for tile in page.locator(".tile").all()
    }
    titles = {
        **{"IoU": "IoU", "Boundary IoU": "boundary_IoU", "F1": "F1", "AP": "AP", "AR": "AR"},
        **{"Pixel accuracy": "pixel_accuracy", "Mean class accuracy": "mean_class_accuracy"},
    }
    assert tiles == {title: f"{metrics[metric]:.3f}" for title, metric in titles.items()}
    assert f"{metrics['num_ignored']} more are ignored" in page.locator(".tiles").inner_text()
    assert "No pixel of the data is of “=never there”" in page.locator(".classes-absent").inner_text()
    assert page.get_by_role("tab").all_inner_texts() == ["Overview", "Confusion matrix", "Images"]
    assert page.locator(".chart figcaption").inner_text() == "IoU and pixel accuracy through training"


def test_the_table_of_classes_is_sorted_by_a_click(opened, evaluator):
    page = opened()
    per_class = evaluator.evaluate().segmentation["per_category"]
    columns = {"IoU": "IoU", "F1": "F1", "Predicted": "num_predicted_pixels"}
    heads = page.locator("table.numbers thead th")
    for title, metric in columns.items():
        place = heads.all_inner_texts().index(next(text for text in heads.all_inner_texts() if text.startswith(title)))
        for direction in ("ascending", "descending"):
            if heads.nth(place).get_attribute("aria-sort") != direction:
                heads.nth(place).get_by_role("button").click()
            assert heads.nth(place).get_attribute("aria-sort") == direction
            values = [of[metric] for of in per_class.values() if of[metric] is not None]
            first = page.locator("table.numbers tbody tr").first.locator("td").nth(place - 1).inner_text()
            wanted = min(values) if direction == "ascending" else max(values)
            assert first == (f"{wanted:.3f}" if isinstance(wanted, float) else compact(wanted))


def compact(number: int) -> str:
    """As `Intl.NumberFormat` has it, of three digits."""
    return str(number) if number < 1000 else f"{float(f'{number / 1000:.3g}'):g}K"


def test_a_class_has_its_own_numbers_and_images(opened, evaluator):
    page = opened("category=2")
    of = evaluator.evaluate().segmentation["per_category"][NAMES[2]]
    assert page.locator(".tile strong").first.inner_text() == f"{of['IoU']:.3f}"
    assert f"of its {of['num_groundtruth_pixels']} pixels" in page.locator(".tiles").inner_text().replace("\u202f", "")
    page.locator("table.numbers button.link", has_text="<img src=x").click()
    wait_for_state(page, "category=1")
    assert "view=images" in page.url
    assert page.locator(".images-table thead th").nth(1).inner_text().startswith("Here")
    page.get_by_role("button", name="Show all images").click()
    assert page.locator(".images-table tbody tr").count() == len(IMAGES)


def test_the_matrix_has_the_parts_and_numbers_of_pixels(opened, evaluator):
    page = opened("view=matrix")
    counts = evaluator.confusion()
    cell = page.locator('[data-cell="confusion/0/1"]')
    assert cell.inner_text() == f"{100 * counts[0, 1] / counts[0].sum():.0f}%"
    page.locator(".matrix-options select").select_option("numbers")
    assert cell.inner_text() == compact(int(counts[0, 1]))
    assert page.locator("[data-cell]").count() == len(NAMES) ** 2
    first = page.locator(".pairs tbody tr").first.locator("td").all_inner_texts()
    assert first[0] == "background"
    assert first[2].replace("\u202f", "") == str(counts[0, 1])
    page.locator('[data-cell="confusion/2/3"]').focus()
    page.keyboard.press("Enter")
    wait_for_state(page, "cell=confusion/2/3")
    actual, predicted = labels_of_images()
    has_some = ((actual == IDS[2]) & (predicted == IDS[3])).any(axis=(1, 2))[:NUM_PICTURES]
    assert 0 < has_some.sum() < NUM_PICTURES
    assert sorted(listed_images(page)) == sorted(name for name, has in zip(IMAGES, has_some, strict=False) if has)


def test_images_are_sorted_worst_first_and_keys_choose_what_is_drawn(opened, evaluator):
    page = opened("view=images")
    order = evaluator.images().worst_first()
    listed = listed_images(page)
    assert listed[:3] == [IMAGES[index] for index in order[:3]]
    page.locator(".images-table tbody tr").nth(1).click()  # the first has no picture
    canvas = ".images-stage canvas"
    page.locator(".images-legend", has_text="ignored").wait_for()
    wrong = int(evaluator.images().wrong[order[1]])
    colors = colors_in(page, canvas)
    width, height = page.locator(canvas).evaluate("canvas => [canvas.width, canvas.height]")
    share = sum(number for (red, green, blue), number in colors.items() if red > 185 and blue < 30)
    assert share / (width * height) == pytest.approx(wrong / (HEIGHT * WIDTH), abs=0.01)
    assert f"{wrong} of 2\u202f976 pixels wrong" in page.locator(".pixels-said").inner_text()
    page.locator("article").focus()
    for key, layer in (("2", "groundtruth"), ("3", "prediction"), ("4", "image"), ("1", "")):
        page.keyboard.press(key)
        if layer:
            wait_for_state(page, f"layer={layer}")
            assert page.locator(f"input[value={layer}]").is_checked()
    page.keyboard.press("3")
    box = page.locator(canvas).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 3)
    assert page.locator(".pixels-said").inner_text().startswith("there: ")
    page.keyboard.press("ArrowRight")
    page.locator("h2", has_text=IMAGES[order[2]]).wait_for()
    page.keyboard.press("Escape")
    page.locator(".images-tile").first.wait_for()


def test_only_the_chosen_class_stands_out_and_the_legend_chooses_it(opened):
    page = opened("view=images&image=5&layer=groundtruth")
    legend = page.get_by_role("table", name="Classes in this picture")
    legend.wait_for()
    before = colors_in(page, ".images-stage canvas")
    button = legend.get_by_role("button", name="\\u202ecat")
    button.click()
    wait_for_state(page, "category=3")
    assert button.get_attribute("aria-pressed") == "true"
    assert colors_in(page, ".images-stage canvas") != before
    button.click()
    page.wait_for_url(lambda url: "category" not in url)


@pytest.mark.parametrize("view", ["overview", "matrix", "images", "images&image=1"])
def test_hostile_names_are_text(view, opened):
    page = opened(f"view={view}&step={STEPS[0]}")
    page.get_by_text(NAMES[1]).first.wait_for(state="attached")
    assert page.locator("#view :is(img, script, b)").count() == 0
    assert "\u202e" not in page.locator("#view").inner_html()


def test_a_link_that_means_nothing_does_no_harm(opened):
    for state in ("view=curves&category=99&image=77", "view=images&cell=confusion/9/9", "view=labels&layer=__proto__"):
        opened(state).locator("#view :is(.tiles, .images-tile)").first.wait_for()


def test_a_report_has_the_same_of_the_newest_evaluation_and_the_worst_images(opened, run_dir, evaluator, tmp_path):
    made = report(run_dir, tmp_path / "report.html", max_images=2)
    assert (made.num_images, made.num_pictures) == (len(IMAGES), 2)
    address = (tmp_path / "report.html").as_uri()
    order = [index for index in evaluator.images().worst_first() if index < NUM_PICTURES]
    page = opened("view=images", address)
    page.locator(".images-table").get_by_role("button", name=IMAGES[order[0]], exact=True).click()
    page.locator(".images-legend", has_text="ignored").wait_for()
    assert len(listed_images(page)) == len(IMAGES)
    opened(f"view=images&image={order[2]}", address).get_by_text("No picture of this image was kept.").wait_for()


def test_a_report_has_runs_of_both_kinds(opened, run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "a" / "eval" / "segmentation")
    write_objects(tmp_path / "a" / "eval")
    report(tmp_path / "a", tmp_path / "report.html")
    page = opened("", (tmp_path / "report.html").as_uri())
    page.get_by_label("Confidence").wait_for()
    page.get_by_label("Run").select_option(label="a/eval/segmentation")
    page.get_by_role("tab", name="Images").click()
    page.locator(".layers").wait_for()
    page.get_by_label("Run").select_option(label="a/eval")
    page.get_by_label("Confidence").wait_for()
    page.locator(".images-tile").first.wait_for()


def test_what_was_thinned_out_is_said_with_the_steps_that_are_there(opened, run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "eval")
    shutil.rmtree(analysis_files.of_step(str(tmp_path / "eval"), NEWEST))
    with served({"eval": str(tmp_path / "eval")}) as address:
        page = opened(f"view=matrix&step={NEWEST}", address)
        page.get_by_role("heading", name="is not there").wait_for()
        page.get_by_role("button", name=str(STEPS[0])).click()
        page.locator(".matrix").wait_for()
