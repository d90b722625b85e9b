"""What a check has found, as text, data, Markdown and HTML."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from od_eval.findings.finding import Finding
from od_eval.findings.survey import Survey
from od_eval.findings.survey_statistics import statistics
from od_eval.health.check_report import CheckReport

COLUMNS = ["id", "name", "width", "height", "mode", "digest", "perceptual_hash", "brightness", "contrast", "saturation"]
CATEGORIES = {1: "cat", 2: "dog"}


def finding(severity: str, kind: str = "kind", symptom: str = "something is so", **others) -> Finding:
    return Finding(kind, severity, others.pop("where", "train_input_reader"), symptom, "change it", **others)


def survey(name: str = "train_input_reader", categories=CATEGORIES, num_images: int = 4, mode: str = "RGB") -> Survey:
    """Images of 200 × 100 pixels; in the first one, two cats of 50 × 50 pixels, and in the second one, one."""
    images = pd.DataFrame(
        [(f"record {row}", "", 200, 100, mode, "", "", 0.5, 0.2, 0.3) for row in range(num_images)],
        columns=COLUMNS,
    )
    objects = pd.DataFrame(
        [(image, 1, 0.0, 0.0, 0.5, 0.25, False, False, float("nan")) for image in (0, 0, 1)],
        columns=["image", "category", "ymin", "xmin", "ymax", "xmax", "crowd", "difficult", "mask_iou"],
    )
    return Survey(name, categories, images, objects if categories else objects.iloc[:0])


def report(*findings: Finding, surveys=(), source: str = "pipeline.config") -> CheckReport:
    return CheckReport(source, findings, {one.name: statistics(one, None) for one in surveys})


def row(text: str, label: str) -> list[str]:
    """The cells of a row of the table."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    (cells,) = (cells for label_of_row, *cells in rows if label_of_row == label)
    return cells


@pytest.mark.parametrize(
    ("severities", "strict", "expected"),
    [
        (["error", "note"], False, True),
        (["warning", "note"], False, False),
        (["warning", "note"], True, True),
        (["note"], True, False),
        ([], True, False),
    ],
)
def test_errors_count_always_and_warnings_only_if_strict(severities, strict, expected):
    assert report(*map(finding, severities)).has_errors(strict) is expected


def test_the_text_begins_with_what_was_checked_and_how_much_was_found():
    few = report(*map(finding, ["error", "note", "note"]))
    assert few.to_text().startswith("pipeline.config: 1 error and 2 notes.")
    many = report(*map(finding, ["error", "error", "warning", "note"]))
    assert many.to_text().startswith("pipeline.config: 2 errors, 1 warning and 1 note.")
    assert report().to_text() == "pipeline.config: nothing wrong was found."


def test_errors_come_first_and_what_to_set_can_be_copied():
    setting = f"train_config.{'x' * 100}=1"
    text = report(finding("error", symptom="worse"), finding("warning", symptom="bad", settings=[setting])).to_text()
    assert text.index("error: train_input_reader: worse") < text.index("warning: train_input_reader: bad")
    assert f"    --set {setting}" in text.splitlines()


def test_lines_fit_a_terminal():
    text = report(finding("error", symptom="many words " * 50), surveys=[survey(), survey("eval_input_reader[0]")])
    assert max(map(len, text.to_text().splitlines())) <= 100


def test_sentences_need_not_repeat_the_name_of_the_config():
    found = [finding("warning", where="pipeline.config"), finding("error", where="other.config")]
    text = report(*found).to_text()
    assert "warning: something is so" in text
    assert "error: other.config: something is so" in text


def test_of_many_warnings_of_a_kind_the_first_are_shown_but_all_errors_are():
    warnings = [finding("warning", "same", f"number {number} is so") for number in range(5)]
    errors = [finding("error", "same", f"error {number} is so") for number in range(5)]
    text = report(*errors, *warnings).to_text()
    assert text.count("error: ") == 5
    assert "number 2" in text
    assert "number 3" not in text
    assert "warning: 2 more of the kind same" in text
    assert "more of the kind" not in report(*warnings[:3]).to_text()


