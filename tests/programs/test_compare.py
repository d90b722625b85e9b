"""`od-eval compare` as a user runs it, through scripts/compare_runs.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import od_eval
from made_images import evaluated, random_images

REPOSITORY = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(REPOSITORY / "scripts" / "compare_runs.py")]


def run(folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, cwd=folder)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ground truth, and detections of two detectors."""
    images = random_images(0, num=28, masks=True)
    for name in ("a.json", "b.json"):
        evaluator = evaluated(images, masks=True)
        (tmp_path / "val.json").write_text(json.dumps(evaluator.groundtruth_json()))
        (tmp_path / name).write_text(json.dumps(evaluator.detections_json()))
        for batch in images:
            batch.detections.scores = [np.random.default_rng(1).permutation(batch.detections.scores[0])]
    return tmp_path


def test_the_report_has_the_numbers_and_fits_a_terminal(folder) -> None:
    result = run(folder, "a.json", "b.json", "--groundtruth=val.json", "--output=out")
    assert (result.returncode, result.stderr) == (0, "")
    compared = od_eval.compare(folder / "a.json", folder / "b.json", groundtruth=folder / "val.json")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[:2] == ["A: a.json", "B: b.json"]
    text = " ".join(result.stdout.split())
    rows_of_ap = [line.split() for line in lines if line.startswith("AP  ")]
    for of, ap in zip(compared.comparisons.values(), rows_of_ap, strict=True):
        score = of.overall["AP"]
        star = "*" if score.is_distinguishable else ""
        assert ap[1:4] == [f"{score.a:.4f}", f"{score.b:.4f}", f"{score.difference:+.4f}{star}"]
        assert ap[4:] == [f"{score.interval.low:+.3f}", "to", f"{score.interval.high:+.3f}"]
        assert f"Of {of.num_groundtruth} objects, B fixed {of.num_fixed} and broke {of.num_broken}:" in text
    cat = next(line.split() for line in lines if line.startswith("cat "))
    assert int(cat[1]) == compared.bbox.per_category["cat"].num_groundtruth
    assert int(cat[-1]) == compared.bbox.per_category["cat"].changes["broke"]
    written = sorted(path.name for path in (folder / "out").iterdir())
    assert written == sorted(f"{name}{of}.csv" for name in ("categories", "images", "objects") for of in ("", "_segm"))
    assert [line.strip() for line in lines[-6:]] == [f"out/{name}" for name in (
        "objects.csv", "images.csv", "categories.csv", "objects_segm.csv", "images_segm.csv", "categories_segm.csv",
    )]  # fmt: skip


def test_flags_may_stand_anywhere_what_if_takes_the_place_of_b_and_warnings_are_on_stderr(folder) -> None:
    content = json.loads((folder / "a.json").read_text())
    content[0]["category_id"] = 77
    (folder / "a.json").write_text(json.dumps(content))
    result = run(
        folder, "--what_if=nms=0.5", "a.json", "--groundtruth", "val.json", "--what_if", "merge=pet:cat,dog",
        "--confidence=0.4",
    )  # fmt: skip
    assert result.returncode == 0
    assert result.stderr.startswith("warning: left out: 1 detections of categories that the ground truth does not have")
    assert result.stderr.count("\n") == 1
    assert "B: A with nms=0.5, merge=pet:cat,dog" in result.stdout
    assert "\nconfidence  0.4000  0.4000\n" in result.stdout
    assert "\npet " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["a.json"], 2, "give A and B, or A and --what_if"),
        (["a.json", "b.json", "c.json"], 2, "unexpected argument 'c.json'"),
        (["a.json", "b.json"], 1, "for which ground truth is needed: --groundtruth=val.json"),
        (["a.json", "--groundtruth=val.json", "--what_if=nms=2"], 1, "error: --what_if='nms=2' is none of"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(folder, arguments, status, words) -> None:
    result = run(folder, *arguments)
    assert result.returncode == status
    assert words in result.stderr
    assert result.stderr.count("\n") == (1 if status == 1 else 2)


def test_the_program_imports_no_tensorflow(folder) -> None:
    code = """if True:
        import sys
        from od_eval import cli
        status = cli.run("compare", ["compare", "a.json", "b.json", "--groundtruth=val.json", "--output=out"])
        sys.exit(status or "tensorflow" in sys.modules)
    """
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, timeout=60, capture_output=True)
    assert done.returncode == 0
