"""What a training says of the data that it loses: before the first step, during it, and at the end."""

from __future__ import annotations

import threading

import pytest

from od_eval import ODEvalError, Pipeline
from od_eval.odapi.record_scan import RecordScan
from od_eval.training.record_watch import RecordWatch


@pytest.fixture
def watch(ssd_config, config_overrides):
    def watch(*overrides: str, strict: bool = False) -> RecordWatch:
        pipeline = Pipeline.load(ssd_config, [*config_overrides, *overrides])
        return RecordWatch(pipeline, training=True, evaluation=True, strict=strict)

    return watch


@pytest.fixture
def without_stars(tmp_path) -> list[str]:
    """Overrides for a label map that lacks a class of the records."""
    path = tmp_path / "label_map.pbtxt"
    path.write_text("".join(f"item {{ id: {id} name: '{name}' }}\n" for id, name in ((1, "circle"), (2, "square"))))
    return [f"{reader}.label_map_path={path}" for reader in ("train_input_reader", "eval_input_reader")]


def test_what_is_dropped_of_both_readers_is_printed_before_and_at_the_end(watch, without_stars, capsys):
    with watch(*without_stars) as entered:
        before = capsys.readouterr().err.splitlines()
        entered.report()
    assert capsys.readouterr().err.splitlines() == before
    assert all(line.startswith("warning: ") and "are dropped: class '" in line for line in before)
    for reader in ("train_input_reader", "eval_input_reader[0]"):
        for name in ("star", "triangle"):
            assert sum(line.startswith(f"warning: {reader}: ") and f"'{name}'" in line for line in before) == 1
    assert [f"warning: {finding}" for finding in entered.warnings()] == before
    assert [f"warning: {found['sentence']}" for found in entered.section()] == before


def test_that_is_an_error_where_one_is_strict(watch, without_stars):
    with (
        pytest.raises(ODEvalError, match=r"are dropped: class '.* With strict=True that is an error"),
        watch(*without_stars, strict=True),
    ):
        pytest.fail("it began")


def test_data_without_losses_say_nothing(watch, capsys):
    with watch(strict=True) as entered:
        entered.report()
        entered.callback().on_train_batch_end(0)
    assert capsys.readouterr().err == ""
    assert entered.warnings() == []


def test_a_record_that_is_found_while_training_goes_on_ends_it(watch, shapes, tmp_path, monkeypatch):
    """The first records are read at once, here one; the damage is behind them, where the thread comes when it may."""
    begin, go_on, may_go_on = RecordScan.begin, RecordScan._go_on, threading.Event()
    monkeypatch.setattr(RecordScan, "begin", lambda scan: begin(scan, seconds=0))
    monkeypatch.setattr(RecordScan, "_go_on", lambda *args: may_go_on.wait(timeout=60) and go_on(*args))
    (whole,) = shapes.glob("train-*")
    (tmp_path / "train.record").write_bytes(whole.read_bytes()[:-9])
    with watch(f"train_input_reader.tf_record_input_reader.input_path={tmp_path}/train.record") as entered:
        callback = entered.callback()
        callback.on_train_batch_end(0)
        may_go_on.set()
        while entered._scan.is_running():
            pass
        with pytest.raises(ODEvalError, match=r"train.record' is truncated or corrupt at record 15; create the file"):
            callback.on_train_batch_end(0)
