"""When what happens in a training."""

import pytest
import tensorflow as tf

from od_eval.training.schedule import Schedule, default_steps_per_execution


@pytest.mark.parametrize(
    ("first_step", "last_step", "eval_every_n", "epochs"),
    [
        (0, 100, 0, [(1, 100)]),
        (0, 100, 50, [(2, 50)]),
        (0, 7, 3, [(2, 3), (1, 1)]),
        (4, 7, 3, [(1, 2), (1, 1)]),
        (5, 100, 1000, [(1, 95)]),
        (6, 12, 3, [(2, 3)]),
    ],
)
def test_an_epoch_ends_at_each_evaluation_and_in_the_end(first_step, last_step, eval_every_n, epochs):
    schedule = Schedule(last_step, 1000, eval_every_n, 10, 1)
    assert schedule.epochs(first_step) == epochs
    assert sum(number * steps for number, steps in epochs) == last_step - first_step


def test_an_evaluation_belongs_to_its_multiples_and_to_the_last_step():
    schedule = Schedule(7, 1000, 3, 10, 1)
    assert [step for step in range(10) if schedule.is_evaluated(step)] == [3, 6, 7, 8, 9]
    assert not any(map(Schedule(7, 1000, 0, 10, 1).is_evaluated, range(10)))


@pytest.mark.parametrize(
    ("device", "intervals", "steps"),
    [
        ("GPU", (10, 1000, 1000), 10),
        ("TPU", (10, 1000, 0), 10),
        ("GPU", (25, 1000, 100), 5),
        ("GPU", (10, 14, 0), 2),
        ("GPU", (11, 11, 11), 1),
        ("CPU", (10, 1000, 1000), 1),
    ],
)
def test_an_execution_has_many_steps_where_steps_are_short(monkeypatch, device, intervals, steps):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind] if kind == device else [])
    assert default_steps_per_execution(*intervals) == steps
