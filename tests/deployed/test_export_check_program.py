"""`od-eval export` checks what it exports, on images whose objects are what the made-up checkpoint finds in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from made_model_dir import make_model_dir

from od_eval.deployed.export_check import check_export, why_unchecked
from od_eval.odapi.export import export

REPOSITORY = Path(__file__).parents[2]
OBJECTS_PER_IMAGE = 25


@pytest.fixture(scope="module")
def model_dir(ssd_config, config_overrides, tmp_path_factory, excerpt):
    """A model_dir whose config names such images for evaluation; each object is one of the detections with the highest
    scores, so that the checkpoint is nearly right."""
    folder = tmp_path_factory.mktemp("ssd")
    records = folder / "found.record"
    records.write_bytes(b"")
    overrides = [*config_overrides, f"eval_input_reader.tf_record_input_reader.input_path={records}"]
    detector = make_model_dir(ssd_config, overrides, folder)
    paths = sorted((excerpt / "raccoon" / "images").glob("*.jpg"))
    photographs = [tf.io.decode_jpeg(path.read_bytes(), channels=3).numpy() for path in paths]
    # Parts of them, so that there are enough images for an interval.
    parts = [image[top : top + 150, left : left + 150] for image in photographs for top in (0, 60) for left in (0, 90)]
    with tf.io.TFRecordWriter(str(records)) as writer:
        for number, image in enumerate(parts[:12]):
            found = detector.detect(image[np.newaxis])
            boxes = np.asarray(found.boxes[0])[:OBJECTS_PER_IMAGE] / np.tile(image.shape[:2], 2)
            classes = np.asarray(found.classes[0])[:OBJECTS_PER_IMAGE].astype(int)
            features = {
                "image/encoded": [tf.io.encode_png(image).numpy()],
                "image/format": [b"png"],
                "image/source_id": [str(number).encode()],
                "image/object/class/label": classes.tolist(),
            }
            for column, name in enumerate(("ymin", "xmin", "ymax", "xmax")):
                features[f"image/object/bbox/{name}"] = boxes[:, column].tolist()
            of_features = tf.train.Features(feature=dict(map(feature, features.items())))
            writer.write(tf.train.Example(features=of_features).SerializeToString())
    return folder


def feature(item):
    name, values = item
    if isinstance(values[0], bytes):
        return name, tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return name, tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return name, tf.train.Feature(float_list=tf.train.FloatList(value=values))


def run_program(*flags):
    program = REPOSITORY / "scripts" / "exporter_main_v2.py"
    return subprocess.run([sys.executable, program, *map(str, flags)], capture_output=True, text=True, check=False)


def test_an_export_that_loses_too_much_fails_and_says_why_and_what_to_try(model_dir, tmp_path):
    out = tmp_path / "out"
    run = run_program(f"--model_dir={model_dir}", f"--output_directory={out}", "--format=tflite")
    assert run.returncode == 1, run.stderr
    assert f"Exported {model_dir}/best/ckpt-1 to {out}" in run.stdout
    assert (out / "model.tflite").exists(), "it is kept"
    assert "A: the checkpoint; B: the exported model; boxes, 12 images" in run.stdout
    assert "Images that changed most, of 12 that changed" in run.stdout
    assert f"error: {out}/model.tflite: AP is 0." in run.stderr
    assert "max_ap_drop=0.02 is allowed" in run.stderr
    assert "it returns at most 10 detections per image, and 12 of 12 images have more objects" in run.stderr
    assert "export with --max_detections=100" in run.stderr


@pytest.mark.slow
def test_an_export_that_follows_the_advice_passes(model_dir, tmp_path):
    out = f"--output_directory={tmp_path / 'out'}"
    flags = ("--format=tflite", "--max_detections=100", "--ssd_use_regular_nms", "--check_images=7")
    run = run_program(f"--model_dir={model_dir}", out, *flags)
    assert run.returncode == 0, run.stderr
    assert "boxes, 7 images" in run.stdout
    assert "max_ap_drop" not in run.stderr


def test_a_saved_model_loses_nothing_until_its_description_is_wrong(model_dir, tmp_path):
    config, checkpoint = str(model_dir / "pipeline.config"), str(model_dir / "best" / "ckpt-1")
    out = tmp_path / "out"
    export(config, checkpoint, str(out))
    checked = check_export(str(out), config, checkpoint)
    score = checked.comparison.overall["AP"]
    assert score.a > 0.5
    assert score.difference == pytest.approx(0, abs=0.002)
    assert (checked.is_ok, checked.findings) == (True, [])
    description = json.loads((out / "model.json").read_text())
    (out / "model.json").write_text(json.dumps(description | {"class_offset": 1}))
    checked = check_export(str(out), config, checkpoint, num_images=6)
    assert not checked.is_ok
    assert checked.comparison.num_images == 6
    assert [finding.kind for finding in checked.findings][:2] == ["ap_drop", "class_off_by_one"]


def test_what_cannot_be_checked_is_told_before_the_export_if_the_check_is_asked_for(model_dir, tmp_path):
    paths = (f"--model_dir={model_dir}", f"--output_directory={tmp_path / 'out'}", "--check")
    run = run_program(*paths, "--input_type=tf_example")
    assert run.returncode == 1
    assert run.stderr == (
        "error: the exported model cannot be checked, because a model with --input_type=tf_example does not take images"
        " alone; export it with --check=false.\n"
    )
    run = run_program(*paths, "--set=eval_input_reader.tf_record_input_reader.input_path=/nowhere")
    assert run.returncode == 1
    assert "because the files of eval_input_reader[0] of" in run.stderr
    assert not (tmp_path / "out").exists()


def test_what_can_be_checked_is_an_export_that_takes_images_alone_with_an_evaluation_set(model_dir):
    config = str(model_dir / "pipeline.config")
    assert why_unchecked(config, [], "image_tensor") == ""
    assert why_unchecked(config, [], "float_image_tensor") == ""
    assert "does not take images alone" in why_unchecked(config, [], "encoded_image_string_tensor")
    assert why_unchecked(config, ["eval_input_reader=[]"], "image_tensor") == f"{config} has no eval_input_reader"
    context = REPOSITORY / "tests" / "data" / "odapi_files" / "test_data" / "context_rcnn_camera_trap.config"
    in_tf2 = ["model.faster_rcnn.feature_extractor.type=faster_rcnn_resnet101_keras"]
    assert "it needs context_features" in why_unchecked(str(context), in_tf2, "image_tensor")
