"""Checks of a config with its data, and of annotations."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import od_eval
from od_eval.health import checking
from od_eval.odapi.records import serialized_records
from od_eval.tensorboard import tags
from read_events import shown_images, shown_tensors

TRAIN, EVAL = "train_input_reader", "eval_input_reader[0]"
INPUT = "tf_record_input_reader.input_path"


def kinds(report, severity: str = "error") -> list[str]:
    return [finding.kind for finding in report.findings if finding.severity == severity]


@pytest.fixture(scope="module")
def healthy(ssd_config, config_overrides, tmp_path_factory):
    """The report of a config that can be trained, and its TensorBoard folder."""
    log_dir = tmp_path_factory.mktemp("runs")
    return od_eval.check(ssd_config, overrides=config_overrides, log_dir=log_dir), log_dir


def test_a_config_that_can_be_trained_has_no_error_and_statistics_of_all_its_data(healthy):
    report, _ = healthy
    assert kinds(report) == []
    assert {name: of["images"] for name, of in report.statistics.items()} == {TRAIN: 16, EVAL: 4}
    assert report.input_size == "96 × 96 pixels"


def test_tensorboard_has_findings_statistics_and_plots(healthy):
    _, log_dir = healthy
    run = log_dir / "check"
    texts = shown_tensors(run, "text")
    assert set(texts) == {tags.FINDINGS, tags.STATISTICS}
    ((_, text),) = texts[tags.STATISTICS]
    assert "| images | 16 | 4 |" in text.item().decode()
    images = shown_images(run)
    assert set(images) == {
        tags.survey(name)
        for name in ("objects_per_category", "box_sides", "box_aspect_ratios", "box_positions", "image_sizes")
    } | {tags.survey("brightness"), tags.survey("contrast")}


def test_all_errors_are_listed_and_what_can_be_read_is_read_whatever_is_missing(ssd_config, config_overrides):
    overrides = [*config_overrides, f"{TRAIN}.{INPUT}=PATH_TO_BE_CONFIGURED", "train_config.batch_size=0"]
    report = od_eval.check(ssd_config, overrides=overrides)
    assert report.has_errors()
    sentences = " ".join(str(finding) for finding in report.findings if finding.severity == "error")
    assert "PATH_TO_BE_CONFIGURED" in sentences
    assert "train_config.batch_size is 0" in sentences
    assert set(report.statistics) == {EVAL}


def test_objects_that_are_lost_are_counted_over_all_records(ssd_config, config_overrides, shapes, tmp_path):
    text = (shapes / "label_map.pbtxt").read_text()
    name = next(iter(od_eval.check(ssd_config, overrides=config_overrides).statistics[TRAIN]["categories"].values()))
    renamed = tmp_path / "label_map.pbtxt"
    renamed.write_text(text.replace(f'"{name["name"]}"', '"renamed"').replace(f"'{name['name']}'", "'renamed'"))
    overrides = [*config_overrides, f"{TRAIN}.label_map_path={renamed}", f"eval_input_reader.label_map_path={renamed}"]
    report = od_eval.check(ssd_config, overrides=overrides)
    (lost,) = (one for one in report.findings if one.kind == "objects_dropped" and one.where == TRAIN)
    assert (lost.evidence["lost"], lost.evidence["records"]) == (name["objects"], 16)


def test_a_broken_record_is_told_once_for_each_reader(ssd_config, config_overrides, shapes, tmp_path):
    (train,) = shapes.glob("train-*")
    broken = tmp_path / "train.record"
    broken.write_bytes(train.read_bytes()[:-10])
    report = od_eval.check(ssd_config, overrides=[*config_overrides, f"{TRAIN}.{INPUT}={broken}"])
    assert kinds(report) == ["broken_record"]
    assert str(broken) in str(report.findings[0])
    assert report.statistics[TRAIN]["images"] == 15


def test_what_is_wrong_with_a_file_of_two_readers_is_told_once(ssd_config, config_overrides, shapes, tmp_path):
    (train,) = shapes.glob("train-*")
    records = list(serialized_records(str(train)))
    with tf.io.TFRecordWriter(str(tmp_path / "broken.record")) as writer:
        for record in [b"broken", *records, b"broken"]:
            writer.write(record)
    both = [f"{reader}.{INPUT}={tmp_path}/broken.record" for reader in (TRAIN, "eval_input_reader")]
    report = od_eval.check(ssd_config, overrides=[*config_overrides, *both])
    assert kinds(report) == ["broken_record"]
    assert str(report.findings[0]).startswith(f"{TRAIN}: 2 of 18 records cannot be used")
    assert "same_files_for_training_and_evaluation" in kinds(report, "warning")
    other = tmp_path / "other.record"
    other.write_bytes((tmp_path / "broken.record").read_bytes())
    report = od_eval.check(ssd_config, overrides=[*config_overrides, both[0], f"eval_input_reader.{INPUT}={other}"])
    assert kinds(report) == ["broken_record", "broken_record"]


def test_a_sample_is_the_beginning_of_each_dataset(ssd_config, config_overrides):
    report = od_eval.check(ssd_config, overrides=config_overrides, max_examples=3)
    assert {of["images"] for of in report.statistics.values()} == {3}
    assert not any(of["is_complete"] for of in report.statistics.values())


def test_a_model_is_not_built_where_there_are_errors_without_it(ssd_config, config_overrides):
    report = od_eval.check(ssd_config, overrides=[*config_overrides, "train_config.batch_size=0"], build=True)
    assert "not_built" in kinds(report, "note")


@pytest.mark.parametrize("error", [od_eval.ODEvalError("the model is too large; choose another."), ValueError("odd")])
def test_what_fails_when_the_model_is_built_is_an_error(ssd_config, config_overrides, monkeypatch, error):
    from od_eval.odapi import trial_step

    def fails(pipeline):
        raise error

    monkeypatch.setattr(trial_step, "Detector", fails)
    report = od_eval.check(ssd_config, overrides=config_overrides, build=True)
    (finding,) = (one for one in report.findings if one.severity == "error")
    assert finding.kind == "cannot_be_trained"
    assert str(error).rstrip(".") in str(finding)
    assert str(finding).count("..") == 0


def test_images_from_where_the_model_is_used_stand_beside_the_others(ssd_config, config_overrides, tmp_path):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 60, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    report = od_eval.check(ssd_config, overrides=config_overrides, deployment_images=tmp_path)
    assert report.statistics["deployment_images"]["images"] == 3
    assert list(report.statistics) == [TRAIN, EVAL, "deployment_images"]


def test_annotations_are_checked_before_they_are_converted(tmp_path):
    lines = ["filename,class,xmin,ymin,xmax,ymax"]
    for number in range(4):
        Image.fromarray(np.full((80, 100, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.jpg")
        lines.append(f"{number}.jpg,cat,10,10,{60 + number},50")
    (tmp_path / "boxes.csv").write_text("\n".join([*lines, "missing.jpg,cat,1,1,9,9"]))
    report = od_eval.check(annotations=tmp_path / "boxes.csv", images=tmp_path, log_dir=tmp_path / "runs")
    assert report.source == str(tmp_path / "boxes.csv")
    assert report.statistics["annotations"]["objects"] == 4
    assert any("missing.jpg" in str(finding) for finding in report.findings)
    assert len(shown_images(tmp_path / "runs" / "check")) == 7
    shutil.rmtree(tmp_path / "runs")


def test_annotations_are_told_by_their_format_and_classes_by_a_label_map(tmp_path):
    Image.fromarray(np.full((80, 100, 3), 60, np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "boxes").write_text("filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,10,10,60,50\na.jpg,cap,1,1,20,20\n")
    (tmp_path / "label_map.pbtxt").write_text("item { id: 7 name: 'cat' }")
    report = od_eval.check(
        annotations=tmp_path / "boxes",
        images=tmp_path,
        annotation_format="csv",
        label_map=tmp_path / "label_map.pbtxt",
    )
    assert {id: one["objects"] for id, one in report.statistics["annotations"]["categories"].items()} == {7: 1}
    assert any("unknown class" in str(finding) and "'cap'" in str(finding) for finding in report.findings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either a config"),
        ({"pipeline_config_path": "a", "annotations": "b"}, "give either a config"),
        ({"pipeline_config_path": "a", "images": "b"}, "belongs to annotations"),
        ({"pipeline_config_path": "a", "annotation_format": "coco"}, "annotation_format=coco belongs to annotations"),
        ({"pipeline_config_path": "a", "label_map": "b"}, "label_map=b belongs to annotations"),
        ({"pipeline_config_path": "a", "model_dir": "b"}, "model_dir=b is for the scores"),
        ({"annotations": "a", "deployment_images": "b", "model_dir": "c"}, "model_dir=c is for the scores"),
        ({"annotations": "b", "build": True}, "builds the model of a config"),
        ({"pipeline_config_path": "a", "max_examples": 0}, "a number above 0"),
        ({"pipeline_config_path": "absent.config"}, "does not exist"),
        ({"annotations": "absent.json"}, "does not exist"),
    ],
)
def test_arguments_that_cannot_be_followed_are_a_sentence(arguments, message):
    with pytest.raises(od_eval.ODEvalError, match=message):
        od_eval.check(**arguments)


def test_a_config_that_cannot_be_parsed_is_one_sentence_with_its_line(tmp_path):
    path = tmp_path / "pipeline.config"
    path.write_text("model {\n  nonsense: 1\n}\n")
    with pytest.raises(od_eval.ODEvalError, match=r"pipeline.config:2"):
        od_eval.check(path)


def test_a_folder_that_cannot_be_written_is_a_sentence(ssd_config, config_overrides, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(od_eval.ODEvalError, match="cannot be written"):
        od_eval.check(ssd_config, overrides=config_overrides, log_dir=tmp_path / "file")


def test_progress_counts_as_it_is_told(capsys, monkeypatch):
    bars = []
    monkeypatch.setattr(checking, "tqdm", lambda **options: bars.append(_Bar()) or bars[-1])
    with checking._progress("train") as show:
        show(10, 100)
        show(35, 100)
    assert (bars[0].n, bars[0].total) == (35, 100)


class _Bar:
    n, total = 0, None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        pass

    def update(self, more):
        self.n += more
