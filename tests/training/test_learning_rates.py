"""The flag `--learning_rate`: what it may say, and what is wrong with it in a sentence."""

import pytest

from od_eval.errors import ODEvalError
from od_eval.training.learning_rates import LearningRatePlan


def test_a_kind_alone_and_a_kind_with_values():
    assert LearningRatePlan.parse("one_cycle") == LearningRatePlan("one_cycle", {})
    asked = LearningRatePlan.parse("reduce_on_plateau:metric=val_total_loss,factor=0.5,patience=3")
    assert asked == LearningRatePlan("reduce_on_plateau", {"factor": 0.5, "patience": 3.0}, "val_total_loss")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one_cicle", "did you mean 'one_cycle'"),
        ("", "is none of cyclical, one_cycle, reduce_on_plateau, range_test"),
        ("one_cycle:max=0.1", "one_cycle has no 'max'; it has high"),
        ("one_cycle:high=", "high is ''; give a number above 0"),
        ("one_cycle:high=-0.1", "give a number above 0"),
        ("one_cycle:high=nan", "give a number above 0"),
        ("cyclical:low=0.1,high=0.1", "low is not below high"),
        ("cyclical:period=2.5", "period is '2.5'; give a whole number above 0"),
        ("reduce_on_plateau:factor=1", "factor must be between 0 and 1"),
        ("reduce_on_plateau:patience=0", "give a whole number above 0"),
    ],
)
def test_what_is_wrong_with_it_is_said(text, words):
    with pytest.raises(ODEvalError) as raised:
        LearningRatePlan.parse(text)
    assert words in str(raised.value)
    assert str(raised.value).count("\n") == 0
