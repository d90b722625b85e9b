"""The view "Compare" in a browser: from the plugin's server without TensorBoard around it, and in a report."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_images_view import num_pixels, served, state_of, wait_until

from od_eval.evaluation.analyses.comparison import Comparison
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.options import AnalysisOptions, EvaluationOptions
from od_eval.html_report import report
from od_eval.runs.comparison import compare
from od_eval.runs.evaluation_run import write_analysis, write_evaluation
from od_eval.runs.image_archive import ImageArchive
from od_eval.runs.object_history import load_object_history
from plugin_browser import Page, open_page
from plugin_run import CATEGORIES, IMAGES, NUM_PICTURES, SIZE, batch, write_run

# Run -> steps. All are of the same objects.
RUNS = {"eval": (100, 200, 300), "eval/night": (50, 250)}
TITLES = {
    "Fixed": "fixed",
    "Broke": "broke",
    "New FP": "fp_came",
    "Gone FP": "fp_went",
    "Both find": "both",
    "Neither finds": "neither",
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    for run, steps in RUNS.items():
        for step in steps:
            random = np.random.default_rng(step)
            images = batch(100, masks=False)
            found = images.detections
            found.boxes = np.clip(found.boxes + random.normal(0, 2, found.boxes.shape), 0, SIZE)
            found.boxes[..., 2:] = np.maximum(found.boxes[..., 2:], found.boxes[..., :2])
            found.scores = random.random(found.scores.shape)
            evaluator = Evaluator(CATEGORIES, analysis=AnalysisOptions())
            evaluator.update(images)
            result = evaluator.evaluate(step=step)
            assert evaluator.analysis is not None
            write_analysis(run, str(folder / run), step, evaluator.analysis, [])
            write_evaluation(str(folder / run), result, EvaluationOptions(CATEGORIES))
        archive = ImageArchive(str(folder / run))
        for index, id in enumerate(IMAGES[:NUM_PICTURES]):
            archive.add(id, np.full((SIZE, SIZE, 3), 20 * index, np.uint8))
        archive.write()
    return folder


@pytest.fixture(scope="module")
def address(model_dir: Path) -> Iterator[str]:
    with served({run: str(model_dir / run) for run in RUNS}) as started:
        yield started


@pytest.fixture
def opened(address: str) -> Iterator[Page]:
    """The newest step of `eval`, compared with the one before it; nothing may go wrong."""
    with open_page(f"{address}#view=compare&run=eval", viewport={"width": 1280, "height": 900}) as page:
        page.page.wait_for_selector(".compare-tile")
        yield page
        assert page.problems == []


@pytest.fixture
def page(opened: Page) -> Any:
    return opened.page


def python_comparison(model_dir: Path, a: str, b: str) -> Comparison:
    return compare(f"{model_dir}/{a}", f"{model_dir}/{b}").bbox


def counts_on(page: Any, panel: str) -> dict[str, int]:
    """Title -> number of the buttons in a panel."""
    buttons = page.locator(f"section[aria-labelledby={panel}] .compare-count")
    texts = buttons.evaluate_all("all => all.map(one => [...one.children].map(child => child.textContent))")
    return {title: int(num) for num, title in texts}


def changes_of(compared: Comparison) -> dict[str, int]:
    numbers = {**compared.changes, "both": compared.num_both, "neither": compared.num_neither}
    return {title: numbers[change] for title, change in TITLES.items()}


def scores_on(page: Any, heading: str) -> list[list[str]]:
    table = page.locator(".compare-scores").filter(has=page.locator("th", has_text=heading))
    table.first.wait_for()
    return table.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if round(abs(value), 3) else "0.000"


def score_cells(score: Any) -> list[str]:
    interval = score.interval
    return [
        *(f"{score.a:.3f}", f"{score.b:.3f}", signed(score.difference)),
        "–" if interval is None else f"{signed(interval.low)} to {signed(interval.high)}",
        {True: "no", False: "maybe", None: "not known"}[score.is_distinguishable],
    ]


def test_counts_and_metrics_are_those_of_the_comparison_in_python(page: Any, model_dir: Path) -> None:
    compared = python_comparison(model_dir, "eval@200", "eval@300")
    assert counts_on(page, "compare-objects") == changes_of(compared)
    heading = page.locator("#compare-objects").text_content()
    assert (
        heading == f"B fixed {compared.num_fixed} and broke {compared.num_broken} of {compared.num_groundtruth} objects"
    )
    assert scores_on(page, "Metric") == [[metric, *score_cells(score)] for metric, score in compared.overall.items()]
    said = " ".join(page.locator("#compare-metrics + p").inner_text().split())
    confidences = [compared.confidence_a, compared.confidence_b]
    assert all(f"{confidence:.3f} ({name})" in said for confidence, name in zip(confidences, "AB", strict=True))
    assert "whatever is chosen above" in said
    for metric in ("AP", "F1"):
        page.get_by_role("group", name="Metric of the categories").get_by_role(
            "button", name=metric, exact=True
        ).click()
        rows = scores_on(page, "Category")
        scores = [category.scores[metric] for category in compared.per_category.values()]
        in_order = sorted(scores, key=lambda score: score.difference)
        assert [row[1:] for row in rows] == [score_cells(score) for score in in_order]
    assert page.locator("img[src='x']").count() == 0


def test_at_another_confidence_it_is_that_of_both(page: Any, address: str) -> None:
    own = counts_on(page, "compare-objects")
    page.goto(f"{address}#view=compare&run=eval&confidence=2")
    page.reload()
    page.wait_for_selector("#compare-objects")
    nothing = counts_on(page, "compare-objects")
    assert nothing == dict.fromkeys(TITLES, 0) | {
        "Neither finds": sum(own[title] for title in list(TITLES)[:2] + list(TITLES)[4:])
    }


def test_while_the_metrics_are_computed_the_rest_is_there(page: Any, model_dir: Path) -> None:
    held: list[Any] = []
    page.route("**/comparison?*", lambda route: held.append(route))
    page.get_by_label("Step of A").select_option("100")
    page.get_by_text("Computing the differences").wait_for()
    page.wait_for_selector("#compare-objects")
    compared = python_comparison(model_dir, "eval@100", "eval@300")
    assert counts_on(page, "compare-objects") == changes_of(compared)
    held[0].continue_()
    page.wait_for_selector(".compare-scores")
    assert page.get_by_text("Computing the differences").count() == 0


def test_a_count_shows_its_images_the_most_changed_first(page: Any, model_dir: Path) -> None:
    compared = python_comparison(model_dir, "eval@200", "eval@300")
    all_images = page.locator(".compare-tile").count()
    assert all_images == len(compared.images["image_id"])
    button = page.get_by_role("button", name=f"{compared.num_fixed} Fixed")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert state_of(page)["cell"] == "change%2Ffixed"
    captions = page.locator(".compare-tile .compare-caption:last-child").all_text_contents()
    nums = [int(text.split("fixed ")[1].split(",")[0]) for text in captions]
    assert nums == sorted(filter(None, compared.images["fixed"]), reverse=True)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator(".compare-tile").count() == all_images


def test_a_pair_opens_large_and_keys_go_on_and_back(page: Any) -> None:
    page.locator(".compare-change-broke").click()
    page.locator(".compare-tile").first.click()
    page.wait_for_selector(".compare-large")
    first = state_of(page)["image"]
    a, b = (f".compare-large section:nth-child({place}) canvas" for place in (1, 2))
    wait_until(lambda: page.locator(".compare-large canvas").count() == 2, page)
    # What A finds there and B misses is vivid.
    assert num_pixels(page, a)["right"] > 0
    assert num_pixels(page, a)["missed"] == 0
    assert num_pixels(page, b)["missed"] > 0
    page.keyboard.press("ArrowRight")
    wait_until(lambda: state_of(page)["image"] != first, page)
    page.keyboard.press("ArrowLeft")
    wait_until(lambda: state_of(page)["image"] == first, page)
    page.keyboard.press("Escape")
    page.wait_for_selector(".compare-gallery")
    assert "image" not in state_of(page)
    assert page.evaluate("document.activeElement.className") == "compare-tile"


def test_another_run_and_step_can_be_chosen_and_stand_in_the_address(page: Any, address: str, model_dir: Path) -> None:
    page.get_by_label("Run of A").select_option(label="eval/night")
    page.get_by_label("Step of A").select_option("50")
    expected = changes_of(python_comparison(model_dir, "eval/night@50", "eval@300"))
    wait_until(lambda: state_of(page).get("other_step") == "50", page)
    page.wait_for_selector("#compare-objects")
    assert counts_on(page, "compare-objects") == expected
    state = state_of(page)
    assert (urllib.parse.unquote(state["other_run"]), state["other_step"]) == ("eval/night", "50")
    page.reload()
    page.wait_for_selector("#compare-objects")
    assert counts_on(page, "compare-objects") == expected
    page.get_by_label("Run of A").select_option(label="eval")
    page.get_by_label("Step of A").select_option("300")
    page.get_by_text("A and B are the same evaluation").wait_for()


def test_what_became_of_objects_through_training_opens_their_images(page: Any, model_dir: Path) -> None:
    objects = load_object_history(str(model_dir), "eval")
    always = (objects["status"] == "learnt") & (objects["num_found"] == objects["num_steps"])
    status = Counter(np.where(always, "always", objects["status"].astype(str)))
    page.wait_for_selector(".compare-history-lost")
    assert counts_on(page, "compare-training") == {
        **{"Learnt": status["learnt"], "Lost": status["lost"], "Flickering": status["flickering"]},
        **{"Never found": status["never"], "Always found": status["always"]},
    }
    assert status["lost"] > 0
    page.locator(".compare-history-lost").click()
    num_images = objects[objects["status"] == "lost"]["image_id"].nunique()
    wait_until(lambda: page.locator(".compare-tile").count() == num_images, page)
    assert state_of(page)["cell"] == "history%2Flost"


def test_evaluations_with_nothing_in_common_say_so(tmp_path: Path) -> None:
    write_run(tmp_path / "eval")  # the objects of its two steps differ
    with served({"eval": str(tmp_path / "eval")}) as address, open_page(f"{address}#view=compare") as opened:
        page = opened.page
        page.get_by_text("no image with the same objects").wait_for()
        differences = page.locator(".compare-differences").text_content()
        assert f"Compared are 0 of {len(IMAGES)} images" in " ".join(differences.split())
        assert "the first: (no name)" in " ".join(differences.split())  # its id is ""
        assert set(counts_on(page, "compare-objects").values()) == {0}
        assert [problem for problem in opened.problems if "404" not in problem] == []


def test_a_report_has_the_comparisons_of_its_runs_in_both_directions(model_dir: Path, tmp_path: Path) -> None:
    runs = report(model_dir, tmp_path / "report.html").runs
    address = (tmp_path / "report.html").as_uri()
    ends = ["eval@300", "eval/night@250"]
    for a, b in ((0, 1), (1, 0)):
        hash = f"#view=compare&run={urllib.parse.quote(runs[b], safe='')}"
        with open_page(address + hash) as opened:
            opened.page.wait_for_selector("#compare-objects")
            compared = python_comparison(model_dir, ends[a], ends[b])
            assert counts_on(opened.page, "compare-objects") == changes_of(compared)
            cells = scores_on(opened.page, "Metric")
            assert cells == [[metric, *score_cells(score)] for metric, score in compared.overall.items()]
            assert sum(counts_on(opened.page, "compare-training").values()) == compared.num_groundtruth
            assert opened.problems == []


def test_a_report_says_of_which_runs_there_is_no_comparison_and_why(model_dir: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "other")
    runs = report([model_dir / "eval" / "night", tmp_path / "other"], tmp_path / "report.html").runs
    for run in runs:
        hash = f"#view=compare&run={urllib.parse.quote(run, safe='')}"
        with open_page((tmp_path / "report.html").as_uri() + hash) as opened:
            sentence = opened.page.get_by_text("The metrics are not compared: the two evaluations have no image")
            sentence.wait_for()
            assert "no image with the same objects" in sentence.text_content()
            assert opened.problems == []


def test_a_report_of_one_run_has_what_became_of_its_objects(model_dir: Path, tmp_path: Path) -> None:
    report(model_dir / "eval" / "night", tmp_path / "report.html")
    with open_page((tmp_path / "report.html").as_uri() + "#view=compare") as opened:
        opened.page.get_by_text("This is the only evaluation").wait_for()
        opened.page.locator(".compare-history-never").click()
        opened.page.locator(".compare-tile").first.click()
        opened.page.wait_for_selector(".compare-large canvas")
        assert opened.page.locator(".compare-large canvas").count() == 1
        assert opened.problems == []


def test_the_server_gives_what_it_knows_and_no_more(address: str, model_dir: Path) -> None:
    base = address.removesuffix("index.html")
    names = {"run": "eval", "step": 300, "other_run": "eval/night", "other_step": 50, "type": "bbox"}
    got = json.loads(urllib.request.urlopen(f"{base}comparison?{urllib.parse.urlencode(names)}").read())
    expected = python_comparison(model_dir, "eval/night@50", "eval@300").to_dict()
    assert got == json.loads(json.dumps(expected))
    wrong = [("other_run", "../eval"), ("other_step", "-1"), ("step", "7"), ("type", "masks"), ("type", "segm")]
    addresses = [f"{base}comparison?{urllib.parse.urlencode(names | {name: value})}" for name, value in wrong]
    for refused in (*addresses, f"{base}history?run=x&type=bbox", f"{base}history?run=eval&type=segm"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(refused)
        assert error.value.code in (400, 404)
        assert len(error.value.read().decode().splitlines()) == 1
