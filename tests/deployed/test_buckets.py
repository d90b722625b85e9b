"""All programs with all paths in a bucket, as on Colab: TensorFlow's own client, and a fake of what it talks to.

Nothing is written to the folder they run in, where a path that lost a slash would end.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from color_detectors import image_of, write_description, write_tflite
from fake_bucket import FakeBucket
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
NUMBERS = (1, 12, 31)
DETECTIONS = [
    {"image_id": id, "category_id": 1, "bbox": [20 + id, 20, 100, 90], "score": 0.9 - id / 100} for id in NUMBERS
]


def groundtruth_of(images: Path) -> bytes:
    """An annotation file in COCO's format of some of the raccoons, each with a box where none is."""
    of_images = []
    for id in NUMBERS:
        width, height = Image.open(images / f"raccoon-{id}.jpg").size
        of_images.append({"id": id, "file_name": f"raccoon-{id}.jpg", "width": width, "height": height})
    boxes = [{"id": id, "image_id": id, "category_id": 1, "bbox": [20, 20, 100, 90], "iscrowd": 0} for id in NUMBERS]
    categories = [{"id": 1, "name": "raccoon"}]
    return json.dumps({"images": of_images, "categories": categories, "annotations": boxes}).encode()


def put(bucket: FakeBucket, folder: Path, at: str) -> None:
    """Copies a folder to `gs://{at}`."""
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(f"{at}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def names_in(bucket: FakeBucket, at: str) -> list[str]:
    """The files below `gs://{at}`; what marks folders is left out."""
    return _below(sorted(bucket.objects), at)


def written_to(bucket: FakeBucket, at: str) -> list[str]:
    """The files that were written below `gs://{at}`, in order, each time."""
    return _below(bucket.written, at)


def _below(names: Iterable[str], at: str) -> list[str]:
    return [name.removeprefix(f"{at}/") for name in names if name.startswith(f"{at}/") and name[-1] != "/"]


@pytest.fixture
def run(bucket, tmp_path):
    """Runs a program, and returns what it printed, if its exit status is the expected one."""

    def run(program: str, *flags: str, status: int = 0) -> str:
        command = [sys.executable, "-c", "from od_eval.cli import main; main()", program, *flags]
        environment = os.environ | bucket.environment | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=400)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.iterdir())
        return done.stdout + done.stderr

    return run


def test_a_dataset_is_converted(bucket, run, excerpt):
    put(bucket, excerpt / "raccoon", "a/raccoon")
    run(
        "convert",
        "--annotations=gs://a/raccoon/annotations",
        "--images=gs://a/raccoon/images",
        "--output_dir=gs://a/converted",
    )
    names = names_in(bucket, "a/converted")
    assert names == [
        "conversion_report.json",
        "label_map.pbtxt",
        "train-00000-of-00001",
        "validation-00000-of-00001",
    ]
    assert [name for name in bucket.written if name.startswith("a/converted/l")] == ["a/converted/label_map.pbtxt"]
    assert b"raccoon" in bucket.objects["a/converted/label_map.pbtxt"]


def test_detections_are_evaluated_compared_and_reported(bucket, run, excerpt):
    put(bucket, excerpt / "raccoon" / "images", "b/images")
    bucket.put("b/groundtruth.json", groundtruth_of(excerpt / "raccoon" / "images"))
    for name, detections in (("first", DETECTIONS), ("second", DETECTIONS[:2])):
        bucket.put(f"b/{name}.json", json.dumps(detections).encode())
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(DETECTIONS), table)
    bucket.put("b/first.parquet", table.getvalue())
    groundtruth = "--groundtruth=gs://b/groundtruth.json"
    run(
        "evaluate", groundtruth, "--detections=gs://b/first.parquet", "--images=gs://b/images", "--model_dir=gs://b/run"
    )
    names = names_in(bucket, "b/run/eval")
    assert {"metrics.json", "metrics.csv", "images.zip", "analysis/step-00000000/objects.parquet"} <= set(names)
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert json.loads(bucket.objects["b/run/eval/metrics.json"])["num_images"] == 3
    assert "raccoon" in run("compare", "gs://b/first.json", "gs://b/second.json", groundtruth)
    run("report", "gs://b/run", "--output=gs://b/report.html")
    assert bucket.objects["b/report.html"].startswith(b"<!")


def test_objects_are_detected_in_images_and_a_video(bucket, run, tmp_path_factory):
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("detected")
    write_tflite(folder / "model.tflite")
    write_description(folder)
    Image.fromarray(image_of(1, (4, 8, 20, 24))).save(folder / "a.png")
    writer = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 32))
    for _ in range(3):
        writer.write(np.zeros((32, 64, 3), np.uint8))
    writer.release()
    put(bucket, folder, "c")
    said = run("detect", "--model=gs://c/model.tflite", "--output=gs://c/found", "gs://c/a.png", "gs://c/video.mp4")
    assert "in 4 images" in said
    assert names_in(bucket, "c/found") == [
        "annotations.json",
        "detections.csv",
        "detections.json",
        "pictures/a.png",
        "pictures/video.mp4",
    ]
    assert written_to(bucket, "c/found")[-1] == "detections.json"
    images = json.loads(bucket.objects["c/found/annotations.json"])["images"]
    assert [image["file_name"] for image in images] == ["a.png", *(f"video.mp4/{number}" for number in range(3))]
    assert "already exists" in run("detect", "--model=gs://c", "--output=gs://c/found", "gs://c/a.png", status=1)


