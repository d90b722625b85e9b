"""Suspected label errors: what the page is given of them, and the view "Labels" in a browser, on planted errors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO
from test_images_view import served, wait_until
from test_matrix_and_curves import made_up
from test_page_data import decoded
from test_plugin_server import tensorboard

import plugin_run
from od_eval import ODEvalError
from od_eval.evaluation.analyses.per_image import per_image, worst
from od_eval.evaluation.batch import Detections, EvaluationBatch, GroundTruth
from od_eval.evaluation.evaluator import Evaluator
from od_eval.evaluation.object_columns import as_pandas
from od_eval.evaluation.options import AnalysisOptions, EvaluationOptions
from od_eval.html_report import report
from od_eval.plugin import page_data
from od_eval.runs import analysis_files
from od_eval.runs.evaluation_run import write_analysis, write_evaluation
from od_eval.runs.image_archive import ImageArchive
from od_eval.runs.object_files import FILE_NAMES, parquet, read_object_table, read_rows
from plugin_browser import Page, open_page

CATEGORIES = {2: "<b>cat</b>", 5: "\u202edog"}
SHOWN = ["<b>cat</b>", "\\u202edog"]
STEPS = (10, 20, 30)
SIZE = 100
# Of each planted error: image, its label (category and box, as ymin, xmin, ymax, xmax), and what the detector says.
PLACE, MOVED = [20.0, 20.0, 60.0, 60.0], [34.0, 20.0, 74.0, 60.0]
PLANTED: dict[str, tuple[str, tuple[int, list[float]] | None, tuple[int, list[float]] | None]] = {
    "class": ("wrong.jpg", (2, PLACE), (5, PLACE)),
    "missing": ("missing.jpg", None, (2, PLACE)),
    "location": ("moved.jpg", (5, MOVED), (5, PLACE)),
    "extra": ("<i>extra", (2, PLACE), None),
}
COLORS = {"label": (240, 228, 66), "proposal": (86, 180, 233)}


def write_run(run_dir: Path, steps: tuple[int, ...]) -> None:
    """Evaluations of ten images whose labels are right and found, and of the planted errors."""
    found = {f"right-{index}.jpg": (2 + 3 * (index % 2), [10.0 + index, 10.0, 50.0, 70.0]) for index in range(10)}
    labels = {**found, **{image: label for image, label, _ in PLANTED.values()}}
    proposals = {**found, **{image: proposal for image, _, proposal in PLANTED.values()}}
    images = [*labels]
    options = EvaluationOptions(CATEGORIES)
    for step in steps:
        evaluator = Evaluator(CATEGORIES, analysis=AnalysisOptions())
        for image in images:
            label, proposal = labels[image], proposals[image]
            evaluator.update(
                EvaluationBatch(
                    image_ids=[image],
                    image_sizes=[[SIZE, SIZE]],
                    detections=Detections(
                        np.array([[proposal[1]]] if proposal else np.zeros((1, 0, 4))),
                        np.full((1, 1 if proposal else 0), 0.9),
                        np.array([[proposal[0]]] if proposal else np.zeros((1, 0), int)),
                    ),
                    groundtruth=GroundTruth(
                        np.array([[label[1]]] if label else np.zeros((1, 0, 4))),
                        np.array([[label[0]]] if label else np.zeros((1, 0), int)),
                    ),
                )
            )
        result = evaluator.evaluate(step=step)
        assert evaluator.analysis is not None
        write_analysis("eval", str(run_dir), step, evaluator.analysis, [])
        write_evaluation(str(run_dir), result, options)
    archive = ImageArchive(str(run_dir))
    for image in images:
        archive.add(image, np.full((SIZE, SIZE, 3), 40, np.uint8))
    archive.write()


def xywh(box: list[float]) -> list[float]:
    ymin, xmin, ymax, xmax = box
    return [xmin, ymin, xmax - xmin, ymax - ymin]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels") / "run" / "eval"
    write_run(folder, STEPS)
    return folder


@pytest.fixture(scope="module")
def address(run_dir: Path) -> Iterator[str]:
    with served({"eval": str(run_dir)}) as address:
        yield f"{address}#view=labels"


@pytest.fixture
def opened(address: str) -> Iterator[Page]:
    with open_page(address, accept_downloads=True) as page:
        page.page.locator(".labels-one canvas").wait_for()
        yield page
        assert page.problems == []


@pytest.fixture
def page(opened: Page) -> Any:
    return opened.page


# ---- What the page is given -----------------------------------------------------------------------------------------


def kinds(suspects: dict[str, Any]) -> list[str]:
    return [annotation["attributes"]["suspect"] for annotation in suspects["annotations"]]


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_suspects_are_what_was_planted_most_suspicious_first(num_steps: int, tmp_path: Path) -> None:
    write_run(tmp_path / "eval", STEPS[:num_steps])
    suspects = page_data.suspects(str(tmp_path / "eval"), STEPS[0], "bbox")
    assert sorted(kinds(suspects)) == sorted(PLANTED)
    assert (suspects["num_found"], suspects["num_evaluations"]) == (len(PLANTED), num_steps)
    suspicions = [annotation["attributes"]["suspicion"] for annotation in suspects["annotations"]]
    assert suspicions == sorted(suspicions, reverse=True)
    assert [annotation["id"] for annotation in suspects["annotations"]] == [1, 2, 3, 4]
    header, *_ = decoded(page_data.objects(str(tmp_path / "eval"), STEPS[0], "bbox"))
    names = {image["id"]: image["file_name"] for image in suspects["images"]}
    assert [header["images"][index]["id"] for index in suspects["image_indices"]] == [*names.values()]
    for annotation in suspects["annotations"]:
        image, label, proposal = PLANTED[annotation["attributes"]["suspect"]]
        category, box = proposal or label or (0, [])
        assert (names[annotation["image_id"]], annotation["category_id"]) == (image, category)
        assert annotation["bbox"] == xywh(box)


def test_suspects_of_all_evaluations_are_not_those_of_other_labels(run_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "eval"
    shutil.copytree(run_dir, run)
    of_all = run / "analysis" / "label_suspects.json"
    content = json.loads(of_all.read_text())
    content["annotations"] = content["annotations"][:1]
    of_all.write_text(json.dumps(content))
    assert len(kinds(page_data.suspects(str(run), STEPS[0], "bbox"))) == len(PLANTED) - 1
    metrics = run / "metrics" / f"step-{STEPS[0]:08d}.json"
    sections = json.loads(metrics.read_text())
    sections["dataset"]["fingerprint"] = "of other labels"
    metrics.write_text(json.dumps(sections))
    suspects = page_data.suspects(str(run), STEPS[0], "bbox")
    assert (len(kinds(suspects)), suspects["num_evaluations"]) == (len(PLANTED), 1)


def test_of_many_the_most_suspicious_are_given_and_all_are_counted(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_kinds = kinds(page_data.suspects(str(run_dir), STEPS[0], "bbox"))
    monkeypatch.setattr(page_data, "MAX_SUSPECTS", 2)
    suspects = page_data.suspects(str(run_dir), STEPS[0], "bbox")
    assert (kinds(suspects), suspects["num_found"], len(suspects["images"])) == (all_kinds[:2], len(PLANTED), 2)


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        '{"annotations": []}',
        '{"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 1, "attributes": {}}]}',
    ],
    ids=["empty", "list", "half", "unknown image"],
)
def test_a_damaged_file_is_said_to_be(damaged: str, run_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "eval"
    shutil.copytree(run_dir, run)
    path = run / "analysis" / f"step-{STEPS[0]:08d}" / "label_suspects.json"
    path.write_text(damaged)
    with pytest.raises(ODEvalError, match=r"label_suspects\.json'.* is (damaged|not JSON)"):
        page_data.suspects(str(run), STEPS[0], "bbox")
    path.unlink()
    with pytest.raises(ODEvalError, match=r"there is no .*label_suspects\.json"):
        page_data.suspects(str(run), STEPS[0], "bbox")


def test_the_objects_of_one_image_are_its_rows_of_the_table(run_dir: Path) -> None:
    assert_rows_of_images(run_dir, STEPS[0], 1)
    for unknown in ("", "../images.zip", "9"):
        nothing, *_ = decoded(page_data.objects(str(run_dir), STEPS[0], "bbox", image_id=unknown))
        assert (nothing["images"], nothing["detections"]["rows"], nothing["objects"]["rows"]) == ([], 0, 0)


def test_of_a_large_table_an_image_has_its_rows_and_categories_too(tmp_path: Path) -> None:
    table = made_up(num_categories=8, num_images=900, num_objects=25).object_tables()["bbox"]
    # Categories that only the first images or only the last ones have.
    for objects in (table.detections, table.groundtruth):
        objects.category[:] = np.where(objects.image < 450, objects.category // 2, 4 + objects.category // 2)
    analysis_files.write(str(tmp_path), 0, {FILE_NAMES["bbox"]: parquet(table)})
    path = Path(analysis_files.of_step(str(tmp_path), 0)) / FILE_NAMES["bbox"]
    assert pyarrow.parquet.ParquetFile(path).num_row_groups > 2  # or the test tests nothing
    assert_rows_of_images(tmp_path, 0, 89)
    pd.testing.assert_frame_equal(read_rows(str(path))[0].drop(columns="image"), as_pandas(table))


def assert_rows_of_images(run_dir: Path, step: int, every: int) -> None:
    """Of one image in `every`, the objects are those that the whole table has of it."""
    header, *tables = decoded(page_data.objects(str(run_dir), step, "bbox"))
    for index, image in [*enumerate(header["images"])][::every]:
        one, *parts = decoded(page_data.objects(str(run_dir), step, "bbox", image_id=image["id"]))
        assert one["images"] == [image]
        rows = [np.flatnonzero(table["image"] == index) for table in tables]
        for part, table, own, others in zip(parts, tables, rows, rows[::-1], strict=True):
            for name, column in part.items():
                expected = table[name].reshape(len(table["image"]), -1)[own]
                if name in ("match", "iou_row", "iou_other_row"):
                    expected = np.where(expected < 0, -1, expected - (others[0] if len(others) else 0))
                if name == "image":
                    expected = np.zeros_like(expected)
                np.testing.assert_array_equal(column.reshape(expected.shape), expected, err_msg=name)


def test_of_masks_they_are_those_of_the_step_and_have_masks(logdir: Path) -> None:
    run = logdir / "shapes" / "a" / "eval" / "night"
    step = plugin_run.STEPS[-1]
    suspects = page_data.suspects(str(run), step, "segm")
    path = run / "analysis" / f"step-{step:08d}" / "label_suspects_segm.json"
    assert suspects["annotations"] == json.loads(path.read_text())["annotations"] != []
    assert suspects["num_evaluations"] == 1
    for annotation in suspects["annotations"]:
        assert mask_tools.area(annotation["segmentation"]) == annotation["area"]


# ---- The view -------------------------------------------------------------------------------------------------------


def progress(page: Any) -> str:
    return " ".join(page.locator(".labels-above [role=status]").text_content().split())


def heading(page: Any) -> str:
    return page.locator(".labels-one h2").text_content()


def names_in_list(page: Any) -> list[str]:
    return [text.strip() for text in page.locator(".labels-kind").all_text_contents()]


def downloaded(opened: Page, path: Path) -> dict[str, Any]:
    with opened.page.expect_download() as download:
        opened.frame.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "label_decisions.json"
    download.value.save_as(path)
    return json.loads(path.read_text())


def test_each_kind_is_said_in_words_and_drawn(page: Any) -> None:
    sentences = {
        "Wrong class": f"Label “{SHOWN[0]}” is probably “{SHOWN[1]}” (the detector: “{SHOWN[1]}” 0.90).",
        "Not labeled": f"“{SHOWN[0]}” is probably not labeled (the detector, on average of its evaluations: 0.90).",
        # 40 × 26 pixels of 2 × 40 × 40 − 40 × 26.
        "Badly placed": f"Label “{SHOWN[1]}” is probably badly placed (the detector: “{SHOWN[1]}” 0.90, IoU 0.48).",
        "Nothing there": f"Label “{SHOWN[0]}” probably marks nothing (the last evaluations do not find it).",
    }
    drawn = {
        "Wrong class": {"label", "proposal"},
        "Not labeled": {"proposal"},
        "Badly placed": {"label", "proposal"},
        "Nothing there": {"label"},
    }
    assert sorted(names_in_list(page)) == sorted(sentences)
    for place, kind in enumerate(names_in_list(page)):
        page.locator(".labels-list button").nth(place).click()
        wait_until(lambda kind=kind: heading(page).replace("\u2068", "").replace("\u2069", "") == sentences[kind], page)
        wait_until(lambda kind=kind: colors(page) == drawn[kind], page)


def colors(page: Any) -> set[str]:
    """Of `COLORS` those that the picture has."""
    return set(
        page.locator(".labels-one canvas").evaluate(
            """(canvas, colors) => {
              const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              const there = new Set();
              for (let at = 0; at < data.length; at += 4) there.add([data[at], data[at + 1], data[at + 2]].join());
              return Object.keys(colors).filter((name) => there.has(colors[name].join()));
            }""",
            COLORS,
        )
    )


def test_keys_decide_and_lead_to_the_next_that_is_not_decided(page: Any) -> None:
    total = len(PLANTED)
    first = heading(page)
    assert progress(page) == f"0 of {total} decided: 0 yes, 0 no, 0 unsure"
    page.keyboard.press("ArrowRight")
    wait_until(lambda: heading(page) != first, page)
    second = heading(page)
    page.keyboard.press("n")
    wait_until(lambda: progress(page) == f"1 of {total} decided: 0 yes, 1 no, 0 unsure", page)
    page.keyboard.press("y")
    page.keyboard.press("u")
    wait_until(lambda: progress(page) == f"3 of {total} decided: 1 yes, 1 no, 1 unsure", page)
    # After the last one the first, which is not decided yet.
    wait_until(lambda: heading(page) == first, page)
    page.keyboard.press("ArrowRight")
    wait_until(lambda: heading(page) == second, page)
    no = page.get_by_role("button", name="No,")
    assert no.get_attribute("aria-pressed") == "true"
    no.click()  # takes it back
    wait_until(lambda: progress(page) == f"2 of {total} decided: 1 yes, 0 no, 1 unsure", page)
    assert (no.get_attribute("aria-pressed"), heading(page)) == ("false", second)


def test_keys_in_a_select_decide_nothing(page: Any) -> None:
    page.locator(".labels-above select").press("n")
    page.wait_for_timeout(200)
    assert progress(page).startswith("0 of")


def test_the_decisions_are_a_file_that_pycocotools_loads(opened: Page, run_dir: Path, tmp_path: Path) -> None:
    page = opened.page
    assert page.get_by_role("button", name="Download").is_disabled()
    answers = {"Wrong class": "yes", "Not labeled": "no", "Badly placed": "unsure"}
    for place, kind in enumerate(names_in_list(page)):
        if kind in answers:
            page.locator(".labels-list button").nth(place).click()
            page.keyboard.press(answers[kind][0])
    wait_until(lambda: progress(page).startswith("3 of"), page)
    content = downloaded(opened, tmp_path / "decisions.json")
    coco = COCO(str(tmp_path / "decisions.json"))
    decided = {"class": "yes", "missing": "no", "location": "unsure"}
    assert len(coco.anns) == len(decided)
    assert {image["file_name"] for image in coco.imgs.values()} == {PLANTED[kind][0] for kind in decided}
    assert {id: category["name"] for id, category in coco.cats.items()} == CATEGORIES
    for annotation in content["annotations"]:
        kind = annotation["attributes"]["suspect"]
        image, _, proposal = PLANTED[kind]
        assert proposal is not None
        assert annotation["attributes"]["decision"] == decided[kind]
        assert (coco.imgs[annotation["image_id"]]["file_name"], annotation["category_id"]) == (image, proposal[0])
        assert annotation["bbox"] == xywh(proposal[1])
    given = page_data.suspects(str(run_dir), STEPS[-1], "bbox")["annotations"]
    for annotation in content["annotations"]:
        del annotation["attributes"]["decision"]
    assert content["annotations"] == [one for one in given if one["attributes"]["suspect"] in decided]


def test_decisions_survive_a_reload_and_are_of_this_evaluation_set(page: Any, run_dir: Path) -> None:
    page.keyboard.press("y")
    page.keyboard.press("n")
    wait_until(lambda: progress(page).startswith("2 of 4 decided: 1 yes, 1 no"), page)
    page.reload()
    page.locator(".labels-one canvas").wait_for()
    assert progress(page).startswith("2 of 4 decided: 1 yes, 1 no")
    (name,) = page.evaluate("Object.keys(sessionStorage)")
    fingerprint = page_data.evaluation(str(run_dir), STEPS[-1])["dataset"]["fingerprint"]
    assert name.endswith(f"eval/{fingerprint}")
    # Another step of the same run has the same labels and proposals.
    page.evaluate(f"location.hash = '#view=labels&step={STEPS[0]}'")
    wait_until(lambda: page.locator("output[for=step]").text_content() == str(STEPS[0]), page)
    page.locator(".labels-one canvas").wait_for()
    assert progress(page).startswith("2 of 4 decided: 1 yes, 1 no")


def test_where_nothing_can_be_kept_the_view_says_so_and_goes_on(page: Any) -> None:
    note = page.get_by_text("This browser keeps nothing for the page")
    assert note.count() == 0
    page.add_init_script("Object.defineProperty(window, 'sessionStorage', { get() { throw new Error('denied'); } });")
    page.reload()
    page.locator(".labels-one canvas").wait_for()
    note.wait_for()
    page.keyboard.press("y")
    wait_until(lambda: progress(page).startswith("1 of 4 decided: 1 yes"), page)


def test_kind_and_category_filter_and_stand_in_the_address(page: Any) -> None:
    page.locator(".labels-above select").select_option(label="Badly placed (1)")
    wait_until(lambda: names_in_list(page) == ["Badly placed"], page)
    assert "kind=location" in page.evaluate("location.hash")
    page.evaluate("location.hash = '#view=labels&category=1'")
    # The label or what is proposed is of the second category.
    wait_until(lambda: sorted(names_in_list(page)) == ["Badly placed", "Wrong class"], page)
    page.evaluate("location.hash = '#view=labels&category=1&kind=extra'")
    page.get_by_text("None of this kind and category.").wait_for()


def test_without_suspects_the_view_says_why(tmp_path: Path) -> None:
    write_run(tmp_path / "bad" / "eval", (10,))
    with served({"eval": str(tmp_path / "bad" / "eval")}) as address:
        path = tmp_path / "bad" / "eval" / "analysis" / "step-00000010" / "label_suspects.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "annotations": []}))
        with open_page(f"{address}#view=labels") as page:
            page.page.get_by_text("There are no labels that confident detections contradict").wait_for()
        path.unlink()
        with open_page(f"{address}#view=labels") as page:
            page.page.get_by_text("The suspected labels cannot be shown").wait_for()
            assert "label_suspects.json" in page.page.locator(".message").text_content()


def test_a_detector_that_finds_nothing_is_no_judge(tmp_path: Path) -> None:
    box = {"image_id": 1, "category_id": 1}
    groundtruth = {
        "images": [{"id": 1, "file_name": "1.png", "width": SIZE, "height": SIZE}],
        "annotations": [{"id": 1, **box, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(groundtruth))
    (tmp_path / "b.json").write_text(json.dumps([{**box, "bbox": [60, 60, 20, 20], "score": 0.9}]))
    report([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "a.html")
    with open_page(f"{(tmp_path / 'a.html').as_uri()}#view=labels") as page:
        page.page.get_by_text("the detector is no judge of labels").wait_for()
        assert page.problems == []


def test_in_a_report_the_decisions_are_downloaded_too(run_dir: Path, tmp_path: Path) -> None:
    report(str(run_dir), tmp_path / "a.html")
    with open_page(f"{(tmp_path / 'a.html').as_uri()}#view=labels", accept_downloads=True) as page:
        page.page.locator(".labels-one canvas").wait_for()
        page.page.keyboard.press("y")
        content = downloaded(page, tmp_path / "decisions.json")
        assert [one["attributes"]["decision"] for one in content["annotations"]] == ["yes"]
        assert page.problems == []
        assert all(request.startswith(("file:", "blob:")) for request in page.requests)


def test_in_a_report_a_third_of_the_pictures_are_of_suspected_labels(run_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "eval"
    shutil.copytree(run_dir, run)
    path = run / "analysis" / "label_suspects.json"
    suspects = json.loads(path.read_text())
    ids = {image["file_name"]: image["id"] for image in suspects["images"]}
    first = {**suspects["annotations"][0], "image_id": ids["right-3.jpg"]}
    first["attributes"] = {**first["attributes"], "suspicion": 1.0}
    path.write_text(json.dumps({**suspects, "annotations": [first]}))
    table = read_object_table(f"{analysis_files.of_step(str(run), STEPS[-1])}/{FILE_NAMES['bbox']}")
    images = [*table.images]
    worst_first = [images[index] for index in worst(per_image(table, 0.5), len(images))]
    assert "right-3.jpg" not in worst_first[:4]  # as nothing is wrong in it
    for max_images, expected in ((2, worst_first[:2]), (3, ["right-3.jpg", *worst_first[:2]])):
        report(run, tmp_path / "report.html", max_images=max_images)
        shown = re.findall(rf'id="image-0-{STEPS[-1]}-(\d+)"', (tmp_path / "report.html").read_text())
        assert [images[int(index)] for index in shown] == expected


def test_in_tensorboard_the_decisions_are_downloaded_too(run_dir: Path, tmp_path: Path) -> None:
    with tensorboard(f"--logdir={run_dir.parent}") as address:
        frame = "tf-dashboard-view iframe, plugins-component iframe"
        opened = open_page(f"{address}#od_eval&p.od_eval.view=labels", frame=frame, accept_downloads=True)
        with opened as page:
            page.frame.locator(".labels-one canvas").wait_for(timeout=60_000)
            page.frame.get_by_role("button", name="Unsure").click()
            content = downloaded(page, tmp_path / "decisions.json")
            assert [one["attributes"]["decision"] for one in content["annotations"]] == ["unsure"]


def test_hostile_names_are_text(opened: Page) -> None:
    page, texts = opened.page, ""
    for place in range(len(PLANTED)):
        page.locator(".labels-list button").nth(place).click()
        page.wait_for_timeout(100)
        texts += page.locator(".labels").inner_text()
    assert page.locator(".labels i, .labels b").count() == 0
    assert all(name in texts for name in (*SHOWN, "<i>extra"))
    assert "\u202e" not in texts
    assert all("127.0.0.1" in request for request in opened.requests)
