"""Models for TensorFlow Lite: against the detector they are made of, quantized, and what they tell of themselves."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from flatbuffers import number_types
from flatbuffers.table import Table
from made_model_dir import assert_same_detections, make_model_dir
from tensorflow.lite.tools import flatbuffer_utils

from od_eval import ODEvalError, Pipeline, load_model
from od_eval.label_map import read_label_map
from od_eval.odapi import tflite_conversion
from od_eval.odapi.calibration_images import choose_calibration_images
from od_eval.odapi.export import export_tflite
from od_eval.odapi.tflite_metadata import with_metadata

REPOSITORY = Path(__file__).parents[2]
NAMES = ["circle", "square", "star", "triangle"]
OPERATING_POINT = {
    "confidence": 0.25,
    "chosen_by": "F1",
    "per_category": {"circle": {"best_confidence": 0.125}, "star": {"best_confidence": None}, "other": {}},
}


@pytest.fixture(scope="module")
def in_float32(ssd, ssd_dir, tmp_path_factory):
    """The folder of an export in float32."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    export_tflite(
        str(ssd_dir / "pipeline.config"),
        str(ssd_dir / "best"),
        str(folder),
        max_detections=100,
        use_regular_nms=True,
        operating_point=OPERATING_POINT,
    )
    return folder


def interpreter_of(model: bytes, **options):
    interpreter = tf.lite.Interpreter(model_content=model, **options)
    interpreter.allocate_tensors()
    return interpreter


