"""The report: one file that opens from disk, runs its own script only, and shows names as they are."""

import base64
import gzip
import hashlib
import html.parser
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import od_eval
from od_eval import ODEvalError
from od_eval.evaluation import streamed_evaluator
from od_eval.html_report import report
from od_eval.plugin import page_data
from plugin_browser import Page, open_page
from plugin_run import CATEGORIES, IMAGES, NUM_PICTURES, STEPS


class Elements(html.parser.HTMLParser):
    """The elements of a page as a parser of HTML finds them: (name, attributes, text)."""

    def __init__(self, path: Path):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), ""))

    def handle_endtag(self, tag):
        self.found.append(("", {}, ""))

    def handle_data(self, data):
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def data(self) -> dict[str, str]:
        """Id -> text of what is embedded."""
        return {
            attributes["id"]: text for tag, attributes, text in self.found if attributes.get("type") == "text/plain"
        }


def test_it_has_the_newest_evaluation_its_table_and_pictures(run_dir, tmp_path):
    written = report(run_dir, tmp_path / "a.html")
    data = Elements(tmp_path / "a.html").data()
    assert (written.num_images, written.num_pictures) == (2 * len(IMAGES), 2 * NUM_PICTURES)
    assert written.num_bytes == (tmp_path / "a.html").stat().st_size
    listed = json.loads(data["index"])["runs"]
    assert [run["name"] for run in listed] == written.runs == ["eval", "eval/night"]
    step = STEPS[-1]
    assert [[entry["step"] for entry in run["evaluations"]] for run in listed] == [[step], [step]]
    assert json.loads(data[f"evaluation-0-{step}"]) == page_data.evaluation(run_dir, step)
    table = gzip.decompress(base64.b64decode(data[f"objects-1-{step}-segm"]))
    assert table == page_data.objects(f"{run_dir}/night", step, "segm")
    pictures = {key: base64.b64decode(text) for key, text in data.items() if key.startswith(f"image-0-{step}-")}
    assert len(pictures) == NUM_PICTURES
    for key, jpeg in pictures.items():
        assert jpeg == page_data.image(run_dir, step, int(key.rpartition("-")[2]))


def test_it_allows_its_own_script_and_nothing_else(run_dir, tmp_path):
    report(run_dir, tmp_path / "a.html")
    found = Elements(tmp_path / "a.html").found
    (policy,) = (one["content"] for _, one, _ in found if one.get("http-equiv") == "Content-Security-Policy")
    scripts = [text for tag, attributes, text in found if tag == "script" and not attributes.get("type")]
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'; style-src")
    assert "http" not in policy
    assert "'unsafe-eval'" not in policy
    assert not any("src" in attributes for _, attributes, _ in found)
    assert [attributes["href"] for _, attributes, _ in found if "href" in attributes] == ["data:,"]  # no icon
    assert {tag for tag, *_ in found} == {
        *("", "html", "head", "meta", "title", "link", "style", "body", "main", "script")
    }


