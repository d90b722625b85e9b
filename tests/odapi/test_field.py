"""The inputs of the data folder's field/ and field_works/, as people have them: each does what its README.txt says."""

from __future__ import annotations

from pathlib import Path

import pytest

from od_eval import ODEvalError, Pipeline
from od_eval.data.conversion import convert_dataset
from od_eval.label_map import read_label_map
from od_eval.odapi.record_scan import RecordScan


@pytest.mark.parametrize(
    ("name", "annotations", "images", "num_objects"),
    [
        ("field/coco_nfd_names", "annotations.json", "images", 4),
        ("field/coco_string_category_ids", "annotations.json", "images", 4),
        ("field/roboflow_root_named_as_class", "train/_annotations.coco.json", "train", 4),
        ("field/voc_gb2312", "annotations", "images", 4),
        ("field/voc_mac_and_notebook_leftovers", "data", None, 3),
        ("field/voc_reversed_corners", "annotations", "images", 4),
        ("field_works/coco_polygon_oddities", "annotations.json", "images", 15),
        ("field_works/images_of_all_kinds", "annotations.json", "images", 13),
        ("field_works/voc_size_zero_and_floats", "annotations", "images", 3),
        ("field_works/voc_windows_paths_bom", "annotations", "images", 3),
    ],
)
def test_annotations_are_converted(shared_data, tmp_path, name, annotations, images, num_objects):
    folder = shared_data / name
    conversion = convert_dataset(
        folder / annotations, tmp_path / "out", images_dir=folder / images if images else None, validation=0.0
    )
    split = conversion.splits["train"]
    assert (sum(split.objects.values()), split.num_empty) == (num_objects, 0)
    listed = {remark.reason for remark in conversion.left_out if remark.left_out != "mask"}
    assert listed == ({"image of another shape than annotated"} if "size_zero" in name else set())
    assert len(conversion.categories) == len(split.objects)


@pytest.mark.parametrize(
    ("name", "annotations", "words"),
    [
        ("field/coco_null_category", "annotations.json", ["none of the 4 objects", "category null"]),
        ("field_works/csv_no_header", "boxes.csv", ["no column filename"]),
        ("field_works/csv_semicolons", "boxes.csv", ["line 1", ";"]),
        ("field_works/csv_vott", "vott-csv-export/demo-export.csv", ["no column filename, class", "label"]),
    ],
)
def test_annotations_that_cannot_be_converted_are_an_error(shared_data, tmp_path, name, annotations, words):
    with pytest.raises(ODEvalError) as error:
        convert_dataset(shared_data / name / annotations, tmp_path / "out", validation=0.0)
    assert all(word in str(error.value) for word in words), error.value
    assert not (tmp_path / "out").exists()


def scan(folder: Path) -> list[tuple[str, str]]:
    pipeline = Pipeline.load(folder / "pipeline.config")
    pipeline.check_input("train_input_reader", pipeline.config.train_input_reader)
    scan = RecordScan(pipeline, {"train_input_reader": pipeline.config.train_input_reader})
    scan.begin(seconds=60)
    return [(finding.severity, str(finding)) for finding in scan.findings()]


@pytest.mark.parametrize(
    ("name", "severity", "words"),
    [
        ("records_boxes_in_pixels", "error", ["record 0 of", "between 0 and 1"]),
        ("records_class_renamed_in_label_map", "warning", ["'cup'", "train.record", "label_map.pbtxt"]),
        ("records_divided_by_zero", "warning", ["record 2 of", "not a finite number"]),
        ("records_gif", "error", ["record 2 of", "'2.jpg'", "it is a GIF"]),
        ("records_labels_from_zero", "error", ["class label 0"]),
        ("records_unequal_lengths", "error", ["record 2 of", "has 2 values", "and 1 in 'image/object/bbox/ymax'"]),
    ],
)
def test_records_are_explained_before_the_first_step(shared_data, name, severity, words):
    ((found, sentence),) = scan(shared_data / "field" / name)
    assert found == severity
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    "name", ["records_boxes_slightly_outside", "records_of_all_image_kinds", "records_without_source_id"]
)
def test_records_that_work_give_no_warning(shared_data, name):
    assert scan(shared_data / "field_works" / name) == []


def test_text_files_with_a_byte_order_mark_are_read(shared_data):
    assert scan(shared_data / "field" / "text_files_with_bom") == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("label_map_classes_in_one_item", ["label_map.pbtxt:4: 'id' is given twice"]),
        ("label_maps_of_training_and_evaluation_differ", ["'cup' has id 1, and 2 in", "eval_label_map.pbtxt"]),
    ],
)
def test_label_maps_that_train_other_classes_are_an_error(shared_data, name, words):
    pipeline = Pipeline.load(shared_data / "field" / name / "pipeline.config")
    with pytest.raises(ODEvalError) as error:
        pipeline.check_input("eval_input_reader[0]", pipeline.config.eval_input_reader[0])
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("name", ["curly", "endquote", "html", "newline", "notebook", "utf16"])
def test_slips_in_a_config_are_an_error_that_names_the_file(shared_data, name):
    path = shared_data / "field_works" / "config_slips" / f"{name}.config"
    with pytest.raises(ODEvalError) as error:
        Pipeline.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        *((name, True) for name in ("background0", "commas", "crlf_tab", "no_name_display", "semicolons")),
        *((name, False) for name in ("apostrophe", "cp1252", "curly", "empty", "float_id", "html", "items", "json")),
        *((name, False) for name in ("quoted_id", "unclosed", "utf16")),
    ],
)
def test_label_maps_are_read_or_refused_by_name(shared_data, name, is_read):
    path = shared_data / "field_works" / "label_maps" / f"{name}.pbtxt"
    if is_read:
        assert read_label_map(path)
        return
    with pytest.raises(ODEvalError) as error:
        read_label_map(path)
    assert str(path) in str(error.value)
