"""Writers: scalars, pictures and texts of a run. (Resuming a run is in test_event_files.)"""

from __future__ import annotations

import contextlib
import html
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tensorboard import plugin_util
from tensorboard.plugins.text import metadata as text_metadata

from od_eval.tensorboard import writers
from read_events import shown_images, shown_scalars, shown_tensors

REPOSITORY = Path(__file__).parents[2]


def test_of_two_values_of_a_tag_at_one_step_the_first_is_kept(tmp_path):
    run_dir = str(tmp_path)
    writers.write_scalars(run_dir, 100, {"Loss/total_loss": 0.5})
    writers.write_scalars(run_dir, 100, {"Loss/total_loss": 0.25, "AP": 0.75})
    writers.write_scalars(run_dir, 200, {"Loss/total_loss": 0.125})
    assert shown_scalars(run_dir)["Loss/total_loss"] == [(100, 0.5), (200, 0.125)]
    assert shown_scalars(run_dir)["AP"] == [(100, 0.75)]


def test_another_run_may_have_the_same_tag_at_the_same_step(tmp_path):
    for run in ("train", "eval", "eval/night"):
        writers.write_scalars(str(tmp_path / run), 100, {"loss": 0.5})
    for run in ("train", "eval", "eval/night"):
        assert shown_scalars(tmp_path / run)["loss"] == [(100, 0.5)]


def test_a_run_has_one_memory_however_its_folder_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writers.write_scalars("run", 1, {"loss": 0.5})
    writers.write_scalars(str(tmp_path / "run"), 1, {"loss": 0.5})
    assert len(shown_scalars("run")["loss"]) == 1


@pytest.mark.parametrize("run", ["eval/night", "eval_train"])
def test_a_run_that_goes_back_writes_again_what_it_took_back(tmp_path, run):
    run_dir = str(tmp_path / run)
    for step in (1, 2, 3):
        writers.write_scalars(run_dir, step, {"loss": float(step)})
    writers.resume(run_dir, 2)
    writers.write_scalars(run_dir, 3, {"loss": 0.5})
    assert shown_scalars(run_dir)["loss"] == [(1, 1.0), (2, 2.0), (3, 0.5)]


def test_pictures_are_what_tensorboard_takes_for_images(tmp_path):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20] = (200, 100, 50)
    writers.write_pictures(str(tmp_path), 5, {"a": picture, "b": picture})
    shown = shown_images(tmp_path)
    assert set(shown) == {"a", "b"}
    ((step, (image,)),) = shown["a"]
    assert (step, image.size) == (5, (60, 40))
    read = np.asarray(image, int)
    assert np.abs(read - picture)[[5, 30]].max() < 10


@pytest.mark.parametrize(
    "text",
    [
        'item {\n  name: "<b>*cat*</b> &amp; `dog`"\n}\n\n# no heading\n',
        "```\n</code></pre><script>alert(1)</script>\n~~~\n",
        "[a]: http://example.org\n\n![x](y) <!-- | -- | \\* _a_\n---",
        "  indented\r\n    more\rless",
        "猫 🦝 \u2028 end",
    ],
)
def test_a_text_is_shown_as_it_is(tmp_path, text):
    writers.write_text(str(tmp_path), "pipeline_config", text)
    ((_, written),) = shown_tensors(tmp_path, text_metadata.PLUGIN_NAME)["pipeline_config"]
    shown = re.fullmatch(r"<pre><code>(.*)</code></pre>", plugin_util.markdown_to_safe_html(written.item()), re.DOTALL)
    assert html.unescape(shown[1]).strip("\n") == text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")


@pytest.mark.parametrize("text", ["", "\ud800", "\x00\x02"])
def test_no_text_is_too_strange_to_be_written(tmp_path, text):
    writers.write_text(str(tmp_path), "text", text)
    assert len(shown_tensors(tmp_path)["text"]) == 1