def outputs_of(interpreter, described, inputs):
    """What comes out of a model, by what `model.json` calls it."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    of_name = {one["name"]: interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}
    return {what: of_name[name] for what, name in described["outputs"].items()}


def test_a_model_in_float32_detects_what_the_detector_does(ssd, in_float32, photograph):
    described = json.loads((in_float32 / "model.json").read_text())
    interpreter = interpreter_of((in_float32 / "model.tflite").read_bytes())
    image, _ = ssd.model.preprocess(tf.cast(photograph, tf.float32)[np.newaxis])
    outputs = outputs_of(interpreter, described, image.numpy())
    boxes, scores, classes = (outputs[what][0] for what in ("boxes", "scores", "classes"))
    assert outputs["num_detections"].tolist() == [len(boxes)]
    detections = ssd.detect(photograph[np.newaxis])
    expected = [np.asarray(of)[0] for of in (detections.boxes, detections.scores, detections.classes)]
    # TensorFlow Lite does not clip boxes at the border of the image.
    found = [np.clip(boxes, 0, 1), scores, classes + described["class_offset"]]
    assert_same_detections((found, True), (expected, False), photograph)


def test_what_a_program_needs_stands_beside_the_model(ssd, ssd_dir, in_float32, photograph):
    described = json.loads((in_float32 / "model.json").read_text())
    inputs = described.pop("input")
    outputs = described.pop("outputs")
    assert described == {
        "version": 1,
        "format": "tflite",
        "quantization": "none",
        "architecture": "ssd",
        "checkpoint": f"{ssd_dir}/best/ckpt-1",
        "step": 0,
        "class_offset": 1,
        "max_detections": 100,
        "regular_nms": True,
        "categories": [
            {"id": number, "name": name, "confidence": {"circle": 0.125}.get(name)}
            for number, name in enumerate(NAMES, 1)
        ],
        "confidence": 0.25,
    }
    interpreter = interpreter_of((in_float32 / "model.tflite").read_bytes())
    (taken,) = interpreter.get_input_details()
    assert inputs["name"] == taken["name"]
    assert inputs["shape"] == taken["shape"].tolist() == [1, 96, 96, 3]
    assert inputs["dtype"] == np.dtype(taken["dtype"]).name == "float32"
    pixels = photograph[:96, :96]
    expected, _ = ssd.model.preprocess(tf.cast(pixels, tf.float32)[np.newaxis])
    np.testing.assert_allclose((pixels - inputs["mean"]) / np.array(inputs["std"]), expected[0], atol=1e-5)
    assert set(outputs) == {"boxes", "classes", "scores", "num_detections"}
    assert set(outputs.values()) == {one["name"] for one in interpreter.get_output_details()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientdet_d0_256x256", "centernet_resnet18_fpn_128x128"])
def test_models_of_other_architectures_detect_what_the_detector_does(name, config_overrides, tmp_path, photograph):
    size = int(name.rpartition("x")[2])
    architecture = "center_net" if name.startswith("centernet") else "ssd"
    resizer = f"model.{architecture}.image_resizer={{fixed_shape_resizer {{height: {size} width: {size}}}}}"
    overrides = [*config_overrides, "train_config.use_bfloat16=false", resizer]
    detector = make_model_dir(REPOSITORY / "pipeline_configs" / f"{name}.config", overrides, tmp_path)
    paths = (str(tmp_path / "pipeline.config"), str(tmp_path / "best"), str(tmp_path / "out"))
    export_tflite(*paths, max_detections=100, use_regular_nms=True)
    described = json.loads((tmp_path / "out" / "model.json").read_text())
    # By what the description tells alone.
    image = (
        tf.compat.v1.image.resize(photograph, described["input"]["shape"][1:3]) - described["input"]["mean"]
    ).numpy()
    inputs = (image / np.array(described["input"]["std"]))[np.newaxis].astype(np.float32)
    interpreter = interpreter_of((tmp_path / "out" / "model.tflite").read_bytes())
    outputs = outputs_of(interpreter, described, inputs)
    num = int(outputs["num_detections"][0])
    boxes, scores, classes = (outputs[what][0][:num] for what in ("boxes", "scores", "classes"))
    detections = detector.detect(photograph[np.newaxis])
    num = int(detections.num[0])
    expected = [np.asarray(of)[0][:num] for of in (detections.boxes, detections.scores, detections.classes)]
    found = [np.clip(boxes, 0, 1), scores, classes + described["class_offset"]]
    assert_same_detections((found, True), (expected, False), photograph)


@pytest.mark.slow
def test_a_centernet_in_integers_finds_peaks(config_overrides, tmp_path, photograph):
    resizer = "model.center_net.image_resizer={fixed_shape_resizer {height: 128 width: 128}}"
    config = REPOSITORY / "pipeline_configs" / "centernet_resnet18_fpn_128x128.config"
    make_model_dir(config, [*config_overrides, resizer], tmp_path)
    paths = (str(tmp_path / "pipeline.config"), str(tmp_path / "best"), str(tmp_path / "out"))
    export_tflite(*paths, quantization="int8", num_calibration_images=4)
    assert load_model(tmp_path / "out").detect(photograph[np.newaxis]).scores[0].max() > 0.05


# ---- Metadata, read by hand ----------------------------------------------------------------------------------------


def field(table: Table, number: int) -> int:
    """The place of a field of a flatbuffer's table; 0 if it is not there."""
    offset = table.Offset(4 + 2 * number)
    return offset and table.Pos + offset


def string(table, number):
    return table.String(field(table, number)).decode()


def below(table, number) -> Table:
    return Table(table.Bytes, table.Indirect(field(table, number)))


def numbers(table, number, kind):
    offset = field(table, number) - table.Pos
    return table.GetVectorAsNumpy(kind, offset).tolist()


def tables(table, number) -> list[Table]:
    if not field(table, number):
        return []
    offset = field(table, number) - table.Pos
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(table.VectorLen(offset))]


def metadata_of(model: bytes) -> Table:
    contents = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    (buffer,) = [one.buffer for one in contents.metadata if one.name == b"TFLITE_METADATA"]
    data = contents.buffers[buffer].data.tobytes()
    assert data[4:8] == b"M001"
    return Table(bytearray(data), struct.unpack_from("<I", data)[0])


