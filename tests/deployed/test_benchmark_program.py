"""`od-eval benchmark`: formats side by side, each in a process of its own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_model_dir import make_model_dir

from od_eval.deployed.benchmark import BenchmarkRow, table_rows
from od_eval.evaluation.analyses.comparison import ComparedScore
from od_eval.evaluation.analyses.intervals import Interval

REPOSITORY = Path(__file__).parents[2]


def run_program(*flags):
    program = REPOSITORY / "scripts" / "benchmark.py"
    return subprocess.run([sys.executable, program, *map(str, flags)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_formats_are_rows_and_one_that_cannot_be_made_is_a_row_with_the_reason(ssd_config, config_overrides, tmp_path):
    run_dir = tmp_path / "a_run"
    run_dir.mkdir()
    # Images of 96 pixels stay as they are, but TensorFlow Lite has no input of any size.
    resizer = "model.ssd.image_resizer={keep_aspect_ratio_resizer {min_dimension: 96 max_dimension: 96}}"
    make_model_dir(ssd_config, [*config_overrides, resizer], run_dir)
    run = run_program(f"--model_dir={run_dir}", "--formats=saved_model,float32", "--check_images=3", "--num_threads=1")
    assert run.returncode == 0, run.stderr
    output = run_dir / "benchmark"
    assert {path.name for path in output.iterdir()} == {
        *("benchmark.csv", "benchmark.json", "benchmark.md"),
        "saved_model",
    }
    content = json.loads((output / "benchmark.json").read_text())
    assert content["checkpoint"] == f"{run_dir}/best/ckpt-1"
    assert content["num_threads"] == 1
    with open(output / "benchmark.csv", newline="") as file:
        checkpoint, saved_model, float32 = csv.DictReader(file)
    assert [row["format"] for row in content["rows"]] == ["checkpoint", "saved_model", "float32"]
    assert (checkpoint["format"], saved_model["format"], float32["format"]) == ("checkpoint", "saved_model", "float32")
    assert checkpoint["num_images"] == saved_model["num_images"] == "3"
    size = sum(path.stat().st_size for path in (output / "saved_model" / "saved_model").rglob("*") if path.is_file())
    assert int(saved_model["file_size"]) == size
    for row in (checkpoint, saved_model):
        assert 0 < float(row["latency_ms_median"]) <= float(row["latency_ms_percentile_95"])
        assert float(row["peak_memory_mb"]) > 100
        assert row["problem"] == ""
    assert (
        "TensorFlow Lite needs images of one size, and this model has a keep_aspect_ratio_resizer" in float32["problem"]
    )
    assert float32["AP"] == float32["file_size"] == ""
    lines = (output / "benchmark.md").read_text().splitlines()[:5]
    assert len({len(line) for line in lines}) == 1, "it is aligned"
    assert "a\\_run" in lines[-1], "what is in a message is no markup"
    assert float32["problem"] in run.stdout
    assert "resource_tracker" not in run.stderr

    again = run_program(f"--model_dir={run_dir}")
    assert again.returncode == 1
    assert again.stderr == f"error: output '{output}' already exists; remove it or choose another one.\n"


def test_a_table_tells_numbers_with_their_intervals_and_problems_only_if_there_are_any():
    deployment = {
        "file_size": 1_234_567,
        "latency_ms": {"median": 12.34, "percentile_95": 45.67},
        "peak_memory_mb": 789.6,
        "runtime": "none",
    }
    compared = ComparedScore(0.52, 0.5, Interval(-0.05, 0.01))
    row = BenchmarkRow(
        "int8", "", num_images=7, ap=0.5, ap_interval=Interval(0.4, 0.6), ap50=0.75, compared=compared,
        deployment=deployment,
    )  # fmt: skip
    header, cells = table_rows([row])
    assert len(header) == len(cells) == 10
    assert cells == [
        *("int8", "0.5000", "0.400 to 0.600", "-0.0200", "-0.050 to +0.010", "0.7500"),
        *("1.23", "12.3", "45.7", "790"),
    ]
    header, cells, failed = table_rows([row, BenchmarkRow("float32", "a \x1b[1m problem")])
    assert (header[-1], cells[-1], failed[-1]) == ("problem", "", "a \\x1b[1m problem")
    assert failed[:-1] == ["float32", *["-"] * 9]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--model_dir must have a value"),
        (["--model_dir=a", "--formats=int8,int8"], "each once"),
        (["--model_dir=a", "--formats=float8"], "it must be some of saved_model, float32"),
        (["--model_dir=a", "--formats="], "it must be some of saved_model, float32"),
        (["--model_dir=a", "--output="], "it must be the name of a folder"),
        (["--model_dir=a", "--check_images=0"], "check_images"),
    ],
)
def test_wrong_flags_are_told(flags, words):
    run = run_program(*flags)
    assert run.returncode == 2
    assert words in run.stderr


def test_a_model_dir_without_a_model_is_told(tmp_path):
    run = run_program(f"--model_dir={tmp_path / 'none'}", f"--output={tmp_path / 'out'}")
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert f"'{tmp_path}/none' does not exist" in run.stderr
    assert list(tmp_path.iterdir()) == []