# ---- What goes wrong ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def room_for(more_bytes: int, run_dir: Path) -> Iterator[None]:
    """No file can grow further than so many bytes beyond the largest event file of the run: a disk that is full."""
    size = max(path.stat().st_size for path in run_dir.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_an_event_longer_than_a_buffer_is_not_lost_in_silence(tmp_path, capfd):
    """TensorFlow does not report it."""
    run_dir = str(tmp_path)
    # Long enough for the file in which pytest keeps what is printed.
    writers.write_scalars(run_dir, 1, {"loss": 1.0, **{f"filler {index}": 0.0 for index in range(40)}})
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with room_for(20, tmp_path):
        writers.write_pictures(run_dir, 2, {"a": noise})
    assert capfd.readouterr().err.startswith(f"warning: '{run_dir}' cannot be written now (")
    writers.write_scalars(run_dir, 3, {"loss": 3.0})
    assert shown_scalars(run_dir)["loss"] == [(1, 1.0), (3, 3.0)]
    assert [step for step, _ in shown_images(tmp_path)["a"]] == [2]


@pytest.mark.parametrize("more_bytes", [0, 20])
def test_what_a_full_disk_cut_off_is_written_to_a_new_file_as_soon_as_there_is_room(tmp_path, capfd, more_bytes):
    run_dir = str(tmp_path)
    writers.write_scalars(run_dir, 1, {"loss": 1.0, **{f"filler {index}": 0.0 for index in range(20)}})
    with room_for(more_bytes, tmp_path):
        for step in (2, 3):
            writers.write_scalars(run_dir, step, {"loss": float(step), **{f"filler {i}": 0.0 for i in range(40)}})
        assert [step for step, _ in shown_scalars(run_dir)["loss"]] == [1]
    writers.write_scalars(run_dir, 4, {"loss": 4.0})
    assert shown_scalars(run_dir)["loss"] == [(step, float(step)) for step in (1, 2, 3, 4)]
    told = capfd.readouterr().err
    assert told.count(f"warning: '{run_dir}' cannot be written now (") == 1


def test_what_never_could_be_written_is_said_at_the_end(tmp_path):
    program = (
        "import resource, signal; from od_eval.tensorboard import writers;"
        f"writers.write_scalars('{tmp_path}', 1, {{'loss': 1.0}});"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.getrlimit(resource.RLIMIT_FSIZE)[1]));"
        f"[writers.write_scalars('{tmp_path}', step, {{'loss': 1.0}}) for step in (2, 3)]"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=_environment())
    assert result.returncode == 0, result.stderr
    assert f"warning: 2 points or pictures of '{tmp_path}' could not be written to TensorBoard: " in result.stderr
    assert [step for step, _ in shown_scalars(tmp_path)["loss"]] == [1]


def test_files_sort_after_those_that_are_there_whatever_the_clock_says(tmp_path, monkeypatch):
    """Two days back: as another process, which began with another clock."""
    writers.write_scalars(str(tmp_path), 40, {"loss": 4.0})
    for back in (2, 4):
        (newest,) = [path for path in tmp_path.iterdir() if path.name == max(map(_name, tmp_path.iterdir()))]
        later = newest.with_name(newest.name.replace(".out.tfevents.1", ".out.tfevents.2"))
        newest.rename(later)
        writers._open_runs.clear()
        writers.write_scalars(str(tmp_path), 40 + back, {"loss": float(back)})
        writers.write_scalars(str(tmp_path), 41 + back, {"loss": float(back)})
        assert max(map(_name, tmp_path.iterdir())) > later.name
    assert [step for step, _ in shown_scalars(tmp_path)["loss"]] == [40, 42, 43, 44, 45]


def test_a_process_whose_file_another_one_has_written_anew_goes_on_in_a_new_file(tmp_path):
    run_dir = str(tmp_path)
    for step in (1, 2):
        writers.write_scalars(run_dir, step, {"loss": float(step)})
    program = f"from od_eval.tensorboard import writers; writers.take_back('{run_dir}', 2, lambda tag: True)"
    subprocess.run([sys.executable, "-c", program], check=True, env=_environment(), capture_output=True)
    writers.write_scalars(run_dir, 3, {"loss": 3.0})
    assert shown_scalars(run_dir)["loss"] == [(1, 1.0), (3, 3.0)]


def _name(path: Path) -> str:
    return path.name


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
