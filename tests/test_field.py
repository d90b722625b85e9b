"""The inputs in tests/data/field/ and field_works/, as people really have them: each does what its README.txt says."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import od_eval
from made_images import assert_same, pycocotools_metrics
from od_eval import Evaluator, ODEvalError, Pipeline
from od_eval.data.conversion import convert_dataset
from od_eval.evaluation.coco_files import BoxPlausibility, LeftOut, read_detections, read_groundtruth
from od_eval.label_map import read_label_map
from od_eval.odapi.record_scan import RecordScan

REPOSITORY = Path(__file__).parents[1]


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
def test_annotations_are_converted(excerpt, tmp_path, name, annotations, images, num_objects):
    folder = excerpt / name
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
def test_annotations_that_cannot_be_converted_are_an_error(excerpt, tmp_path, name, annotations, words):
    with pytest.raises(ODEvalError) as error:
        convert_dataset(excerpt / name / annotations, tmp_path / "out", validation=0.0)
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
def test_records_are_explained_before_the_first_step(excerpt, name, severity, words):
    ((found, sentence),) = scan(excerpt / "field" / name)
    assert found == severity
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("name", "num_images", "num_objects"),
    [
        ("field/text_files_with_bom", 4, 8),
        ("field_works/records_boxes_slightly_outside", 4, 8),
        ("field_works/records_of_all_image_kinds", 6, 12),
        ("field_works/records_without_source_id", 4, 8),
    ],
)
def test_records_that_work_give_no_warning_and_are_read_for_training_and_evaluation(
    excerpt, name, num_images, num_objects
):
    assert scan(excerpt / name) == []
    pipeline = Pipeline.load(excerpt / name / "pipeline.config")
    pipeline.config.train_config.batch_size = 1
    for dataset in (pipeline.train_dataset().take(num_images), pipeline.eval_dataset()):
        counts = np.concatenate([labels["num_groundtruth_boxes"].numpy() for _, labels in dataset])
        assert (len(counts), counts.sum()) == (num_images, num_objects)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("label_map_classes_in_one_item", ["label_map.pbtxt:4: 'id' is given twice"]),
        ("label_maps_of_training_and_evaluation_differ", ["'cup' has id 1, and 2 in", "eval_label_map.pbtxt"]),
    ],
)
def test_label_maps_that_train_other_classes_are_an_error(excerpt, name, words):
    pipeline = Pipeline.load(excerpt / "field" / name / "pipeline.config")
    with pytest.raises(ODEvalError) as error:
        pipeline.check_input("eval_input_reader[0]", pipeline.config.eval_input_reader[0])
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("name", ["curly", "endquote", "html", "newline", "notebook", "utf16"])
def test_slips_in_a_config_are_an_error_that_names_the_file(excerpt, name):
    path = excerpt / "field_works" / "config_slips" / f"{name}.config"
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
def test_label_maps_are_read_or_refused_by_name(excerpt, name, is_read):
    path = excerpt / "field_works" / "label_maps" / f"{name}.pbtxt"
    if is_read:
        assert read_label_map(path)
        return
    with pytest.raises(ODEvalError) as error:
        read_label_map(path)
    assert str(path) in str(error.value)


def test_paths_that_are_swapped_are_an_error_that_names_the_field(excerpt):
    pipeline = Pipeline.load(excerpt / "field_works" / "config_paths_swapped" / "pipeline.config")
    with pytest.raises(ODEvalError, match="label_map_path"):
        pipeline.check_input("train_input_reader", pipeline.config.train_input_reader)


def test_python_writes_true_with_a_capital(excerpt):
    Pipeline.load(excerpt / "field_works" / "config_slips" / "python_bool.config")


@pytest.mark.parametrize(
    ("name", "ap", "left_out"),
    [
        ("field/detections_of_more_classes", 1.0, [2]),
        ("field/detections_xyxy", 0.0, []),
        ("field_works/evaluate_dt_negative", 0.875, []),
        ("field_works/evaluate_empty", 0.0, []),
        ("field_works/evaluate_huger_ids", 1.0, []),
        ("field_works/evaluate_scores_percent", 1.0, []),
    ],
)
def test_detections_have_the_numbers_of_pycocotools(excerpt, name, ap, left_out):
    files = [excerpt / name / file for file in ("gt.json", "dt.json")]
    told = LeftOut()
    groundtruth = read_groundtruth(files[0], left_out=told)
    detections = read_detections(files[1], groundtruth, told)
    evaluator = Evaluator(groundtruth.categories, box_format="xywh")
    evaluator.update(detections)
    metrics = evaluator.evaluate().bbox
    assert metrics["AP"] == pytest.approx(ap)
    assert_same(metrics, pycocotools_metrics(*(json.loads(file.read_text()) for file in files), "bbox"))
    assert [number for number, _, _ in told.cases()] == left_out
    plausibility = BoxPlausibility()
    plausibility.update(detections)
    assert bool(plausibility.problem()) == name.endswith("xyxy")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evaluate_gt_no_categories", ["gt.json", "no list 'categories'"]),
        ("evaluate_gt_string_category", ["annotations[0]", "category_id '1'"]),
        ("evaluate_image_ids_padded", ["entry 0", "image_id '000000000001'"]),
        ("evaluate_image_ids_strings", ["entry 0", "image_id '1'"]),
        ("evaluate_score_strings", ["entry 0", "'score'", "'0.9'"]),
    ],
)
def test_detections_that_cannot_be_evaluated_are_an_error(excerpt, name, words):
    folder = excerpt / "field_works" / name
    with pytest.raises(ODEvalError) as error:
        read_detections(folder / "dt.json", read_groundtruth(folder / "gt.json"))
    assert all(word in str(error.value) for word in words), error.value


# Folder -> exit status, and words on stderr.
TRAININGS = {
    "field/label_map_classes_in_one_item": (1, "'id' is given twice"),
    "field/label_maps_of_training_and_evaluation_differ": (1, "'cup' has id 1"),
    "field/records_boxes_in_pixels": (1, "between 0 and 1"),
    "field/records_class_renamed_in_label_map": (
        0,
        "warning: train_input_reader: 4 of 8 objects in 4 records are dropped",
    ),
    "field/records_divided_by_zero": (0, "not a finite number"),
    "field/records_gif": (1, "it is a GIF"),
    "field/records_labels_from_zero": (1, "class label 0"),
    "field/records_unequal_lengths": (1, "has 2 values"),
    "field/text_files_with_bom": (0, ""),
    "field_works/config_paths_swapped": (1, "label_map_path"),
    "field_works/records_boxes_slightly_outside": (0, ""),
    "field_works/records_of_all_image_kinds": (0, ""),
    "field_works/records_without_source_id": (0, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_ends_as_its_readme_says(excerpt, tmp_path, name):
    folder = excerpt / name
    (command,) = (line for line in (folder / "README.txt").read_text().splitlines() if "od-eval train" in line)
    arguments = shlex.split(command.replace("--model_dir=OUT", f"--model_dir={tmp_path}"))[1:]
    program = [sys.executable, str(REPOSITORY / "scripts" / "model_main_tf2.py")]
    result = subprocess.run(
        [*program, *arguments[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    status, words = TRAININGS[name]
    assert (result.returncode, words in result.stderr) == (status, True), result.stderr
    assert "Traceback" not in result.stderr
    trained = (tmp_path / "eval" / "metrics.json").exists()
    assert trained == (status == 0)
    if trained and words:
        assert any(
            words in "warning: " + found["sentence"] for found in od_eval.load_metrics(str(tmp_path))["findings"]
        )
