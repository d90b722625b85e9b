"""The tab in a real TensorBoard: there however it is started, giving what the files have, and only reading."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.plugins import base_plugin
from test_html_report import check

from od_eval.plugin import page_data
from od_eval.plugin.loader import DetectionsLoader
from od_eval.plugin.server import STATIC
from plugin_browser import open_page
from plugin_run import IMAGES, STEPS

PROGRAM = Path(sys.executable).with_name("tensorboard")


@contextlib.contextmanager
def tensorboard(*arguments: str) -> Iterator[str]:
    """Starts TensorBoard, and gives its address once it has read the runs."""
    with subprocess.Popen([PROGRAM, "--port=0", *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if " at http" in line)
            # With --bind_all it has the name of the machine.
            printed = urllib.parse.urlsplit(line.split(" at ")[1].split()[0])
            address = f"http://localhost:{printed.port}{printed.path.rstrip('/')}/"
            for _ in range(120):
                if json.loads(get(f"{address}data/plugins_listing"))["od_eval"]["enabled"]:
                    break
                time.sleep(0.5)
            yield address
        finally:
            process.kill()


def get(address: str, method: str = "GET") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=60) as response:
        return response.read()


def refusal(address: str, method: str = "GET") -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(address, method)
    return refused.value.code, refused.value.read().decode()


@pytest.fixture(scope="module")
def address(logdir: Path) -> Iterator[str]:
    """Of a TensorBoard with its fast loader, as by default."""
    with tensorboard(f"--logdir={logdir}") as started:
        yield started


def test_by_default_the_tab_is_there_and_has_the_runs(address, run_dir):
    check_server(address, ["shapes/a/eval", "shapes/a/eval/night"], run_dir)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--logdir={}", "--load_fast=false", "--path_prefix=/under/here"], ["shapes/a/eval", "shapes/a/eval/night"]),
        (["--logdir={}/shapes/a/eval/night", "--load_fast=true", "--bind_all", "--path_prefix=/under"], ["."]),
        (["--logdir_spec=one:{}/shapes/a/eval/night,two:{}/shapes"], ["one/.", "two/a/eval", "two/a/eval/night"]),
    ],
)
def test_however_tensorboard_is_started_the_tab_is_there_and_has_the_runs(arguments, names, logdir, run_dir):
    with tensorboard(*(argument.format(*[logdir] * 2) for argument in arguments)) as address:
        check_server(address, names, run_dir)


def check_server(address: str, names: list[str], run_dir: str) -> None:
    """The tab is active, and gives what the files of the run `night` have."""
    listed = json.loads(get(f"{address}data/plugins_listing"))["od_eval"]
    assert (listed["enabled"], listed["tab_name"]) == (True, "Detections")
    module = urllib.parse.urljoin(address, listed["loading_mechanism"]["module_path"])
    assert b"export function render" in get(module)
    data = f"{address}data/plugin/od_eval"
    index = json.loads(get(f"{data}/index"))
    assert [run["name"] for run in index["runs"]] == names
    night = next(name for name in names if name in (".", "one/.") or name.endswith("night"))
    asked = f"run={urllib.parse.quote(night)}&step={STEPS[0]}"
    assert json.loads(get(f"{data}/evaluation?{asked}")) == page_data.evaluation(f"{run_dir}/night", STEPS[0])
    table = page_data.objects(f"{run_dir}/night", STEPS[0], "segm")
    assert get(f"{data}/objects?{asked}&type=segm") == table
    pictures = [page_data.image(f"{run_dir}/night", STEPS[0], index) for index in range(len(IMAGES))]
    first = next(index for index, picture in enumerate(pictures) if picture)
    assert get(f"{data}/image?{asked}&index={first}") == pictures[first]


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ("evaluation?run=../../etc&step=100", 404, "knows no such run"),
        ("evaluation?run=shapes/a/eval/../eval&step=100", 404, "knows no such run"),
        ("evaluation?run=b/train&step=100", 404, "no such run"),
        ("evaluation?step=100", 404, "knows no such run"),
        ("evaluation?run=shapes/a/eval&step=../100", 400, "'step' must be a whole number"),
        ("evaluation?run=shapes/a/eval&step=-1", 400, "'step' must be a whole number"),
        ("evaluation?run=shapes/a/eval&step=%D9%A1", 400, "'step' must be a whole number"),
        (f"evaluation?run=shapes/a/eval&step={'9' * 5000}", 400, "'step' must be a whole number"),
        ("evaluation?run=shapes/a/eval&step=7", 404, "no evaluation of step 7"),
        ("objects?run=shapes/a/eval&step=100&type=../bbox", 400, "'type' must be bbox or segm"),
        ("objects?run=shapes/a/eval&step=100&type=segm", 404, "cannot be read"),
        ("suspects?run=../../etc&step=100&type=bbox", 404, "knows no such run"),
        ("suspects?run=shapes/a/eval&step=100&type=..", 400, "'type' must be bbox or segm"),
        ("suspects?run=shapes/a/eval&step=100&type=segm", 404, "label_suspects_segm.json"),
        ("image?run=shapes/a/eval&step=100&index=99", 404, "does not keep this image"),
        ("image?run=shapes/a/eval&step=100&index=x.jpg", 400, "'index' must be a whole number"),
        ("static/../server.py", 404, ""),
        ("static/%2e%2e/server.py", 404, ""),
        ("static/vendor/../../loader.py", 404, ""),
        ("static/", 404, ""),
    ],
)
def test_what_it_does_not_know_is_refused_in_a_sentence(asked, status, sentence, address):
    refused, message = refusal(f"{address}data/plugin/od_eval/{asked}")
    assert refused == status
    assert sentence in message


def test_it_only_reads(address):
    for method in ("POST", "PUT", "DELETE"):
        assert refusal(f"{address}data/plugin/od_eval/index", method) == (405, "The page only reads.")


def test_every_static_file_that_the_page_needs_is_given(address):
    for path in Path(STATIC).rglob("*"):
        if path.suffix in (".css", ".js"):
            given = get(f"{address}data/plugin/od_eval/static/{path.relative_to(STATIC).as_posix()}")
            assert given == path.read_bytes()


def test_the_tab_shows_the_page(address):
    with open_page(f"{address}#od_eval", frame="tf-dashboard-view iframe, plugins-component iframe") as page:
        check(page)
        assert all(request.startswith(address) for request in page.requests)


def test_a_frame_is_not_needed(address):
    with open_page(f"{address}data/plugin/od_eval/index.html", color_scheme="dark") as page:
        check(page)


def test_tensorboard_starts_without_the_page_if_it_cannot_be_loaded(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "od_eval.plugin.server", None)
    assert DetectionsLoader().load(base_plugin.TBContext()) is None
    assert "the page Detections could not be loaded" in capsys.readouterr().err


def test_loading_the_page_imports_no_package_that_takes_time():
    code = """
import sys
import tensorboard.main
before = set(sys.modules)
from od_eval.plugin.loader import DetectionsLoader
light = set(sys.modules) - before
from tensorboard.plugins import base_plugin
assert DetectionsLoader().load(base_plugin.TBContext()).get_plugin_apps()
print(*sorted(light), "|", *sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    light, _, all_packages = done.stdout.partition("|")
    assert light.split() == ["od_eval", "od_eval.plugin", "od_eval.plugin.loader"]
    assert all_packages.split() == ["od_eval"]


def test_the_names_in_summaries_are_those_of_the_plugin():
    from od_eval.plugin.server import NAME
    from od_eval.tensorboard import tags

    assert NAME == tags.PLUGIN