def test_datasets_stand_side_by_side():
    text = report(surveys=[survey(), survey("eval_input_reader[0]", num_images=2)]).to_text()
    assert row(text, "images") == ["4", "2"]
    assert row(text, "images without objects") == ["2 (50%)", "0 (0%)"]
    assert row(text, "objects per image") == ["mean 0.75, at most 2", "mean 1.5, at most 2"]
    assert row(text, "side of boxes, pixels")[0] == "50 (50 to 50)"
    assert row(text, "small, medium, large, %")[0] == "0, 100, 0"
    assert row(text, "most frequent image size")[0] == "200 × 100 (100%)"
    assert row(text, "cat") == ["3 (100%)"] * 2
    assert row(text, "dog") == ["0 (0%)"] * 2


def test_modes_are_shown_only_where_some_images_are_not_rgb():
    assert "image modes" not in report(surveys=[survey()]).to_text()
    assert row(report(surveys=[survey(mode="L")]).to_text(), "image modes") == ["L 4"]


def test_images_without_labels_have_no_objects_instead_of_none_found():
    text = report(surveys=[survey(), survey("deployment_images", categories={})]).to_text()
    assert row(text, "objects") == ["3", "-"]
    assert row(text, "cat") == ["3 (100%)", "-"]


def test_of_many_categories_the_most_frequent_and_the_rarest_are_shown():
    many = {number: f"kind {number}" for number in range(1, 15)}
    text = report(surveys=[survey(categories=many)]).to_text()
    assert "… and 2 more" in text
    shown = {line.strip().split("  ")[0] for line in text.splitlines()}
    assert {name for name in many.values() if name not in shown} == {"kind 7", "kind 8"}
    assert "more" not in report(surveys=[survey(categories=dict(list(many.items())[:12]))]).to_text()


def test_a_sample_is_called_so():
    one = survey()
    part = Survey(one.name, one.categories, one.images, one.objects, is_complete=False)
    assert row(report(surveys=[part]).to_text(), "images") == ["the first 4"]


def test_the_data_are_json_with_every_finding_and_number():
    found = finding("error", evidence={"share": float("nan")}, settings=["a=1"])
    data = json.loads(json.dumps(report(found, surveys=[survey()]).to_dict(), allow_nan=False))
    assert (data["num_errors"], data["num_warnings"], data["num_notes"]) == (1, 0, 0)
    assert data["findings"][0]["sentence"] == str(found)
    assert data["statistics"]["train_input_reader"]["objects"] == 3


HOSTILE = "<script>alert(1)</script>|`$\x1b[31m"


def test_names_of_others_are_escaped_everywhere():
    found = finding("error", symptom=f"class {HOSTILE} is so")
    hostile = report(found, surveys=[survey(HOSTILE, {1: HOSTILE})], source=HOSTILE)
    page = hostile._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    markdown = hostile.findings_markdown() + hostile.statistics_markdown()
    assert "<script" not in markdown
    for text in (hostile.to_text(), page, markdown):
        assert "\x1b" not in text


def test_the_markdown_is_a_table_with_a_column_for_each_dataset():
    lines = report(surveys=[survey(), survey("a|b")]).statistics_markdown().splitlines()
    assert lines[1] == "| --- | ---: | ---: |"
    assert all(line.replace("\\|", "").count("|") == 4 for line in lines[:12])
    assert report().statistics_markdown() == ""


def test_a_notebook_shows_findings_and_table():
    page = report(finding("warning"), surveys=[survey()])._repr_html_()
    assert "1 warning" in page
    assert "something is so" in page
    assert page.count("<tr>") == len(report(surveys=[survey()]).statistics_markdown().split("\n\n")[0].split("\n")) - 1


def test_settings_can_be_copied_into_a_shell():
    setting = "train_config { data_augmentation_options { random_rgb_to_gray {} } }"
    assert f"    --set '{setting}'" in report(finding("note", settings=[setting])).to_text().splitlines()
