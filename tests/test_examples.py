"""The example notebook runs from start to end, on a few images and steps."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from od_eval import load_metrics

REPOSITORY = Path(__file__).parents[1]
SMALLER = {
    "NUM_TRAIN, NUM_VALIDATION = 2000, 200": "NUM_TRAIN, NUM_VALIDATION = 8, 4",
    "EPOCHS, STEPS_PER_EPOCH = 10, 150": "EPOCHS, STEPS_PER_EPOCH = 2, 10",
}


@pytest.fixture
def kernel(tmp_path, monkeypatch) -> KernelSpecManager:
    """A kernel of this interpreter that sees this repository, and whose TensorBoard ends with the test."""
    folder = tmp_path / "kernels" / "this"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "this", "language": "python"}))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")])
    for info in (tmp_path / ".tensorboard-info").glob("pid-*.info"):
        os.kill(int(info.stem.removeprefix("pid-")), signal.SIGTERM)


def test_the_notebook_trains_shows_and_exports(kernel, tmp_path):
    notebook = nbformat.read(REPOSITORY / "examples" / "quickstart.ipynb", as_version=4)
    for before, after in SMALLER.items():
        (cell,) = [cell for cell in notebook.cells if before in cell.source]
        cell.source = cell.source.replace(before, after)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="this", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.create_kernel_manager().kernel_spec_manager = kernel
    client.execute()  # raises if a cell does

    run = tmp_path / "quickstart" / "notebook"
    metrics = load_metrics(run)
    assert (metrics["step"], metrics["num_images"]) == (20, 4)
    rows = (run / "epochs.csv").read_text().splitlines()
    columns = dict(zip(rows[0].split(","), rows[2].split(","), strict=True))
    assert float(columns["val_AP"]) == metrics["bbox"]["AP"]
    assert float(columns["val_total_loss"]) == pytest.approx(metrics["losses"]["total_loss"])
    outputs = {cell.source.partition("\n")[0]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    pictures = outputs["from IPython.display import Image, display"]
    assert len(pictures) == 4
    assert all("image/png" in picture["data"] for picture in pictures)
    training = "".join(output["text"] for output in outputs["EPOCHS, STEPS_PER_EPOCH = 2, 10"])
    assert "eval at step 20: AP " in training
    assert "tensorflow" not in training
    (table,) = outputs["import pandas as pd"]
    assert [name for name in ("all", "circle", "star") if name not in table["data"]["text/plain"]] == []
    (plot,) = outputs["%matplotlib inline"]
    assert "image/png" in plot["data"]
    last = outputs['best = tf.train.latest_checkpoint(f"{MODEL_DIR}/best")']
    said = "".join(output.get("text", "") for output in last)
    assert said.endswith(f"{(run / 'lite' / 'model.tflite').stat().st_size} bytes\n")
    assert "Exported quickstart/notebook/best/ckpt-" in said
    assert (tmp_path / ".tensorboard-info").is_dir()


def test_the_notebook_installs_beside_a_clone_which_python_takes_for_a_package(tmp_path):
    (tmp_path / "od_eval" / "od_eval").mkdir(parents=True)
    notebook = nbformat.read(REPOSITORY / "examples" / "quickstart.ipynb", as_version=4)
    (cell,) = [cell.source for cell in notebook.cells if "%pip" in cell.source]
    program = cell.replace("%pip install --quiet {REPOSITORY}", "print('installs', REPOSITORY)")
    program = program.replace("!od-eval install_odapi", "print('adds the Object Detection API')")
    command = [sys.executable, "-S", "-c", program]  # without site-packages

    def says(pythonpath: str) -> str:
        environment = {**os.environ, "PYTHONPATH": pythonpath}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert says("") == "installs /content/od_eval\nadds the Object Detection API\n"
    assert says(str(REPOSITORY)) == "adds the Object Detection API\n"


@pytest.mark.slow
def test_the_example_of_segmentation_trains_evaluates_and_keeps_the_best(tmp_path):
    numbers = {"num_train": 16, "num_validation": 4, "image_size": 32, "epochs": 1}
    command = [sys.executable, REPOSITORY / "examples" / "segmentation.py", tmp_path]
    command += [f"--{name}={number}" for name, number in numbers.items()]
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("eval at step 1: IoU 0.")
    assert load_metrics(tmp_path)["segmentation"]["num_pixels"] == 4 * 32 * 32
    assert (tmp_path / "best" / "best.json").exists()
