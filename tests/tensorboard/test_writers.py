"""Writers: scalars, pictures and texts of a run. (Resuming a run is in test_event_files.)"""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from tensorboard import plugin_util
from tensorboard.plugins.text import metadata as text_metadata

from od_eval.tensorboard import writers
from read_events import shown_images, shown_scalars, shown_tensors


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
