"""Exported models against the Detector they were made of, on a photograph."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from made_model_dir import assert_same_detections, make_model_dir

from od_eval import ODEvalError, Pipeline
from od_eval.odapi.export import export, export_tflite

REPOSITORY = Path(__file__).parents[2]


def run_program(*flags):
    """Runs `od-eval export` as a user does."""
    return subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "exporter_main_v2.py", *flags], capture_output=True, text=True
    )


def assert_saved_model_detects_what_the_detector_does(directory, detector, image, **side_inputs):
    saved = tf.saved_model.load(str(directory / "saved_model"))
    inputs = {"input_tensor": tf.constant(image[np.newaxis]), **side_inputs}
    outputs = {name: value.numpy()[0] for name, value in saved.signatures["serving_default"](**inputs).items()}
    num = int(outputs["num_detections"])
    found = [outputs[f"detection_{name}"][:num] for name in ("boxes", "scores", "classes")]
    detections = detector.detect(image[np.newaxis], **side_inputs)
    num = int(detections.num[0])
    expected = [np.asarray(of)[0][:num] for of in (detections.boxes, detections.scores, detections.classes)]
    assert_same_detections((found, True), (expected, False), image)
    return outputs, detections


def test_a_saved_model_of_the_best_checkpoint_detects_what_the_detector_does(ssd, ssd_dir, photograph):
    run = run_program(f"--model_dir={ssd_dir}")
    assert run.returncode == 0, run.stderr
    assert f"Exported {ssd_dir}/best/ckpt-1 to {ssd_dir}/exported" in run.stdout
    exported = ssd_dir / "exported"
    assert_saved_model_detects_what_the_detector_does(exported, ssd, photograph)
    assert Pipeline.load(exported / "pipeline.config").config == Pipeline.load(ssd_dir / "pipeline.config").config
    assert "circle" in (exported / "label_map.pbtxt").read_text()
    assert not [path for path in ssd_dir.iterdir() if path.name.startswith(".")]

    again = run_program(f"--model_dir={ssd_dir}")
    assert again.returncode == 1
    assert again.stderr == f"error: output_directory '{exported}' already exists; remove it or choose another one.\n"


def test_a_tflite_model_detects_what_the_detector_does(ssd, ssd_dir, photograph, tmp_path):
    export_tflite(
        str(ssd_dir / "pipeline.config"),
        str(ssd_dir / "best"),
        str(tmp_path / "out"),
        max_detections=100,
        use_regular_nms=True,
    )
    interpreter = tf.lite.Interpreter(str(tmp_path / "out" / "model.tflite"))
    interpreter.allocate_tensors()
    image, _ = ssd.model.preprocess(tf.cast(photograph, tf.float32)[np.newaxis])
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image.numpy())
    interpreter.invoke()
    outputs = {int(one["name"][-1]): interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}
    num, scores, classes, boxes = (outputs[number] for number in range(4))  # the order that the exporter gives them
    found = (boxes[0], scores[0], classes[0] + 1)
    assert int(num[0]) == len(boxes[0])
    detections = ssd.detect(photograph[np.newaxis])
    expected = [np.asarray(of)[0] for of in (detections.boxes, detections.scores, detections.classes)]
    # TensorFlow Lite does not clip boxes at the border of the image.
    assert_same_detections(([np.clip(found[0], 0, 1), *found[1:]], True), (expected, False), photograph)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "efficientdet_d0_256x256",
        "faster_rcnn_resnet50_128x128",
        "mask_rcnn_resnet50_128x128",
        "centernet_resnet18_fpn_128x128",
    ],
)
def test_saved_models_of_other_architectures_detect_what_the_detector_does(
    name, config_overrides, tmp_path, photograph
):
    from object_detection.utils import ops

    config = REPOSITORY / "pipeline_configs" / f"{name}.config"
    detector = make_model_dir(config, [*config_overrides, "train_config.use_bfloat16=false"], tmp_path)
    export(str(tmp_path / "pipeline.config"), str(tmp_path / "best"), str(tmp_path / "out"))
    outputs, detections = assert_saved_model_detects_what_the_detector_does(tmp_path / "out", detector, photograph)
    assert ("detection_masks" in outputs) == name.startswith("mask")
    if name.startswith("mask"):
        of_image = ops.reframe_box_masks_to_image_masks(
            outputs["detection_masks"], outputs["detection_boxes"], *photograph.shape[:2]
        )
        masks = np.asarray(detections.masks)[0]
        assert 0 < masks.mean() < 1
        for mask, expected in list(zip(of_image.numpy() > 0.5, masks, strict=True))[:5]:
            assert np.mean(mask != expected) < 1e-3


@pytest.mark.slow
def test_context_rcnn_is_exported_with_its_context_as_side_inputs(excerpt, tmp_path, photograph, capsys):
    files = excerpt / "odapi_files"
    label_map = files / "data" / "snapshot_serengeti_label_map.pbtxt"
    overrides = [
        "model.faster_rcnn.feature_extractor.type=faster_rcnn_resnet101_keras",
        "model.faster_rcnn.image_resizer.keep_aspect_ratio_resizer={min_dimension: 128 max_dimension: 128}",
        f"train_input_reader.label_map_path={label_map}",
        f"eval_input_reader.label_map_path={label_map}",
    ]
    # With its first weights, whole, what ResNet 101 makes of an image is so large that nothing is found.
    detector = make_model_dir(files / "test_data" / "context_rcnn_camera_trap.config", overrides, tmp_path, scale=0.3)
    with pytest.raises(ODEvalError, match=r"this model needs context_features, float32 .* as well"):
        detector.detect(photograph[np.newaxis])
    export(str(tmp_path / "pipeline.config"), str(tmp_path / "best"), str(tmp_path / "out"))
    specs = detector.side_input_specs
    random = np.random.default_rng(0)
    context = {
        "context_features": tf.constant(random.normal(size=specs["context_features"].shape), tf.float32),
        "valid_context_size": tf.constant([7], tf.int32),
    }
    assert_saved_model_detects_what_the_detector_does(tmp_path / "out", detector, photograph, **context)
    told = "It has no signature for batches, because it takes context_features, valid_context_size beside images.\n"
    assert told in capsys.readouterr().out
    assert list(tf.saved_model.load(str(tmp_path / "out" / "saved_model")).signatures) == ["serving_default"]


# ---- What cannot be exported ----------------------------------------------------------------------------------------


def refused(call, *args, **kwargs):
    with pytest.raises(ODEvalError) as raised:
        call(*args, **kwargs)
    return str(raised.value)


def test_a_checkpoint_of_another_number_of_classes_is_refused_and_nothing_is_written(ssd, ssd_dir, tmp_path):
    paths = (str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(tmp_path / "out"))
    message = refused(export, *paths, overrides=["model.ssd.num_classes=7"])
    assert f"checkpoint '{ssd_dir}/best/ckpt-1' does not fit this model" in message
    assert "Only outputs differ: num_classes or the anchors are different." in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"input_type": "image"}, "the Object Detection API cannot run this: Unrecognized `input_type`"),
        ({"input_type": "image_and_boxes_tensor"}, "ssd cannot predict masks for given boxes"),
    ],
)
def test_inputs_that_a_model_cannot_take_are_refused(ssd, ssd_dir, tmp_path, kwargs, words):
    paths = (str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(tmp_path / "out"))
    assert words in refused(export, *paths, **kwargs)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_checkpoints_is_refused(ssd, ssd_dir, tmp_path):
    message = refused(export, str(ssd_dir / "pipeline.config"), str(tmp_path), str(tmp_path / "out"))
    assert message.startswith(f"checkpoint '{tmp_path}' does not exist")


def test_a_damaged_checkpoint_is_named(ssd, ssd_dir, tmp_path):
    for file in (ssd_dir / "best").glob("ckpt-1.*"):
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "ckpt-1.index").write_bytes(b"not an index")
    message = refused(export, str(ssd_dir / "pipeline.config"), str(tmp_path / "ckpt-1"), str(tmp_path / "out"))
    assert message.startswith(f"checkpoint '{tmp_path}/ckpt-1' is damaged: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (lambda folder: OSError(28, "No space left on device"), "No space left on device"),
        (
            lambda folder: tf.errors.ResourceExhaustedError(None, None, f"{folder}/a.data; No space left on device"),
            "No space left on device",
        ),
        (lambda folder: tf.errors.OutOfRangeError(None, None, f"{folder}/a.data; File too large"), "File too large"),
    ],
)
def test_a_disk_that_is_full_is_no_fault_of_the_model(ssd, ssd_dir, tmp_path, monkeypatch, error, reason):
    def write(config, checkpoint_dir, folder, **options):
        raise error(folder)

    monkeypatch.setattr("od_eval.odapi.export.write_saved_model", write)
    message = refused(export, str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(tmp_path / "out"))
    assert message == f"'{tmp_path}/out' cannot be written: {reason}."
    assert not list(tmp_path.iterdir())


def test_what_the_object_detection_api_cannot_export_is_its_fault(ssd, ssd_dir, tmp_path, monkeypatch):
    def write(*arguments, **options):
        raise tf.errors.InvalidArgumentError(None, None, "Incompatible shapes")

    monkeypatch.setattr("od_eval.odapi.export.write_saved_model", write)
    message = refused(export, str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(tmp_path / "out"))
    assert message == f"{ssd_dir}/pipeline.config: the Object Detection API cannot run this: Incompatible shapes."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["", "/"])
def test_a_model_is_not_written_into_a_folder_without_a_name(ssd, ssd_dir, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    message = refused(export, str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), folder)
    assert message == f"output_directory '{folder}' is not the name of a new folder; choose one."
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_reached_is_told(ssd, ssd_dir, tmp_path):
    config, checkpoint, out = (str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(tmp_path / "out"))
    message = refused(export, config, checkpoint, "nowhere://a")
    assert message.startswith("output_directory cannot be looked up: 'nowhere://a': this TensorFlow has no")
    label_map = "eval_input_reader[0].label_map_path=nowhere://a"
    message = refused(export, config, checkpoint, out, overrides=[label_map])
    assert message.startswith(f"{config}: label_map_path cannot be looked up: 'nowhere://a': this TensorFlow has no")
    assert not list(tmp_path.iterdir())


def test_averages_that_are_not_in_the_checkpoint_are_told(ssd, ssd_dir, tmp_path, photograph):
    ssd.detect(photograph[np.newaxis])  # after which a checkpoint can still be written
    only_weights = tf.train.Checkpoint(model=ssd.model).write(str(tmp_path / "ckpt-1"))
    message = refused(export, str(ssd_dir / "pipeline.config"), only_weights, str(tmp_path / "out"))
    assert message.endswith("without averages, --set eval_config.use_moving_averages=false, or do so in the config.")


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--output_directory=out"], 2, "pass --model_dir, or all of --pipeline_config_path"),
        (["--model_dir=run", "--format=tflite", "--input_type=tf_example"], 2, "is for --format=saved_model"),
        (["--model_dir=run", "--max_detections=5"], 2, "--ssd_use_regular_nms are for --format=tflite"),
        (["--model_dir=run", "--quantize=int8"], 2, "--quantize and --ssd_use_regular_nms are for --format=tflite"),
        (["--model_dir=run", "--format=tflite", "--num_calibration_images=5"], 2, "is for --quantize=int8 and"),
        (["--model_dir=run", "--input_type=image"], 2, "image_tensor|encoded_image_string_tensor|tf_example"),
        (["--model_dir=run", "--output_directory="], 2, "it must be the name of a folder"),
        (["--model_dir=nowhere://a"], 1, "error: model_dir cannot be read: 'nowhere://a"),
        (["--model_dir=/tmp"], 1, "error: '/tmp' has no pipeline.config; pass --pipeline_config_path."),
    ],
)
def test_wrong_flags_are_told(flags, status, words):
    process = run_program(*flags)
    assert process.returncode == status
    assert words in process.stderr
    assert "Traceback" not in process.stderr


# In a process of its own, as each program defines flags of the same names.
WITHOUT_BEST = """
import os, sys
from object_detection import exporter_lib_v2
from od_eval.odapi import tflite_conversion
from od_eval.programs.export import INPUT_TYPES, QUANTIZATIONS
from od_eval.runs.model_dir import best_or_newest
trained, empty = sys.argv[1:]
assert best_or_newest(trained) == os.path.join(trained, "best", "ckpt-1")
assert best_or_newest(empty) == empty
assert set(INPUT_TYPES) == set(exporter_lib_v2.DETECTION_MODULE_MAP)
assert QUANTIZATIONS == tflite_conversion.QUANTIZATIONS
"""


def test_without_a_best_checkpoint_the_newest_is_exported(ssd, ssd_dir, tmp_path):
    (tmp_path / "best").mkdir()
    command = [sys.executable, "-c", "import od_eval.odapi\n" + WITHOUT_BEST, ssd_dir, tmp_path]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_what_tensorflow_lite_cannot_run_is_refused(ssd, ssd_dir, tmp_path):
    paths = (str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(tmp_path / "out"))
    resizer = "model.ssd.image_resizer={keep_aspect_ratio_resizer {min_dimension: 96 max_dimension: 96}}"
    message = refused(export_tflite, *paths, overrides=[resizer])
    assert "TensorFlow Lite needs images of one size, and this model has a keep_aspect_ratio_resizer" in message


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 32, 32, 4)])
def test_images_of_another_shape_are_refused(ssd, shape):
    assert f"not uint8 {list(shape)}" in refused(ssd.detect, np.zeros(shape, np.uint8))
    assert "not float32" in refused(ssd.detect, np.zeros((1, 32, 32, 3), np.float32))
    sizes = [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 48, 3), np.uint8)]
    assert "takes images of one size" in refused(ssd.detect, sizes)
    images = np.zeros((1, 32, 32, 3), np.uint8)
    assert "takes nothing in addition to images, not context" in refused(ssd.detect, images, context=1)