def test_metadata_tell_what_goes_in_and_what_each_output_of_the_file_is(in_float32, photograph):
    model = (in_float32 / "model.tflite").read_bytes()
    metadata = metadata_of(model)
    (subgraph,) = tables(metadata, 3)
    (of_input,) = tables(subgraph, 2)
    content = below(of_input, 3)
    assert content.Get(number_types.Uint8Flags, field(content, 0)) == 2  # an image
    image = below(content, 1)
    assert image.Get(number_types.Int8Flags, field(image, 0)) == 1  # RGB
    size = below(image, 1)
    assert [size.Get(number_types.Uint32Flags, field(size, number)) for number in (0, 1)] == [96, 96]
    (unit,) = tables(of_input, 4)
    assert unit.Get(number_types.Uint8Flags, field(unit, 0)) == 1  # normalisation
    described = json.loads((in_float32 / "model.json").read_text())["input"]
    normalisation = [numbers(below(unit, 1), number, number_types.Float32Flags) for number in (0, 1)]
    assert normalisation == [described["mean"], described["std"]] == [[127.5] * 3] * 2

    interpreter = interpreter_of(model)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.zeros([1, 96, 96, 3], np.float32))
    interpreter.invoke()
    values = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
    of_outputs = tables(subgraph, 3)
    found = dict(zip((string(one, 0) for one in of_outputs), values, strict=True))
    assert found["number of detections"].tolist() == [100]
    assert found["location"].shape == (1, 100, 4)
    assert found["score"].shape == found["category"].shape == (1, 100)
    assert (np.diff(found["score"][0]) <= 0).all()
    assert set(found["category"][0].tolist()) <= {0, 1, 2, 3}
    of_name = {string(one, 0): one for one in of_outputs}
    box = below(below(of_name["location"], 3), 1)
    assert numbers(box, 0, number_types.Uint32Flags) == [1, 0, 3, 2]  # left, top, right, bottom are at these indices
    (threshold,) = tables(of_name["score"], 4)
    assert threshold.Get(number_types.Uint8Flags, field(threshold, 0)) == 3
    point = below(threshold, 1)
    assert point.Get(number_types.Float32Flags, field(point, 0)) == 0.25
    (labels,) = tables(of_name["category"], 6)
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        (info,) = archive.infolist()
        assert info.compress_type == zipfile.ZIP_STORED
        assert string(labels, 0) == info.filename
        assert archive.read(info).decode().splitlines() == NAMES
    assert labels.Get(number_types.Int8Flags, field(labels, 2)) == 3  # the names of a tensor's values


