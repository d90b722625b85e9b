"""examples/detect_tflite.py, in environments that have only NumPy, Pillow, ai-edge-litert and what these need."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from color_detectors import COLORS, SCORE, SIDE, image_of, write_description, write_tflite
from PIL import Image

import od_eval

EXAMPLE = Path(__file__).parents[2] / "examples" / "detect_tflite.py"
NEEDED = ("numpy", "pillow", "ai-edge-litert")
HEIGHT, WIDTH = 320, 640
BOX = (40, 300, 200, 400)


def required(name: str) -> Iterator[str]:
    """A distribution and those that it requires."""
    yield name
    for requirement in importlib.metadata.requires(name) or []:
        if "extra ==" not in requirement:
            yield from required(re.match(r"[\w.-]+", requirement)[0])


class Environment(NamedTuple):
    """Python, and the folder of its packages if it has none of its own."""

    python: Sequence[str]
    packages: Path | None

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        variables |= {} if self.packages is None else {"PYTHONPATH": str(self.packages)}
        command = [*self.python, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=folder, timeout=120)


@pytest.fixture(scope="module", params=["linked", pytest.param("installed", marks=pytest.mark.slow)])
def small(request, tmp_path_factory) -> Environment:
    """An environment with nothing else: of links to what is installed here, or of what pip installs."""
    folder = tmp_path_factory.mktemp("small")
    if request.param == "linked":
        for name in {name for needed in NEEDED for name in required(needed)}:
            distribution = importlib.metadata.distribution(name)
            for top in {file.parts[0] for file in distribution.files} - {".."}:
                if not (folder / top).exists():
                    (folder / top).symlink_to(distribution.locate_file(top))
        return Environment([sys.executable, "-S"], folder)
    venv.create(folder, with_pip=True)
    environment = Environment([str(folder / "bin" / "python")], None)
    done = environment.run(folder, "-m", "pip", "install", "--quiet", *NEEDED)
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(NEEDED)}: {done.stderr.strip().splitlines()[-1]}")
    return environment


def detect(small: Environment, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return small.run(folder, str(EXAMPLE), "model.tflite", "photo.png", *arguments)


def test_the_environments_have_nothing_else(small, tmp_path):
    for name in ("tensorflow", "cv2", "scipy", "od_eval"):
        assert f"No module named '{name}'" in small.run(tmp_path, "-c", f"import {name}").stderr


@pytest.mark.parametrize("dtype", [tf.float32, tf.uint8], ids=["float32", "uint8"])
def test_it_finds_what_od_eval_finds_prints_it_and_draws_it(small, tmp_path, dtype):
    write_tflite(tmp_path / "model.tflite", dtype=dtype)
    normalization = [127.5] * 3 if dtype == tf.float32 else None
    taken = {"name": "image", "shape": [1, SIDE, SIDE, 3], "dtype": dtype.name}
    write_description(tmp_path, input=taken | {"mean": normalization, "std": normalization})
    exif = Image.Exif()
    exif[0x112] = 6
    upright = image_of(3, BOX, HEIGHT, WIDTH)
    Image.fromarray(upright).rotate(90, expand=True).save(tmp_path / "photo.png", exif=exif)
    found = od_eval.load_model(tmp_path).detect([upright])
    assert (found.boxes[0].tolist(), found.classes[0].tolist()) == ([list(BOX)], [3])

    done = detect(small, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "'blue' 75.0% at 300, 40, 400, 200\n"
    changed = (np.asarray(Image.open(tmp_path / "detected.png")) != upright).any(axis=2)
    assert changed[40, 300:400].all()
    assert changed[40:200, 400].all()
    changed[25:203, 297:403] = False  # the box, with its label above it
    assert not changed.any()


def test_it_leaves_out_what_the_evaluation_found_to_be_too_unsure(small, tmp_path):
    write_tflite(tmp_path / "model.tflite")
    Image.fromarray(image_of(1, BOX, HEIGHT, WIDTH)).save(tmp_path / "photo.png")
    for confidence, overall, is_found in ((SCORE + 0.01, 0.1, False), (SCORE - 0.01, 0.9, True), (None, 0.9, False)):
        write_description(
            tmp_path,
            categories=[{"id": id, "name": name, "confidence": confidence} for id, name in COLORS.items()],
            confidence=overall,
        )
        done = detect(small, tmp_path, "out.jpg")
        assert (done.returncode, bool(done.stdout)) == (0, is_found), done.stderr
        assert (tmp_path / "out.jpg").exists()


def test_without_a_photo_it_says_how_it_is_used(small, tmp_path):
    done = small.run(tmp_path, str(EXAMPLE), "model.tflite")
    assert done.returncode == 1
    assert "python detect_tflite.py exported/model.tflite photo.jpg" in done.stderr


def test_what_is_missing_or_no_image_is_said_in_a_line(small, tmp_path):
    write_tflite(tmp_path / "model.tflite")
    (tmp_path / "photo.png").write_bytes(b"no image")
    for about, name in ((None, "model.json"), ({}, "photo.png")):
        if about is not None:
            (tmp_path / "model.json").write_text(json.dumps(about))
        done = detect(small, tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert name in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "detected.png").exists()
