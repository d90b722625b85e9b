"""Records surveyed, against what the Object Detection API's decoder and TensorFlow make of the same records."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from od_eval import Pipeline
from od_eval.errors import ODEvalError
from od_eval.findings import image_measures
from od_eval.odapi import record_survey
from od_eval.odapi.record_scan import RecordScan
from od_eval.odapi.record_survey import survey_records

# Importable since od_eval.odapi was imported.
from object_detection.data_decoders.tf_example_decoder import TfExampleDecoder  # isort: skip
from object_detection.protos import input_reader_pb2  # isort: skip

NAME = "train_input_reader"
CATEGORIES = {1: "plate", 2: "cup"}
LABEL_MAP = "item { id: 1 name: 'plate' }\nitem { id: 2 name: 'cup' display_name: 'mug' }\n"
BOX = {"ymin": [0.1, 0.2], "xmin": [0.1, 0.2], "ymax": [0.5, 0.6], "xmax": [0.5, 0.6]}


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


IMAGE = png(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def record(**features) -> bytes:
    """A record of two objects, a plate and a cup; features given are added or replaced, and left out if None."""
    values = {
        "image/encoded": [IMAGE],
        "image/filename": [b"a.png"],
        **{f"image/object/bbox/{corner}": numbers for corner, numbers in BOX.items()},
        "image/object/class/text": [b"plate", b"cup"],
        "image/object/class/label": [1, 2],
        **{name.replace("__", "/"): value for name, value in features.items()},
    }
    example = tf.train.Example()
    for name, value in values.items():
        if value:
            kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(value[0])]
            getattr(example.features.feature[name], kind).value.extend(value)
    return example.SerializeToString()


@pytest.fixture
def reader_of(tmp_path):
    """reader_of(*records of a file, …, label_map=True): an input reader of files with these records."""

    def make(*files: list[bytes], label_map: bool = True) -> input_reader_pb2.InputReader:
        reader = input_reader_pb2.InputReader()
        for index, records in enumerate(files):
            path = str(tmp_path / f"{index}.record")
            with tf.io.TFRecordWriter(path) as writer:
                for one in records:
                    writer.write(one)
            reader.tf_record_input_reader.input_path.append(path)
        if label_map:
            (tmp_path / "label_map.pbtxt").write_text(LABEL_MAP)
            reader.label_map_path = str(tmp_path / "label_map.pbtxt")
        return reader

    return make


def reader_of_shapes(folder, split: str = "train") -> input_reader_pb2.InputReader:
    reader = input_reader_pb2.InputReader(label_map_path=f"{folder}/label_map.pbtxt")
    reader.tf_record_input_reader.input_path.append(f"{folder}/{split}-?????-of-?????")
    return reader


SHAPES = {1: "circle", 2: "square", 3: "star", 4: "triangle"}


def test_images_and_objects_are_those_that_the_decoder_finds(shapes):
    survey = survey_records(reader_of_shapes(shapes), NAME, SHAPES)
    decoder = TfExampleDecoder(
        load_instance_masks=True, instance_mask_type=2, label_map_proto_file=f"{shapes}/label_map.pbtxt"
    )
    decoded = [
        {key: value.numpy() for key, value in decoder.decode(one).items()}
        for path in sorted(shapes.glob("train-*"))
        for one in tf.data.TFRecordDataset(str(path))
    ]
    assert len(survey.images) == len(decoded) == 16
    assert survey.is_complete
    assert not survey.faults
    for index, one in enumerate(decoded):
        objects = survey.objects[survey.objects["image"] == index]
        assert survey.images["name"][index] == one["filename"].decode()
        assert tuple(survey.images.loc[index, ["height", "width"]]) == one["image"].shape[:2]
        assert objects["category"].tolist() == one["groundtruth_classes"].tolist()
        np.testing.assert_array_equal(objects[["ymin", "xmin", "ymax", "xmax"]], one["groundtruth_boxes"])
        assert objects["crowd"].tolist() == one["groundtruth_is_crowd"].tolist()
    assert (survey.objects["mask_iou"] > 0.99).all()
    luma = [np.asarray(Image.fromarray(one["image"]).convert("L")).mean() / 255 for one in decoded]
    np.testing.assert_allclose(survey.images["brightness"], luma, atol=0.01)


def test_records_are_told_by_number_and_file_and_images_by_digest(reader_of):
    survey = survey_records(
        reader_of([record(), record()], [record(image__encoded=[png(np.zeros((9, 9)) > 1)])]), NAME, CATEGORIES
    )
    assert [id.split("/")[0] for id in survey.images["id"]] == ["record 0 of '", "record 1 of '", "record 0 of '"]
    assert survey.images["id"][2].endswith("/1.record'")
    assert survey.images["digest"][0] == survey.images["digest"][1] != survey.images["digest"][2]
    assert survey.images["mode"].tolist() == ["RGB", "RGB", "1"]


def test_a_class_is_told_by_text_or_display_name_and_without_text_by_label(reader_of):
    records = [
        record(image__object__class__text=[b"mug", b"fork"]),
        record(image__object__class__text=None, image__object__class__label=[2, 3]),
    ]
    survey = survey_records(reader_of(records), NAME, CATEGORIES)
    assert survey.objects["category"].tolist() == [2, 0, 2, 0]


def test_objects_that_a_model_loses_are_told_in_the_words_of_the_scan_beside_a_training(reader_of, ssd_config):
    strange = record(image__object__class__text=[b"fork", b"Cup"])
    reader = reader_of([record(), strange], [strange, record(image__object__class__text=[b"", b"cup"])])
    scan = RecordScan(Pipeline.load(ssd_config, "model.ssd.num_classes=2"), {NAME: reader})
    scan.begin()
    scan.finish()
    faults = survey_records(reader, NAME, CATEGORIES, num_classes=2).faults
    assert [fault.kind for fault in faults] == ["objects_mistaken", "objects_dropped", "objects_dropped"]
    assert list(map(str, faults)) == list(map(str, scan.findings()))
    assert [fault.evidence["lost"] for fault in faults] == [1, 2, 2]
    assert "1 of 8 objects in 4 records would become background" in str(faults[0])
    assert faults[1].images[0].startswith("record 1 of '")
    assert not survey_records(reader, NAME, CATEGORIES).faults


def test_objects_of_a_sample_are_those_of_its_first_records(reader_of):
    strange = record(image__object__class__text=[b"fork", b"fork"])
    (fault,) = survey_records(reader_of([strange] * 3), NAME, CATEGORIES, num_classes=2, max_examples=2).faults
    assert fault.severity == "warning"
    assert "4 of 4 objects in its first 2 records are dropped" in str(fault)
    (fault,) = survey_records(reader_of([strange] * 3), NAME, CATEGORIES, num_classes=2).faults
    assert fault.severity == "error"
    assert "and no object is left" in str(fault)


def test_a_class_is_told_by_label_without_a_label_map(reader_of):
    survey = survey_records(reader_of([record(image__object__class__label=[2, 1])], label_map=False), NAME, CATEGORIES)
    assert survey.objects["category"].tolist() == [2, 1]


def test_boxes_are_as_in_the_record_and_those_that_are_no_numbers_are_left_out(reader_of):
    records = [record(image__object__bbox__xmax=[math.nan, 1.05]), record(image__object__bbox__xmax=[0.1, 0.2])]
    survey = survey_records(reader_of(records), NAME, CATEGORIES)
    assert survey.objects["image"].tolist() == [0, 1, 1]
    assert survey.objects["category"].tolist() == [2, 1, 2]
    np.testing.assert_allclose(survey.objects["xmax"], [1.05, 0.1, 0.2], rtol=1e-6)
    assert not survey.faults


def test_an_image_without_objects_has_no_rows_of_objects(reader_of):
    empty = {f"image/object/bbox/{corner}": None for corner in BOX}
    nothing = record(image__object__class__text=None, image__object__class__label=None, **empty)
    survey = survey_records(reader_of([nothing, record()]), NAME, CATEGORIES)
    assert len(survey.images) == 2
    assert survey.objects["image"].tolist() == [1, 1]


def mask(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    pixels = np.zeros((40, 60), np.uint8)
    pixels[top:bottom, left:right] = 1
    return pixels


@pytest.mark.parametrize("dense", [False, True])
def test_a_mask_is_compared_with_its_box(reader_of, dense):
    # The box of the first is that around its mask; the second's is in the first quarter of twice its height and width.
    masks = [mask(4, 6, 20, 30), mask(8, 12, 40, 60)]
    boxes = [(0.1, 0.1, 0.5, 0.5), (0.2, 0.2, 0.6, 0.6)]
    features = {f"image/object/bbox/{corner}": [box[at] for box in boxes] for at, corner in enumerate(BOX)}
    features["image/height"], features["image/width"] = [40], [60]
    values = np.array(masks, float).ravel().tolist() if dense else [png(one) for one in masks]
    survey = survey_records(reader_of([record(image__object__mask=values, **features)]), NAME, CATEGORIES)
    np.testing.assert_allclose(survey.objects["mask_iou"], [1, 0.25], rtol=1e-5)


def test_an_empty_mask_fits_no_box_unless_its_weight_says_that_there_is_none(reader_of):
    masks = {"image/object/mask": [png(mask(0, 0, 0, 0)), b"broken"], "image/object/mask/weight": None}
    without = {**masks, "image/object/mask/weight": [0.0, 1.0]}
    survey = survey_records(reader_of([record(**masks), record(**without), record()]), NAME, CATEGORIES)
    np.testing.assert_array_equal(survey.objects["mask_iou"], [0, math.nan, math.nan, math.nan, math.nan, math.nan])


def test_broken_records_are_counted_and_the_first_is_named(reader_of):
    files = [record(), b"no example", record()], [record(image__encoded=[b"no image"]), record()]
    survey = survey_records(reader_of(*files), NAME, CATEGORIES)
    (fault,) = survey.faults
    assert (fault.kind, fault.severity) == ("broken_record", "error")
    assert str(fault).startswith(f"{NAME}: 2 of 5 records cannot be used (first: record 1 of '")
    assert "is not a tf.train.Example" in str(fault)
    assert [image.partition(" of ")[0] for image in fault.images] == ["record 1", "record 0"]
    assert len(survey.images) == 3
    assert survey.is_complete


def test_a_single_broken_record_is_told_in_the_words_of_the_scan_beside_a_training(reader_of, ssd_config):
    reader = reader_of([record(), record(image__object__bbox__xmax=[0.5, 60.0])])
    scan = RecordScan(Pipeline.load(ssd_config), {NAME: reader})
    scan.begin()
    scan.finish()
    (fault,) = survey_records(reader, NAME, CATEGORIES).faults
    assert str(fault) == str(scan.findings()[0])


def test_a_weight_that_would_break_the_loss_is_found(reader_of):
    reader = reader_of([record(), record(image__object__weight=[1.0, math.nan])])
    (fault,) = survey_records(reader, NAME, CATEGORIES).faults
    assert "has a weight that is not a finite number (object 1: nan)" in str(fault)
    assert not survey_records(reader_of([record(image__object__weight=[1.0, 0.0])]), NAME, CATEGORIES).faults


def test_an_image_that_only_decoding_shows_to_be_broken_is_found(reader_of):
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(noise, "JPEG")
    reader = reader_of([record(), record(image__encoded=[noise.getvalue()[:-999]])])
    (fault,) = survey_records(reader, NAME, CATEGORIES).faults
    assert "holds an image that does not decode, 'a.png'" in str(fault)
    assert not survey_records(reader, NAME, CATEGORIES, num_images_to_decode=0).faults


def test_an_image_that_pillow_refuses_and_tensorflow_decodes_is_no_fault(reader_of, monkeypatch):
    def refuse(content: bytes, *, decode: bool):
        raise image_measures.UnreadableImage("broken")

    monkeypatch.setattr(record_survey, "measure_image", refuse)
    survey = survey_records(reader_of([record()]), NAME, CATEGORIES)
    assert not survey.faults
    assert survey.images.loc[0, ["width", "height", "mode"]].tolist() == [60, 40, ""]


def test_records_with_a_text_alone_need_a_label_map(reader_of):
    records = [record(image__object__class__label=None)]
    (fault,) = survey_records(reader_of(records, label_map=False), NAME, CATEGORIES).faults
    assert "which the input reader needs, as it has no label_map_path" in str(fault)
    assert not survey_records(reader_of(records), NAME, CATEGORIES).faults


def test_after_a_file_that_ends_early_the_next_one_is_read(reader_of, tmp_path):
    reader = reader_of([record(), record()], [record()])
    content = (tmp_path / "0.record").read_bytes()
    (tmp_path / "0.record").write_bytes(content[:-5])
    reader.tf_record_input_reader.input_path[1:1] = [str(tmp_path / "none.record")]
    survey = survey_records(reader, NAME, CATEGORIES)
    assert [id.partition(" of ")[0] for id in survey.images["id"]] == ["record 0", "record 0"]
    (fault,) = survey.faults
    assert "0.record' is truncated or corrupt at record 1; create the file again" in str(fault)
    assert not survey.is_complete


def test_files_that_cannot_be_read_are_counted(reader_of, tmp_path):
    reader = reader_of([record()], [record()], [record()])
    for name in ("0.record", "2.record"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-5])
    (fault,) = survey_records(reader, NAME, CATEGORIES).faults
    assert str(fault).startswith(f"{NAME}: 2 of 3 files cannot be used (first: '{tmp_path}/0.record' is truncated")
    assert str(fault).endswith("; create the files again.")


def test_no_more_records_are_read_than_asked_for(reader_of):
    reader = reader_of([record()] * 5, [record()])
    first, all_of_them = (survey_records(reader, NAME, CATEGORIES, max_examples=most) for most in (3, 6))
    assert (len(first.images), first.is_complete) == (3, False)
    assert (len(all_of_them.images), all_of_them.is_complete) == (6, True)
    assert first.images["id"].tolist() == all_of_them.images["id"].tolist()[:3]


def test_the_sample_that_is_decoded_is_random_of_about_the_size_asked_for_and_always_the_same(reader_of, monkeypatch):
    reader = reader_of([record()] * 300)
    surveys = []
    for threads in (1, 3):
        monkeypatch.setattr(image_measures, "_num_processors", lambda threads=threads: threads)
        surveys.append(survey_records(reader, NAME, CATEGORIES, num_images_to_decode=100))
    decoded = surveys[0].images["perceptual_hash"] != ""
    assert 70 < decoded.sum() < 130  # 100 ± 3.7 standard deviations
    assert 30 < decoded[:150].sum() < 70
    assert surveys[0].images.equals(surveys[1].images)
    assert surveys[0].objects.equals(surveys[1].objects)


def test_what_takes_long_to_count_is_estimated(reader_of, monkeypatch):
    told = []
    monkeypatch.setattr(record_survey, "count", lambda reader: None)
    reader = reader_of([record()] * 150, [record()] * 150)
    survey = survey_records(
        reader, NAME, CATEGORIES, num_images_to_decode=100, progress=lambda done, total: told.append((done, total))
    )
    assert 70 < (survey.images["perceptual_hash"] != "").sum() < 130
    assert told[-1] == (300, None)


def test_all_records_are_surveyed_of_a_reader_that_samples_them(reader_of):
    reader = reader_of([record()] * 9)
    reader.sample_1_of_n_examples = 3
    told = []
    survey = survey_records(reader, NAME, CATEGORIES, progress=lambda done, total: told.append((done, total)))
    assert len(survey.images) == 9
    assert told[-1] == (9, 9)


def test_sequence_examples_are_said_not_to_be_surveyed(reader_of):
    reader = reader_of([b"a sequence"])
    reader.input_type = input_reader_pb2.InputType.Value("TF_SEQUENCE_EXAMPLE")
    survey = survey_records(reader, NAME, CATEGORIES)
    assert [fault.kind for fault in survey.faults] == ["sequence_examples_not_surveyed"]
    assert len(survey.images) == len(survey.objects) == 0


def test_a_reader_without_records_has_an_empty_survey(reader_of):
    survey = survey_records(reader_of([]), NAME, CATEGORIES)
    assert len(survey.images) == len(survey.objects) == len(survey.faults) == 0
    assert survey.is_complete


def test_a_label_map_that_is_not_there_is_an_error(reader_of):
    reader = reader_of([record()], label_map=False)
    reader.label_map_path = "/nowhere/label_map.pbtxt"
    with pytest.raises(ODEvalError, match="nowhere"):
        survey_records(reader, NAME, CATEGORIES)
