"""A finding reads as a sentence, and a list of findings becomes an error."""

import pytest

from od_eval.errors import ODEvalError
from od_eval.findings.finding import Finding, raise_first_error


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