def saved(function, folder: Path) -> str:
    """A SavedModel of a convolution, after which comes a function, in the name scope `top`."""

    class Model(tf.Module):
        def __init__(self):
            self.kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([1, 16, 16, 3])])
        def serve(self, image):
            with tf.name_scope("top"):
                return function(tf.nn.conv2d(image, self.kernel, 1, "SAME"))

    tf.saved_model.save(Model(), str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def sine(tmp_path_factory):
    """A SavedModel with an operator that TensorFlow Lite computes in float32 only."""
    return saved(lambda values: tf.math.sin(values, "wave"), tmp_path_factory.mktemp("sine") / "saved_model")


OF_IMAGES = tflite_conversion.ImageInput(
    lambda image: tf.cast(image, tf.float32)[tf.newaxis] / 255, [1, 16, 16, 3], [0.0] * 3, [255.0] * 3
)


def noise():
    random = np.random.default_rng(0)
    return (tf.constant(random.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(3))


def test_an_operator_that_cannot_be_quantized_is_named_with_its_layer(sine, tmp_path):
    model = tflite_conversion.convert(sine, "full_int8", OF_IMAGES, noise)
    (in_float32,) = tflite_conversion.operators_in_float32(model)
    assert in_float32.startswith("SIN (")
    bell = saved(lambda values: tf.math.erf(values, "bell"), tmp_path / "saved_model")
    for quantization in tflite_conversion.CALIBRATED:
        with pytest.raises(ODEvalError) as raised:
            tflite_conversion.convert(bell, quantization, OF_IMAGES, noise)
        assert str(raised.value) == (
            f"TensorFlow Lite has no kernel for operator Erf of layer top/bell, which {quantization} needs; choose"
            " dynamic or float16, where TensorFlow's own kernel computes it."
        )
    model = tflite_conversion.convert(bell, "float16", OF_IMAGES)
    assert any(one.startswith("FlexErf (") for one in tflite_conversion.operators_in_float32(model))


def values_of(model: bytes, image: np.ndarray) -> np.ndarray:
    """The only output for an image from 0 to 255, which a uint8 input takes as it is."""
    interpreter = interpreter_of(model)
    (taken,) = interpreter.get_input_details()
    inputs = image[np.newaxis] if taken["dtype"] == np.uint8 else image[np.newaxis].astype(np.float32) / 255
    interpreter.set_tensor(taken["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [("none", 1e-5), ("float16", 2e-3), ("dynamic", 0.02), ("int8", 0.02), ("full_int8", 0.02)],
)
def test_every_quantization_computes_nearly_what_tensorflow_does(quantization, tolerance, tmp_path):
    folder = saved(tf.nn.relu, tmp_path / "saved_model")
    images = noise if quantization in tflite_conversion.CALIBRATED else None
    model = tflite_conversion.convert(folder, quantization, OF_IMAGES, images)
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    (expected,) = signature(image=tf.constant(image[np.newaxis] / 255, tf.float32)).values()
    difference = np.abs(values_of(model, image) - expected.numpy()).max()
    assert difference < tolerance * np.ptp(expected)
    if quantization in tflite_conversion.CALIBRATED:
        assert difference > 0
        assert tflite_conversion.operators_in_float32(model) == []


@pytest.mark.parametrize("labels", [["a\nb", "ü", "???", "\ud800"], ["a"]])
def test_names_of_others_take_one_line_of_the_label_file_each(sine, labels):
    model = with_metadata(
        tflite_conversion.convert(sine, "none", OF_IMAGES),
        name="\n\ud800",
        description="",
        shape=[1, 16, 16, 3],
        mean=[0.0],
        std=[1.0],
        outputs=["classes"],
        labels=labels,
        score_threshold=None,
    )
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        lines = archive.read("labels.txt").decode().split("\n")
    assert len(lines) == len(labels) + 1
    assert lines[-1] == ""
    assert lines[1:-1] == (["ü", "???", "\\ud800"] if len(labels) > 1 else [])
    interpreter_of(model)  # and it is still a model


def test_a_model_that_tensorflow_lite_has_no_exporter_for_is_refused(config_overrides, tmp_path):
    config = REPOSITORY / "pipeline_configs" / "faster_rcnn_resnet50_128x128.config"
    with pytest.raises(ODEvalError, match=r"is for ssd and center_net, not for faster_rcnn; export a SavedModel\.$"):
        export_tflite(str(config), "ckpt-1", str(tmp_path / "out"), overrides=config_overrides)
    assert list(tmp_path.iterdir()) == []


def test_images_to_calibrate_with_are_missed_before_anything_is_written(ssd, ssd_dir, tmp_path):
    nowhere = [f"{of}_input_reader.tf_record_input_reader.input_path=/nowhere" for of in ("train", "eval")]
    paths = (str(ssd_dir / "pipeline.config"), str(ssd_dir / "best"), str(tmp_path / "out"))
    with pytest.raises(
        ODEvalError, match=r"int8 is calibrated with images of train_input_reader, and there are no files"
    ):
        export_tflite(*paths, overrides=nowhere, quantization="int8")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_is_described_too(ssd_exported):
    described = json.loads((ssd_exported / "model.json").read_text())
    signature = tf.saved_model.load(str(ssd_exported / "saved_model")).signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    assert described["input"] == {
        "name": spec.name,
        "shape": spec.shape.as_list(),
        "dtype": spec.dtype.name,
        "mean": None,
        "std": None,
    }
    assert set(described["outputs"]) == {"boxes", "classes", "scores", "num_detections"}
    assert set(described["outputs"].values()) <= set(signature.structured_outputs)
    assert described["max_detections"] == signature.structured_outputs["detection_scores"].shape[1]
    assert (described["format"], described["quantization"]) == ("saved_model", "none")
    assert (described["class_offset"], described["regular_nms"]) == (0, True)
    assert described["categories"] == [{"id": n, "name": name, "confidence": None} for n, name in enumerate(NAMES, 1)]
    assert described["confidence"] is None


# ---- Quantized ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantized(ssd, ssd_dir, in_float32):
    """Quantization -> model, without metadata."""
    pipeline = Pipeline.load(ssd_dir / "pipeline.config")
    of_input = tflite_conversion.image_input(pipeline, ssd)
    images = choose_calibration_images(pipeline, 16).decoded
    return {
        quantization: tflite_conversion.convert(
            str(in_float32 / "saved_model"),
            quantization,
            of_input,
            images if quantization in tflite_conversion.CALIBRATED else None,
        )
        for quantization in tflite_conversion.QUANTIZATIONS
    }


def before_postprocessing(model: bytes, image) -> list[np.ndarray]:
    """The encoded boxes and the scores of all anchors, which post-processing gets in float32 whatever is quantized."""
    graph = flatbuffer_utils.convert_bytearray_to_object(bytearray(model)).subgraphs[0]
    boxes, scores, _ = graph.operators[-1].inputs
    interpreter = interpreter_of(model, experimental_preserve_all_tensors=True)
    (taken,) = interpreter.get_input_details()
    interpreter.set_tensor(taken["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(index).copy() for index in (boxes, scores)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantization", "least_cosine", "most_bytes"),
    [
        ("none", 1 - 1e-7, 1.01),
        ("float16", 1 - 1e-5, 0.65),
        ("dynamic", 0.99, 0.5),
    ],
)
def test_weights_of_fewer_bits_compute_nearly_what_the_model_does(
    ssd, in_float32, quantized, photograph, quantization, least_cosine, most_bytes
):
    model, reference = quantized[quantization], (in_float32 / "model.tflite").read_bytes()
    assert len(model) < most_bytes * len(reference)
    image, _ = ssd.model.preprocess(tf.cast(photograph, tf.float32)[np.newaxis])
    for found, expected in zip(
        before_postprocessing(model, image.numpy()), before_postprocessing(reference, image.numpy()), strict=True
    ):
        found, expected = (values.ravel().astype(float) - expected.mean() for values in (found, expected))
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > least_cosine


@pytest.mark.slow
def test_integers_take_pixels_as_they_are_and_only_the_postprocessing_is_in_float32(quantized):
    for quantization, dtype in (("int8", np.float32), ("full_int8", np.uint8)):
        (taken,) = interpreter_of(quantized[quantization]).get_input_details()
        assert taken["dtype"] == dtype
        (in_float32,) = tflite_conversion.operators_in_float32(quantized[quantization])
        assert in_float32.startswith("TFLite_Detection_PostProcess (")
    scale, zero = taken["quantization"]
    pixels = np.arange(256)
    np.testing.assert_allclose((pixels / 127.5 - 1) / scale + zero, pixels, atol=0.6)


@pytest.mark.slow
def test_the_program_exports_integers_with_the_operating_point_of_the_evaluation(ssd, ssd_dir, tmp_path):
    sections = {"step": 0, "checkpoint": "ckpt-1", "num_images": 1, "operating_point": OPERATING_POINT}
    (ssd_dir / "eval" / "metrics").mkdir(parents=True)
    (ssd_dir / "eval" / "metrics" / "step-00000000.json").write_text(json.dumps(sections))
    flags = [f"--model_dir={ssd_dir}", f"--output_directory={tmp_path}/out", "--format=tflite", "--quantize=full_int8"]
    program = REPOSITORY / "scripts" / "exporter_main_v2.py"
    command = [sys.executable, program, *flags, "--num_calibration_images=7"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Calibration with 7 images of train_input_reader: circle in " in run.stdout
    described = json.loads((tmp_path / "out" / "model.json").read_text())
    assert described["confidence"] == 0.25
    assert described["categories"][0]["confidence"] == 0.125
    assert (described["quantization"], described["input"]["dtype"]) == ("full_int8", "uint8")
    assert (described["max_detections"], described["regular_nms"]) == (10, False)
    assert [one.name for one in read_label_map(tmp_path / "out" / "label_map.pbtxt")] == NAMES
    metadata_of((tmp_path / "out" / "model.tflite").read_bytes())
