"""What the driver says of a config before it builds anything."""

from __future__ import annotations

import pytest

import od_eval
from od_eval.training.advice import print_advice

RATE = "train_config.optimizer.momentum_optimizer.learning_rate"
COSINE = f"{RATE}.cosine_decay_learning_rate"


@pytest.fixture
def pipeline(ssd_config):
    def load(*overrides: str):
        return od_eval.Pipeline.load(ssd_config, overrides)

    return load


def schedule(pipeline, **values: int) -> od_eval.Pipeline:
    """The config, with a cosine decay over 1,000 steps."""
    of = {"learning_rate_base": 0.01, "total_steps": 1000, "warmup_learning_rate": 0.001, "warmup_steps": 50} | values
    fields = " ".join(f"{name}: {value}" for name, value in of.items())
    optimizer = f"momentum_optimizer {{ learning_rate {{ cosine_decay_learning_rate {{ {fields} }} }} }}"
    return pipeline(f"train_config {{ num_steps: 1000 optimizer {{ {optimizer} }} }}")


def test_a_config_as_intended_is_trained_without_a_word(pipeline, capsys) -> None:
    print_advice(pipeline(), 200)
    assert capsys.readouterr().err == ""


def test_a_warning_is_printed_with_its_remedy(pipeline, capsys) -> None:
    print_advice(schedule(pipeline, warmup_steps=900), 1000)
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("warning: ") and "warm-up takes 900 steps" in line for line in lines)


def test_a_trial_of_a_few_steps_is_judged_as_the_whole_training(pipeline, capsys) -> None:
    print_advice(schedule(pipeline), 4)
    assert "warm-up" not in capsys.readouterr().err


def test_a_training_that_is_longer_than_its_schedule_is_told(pipeline, capsys) -> None:
    print_advice(schedule(pipeline), 1000)
    assert "1000" not in capsys.readouterr().err
    print_advice(schedule(pipeline), 50_000)
    assert "50000" in capsys.readouterr().err


def test_a_schedule_that_is_not_used_is_not_judged(pipeline, capsys) -> None:
    impossible = schedule(pipeline, warmup_steps=1000)
    print_advice(impossible, 1000, with_schedule=False)
    assert "warm-up" not in capsys.readouterr().err
    with pytest.raises(od_eval.ODEvalError, match="warm-up takes"):
        print_advice(impossible, 1000)