def test_names_are_not_markup_of_it(run_dir, tmp_path):
    report(run_dir, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "alert(" not in text.replace("\\u003c/script\\u003e\\u003cscript\\u003ealert(2)", "").replace(
        "\\u003cimg src=x onerror=alert(1)\\u003e", ""
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
    names = json.loads(Elements(tmp_path / "a.html").data()[f"evaluation-0-{STEPS[-1]}"])["per_category"]
    assert [*names] == [*CATEGORIES.values()]


def test_the_same_evaluations_give_the_same_file_with_as_many_pictures_as_asked_for(run_dir, tmp_path):
    for name in ("a", "b"):
        assert report(run_dir, tmp_path / f"{name}.html", max_images=5).num_pictures == 5
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert report(run_dir, tmp_path / "a.html", max_images=0).num_pictures == 0


def test_it_names_no_folder_of_the_machine_it_was_made_on(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "private" / "eval")
    path = tmp_path / "private" / "eval" / "metrics" / f"step-{STEPS[-1]:08d}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "checkpoint": f"{tmp_path}/private/ckpt-7"}))
    report(tmp_path / "private" / "eval", tmp_path / "a.html")
    data = Elements(tmp_path / "a.html").data()
    assert json.loads(data[f"evaluation-0-{STEPS[-1]}"])["checkpoint"] == "ckpt-7"
    assert str(tmp_path) not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_masks_are_there_only_of_its_pictures(run_dir, tmp_path):
    night, step = f"{run_dir}/night", STEPS[-1]
    (length,) = {len(page_data.objects(night, step, "segm", pictures)) for pictures in (set(), {len(IMAGES)})}
    lengths = []
    for max_images in (0, 2, NUM_PICTURES):
        report(night, tmp_path / "a.html", max_images=max_images)
        data = Elements(tmp_path / "a.html").data()
        lengths.append(len(gzip.decompress(base64.b64decode(data[f"objects-0-{step}-segm"]))))
    assert length == lengths[0] < lengths[1] < lengths[2] == len(page_data.objects(night, step, "segm"))


def test_several_folders_are_told_apart(logdir, run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(logdir)
    names = {
        "shapes/a": ["a/eval", "a/eval/night"],
        f"{logdir}/shapes": ["shapes/a/eval", "shapes/a/eval/night"],
        "shapes/a/eval/night/": ["night"],
        ("shapes/a", "shapes/a/eval/night"): ["a/eval", "a/eval/night"],
        ("shapes/a/eval/night", f"{logdir}/shapes/a/eval"): ["eval", "eval/night"],
    }
    for sources, expected in names.items():
        assert report(sources, tmp_path / "a.html").runs == expected
    monkeypatch.chdir(logdir / "shapes" / "a")
    assert report(".", tmp_path / "a.html").runs == ["a/eval", "a/eval/night"]


@pytest.mark.parametrize(
    ("name", "sampled"), [("b.json", False), ("b.parquet", False), ("parts", False), ("b.parquet", True)]
)
def test_two_files_in_cocos_formats_are_evaluated(tmp_path, name, sampled, monkeypatch, capsys):
    boxes = [{"image_id": id, "category_id": 1, "bbox": [10, 10, 20, 20]} for id in range(30)]
    groundtruth = {
        "images": [{"id": id, "file_name": f"{id}.png", "width": 64, "height": 64} for id in range(30)],
        "annotations": [{"id": id, **box, "area": 400, "iscrowd": 0} for id, box in enumerate(boxes, 1)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(groundtruth))
    detections = [{**box, "score": 0.5} for box in boxes]
    (tmp_path / "b.json").write_text(json.dumps(detections))
    (tmp_path / "parts").mkdir()
    for table in ("b.parquet", "parts/0.parquet"):
        pq.write_table(pa.Table.from_pylist(detections), tmp_path / table)
    if sampled:
        monkeypatch.setattr(streamed_evaluator, "MOST_ANALYSED", 20)
    written = od_eval.report([tmp_path / "a.json", tmp_path / name], tmp_path / "a.html")
    assert (written.runs, written.num_images, written.num_pictures) == (["detections"], 30, 0)
    result = json.loads(Elements(tmp_path / "a.html").data()["evaluation-0-0"])
    assert result["bbox"]["AP"] == pytest.approx(1)
    num_analysed = result["dataset"]["num_images"]
    assert (num_analysed < 30) == sampled
    assert (f"rests on {num_analysed} of 30 images" in capsys.readouterr().err) == sampled


def test_names_of_such_files_may_be_anything_but_half_characters(tmp_path):
    names = [
        "\x1b[2J",
        "\x9b1m\u202e",
        "a\nb" * 300,
        "a\0b",
        "</script><script>alert(1)",
        "&lt;b&gt;",
        "__proto__",
        "</",
    ]
    box = {"bbox": [1, 1, 20, 20]}
    groundtruth = {
        "images": [{"id": name, "width": 64, "height": 64} for name in names] + [{"id": 2**63}, {"id": -5}],
        "categories": [{"id": index, "name": name} for index, name in enumerate(names)],
        "annotations": [{**box, "image_id": name, "category_id": index} for index, name in enumerate(names)],
    }
    detections = [{**box, "image_id": name, "category_id": 0, "score": 1e30} for name in names]
    sources = [tmp_path / "a.json", tmp_path / "b.json"]
    for source, content in zip(sources, (groundtruth, detections), strict=True):
        source.write_text(json.dumps(content))
    report(sources, tmp_path / "a.html")
    with open_page((tmp_path / "a.html").as_uri()) as page:
        page.frame.locator("bdi").filter(has_text="</script><script>alert(1)").first.wait_for()
        assert page.problems == []
    groundtruth["categories"][0]["name"] = "\ud800"
    sources[0].write_text(json.dumps(groundtruth))
    with pytest.raises(ODEvalError, match=r"'\\ud800' is no name"):
        report(sources, tmp_path / "a.html")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("nowhere", "there is no evaluation in 'nowhere': there is no such folder"),
        ([], "there is nothing to report"),
        (["shapes", "b"], "there is no evaluation in 'b'"),
    ],
)
def test_without_an_evaluation_it_says_so(sources, message, logdir, tmp_path, monkeypatch):
    monkeypatch.chdir(logdir)
    with pytest.raises(ODEvalError, match=message):
        report(sources, tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_it_opens_from_disk_and_asks_for_nothing(run_dir, tmp_path):
    report(run_dir, tmp_path / "a.html")
    with open_page((tmp_path / "a.html").as_uri()) as page:
        check(page)
        assert page.requests == [(tmp_path / "a.html").as_uri()]


def test_the_first_screen_is_there_before_the_table_is_unpacked(run_dir, tmp_path):
    report(run_dir, tmp_path / "a.html")
    with open_page("about:blank") as page:
        page.page.add_init_script(
            """const unpack = window.atob;
            window.atob = (text) => {
              window.shownBefore ??= document.querySelector("#tab-overview")?.checkVisibility() ?? false;
              return unpack(text);
            };"""
        )
        page.page.goto((tmp_path / "a.html").as_uri())
        check(page)
        page.page.locator("#confidence").wait_for()  # needs the table
        assert page.page.evaluate("window.shownBefore") is True


def check(page: Page) -> None:
    """The first screen is there, hostile names are shown as text, and nothing went wrong."""
    page.frame.get_by_role("tab", name="Overview").wait_for(timeout=20_000)
    names = page.frame.locator("bdi")
    names.filter(has_text=CATEGORIES[8]).first.wait_for()
    assert names.filter(has_text=CATEGORIES[1]).count() > 0
    assert page.frame.locator("img[src='x']").count() == 0
    assert page.problems == []
