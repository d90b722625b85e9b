"""StepMeans: where the metrics of the model cannot be read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from od_eval.callbacks.step_means import StepMeans

LOSSES = [5.0, 3.0, 4.0, 1.0, 2.0, 6.0]


class OneOfTwoWorkers:
    """A model in training on two workers: reading its metric would wait for the other worker for ever."""

    distribute_strategy = SimpleNamespace(num_replicas_in_sync=2, extended=SimpleNamespace(_num_workers=2))

    metrics = (SimpleNamespace(name="loss", total="not a number", count="not a number"),)


def running_means(losses):
    return [sum(losses[: n + 1]) / (n + 1) for n in range(len(losses))]


def test_on_several_workers_means_are_taken_back_by_their_steps():
    means = StepMeans(OneOfTwoWorkers(), ["loss"])
    for value in running_means(LOSSES)[:2]:
        means.add({"loss": value}, 1)
    assert means.take() == {"loss": pytest.approx(4.0)}
    for value in running_means(LOSSES)[2:5]:
        means.add({"loss": value}, 1)
    assert means.take() == {"loss": pytest.approx((4.0 + 1.0 + 2.0) / 3)}


def test_a_window_over_the_end_of_an_epoch_has_the_steps_of_both():
    means = StepMeans(OneOfTwoWorkers(), ["loss"])
    for epoch in (LOSSES[:4], LOSSES[4:]):
        means.begin_epoch()
        for value in running_means(epoch):
            means.add({"loss": value}, 1)
        means.settle(metrics_are_current=False)
    assert means.take() == {"loss": pytest.approx(sum(LOSSES) / 6)}


def test_metrics_read_before_and_lost_after_are_taken_back_by_their_steps():
    metric = SimpleNamespace(name="loss", total=0.0, count=0.0)
    means = StepMeans(SimpleNamespace(metrics=[metric]), ["loss"])
    for n, value in enumerate(running_means(LOSSES)[:4], start=1):
        metric.total, metric.count = 8 * n * value, 8 * n  # batches of 8
        means.add({"loss": value}, 1)
    assert means.take() == {"loss": pytest.approx(sum(LOSSES[:4]) / 4)}
    for value in running_means(LOSSES)[4:]:
        means.add({"loss": value}, 1)
    metric.total, metric.count = 77.0, 3  # someone has evaluated
    means.settle(metrics_are_current=False)
    assert means.take() == {"loss": pytest.approx((2.0 + 6.0) / 2)}


def test_nothing_added_gives_nothing():
    assert StepMeans(OneOfTwoWorkers(), ["loss"]).take() == {}
