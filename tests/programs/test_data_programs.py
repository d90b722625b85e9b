"""`od-eval convert` and `od-eval shapes` as a user runs them, through the launchers in scripts/."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[2]


def run(script: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, str(REPOSITORY / "scripts" / script), *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture
def dataset(tmp_path) -> Path:
    for index in range(10):
        Image.new("RGB", (64, 48), "gray").save(tmp_path / f"{index}.jpg")
    rows = [f"{index}.jpg,cat,1,2,30,40" for index in range(10)]
    (tmp_path / "boxes.csv").write_text("\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]))
    return tmp_path


def test_convert_says_what_it_did_and_what_to_write_into_the_config(dataset) -> None:
    out = dataset / "out"
    result = run("create_tf_record.py", f"--annotations={dataset}/boxes.csv", f"--output_dir={out}")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"train: 8 images, 8 objects in {out}/train-?????-of-00001" in result.stdout
    assert "1 cat: 8 + 2" in result.stdout
    assert "num_classes: 1" in result.stdout
    assert f'label_map_path: "{out}/label_map.pbtxt"' in result.stdout
    assert f'tf_record_input_reader {{ input_path: "{out}/validation-?????-of-00001" }}' in result.stdout


def test_convert_reads_what_only_tensorflow_can_reach(dataset) -> None:
    # TensorFlow's name for local files; to this package it is as remote as gs://, for the worker processes, too.
    (dataset / "val.txt").write_text("3\n")
    (dataset / "mine.pbtxt").write_text("item { id: 7 name: 'cat' }")
    names = {"annotations": "boxes.csv", "images": "", "validation_list": "val.txt", "label_map": "mine.pbtxt"}
    flags = [f"--{flag}=file://{dataset}/{name}" for flag, name in names.items()]
    result = run("create_tf_record.py", *flags, f"--output_dir={dataset}/out", "--num_workers=2")
    assert (result.returncode, result.stderr) == (0, "")
    assert "7 cat: 9 + 1" in result.stdout
    assert f'label_map_path: "file://{dataset}/mine.pbtxt"' in result.stdout


def test_convert_is_strict_when_it_is_told_to(dataset) -> None:
    with (dataset / "boxes.csv").open("a") as file:
        file.write("\n1.jpg,cat,1,2,1,40\n10.jpg,\x1b[31mcat,1,2,1,40")
    arguments = [f"--annotations={dataset}/boxes.csv", f"--output_dir={dataset}/out"]
    result = run("create_tf_record.py", *arguments)
    assert result.returncode == 0
    assert "1 × box without area" in result.stdout
    assert "1 × image file missing" in result.stdout
    assert f"all of them: {dataset}/out/conversion_report.json" in result.stdout
    assert "\x1b" not in result.stdout
    result = run("create_tf_record.py", *arguments, "--strict", "--overwrite")
    assert result.returncode == 1
    assert result.stderr == f"error: 2 items were left out, see {dataset}/out/conversion_report.json.\n"
    assert (dataset / "out" / "train-00000-of-00001").exists()


def test_convert_says_that_files_of_an_earlier_split_stay(dataset) -> None:
    arguments = [f"--annotations={dataset}/boxes.csv", f"--output_dir={dataset}/out"]
    assert "earlier" not in run("create_tf_record.py", *arguments).stdout
    result = run("create_tf_record.py", *arguments, "--overwrite", "--validation_fraction=0")
    assert f"validation: the files of an earlier conversion are still in {dataset}/out" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--annotations={0}/nothing.json", "--output_dir={0}/out"], 1, "nothing.json' does not exist"),
        (["--annotations={0}/0.jpg", "--output_dir={0}/out"], 1, "--format=coco|voc|csv"),
        (["--annotations={0}/boxes.csv", "--output_dir={0}/boxes.csv"], 1, "cannot be written to"),
        (["--annotations={0}/boxes.csv", "--output_dir=nosuch://a/b"], 1, "cannot be written to 'nosuch://a/b'"),
        (["--annotations={0}/boxes.csv", "--output_dir={0}/out", "--ray=127.0.0.1:1"], 1, "with --ray=127.0.0.1:1: "),
        (["--output_dir={0}/out"], 2, "--annotations"),
        (["--annotations={0}/boxes.csv", "--output_dir="], 1, "the output folder has no name"),
        (["--annotations={0}/boxes.csv", "--output_dir={0}/out", "--num_workers=1000000000000"], 1, "--num_workers=1"),
        (["--annotations={0}/boxes.csv", "--output_dir={0}/out", "--validation_fraction=nan"], 1, "is nan; it must be"),
        (["--annotations={0}/boxes.csv", "--output_dir={0}/out", "--images={0}/0.jpg"], 1, "0.jpg' is no folder"),
        (["--annotations={0}/boxes.csv", "--output_dir={0}/out", "--validation_fraction=2"], 2, "validation_fraction"),
    ],
)
def test_convert_names_what_is_wrong_in_a_sentence(dataset, arguments, status, message) -> None:
    result = run("create_tf_record.py", *(argument.format(dataset) for argument in arguments))
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (dataset / "out").exists()


def test_convert_and_shapes_show_names_on_one_line_and_in_short(dataset) -> None:
    name = "\x1b[2J\x9b\u202e" + "a" * 10_000
    with (dataset / "boxes.csv").open("a") as file:
        file.write(f'\n0.jpg,"{name}",1,2,30,40\n{name}.jpg,cat,1,2,30,40')
    out = dataset / "out\x1b[2J\x9b\u202e"
    converted = run("create_tf_record.py", f"--annotations={dataset}/boxes.csv", f"--output_dir={out}")
    drawn = run("create_shapes_dataset.py", f"--output_dir={out}/a", "--num_train=1")
    for result in (converted, drawn):
        assert (result.returncode, result.stderr) == (0, "")
        assert all(line.isprintable() and len(line) < 1200 for line in result.stdout.splitlines())
    assert r"\x1b[2J\x9b\u202eaaaaaa" in converted.stdout


def test_neither_program_imports_tensorflow_before_it_writes(tmp_path) -> None:
    # Worker processes, which write nothing, import the same modules.
    code = "import sys, od_eval.programs.{}; sys.exit('tensorflow' in sys.modules)"
    for program in ("convert", "shapes"):
        subprocess.run([sys.executable, "-c", code.format(program)], check=True, cwd=REPOSITORY, timeout=60)


def test_shapes_writes_a_dataset_quickly(tmp_path) -> None:
    result = run("create_shapes_dataset.py", f"--output_dir={tmp_path}/a", "--num_train=6", "--num_validation=2")
    assert (result.returncode, result.stderr) == (0, "")
    assert "train: 6 images" in result.stdout
    assert "mask_type: PNG_MASKS" in result.stdout
    assert len(list((tmp_path / "a").iterdir())) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")
def test_a_disk_that_is_full_leaves_nothing_and_is_a_sentence(tmp_path) -> None:
    limit = ("bash", "-c", 'ulimit -f 64; exec "$@"', "bash")  # 64 KiB a file
    result = run("create_shapes_dataset.py", f"--output_dir={tmp_path}/out", prefix=limit)
    assert result.returncode == 1
    assert re.fullmatch(f"error: the dataset cannot be written to '{tmp_path}/out': .*File too large.\n", result.stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_conversion_that_is_ended_leaves_no_files_and_no_processes(dataset, signal_number, status) -> None:
    # Two thousand images that take half a minute to decode: the signal comes before the end, even on a busy machine.
    Image.new("RGB", (2800, 2100), "gray").save(dataset / "large.jpg")
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    for index in range(2000):
        os.link(dataset / "large.jpg", dataset / f"large{index}.jpg")
        rows.append(f"large{index}.jpg,cat,1,2,30,40")
    (dataset / "large.csv").write_text("\n".join(rows))
    command = [sys.executable, str(REPOSITORY / "scripts" / "create_tf_record.py"), "--num_workers=2"]
    command += [f"--annotations={dataset}/large.csv", f"--output_dir={dataset}/out"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Tests that a shell has started in the background, where it makes them ignore Ctrl-C, would pass that on.
    pipes["preexec_fn"] = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, **pipes)
    unfinished = dataset / "out" / ".unfinished"
    deadline = time.monotonic() + 60
    while not list(unfinished.glob("train-00000-of-00004*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal_number)
    process.communicate(timeout=120)  # until its workers, too, have closed what they inherited
    assert process.returncode == status
    assert not list(dataset.glob("out/train-*"))
    if signal_number != signal.SIGKILL:
        assert not (dataset / "out").exists()
    else:
        again = run("create_tf_record.py", f"--annotations={dataset}/boxes.csv", f"--output_dir={dataset}/out")
        assert again.returncode == 0
        assert not (dataset / "out" / ".unfinished").exists()
