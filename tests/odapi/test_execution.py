"""Several steps in one call; of a Detector: test_detector.py."""

import time

import numpy as np
import pytest
import tensorflow as tf

import od_eval.odapi  # noqa: F401
from od_eval.odapi.execution import NonFiniteLossError, check_finite, logs_of, make_execution


def values_of(step, num_steps, **kwargs):
    """What an execution makes of a dataset that counts."""
    execute = make_execution(step, tf.distribute.get_strategy(), kwargs.get("should_summarize", False))
    iterator = iter(tf.data.Dataset.range(1, 100))
    return [execute(iterator, tf.constant(number, tf.int64)) for number in num_steps]


def test_an_execution_gives_the_values_of_each_of_its_steps_and_the_step_is_traced_once():
    traced = []

    def step(number):
        traced.append(number)
        return {"number": number, "half": tf.cast(number, tf.float32) / 2}

    (names, values, _), (_, next_values, _) = values_of(step, [3, 1])
    assert names == ["number", "half", "input_wait"]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values[:, :-1], [[1, 0.5], [2, 1], [3, 1.5]])
    np.testing.assert_array_equal(next_values[:, :-1], [[4, 2]])
    assert len(traced) == 1


def test_a_step_that_asks_a_tensor_for_its_truth_is_traced_with_autograph():
    def step(number):
        return {"value": number * 10 if number > 1 else number}

    ((_, values, _),) = values_of(step, [2])
    np.testing.assert_array_equal(values[:, :-1], [[1], [20]])


def test_a_step_knows_how_long_it_waited_for_its_batch():
    def slowly(number):
        time.sleep(0.2 if number >= 3 else 0)
        return number

    dataset = tf.data.Dataset.range(1, 10).map(lambda number: tf.numpy_function(slowly, [number], tf.int64))
    execute = make_execution(lambda number: {"value": number}, tf.distribute.get_strategy(), False)
    iterator = iter(dataset)
    one = tf.constant(1, tf.int64)
    waits = [execute(iterator, one)[1][0, -1] for _ in range(4)]
    assert waits[1] < 0.1
    assert 0.19 <= waits[2] < 0.5
    assert 0.19 <= waits[3] < 0.5
    # of several steps the first counts: while the others wait, a GPU may compute
    (_, values, _) = execute(iterator, tf.constant(2, tf.int64))
    assert values[1, -1] == values[0, -1] >= 0.19


def test_the_first_loss_that_is_not_finite_is_named_with_its_step():
    names = ["Loss/a", "gradient_norm"]
    check_finite(names, np.array([[1, np.inf]]), last_step=7)  # a norm may be
    with pytest.raises(NonFiniteLossError, match=r"not finite at step 6 \(a nan, gradient_norm 2\)") as error:
        check_finite(names, np.array([[1, 1], [np.nan, 2], [np.inf, 3]]), last_step=7)
    assert error.value.step == 6
    assert error.value.values["gradient_norm"] == 2


def test_logs_are_losses_by_category_by_their_native_names_and_the_norm_of_the_gradient():
    values = {"Loss/localization_loss": 1.0, "Loss/total_loss": 1.0, "gradient_norm": 3.0, "learning_rate": 0.1}
    logs = logs_of(values)
    assert logs["localization_loss"] == logs["Loss/localization_loss"] == logs["total_loss"] == 1.0
    assert logs["gradient_norm"] == 3.0
    assert "learning_rate" not in logs


def test_an_execution_gives_the_ids_of_the_records_of_each_step_also_where_batches_differ_in_size():
    batches = tf.data.Dataset.from_tensor_slices({"hash": tf.range(5)}).batch(2).repeat()
    execute = make_execution(lambda data: {"value": tf.size(data[0]["hash"])}, tf.distribute.get_strategy(), False)
    _, values, ids = execute(iter(tf.data.Dataset.zip((batches, batches))), tf.constant(4, tf.int64))
    assert [one.tolist() for one in ids] == [[0, 1], [2, 3], [4], [0, 1]]
    np.testing.assert_array_equal(values[:, :-1], [[2], [2], [1], [2]])


def test_batches_without_ids_of_records_have_none():
    ((_, _, ids),) = values_of(lambda number: {"value": number}, [2])
    assert [one.tolist() for one in ids] == [[], []]