@pytest.mark.slow
def test_an_export_is_whole_when_its_last_file_is_there(bucket, run, ssd, ssd_dir):
    put(bucket, ssd_dir, "d/run")
    run("export", "--model_dir=gs://d/run", "--check=false")
    written = written_to(bucket, "d/run/exported")
    assert written[-2:] == ["model.json", "saved_model/saved_model.pb"]
    assert sorted(written) == names_in(bucket, "d/run/exported"), "each is written once, and nothing else stays"
    assert "saved_model/variables/variables.index" in written


@pytest.mark.parametrize(
    "flags",
    [
        ("shapes", "--output_dir=s3://e/shapes", "--segmentation"),
        ("evaluate", "--groundtruth=gs://e/groundtruth.json", "--detections=s3://e/a.json", "--model_dir=gs://e/run"),
    ],
    ids=lambda flags: flags[0],
)
def test_a_file_system_that_tensorflow_has_no_client_of_is_said_in_a_sentence(bucket, run, excerpt, flags):
    bucket.put("e/groundtruth.json", groundtruth_of(excerpt / "raccoon" / "images"))
    assert "this TensorFlow has no file system for s3://, so copy the files to this machine" in run(*flags, status=1)


@pytest.mark.slow
def test_a_training_and_all_that_reads_it(bucket, run, shapes, ssd_config):
    put(bucket, shapes, "f/shapes")
    bucket.put("f/ssd.config", ssd_config.read_bytes())
    overrides = ["train_config.batch_size=2", "train_config.fine_tune_checkpoint=", "eval_config.batch_size=1"]
    for reader, split in (("train_input_reader", "train"), ("eval_input_reader", "validation")):
        overrides += [f"{reader}.label_map_path=gs://f/shapes/label_map.pbtxt"]
        overrides += [f"{reader}.tf_record_input_reader.input_path=gs://f/shapes/{split}-?????-of-?????"]
    train = ["train", "--pipeline_config_path=gs://f/ssd.config", "--model_dir=gs://f/run", "--checkpoint_every_n=2"]
    train += [f"--set={override}" for override in overrides]
    num_before = len(bucket.requests)
    run(*train, "--num_train_steps=2")
    run(*train, "--num_train_steps=4")  # which goes on
    assert len(bucket.requests) - num_before < 3000  # docs/scale.md: about 1,300
    assert {"ckpt-1.index", "ckpt-2.index", "best/best.json", "eval/metrics/step-00000004.json"} <= set(
        names_in(bucket, "f/run")
    )
    config = "--pipeline_config_path=gs://f/run/pipeline.config"
    run("train", config, "--model_dir=gs://f/later", "--checkpoint_dir=gs://f/run", "--num_train_steps=4")
    assert "eval/metrics/step-00000004.json" in names_in(bucket, "f/later")
    assert not any(name.startswith(".") for name in names_in(bucket, "f/later"))
    run("check", config, "--log_dir=gs://f/check")
    run("diagnose", "--model_dir=gs://f/run")
    run("replay", "--model_dir=gs://f/run", "--step=3")
    run("compare", "gs://f/run@2", "gs://f/run@4")
    run("benchmark", "--model_dir=gs://f/run", "--formats=float32")
    assert written_to(bucket, "f/run/benchmark")[-1] == "benchmark.csv"
    model = "--model=gs://f/run/benchmark/float32"
    label_map = "--label_map=gs://f/shapes/label_map.pbtxt"
    evaluate = ["evaluate", model, "--record=gs://f/shapes/validation-*", label_map]
    run(*evaluate, "--model_dir=gs://f/deployed")
    run(*evaluate, "--model_dir=gs://f/on_ray", "--ray=local")
    here, on_ray = (
        json.loads(bucket.objects[f"f/{model_dir}/eval/float32/metrics.json"]) for model_dir in ("deployed", "on_ray")
    )
    assert on_ray["per_category"] == here["per_category"]
    assert not any(".unfinished" in name for name in names_in(bucket, "f/on_ray"))


@pytest.mark.slow
def test_programs_that_run_trainings(bucket, run):
    run("quickstart", "--output_dir=gs://g/quick", "--num_train=4", "--num_validation=2", "--num_train_steps=1")
    assert "run/ckpt-1.index" in names_in(bucket, "g/quick")
    config = "--pipeline_config_path=gs://g/quick/run/pipeline.config"
    run("search", config, "--model_dir=gs://g/search", "--try=train_config.batch_size=1,2", "--num_train_steps=1")
    assert {"search.json", "trial-0002/trial.json", "trial-0002/log.txt"} <= set(names_in(bucket, "g/search"))
