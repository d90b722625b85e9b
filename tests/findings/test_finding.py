"""A finding reads as a sentence, and a list of findings becomes an error."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from od_eval.errors import ODEvalError
from od_eval.findings.finding import Finding, findings_in, findings_section, raise_first_error


def finding(severity="error", **parts):
    given = {"where": "a.config:3", "symptom": "batch_size is 0", "remedy": "set it to 1 or more", **parts}
    return Finding(kind="batch_size", severity=severity, **given)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, "a.config:3: batch_size is 0; set it to 1 or more."),
        ({"where": ""}, "batch_size is 0; set it to 1 or more."),
        (
            {"cause": "which trains nothing"},
            "a.config:3: batch_size is 0, which trains nothing; set it to 1 or more.",
        ),
        ({"remedy": ""}, "a.config:3: batch_size is 0."),
    ],
)
def test_it_is_one_sentence(parts, sentence):
    assert str(finding(**parts)) == sentence


def test_the_first_error_is_raised_and_what_comes_after_is_not_looked_for():
    def check():
        yield finding("note")
        yield finding("warning", symptom="batch_size is 1")
        yield finding(symptom="batch_size is -1")
        pytest.fail("looked further")

    with pytest.raises(ODEvalError, match=r"^a\.config:3: batch_size is -1; set it"):
        raise_first_error(check())


def test_without_errors_nothing_is_raised():
    raise_first_error([finding("note"), finding("warning")])


def test_a_section_of_findings_is_plain_and_can_be_read_again():
    rich = finding(
        "warning",
        evidence={"AP": np.float32(0.5), "inf": math.inf, "counts": np.arange(2), 3: {"path": Path("a")}},
        settings=("train_config.batch_size=8",),
        images=(np.int64(7), "a.jpg"),
        sureness="likely",
        impact=0.25,
    )
    section = json.loads(json.dumps(findings_section([rich, finding()]), allow_nan=False))
    assert section[0]["evidence"] == {"AP": 0.5, "inf": None, "counts": [0, 1], "3": {"path": "a"}}
    assert (section[0]["images"], section[0]["settings"]) == ([7, "a.jpg"], ["train_config.batch_size=8"])
    assert [one["sentence"] for one in section] == [str(rich), str(finding())]
    assert findings_section(findings_in(section)) == section


@pytest.mark.parametrize("entry", ["text", 7, None, {}, {"kind": "a"}, {"severity": "error"}, {"severity": "fatal"}])
def test_what_is_no_finding_in_a_section_is_left_out(entry):
    section = findings_section([finding()])
    assert findings_section(findings_in([entry, *section])) == section
