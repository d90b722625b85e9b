"""What `od_eval.diagnose` says of folders of trainings."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import od_eval
from made_images import evaluated, random_images
from od_eval.errors import ODEvalError
from od_eval.evaluation.result import EvaluationResult
from od_eval.evaluation.sections.coco import COCO_METRICS
from od_eval.findings import diagnosis
from od_eval.findings.finding import Finding
from od_eval.findings.shown import as_text
from od_eval.runs import analysis_files, metrics_files, object_files
from od_eval.tensorboard import writers


def evaluation(step: int, ap: float = 0.5) -> EvaluationResult:
    return EvaluationResult(4, step=step, bbox=dict.fromkeys(COCO_METRICS, ap), losses={"total_loss": 1.0})


@pytest.fixture
def run(tmp_path):
    """A training of four points and two evaluations, of which the newest has objects."""
    for step in (10, 20, 30, 40):
        writers.write_scalars(str(tmp_path / "train"), step, {"Loss/total_loss": 1 / step})
    for step in (20, 40):
        metrics_files.write(str(tmp_path / "eval"), evaluation(step))
    table = evaluated(random_images(0)).object_tables()["bbox"]
    analysis_files.write(str(tmp_path / "eval"), 40, {object_files.FILE_NAMES["bbox"]: object_files.parquet(table)})
    return tmp_path


@pytest.fixture
def finds(monkeypatch):
    """Sets what all the diagnoses are; returns what they were given."""
    given = []

    def finds(*findings: Finding) -> list:
        def diagnose(evidence):
            given.append(evidence)
            yield from findings

        monkeypatch.setattr(diagnosis, "all_diagnoses", lambda: (diagnose,))
        return given

    return finds


LOOSE = Finding(
    "loose", "warning", "", "AP is <0.2>", "train longer", evidence={"AP": np.float32(0.25), "NaN": math.nan},
    sureness="likely", settings=("train_config.num_steps=9",), images=(np.int64(7), "a.jpg"),
)  # fmt: skip
NOTE = Finding("few", "note", "eval", "4 images", "evaluate more")


def test_diagnoses_are_given_all_that_is_there(run, finds):
    (evidence, *_) = (finds(), od_eval.diagnose(run))[0]
    assert [result.step for result in evidence.evaluations] == [20, 40]
    assert evidence.curve("Loss/total_loss").steps.tolist() == [10, 20, 30, 40]
    assert evidence.config is None
    assert len(evidence.objects) > 0


def test_the_report_has_the_most_important_first_and_says_what_it_rests_on(run, finds):
    finds(NOTE, LOOSE)
    report = od_eval.diagnose(run)
    assert report.findings == [LOOSE, NOTE]
    about, found, notes = report.to_text().partition(as_text([LOOSE, NOTE]))
    assert about == f"{run}/eval: step 40; curves of 4 points, 2 evaluations\n"
    assert found
    assert notes.strip().splitlines() == [
        f"note: there is no '{run}/pipeline.config': remedies do not say which field to change."
    ]


def test_the_report_as_a_dict_is_plain_data_that_json_allows(run, finds):
    finds(LOOSE)
    content = json.loads(json.dumps(od_eval.diagnose(run).to_dict(), allow_nan=False))
    assert {name: content[name] for name in ("model_dir", "run", "step", "num_points", "num_evaluations")} == {
        "model_dir": str(run), "run": "eval", "step": 40, "num_points": 4, "num_evaluations": 2,
    }  # fmt: skip
    (finding,) = content["findings"]
    assert finding["evidence"] == {"AP": 0.25, "NaN": None}
    assert (finding["images"], finding["settings"]) == ([7, "a.jpg"], ["train_config.num_steps=9"])
    assert finding["sentence"] == str(LOOSE)


def test_a_notebook_shows_names_of_others_as_they_are(run, finds):
    finds(LOOSE)
    shown = od_eval.diagnose(run)._repr_html_()
    assert "AP is &lt;0.2&gt;" in shown
    assert "<0.2>" not in shown


def test_nothing_found_is_said(run, finds):
    finds()
    assert "Nothing was found of what diagnoses look for." in od_eval.diagnose(run).to_text()


def test_what_cannot_be_looked_at_is_said_and_the_rest_is_diagnosed(run, finds):
    (run / "pipeline.config").write_text("model { nonsense }")
    objects = run / "eval" / "analysis" / "step-00000040" / "objects.parquet"
    objects.write_bytes(b"PAR1")
    given = finds(LOOSE)
    report = od_eval.diagnose(run)
    assert report.findings == [LOOSE]
    assert given[0].objects is None
    config, of_objects = report.notes
    assert "pipeline.config' was not looked at, so remedies do not say which field to change: " in config
    assert "objects.parquet' is damaged" in of_objects


def test_that_some_images_were_analysed_is_said(run, finds):
    finds()
    of_some = evaluation(40).with_section("dataset", {"num_images": 3})
    metrics_files.write(str(run / "eval"), of_some)
    assert "rests on the 3 of 4 images that were analysed (step 40)" in od_eval.diagnose(run).notes[-1]


def test_a_training_without_evaluations_is_diagnosed_by_its_curves(tmp_path, finds):
    writers.write_scalars(str(tmp_path / "train"), 10, {"Loss/total_loss": 1.0})
    finds(LOOSE)
    report = od_eval.diagnose(tmp_path)
    assert report.findings == [LOOSE]
    assert any("there is no evaluation in run 'eval'" in note for note in report.notes)


def test_evaluations_without_curves_are_diagnosed_too(tmp_path, finds):
    metrics_files.write(str(tmp_path / "eval"), evaluation(20))
    finds(LOOSE)
    assert any("there are no curves of the training" in note for note in od_eval.diagnose(tmp_path).notes)


@pytest.mark.parametrize(
    ("folder", "run_name", "message"),
    [
        ("missing", "eval", "there is no folder"),
        ("", "eval/night", "there is no evaluation in run 'eval/night' .* runs with evaluations are 'eval'"),
        ("", "eval_train", "is of training images"),
        ("empty", "eval", "there is no evaluation in run 'eval'"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_there_is(run, folder, run_name, message):
    (run / "empty").mkdir()
    with pytest.raises(ODEvalError, match=message):
        od_eval.diagnose(run / folder, run_name)


def test_training_and_evaluation_data_that_differ_are_told(run, finds, ssd_config, config_overrides, tmp_path_factory):
    from od_eval.data.shapes import write_shapes

    finds()
    half = tmp_path_factory.mktemp("half") / "shapes"
    write_shapes(half, num_train=1, num_validation=30, image_size=48)
    smaller = f"eval_input_reader.tf_record_input_reader.input_path={half}/validation-?????-of-?????"

    def kinds(*overrides):
        od_eval.Pipeline.load(ssd_config, [*config_overrides, *overrides]).save(run)
        return [finding.kind for finding in od_eval.diagnose(run).findings]

    assert "different_image_resolution" in kinds(smaller)
    assert "different_image_resolution" not in kinds()
    assert kinds("train_input_reader.tf_record_input_reader.input_path=/gone") == []
