"""The wheel, as a user installs it: nothing of the repository is beside it."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from od_eval import load_metrics

REPOSITORY = Path(__file__).parents[1]
INSTALLED = Path(sysconfig.get_path("purelib"))
PIP = (sys.executable, "-m", "pip", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(REPOSITORY / "od_eval", source / "od_eval", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", source], check=True)
    (wheel,) = folder.glob("od_eval-*.whl")
    return wheel


def environment(folder: Path, wheel: Path, packages: Path) -> Path:
    """Makes an environment that has the wheel and sees a folder of packages; returns its `od-eval`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    subprocess.run([*PIP, f"--python={folder}/bin/python", "install", "--no-deps", wheel], check=True)
    (own,) = (folder / "lib").glob("python*/site-packages")
    # Only the folder: the link to this repository that an editable installation leaves there is not followed.
    (own / "others.pth").write_text(str(packages))
    return folder / "bin" / "od-eval"


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory) -> Path:
    """`od-eval` in an environment with all that it needs."""
    return environment(tmp_path_factory.mktemp("whole") / "venv", wheel, INSTALLED)


@pytest.fixture(scope="module")
def program_without_odapi(wheel, tmp_path_factory) -> Path:
    """`od-eval` in an environment without the Object Detection API, as Python 3.13 gets it."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "packages").mkdir()
    for path in INSTALLED.iterdir():
        if not path.name.startswith(("object_detection", "official", "orbit", "tf_slim", "lvis", "pip", "tf_models")):
            (folder / "packages" / path.name).symlink_to(path)
    return environment(folder / "venv", wheel, folder / "packages")


def run(program: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_it_has_the_page_of_tensorboard_with_all_its_files(wheel):
    static = REPOSITORY / "od_eval" / "plugin" / "static"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    assert {path.relative_to(REPOSITORY).as_posix() for path in static.rglob("*") if path.is_file()} <= {*names}
    assert "[tensorboard_plugins]\nod_eval = od_eval.plugin.loader:DetectionsLoader\n" in entry_points


def test_its_quickstart_draws_trains_and_says_what_to_look_at_and_does_nothing_twice(program, tmp_path):
    sizes = ("--num_train=8", "--num_validation=4", "--num_train_steps=10")
    first = run(program, tmp_path, "quickstart", *sizes)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert "Drawing 8 + 4 images into quickstart/shapes …" in lines
    assert lines[-3] == f"Look at the results: {program.parent}/tensorboard --logdir {tmp_path}/quickstart/run"
    assert lines[-2].endswith("#timeseries")
    assert lines[-1].endswith("#images")
    metrics = load_metrics(tmp_path / "quickstart" / "run")
    assert (metrics["step"], metrics["num_images"]) == (10, 4)
    written = sorted((tmp_path / "quickstart" / "shapes").iterdir())

    again = run(program, tmp_path, "quickstart", *sizes)
    assert again.returncode == 0, again.stderr
    assert "Nothing to train" in again.stdout
    assert "Drawing" not in again.stdout
    assert sorted((tmp_path / "quickstart" / "shapes").iterdir()) == written


def test_without_the_object_detection_api_annotations_are_converted(program_without_odapi, excerpt, tmp_path):
    raccoons = excerpt / "raccoon"
    folders = (f"--annotations={raccoons}/annotations", f"--images={raccoons}/images", "--output_dir=records")
    converted = run(program_without_odapi, tmp_path, "convert", *folders)
    assert converted.returncode == 0, converted.stderr
    assert "raccoon" in (tmp_path / "records" / "label_map.pbtxt").read_text()


def test_without_the_object_detection_api_detections_are_evaluated_and_callbacks_are_there(
    program_without_odapi, tmp_path
):
    box = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}
    image = {"id": 1, "file_name": "1.png", "width": 64, "height": 64}
    annotation = {"id": 1, **box, "area": 400, "iscrowd": 0}
    groundtruth = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "groundtruth.json").write_text(json.dumps(groundtruth))
    (tmp_path / "detections.json").write_text(json.dumps([{**box, "score": 0.5}]))
    files = ("--groundtruth=groundtruth.json", "--detections=detections.json", "--model_dir=run")
    evaluated = run(program_without_odapi, tmp_path, "evaluate", *files)
    assert evaluated.returncode == 0, evaluated.stderr
    assert load_metrics(tmp_path / "run")["bbox"]["AP"] == pytest.approx(1)
    code = "from od_eval import BestCheckpoint, DetectionEvaluation, LossLogger"
    run(program_without_odapi.with_name("python"), tmp_path, "-c", code).check_returncode()


@pytest.mark.parametrize(
    "arguments",
    [("train", "--pipeline_config_path=a.config", "--model_dir=run"), ("quickstart",), ("export", "--model_dir=run")],
)
def test_without_the_object_detection_api_what_needs_it_says_what_brings_it(program_without_odapi, tmp_path, arguments):
    done = run(program_without_odapi, tmp_path, *arguments)
    assert done.returncode == 1
    assert "run `od-eval install_odapi`, which keeps the TensorFlow" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_adds_the_object_detection_api_and_keeps_tensorflow(program_without_odapi, tmp_path):
    """What pip is asked for; a run of the real one takes minutes: `scripts/test.sh --tensorflow=2.21` is one."""
    missing = run(program_without_odapi, tmp_path, "install_odapi")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "has no pip" in missing.stderr

    pip = program_without_odapi.parents[2] / "packages" / "pip"
    pip.mkdir()
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text(
        "import json, sys\nwith open('asked.json', 'a') as file: print(json.dumps(sys.argv[1:]), file=file)\n"
    )
    done = run(program_without_odapi, tmp_path, "install_odapi")
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, (tmp_path / "asked.json").read_text().splitlines())
    installed = importlib.metadata.version("tensorflow")
    assert f"tensorflow=={installed}" in first
    assert any(one.startswith("hotcoco") for one in first)
    assert not any(one.startswith(("tf-models", "lvis", "pytest")) for one in first)
    assert "--no-deps" in second
    assert [re.match(r"[a-z-]+", one)[0] for one in second[-3:]] == [
        "tf-models-official",
        "tf-models-research-object-detection",
        "lvis",
    ]
    (pip / "__main__.py").write_text("import sys; sys.exit('no matching distribution')")
    failed = run(program_without_odapi, tmp_path, "install_odapi")
    assert failed.returncode == 1
    assert "no matching distribution" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("error: pip could not install")


def test_each_of_its_programs_has_help(program, tmp_path):
    from od_eval.cli import PROGRAMS

    for name in PROGRAMS:
        result = run(program, tmp_path, name, "--help")
        assert (result.returncode, result.stderr) == (0, "")
        assert f"od-eval {name}" in result.stdout or "scripts/" in result.stdout
